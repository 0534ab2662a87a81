//! run: in the foreground it is the container, as far as anyone can tell.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::{Result, audit, suite, trials};

pub fn our_tests() -> Vec<Trial> {
    trials!["cli": run_from_a_deleted_directory]
}

pub fn tests() -> Vec<Trial> {
    trials!["cli": run_returns_exit_code_and_leaves_nothing, run_passes_stdio,
        run_writes_to_dev_null, run_of_200_fast_containers, run_forwards_signals, run_reports_death_by_signal,
        run_detach, run_keep, run_ends_when_the_container_does]
}

fn run_returns_exit_code_and_leaves_nothing() -> Result {
    for code in [0, 1, 42, 125, 126, 127, 128, 200, 255] {
        Bundle::sh(&format!("exit {code}"))?.run()?.expect(code)?;
    }
    Ok(())
}

fn run_passes_stdio() -> Result {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let output = Bundle::sh("cat; echo oops >&2")?.run_with_input(bytes.clone())?.success()?;
    assert!(output.stdout == bytes, "standard output differs from standard input");
    assert_eq!(output.stderr, "oops\n");
    Ok(())
}

/// As under an engine that keeps no log.
fn run_writes_to_dev_null() -> Result {
    for redirection in [">/dev/null", "2>/dev/null", ">/dev/null 2>&1"] {
        let bundle = Bundle::sh("echo out && echo error >&2 && exit 7")?;
        let run = bundle.make("run", &[])?.after_shell(&format!("exec {redirection}"));
        run.run()?.expect(7)?;
    }
    Ok(())
}

fn run_of_200_fast_containers() -> Result {
    let bundle = Bundle::linux(&["/bin/true"])?;
    for _ in 0..200 {
        bundle.make("run", &[])?.limit(Duration::from_secs(10)).run()?.success()?;
    }
    audit::is_empty(&bundle.state_root())?;
    audit::nothing_left_of(&bundle.id)
}

fn run_forwards_signals() -> Result {
    let signals = [(Signal::SIGTERM, 15), (Signal::SIGINT, 2), (Signal::SIGHUP, 1)];
    for (signal, number) in signals {
        let script = format!(
            "trap 'exit {}' {number}; echo ready; while :; do sleep 0.05; done",
            40 + number
        );
        let bundle = Bundle::sh(&script)?;
        let mut run = bundle.make("run", &[])?.spawn()?;
        run.wait_for("ready")?;
        run.signal(signal)?;
        run.wait()?.expect(40 + number)?;
        audit::nothing_left_of(&bundle.id)?;
    }
    Ok(())
}

fn run_reports_death_by_signal() -> Result {
    // The first process of a PID namespace is immune to its own signals.
    let bundle = Bundle::sh("kill -KILL $$")?.without_namespace("pid");
    bundle.run()?.expect(137)?;
    Ok(())
}

fn run_detach() -> Result {
    let bundle = Bundle::sleeper()?;
    let run = bundle.make("run", &["--detach"])?;
    let container = Container::create_by(bundle, run)?;
    assert_eq!(container.status()?, "running");
    container.finish()
}

fn run_keep() -> Result {
    let bundle = Bundle::sh("exit 3")?;
    bundle.make("run", &["--keep"])?.run()?.expect(3)?;
    let state = bundle.runtime("state").arg(&bundle.id).run()?.success()?;
    assert!(state.text().contains("\"stopped\""), "{state:?}");
    bundle.runtime("delete").arg(&bundle.id).run()?.success()?;
    audit::nothing_left_of(&bundle.id)
}

fn run_ends_when_the_container_does() -> Result {
    // The child keeps standard output open; the PID namespace ends with its first process.
    let began = Instant::now();
    Bundle::sh("sleep 30 & echo done")?.run()?.success()?;
    assert!(began.elapsed() < Duration::from_secs(20), "run waited for a background process");
    Ok(())
}

fn run_from_a_deleted_directory() -> Result {
    let dir = suite::new_dir("deleted")?;
    let bundle = Bundle::sh("echo here")?;
    let run = bundle.make("run", &[])?;
    let run = run.after_shell(&format!("cd {0} && rmdir {0}", dir.display()));
    assert_eq!(run.run()?.success()?.text(), "here\n");
    Ok(())
}
