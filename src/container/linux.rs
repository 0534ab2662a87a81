//! The Linux side of the fork in the road: execve.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::errno::Errno;
use oci_spec::runtime::{Process, Spec};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::signals;

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
