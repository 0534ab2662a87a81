//! The shim, under the real generations of containerd and their `ctr`.

mod events;
mod exec;
mod failures;
mod images;
mod pods;
mod restart;
mod run;

use libtest_mimic::Trial;

use crate::harness::Result;
use crate::harness::bundle::Bundle;
use crate::harness::containerd::Generation;
use crate::harness::guests::PROBE;

pub fn tests() -> Vec<Trial> {
    let on = |generation| {
        [
            run::tests(generation),
            exec::tests(generation),
            events::tests(generation),
            failures::tests(generation),
            restart::tests(generation),
            pods::tests(generation),
            images::tests(generation),
        ]
    };
    Generation::ALL.into_iter().flat_map(on).flatten().collect()
}

fn probe() -> Result<Bundle> {
    Bundle::wasm(&PROBE, &["/probe.wasm"])
}
