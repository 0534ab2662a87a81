//! Running a prepared program to its end, in the process that is the container.

use std::path::Path;
use std::pin::pin;
use std::task::{Context as Turn, Poll, Waker};

use tokio::runtime::{Builder, Runtime};
use wasmtime::InstancePre;
use wasmtime::component::{Accessor, ResourceTable};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};
use wasmtime_wasi_http::WasiHttpCtx;

use super::call::Call;
use super::http;
use super::limits::Budget;
use super::module::{ComponentState, CoreState, Prepared, Program, store};
use super::p1::listeners::{Listeners, VARIABLES};
use super::p1::{Host, STANDARD};
use super::stdio::{Input, Output};
use super::threads::Threads;
use crate::config;
use crate::error::{Context, Result};
use crate::oci::guest::{Guest, preopens};
use crate::sys::descriptors::close_abandoned;

/// The exit code of a trap: 128 + SIGABRT, as the `wasmtime` command uses it.
pub const TRAP: i32 = 134;

/// Instantiates `prepared` with the view `guest` has, calls it, and returns its exit code: what
/// it passed to `proc_exit`, 0 after a normal return, 1 when `wasi:cli/run` returns an error,
/// [`TRAP`] after a trap, whose message and wasm backtrace go to standard error. A server serves
/// until a signal ends it. `listeners` are for modules of WASI 0.1.
///
/// Must run inside the container, in a process without other threads; it opens the preopened
/// directories and seeds the random source here, so nothing is shared with other containers.
/// `prepared` must neither be run again nor dropped: its descriptors are closed.
///
/// # Errors
/// When the guest's view cannot be set up: a directory or a standard stream cannot be opened, an
/// address is taken.
pub fn run(
    prepared: &Prepared,
    guest: &Guest,
    http: &config::Http,
    listeners: &Listeners,
) -> Result<i32> {
    let closing = || close_abandoned(&prepared.descriptors);
    let ended = match &*prepared.program {
        Program::Server(server) => return http::serve(prepared, server, guest, http),
        Program::Core { instance, calls, unstable, threads } => {
            let mut state = core_state(guest, listeners, *unstable)?;
            state.threads = threads.then(|| Threads::new(&prepared.name, instance));
            // Each thread is an instance more.
            let closing = || {
                if !threads {
                    closing()
                }
            };
            let running = call_module(instance, calls, state, closing);
            match unstable {
                true => event_loop()?.block_on(running),
                false => in_place(running),
            }
        }
        Program::Command(command) => {
            let state = component_state(guest, Budget::new(guest.memory))?;
            event_loop()?.block_on(async {
                let mut store = store(command.engine(), state, |state| &mut state.limits);
                let command = command.instantiate_async(&mut store).await?;
                closing();
                let result = command.wasi_cli_run().call_run(&mut store).await?;
                Ok(i32::from(result.is_err()))
            })
        }
        Program::ConcurrentCommand(command) => {
            let state = component_state(guest, Budget::new(guest.memory))?;
            event_loop()?.block_on(async {
                let mut store = store(command.engine(), state, |state| &mut state.limits);
                let command = command.instantiate_async(&mut store).await?;
                closing();
                let run = async |store: &Accessor<_>| command.wasi_cli_run().call_run(store).await;
                let result = store.run_concurrent(run).await??;
                Ok(i32::from(result.is_err()))
            })
        }
    };
    Ok(ended.unwrap_or_else(|error: wasmtime::Error| exit_code(&prepared.name, &error)))
}

/// Runs a guest to its end without an event loop: all calls of our own host wait in place. Only the
/// garbage collector stops in between, to let others go on, of which there are none.
pub(super) fn in_place<T>(guest: impl Future<Output = T>) -> T {
    let mut guest = pin!(guest);
    let mut turn = Turn::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(ended) = guest.as_mut().poll(&mut turn) {
            return ended;
        }
    }
}

fn event_loop() -> Result<Runtime> {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_io().enable_time().build().os(|| "start the event loop")
}

async fn call_module(
    instance: &InstancePre<CoreState>,
    calls: &[Call],
    state: CoreState,
    closing: impl FnOnce(),
) -> wasmtime::Result<i32> {
    let mut store = store(instance.module().engine(), state, |state| &mut state.limits);
    let instance = instance.instantiate_async(&mut store).await?;
    closing();
    for call in calls {
        call.run(&mut store, &instance).await?;
    }
    Ok(0)
}

fn core_state(guest: &Guest, listeners: &Listeners, unstable: bool) -> Result<CoreState> {
    let mut guest = guest.clone();
    let listens = !listeners.sockets.is_empty();
    guest.env.retain(|(name, _)| !listens || !VARIABLES.contains(&name.as_str()));
    let (mut wasi, directories) = context(&guest)?;
    if listens {
        let first = STANDARD + if listeners.first { 0 } else { directories };
        for (name, value) in listeners.variables(first) {
            wasi.env(name, value);
        }
    }
    let unstable = if unstable { Some(context(&guest)?.0.build_p1()) } else { None };
    let wasi = Some(Host::new(wasi.build_p1(), directories, listeners));
    Ok(CoreState { wasi, unstable, limits: Budget::new(guest.memory), threads: None })
}

/// What the store of a component holds for a guest with this view.
///
/// # Errors
/// When a directory cannot be opened.
pub(super) fn component_state(guest: &Guest, limits: Budget) -> Result<ComponentState> {
    let (wasi, table) = (context(guest)?.0.build(), ResourceTable::new());
    Ok(ComponentState { wasi, table, limits, http: WasiHttpCtx::new() })
}

/// What the process ends with after `error`, which is printed if it is none of the guest's wishes.
pub(super) fn exit_code(name: &str, error: &wasmtime::Error) -> i32 {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return *code;
    }
    // The debug form holds the message, the causes and the wasm backtrace.
    eprintln!("{name}: {error:?}");
    TRAP
}

/// The guest's view, and how many directories it has.
fn context(guest: &Guest) -> Result<(WasiCtxBuilder, u32)> {
    let mut directories = 0;
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(&guest.args)
        .envs(&guest.env)
        .initial_cwd(guest.cwd.to_string_lossy())
        .stdin(Input::default())
        .stdout(Output::Stdout)
        .stderr(Output::Stderr)
        // One guest, one thread: a call that blocks holds up nobody else.
        .allow_blocking_current_thread(true)
        .inherit_network()
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(true);
    for (path, name) in preopens(&guest.cwd, directories_of_root(guest)) {
        // Read-only mounts are the kernel's to enforce, for each mount by itself.
        let opened = wasi.preopened_dir(&path, &name, FsPerms::ReadWrite);
        match opened {
            Ok(_) => directories += 1,
            // A directory that this user may not enter is simply not there, except the two that
            // a program cannot do without.
            Err(_) if name != "/" && name != "." => {}
            Err(error) => {
                return Err(error).os(|| format!("open {} for the guest", path.display()));
            }
        }
    }
    Ok((wasi, directories))
}

/// The names of the directories in `/`, wanted only when the working directory is another.
fn directories_of_root(guest: &Guest) -> Vec<String> {
    if guest.cwd == Path::new("/") {
        return Vec::new();
    }
    let entries = std::fs::read_dir("/").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
