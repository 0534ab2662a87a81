//! The shim, under a real containerd and `ctr`.

use std::path::PathBuf;

use libtest_mimic::Trial;

use crate::harness::bundle::{Bundle, install_busybox};
use crate::harness::command::Cmd;
use crate::harness::containerd::{RUNTIME, Task, ctr, pid};
use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT};
use crate::harness::{PATIENCE, Result, audit, eventually, procfs, runtime, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["containerd": shim_tells_version_and_info, run_of_wasm_and_linux,
        run_returns_exit_codes, run_passes_stdio, run_in_a_terminal, run_detached_and_kill,
        kill_of_a_linux_task, exec, exec_returns_exit_codes, events, failed_create_is_explained,
        failed_create_leaves_nothing, annotations_choose_the_workload, environment_is_exact, images_run,
        many_runs_leave_nothing]
}

fn probe() -> Result<Bundle> {
    Bundle::wasm(&PROBE, &["/probe.wasm"])
}

fn shim_tells_version_and_info() -> Result {
    let shim = runtime::shim_dir()?.join("containerd-shim-wasm-v1");
    let output = Cmd::new(&shim).arg("-v").run()?.success()?;
    assert!(output.text().contains("containerd-shim-wasm-v1"), "{output:?}");
    let output = Cmd::new(&shim).arg("-info").run()?.success()?;
    assert!(String::from_utf8_lossy(&output.stdout).contains(RUNTIME), "{output:?}");
    Ok(())
}

fn run_of_wasm_and_linux() -> Result {
    let args = ["/probe.wasm", "args", "a b"];
    for guest in [PROBE, PROBE_COMPONENT] {
        let bundle = Bundle::wasm(&guest, &["/probe.wasm"])?;
        let output = Task::run(bundle, &[], &args)?.success()?;
        assert_eq!(output.lines(), args.map(|arg| format!("[{arg}]")), "{guest:?}");
    }
    let flags = ["--env", "A=1"];
    let output = Task::run(Bundle::linux(&[])?, &flags, &["/bin/sh", "-c", "echo linux $A"])?;
    assert_eq!(output.success()?.text(), "linux 1\n");
    Ok(())
}

fn run_returns_exit_codes() -> Result {
    for code in ["0", "1", "42", "126", "127", "128", "255"] {
        let number = code.parse()?;
        Task::run(probe()?, &[], &["/probe.wasm", "exit", code])?.expect(number)?;
        let script = format!("exit {code}");
        Task::run(Bundle::linux(&[])?, &[], &["/bin/sh", "-c", &script])?.expect(number)?;
    }
    Task::run(Bundle::wasm(&Guest::Wat("trap"), &["/t"])?, &[], &["/t"])?.expect(134)?;
    Ok(())
}

fn run_passes_stdio() -> Result {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_001).collect();
    let bundle = probe()?;
    let run = Task::command(&bundle, &["--rm"], &["/probe.wasm", "echo"])?;
    let output = run.input(bytes.clone()).run()?.success()?;
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    let output = Task::run(probe()?, &[], &["/probe.wasm", "stderr", "oops"])?.success()?;
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("", "oops"));
    let output = Task::run(probe()?, &[], &["/probe.wasm", "lines", "100000"])?.success()?;
    assert_eq!(output.lines().len(), 100_000);
    Ok(())
}

fn run_in_a_terminal() -> Result {
    let bundle = probe()?;
    let args = ["/probe.wasm", "terminal"];
    let run = Task::command(&bundle, &["--rm", "--tty"], &args)?.in_terminal();
    let mut run = run.open_input().spawn()?;
    run.wait_for("terminal [true, true, true]")?;
    run.write(b"typed\n")?;
    run.wait_for("got:typed")?;
    run.wait()?.success()?;
    audit::nothing_left_of(&bundle.id)
}

fn run_detached_and_kill() -> Result {
    let task = Task::start(probe()?, &[], &["/probe.wasm", "spin"])?;
    task.wait_for_status("RUNNING")?;
    assert!(procfs::is_living(task.pid()?));
    task.task("kill", &["--signal", "SIGTERM"])?.run()?.success()?;
    task.wait_for_status("STOPPED")?;
    assert_eq!(task.delete()?, 143);
    assert_eq!(task.listed()?, None);
    Ok(())
}

fn kill_of_a_linux_task() -> Result {
    let task = Task::start(Bundle::linux(&[])?, &[], &["/bin/sleep", "600"])?;
    let pids = task.task("ps", &[])?.run()?.success()?.text();
    assert!(pids.contains(&task.pid()?.to_string()), "{pids}");
    task.task("kill", &["--signal", "SIGKILL"])?.run()?.success()?;
    task.wait_for_status("STOPPED")?;
    assert_eq!(task.delete()?, 137);
    Ok(())
}

fn exec() -> Result {
    let bundle = probe()?;
    install_busybox(&bundle.rootfs())?;
    let task = Task::start(bundle, &[], &["/probe.wasm", "sleep"])?;
    let exec = |id: &str, args: &[&str]| -> Result<Cmd> {
        Ok(task.task("exec", &["--exec-id", id])?.args(args))
    };
    let output = exec("guest", &["/probe.wasm", "echo"])?.input("text").run()?.success()?;
    assert_eq!(output.text(), "text");
    let output = exec("linux", &["/bin/sh", "-c", "echo linux >&2"])?.run()?.success()?;
    assert_eq!(output.stderr, "linux\n");
    exec("missing", &["/nosuch"])?.run()?.refused("nosuch")?;
    task.task("kill", &["--signal", "SIGKILL"])?.run()?.success()?;
    task.wait_for_status("STOPPED")?;
    task.delete()?;
    Ok(())
}

fn exec_returns_exit_codes() -> Result {
    let task = Task::start(probe()?, &[], &["/probe.wasm", "sleep"])?;
    for code in ["0", "1", "42", "127", "255"] {
        let exec = task.task("exec", &["--exec-id", &format!("e{code}")])?;
        exec.args(["/probe.wasm", "exit", code]).run()?.expect(code.parse()?)?;
    }
    Ok(())
}

fn events() -> Result {
    let mut events = ctr(["events"])?.spawn()?;
    // The subscription has no sign of its own: another container's events are one.
    eventually("an event", PATIENCE, || {
        Task::run(probe()?, &[], &["/probe.wasm"])?.success()?;
        Ok(events.stdout()?.contains("/tasks/exit").then_some(()))
    })?;
    let bundle = probe()?;
    let id = bundle.id.clone();
    Task::run(bundle, &[], &["/probe.wasm", "exit", "7"])?.expect(7)?;
    for topic in ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"] {
        eventually(&format!("{topic} of {id}"), PATIENCE, || {
            let is_it = |line: &str| line.contains(topic) && line.contains(&id);
            Ok(events.stdout()?.lines().any(is_it).then_some(()))
        })?;
    }
    let text = events.stdout()?;
    let exit = text.lines().find(|line| line.contains("/tasks/exit") && line.contains(&id));
    assert!(exit.is_some_and(|line| line.contains("\"exit_status\":7")), "{exit:?}");
    assert!(events.is_alive()?);
    Ok(())
}

fn failed_create_is_explained() -> Result {
    let mystery = Bundle::wasm(&Guest::Wat("mystery"), &["/mystery.wasm"])?;
    let output = Task::run(mystery, &[], &["/mystery.wasm"])?.refused("/mystery.wasm")?;
    output.refused("mystery")?;
    let output = Task::run(Bundle::linux(&[])?, &[], &["nosuch"])?;
    output.refused("exec: \"nosuch\": executable file not found in $PATH")?;
    let flags = ["--annotation", "run.oci.handler=wasmedge"];
    Task::run(probe()?, &flags, &["/probe.wasm"])?.refused("wasmedge")?;
    Ok(())
}

fn failed_create_leaves_nothing() -> Result {
    for _ in 0..5 {
        let task = Task { bundle: Bundle::linux(&[])? };
        let id = task.id().to_owned();
        Task::command(&task.bundle, &[], &["nosuch"])?.run()?.refused("nosuch")?;
        assert_eq!(task.listed()?, None);
        drop(task);
        audit::nothing_left_of(&id)?;
    }
    Ok(())
}

fn annotations_choose_the_workload() -> Result {
    for annotation in ["run.oci.handler=wasm", "module.wasm.image/variant=compat"] {
        let flags = ["--annotation", annotation];
        let output = Task::run(probe()?, &flags, &["/probe.wasm"])?.success()?;
        assert_eq!(output.text(), "[/probe.wasm]\n", "{annotation}");
        let sidecar = Task::run(Bundle::linux(&[])?, &flags, &["/bin/echo", "linux"])?.success()?;
        assert_eq!(sidecar.text(), "linux\n", "{annotation}");
    }
    Ok(())
}

fn environment_is_exact() -> Result {
    let flags = ["--env", "A=1"];
    let guest = Task::run(probe()?, &flags, &["/probe.wasm", "env"])?.success()?.lines();
    let linux = Task::run(Bundle::linux(&[])?, &flags, &["/bin/env"])?.success()?.lines();
    for mut lines in [guest, linux] {
        lines.retain(|line| !line.starts_with("PATH=") && !line.starts_with("HOME="));
        assert_eq!(lines, ["A=1"]);
    }
    Ok(())
}

/// The images `make images` builds, each with a word its output contains.
fn images_run() -> Result {
    for name in ["hello-rust", "hello-c", "hello-go"] {
        let tar = image_file(name)?;
        let imported = ctr(["image", "import", "--all-platforms"])?.arg(&tar).run()?.success()?;
        let text = imported.text() + &imported.stderr;
        let line = text.lines().find_map(|line| line.strip_prefix("unpacking "));
        let image = line.and_then(|line| line.split_whitespace().next());
        let image = image.ok_or_else(|| format!("no image in {text:?}"))?;
        let id = suite::unique_id();
        let run = ctr(["run", "--rm", "--runtime", RUNTIME, image, &id])?.run()?.success()?;
        assert!(run.text().to_lowercase().contains("hello"), "{name}: {}", run.text());
        audit::nothing_left_of(&id)?;
    }
    Ok(())
}

fn image_file(name: &str) -> Result<PathBuf> {
    let file = suite::repository().join("target/images").join(format!("{name}.tar"));
    if file.exists() { Ok(file) } else { Err("run `make images` first".into()) }
}

/// Neither shims nor descriptors of containerd pile up.
fn many_runs_leave_nothing() -> Result {
    Task::run(probe()?, &[], &["/probe.wasm"])?.success()?;
    let before = procfs::descriptors(pid()?)?.len();
    for round in 0..20 {
        let bundle = if round % 2 == 0 { probe()? } else { Bundle::linux(&[])? };
        let args = if round % 2 == 0 { ["/probe.wasm", "args"] } else { ["/bin/echo", "text"] };
        Task::run(bundle, &[], &args)?.success()?;
    }
    eventually("containerd's descriptors to be as many as before", PATIENCE, || {
        // Other trials use the same server; a leak would be one a container at least.
        Ok((procfs::descriptors(pid()?)?.len() < before + 15).then_some(()))
    })
}
