//! From a wasm file to something ready to start: compiled or from the cache, mapped, checked and
//! linked. No guest code runs here.

use std::fs::File;
use std::os::fd::RawFd;
use std::sync::Arc;

use wasmtime::component::{
    Component, InstancePre as ComponentInstancePre, Linker as ComponentLinker, ResourceTable,
};
use wasmtime::{Engine, InstancePre, Linker, Module, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p3::bindings::CommandPre as ConcurrentCommandPre;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre as HandlerPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::cache::Cache;
use super::call::{Call, plan};
use super::compile::Progress;
use super::engine::{self, Profile};
use super::inspect::worlds::world_of;
use super::limits::Budget;
use super::memory_file;
use super::p1::{self, Host};
use super::threads::{self, Threads};
use crate::config::Config;
use crate::error::{Context, ErrorKind, Result};
use crate::oci::guest::Guest;
use crate::oci::rootfs::head;
use crate::oci::wasm_file::{self, Format};
use crate::oci::workload::WasmFile;
use crate::sys::{artefact, descriptors};

/// What follows `\0asm` in a component; text may be of either kind.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
/// The import name of WASI 0.1's predecessor.
const UNSTABLE: &str = "wasi_unstable";
/// The import name of WASI 0.1.
const STABLE: &str = "wasi_snapshot_preview1";

/// What a store of a core module holds: the default is for one in which nothing runs. Hosts are
/// made in the container's own process, since they have the random source.
#[derive(Default)]
pub struct CoreState {
    /// The WASI 0.1 host.
    pub wasi: Option<Host>,
    /// The host of its predecessor, with descriptors of its own; see [`Program::Core`].
    pub unstable: Option<WasiP1Ctx>,
    /// What it takes to start threads, if it may.
    pub threads: Option<Arc<Threads>>,
    /// Bounds memory.
    pub limits: Budget,
}

/// What a store of a component holds.
pub struct ComponentState {
    /// The WASI 0.2 host.
    pub wasi: WasiCtx,
    /// The host's resources that the guest holds handles to.
    pub table: ResourceTable,
    /// Bounds memory.
    pub limits: Budget,
    /// The host of outgoing and incoming HTTP.
    pub http: WasiHttpCtx,
}

impl WasiHttpView for ComponentState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let hooks = Default::default();
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks }
    }
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A wasm program that only needs to be instantiated and called.
#[derive(Clone)]
pub struct Prepared {
    /// Its path inside the container, for messages.
    pub name: String,
    /// What to instantiate and call.
    pub program: Arc<Program>,
    /// The descriptors by which wasmtime maps initial memory when it instantiates. They must stay
    /// open until then, and may be closed after.
    pub descriptors: Vec<RawFd>,
}

/// What to instantiate and call.
pub enum Program {
    /// A core module.
    Core {
        /// The linked module.
        instance: InstancePre<CoreState>,
        /// What to call, in this order.
        calls: Vec<Call>,
        /// Whether it imports WASI 0.1's predecessor.
        unstable: bool,
        /// Whether it shares memory between threads.
        threads: bool,
    },
    /// A component that exports `wasi:cli/run` of WASI 0.2.
    Command(CommandPre<ComponentState>),
    /// A component that exports `wasi:cli/run` of WASI 0.3.
    ConcurrentCommand(ConcurrentCommandPre<ComponentState>),
    /// A component that exports a handler of `wasi:http`.
    Server(ProxyPre<ComponentState>),
}

/// Compiles or loads `file`, checks it and links it for `guest`, whose arguments an export that is
/// called may take; `progress` is told how long a compilation takes.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming the file: not valid wasm, an import that nothing
/// provides, no `_start` or no export of the name asked for, or one that takes other arguments.
pub fn prepare(
    file: &WasmFile,
    guest: &Guest,
    config: &Config,
    progress: Progress,
) -> Result<Prepared> {
    let name = file.path.display().to_string();
    let (code, descriptors) = load(file, &name, config, progress)?;
    let program = match code {
        Code::Module(module) => link_module(&module, file.export.as_deref(), guest, config),
        Code::Component(component) => link_component(&component, file),
    };
    let program =
        program.context(ErrorKind::InvalidArgument, || format!("{name} cannot be run"))?;
    Ok(Prepared { name, program: Arc::new(program), descriptors })
}

/// Compiles `file` unless the cache has it.
///
/// # Errors
/// As [`prepare`], except that what it imports and exports does not matter.
pub fn compile_into_cache(file: &WasmFile, config: &Config, progress: Progress) -> Result<()> {
    let name = file.path.display().to_string();
    load(file, &name, config, progress).map(drop)
}

/// Machine code that is loaded, and not linked.
enum Code {
    Module(Module),
    Component(Component),
}

/// Loads the machine code of `file`, with the descriptors that belong to it.
fn load(
    file: &WasmFile,
    name: &str,
    config: &Config,
    progress: Progress,
) -> Result<(Code, Vec<RawFd>)> {
    let wasm = binary(file, name)?;
    let is_component = head::<8>(&wasm).is_ok_and(|head| head.get(4..) == Some(&COMPONENT));
    Cache::open(config, progress).load(&wasm, name, |artefact| {
        let code = match is_component {
            true => Code::Component(map_component(artefact)?),
            false => {
                let engine = engine::for_running(Profile::Plain, config.guest.threads)?;
                Code::Module(artefact::map_module(&engine, artefact)?)
            }
        };
        Ok((code, descriptors::others_of(artefact)?))
    })
}

/// Maps a component with the engine it was compiled for: only that one takes it.
fn map_component(artefact: &File) -> wasmtime::Result<Component> {
    let [first, rest @ ..] = Profile::ALL;
    let map = |profile| artefact::map_component(&engine::for_running(profile, false)?, artefact);
    map(first).or_else(|error| rest.into_iter().find_map(|profile| map(profile).ok()).ok_or(error))
}

fn binary(file: &WasmFile, name: &str) -> Result<File> {
    if file.format != Format::Text {
        return file.file.try_clone().os(|| format!("open {name}"));
    }
    wasm_file::text_to_binary(&file.file)
        .and_then(|bytes| memory_file::holding(&bytes))
        .context(ErrorKind::InvalidArgument, || format!("{name} is not valid text"))
}

fn link_module(
    module: &Module,
    export: Option<&str>,
    guest: &Guest,
    config: &Config,
) -> wasmtime::Result<Program> {
    let threads = threads::are_used(module);
    if threads && !config.guest.threads {
        wasmtime::bail!(
            "it uses threads, which the setting guest.threads or the annotation \
             runwasm.guest.threads has to allow"
        );
    }
    let names: Vec<_> = module.imports().map(|import| import.module()).collect();
    let mut linker = module_linker(module.engine(), &names)?;
    threads::add_memories(&mut linker, module, guest.memory)?;
    let instance = linker.instantiate_pre(module).map_err(|error| match foreign(module) {
        Some(world) => error.context(format!("it imports from {world}")),
        None => error,
    })?;
    let calls = plan(module, export, guest.args.get(1..).unwrap_or_default())?;
    Ok(Program::Core { instance, calls, unstable: names.contains(&UNSTABLE), threads })
}

/// Who has what `module` imports, if not WASI.
fn foreign(module: &Module) -> Option<String> {
    let mut imports = module.imports();
    let import = imports.find(|import| ![STABLE, UNSTABLE].contains(&import.module()))?;
    Some(world_of(import.module(), import.name(), false))
}

/// What a core module that imports from `modules` can import, besides memories.
pub(super) fn module_linker(
    engine: &Engine,
    modules: &[&str],
) -> wasmtime::Result<Linker<CoreState>> {
    let mut linker: Linker<CoreState> = Linker::new(engine);
    p1::add_to_linker(&mut linker, |state| state.wasi.get_or_insert_with(Host::blank))?;
    threads::add_to_linker(&mut linker)?;
    if modules.contains(&UNSTABLE) {
        wasmtime_wasi::p0::add_to_linker_async(&mut linker, |state| {
            state.unstable.get_or_insert_with(|| WasiCtx::builder().build_p1())
        })?;
    }
    // wasmtime's traps for 126 and above, and in a module that exports no memory.
    linker.allow_shadowing(true);
    for wasi in [STABLE, UNSTABLE] {
        linker.func_wrap(wasi, "proc_exit", proc_exit)?;
    }
    Ok(linker)
}

/// Ends the program with the low eight bits of `code`, as exit(2) does.
fn proc_exit(code: i32) -> wasmtime::Result<()> {
    Err(I32Exit(code & 0xff).into())
}

fn link_component(component: &Component, file: &WasmFile) -> wasmtime::Result<Program> {
    if let Some(export) = &file.export {
        wasmtime::bail!("`#{export}` names an export of a core module, and this is a component");
    }
    let engine = component.engine();
    let ty = component.component_type();
    let imports: Vec<_> = ty.imports(engine).map(|(name, _)| name).collect();
    let instance = component_linker(engine, &imports)?.instantiate_pre(component)?;
    program_of(instance).ok_or_else(|| {
        let exports: Vec<_> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        wasmtime::format_err!(
            "it exports neither wasi:cli/run nor a handler of wasi:http; its exports: {}",
            if exports.is_empty() { "none".to_owned() } else { exports.join(", ") }
        )
    })
}

/// What a component that imports `names` can import.
pub(super) fn component_linker(
    engine: &Engine,
    names: &[&str],
) -> wasmtime::Result<ComponentLinker<ComponentState>> {
    let concurrent = names.iter().any(|name| name.starts_with("wasi:") && name.contains("@0.3."));
    let mut linker: ComponentLinker<ComponentState> = ComponentLinker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    if concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    }
    if names.iter().any(|name| name.starts_with("wasi:http/")) {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        if concurrent {
            wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        }
    }
    Ok(linker)
}

/// What to do with a component, by what it exports. One that is both a server and a command is a
/// server, as in runwasi.
fn program_of(instance: ComponentInstancePre<ComponentState>) -> Option<Program> {
    let service = ServicePre::new(instance.clone()).map(ProxyPre::P3).map(Program::Server);
    let server = || HandlerPre::new(instance.clone()).map(ProxyPre::P2).map(Program::Server);
    let concurrent = || ConcurrentCommandPre::new(instance.clone()).map(Program::ConcurrentCommand);
    let command = || CommandPre::new(instance.clone()).map(Program::Command);
    service.or_else(|_| server()).or_else(|_| concurrent()).or_else(|_| command()).ok()
}

/// A store whose memory stays within `limits`.
pub(super) fn store<T: 'static>(
    engine: &Engine,
    state: T,
    limits: fn(&mut T) -> &mut Budget,
) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.limiter(move |state| limits(state));
    // Only servers count epochs; the code of all others never looks.
    store.set_epoch_deadline(u64::MAX);
    store
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("name", &self.name).finish_non_exhaustive()
    }
}
