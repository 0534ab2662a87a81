//! How a guest ends: exit codes, traps, signals.

use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::PROBES;
use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::{Guest, PROBE, source};
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": exit_codes, exit_codes_of_a_created_container, component_that_fails,
        trap_is_134, stack_overflow_is_134, panic_is_134, signals_end_a_sleeping_guest,
        signals_end_a_spinning_guest, signals_end_a_reading_guest, run_forwards_signals,
        kill_of_a_guest_not_started]
}

/// `guests/NAME.wat` with another exit code in it.
fn exits_with(name: &str, code: i32) -> Result<Vec<u8>> {
    let text = fs::read_to_string(source(&format!("{name}.wat")))?;
    let text = text.replace("(i32.const 42)", &format!("(i32.const {code})"));
    Ok(wat::parse_str(text).map_err(|error| error.to_string())?)
}

fn exit_codes() -> Result {
    for name in ["exit", "exit-component"] {
        for code in [0, 1, 42, 125, 126, 127, 128, 134, 200, 255] {
            let bundle = Bundle::empty(&["/exit.wasm"])?;
            let output = bundle.file("/exit.wasm", &exits_with(name, code)?)?.run()?;
            let told = output.expect(code);
            let output =
                told.map_err(|e| format!("{name}: {}", e.message().unwrap_or_default()))?;
            assert_eq!(output.stderr, "", "{name} {code}");
        }
    }
    Ok(())
}

fn exit_codes_of_a_created_container() -> Result {
    for probe in PROBES {
        for (args, code) in [(["/probe.wasm", "exit", "0"], 0), (["/probe.wasm", "exit", "1"], 1)] {
            let container = Container::start_new(Bundle::wasm(&probe, &args)?)?;
            assert_eq!(container.wait()?, code, "{probe:?}");
            container.delete()?;
        }
    }
    Ok(())
}

fn component_that_fails() -> Result {
    Bundle::wasm(&Guest::Wat("failed-component"), &["/failed.wasm"])?.run()?.expect(1)?;
    Ok(())
}

fn trap_is_134() -> Result {
    for guest in [Guest::Wat("trap"), Guest::Wat("trap-component")] {
        let output = Bundle::wasm(&guest, &["/trap.wasm"])?.run()?.expect(134)?;
        for part in ["unreachable", "inner", "outer"] {
            assert!(output.stderr.contains(part), "{guest:?}: no {part}: {}", output.stderr);
        }
        assert_eq!(output.text(), "");
    }
    Ok(())
}

fn stack_overflow_is_134() -> Result {
    let output = Bundle::wasm(&Guest::Wat("overflow"), &["/o.wasm"])?.run()?.expect(134)?;
    assert!(output.stderr.contains("stack"), "{}", output.stderr);
    Ok(())
}

fn panic_is_134() -> Result {
    for probe in PROBES {
        let output = Bundle::wasm(&probe, &["/probe.wasm", "panic"])?.run()?.expect(134)?;
        assert!(output.stderr.contains("as asked"), "{probe:?}: {}", output.stderr);
    }
    Ok(())
}

/// Each signal ends a guest that is busy in one way, at once and with 128 + its number.
fn signals_end(verb: &str) -> Result {
    for probe in PROBES {
        for (signal, code) in [("TERM", 143), ("INT", 130)] {
            let bundle = Bundle::wasm(&probe, &["/probe.wasm", verb])?;
            let create = bundle.make("create", &[])?.open_input();
            let container = Container::create_by(bundle, create)?;
            container.start()?;
            container.wait_for("ready")?;
            let began = Instant::now();
            container.kill(signal)?;
            assert_eq!(container.wait()?, code, "{probe:?} {signal}");
            let took = began.elapsed();
            // The budget is 50 ms on an idle machine; this one runs other trials.
            assert!(took < Duration::from_secs(2), "{probe:?} {signal}: took {took:?}");
            assert!(!container.stdout()?.contains("over"), "{probe:?} {signal}: ran on");
            container.delete()?;
        }
    }
    Ok(())
}

fn signals_end_a_sleeping_guest() -> Result {
    signals_end("sleep")
}

fn signals_end_a_spinning_guest() -> Result {
    signals_end("spin")
}

fn signals_end_a_reading_guest() -> Result {
    signals_end("read")
}

fn run_forwards_signals() -> Result {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?;
        let mut run = bundle.make("run", &[])?.spawn()?;
        run.wait_for("ready")?;
        run.signal(signal)?;
        run.wait()?.expect(code)?;
        crate::harness::audit::nothing_left_of(&bundle.id)?;
    }
    Ok(())
}

fn kill_of_a_guest_not_started() -> Result {
    let container = Container::create(Bundle::wasm(&PROBE, &["/probe.wasm", "args"])?)?;
    container.kill("KILL")?;
    assert_eq!(container.wait()?, 137);
    assert_eq!(container.stdout()?, "");
    container.delete()
}
