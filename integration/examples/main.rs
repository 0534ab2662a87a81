//! The examples that need toolchains of their own: `make examples` builds them and runs this.

#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other target, which uses it all")]
mod harness;
mod hello;
mod http;
mod sidecar;

use std::process::ExitCode;

use harness::{audit, suite};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials()).exit_code();
    }
    if let Err(failed) = audit::begin() {
        eprintln!("the suite cannot start: {}", failed.message().unwrap_or("no reason given"));
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials());
    harness::containerd::stop();
    harness::podman::stop();
    suite::remove();
    let last = Trial::test("audit::machine_is_clean", audit::whole_run);
    let audit = libtest_mimic::run(&Arguments::default(), vec![last]);
    if conclusion.has_failed() { conclusion.exit_code() } else { audit.exit_code() }
}

fn trials() -> Vec<Trial> {
    [hello::tests(), http::tests(), sidecar::tests()].into_iter().flatten().collect()
}
