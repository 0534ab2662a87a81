//! Compiling untrusted wasm in a child process that can do nothing else.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use wasmtime::Engine;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::identity;
use crate::sys::pidfd::PidFd;

/// The hidden command that runs [`child`].
pub const COMMAND: &str = "compile-module";

/// The longest a compilation may take. A 69 MB module takes under a minute on two cores.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The most memory, as address space in bytes, that a compilation may use.
const MEMORY: u64 = 8 << 30;
/// The largest artefact, in bytes.
const ARTEFACT: u64 = 4 << 30;
/// The most characters of the compiler's message that are shown.
const MAX_MESSAGE: usize = 2000;
/// The user and group that compile when root asks: nobody.
const NOBODY: u32 = 65534;

/// Compiles the wasm in `module` and writes the machine code to `artefact`. `name` is for
/// messages.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when the module is invalid or exceeds the limits; the text is
/// the compiler's.
pub fn compile(module: &File, artefact: &File, name: &str) -> Result<()> {
    log::info!("compiling {name}");
    let mut child = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .env_clear()
        .env("RAYON_NUM_THREADS", threads().to_string())
        .stdin(Stdio::from(module.try_clone().os(|| "share the module")?))
        .stdout(Stdio::from(artefact.try_clone().os(|| "share the artefact")?))
        .stderr(Stdio::piped())
        .spawn()
        .os(|| "start the compiler process")?;
    let handle = PidFd::open(child.id() as i32).os(|| "watch the compiler process")?;
    let ended = handle.wait_end(Some(TIMEOUT)).os(|| "wait for the compiler process")?;
    if !ended {
        handle.kill().os(|| "stop the compiler process")?;
    }
    let status = child.wait().os(|| "wait for the compiler process")?;
    if status.success() {
        return Ok(());
    }
    let mut message = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        // What the child managed to say is all there is; a read error adds nothing.
        let _ = stderr.read_to_string(&mut message);
    }
    let reason = match message.trim() {
        _ if !ended => format!("compiling took longer than {} seconds", TIMEOUT.as_secs()),
        "" => format!("the compiler process ended with {status}"),
        text => text.to_owned(),
    };
    Err(Error::invalid(format!("{name} cannot be compiled: {reason}")))
}

/// Half the cores, so that a burst of new modules does not starve the node.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// The child's whole life: confines itself, reads wasm from standard input, writes machine code
/// to standard output.
///
/// # Errors
/// When it cannot confine itself, or the input is not valid.
pub fn child() -> Result<()> {
    confine()?;
    let mut wasm = Vec::new();
    std::io::stdin().lock().read_to_end(&mut wasm).os(|| "read the module")?;
    let engine = super::engine::for_compiling()?;
    let code = translate(&engine, &wasm)?;
    let mut output = File::from(
        std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned().os(|| "stdout")?,
    );
    output.write_all(&code).os(|| "write the compiled module")
}

fn translate(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>> {
    let code = match wasm.get(4..8) {
        Some([_, _, 1, _]) => engine.precompile_component(wasm),
        _ => engine.precompile_module(wasm),
    };
    // The alternate form prints the chain of causes on one line; some span several.
    code.map_err(|error| {
        // It may quote names of any length, and the pipe to the parent holds 64 KiB.
        let text = format!("{error:#}");
        let words: Vec<_> = text.split_whitespace().collect();
        Error::invalid(words.join(" ").chars().take(MAX_MESSAGE).collect::<String>())
    })
}

/// Gives up what a bug in the compiler could be used for: the network, capabilities, the user,
/// new privileges, and memory, file size and processor time without bound.
fn confine() -> Result<()> {
    // Compilation is a burst: it yields to everything else on the node.
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).os(|| "limit the compiler's memory")?;
    setrlimit(Resource::RLIMIT_FSIZE, ARTEFACT, ARTEFACT).os(|| "limit the artefact's size")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).os(|| "disable core dumps")?;
    let seconds = TIMEOUT.as_secs() * threads() as u64;
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds).os(|| "limit the compiler's time")?;
    crate::sys::priority::lower();
    crate::sys::descriptors::close_from(std::io::stderr().as_raw_fd() + 1, &[])
        .os(|| "close descriptors")?;
    if identity::is_host_root() {
        let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS;
        unshare(spaces).os(|| "leave the network")?;
        setgroups(&[]).os(|| "drop groups")?;
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setresgid(gid, gid, gid).os(|| "change group")?;
        setresuid(uid, uid, uid).os(|| "change user")?;
    } else {
        // Unprivileged users may leave the network only through a user namespace, which some
        // hosts forbid; the other limits hold all the same.
        let _ = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET);
    }
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
        caps::clear(None, set).context(ErrorKind::Os, || "drop capabilities")?;
    }
    nix::sys::prctl::set_no_new_privs().os(|| "forbid new privileges")?;
    // Nobody wants the result of a compilation whose `create` was killed. A change of user clears
    // this, so it comes last.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).os(|| "end with the parent process")
}
