//! What containerd runs the shim's binary for, besides the shim itself: `start`, `delete` and
//! `-info`.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use containerd_shim::api::DeleteResponse;
use containerd_shim::cgroup::set_cgroup_and_oom_score;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use containerd_shim::{Flags, StartOpts};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::shim::bootstrap::{self, Environment};
use crate::shim::options::Options;
use crate::shim::reaper::Reaper;
use crate::shim::runtime::{self, Runtime, Subject};
use crate::shim::wire::to_timestamp;
use crate::shim::{RUNTIME, group, mount, orphans, socket_path};

/// The longest message that containerd sends on standard input.
const MAX_INPUT: u64 = 10 << 20;

/// The file in the bundle from which containerd and `delete` learn the shim's address.
const ADDRESS_FILE: &str = "address";

/// The exit code of a container whose shim is gone: nobody saw the real one.
const KILLED: u32 = 137;

/// Starts a shim for the bundle in the working directory, or finds the one of its group. Returns
/// the answer to containerd.
pub fn start(flags: &Flags) -> Result<Vec<u8>> {
    let (opts, reply) = bootstrap::read(&read_input()?, flags, Environment::read())?;
    let bundle = working_directory()?;
    let options = Options::from_extensions(&opts.extensions)?;
    let address = opts.socket_address(&group::of_bundle(&bundle, &opts.id)?);
    if let Some(listener) = claim(Path::new(socket_path(&address)))? {
        let served = spawn_server(&opts, &options, &bundle, &address, listener);
        if served.is_err() {
            // Nobody serves it.
            drop(std::fs::remove_file(socket_path(&address)));
        }
        served?;
    }
    let file = bundle.join(ADDRESS_FILE);
    std::fs::write(&file, &address).os(|| format!("write {}", file.display()))?;
    bootstrap::answer(&address, reply)
}

/// Listens at `socket`, unless a living shim does.
fn claim(socket: &Path) -> Result<Option<UnixListener>> {
    if let Some(parent) = socket.parent() {
        std::fs::create_dir_all(parent).os(|| format!("create {}", parent.display()))?;
    }
    let listener = match UnixListener::bind(socket) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            if UnixStream::connect(socket).is_ok() {
                return Ok(None);
            }
            // A dead shim has left it.
            drop(std::fs::remove_file(socket));
            UnixListener::bind(socket)
        }
        bound => bound,
    };
    let listener = listener.os(|| format!("listen at {}", socket.display()))?;
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600))
        .os(|| format!("change the mode of {}", socket.display()))?;
    Ok(Some(listener))
}

/// Starts the shim process and waits until it serves.
fn spawn_server(
    opts: &StartOpts,
    options: &Options,
    bundle: &Path,
    address: &str,
    listener: UnixListener,
) -> Result<()> {
    let shim = std::env::current_exe().os(|| "find the shim's own binary")?;
    let (mut output, writer) = std::io::pipe().os(|| "make a pipe")?;
    let mut command = Command::new(shim);
    command
        .args(["-namespace", &opts.namespace, "-id", &opts.id, "-address", &opts.address])
        .args(["-socket", address])
        .args(opts.debug.then_some("-debug"))
        .env("TTRPC_ADDRESS", &opts.ttrpc_address)
        .current_dir(bundle)
        .stdin(std::os::fd::OwnedFd::from(listener))
        .stdout(writer.try_clone().os(|| "share a pipe")?)
        .stderr(writer)
        // The signals of a terminal are for whoever started containerd.
        .process_group(0);
    let mut server = command.spawn().os(|| "start the shim")?;
    // It holds the listener, and the pipe whose end is awaited.
    drop(command);
    let confined = set_cgroup_and_oom_score(server.id(), &options.shim_cgroup)
        .os(|| "put the shim into its cgroup");
    let mut said = String::new();
    let heard = output.read_to_string(&mut said).os(|| "listen to the shim");
    let served = match said.trim() {
        "" => confined.and(heard.map(drop)),
        error => Err(Error::os(error.strip_prefix("containerd-shim-wasm-v1: ").unwrap_or(error))),
    };
    if served.is_err() {
        // It may have ended by itself.
        drop(server.kill());
        drop(server.wait());
    }
    served
}

/// Cleans up after a shim that died with the container of the bundle. Returns the answer.
pub fn delete(flags: &Flags) -> Result<Vec<u8>> {
    let bundle = match flags.bundle.as_str() {
        "" => working_directory()?,
        bundle => bundle.into(),
    };
    // containerd comes here after an orderly end as well, and waits.
    if let Some(options) = Options::load(&bundle)? {
        clean_up(flags, &bundle, &options)?;
    }
    remove_dead_socket(&bundle);
    let pid = std::fs::read_to_string(bundle.join("init.pid")).ok();
    let response = DeleteResponse {
        pid: pid.and_then(|pid| pid.trim().parse().ok()).unwrap_or_default(),
        exit_status: KILLED,
        exited_at: Some(to_timestamp(SystemTime::now())).into(),
        ..Default::default()
    };
    response.write_to_bytes().os(|| "encode the answer to containerd")
}

/// Removes the container, with what a killed shim may have left half done.
fn clean_up(flags: &Flags, bundle: &Path, options: &Options) -> Result<()> {
    orphans::settle(bundle);
    let subject =
        Subject { namespace: &flags.namespace, id: &flags.id, bundle, debug: flags.debug };
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .os(|| "start the Tokio runtime")?;
    tokio.block_on(async {
        let runtime = Runtime::new(&subject, options, Reaper::start()?);
        let deleted = runtime.delete().await;
        // Tried even if the step before it failed.
        let unmounted = mount::unmount_all(bundle.join("rootfs")).await;
        deleted.and(unmounted)
    })?;
    Options::forget(bundle);
    Ok(())
}

/// Removes the shim's socket, unless the shim lives: in a group it serves others.
fn remove_dead_socket(bundle: &Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join(ADDRESS_FILE)) else { return };
    let socket = socket_path(address.trim());
    if UnixStream::connect(socket).is_err() {
        // Most often it is gone.
        drop(std::fs::remove_file(socket));
    }
}

/// Describes the runtime to containerd 2 and Docker. Returns the answer.
pub fn info() -> Result<Vec<u8>> {
    let input = read_input()?;
    let options = Any::parse_from_bytes(&input)
        .context(ErrorKind::InvalidArgument, || "standard input holds no runtime options")?;
    let binary = runtime::binary(&Options::from_any(Some(&options))?.binary_name);
    let features = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".into(),
        value: runtime::ask(binary.as_os_str(), "features")?,
        ..Default::default()
    };
    let version =
        RuntimeVersion { version: env!("CARGO_PKG_VERSION").into(), ..Default::default() };
    let info = RuntimeInfo {
        name: RUNTIME.into(),
        version: Some(version).into(),
        options: Some(options).filter(|options| !options.type_url.is_empty()).into(),
        features: Some(features).into(),
        ..Default::default()
    };
    info.write_to_bytes().os(|| "encode the answer to containerd")
}

fn working_directory() -> Result<PathBuf> {
    std::env::current_dir().os(|| "find the working directory")
}

/// What containerd has written to standard input; nothing if that is a terminal.
fn read_input() -> Result<Vec<u8>> {
    let stdin = std::io::stdin();
    let mut input = Vec::new();
    if !std::io::IsTerminal::is_terminal(&stdin) {
        stdin.take(MAX_INPUT).read_to_end(&mut input).os(|| "read standard input")?;
    }
    Ok(input)
}
