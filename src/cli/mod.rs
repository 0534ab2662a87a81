//! The command line of runc, one file a command.

mod args;
mod cache;
mod create;
mod events;
mod exec;
mod features;
mod image;
mod inspect;
mod list;
mod logger;
mod ps;
mod spec;
mod state;
mod update;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::container::state::Container;
use crate::container::{delete, kill, network, pause, propagation, start, without_proc};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::{descriptors, environment, identity, names, seal};
use args::{Arguments, Command};

/// Runs the command that `args` name, program name included, and returns its exit code. Errors go
/// to standard error and to `--log`, in one sentence.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Inherited by every process that this one makes.
    names::use_builtin_lookup();
    let args: Vec<OsString> = args.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&args) {
        Ok(arguments) => arguments,
        // Help and version are errors to clap, and go to standard output.
        Err(error) if !error.use_stderr() => {
            let printed = error.print();
            return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(error) => return refuse(&args, &error),
    };
    // Before anything is opened, since that would take the place of a missing descriptor.
    let preserved = check_preserved(arguments.command.preserved_fds());
    if let Err(error) = logger::init(&arguments.global.oci) {
        eprintln!("runwasm: {error}");
        return ExitCode::FAILURE;
    }
    match preserved.and_then(|()| execute(arguments)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            logger::fatal(&error);
            ExitCode::FAILURE
        }
    }
}

/// Reports a command line that cannot be parsed: engines read the log, not standard error.
fn refuse(args: &[OsString], error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    // The usage comes after an empty line.
    let sentence: Vec<_> =
        text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let sentence = sentence.join(" ");
    let sentence = sentence.trim_start_matches("error: ");
    let sentence = sentence.replace("'<CONTAINER_ID>'", "the container id");
    if let Ok(only) = args::GlobalOnly::try_parse_from(args) {
        // A log that cannot be opened either is the lesser problem.
        let _ = logger::init(&only.global.oci);
    }
    logger::fatal(&Error::invalid(format!("{sentence}; see runwasm --help")));
    ExitCode::FAILURE
}

/// Checks that the descriptors to be preserved are open, as runc does.
fn check_preserved(count: i32) -> Result<()> {
    match (3..3 + i64::from(count)).find(|&fd| !descriptors::is_open(fd as i32)) {
        Some(fd) => {
            Err(Error::invalid(format!("--preserve-fds {count}: descriptor {fd} is not open")))
        }
        None => Ok(()),
    }
}

fn execute(arguments: Arguments) -> Result<u8> {
    let global = &arguments.global;
    let done = |()| 0;
    // These need no state directory, and run without the environment that could name it.
    match &arguments.command {
        Command::CompileModule { memory, time } => {
            return crate::wasm::compile::child(*memory, *time).map(done);
        }
        Command::LoopbackUp => return network::loopback_up().map(done),
        Command::MakePrivate { path } => return propagation::make_private(path).map(done),
        Command::SetSysctls { parameters } => {
            return without_proc::set_sysctls(parameters).map(done);
        }
        Command::Cache(command) => return cache::cache(command, &global.sources).map(done),
        Command::Image(options) => return image::image(options).map(done),
        Command::Inspect(options) => return inspect::inspect(options).map(done),
        _ => {}
    }
    let root = root(global.oci.root.as_deref())?;
    match arguments.command {
        Command::Create(options) => {
            protect(&root, options.preserve_fds)?;
            create::create(&root, global, &options).map(done)
        }
        Command::Run(options) => {
            protect(&root, options.preserve_fds)?;
            create::run(&root, global, &options)
        }
        Command::Exec(options) => {
            protect(&root, options.preserve_fds)?;
            exec::exec(&root, &global.sources, &options)
        }
        Command::Start(options) => locked(&root, &options.container_id, start::start).map(done),
        Command::State(options) => state::state(&load(&root, &options.container_id)?).map(done),
        Command::Kill(options) => {
            let container = load(&root, &options.container_id)?;
            let signal = kill::parse_signal(&options.signal)?;
            kill::kill(&container, signal, options.all).map(done)
        }
        Command::Delete(options) => {
            delete::delete(&root, &options.container_id, options.force).map(done)
        }
        Command::Pause(options) => locked(&root, &options.container_id, pause::pause).map(done),
        Command::Resume(options) => locked(&root, &options.container_id, pause::resume).map(done),
        Command::List(options) => list::list(&root, &options).map(done),
        Command::Ps(options) => ps::ps(&load(&root, &options.container_id)?, &options).map(done),
        Command::Update(options) => {
            update::update(&load(&root, &options.container_id)?, &options).map(done)
        }
        Command::Events(options) => events::events(&root, &options).map(done),
        Command::Features(_) => features::features().map(done),
        Command::Spec(options) => spec::spec(&options).map(done),
        Command::CompileModule { .. }
        | Command::Cache(_)
        | Command::Image(_)
        | Command::Inspect(_)
        | Command::LoopbackUp
        | Command::MakePrivate { .. }
        | Command::SetSysctls { .. } => Ok(0),
        Command::Checkpoint(_) => Err(unsupported("checkpoint")),
        Command::Restore(_) => Err(unsupported("restore")),
    }
}

fn unsupported(command: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{command} is not supported by runwasm"))
}

/// Does what changes a container while nobody else does.
fn locked(root: &Path, id: &str, change: fn(&mut Container) -> Result<()>) -> Result<()> {
    let (mut container, _lock) = Container::load_locked(root, id)?;
    change(&mut container)
}

fn load(root: &Path, id: &str) -> Result<Container> {
    Container::load(root, id)
}

/// The directory of all containers' state: `--root`, or `/run/runwasm`, or for other users
/// `$XDG_RUNTIME_DIR/runwasm`.
fn root(given: Option<&Path>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None if identity::is_host_root() => PathBuf::from("/run/runwasm"),
        None => std::env::var_os("XDG_RUNTIME_DIR")
            .map(|dir| PathBuf::from(dir).join("runwasm"))
            .ok_or_else(|| {
            Error::invalid("XDG_RUNTIME_DIR is not set; name a directory with --root")
        })?,
    };
    std::path::absolute(&path).os(|| format!("--root {}", path.display()))
}

/// Before anything of a container is touched: the binary that its process will show as
/// /proc/PID/exe must not be writable, and nothing that our caller left open may reach it.
fn protect(root: &Path, preserve_fds: i32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .os(|| format!("create {}", root.display()))?;
    seal::ensure_sealed(root)?;
    if std::env::current_dir().is_err() {
        // It was deleted. No relative path can be meant, and libcontainer wants to come back.
        std::env::set_current_dir("/").os(|| "leave the deleted working directory")?;
    }
    descriptors::cloexec_from(3 + preserve_fds.max(0) + environment::listen_fds())
        .os(|| "protect inherited descriptors")
}
