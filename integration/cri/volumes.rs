//! Volumes as the kubelet lays them out, environment, working directory, users.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::client::{Pod, container, with};
use crate::harness::{Result, trials};
use crate::images::{LINUX, WASM};

pub fn tests() -> Vec<Trial> {
    trials!["volumes": linux_users]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["volumes": config_map, single_file, secret, empty_dir_is_shared, read_only_mount,
        environment, working_directory, wasm_users, read_only_root]
}

fn mount(host: &Path, target: &str, readonly: bool) -> Value {
    json!({"host_path": host, "container_path": target, "readonly": readonly})
}

/// A configmap or secret: files are links through `..data`, which is replaced as one.
fn config_map_at(pod: &Pod, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let dir = pod.dir().join(name);
    let data = dir.join("..2026_01_01_00_00_00.1");
    fs::create_dir_all(&data)?;
    symlink("..2026_01_01_00_00_00.1", dir.join("..data"))?;
    for (file, text) in files {
        fs::write(data.join(file), text)?;
        symlink(format!("..data/{file}"), dir.join(file))?;
    }
    Ok(dir)
}

fn config_map() -> Result {
    let pod = Pod::run()?;
    let dir = config_map_at(&pod, "config", &[("a.conf", "first"), ("b.conf", "second")])?;
    for guest in ["/probe.wasm", "/component.wasm"] {
        let app = container(WASM, &[guest, "cat", "/etc/app/a.conf", "/etc/app/b.conf"]);
        let app = with(app, "mounts", json!([mount(&dir, "/etc/app", true)]));
        let lines = pod.output(&app)?.lines();
        let wanted = ["/etc/app/a.conf: \"first\"", "/etc/app/b.conf: \"second\""];
        assert_eq!(lines, wanted, "{guest}");
    }
    pod.remove()
}

/// `subPath` mounts one file.
fn single_file() -> Result {
    let pod = Pod::run()?;
    let file = pod.dir().join("one.conf");
    fs::write(&file, "alone")?;
    for guest in ["/probe.wasm", "/component.wasm"] {
        let app = container(WASM, &[guest, "cat", "/etc/app/one.conf", "/etc/passwd"]);
        let app = with(app, "mounts", json!([mount(&file, "/etc/app/one.conf", true)]));
        let lines = pod.output(&app)?.lines();
        assert_eq!(lines[0], "/etc/app/one.conf: \"alone\"", "{guest}");
        assert!(lines[1].contains("app:x:1000"), "{guest}: the image's own files: {lines:?}");
    }
    pod.remove()
}

/// A secret is readable for its group only: for the app's user by a supplemental group.
fn secret() -> Result {
    let pod = Pod::run()?;
    let dir = config_map_at(&pod, "secret", &[("token", "hidden")])?;
    let file = fs::canonicalize(dir.join("token"))?;
    chown(&file, Some(0), Some(4321))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o440))?;
    for (groups, wanted) in [(json!([4321]), "\"hidden\""), (json!([]), "error PermissionDenied")] {
        let app = container(WASM, &["/probe.wasm", "cat", "/secret/token"]);
        let app = with(app, "mounts", json!([mount(&dir, "/secret", true)]));
        let context = json!({"run_as_user": {"value": 1000}, "supplemental_groups": groups});
        let output = pod.output(&with(app, "linux", json!({"security_context": context})))?;
        assert_eq!(output.text(), format!("/secret/token: {wanted}\n"));
    }
    pod.remove()
}

fn empty_dir_is_shared() -> Result {
    let pod = Pod::run()?;
    let dir = pod.dir().join("empty");
    fs::create_dir(&dir)?;
    let shared = json!([mount(&dir, "/shared", false)]);
    let script = "echo from linux >/shared/linux; \
        until [ -e /shared/wasm ]; do sleep 0.05; done; cat /shared/wasm";
    let sidecar = container(LINUX, &["sh", "-c", script]);
    let sidecar = pod.start(&with(sidecar, "mounts", shared.clone()))?;
    let app = container(WASM, &["/probe.wasm", "write", "/shared/wasm"]);
    let app = with(app, "mounts", shared.clone());
    assert_eq!(pod.output(&app)?.text(), "/shared/wasm: \"written\"\n");
    assert_eq!(sidecar.exit_code()?, 0);
    assert_eq!(sidecar.logs()?.text(), "written");
    let app = container(WASM, &["/component.wasm", "cat", "/shared/linux"]);
    let output = pod.output(&with(app, "mounts", shared))?;
    assert_eq!(output.text(), "/shared/linux: \"from linux\\n\"\n");
    pod.remove()
}

fn read_only_mount() -> Result {
    let pod = Pod::run()?;
    let dir = pod.dir().join("fixed");
    fs::create_dir(&dir)?;
    for guest in ["/probe.wasm", "/component.wasm"] {
        let app = container(WASM, &[guest, "write", "/fixed/file", "/data/file"]);
        let app = with(app, "mounts", json!([mount(&dir, "/fixed", true)]));
        let lines = pod.output(&app)?.lines();
        assert!(lines[0].starts_with("/fixed/file: error"), "{guest}: {lines:?}");
        assert_eq!(lines[1], "/data/file: \"written\"", "{guest}");
        assert!(!dir.join("file").exists());
    }
    pod.remove()
}

/// Only what the pod says, and the host name, which CRI adds to every container's environment.
fn environment() -> Result {
    let pod = Pod::run_with(|config| config["hostname"] = json!("podname"))?;
    let app = container(WASM, &["/probe.wasm", "env"]);
    let envs = json!([{"key": "GREETING", "value": "a b=c"}, {"key": "EMPTY"}]);
    let mut lines = pod.output(&with(app, "envs", envs))?.lines();
    lines.retain(|line| !line.starts_with("PATH="));
    lines.sort();
    assert_eq!(lines, ["EMPTY=", "GREETING=a b=c", "HOSTNAME=podname"]);
    pod.remove()
}

fn working_directory() -> Result {
    let pod = Pod::run()?;
    for guest in ["/probe.wasm", "/component.wasm"] {
        let app = container(WASM, &[guest, "write", "here", "/data/there"]);
        let app = with(app, "working_dir", json!("/app"));
        let lines = pod.output(&app)?.lines();
        assert_eq!(lines, ["here: \"written\"", "/data/there: \"written\""], "{guest}");
    }
    pod.remove()
}

fn linux_users() -> Result {
    let pod = Pod::run()?;
    let context = json!({
        "run_as_user": {"value": 1000}, "run_as_group": {"value": 2000},
        "supplemental_groups": [3000, 4000],
    });
    let app = container(LINUX, &["sh", "-c", "id -u; id -g; id -G"]);
    let lines = pod.output(&with(app, "linux", json!({"security_context": context})))?.lines();
    assert_eq!(lines[..2], ["1000", "2000"]);
    assert!(lines[2].contains("3000 4000"), "{lines:?}");
    pod.remove()
}

/// The host sees the process of the guest with the user and groups of the pod.
fn wasm_users() -> Result {
    let pod = Pod::run()?;
    let context = json!({
        "run_as_user": {"value": 1000}, "run_as_group": {"value": 2000},
        "supplemental_groups": [3000, 4000],
    });
    let app = container(WASM, &["/probe.wasm", "sleep"]);
    let app = pod.start(&with(app, "linux", json!({"security_context": context})))?;
    app.wait_for_log("ready")?;
    let status = fs::read_to_string(format!("/proc/{}/status", app.pid()?))?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), ["1000"; 4]);
    assert_eq!(field("Gid:"), ["2000"; 4]);
    for group in ["3000", "4000"] {
        assert!(field("Groups:").iter().any(|have| have == group), "{:?}", field("Groups:"));
    }
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    pod.remove()
}

fn read_only_root() -> Result {
    let pod = Pod::run()?;
    let dir = pod.dir().join("empty");
    fs::create_dir(&dir)?;
    for guest in ["/probe.wasm", "/component.wasm"] {
        let app = container(WASM, &[guest, "write", "/app/file", "/data/file"]);
        let app = with(app, "mounts", json!([mount(&dir, "/data", false)]));
        let app = with(app, "linux", json!({"security_context": {"readonly_rootfs": true}}));
        let lines = pod.output(&app)?.lines();
        assert!(lines[0].starts_with("/app/file: error"), "{guest}: {lines:?}");
        assert_eq!(lines[1], "/data/file: \"written\"", "{guest}");
    }
    pod.remove()
}
