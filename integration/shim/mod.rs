//! The shim by itself: every call of the task service, and what containerd runs it for.

mod bootstrap;
mod calls;
mod dead;
mod limits;
mod model;
mod options;
mod stdio;

use libtest_mimic::Trial;

use crate::harness::Result;
use crate::harness::bundle::{Bundle, install_busybox};
use crate::harness::guests::PROBE;

pub fn tests() -> Vec<Trial> {
    [
        bootstrap::tests(),
        calls::tests(),
        dead::tests(),
        limits::tests(),
        model::tests(),
        options::tests(),
        stdio::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A wasm container that does what `request` says and has busybox, too.
fn wasm(request: &[&str]) -> Result<Bundle> {
    let args = [&["/probe.wasm"], request].concat();
    let bundle = Bundle::wasm(&PROBE, &args)?;
    install_busybox(&bundle.rootfs())?;
    Ok(bundle)
}

/// A container of each kind that sleeps until it is killed.
fn sleepers() -> Result<[Bundle; 2]> {
    Ok([Bundle::linux(&["sleep", "600"])?, wasm(&["sleep"])?])
}
