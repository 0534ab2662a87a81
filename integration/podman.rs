//! The runtime under a real podman.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::harness::podman::{Pod, podman};
use crate::harness::{PATIENCE, Result, docs, eventually, images, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["podman": run_of_wasm_and_linux, run_returns_exit_codes, run_passes_stdio,
        run_in_a_terminal, annotations_choose_the_workload, logs, exec, stop_is_prompt,
        missing_command_is_127, command_without_permission_is_126, failed_create_is_explained,
        volumes, images_run, pause_and_unpause, docs_images]
}

fn run_of_wasm_and_linux() -> Result {
    let pod = Pod::new()?;
    let output = pod.run(&["--env", "A=1"], &["/probe.wasm", "env"])?.run()?.success()?;
    assert!(output.lines().contains(&"A=1".to_owned()), "{output:?}");
    pod.remove()?;
    let pod = Pod::new()?;
    let output = pod.run(&["--env", "A=1"], &["sh", "-c", "echo linux $A"])?.run()?.success()?;
    assert_eq!(output.text(), "linux 1\n");
    pod.remove()
}

fn run_returns_exit_codes() -> Result {
    for code in ["0", "42", "125", "127", "255"] {
        let pod = Pod::new()?;
        pod.run(&[], &["/probe.wasm", "exit", code])?.run()?.expect(code.parse()?)?;
        let inspect = pod.cmd("inspect", &["--format", "{{.State.ExitCode}}"])?.run()?.success()?;
        assert_eq!(inspect.text().trim(), code);
        pod.remove()?;
    }
    Ok(())
}

fn run_passes_stdio() -> Result {
    let pod = Pod::new()?;
    let bytes: Vec<u8> = (0..=255).cycle().take(100_001).collect();
    let run = pod.run(&["--interactive"], &["/probe.wasm", "echo"])?;
    let output = run.input(bytes.clone()).run()?.success()?;
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    pod.remove()
}

fn run_in_a_terminal() -> Result {
    let pod = Pod::new()?;
    let run = pod.run(&["--interactive", "--tty"], &["/probe.wasm", "terminal"])?.in_terminal();
    let mut run = run.open_input().spawn()?;
    run.wait_for("terminal [true, true, true]")?;
    run.write(b"typed\n")?;
    run.wait_for("got:typed")?;
    run.wait()?.success()?;
    pod.remove()
}

fn annotations_choose_the_workload() -> Result {
    for annotation in ["run.oci.handler=wasm", "module.wasm.image/variant=compat"] {
        for (args, text) in [(["/probe.wasm", "args"], "[args]"), (["echo", "linux"], "linux")] {
            let pod = Pod::new()?;
            let output = pod.run(&["--annotation", annotation], &args)?.run()?.success()?;
            assert!(output.text().ends_with(&format!("{text}\n")), "{annotation}: {output:?}");
            pod.remove()?;
        }
    }
    Ok(())
}

fn logs() -> Result {
    let pod = Pod::new()?;
    pod.run(&["--detach"], &["/probe.wasm", "lines", "3"])?.run()?.success()?;
    assert_eq!(pod.cmd("wait", &[])?.run()?.success()?.text(), "0\n");
    let logs = pod.cmd("logs", &[])?.run()?.success()?;
    assert_eq!(logs.lines(), ["line 0", "line 1", "line 2"]);
    pod.remove()
}

fn exec() -> Result {
    let pod = Pod::new()?;
    pod.run(&["--detach"], &["/probe.wasm", "sleep"])?.run()?.success()?;
    let exec = |args: &[&str]| -> Result<_> { pod.cmd("exec", &[])?.args(args).run() };
    assert_eq!(exec(&["sh", "-c", "echo linux; exit 3"])?.expect(3)?.text(), "linux\n");
    assert_eq!(exec(&["/probe.wasm", "args"])?.success()?.lines(), ["[/probe.wasm]", "[args]"]);
    exec(&["nosuch"])?.expect(127)?;
    pod.remove()
}

fn stop_is_prompt() -> Result {
    for verb in ["sleep", "spin"] {
        let pod = Pod::new()?;
        pod.run(&["--detach"], &["/probe.wasm", verb])?.run()?.success()?;
        eventually("the guest to run", PATIENCE, || {
            let logs = pod.cmd("logs", &[])?.run()?;
            Ok(logs.text().contains("ready").then_some(()))
        })?;
        let began = Instant::now();
        pod.cmd("stop", &["--time", "30"])?.run()?.success()?;
        assert!(began.elapsed() < Duration::from_secs(15), "{verb}: took {:?}", began.elapsed());
        let inspect = pod.cmd("inspect", &["--format", "{{.State.ExitCode}}"])?.run()?.success()?;
        assert_eq!(inspect.text().trim(), "143", "{verb}");
        pod.remove()?;
    }
    Ok(())
}

fn missing_command_is_127() -> Result {
    for command in ["nosuch", "/no/such", "/nosuch.wasm"] {
        let pod = Pod::new()?;
        let output = pod.run(&[], &[command])?.run()?.expect(127)?;
        assert!(output.stderr.contains(command), "{}", output.stderr);
        pod.remove()?;
    }
    Ok(())
}

fn command_without_permission_is_126() -> Result {
    let pod = Pod::new()?;
    let output = pod.run(&[], &["/plain"])?.run()?.expect(126)?;
    assert!(output.stderr.contains("ermission denied"), "{}", output.stderr);
    pod.remove()
}

fn failed_create_is_explained() -> Result {
    let pod = Pod::new()?;
    let run = pod.run(&["--annotation", "run.oci.handler=wasmedge"], &["/probe.wasm"])?;
    let output = run.run()?.refused("wasmedge")?;
    // podman reads the sentence from the JSON log; it must not show the log itself.
    assert!(!output.stderr.contains("\"level\""), "{}", output.stderr);
    pod.remove()
}

fn volumes() -> Result {
    let shared = suite::new_dir("shared")?;
    let path = shared.to_string_lossy();
    let (fixed, free) = (format!("{path}:/fixed:ro"), format!("{path}:/free:rw"));
    let pod = Pod::new()?;
    let options = ["--volume", &*fixed, "--volume", &*free];
    let args = ["/probe.wasm", "write", "/fixed/a", "/free/b"];
    let output = pod.run(&options, &args)?.run()?.success()?;
    assert!(output.lines()[0].starts_with("/fixed/a: error "), "{output:?}");
    assert_eq!(std::fs::read_to_string(shared.join("b"))?, "written");
    assert!(!shared.join("a").exists());
    pod.remove()
}

/// hello-wasi has the platform wasi/wasm.
fn images_run() -> Result {
    for name in ["hello-rust", "hello-wasi"] {
        let pod = Pod::new()?;
        let output = pod.run_image(&images::load(name)?, &[], &[])?.run()?.success()?;
        assert!(output.text().to_lowercase().contains("hello"), "{name}: {}", output.text());
        pod.remove()?;
    }
    Ok(())
}

fn pause_and_unpause() -> Result {
    let pod = Pod::new()?;
    pod.run(&["--detach"], &["/probe.wasm", "sleep"])?.run()?.success()?;
    let status = || -> Result<String> {
        let inspect = pod.cmd("inspect", &["--format", "{{.State.Status}}"])?;
        Ok(inspect.run()?.success()?.text().trim().to_owned())
    };
    pod.cmd("pause", &[])?.run()?.success()?;
    assert_eq!(status()?, "paused");
    pod.cmd("unpause", &[])?.run()?.success()?;
    assert_eq!(status()?, "running");
    pod.remove()
}

/// The commands that docs/images.md shows.
fn docs_images() -> Result {
    let podman = podman(&[])?;
    docs::run("docs/images.md", "podman", "podman", &podman)
}
