//! The one engine configuration, for compiling and for running.

use wasmtime::{Config, Engine, WasmBacktraceDetails};

use crate::error::{Context, ErrorKind, Result};

/// The exact wasmtime this runtime is built with. Part of every cache key: wasmtime itself
/// accepts code of any patch release, and a patch release may fix the compiler.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// An engine that loads compiled code and cannot compile: it starts faster.
///
/// # Errors
/// When wasmtime cannot run on this machine.
pub fn for_running() -> Result<Engine> {
    let mut config = config();
    config.enable_compiler(false);
    Engine::new(&config).context(ErrorKind::Os, || "start the wasm engine")
}

/// An engine that compiles.
///
/// # Errors
/// As [`for_running`].
pub fn for_compiling() -> Result<Engine> {
    Engine::new(&config()).context(ErrorKind::Os, || "start the wasm compiler")
}

fn config() -> Config {
    let mut config = Config::new();
    // Explicit, since the default reads an environment variable of this process.
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    // Backtraces of wasm use frame pointers; the unwind tables would only cost load time.
    config.native_unwind_info(false);
    config.debug_symbols(false);
    config
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_in_the_cache_key_is_the_one_built_with() {
        let lock = include_str!("../../Cargo.lock");
        let entry = format!("name = \"wasmtime\"\nversion = \"{}\"", super::WASMTIME_VERSION);
        assert!(lock.contains(&entry), "update WASMTIME_VERSION to match Cargo.lock");
    }
}
