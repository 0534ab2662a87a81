//! The OCI runtime: parse, dispatch, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    runwasm::cli::run(std::env::args_os())
}
