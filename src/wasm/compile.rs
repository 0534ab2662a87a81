//! Compiling untrusted wasm in a child process that can do nothing else.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid};
use wasmparser::{Parser, Payload};
use wasmtime::Engine;

use super::engine::{Profile, for_compiling};
use crate::config::Compile;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::identity;
use crate::sys::pidfd::PidFd;
use crate::sys::signals::pending_end;

/// The hidden command that runs [`child`].
pub const COMMAND: &str = "compile-module";

/// The largest artefact, in bytes.
const ARTEFACT: u64 = 4 << 30;
/// The most characters of the compiler's message that are shown.
const MAX_MESSAGE: usize = 2000;
/// The user and group that compile when root asks: nobody.
const NOBODY: u32 = 65534;
/// A directory that every host has; the compiler's own mounts cover it.
const EMPTY: &str = "/proc";

/// Told every second how long the compilation of a module, by its name, has taken so far.
pub type Progress = fn(&str, Duration);

/// How often [`Progress`] is made.
const TICK: Duration = Duration::from_secs(1);

/// Compiles the wasm in `module` and writes the machine code to `artefact`, within `limits`.
/// `name` is for messages.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when the module is invalid or exceeds the limits; the text is
/// the compiler's.
pub fn compile(
    module: &File,
    artefact: &File,
    name: &str,
    limits: &Compile,
    progress: Progress,
) -> Result<()> {
    log::info!("compiling {name}");
    let cores = limits.cores();
    let mut child = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .arg(limits.memory.0.to_string())
        .arg(limits.timeout.saturating_mul(cores as u64).to_string())
        .env_clear()
        .env("RAYON_NUM_THREADS", cores.to_string())
        .stdin(Stdio::from(module.try_clone().os(|| "share the module")?))
        .stdout(Stdio::from(artefact.try_clone().os(|| "share the artefact")?))
        .stderr(Stdio::piped())
        .spawn()
        .os(|| "start the compiler process")?;
    let handle = PidFd::open(child.id() as i32).os(|| "watch the compiler process")?;
    let ended = wait(&handle, Duration::from_secs(limits.timeout), |elapsed| {
        progress(name, elapsed);
    })?;
    if ended != Ended::ByItself {
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
    if let Ended::Interrupted(signal) = ended {
        return Err(Error::os(format!("compiling {name} was interrupted by {signal}")));
    }
    let out_of_time = ended == Ended::OutOfTime || status.signal() == Some(Signal::SIGXCPU as i32);
    let reason = match message.trim() {
        _ if out_of_time => {
            format!("it takes longer than {} seconds (compile.timeout)", limits.timeout)
        }
        // The standard library's words when an allocation fails.
        text if text.contains("memory allocation of") => {
            format!("it takes more than {} bytes of memory (compile.memory)", limits.memory.0)
        }
        "" => format!("the compiler process ended with {status}"),
        text => text.to_owned(),
    };
    Err(Error::invalid(format!("{name} cannot be compiled: {reason}")))
}

/// How a compilation came to its end.
#[derive(PartialEq, Eq)]
enum Ended {
    ByItself,
    OutOfTime,
    /// By a signal to this process, which `run` in the foreground holds back.
    Interrupted(Signal),
}

/// Waits until the process ends, at most for `limit`.
fn wait(process: &PidFd, limit: Duration, mut progress: impl FnMut(Duration)) -> Result<Ended> {
    let start = Instant::now();
    loop {
        let left = limit.saturating_sub(start.elapsed());
        if process.wait_end(Some(left.min(TICK))).os(|| "wait for the compiler process")? {
            return Ok(Ended::ByItself);
        }
        if left.is_zero() {
            return Ok(Ended::OutOfTime);
        }
        if let Some(signal) = pending_end() {
            return Ok(Ended::Interrupted(signal));
        }
        progress(start.elapsed());
    }
}

/// The child's whole life: confines itself to `memory` bytes and `time` seconds of processor time,
/// reads wasm from standard input, writes machine code to standard output.
///
/// # Errors
/// When it cannot confine itself, or the input is not valid.
pub fn child(memory: u64, time: u64) -> Result<()> {
    confine(memory, time)?;
    let mut wasm = Vec::new();
    std::io::stdin().lock().read_to_end(&mut wasm).os(|| "read the module")?;
    let engine = for_compiling(profile(&wasm))?;
    let code = translate(&engine, &wasm)?;
    let mut output = File::from(
        std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned().os(|| "stdout")?,
    );
    output.write_all(&code).os(|| "write the compiled module")
}

/// What the machine code of `wasm` must be able to do, from the names that it imports and exports.
/// A name in a module, or in what is no wasm at all, has no such meaning.
pub(super) fn profile(wasm: &[u8]) -> Profile {
    let mut profile = Profile::Plain;
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm).map_while(|payload| payload.ok()) {
        let names: Vec<&str> = match payload {
            // The sections of components within are not its own.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                continue;
            }
            Payload::End(_) => {
                depth -= 1;
                continue;
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                section.into_iter().flatten().map(|import| import.name.name).collect()
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                section.into_iter().flatten().map(|export| export.name.name).collect()
            }
            _ => continue,
        };
        if names.iter().any(|name| name.starts_with("wasi:") && name.contains("@0.3.")) {
            return Profile::Concurrent;
        }
        if names.iter().any(|name| name.starts_with("wasi:http/incoming-handler@")) {
            profile = Profile::Interruptible;
        }
    }
    profile
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
fn confine(memory: u64, time: u64) -> Result<()> {
    // Compilation is a burst: it yields to everything else on the node.
    setrlimit(Resource::RLIMIT_AS, memory, memory).os(|| "limit the compiler's memory")?;
    setrlimit(Resource::RLIMIT_FSIZE, ARTEFACT, ARTEFACT).os(|| "limit the artefact's size")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).os(|| "disable core dumps")?;
    setrlimit(Resource::RLIMIT_CPU, time, time).os(|| "limit the compiler's time")?;
    crate::sys::priority::lower();
    crate::sys::descriptors::close_from(std::io::stderr().as_raw_fd() + 1, &[])
        .os(|| "close descriptors")?;
    if identity::is_host_root() {
        let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS;
        unshare(spaces).os(|| "leave the network")?;
        leave_files()?;
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

/// Leaves the host's files for an empty directory, in a mount namespace of our own.
fn leave_files() -> Result<()> {
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).os(|| "make mounts private")?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), EMPTY, Some("tmpfs"), flags, none).os(|| "mount an empty directory")?;
    chdir(EMPTY).and_then(|()| chroot(".")).os(|| "leave the host's files")
}
