//! wasm containers: what the guest sees, how it ends, and what counts as wasm at all.

mod decision;
mod descriptors;
mod ends;
mod exec;
mod exports;
mod files;
mod network;
mod refused;
mod stdio;
mod threads;
mod view;

use libtest_mimic::Trial;

use crate::harness::guests::{Guest, PROBE, PROBE_COMPONENT};

/// The same program on both versions of WASI.
const PROBES: [Guest; 2] = [PROBE, PROBE_COMPONENT];

pub fn tests() -> Vec<Trial> {
    let modules = [
        decision::tests(),
        descriptors::tests(),
        ends::tests(),
        exec::tests(),
        exports::tests(),
        files::tests(),
        network::tests(),
        refused::tests(),
        stdio::tests(),
        threads::tests(),
        view::tests(),
    ];
    modules.into_iter().flatten().collect()
}
