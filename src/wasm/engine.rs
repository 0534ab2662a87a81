//! The one engine configuration, for compiling and for running.

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::error::{Context, ErrorKind, Result};

/// The exact wasmtime this runtime is built with. Part of every cache key: wasmtime itself
/// accepts code of any patch release, and a patch release may fix the compiler.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// How many instances of a server there can be at once.
pub const MAX_INSTANCES: u32 = 1000;

/// What machine code can do, and pays for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Modules, and commands of WASI 0.2.
    Plain,
    /// Servers of WASI 0.2: a request that takes too long is interrupted, for which the code
    /// looks at a counter every now and then.
    Interruptible,
    /// WASI 0.3: the component model's concurrency as well.
    Concurrent,
}

impl Profile {
    /// All, the most frequent first.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Interruptible, Self::Concurrent];
}

/// An engine that loads compiled code and cannot compile: it starts faster. With `threads` it has
/// shared memory, which wasmtime supports less well than the rest (its `Config::shared_memory`).
///
/// # Errors
/// When wasmtime cannot run on this machine.
pub fn for_running(profile: Profile, threads: bool) -> Result<Engine> {
    let mut config = config(profile);
    config.enable_compiler(false);
    config.shared_memory(threads);
    if profile != Profile::Plain {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        // It reserves terabytes of address space, which RLIMIT_AS may forbid.
        if let Ok(engine) = Engine::new(&config) {
            return Ok(engine);
        }
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    }
    Engine::new(&config).context(ErrorKind::Os, || "start the wasm engine")
}

/// Slots for instances that come and go with each request. What is in use is bounded elsewhere, by
/// memory; a slot that is not in use costs address space only.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_INSTANCES)
        .total_core_instances(MAX_INSTANCES * 2)
        .total_memories(MAX_INSTANCES * 2)
        .total_tables(MAX_INSTANCES * 2)
        .total_stacks(MAX_INSTANCES * 2)
        // Clearing this much is faster than giving it back to the kernel and faulting it in.
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(4 << 10)
        .max_unused_warm_slots(32);
    pool
}

/// An engine that compiles.
///
/// # Errors
/// As [`for_running`].
pub fn for_compiling(profile: Profile) -> Result<Engine> {
    Engine::new(&config(profile)).context(ErrorKind::Os, || "start the wasm compiler")
}

fn config(profile: Profile) -> Config {
    let mut config = Config::new();
    // Explicit, since the default reads an environment variable of this process.
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    // Backtraces of wasm use frame pointers; the unwind tables would only cost load time.
    config.native_unwind_info(false);
    config.debug_symbols(false);
    config.epoch_interruption(profile != Profile::Plain);
    config.concurrency_support(profile == Profile::Concurrent);
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
