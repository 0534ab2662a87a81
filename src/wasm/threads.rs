//! wasi-threads: a module that imports `wasi.thread-spawn` starts threads, each an instance of
//! the module with a store of its own; they share a memory that the host makes, and the host's
//! descriptors. See github.com/WebAssembly/wasi-threads.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use wasmtime::{
    Caller, ExternType, InstancePre, Linker, MemoryType, Module, SharedMemory, Store, ValType,
};

use super::command::{exit_code, in_place};
use super::limits::Budget;
use super::module::{CoreState, store};
use super::p1::Host;

/// The import by which a thread is started, and the export that it begins with.
const IMPORT: (&str, &str) = ("wasi", "thread-spawn");
const START: &str = "wasi_thread_start";
/// Thread ids are from 1 to this one.
const MOST: i32 = 0x1fff_ffff;
/// The error of a thread that cannot be started: EAGAIN of WASI 0.1, negative.
const FAILED: i32 = -6;

/// What starting a thread of a program takes.
pub struct Threads {
    /// For messages.
    name: String,
    instance: InstancePre<CoreState>,
    next: AtomicI32,
}

/// Whether `module` shares memory between threads, its own or one that it imports.
pub fn are_used(module: &Module) -> bool {
    let shares = |ty| matches!(ty, ExternType::Memory(memory) if memory.is_shared());
    spawns(module)
        || module.imports().any(|import| shares(import.ty()))
        || module.exports().any(|export| shares(export.ty()))
}

fn spawns(module: &Module) -> bool {
    module.imports().any(|import| (import.module(), import.name()) == IMPORT)
}

/// Defines what starts a thread.
///
/// # Errors
/// When something of that name is there.
pub fn add_to_linker(linker: &mut Linker<CoreState>) -> wasmtime::Result<()> {
    linker.func_wrap(IMPORT.0, IMPORT.1, |caller: Caller<'_, CoreState>, argument: i32| {
        Threads::start(caller.data(), argument)
    })?;
    Ok(())
}

/// Defines the shared memories that `module` imports, of `limit` bytes at most.
///
/// # Errors
/// When the module has no function for a thread to begin with, or needs more memory.
pub fn add_memories(
    linker: &mut Linker<CoreState>,
    module: &Module,
    limit: Option<usize>,
) -> wasmtime::Result<()> {
    if spawns(module) {
        check_start(module)?;
    }
    for import in module.imports() {
        let ExternType::Memory(ty) = import.ty() else { continue };
        if ty.is_shared() {
            let memory = SharedMemory::new(module.engine(), bounded(&ty, limit)?)?;
            // It belongs to no store, but the linker wants to see one.
            let none = Store::new(module.engine(), CoreState::default());
            linker.define(&none, import.module(), import.name(), memory)?;
        }
    }
    Ok(())
}

fn check_start(module: &Module) -> wasmtime::Result<()> {
    match module.get_export(START) {
        Some(ExternType::Func(ty))
            if ty.params().len() == 2
                && ty.params().all(|param| matches!(param, ValType::I32))
                && ty.results().len() == 0 =>
        {
            Ok(())
        }
        _ => wasmtime::bail!(
            "it imports `thread-spawn` and exports no function `{START}` that takes (i32, i32)"
        ),
    }
}

/// No limiter of a store sees shared memory grow, so it is bounded by its type.
fn bounded(ty: &MemoryType, limit: Option<usize>) -> wasmtime::Result<MemoryType> {
    let pages = limit.map_or(u64::MAX, |limit| limit as u64 / ty.page_size());
    if ty.minimum() > pages {
        let needed = ty.minimum().saturating_mul(ty.page_size());
        wasmtime::bail!("it needs {needed} bytes of memory to begin with, more than it may have");
    }
    let most = ty.maximum().unwrap_or(ty.minimum()).min(pages);
    let size = |pages: u64| u32::try_from(pages);
    Ok(MemoryType::shared(size(ty.minimum())?, size(most)?))
}

impl Threads {
    /// For the program that `instance` is an instance of.
    pub fn new(name: &str, instance: &InstancePre<CoreState>) -> Arc<Self> {
        let (name, instance) = (name.to_owned(), instance.clone());
        Arc::new(Self { name, instance, next: AtomicI32::new(1) })
    }

    /// Starts a thread beside that of `state`, and returns its id, or a negative number.
    fn start(state: &CoreState, argument: i32) -> i32 {
        let (Some(threads), Some(wasi)) = (state.threads.clone(), state.wasi.clone()) else {
            return FAILED;
        };
        let id = threads.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| {
            (id <= MOST).then_some(id + 1)
        });
        let Ok(id) = id else { return FAILED };
        let limits = state.limits.share();
        let body = move || threads.run(id, argument, wasi, limits);
        thread::Builder::new().spawn(body).map_or(FAILED, |_| id)
    }

    /// The thread's whole life. A trap and an exit end the process, with all other threads.
    fn run(self: Arc<Self>, id: i32, argument: i32, wasi: Host, limits: Budget) {
        let threads = Some(self.clone());
        let state = CoreState { wasi: Some(wasi), unstable: None, limits, threads };
        let mut store = store(self.instance.module().engine(), state, |state| &mut state.limits);
        let ended = in_place(async {
            let instance = self.instance.instantiate_async(&mut store).await?;
            let start = instance.get_typed_func::<(i32, i32), ()>(&mut store, START)?;
            start.call_async(&mut store, (id, argument)).await
        });
        if let Err(error) = ended {
            exit(exit_code(&self.name, &error));
        }
    }
}
