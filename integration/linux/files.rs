//! Root, mounts and devices.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::{Result, runtime, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["linux": readonly_root, writable_root, host_root_is_out_of_reach, tmpfs,
        bind_mounts, bind_mount_of_a_file, mount_options, mounts_are_private_to_the_container,
        propagation_of_the_root,
        default_devices, more_devices, default_mounts, dev_links]
}

fn readonly_root() -> Result {
    let output = Bundle::sh("touch /file")?.run()?.expect(1)?;
    assert!(output.stderr.contains("Read-only file system"), "{}", output.stderr);
    Ok(())
}

fn writable_root() -> Result {
    let container = Container::start_new(Bundle::sh("echo text >/file")?.writable())?;
    assert_eq!(container.wait()?, 0);
    assert_eq!(fs::read_to_string(container.bundle.rootfs().join("file"))?, "text\n");
    container.delete()
}

fn host_root_is_out_of_reach() -> Result {
    let output = Bundle::sh("cd /; cd ../../..; ls -1")?.run()?.success()?;
    assert_eq!(output.lines(), ["bin", "dev", "proc", "sys"]);
    Ok(())
}

fn tmpfs() -> Result {
    let options = ["nosuid", "nodev", "mode=1770", "size=1048576"];
    let script = "echo text >/scratch/file && cat /scratch/file; stat -c %a /scratch; \
        dd if=/dev/zero of=/scratch/big bs=1M count=3 2>/dev/null || echo full";
    let bundle = Bundle::sh(script)?.mount("tmpfs", "tmpfs", "/scratch", &options);
    assert_eq!(bundle.run()?.success()?.text(), "text\n1770\nfull\n");
    Ok(())
}

fn bind_mounts() -> Result {
    let shared = suite::new_dir("shared")?;
    fs::write(shared.join("in"), "from the host\n")?;
    let script = "cat /rw/in; echo back >/rw/out; echo back >/ro/out; echo $?";
    let bundle = Bundle::sh(script)?.bind(&shared, "/rw", "rw").bind(&shared, "/ro", "ro");
    let output = bundle.run()?.success()?;
    assert_eq!(output.text(), "from the host\n1\n");
    assert!(output.stderr.contains("Read-only file system"), "{}", output.stderr);
    assert_eq!(fs::read_to_string(shared.join("out"))?, "back\n");
    Ok(())
}

fn bind_mount_of_a_file() -> Result {
    let file = suite::new_dir("shared")?.join("file");
    fs::write(&file, "content\n")?;
    let bundle = Bundle::sh("cat /etc/deep/file; echo x >/etc/deep/file; echo $?")?;
    let bundle = bundle.bind(&file, "/etc/deep/file", "ro");
    assert_eq!(bundle.run()?.success()?.text(), "content\n1\n");
    Ok(())
}

/// Kubernetes' volumes with propagation make containerd ask for "rslave" or "rshared". runc sets it
/// before the root is a mount, so that it is only in effect on hosts whose root is shared.
fn propagation_of_the_root() -> Result {
    for name in ["private", "rprivate", "slave", "rslave", "shared", "rshared"] {
        let bundle = Bundle::linux(&["cat", "/proc/self/mountinfo"])?
            .edit(|config| config["linux"]["rootfsPropagation"] = json!(name));
        let text = bundle.run()?.success()?.text();
        let line = text.lines().find(|line| line.split(' ').nth(4) == Some("/"));
        let shared = line.ok_or("no mount at /")?.contains(" shared:");
        let as_named = shared == name.ends_with("shared");
        assert!(as_named || !runtime::is_ours(), "{name}: {text}");
    }
    Ok(())
}

fn mount_options() -> Result {
    let shared = suite::new_dir("shared")?;
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
    let bundle = Bundle::linux(&["cat", "/proc/self/mountinfo"])?;
    let bundle = bundle.mount("bind", &shared.to_string_lossy(), "/data", &options);
    let text = bundle.run()?.success()?.text();
    let line = text.lines().find(|line| line.contains(" /data ")).ok_or("no mount at /data")?;
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        let seen = line.split_whitespace().nth(5).unwrap_or_default();
        assert!(seen.split(',').any(|one| one == option), "{option}: {line}");
    }
    Ok(())
}

fn mounts_are_private_to_the_container() -> Result {
    let shared = suite::new_dir("shared")?;
    let bundle = Bundle::sh("echo ready; exec sleep 60")?.bind(&shared, "/data", "rw");
    let container = Container::start_new(bundle)?;
    container.wait_for("ready")?;
    let host = fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!host.contains(container.id()), "the host sees the container's mounts");
    let inside = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid()?))?;
    let points: Vec<_> = inside.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(points.iter().filter(|point| **point == "/").count(), 1, "{points:?}");
    container.finish()
}

fn default_devices() -> Result {
    let script = "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %F' /dev/$d; \
        done; head -c 4 /dev/zero | wc -c; echo x >/dev/null && echo null; \
        echo x 2>/dev/null >/dev/full || echo full; head -c 9 /dev/urandom | wc -c";
    let device = |name, number| format!("/dev/{name} {number} 666 character special file");
    let numbers = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ];
    let mut expected: Vec<String> = numbers.map(|(name, number)| device(name, number)).to_vec();
    expected.extend(["4", "null", "full", "9"].map(str::to_owned));
    assert_eq!(Bundle::sh(script)?.run()?.success()?.lines(), expected);
    Ok(())
}

fn more_devices() -> Result {
    let device = json!([{"path": "/dev/deep/mine", "type": "c", "major": 1, "minor": 3,
        "fileMode": 0o640, "uid": 0, "gid": 6}]);
    let bundle = Bundle::sh("stat -c '%t:%T %a %u %g' /dev/deep/mine; echo x >/dev/deep/mine")?;
    let bundle = bundle.edit(|config| config["linux"]["devices"] = device);
    assert_eq!(bundle.run()?.success()?.text(), "1:3 640 0 6\n");
    Ok(())
}

fn default_mounts() -> Result {
    let script = "stat -f -c '%n %T' /proc /dev /dev/pts /dev/shm /sys";
    let output = Bundle::sh("while read a b c d p o rest; do echo $p; done </proc/self/mountinfo");
    let points = output?.run()?.success()?.lines();
    for point in
        ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"]
    {
        assert!(points.iter().any(|seen| seen == point), "{point} is missing in {points:?}");
    }
    let kinds = Bundle::sh(script)?.run()?.success()?.lines();
    let expected = ["/proc proc", "/dev tmpfs", "/dev/pts devpts", "/dev/shm tmpfs", "/sys sysfs"];
    assert_eq!(kinds, expected);
    Ok(())
}

fn dev_links() -> Result {
    let script = "for name in fd stdin stdout stderr ptmx; do readlink /dev/$name; done";
    let output = Bundle::sh(script)?.run()?.success()?;
    let links = ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"];
    assert_eq!(output.lines()[..4], links);
    assert!(output.lines()[4].ends_with("pts/ptmx"));
    Ok(())
}
