//! Attempts to get around the rules, each of which worked once on some runtime.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::command::Cmd;
use crate::harness::container::Container;
use crate::harness::guests::{PROBE, source};
use crate::harness::{Result, procfs, suite, trials};

/// What holds for every runtime.
pub fn tests() -> Vec<Trial> {
    trials!["attacks": umask_is_not_the_callers, relative_bind_source_is_the_bundles,
        descriptors_for_another_process_stay_out]
}

/// What only ours promises.
pub fn our_tests() -> Vec<Trial> {
    trials!["attacks": exec_has_the_capabilities_of_create,
        cgroup_mount_with_bind_options_is_left_out, overlay_layer_on_sysfs_is_refused,
        later_mounts_of_the_host_stay_out, long_compile_errors_are_cut, text_component_runs,
        name_lookup_loads_nothing_from_the_image]
}

fn umask_is_not_the_callers() -> Result {
    let bundle = Bundle::sh("umask")?;
    let run = bundle.make("run", &[])?.after_shell("umask 0");
    assert_eq!(run.run()?.success()?.text(), "0022\n");
    Ok(())
}

/// The bundle may change after the container was created, and runc reads it again.
fn exec_has_the_capabilities_of_create() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    let before = procfs::status(container.pid()?, "CapEff")?;
    let file = container.bundle.dir().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    for set in ["bounding", "permitted", "effective"] {
        config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
    }
    fs::write(&file, config.to_string())?;
    let status = container.exec(&["cat", "/proc/self/status"]).run()?.success()?.text();
    assert_eq!(procfs::status_field(&status, "CapEff")?, before);
    container.finish()
}

fn relative_bind_source_is_the_bundles() -> Result {
    let bundle = Bundle::sh("cat /data/file")?.bind(Path::new("volume"), "/data", "ro");
    fs::create_dir(bundle.dir().join("volume"))?;
    fs::write(bundle.dir().join("volume/file"), "mine")?;
    let run = bundle.make("run", &[])?.current_dir("/");
    assert_eq!(run.run()?.success()?.text(), "mine");
    Ok(())
}

/// LISTEN_FDS counts for the process that LISTEN_PID names.
fn descriptors_for_another_process_stay_out() -> Result {
    let bundle = Bundle::sh("ls /proc/self/fd")?;
    let run = bundle.make("run", &[])?.env("LISTEN_PID", "1").env("LISTEN_FDS", "5");
    let output = run.after_shell("exec 5</etc/passwd 7</etc/passwd").run()?.success()?;
    assert!(output.lines().iter().all(|number| number.as_str() < "4"), "{output:?}");
    Ok(())
}

fn cgroup_mount_with_bind_options_is_left_out() -> Result {
    let volume = suite::new_dir("volume")?;
    let args = ["/probe.wasm", "open", "/d/memory", "/d/cgroup.procs", "/d/hugetlb/cgroup.procs"];
    let bundle = Bundle::wasm(&PROBE, &args)?;
    let bundle = bundle.mount("cgroup", &volume.to_string_lossy(), "/d", &["rbind", "ro"]);
    let lines = bundle.run()?.success()?.lines();
    assert!(lines.iter().all(|line| line.contains(": error ")), "{lines:?}");
    Ok(())
}

fn overlay_layer_on_sysfs_is_refused() -> Result {
    let volume = suite::new_dir("volume")?;
    let layers = format!("lowerdir=/sys:{}", volume.display());
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm"])?;
    bundle.mount("overlay", "overlay", "/d", &[&layers]).create_fails()?.refused("sysfs")?;
    Ok(())
}

/// A volume on a shared mount, as systemd makes them all.
struct Shared(std::path::PathBuf);

impl Shared {
    fn new() -> Result<Self> {
        let dir = suite::new_dir("shared")?;
        fs::create_dir(dir.join("sub"))?;
        Cmd::new("mount").arg("--bind").arg(&dir).arg(&dir).run()?.success()?;
        Cmd::new("mount").arg("--make-shared").arg(&dir).run()?.success()?;
        Ok(Self(dir))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nothing to report in a destructor: what survives, the audit finds.
        let _ = Cmd::new("umount").arg("--recursive").arg(&self.0).run();
    }
}

fn later_mounts_of_the_host_stay_out() -> Result {
    let shared = Shared::new()?;
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?;
    let container = Container::start_new(bundle.bind(&shared.0, "/data", "rslave"))?;
    container.wait_for("ready")?;
    Cmd::new("mount").args(["-t", "proc", "proc"]).arg(shared.0.join("sub")).run()?.success()?;
    let inside = format!("/proc/{}/root/data/sub", container.pid()?);
    assert_eq!(fs::read_dir(inside)?.count(), 0);
    container.finish()
}

/// The compiler quotes names, and a module may have very long ones.
fn long_compile_errors_are_cut() -> Result {
    let name = "x".repeat(99_000);
    let text =
        format!("(module (func (export \"{name}\")) (func $f) (export \"{name}\" (func $f)))");
    let error =
        Bundle::empty(&["/long.wat"])?.file("/long.wat", text.as_bytes())?.create_fails()?;
    assert!(error.stderr.len() < 4096, "{} bytes", error.stderr.len());
    error.refused("/long.wat")?;
    Ok(())
}

fn text_component_runs() -> Result {
    let text = fs::read(source("exit-component.wat"))?;
    Bundle::empty(&["/exit.wat"])?.file("/exit.wat", &text)?.run()?.expect(42)?;
    Ok(())
}

/// The user's home directory is looked up in the container, and glibc would load what the image's
/// nsswitch.conf names.
fn name_lookup_loads_nothing_from_the_image() -> Result {
    let libraries = Path::new("/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let module = suite::new_dir("nss")?.join("libnss_evil.so.2");
    let cc = Cmd::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&module);
    cc.arg(source("nss.c")).run()?.success()?;
    let at = |name: &str| libraries.join(name).to_string_lossy().into_owned();
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "args"])?.env(&["PATH=/bin"]);
    let bundle = bundle
        .file("/etc/nsswitch.conf", b"passwd: evil\ngroup: evil\nhosts: evil\n")?
        .file(&at("libnss_evil.so.2"), &fs::read(&module)?)?
        .file(&at("libc.so.6"), &fs::read(at("libc.so.6"))?)?;
    assert_eq!(bundle.run()?.success()?.stderr, "");
    Ok(())
}
