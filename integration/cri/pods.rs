//! Lives of pods and containers: run, end, stop, restart.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::client::{EXITED, Pod, RUNNING, container, cri, with};
use crate::harness::{Result, audit, procfs, trials};
use crate::images::{LINUX, WASM};
use crate::server;

pub fn tests() -> Vec<Trial> {
    trials!["pods": linux_runs_and_logs, exit_codes, stop_kills_after_the_grace_period,
        containers_outlive_containerd, failed_create_names_the_program]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["pods": wasm_with_a_linux_sidecar, pod_annotation_reaches_only_wasm,
        one_shim_a_pod, stop_ends_wasm_at_once, wasm_ends_are_told, restart_after_a_crash,
        wasm_outlives_containerd, failed_creates_are_explained, killed_shim_is_cleaned_up]
}

fn linux_runs_and_logs() -> Result {
    let pod = Pod::run()?;
    let output = pod.output(&container(LINUX, &["sh", "-c", "echo out; echo err >&2"]))?;
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    pod.remove()
}

fn wasm_with_a_linux_sidecar() -> Result {
    let pod = Pod::run()?;
    let sidecar = pod.start(&container(LINUX, &["sh", "-c", "echo sidecar; exec sleep 600"]))?;
    for guest in ["/probe.wasm", "/component.wasm"] {
        let app = container(WASM, &[guest, "args", "a b"]);
        let output = pod.output(&app)?;
        assert_eq!(output.lines(), [format!("[{guest}]"), "[args]".into(), "[a b]".into()]);
        let output = pod.output(&container(WASM, &[guest, "stderr", "oops\n"]))?;
        assert_eq!((output.text().as_str(), output.stderr.as_str()), ("", "oops\n"));
        // It stays: containerd 1.6 drops what it has not read at a container's end, runc's too.
        let app = pod.start(&container(WASM, &[guest, "talk", "20000"]))?;
        assert_eq!(app.wait_for_log("ready\n")?.lines().len(), 20_001, "{guest}");
    }
    sidecar.wait_for_log("sidecar")?;
    sidecar.wait_for(RUNNING)?;
    pod.remove()
}

/// The annotation of the pod asks for wasm; the sidecar and pause are Linux all the same, and an
/// app that is named as wasm but is none is refused.
fn pod_annotation_reaches_only_wasm() -> Result {
    for (key, value) in [("module.wasm.image/variant", "compat"), ("run.oci.handler", "wasm")] {
        let pod = Pod::run_with(|config| config["annotations"] = json!({key: value}))?;
        let output = pod.output(&container(LINUX, &["echo", "linux"]))?;
        assert_eq!(output.text(), "linux\n");
        let output = pod.output(&container(WASM, &["/probe.wasm", "args"]))?;
        assert_eq!(output.text(), "[/probe.wasm]\n[args]\n");
        pod.remove()?;
    }
    let pod = Pod::run_with(|config| config["annotations"] = json!({"run.oci.handler": "nosuch"}))?;
    let app = pod.create(&container(WASM, &["/probe.wasm"]))?;
    app.cmd("start", &[], &[])?.run()?.refused("run.oci.handler=\"nosuch\"")?;
    pod.remove()
}

fn one_shim_a_pod() -> Result {
    let pod = Pod::run()?;
    let first = pod.start(&container(LINUX, &["sleep", "600"]))?;
    let second = pod.start(&container(WASM, &["/probe.wasm", "sleep"]))?;
    let parent = |pid: i32| procfs::stat(pid).map(|(_, parent)| parent);
    let shim = parent(first.pid()?).ok_or("the sidecar has no parent")?;
    assert_eq!(parent(second.pid()?), Some(shim));
    assert!(procfs::command_line(shim).contains("containerd-shim-wasm-v1"));
    pod.remove()?;
    assert!(!procfs::is_living(shim));
    Ok(())
}

fn exit_codes() -> Result {
    let pod = Pod::run()?;
    for code in [0, 1, 42, 255] {
        let ended = pod.output(&container(LINUX, &["sh", "-c", &format!("exit {code}")]))?;
        assert_eq!(ended.code, code);
    }
    pod.remove()
}

fn wasm_ends_are_told() -> Result {
    let pod = Pod::run()?;
    // A component of WASI 0.2 tells success or failure only.
    let ends = [("/probe.wasm", &[0, 1, 42, 255][..]), ("/component.wasm", &[0, 1])];
    for (guest, codes) in ends {
        for code in codes {
            let ended = pod.output(&container(WASM, &[guest, "exit", &code.to_string()]))?;
            assert_eq!(ended.code, *code, "{guest}");
        }
    }
    let trap = pod.output(&container(WASM, &["/trap.wasm"]))?;
    assert_eq!(trap.code, 134);
    assert!(trap.stderr.contains("unreachable"), "{trap:?}");
    pod.remove()
}

/// A minute of grace is not used up: wasm ends at SIGTERM, sleeping or spinning.
fn stop_ends_wasm_at_once() -> Result {
    let pod = Pod::run()?;
    for work in ["sleep", "spin"] {
        let app = pod.start(&container(WASM, &["/probe.wasm", work]))?;
        app.wait_for_log("ready")?;
        let before = Instant::now();
        app.stop(60)?;
        assert!(before.elapsed() < Duration::from_secs(20), "{work}: {:?}", before.elapsed());
        assert_eq!(app.exit_code()?, 143, "{work}");
    }
    pod.remove()
}

fn stop_kills_after_the_grace_period() -> Result {
    let pod = Pod::run()?;
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let app = pod.start(&container(LINUX, &["sh", "-c", script]))?;
    app.wait_for_log("ready")?;
    app.stop(1)?;
    assert_eq!(app.exit_code()?, 137);
    pod.remove()
}

/// What the kubelet does after a crash: another container of the same name, next attempt.
fn restart_after_a_crash() -> Result {
    let pod = Pod::run()?;
    let app = container(WASM, &["/probe.wasm", "sleep"]);
    let first = pod.start(&app)?;
    first.wait_for_log("ready")?;
    kill(Pid::from_raw(first.pid()?), Signal::SIGKILL)?;
    assert_eq!(first.exit_code()?, 137);
    let name = app["metadata"]["name"].clone();
    let again = with(app, "metadata", json!({"name": name, "attempt": 1}));
    let second = pod.start(&again)?;
    second.wait_for(RUNNING)?;
    first.cmd("rm", &[], &[])?.run()?.success()?;
    audit::nothing_left_of(&first.id)?;
    pod.remove()
}

fn containers_outlive_containerd() -> Result {
    outlive_containerd(
        &container(LINUX, &["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"]),
        7,
    )
}

fn wasm_outlives_containerd() -> Result {
    outlive_containerd(&container(WASM, &["/probe.wasm", "sleep"]), 143)
}

/// A container goes on while containerd is killed and started again; so do its logs and its
/// exit code.
fn outlive_containerd(app: &serde_json::Value, code: i32) -> Result {
    let pod = Pod::run_alone()?;
    let app = pod.start(app)?;
    let short = pod.start(&container(LINUX, &["sh", "-c", "sleep 2; echo late; exit 5"]))?;
    let pid = app.pid()?;
    server::restart(Signal::SIGKILL)?;
    assert!(procfs::is_living(pid));
    app.wait_for(RUNNING)?;
    assert_eq!(app.pid()?, pid);
    assert_eq!(short.exit_code()?, 5);
    short.wait_for_log("late")?;
    app.stop(30)?;
    assert_eq!(app.exit_code()?, code);
    pod.remove()
}

fn failed_create_names_the_program() -> Result {
    let pod = Pod::run()?;
    let app = pod.create(&container(LINUX, &["nosuch"]))?;
    let start = app.cmd("start", &[], &[])?.run()?;
    start.refused("exec: \"nosuch\": executable file not found in $PATH")?;
    assert_ne!(app.wait_for(EXITED)?["exit_code"].as_i64(), Some(0));
    pod.remove()
}

/// What `kubectl describe` shows is what CRI answers.
fn failed_creates_are_explained() -> Result {
    let pod = Pod::run()?;
    for (program, text) in [("/mystery.wasm", "mystery"), ("/nosuch.wasm", "/nosuch.wasm")] {
        let app = pod.create(&container(WASM, &[program]))?;
        let refused = app.cmd("start", &[], &[])?.run()?.refused(text)?;
        assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
        assert!(refused.stderr.contains(program), "{}", refused.stderr);
        app.cmd("rm", &[], &[])?.run()?.success()?;
        audit::nothing_left_of(&app.id)?;
    }
    pod.remove()
}

/// A shim that is killed takes its pod along; nothing of it stays.
fn killed_shim_is_cleaned_up() -> Result {
    let pod = Pod::run()?;
    let app = pod.start(&container(WASM, &["/probe.wasm", "sleep"]))?;
    let shim = procfs::stat(app.pid()?).ok_or("the app has ended")?.1;
    kill(Pid::from_raw(shim), Signal::SIGKILL)?;
    assert_ne!(app.exit_code()?, 0);
    cri(["start", &app.id])?.run()?.refused("")?;
    pod.remove()
}
