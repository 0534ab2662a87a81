//! Standard streams: byte for byte, nothing lost, a terminal is a terminal.

use libtest_mimic::Trial;

use super::PROBES;
use crate::harness::bundle::Bundle;
use crate::harness::console::ConsoleSocket;
use crate::harness::container::Container;
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": streams_pass_every_byte, a_million_lines_into_a_file,
        a_million_lines_into_a_slow_pipe, stderr_is_separate, end_of_input_is_seen,
        input_arrives_as_it_is_typed, reader_that_leaves_ends_the_guest, terminal_is_a_terminal]
}

const LINES: u32 = 1_000_000;

fn streams_pass_every_byte() -> Result {
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_001).collect();
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "echo"])?;
        let output = bundle.run_with_input(bytes.clone())?.success()?;
        assert_eq!(output.stdout.len(), bytes.len(), "{probe:?}");
        assert!(output.stdout == bytes, "{probe:?}: output differs from input");
    }
    Ok(())
}

fn expected_lines() -> String {
    (0..LINES).map(|number| format!("line {number}\n")).collect()
}

fn a_million_lines_into_a_file() -> Result {
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "lines", &LINES.to_string()])?;
        let output = bundle.run()?.success()?;
        assert!(output.text() == expected_lines(), "{probe:?}: {} bytes", output.stdout.len());
    }
    Ok(())
}

fn a_million_lines_into_a_slow_pipe() -> Result {
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "lines", &LINES.to_string()])?;
        let run = bundle.make("run", &[])?.piped_into("sleep 1; exec cat");
        let output = run.run()?.success()?;
        assert!(output.text() == expected_lines(), "{probe:?}: {} bytes", output.stdout.len());
    }
    Ok(())
}

fn stderr_is_separate() -> Result {
    for probe in PROBES {
        let output = Bundle::wasm(&probe, &["/probe.wasm", "stderr", "oops"])?.run()?.success()?;
        assert_eq!((output.text().as_str(), output.stderr.as_str()), ("", "oops"), "{probe:?}");
    }
    Ok(())
}

fn end_of_input_is_seen() -> Result {
    for probe in PROBES {
        let output = Bundle::wasm(&probe, &["/probe.wasm", "read"])?.run()?.success()?;
        assert_eq!(output.lines(), ["ready", "read \"\"", "over"], "{probe:?}");
    }
    Ok(())
}

fn input_arrives_as_it_is_typed() -> Result {
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "read"])?;
        let mut run = bundle.make("run", &[])?.open_input().spawn()?;
        run.wait_for("ready")?;
        run.write(b"typed\n")?;
        run.wait_for("read \"typed\\n\"")?;
        run.wait()?.success()?;
    }
    Ok(())
}

fn reader_that_leaves_ends_the_guest() -> Result {
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "lines", "100000000"])?;
        let run = bundle.make("run", &[])?.piped_into("exec head -n 1");
        assert_eq!(run.run()?.text(), "line 0\n", "{probe:?}");
        crate::harness::audit::nothing_left_of(&bundle.id)?;
    }
    Ok(())
}

fn terminal_is_a_terminal() -> Result {
    for probe in PROBES {
        let args = ["/probe.wasm", "terminal"];
        let plain = Bundle::wasm(&probe, &args)?.run()?.success()?;
        assert_eq!(plain.text(), "terminal [false, false, false]\n", "{probe:?}");
        let socket = ConsoleSocket::new()?;
        let path = socket.path().to_string_lossy().into_owned();
        let bundle = Bundle::wasm(&probe, &args)?.terminal();
        let container = Container::create_with(bundle, &["--console-socket", &path])?;
        let mut terminal = socket.receive()?;
        container.start()?;
        terminal.wait_for("terminal [true, true, true]")?;
        terminal.write("typed\n")?;
        terminal.wait_for("got:typed")?;
        assert_eq!(container.wait()?, 0, "{probe:?}");
        container.delete()?;
    }
    Ok(())
}
