//! Kubernetes, from below: pods through containerd's CRI, as the kubelet makes them.
//!
//! `CONTAINERD` names another containerd than the one on PATH. `CRI_HANDLER=runc` runs the
//! trials of the standard on runc, and leaves out those of what only ours does.

mod artifacts;
mod client;
mod conformance;
mod critest;
mod docs;
mod exec;
#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other target, which uses it all")]
mod harness;
mod images;
mod limits;
mod pods;
mod registry;
mod server;
mod streams;
mod volumes;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use harness::{audit, orphans, suite};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments
        .test_threads
        .get_or_insert(2 * std::thread::available_parallelism().map_or(1, usize::from));
    if arguments.list {
        return libtest_mimic::run(&arguments, trials()).exit_code();
    }
    if let Err(failed) = audit::begin() {
        eprintln!("the suite cannot start: {}", failed.message().unwrap_or("no reason given"));
        return ExitCode::FAILURE;
    }
    thread::spawn(collect_orphans);
    let conclusion = libtest_mimic::run(&arguments, trials());
    server::stop();
    suite::remove();
    let last = Trial::test("audit::machine_is_clean", audit::whole_run);
    let audit = libtest_mimic::run(&Arguments::default(), vec![last]);
    if conclusion.has_failed() { conclusion.exit_code() } else { audit.exit_code() }
}

/// What a killed shim leaves becomes our child, and must not stay a zombie: the clean-up that
/// follows waits for its end.
fn collect_orphans() {
    loop {
        // A process that ends while it is looked at is looked at again.
        let _ = orphans::reap();
        thread::sleep(Duration::from_millis(100));
    }
}

fn trials() -> Vec<Trial> {
    let standard = [
        docs::tests(),
        pods::tests(),
        exec::tests(),
        streams::tests(),
        volumes::tests(),
        limits::tests(),
    ];
    let ours = [
        docs::our_tests(),
        artifacts::our_tests(),
        pods::our_tests(),
        exec::our_tests(),
        streams::our_tests(),
        volumes::our_tests(),
        limits::our_tests(),
    ];
    let ignored = server::handler() != "wasm";
    let ours = ours.into_iter().flatten().map(|trial| trial.with_ignored_flag(ignored));
    standard
        .into_iter()
        .flatten()
        .chain(ours)
        .chain(conformance::tests())
        .chain(critest::tests())
        .collect()
}
