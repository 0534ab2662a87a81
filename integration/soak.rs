//! Hundreds of containers, one after the other and many at once, and creates that are killed:
//! nothing may be left of any.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::PROBE;
use crate::harness::{Result, audit, trials};

pub fn tests() -> Vec<Trial> {
    trials!["soak": linux_one_after_the_other, linux_16_at_a_time]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["soak": wasm_one_after_the_other, wasm_16_at_a_time,
        linux_create_killed_at_any_moment, wasm_create_killed_at_any_moment]
}

const ROUNDS: u32 = 200;
const AT_A_TIME: u32 = 16;

fn linux() -> Result<Bundle> {
    Bundle::linux(&["sleep", "600"])
}

fn wasm() -> Result<Bundle> {
    Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])
}

/// Create, start, kill, delete. What is left is looked for once, after all.
fn cycle(bundle: Bundle) -> Result {
    let container = Container::start_new(bundle)?;
    assert_eq!(container.status()?, "running");
    container.kill("KILL")?;
    assert_eq!(container.wait()?, 137);
    container.cmd("delete", &[]).run()?.success()?;
    audit::is_empty(&container.bundle.state_root())
}

fn one_after_the_other(bundle: fn() -> Result<Bundle>) -> Result {
    let mut last = String::new();
    for round in 0..ROUNDS {
        let bundle = bundle()?;
        last.clone_from(&bundle.id);
        cycle(bundle).map_err(|e| in_round(round, &e))?;
    }
    audit::nothing_left_of(&last)
}

fn in_round(round: u32, failed: &Failed) -> Failed {
    format!("round {round}: {}", failed.message().unwrap_or_default()).into()
}

fn at_a_time(bundle: fn() -> Result<Bundle>) -> Result {
    let round = AtomicU32::new(0);
    let work = || -> Result {
        loop {
            let round = round.fetch_add(1, Ordering::Relaxed);
            if round >= ROUNDS {
                return Ok(());
            }
            cycle(bundle()?).map_err(|e| in_round(round, &e))?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a round panicked")?)
    })
}

fn linux_one_after_the_other() -> Result {
    one_after_the_other(linux)
}

fn wasm_one_after_the_other() -> Result {
    one_after_the_other(wasm)
}

fn linux_16_at_a_time() -> Result {
    at_a_time(linux)
}

fn wasm_16_at_a_time() -> Result {
    at_a_time(wasm)
}

fn linux_create_killed_at_any_moment() -> Result {
    killed_at_any_moment(linux)
}

fn wasm_create_killed_at_any_moment() -> Result {
    killed_at_any_moment(wasm)
}

/// SIGKILL hits `create` later and later, until it is too late; `delete --force` clears away
/// whatever there is by then.
fn killed_at_any_moment(bundle: fn() -> Result<Bundle>) -> Result {
    for step in 0..40 {
        let delay = Duration::from_millis(2 * step);
        let bundle = bundle()?;
        let create = bundle.make("create", &[])?.spawn()?;
        std::thread::sleep(delay);
        // It may have ended by itself.
        let _ = create.signal(Signal::SIGKILL);
        create.wait()?;
        let delete = bundle.runtime("delete").args(["--force", &bundle.id]).run()?;
        let gone = delete.success().and_then(|_| {
            audit::is_empty(&bundle.state_root())?;
            audit::nothing_left_of(&bundle.id)
        });
        gone.map_err(|failed| {
            let log = fs::read_to_string(bundle.log_file()).unwrap_or_default();
            let message = failed.message().unwrap_or_default();
            Failed::from(format!("killed after {delay:?}: {message}\n{log}"))
        })?;
    }
    Ok(())
}
