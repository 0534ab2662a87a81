//! What surrounds a container's process, wasm or Linux. libcontainer calls these inside the
//! container, fully confined, with seccomp loaded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::exit;
use std::rc::Rc;
use std::time::Duration;

use libcontainer::container::{ContainerStatus, State};
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::{SFlag, fstat, makedev};
use nix::unistd::{dup2_stderr, dup2_stdout};
use oci_spec::runtime::{Hook, Spec};

use super::hooks;
use crate::error::{Context, Error, Result};
use crate::sys::pidfd::PidFd;
use crate::sys::terminal;

/// What a failing exec of the container's first process exits with, as in runc.
pub const EXEC_FAILED: i32 = 255;

/// What the process is to the container.
#[derive(Clone)]
pub enum Role {
    /// Its first process, which waits for `start` and then runs the startContainer hooks.
    Init {
        /// The startContainer hooks.
        hooks: Vec<Hook>,
        /// What they are told.
        state: Box<State>,
    },
    /// A later one, which must not outlive the `exec` that waits to start it.
    Exec {
        /// That process.
        parent: Rc<PidFd>,
    },
}

/// What surrounds a workload, wasm or Linux.
#[derive(Clone)]
pub struct Surrounded<E> {
    workload: E,
    role: Role,
    env: RefCell<HashMap<String, String>>,
}

impl<E> Surrounded<E> {
    /// Surrounds `workload` with what its `role` asks for.
    pub fn new(workload: E, role: Role) -> Self {
        Self { workload, role, env: RefCell::default() }
    }

    /// The state that startContainer hooks are told, with the pid inside the container as in runc.
    fn run_start_hooks(&self) -> Result<()> {
        let Role::Init { hooks: start_hooks, state } = &self.role else {
            return Ok(());
        };
        let mut state = state.clone();
        state.status = ContainerStatus::Created;
        state.pid = Some(nix::unistd::getpid().as_raw());
        hooks::run("startContainer", start_hooks, &state, Some(&self.env.borrow()))
    }
}

impl<E: Executor + Clone + 'static> Executor for Surrounded<E> {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        set_console_size(spec);
        let restored = restore_null_outputs().os(|| "open /dev/null for the output");
        restored.map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))?;
        self.workload.validate(spec)?;
        if let Role::Exec { parent } = &self.role {
            end_with(parent)
                .map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))?;
        }
        Ok(())
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        self.env.borrow_mut().clone_from(&envs);
        self.workload.setup_envs(envs)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        if matches!(self.role, Role::Exec { .. }) {
            // Started: from here on it lives as long as the container.
            nix::sys::prctl::set_pdeathsig(None)
                .map_err(|errno| ExecutorError::Other(errno.to_string()))?;
            return self.workload.exec(spec);
        }
        let hooks = self.run_start_hooks().map_err(|error| ExecutorError::Other(error.to_string()));
        // Nobody reads an error after `start`, so it goes to the container's standard error.
        if let Err(error) = hooks.and_then(|()| self.workload.exec(spec)) {
            eprintln!("{error}");
        }
        exit(EXEC_FAILED)
    }
}

/// Makes standard output and error at /dev/null writable: libcontainer replaces them by the
/// container's /dev/null, which it opens for reading only (`reopen_dev_null`).
fn restore_null_outputs() -> std::io::Result<()> {
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let (out, error) = (is_read_only_null(&stdout)?, is_read_only_null(&stderr)?);
    if !out && !error {
        return Ok(());
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    if out {
        dup2_stdout(&null)?;
    }
    if error {
        dup2_stderr(&null)?;
    }
    Ok(())
}

fn is_read_only_null(stream: impl AsFd) -> nix::Result<bool> {
    let stat = fstat(&stream)?;
    let is_device =
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
    let flags = OFlag::from_bits_truncate(fcntl(&stream, FcntlArg::F_GETFL)?);
    Ok(is_device && stat.st_rdev == makedev(1, 3) && flags & OFlag::O_ACCMODE == OFlag::O_RDONLY)
}

/// Gives the terminal the size that `process.consoleSize` asks for.
fn set_console_size(spec: &Spec) {
    let process = spec.process().as_ref();
    let terminal = process.is_some_and(|process| process.terminal().unwrap_or(false));
    if let Some(size) = process.and_then(|process| process.console_size()).filter(|_| terminal) {
        terminal::set_size(&std::io::stdin(), size.height(), size.width());
    }
}

/// Has the kernel kill this process when `parent` dies, also if it is dead already.
fn end_with(parent: &PidFd) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).os(|| "end with the exec command")?;
    let ended = parent.wait_end(Some(Duration::ZERO)).os(|| "watch the exec command")?;
    if ended { Err(Error::os("the exec command has ended")) } else { Ok(()) }
}
