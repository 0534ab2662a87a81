//! What the trials share: commands with a time limit, bundles, containers, guest programs,
//! private engines, and the audit of what is left behind.

pub mod audit;
pub mod bundle;
pub mod cgroup;
pub mod command;
pub mod console;
pub mod container;
pub mod containerd;
pub mod docs;
pub mod guests;
pub mod images;
pub mod orphans;
pub mod podman;
pub mod procfs;
pub mod runtime;
pub mod shim;
pub mod suite;
pub mod task;

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

/// The result of a trial and of every step in it.
pub type Result<T = ()> = std::result::Result<T, Failed>;

/// How long a condition that follows from a finished step may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Asks `probe` until it answers; fails, naming `what` was awaited, when `limit` is over.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(format!("waited {limit:?} in vain for {what}").into());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Lists test functions as trials named `group::function`. A function left out of every list
/// is dead code, which the compiler reports.
macro_rules! trials {
    ($group:literal: $($name:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(
            concat!($group, "::", stringify!($name)),
            $name,
        )),+]
    };
}
pub(crate) use trials;
