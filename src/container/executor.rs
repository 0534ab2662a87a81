//! The fork in the road: what the container's init process becomes. libcontainer calls these
//! inside the container, fully confined, with seccomp loaded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::rc::Rc;
use std::time::Duration;

use caps::{CapSet, CapsHashSet};
use libcontainer::container::{ContainerStatus, State};
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use oci_spec::runtime::{Hook, Process, Spec};

use super::hooks;
use super::without_proc::AppArmor;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::guest::Guest;
use crate::sys::pidfd::PidFd;
use crate::sys::title::StringArea;
use crate::sys::{descriptors, signals, terminal};
use crate::wasm::command;
use crate::wasm::module::Prepared;

/// What a failing exec of the container's first process exits with, as in runc.
const EXEC_FAILED: i32 = 255;

/// Runs an ordinary program.
#[derive(Clone, Default)]
pub struct LinuxExecutor {
    program: RefCell<Option<PathBuf>>,
    env: RefCell<Vec<String>>,
}

impl Executor for LinuxExecutor {
    /// Finds the program, so that a missing one fails `create`.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let program = process(spec)
            .and_then(find_program)
            .map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))?;
        *self.program.borrow_mut() = Some(program);
        Ok(())
    }

    /// Keeps the environment for execve: `process.env` in its order, then what libcontainer added
    /// (`HOME`, `LISTEN_FDS`). The process's own environment stays as it is: it is never handed
    /// on. Like runc, a user without a home directory gets `/`.
    fn setup_envs(&self, mut envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        envs.entry("HOME".to_owned()).or_insert_with(|| "/".to_owned());
        *self.env.borrow_mut() =
            envs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let program = self.program.borrow().clone().unwrap_or_default();
        let process = process(spec).map_err(|error| ExecutorError::Other(error.to_string()))?;
        let error = match execve(&program, process, &self.env.borrow()) {
            Err(error) => error,
            Ok(never) => match never {},
        };
        Err(ExecutorError::Other(error.to_string()))
    }
}

fn process(spec: &Spec) -> Result<&Process> {
    spec.process().as_ref().ok_or_else(|| Error::invalid("process is missing"))
}

/// Finds the program of `process` as execvp(3) does, by the container's own PATH, in runc's words
/// when there is none (`os/exec` of Go, which engines match on).
fn find_program(process: &Process) -> Result<PathBuf> {
    let name = process.args().as_ref().and_then(|args| args.first()).map_or("", String::as_str);
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(errno) => Err(cannot_exec(name, errno)),
        };
    }
    let env = process.env().as_deref().unwrap_or_default();
    let search = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = false;
    for dir in search.split(':').filter(|dir| !dir.is_empty()) {
        let path = Path::new(dir).join(name);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(errno) => denied |= errno == Errno::EACCES,
        }
    }
    if denied {
        return Err(cannot_exec(name, Errno::EACCES));
    }
    Err(Error::not_found(format!("exec: {name:?}: executable file not found in $PATH")))
}

fn executable(path: &Path) -> Result<(), Errno> {
    let meta = fs::metadata(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK)
}

/// The sentence for a program that cannot be executed, with the errno in Go's lower-case words.
fn cannot_exec(name: &str, errno: Errno) -> Error {
    let kind =
        if errno == Errno::ENOENT { ErrorKind::NotFound } else { ErrorKind::InvalidArgument };
    Error::new(kind, format!("exec: {name:?}: {}", errno.desc().to_lowercase()))
}

fn execve(program: &Path, process: &Process, env: &[String]) -> Result<Infallible> {
    let strings = |list: &[String]| -> Result<Vec<CString>> {
        list.iter()
            .map(|text| {
                CString::new(text.as_str()).context(ErrorKind::InvalidArgument, || "NUL byte")
            })
            .collect()
    };
    let name = program.display().to_string();
    let path = strings(std::slice::from_ref(&name))?;
    let args = strings(process.args().as_deref().unwrap_or_default())?;
    let spec_env = process.env().as_deref().unwrap_or_default();
    let env = strings(&merge(spec_env, env))?;
    signals::reset().os(|| "reset signals")?;
    nix::unistd::execve(&path[0], &args, &env).map_err(|errno| cannot_exec(&name, errno))
}

/// `process.env` exactly, then the additions whose names it does not hold.
fn merge(spec: &[String], with_additions: &[String]) -> Vec<String> {
    let name =
        |pair: &str| pair.split_once('=').map_or(pair.to_owned(), |(name, _)| name.to_owned());
    let known: Vec<String> = spec.iter().map(|pair| name(pair)).collect();
    let additions = with_additions.iter().filter(|pair| !known.contains(&name(pair))).cloned();
    spec.iter().cloned().chain(additions).collect()
}

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

/// Runs a wasm program in this very process: there is no execve, so what execve gives for free is
/// done here by hand.
#[derive(Clone)]
pub struct WasmExecutor {
    /// What to run.
    pub prepared: Prepared,
    /// What it sees.
    pub guest: Guest,
    /// The AppArmor profile to enter.
    pub apparmor: Option<AppArmor>,
    /// For the process title and environment.
    pub strings: Option<StringArea>,
}

impl Executor for WasmExecutor {
    /// Takes over the signals. From here on SIGTERM ends the process, also before `start`: a
    /// signal that arrives right after `start` must not be lost.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let prepared = signals::reset_except_faults()
            .and_then(|()| signals::end_process_on_signals())
            .os(|| "take over signals");
        let confined =
            prepared.and_then(|()| self.apparmor.as_ref().map_or(Ok(()), AppArmor::enter));
        confined.map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))
    }

    /// The guest's environment is its own; the process's must not show the host's.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        if let Some(area) = self.strings {
            area.clear_environment();
            area.set_title(&self.guest.args.join(" "));
        }
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let code = self.run().unwrap_or_else(|error| {
            eprintln!("{}: {error}", self.prepared.name);
            EXEC_FAILED
        });
        exit(code)
    }
}

impl WasmExecutor {
    fn run(&self) -> Result<i32> {
        descriptors::close_from(std::io::stderr().as_raw_fd() + 1, &self.prepared.descriptors)
            .os(|| "close descriptors")?;
        drop_capabilities().os(|| "drop capabilities")?;
        command::run(&self.prepared, &self.guest)
    }
}

/// What execve does to a user other than root: only ambient capabilities stay
/// (capabilities(7), "Transformation of capabilities during execve").
fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let ambient: CapsHashSet = caps::read(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &ambient)?;
    caps::set(None, CapSet::Permitted, &ambient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::ProcessBuilder;

    fn process(program: &str, path: &str) -> Process {
        ProcessBuilder::default()
            .args(vec![program.to_owned()])
            .env(vec![format!("PATH={path}")])
            .build()
            .unwrap()
    }

    #[test]
    fn programs_are_found_by_the_containers_path_only() {
        assert_eq!(find_program(&process("sh", "/nowhere:/bin")).unwrap(), Path::new("/bin/sh"));
        let error = find_program(&process("sh", "/nowhere")).unwrap_err().to_string();
        assert_eq!(error, r#"exec: "sh": executable file not found in $PATH"#);
    }

    #[test]
    fn a_path_that_cannot_be_executed_is_named_with_the_reason() {
        let error = |program| find_program(&process(program, "/bin")).unwrap_err().to_string();
        assert_eq!(error("/no/such"), r#"exec: "/no/such": no such file or directory"#);
        assert_eq!(error("/etc/passwd"), r#"exec: "/etc/passwd": permission denied"#);
        assert_eq!(error("/etc"), r#"exec: "/etc": permission denied"#);
    }

    #[test]
    fn the_environment_keeps_its_order_and_additions_never_replace() {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let merged = merge(&own(&["B=1", "A=2"]), &own(&["A=9", "HOME=/"]));
        assert_eq!(merged, own(&["B=1", "A=2", "HOME=/"]));
    }
}
