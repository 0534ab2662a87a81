//! The containerd shim for the runtime `io.containerd.wasm.v1`.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match runwasm::shim::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containerd-shim-wasm-v1: {error}");
            ExitCode::FAILURE
        }
    }
}
