//! Limits of resources, on cgroups of version 1 and 2.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::harness::bundle::Bundle;
use crate::harness::container::{Container, tidied};
use crate::harness::{PATIENCE, Result, audit, cgroup, eventually, runtime, trials};

pub fn tests() -> Vec<Trial> {
    trials!["linux": limits_are_written, memory_limit_kills, pids_limit_holds,
        cgroups_path_is_used, cgroup_is_removed_with_the_container, device_rules_hold,
        cgroups_are_mounted_as_the_spec_says, cgroups_in_a_joined_pid_namespace, systemd_manager]
}

fn limited(bundle: Bundle, resources: Value) -> Bundle {
    bundle.edit(|config| {
        for (key, value) in resources.as_object().into_iter().flatten() {
            config["linux"]["resources"][key] = value.clone();
        }
    })
}

fn limits_are_written() -> Result {
    let resources = json!({
        "memory": {"limit": 67_108_864, "reservation": 33_554_432},
        "pids": {"limit": 99},
        "cpu": {"shares": 512, "quota": 20_000, "period": 50_000, "cpus": "0"},
    });
    let container = Container::start_new(limited(Bundle::sleeper()?, resources))?;
    let pid = container.pid()?;
    let read = |v1: &str, v2: &str| cgroup::read(pid, v1, v2);
    assert_eq!(read("memory.limit_in_bytes", "memory.max")?, "67108864");
    assert_eq!(read("memory.soft_limit_in_bytes", "memory.low")?, "33554432");
    assert_eq!(read("pids.max", "pids.max")?, "99");
    assert_eq!(read("cpuset.cpus", "cpuset.cpus")?, "0");
    if cgroup::is_v2() {
        assert_eq!(read("cpu.max", "cpu.max")?, "20000 50000");
        // Shares became weights in one way, and since 2025 in another (runc 1.3.2).
        let weight = read("cpu.weight", "cpu.weight")?;
        assert!(["20", "59"].contains(&weight.as_str()), "{weight}");
    } else {
        assert_eq!(read("cpu.cfs_quota_us", "cpu.max")?, "20000");
        assert_eq!(read("cpu.cfs_period_us", "cpu.max")?, "50000");
        assert_eq!(read("cpu.shares", "cpu.weight")?, "512");
    }
    container.finish()
}

fn memory_limit_kills() -> Result {
    // tail keeps what has no newline, so it grows without end.
    let bundle = limited(
        Bundle::linux(&["tail", "/dev/zero"])?,
        json!({
            "memory": {"limit": 16_777_216, "swap": 16_777_216},
        }),
    );
    bundle.run()?.expect(137)?;
    Ok(())
}

/// Read-only here; a container's root that could write would lift its own limits, those of
/// devices first.
fn cgroups_are_mounted_as_the_spec_says() -> Result {
    let bundle = Bundle::sh(
        "grep ' - cgroup' /proc/self/mountinfo; find /sys/fs/cgroup -name devices.allow",
    )?;
    let lines = bundle.edit(mount_cgroups).run()?.success()?.lines();
    let (files, mounts): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.starts_with('/'));
    assert!(!mounts.is_empty());
    for mount in mounts {
        let options = mount.split(' ').nth(5).unwrap_or_default();
        assert!(options.split(',').any(|option| option == "ro"), "{mount}");
    }
    assert_eq!(files.len(), usize::from(!cgroup::is_v2()), "{files:?}");
    Ok(())
}

/// The container sees its own cgroup, whichever process of the host has the number that its
/// process has in a namespace that it shares.
fn cgroups_in_a_joined_pid_namespace() -> Result {
    let holder = Container::start_new(Bundle::sleeper()?)?;
    let namespace = format!("/proc/{}/ns/pid", holder.pid()?);
    for _ in 0..4 {
        let bundle = limited(
            Bundle::sh("cd /sys/fs/cgroup; cat pids/pids.max || cat pids.max")?.edit(mount_cgroups),
            json!({"pids": {"limit": 77}}),
        );
        let output = bundle.join_namespace("pid", &namespace).run()?.success()?;
        assert_eq!(output.text(), "77\n");
    }
    holder.finish()
}

/// As containerd's CRI does: read-only, and on version 1 without a cgroup namespace.
fn mount_cgroups(config: &mut Value) {
    let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": options}));
    }
    if let (false, Some(all)) = (cgroup::is_v2(), config["linux"]["namespaces"].as_array_mut()) {
        all.retain(|namespace| namespace["type"] != "cgroup");
    }
}

fn pids_limit_holds() -> Result {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 60 & done; echo all";
    let output = limited(Bundle::sh(script)?, json!({"pids": {"limit": 6}})).run()?;
    assert!(output.code != 0 || output.stderr.contains("fork"), "{output:?}");
    assert!(output.stderr.contains("fork"), "{output:?}");
    Ok(())
}

fn cgroups_path_is_used() -> Result {
    let bundle = Bundle::sleeper()?;
    let path = format!("/{}-parent/child", bundle.id);
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    let container = Container::start_new(bundle)?;
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid()?))?;
    let in_path = text.lines().filter(|line| line.ends_with(&path)).count();
    assert!(in_path > 0, "{path} is not in {text}");
    container.kill("KILL")?;
    container.wait()?;
    container.cmd("delete", &[]).run()?.success()?;
    // The parent is not the container's: it may stay. It is removed for the audit's sake.
    let named = cgroup::directories_named(&container.bundle.id);
    assert!(named.iter().all(|dir| !dir.ends_with("child")), "{named:?}");
    for dir in named {
        fs::remove_dir(dir)?;
    }
    Ok(())
}

fn cgroup_is_removed_with_the_container() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    assert!(!cgroup::directories_named(container.id()).is_empty(), "no cgroup bears the id");
    container.finish()?;
    eventually("the end of the cgroups", PATIENCE, || {
        Ok(cgroup::directories_named(container.id()).is_empty().then_some(()))
    })?;
    audit::nothing_left_of(container.id())
}

/// Without systemd there is nothing to ask, which must be said and leave nothing.
fn systemd_manager() -> Result {
    let bundle = Bundle::sleeper()?;
    bundle.write()?;
    let create = runtime::cmd().arg("--systemd-cgroup").arg("--root").arg(bundle.state_root());
    let create = create.args(["create", "--bundle"]).arg(bundle.dir()).arg(&bundle.id);
    if !Path::new("/run/systemd/system").exists() {
        let output = tidied(&bundle, create.run())?;
        output.refused("systemd")?;
        return Ok(());
    }
    let path = format!("system.slice:it:{}", bundle.id);
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    bundle.write()?;
    let container = Container::create_by(bundle, create)?;
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid()?))?;
    let scope = format!("/system.slice/it-{}.scope", container.id());
    assert!(text.contains(&scope), "{scope} is not in {text}");
    container.start()?;
    container.finish()
}

fn device_rules_hold() -> Result {
    // The host's first console: allowed, it would be there or not; denied, it is not permitted.
    let script = "mknod /scratch/console c 7 0; cat /scratch/console; echo $?; \
        mknod /scratch/null c 1 3 && echo x >/scratch/null && echo allowed";
    let bundle = Bundle::sh(script)?.mount("tmpfs", "tmpfs", "/scratch", &["mode=777"]);
    let bundle = bundle.edit(|config| {
        let mknod = ["CAP_MKNOD"];
        config["process"]["capabilities"] =
            json!({"bounding": mknod, "permitted": mknod, "effective": mknod});
    });
    let output = bundle.run()?.success()?;
    assert!(output.text().ends_with("1\nallowed\n"), "{output:?}");
    assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
    Ok(())
}
