//! Commands in running containers, as probes and `kubectl exec` run them.

use libtest_mimic::Trial;

use crate::client::{Container, Pod, container};
use crate::harness::{Result, trials};
use crate::images::{LINUX, WASM};

pub fn tests() -> Vec<Trial> {
    trials!["exec": linux_in_linux, probe_that_takes_too_long]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["exec": wasm_in_wasm, absent_in_wasm, spinning_probe_is_ended]
}

fn linux_in_linux() -> Result {
    let pod = Pod::run()?;
    let app = pod.start(&container(LINUX, &["sleep", "600"]))?;
    let output = app.exec_sync(&["sh", "-c", "echo out; echo err >&2; exit 3"])?.expect(3)?;
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let streamed = app.cmd("exec", &["-i"], &["sh", "-c", "cat; exit 4"])?;
    assert_eq!(streamed.input("typed").run()?.expect(4)?.text(), "typed");
    app.exec_sync(&["nosuch"])?.refused("exec: \"nosuch\": executable file not found in $PATH")?;
    pod.remove()
}

fn wasm_in_wasm() -> Result {
    let pod = Pod::run()?;
    let app = pod.start(&container(WASM, &["/probe.wasm", "sleep"]))?;
    // A component of WASI 0.2 tells success or failure only.
    for (guest, codes) in [("/probe.wasm", [0, 42, 255]), ("/component.wasm", [0, 1, 1])] {
        for code in codes {
            app.exec_sync(&[guest, "exit", &code.to_string()])?.expect(code)?;
        }
        let output = app.exec_sync(&[guest, "stderr", "oops"])?.success()?;
        assert_eq!((output.text().as_str(), output.stderr.as_str()), ("", "oops"));
        let streamed = app.cmd("exec", &["-i"], &[guest, "echo"])?;
        assert_eq!(streamed.input("typed").run()?.success()?.text(), "typed", "{guest}");
    }
    app.cmd("exec", &[], &["/probe.wasm", "exit", "9"])?.run()?.expect(9)?;
    let terminal = app.cmd("exec", &["-i", "-t"], &["/probe.wasm", "terminal"])?;
    let mut terminal = terminal.open_input().spawn()?;
    terminal.wait_for("terminal [true, true, true]")?;
    terminal.write(b"typed\n")?;
    terminal.wait_for("got:typed")?;
    terminal.wait()?.success()?;
    pod.remove()
}

fn absent_in_wasm() -> Result {
    let pod = Pod::run()?;
    let app = pod.start(&container(WASM, &["/probe.wasm", "sleep"]))?;
    app.exec_sync(&["sh"])?.refused("exec: \"sh\": executable file not found in $PATH")?;
    app.exec_sync(&["/nosuch.wasm"])?.refused("/nosuch.wasm")?;
    app.cmd("exec", &[], &["sh"])?.run()?.refused("executable file not found")?;
    pod.remove()
}

fn probe_that_takes_too_long() -> Result {
    let pod = Pod::run()?;
    let app = pod.start(&container(LINUX, &["sleep", "600"]))?;
    times_out(&app, &["sleep", "500"])?;
    pod.remove()
}

fn spinning_probe_is_ended() -> Result {
    let pod = Pod::run()?;
    let app = pod.start(&container(WASM, &["/probe.wasm", "sleep"]))?;
    times_out(&app, &["/probe.wasm", "spin"])?;
    pod.remove()
}

fn times_out(app: &Container, words: &[&str]) -> Result {
    let probe = app.cmd("exec", &["--sync", "--timeout", "1"], words)?.run()?;
    probe.refused("DeadlineExceeded").map(drop)
}
