//! Hooks: each kind at its time, with the container's state on standard input.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::{PATIENCE, Result, audit, eventually, procfs, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["linux": hooks_run_in_order, hooks_get_the_state, hook_environment_and_args,
        hook_that_fails_fails_create, start_container_hook_that_fails_fails_start,
        poststop_hook_that_fails_is_no_error, hook_timeout_fails_create,
        hooks_run_in_their_namespaces]
}

/// What the specification says and runc 1.1 does otherwise: it runs poststart hooks before
/// start, and no poststop hook after one that failed.
pub fn our_tests() -> Vec<Trial> {
    trials!["linux": poststart_hook_waits_for_start, poststop_hooks_run_after_one_that_fails]
}

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A bundle where each hook adds its name and its input to files in a shared directory,
/// which the container sees at the same path: startContainer runs inside.
fn recording(dir: &Path) -> Result<Bundle> {
    let path = dir.display();
    let mut bundle = Bundle::sleeper()?.bind(dir, &dir.to_string_lossy(), "rw");
    for kind in KINDS {
        let script = format!("cat >{path}/{kind}; echo {kind} >>{path}/order");
        bundle = bundle.hook(kind, &script);
    }
    Ok(bundle)
}

fn order(dir: &Path) -> Result<Vec<String>> {
    Ok(fs::read_to_string(dir.join("order"))?.lines().map(str::to_owned).collect())
}

fn hooks_run_in_order() -> Result {
    let dir = suite::new_dir("hooks")?;
    let container = Container::create(recording(&dir)?)?;
    assert_eq!(order(&dir)?[..3], KINDS[..3]);
    container.start()?;
    eventually("the poststart hook", PATIENCE, || Ok((order(&dir)?.len() >= 5).then_some(())))?;
    let mut seen = order(&dir)?;
    seen.sort();
    let mut expected = KINDS[..5].to_vec();
    expected.sort();
    assert_eq!(seen, expected);
    container.finish()?;
    assert_eq!(order(&dir)?.last().map(String::as_str), Some("poststop"));
    assert_eq!(order(&dir)?.len(), 6);
    Ok(())
}

fn hooks_get_the_state() -> Result {
    let dir = suite::new_dir("hooks")?;
    let bundle = recording(&dir)?.annotation("org.example.key", "value");
    let container = Container::create(bundle)?;
    let pid = container.pid()?;
    container.start()?;
    eventually("the poststart hook", PATIENCE, || Ok((order(&dir)?.len() >= 5).then_some(())))?;
    container.finish()?;
    // Of poststart: see poststart_hook_waits_for_start.
    let states = ["creating", "creating", "creating", "created", "", "stopped"];
    for (kind, status) in KINDS.into_iter().zip(states) {
        let state: Value = serde_json::from_slice(&fs::read(dir.join(kind))?)?;
        assert_eq!(state["id"], container.id(), "{kind}");
        assert_eq!(state["bundle"], json!(container.bundle.dir()), "{kind}");
        if kind != "poststart" {
            assert_eq!(state["status"], status, "{kind}");
        }
        assert_eq!(state["annotations"]["org.example.key"], "value", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        // Hooks that run inside may be told the number the container's namespace gives, and
        // after the end there is none.
        if ["prestart", "createRuntime", "poststart"].contains(&kind) {
            assert_eq!(state["pid"], pid, "{kind}");
        }
    }
    Ok(())
}

fn hook_environment_and_args() -> Result {
    let dir = suite::new_dir("hooks")?;
    let script = "echo $0 $1 \"$KEY\" >$OUT";
    let out = format!("OUT={}", dir.join("seen").display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script, "zero", "one"],
        "env": ["KEY=a b", out], "timeout": 30});
    Bundle::sh("exit 0")?.hook_value("createRuntime", hook).run()?.success()?;
    assert_eq!(fs::read_to_string(dir.join("seen"))?, "zero one a b\n");
    Ok(())
}

fn hook_that_fails_fails_create() -> Result {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let output = Bundle::sleeper()?.hook(kind, "echo reason >&2; exit 7").create_fails()?;
        output.refused("hook")?;
        let missing = json!({"path": "/no/such/hook"});
        Bundle::sleeper()?.hook_value(kind, missing).create_fails()?.refused("/no/such/hook")?;
    }
    Ok(())
}

fn start_container_hook_that_fails_fails_start() -> Result {
    let container = Container::create(Bundle::sh("echo ran")?.hook("startContainer", "exit 7"))?;
    // What start itself answers is not settled by the specification; the program must not run.
    container.cmd("start", &[]).run()?;
    eventually("the end of the container", PATIENCE, || {
        Ok((container.status()? == "stopped").then_some(()))
    })?;
    assert_ne!(container.wait()?, 0);
    assert_eq!(container.stdout()?, "");
    container.delete()
}

fn poststart_hook_waits_for_start() -> Result {
    let dir = suite::new_dir("hooks")?;
    let container = Container::create(recording(&dir)?)?;
    assert_eq!(order(&dir)?, KINDS[..3]);
    container.start()?;
    eventually("the poststart hook", PATIENCE, || Ok((order(&dir)?.len() >= 5).then_some(())))?;
    let state: Value = serde_json::from_slice(&fs::read(dir.join("poststart"))?)?;
    assert_eq!(state["status"], "running");
    container.finish()
}

fn poststop_hook_that_fails_is_no_error() -> Result {
    let container = Container::start_new(Bundle::sleeper()?.hook("poststop", "exit 7"))?;
    container.finish()
}

fn poststop_hooks_run_after_one_that_fails() -> Result {
    let dir = suite::new_dir("hooks")?;
    let second = format!("touch {}/second", dir.display());
    let bundle = Bundle::sleeper()?.hook("poststop", "exit 7").hook("poststop", &second);
    let container = Container::start_new(bundle)?;
    container.finish()?;
    assert!(dir.join("second").exists(), "the hook after the failed one did not run");
    Ok(())
}

fn hook_timeout_fails_create() -> Result {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let pid_file = suite::new_dir("hooks")?.join("pid");
        let script = format!("echo $$ >{}; exec sleep 77", pid_file.display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1});
        let began = Instant::now();
        Bundle::sleeper()?.hook_value(kind, hook).create_fails()?;
        assert!(began.elapsed() < Duration::from_secs(20), "{kind}: the timeout did not work");
        let text = fs::read_to_string(&pid_file)?;
        // A createContainer hook may be in the container's PID namespace.
        if kind != "createContainer" {
            let pid: i32 = text.trim().parse()?;
            assert!(!procfs::command_line(pid).contains("sleep 77"), "{kind}: the hook lives on");
        }
    }
    Ok(())
}

fn hooks_run_in_their_namespaces() -> Result {
    let dir = suite::new_dir("hooks")?;
    let path = dir.display();
    let script = |kind: &str| format!("readlink /proc/self/ns/uts >{path}/{kind}");
    let mut bundle = Bundle::sleeper()?.bind(&dir, &dir.to_string_lossy(), "rw");
    for kind in KINDS {
        bundle = bundle.hook(kind, &script(kind));
    }
    let container = Container::start_new(bundle)?;
    let inside = procfs::namespace(&container.pid()?.to_string(), "uts")?;
    container.finish()?;
    audit::nothing_left_of(container.id())?;
    let host = procfs::namespace("self", "uts")?;
    for kind in KINDS {
        let seen = fs::read_to_string(dir.join(kind))?;
        let is_inside = ["createContainer", "startContainer"].contains(&kind);
        assert_eq!(seen.trim(), if is_inside { &inside } else { &host }, "{kind}");
    }
    Ok(())
}
