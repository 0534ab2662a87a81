//! Containers in the foreground and in the background.

use std::sync::Arc;

use libtest_mimic::Trial;

use super::probe;
use crate::harness::bundle::Bundle;
use crate::harness::containerd::{Generation, RUNTIME, Server, trials_on};
use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT};
use crate::harness::task::Task;
use crate::harness::{PATIENCE, Result, audit, eventually, procfs, suite};

pub fn tests(generation: Generation) -> Vec<Trial> {
    trials_on!(generation => run_of_wasm_and_linux, run_returns_exit_codes, run_passes_stdio,
        run_in_a_terminal, run_detached_and_kill, kill_of_a_linux_task,
        annotations_choose_the_workload, environment_is_exact, images_run, many_runs_leave_nothing)
}

fn run_of_wasm_and_linux(server: &Arc<Server>) -> Result {
    let args = ["/probe.wasm", "args", "a b"];
    for guest in [PROBE, PROBE_COMPONENT] {
        let bundle = Bundle::wasm(&guest, &["/probe.wasm"])?;
        let output = Task::run(server, bundle, &[], &args)?.success()?;
        assert_eq!(output.lines(), args.map(|arg| format!("[{arg}]")), "{guest:?}");
    }
    let flags = ["--env", "A=1"];
    let output =
        Task::run(server, Bundle::linux(&[])?, &flags, &["/bin/sh", "-c", "echo linux $A"])?;
    assert_eq!(output.success()?.text(), "linux 1\n");
    Ok(())
}

fn run_returns_exit_codes(server: &Arc<Server>) -> Result {
    for code in ["0", "1", "42", "126", "127", "128", "255"] {
        let number = code.parse()?;
        Task::run(server, probe()?, &[], &["/probe.wasm", "exit", code])?.expect(number)?;
        let script = format!("exit {code}");
        Task::run(server, Bundle::linux(&[])?, &[], &["/bin/sh", "-c", &script])?.expect(number)?;
    }
    Task::run(server, Bundle::wasm(&Guest::Wat("trap"), &["/t"])?, &[], &["/t"])?.expect(134)?;
    Ok(())
}

fn run_passes_stdio(server: &Arc<Server>) -> Result {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_001).collect();
    let bundle = probe()?;
    let run = Task::command(server, &bundle, &["--rm"], &["/probe.wasm", "echo"]);
    let output = run.input(bytes.clone()).run()?.success()?;
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    let output = Task::run(server, probe()?, &[], &["/probe.wasm", "stderr", "oops"])?.success()?;
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("", "oops"));
    let output =
        Task::run(server, probe()?, &[], &["/probe.wasm", "lines", "100000"])?.success()?;
    assert_eq!(output.lines().len(), 100_000);
    Ok(())
}

fn run_in_a_terminal(server: &Arc<Server>) -> Result {
    let bundle = probe()?;
    let args = ["/probe.wasm", "terminal"];
    let run = Task::command(server, &bundle, &["--rm", "--tty"], &args).in_terminal();
    let mut run = run.open_input().spawn()?;
    run.wait_for("terminal [true, true, true]")?;
    run.write(b"typed\n")?;
    run.wait_for("got:typed")?;
    run.wait()?.success()?;
    audit::nothing_left_of(&bundle.id)
}

fn run_detached_and_kill(server: &Arc<Server>) -> Result {
    let task = Task::start(server, probe()?, &[], &["/probe.wasm", "spin"])?;
    task.wait_for_status("RUNNING")?;
    assert!(procfs::is_living(task.pid()?));
    task.kill("SIGTERM")?;
    task.wait_for_status("STOPPED")?;
    assert_eq!(task.delete()?, 143);
    assert_eq!(task.listed()?, None);
    Ok(())
}

fn kill_of_a_linux_task(server: &Arc<Server>) -> Result {
    let task = Task::start(server, Bundle::linux(&[])?, &[], &["/bin/sleep", "600"])?;
    let pids = task.task("ps", &[]).run()?.success()?.text();
    assert!(pids.contains(&task.pid()?.to_string()), "{pids}");
    task.kill("SIGKILL")?;
    task.wait_for_status("STOPPED")?;
    assert_eq!(task.delete()?, 137);
    Ok(())
}

fn annotations_choose_the_workload(server: &Arc<Server>) -> Result {
    for annotation in ["run.oci.handler=wasm", "module.wasm.image/variant=compat"] {
        let flags = ["--annotation", annotation];
        let output = Task::run(server, probe()?, &flags, &["/probe.wasm"])?.success()?;
        assert_eq!(output.text(), "[/probe.wasm]\n", "{annotation}");
        let sidecar =
            Task::run(server, Bundle::linux(&[])?, &flags, &["/bin/echo", "linux"])?.success()?;
        assert_eq!(sidecar.text(), "linux\n", "{annotation}");
    }
    Ok(())
}

fn environment_is_exact(server: &Arc<Server>) -> Result {
    let flags = ["--env", "A=1"];
    let guest = Task::run(server, probe()?, &flags, &["/probe.wasm", "env"])?.success()?.lines();
    let linux = Task::run(server, Bundle::linux(&[])?, &flags, &["/bin/env"])?.success()?.lines();
    for mut lines in [guest, linux] {
        lines.retain(|line| !line.starts_with("PATH=") && !line.starts_with("HOME="));
        assert_eq!(lines, ["A=1"]);
    }
    Ok(())
}

fn images_run(server: &Arc<Server>) -> Result {
    for name in ["hello-rust", "hello-c", "hello-go"] {
        let image = server.import(name)?;
        let id = suite::unique_id();
        let run =
            server.ctr(["run", "--rm", "--runtime", RUNTIME, &image, &id]).run()?.success()?;
        assert!(run.text().to_lowercase().contains("hello"), "{name}: {}", run.text());
        audit::nothing_left_of(&id)?;
    }
    Ok(())
}

fn many_runs_leave_nothing(server: &Arc<Server>) -> Result {
    Task::run(server, probe()?, &[], &["/probe.wasm"])?.success()?;
    let before = procfs::descriptors(server.pid())?.len();
    for round in 0..20 {
        let bundle = if round % 2 == 0 { probe()? } else { Bundle::linux(&[])? };
        let args = if round % 2 == 0 { ["/probe.wasm", "args"] } else { ["/bin/echo", "text"] };
        Task::run(server, bundle, &[], &args)?.success()?;
    }
    eventually("containerd's descriptors to be as many as before", PATIENCE, || {
        // Other trials use the same server; a leak would be one a container at least.
        Ok((procfs::descriptors(server.pid())?.len() < before + 15).then_some(()))
    })
}
