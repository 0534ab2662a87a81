//! The rules that hold when the first wall, wasmtime, has fallen, and those that keep it up.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use crate::harness::bundle::{Bundle, install_busybox};
use crate::harness::command::{Cmd, Output};
use crate::harness::container::Container;
use crate::harness::containerd::Generation;
use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT};
use crate::harness::podman::Pod;
use crate::harness::task::Task;
use crate::harness::{Result, procfs, runtime, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["security": no_proc_and_no_sys_by_default, no_proc_and_no_sys_under_containerd,
        no_proc_and_no_sys_under_podman, kernel_bind_mounts_are_refused,
        recursive_bind_mount_brings_no_proc, host_devices_cannot_be_opened, descriptors,
        descriptors_of_a_careless_caller, descriptors_of_an_exec, user_has_no_capabilities,
        root_has_the_capabilities_given, seccomp_is_active, seccomp_is_active_in_an_exec, no_new_privileges_is_set,
        randomness_differs, binary_cannot_be_written, binary_is_no_copy,
        precompiled_code_is_refused, process_name_is_the_containers]
}

const PROBES: [Guest; 2] = [PROBE, PROBE_COMPONENT];

/// Files of the kernel that show, or write, what no guest may see.
const KERNEL_FILES: [&str; 9] = [
    "/proc/self/mem",
    "/proc/self/maps",
    "/proc/self/environ",
    "/proc/1/cmdline",
    "/proc/cpuinfo",
    "/proc/sys/kernel/core_pattern",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/class/net",
];

/// Arguments that make the probe try them, relative paths included.
fn attempts() -> Vec<String> {
    let relative = KERNEL_FILES.iter().map(|path| path.trim_start_matches('/').to_owned());
    let words = ["/probe.wasm", "open"].iter().chain(&KERNEL_FILES).map(|word| (*word).to_owned());
    words.chain(relative).collect()
}

fn all_refused(output: Output) -> Result {
    let lines = output.success()?.lines();
    // Each file is tried twice, by two names.
    assert_eq!(lines.len(), 4 * KERNEL_FILES.len(), "{lines:?}");
    for line in lines {
        assert!(line.contains(": error "), "{line}");
    }
    Ok(())
}

fn no_proc_and_no_sys_by_default() -> Result {
    let attempts = attempts();
    let args: Vec<&str> = attempts.iter().map(String::as_str).collect();
    for probe in PROBES {
        for cwd in ["/", "/app"] {
            let bundle = Bundle::wasm(&probe, &args)?.directory("/app")?.cwd(cwd);
            all_refused(bundle.run()?)?;
        }
    }
    Ok(())
}

fn no_proc_and_no_sys_under_containerd() -> Result {
    let attempts = attempts();
    let args: Vec<&str> = attempts.iter().map(String::as_str).collect();
    all_refused(Task::run(
        &Generation::V2.server()?,
        Bundle::wasm(&PROBE, &["/probe.wasm"])?,
        &[],
        &args,
    )?)
}

fn no_proc_and_no_sys_under_podman() -> Result {
    let attempts = attempts();
    let args: Vec<&str> = attempts.iter().map(String::as_str).collect();
    let pod = Pod::new()?;
    all_refused(pod.run(&[], &args)?.run()?)?;
    pod.remove()
}

fn kernel_bind_mounts_are_refused() -> Result {
    for source in ["/proc", "/proc/sys", "/proc/self", "/sys", "/sys/kernel", "/sys/fs/cgroup"] {
        let bundle = Bundle::wasm(&PROBE, &["/probe.wasm"])?.bind(Path::new(source), "/data", "ro");
        bundle.create_fails()?.refused("/data")?.refused("mount")?;
        // The same in a Linux container is the business of who wrote the bundle.
        let bundle = Bundle::linux(&["true"])?.bind(Path::new(source), "/data", "ro");
        bundle.run()?.success()?;
    }
    // A link to such a source is one too.
    let link = suite::new_dir("link")?.join("innocent");
    std::os::unix::fs::symlink("/proc", &link)?;
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm"])?.bind(&link, "/data", "ro");
    bundle.create_fails()?.refused("/data")?;
    Ok(())
}

fn recursive_bind_mount_brings_no_proc() -> Result {
    let args = ["/probe.wasm", "open", "/host/proc/self/mem", "/host/sys/kernel/notes"];
    let bundle = Bundle::wasm(&PROBE, &args)?.bind(Path::new("/"), "/host", "ro");
    let output = bundle.run()?;
    // Refusing the mount is as good as mounting it without what lies on /proc.
    if output.code == 0 {
        let lines = output.lines();
        assert!(lines.iter().all(|line| line.contains(": error ")), "{lines:?}");
    } else {
        output.refused("/host")?;
    }
    Ok(())
}

fn host_devices_cannot_be_opened() -> Result {
    let args = ["/probe.wasm", "open", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda"];
    let lines = Bundle::wasm(&PROBE, &args)?.run()?.success()?.lines();
    assert!(lines.iter().all(|line| line.contains(": error ")), "{lines:?}");
    Ok(())
}

/// A guest that runs and waits.
fn sleeping(bundle: Bundle) -> Result<Container> {
    let container = Container::start_new(bundle.args(&["/probe.wasm", "sleep"]))?;
    container.wait_for("ready")?;
    Ok(container)
}

/// Fails unless each descriptor of `pid` is standard input or output, an event loop's, or a
/// directory below the container's root. The event loop wakes itself through a pair of sockets,
/// which the guest's process made itself; one that it inherited was made by another.
fn check_descriptors(pid: i32) -> Result {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let inside: BTreeSet<&str> = mounts.lines().filter_map(|line| line.split(' ').next()).collect();
    for (number, target) in procfs::descriptors(pid)? {
        let name = target.to_string_lossy();
        let event_loop = ["anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[timerfd]"];
        if number <= 2 || event_loop.contains(&&*name) {
            continue;
        }
        if name.starts_with("socket:") && procfs::socket_maker(pid, number)? == pid {
            continue;
        }
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap_or_default();
        let file = format!("/proc/{pid}/fd/{number}");
        let is_directory = fs::metadata(&file).is_ok_and(|data| data.is_dir());
        if !is_directory || !inside.contains(mount.trim()) {
            return Err(format!("process {pid} holds {number} -> {name}").into());
        }
    }
    Ok(())
}

fn descriptors() -> Result {
    for probe in PROBES {
        let container = sleeping(Bundle::wasm(&probe, &["/probe.wasm"])?)?;
        check_descriptors(container.pid()?)?;
        container.finish()?;
    }
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm"])?.directory("/app")?.cwd("/app");
    let container = sleeping(bundle)?;
    check_descriptors(container.pid()?)?;
    container.finish()
}

fn descriptors_of_a_careless_caller() -> Result {
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?;
    let create = bundle.make("create", &[])?.after_shell("exec 5</etc/passwd 7</ 9<>/dev/null");
    let container = Container::create_by(bundle, create)?;
    container.start()?;
    container.wait_for("ready")?;
    let open = procfs::descriptors(container.pid()?)?;
    assert!(!open.values().any(|path| path == Path::new("/etc/passwd")), "{open:?}");
    check_descriptors(container.pid()?)?;
    container.finish()
}

fn descriptors_of_an_exec() -> Result {
    let container = sleeping(Bundle::wasm(&PROBE, &["/probe.wasm"])?)?;
    let file = suite::new_dir("pid")?.join("pid");
    let options = ["--detach", "--pid-file", &file.to_string_lossy()];
    let exec = container.exec_with(&options, &["/probe.wasm", "sleep"]);
    exec.after_shell("exec 5</etc/passwd 7</").run()?.success()?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    check_descriptors(fs::read_to_string(&file)?.parse()?)?;
    container.finish()
}

fn user_has_no_capabilities() -> Result {
    let container = sleeping(Bundle::wasm(&PROBE, &["/probe.wasm"])?.user(1000, 1000))?;
    let pid = container.pid()?;
    for field in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(procfs::status(pid, field)?, "0000000000000000", "{field}");
    }
    assert_eq!(procfs::status(pid, "Uid")?, "1000\t1000\t1000\t1000");
    assert_eq!(procfs::status(pid, "Gid")?, "1000\t1000\t1000\t1000");
    container.finish()
}

fn root_has_the_capabilities_given() -> Result {
    let kill = serde_json::json!(["CAP_KILL"]);
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm"])?.edit(|config| {
        config["process"]["capabilities"] =
            serde_json::json!({"bounding": kill, "permitted": kill, "effective": kill});
    });
    let container = sleeping(bundle)?;
    for field in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(procfs::status(container.pid()?, field)?, "0000000000000020", "{field}");
    }
    container.finish()
}

fn seccomp_is_active() -> Result {
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm"])?.forbid_calls(&["mkdir", "mkdirat"]);
        let container = sleeping(bundle)?;
        assert_eq!(procfs::status(container.pid()?, "Seccomp")?, "2", "{probe:?}");
        container.finish()?;
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "mkdir", "/made"])?.writable();
        let output = bundle.forbid_calls(&["mkdir", "mkdirat"]).run()?.success()?;
        assert_eq!(output.text(), "/made: error PermissionDenied\n", "{probe:?}");
    }
    Ok(())
}

fn seccomp_is_active_in_an_exec() -> Result {
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm"])?.writable();
    let container = sleeping(bundle.forbid_calls(&["mkdir", "mkdirat"]))?;
    let output = container.exec(&["/probe.wasm", "mkdir", "/made"]).run()?.success()?;
    assert_eq!(output.text(), "/made: error PermissionDenied\n");
    container.finish()
}

fn no_new_privileges_is_set() -> Result {
    let container = sleeping(Bundle::wasm(&PROBE, &["/probe.wasm"])?)?;
    assert_eq!(procfs::status(container.pid()?, "NoNewPrivs")?, "1");
    container.finish()
}

fn randomness_differs() -> Result {
    for probe in PROBES {
        let mut seen = BTreeSet::new();
        for _ in 0..5 {
            let bundle = Bundle::wasm(&probe, &["/probe.wasm", "random"])?;
            seen.insert(bundle.run()?.success()?.text());
        }
        assert_eq!(seen.len(), 5, "{probe:?}: {seen:?}");
    }
    Ok(())
}

fn digest() -> Result<String> {
    Ok(Cmd::new("sha256sum").arg(runtime::path()).run()?.success()?.text())
}

/// CVE-2019-5736: the binary behind /proc/PID/exe is the host's. While it runs, the kernel
/// answers ETXTBSY; a handle kept until afterwards must not open for writing either.
fn binary_cannot_be_written() -> Result {
    let before = digest()?;
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm"])?.env(&["PATH=/bin"]);
    install_busybox(&bundle.rootfs())?;
    let container = sleeping(bundle)?;
    let exe = PathBuf::from(format!("/proc/{}/exe", container.pid()?));
    assert!(OpenOptions::new().write(true).open(&exe).is_err());
    let kept = File::open(&exe)?;
    // From inside, where /proc is mounted by hand as an attacker with a shell might.
    let inside = "exec 3</proc/1/exe; for i in 1 2 3; do echo x >/proc/self/fd/3; done; \
        echo x >/proc/1/exe; echo x >/proc/self/exe";
    container.exec(&["sh", "-c", inside]).run()?;
    container.finish()?;
    let again = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", kept.as_raw_fd()));
    assert!(again.is_err(), "the binary can be written through a kept handle");
    assert_eq!(digest()?, before);
    Ok(())
}

fn binary_is_no_copy() -> Result {
    let own = fs::metadata(runtime::path())?;
    let containers = [
        sleeping(Bundle::wasm(&PROBE, &["/probe.wasm"])?)?,
        sleeping(Bundle::wasm(&PROBE, &["/probe.wasm"])?)?,
    ];
    for container in &containers {
        let exe = format!("/proc/{}/exe", container.pid()?);
        let name = fs::read_link(&exe)?;
        assert!(!name.to_string_lossy().contains("memfd:"), "{name:?}");
        assert_eq!(fs::metadata(&exe)?.ino(), own.ino(), "{name:?} is a copy");
    }
    containers.iter().try_for_each(Container::finish)
}

/// Machine code of an image is a stranger's: it is never loaded, whatever it is named.
fn precompiled_code_is_refused() -> Result {
    let mut elf = vec![0; 4096];
    elf[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 200]);
    for name in ["/app.wasm", "/app.cwasm", "/app"] {
        for annotation in ["run.oci.handler", "module.wasm.image/variant"] {
            let value = if annotation == "run.oci.handler" { "wasm" } else { "compat" };
            let bundle = Bundle::empty(&[name])?.file(name, &elf)?.annotation(annotation, value);
            let output = bundle.run()?;
            assert_ne!(output.code, 0, "{name} {annotation}");
        }
    }
    Ok(())
}

fn process_name_is_the_containers() -> Result {
    let container = sleeping(Bundle::wasm(&PROBE, &["/probe.wasm"])?)?;
    let pid = container.pid()?;
    assert_eq!(procfs::status(pid, "Name")?, "probe.wasm");
    let line = procfs::command_line(pid);
    assert!(line.contains("probe.wasm") && !line.contains("--bundle"), "{line}");
    assert!(!fs::read_to_string(format!("/proc/{pid}/environ"))?.contains("CARGO"));
    container.finish()
}
