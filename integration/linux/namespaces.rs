//! Namespaces: new ones, those of others, and what is set in them.

use std::os::unix::fs::chown;

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::command::{Cmd, Running};
use crate::harness::container::Container;
use crate::harness::{PATIENCE, Result, eventually, procfs, trials};

pub fn tests() -> Vec<Trial> {
    trials!["linux": namespaces_are_new, namespaces_not_listed_are_the_hosts,
        namespaces_by_path, pid_namespace_by_path, first_process_has_pid_1, hostname, sysctl,
        user_namespace, network_is_empty_but_for_loopback]
}

fn namespaces_are_new() -> Result {
    // Not every default configuration has a cgroup namespace.
    let bundle = Bundle::sleeper()?.without_namespace("cgroup").add_namespace("cgroup");
    let container = Container::start_new(bundle)?;
    let pid = container.pid()?.to_string();
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(procfs::namespace(&pid, kind)?, procfs::namespace("self", kind)?, "{kind}");
    }
    container.finish()
}

fn namespaces_not_listed_are_the_hosts() -> Result {
    let bundle = Bundle::sleeper()?.without_namespace("network").without_namespace("ipc");
    let container = Container::start_new(bundle)?;
    let pid = container.pid()?.to_string();
    for kind in ["net", "ipc", "user"] {
        assert_eq!(procfs::namespace(&pid, kind)?, procfs::namespace("self", kind)?, "{kind}");
    }
    container.finish()
}

/// A process in namespaces of its own that others can join, and its id.
fn holder() -> Result<(Running, i32)> {
    let options = ["--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "sleep", "600"];
    let unshare = Cmd::new("unshare").args(options).spawn()?;
    let outer = unshare.pid();
    let inner = eventually("the child of unshare", PATIENCE, || {
        let all = procfs::living()?;
        let child = |pid: &i32| procfs::stat(*pid).is_some_and(|(_, parent)| parent == outer);
        let ready = |pid: &i32| procfs::command_line(*pid).starts_with("sleep");
        Ok(all.into_iter().find(|pid| child(pid) && ready(pid)))
    })?;
    Ok((unshare, inner))
}

fn namespaces_by_path() -> Result {
    let (_unshare, holder) = holder()?;
    let mut bundle = Bundle::sleeper()?.edit(|config| config["hostname"] = json!(null));
    for (kind, file) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
        bundle = bundle.join_namespace(kind, &format!("/proc/{holder}/ns/{file}"));
    }
    let container = Container::start_new(bundle)?;
    let pid = container.pid()?.to_string();
    for kind in ["net", "uts", "ipc"] {
        let held = procfs::namespace(&holder.to_string(), kind)?;
        assert_eq!(procfs::namespace(&pid, kind)?, held, "{kind}");
    }
    container.finish()
}

fn pid_namespace_by_path() -> Result {
    let (_unshare, holder) = holder()?;
    let bundle = Bundle::sh("echo $$; exec sleep 600")?;
    let bundle = bundle.join_namespace("pid", &format!("/proc/{holder}/ns/pid"));
    let container = Container::start_new(bundle)?;
    container.wait_for("\n")?;
    let number: i32 = container.stdout()?.trim().parse()?;
    assert!(number > 1, "the first process of a joined namespace has another's number");
    let held = procfs::namespace(&holder.to_string(), "pid")?;
    assert_eq!(procfs::namespace(&container.pid()?.to_string(), "pid")?, held);
    container.finish()
}

fn first_process_has_pid_1() -> Result {
    let output = Bundle::sh("echo $$; ls -d /proc/[0-9]*")?.run()?.success()?;
    assert_eq!(output.lines()[..2], ["1", "/proc/1"]);
    assert!(output.lines().len() <= 3, "processes of the host are visible: {output:?}");
    Ok(())
}

fn hostname() -> Result {
    let bundle = Bundle::sh("hostname; cat /proc/sys/kernel/hostname")?;
    let bundle = bundle.edit(|config| config["hostname"] = json!("some-name"));
    assert_eq!(bundle.run()?.success()?.text(), "some-name\nsome-name\n");
    Ok(())
}

fn sysctl() -> Result {
    let settings = json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"});
    let files = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced";
    let bundle = Bundle::sh(files)?.edit(|config| config["linux"]["sysctl"] = settings);
    assert_eq!(bundle.run()?.success()?.text(), "1\n1\n");
    Ok(())
}

fn user_namespace() -> Result {
    let mappings = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let bundle = Bundle::sh("id -u; cat /proc/self/uid_map; echo ready; sleep 600")?;
    // The container's root makes the mount points.
    chown(bundle.rootfs(), Some(100_000), Some(100_000))?;
    let bundle = bundle.add_namespace("user").edit(|config| {
        config["linux"]["uidMappings"] = mappings.clone();
        config["linux"]["gidMappings"] = mappings;
    });
    let container = Container::start_new(bundle)?;
    container.wait_for("ready")?;
    let words: Vec<String> = container.stdout()?.split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "ready"]);
    let uids = procfs::status(container.pid()?, "Uid")?;
    assert_eq!(uids, "100000\t100000\t100000\t100000");
    container.finish()
}

fn network_is_empty_but_for_loopback() -> Result {
    let output = Bundle::sh("ls /sys/class/net; ip -o -4 addr show lo")?.run()?.success()?;
    let lines = output.lines();
    assert!(lines.iter().any(|line| line == "lo"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("eth")), "{lines:?}");
    assert!(output.text().contains("127.0.0.1"), "loopback is down: {lines:?}");
    Ok(())
}
