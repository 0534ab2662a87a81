//! End-to-end tests against real bundles, containerd and podman.
//!
//! `RUNTIME` names the OCI runtime to test, by default the one just built. With another, such
//! as runc, the trials of what only ours does are listed as ignored.

mod attacks;
mod bad_input;
mod cache;
mod cli;
mod conformance;
mod containerd;
mod harness;
mod http;
mod images;
mod linux;
mod listeners;
mod memory;
mod podman;
mod policy;
mod security;
mod settings;
mod shim;
mod soak;
mod vm;
mod wasm;

use std::process::ExitCode;

use harness::{audit, runtime, suite};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Trials mostly wait for processes, so two of them keep one core busy.
    arguments
        .test_threads
        .get_or_insert(2 * std::thread::available_parallelism().map_or(1, usize::from));
    if arguments.list {
        return libtest_mimic::run(&arguments, trials()).exit_code();
    }
    if let Err(failed) = audit::begin() {
        return fail(&failed);
    }
    let conclusion = libtest_mimic::run(&arguments, trials());
    harness::containerd::stop();
    harness::podman::stop();
    suite::remove();
    let last = Trial::test("audit::machine_is_clean", audit::whole_run);
    let audit = libtest_mimic::run(&Arguments::default(), vec![last]);
    if conclusion.has_failed() { conclusion.exit_code() } else { audit.exit_code() }
}

fn fail(failed: &Failed) -> ExitCode {
    eprintln!("the suite cannot start: {}", failed.message().unwrap_or("no reason given"));
    ExitCode::FAILURE
}

fn trials() -> Vec<Trial> {
    // The machine first: it takes long, and the others run meanwhile.
    let standard = [
        vm::tests(),
        cli::tests(),
        linux::tests(),
        bad_input::tests(),
        attacks::tests(),
        soak::tests(),
    ];
    let ours = [
        cli::our_tests(),
        linux::our_tests(),
        bad_input::our_tests(),
        wasm::tests(),
        security::tests(),
        attacks::our_tests(),
        cache::our_tests(),
        memory::tests(),
        settings::our_tests(),
        http::our_tests(),
        listeners::our_tests(),
        images::our_tests(),
        soak::our_tests(),
        shim::tests(),
        containerd::tests(),
        podman::tests(),
        policy::tests(),
        conformance::tests(),
        vm::our_tests(),
    ];
    let ignored = !runtime::is_ours();
    let ours = ours.into_iter().flatten().map(|trial| trial.with_ignored_flag(ignored));
    standard.into_iter().flatten().chain(ours).collect()
}
