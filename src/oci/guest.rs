//! What a wasm guest sees of its container: arguments, environment, working directory, files and
//! memory.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use crate::config;

/// The guest's view, taken from the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// `process.args`, the program's name included.
    pub args: Vec<String>,
    /// `process.env`, and `PWD` where [`Guest::new`] says so.
    pub env: Vec<(String, String)>,
    /// `process.cwd`.
    pub cwd: PathBuf,
    /// The most linear memory and tables, in bytes: as configured, and as the container's memory
    /// limit leaves room for.
    pub memory: Option<usize>,
}

impl Guest {
    /// The view of `process` in the container of `spec`. The environment is exactly
    /// `process.env`, except that `PWD` is added when it is missing and the working directory is
    /// not `/`: Go's wasip1 port takes its working directory from it.
    pub fn new(spec: &Spec, process: &Process, config: &config::Guest) -> Self {
        let cwd = process.cwd().clone();
        let mut env: Vec<(String, String)> = process
            .env()
            .iter()
            .flatten()
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if cwd != Path::new("/") && !env.iter().any(|(key, _)| key == "PWD") {
            env.push(("PWD".to_owned(), cwd.display().to_string()));
        }
        let args = process.args().clone().unwrap_or_default();
        let configured = config.memory.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
        let left = memory_limit(spec).map(linear_memory);
        Self { args, env, cwd, memory: configured.into_iter().chain(left).min() }
    }
}

fn memory_limit(spec: &Spec) -> Option<u64> {
    let limit = spec.linux().as_ref()?.resources().as_ref()?.memory().as_ref()?.limit()?;
    u64::try_from(limit).ok().filter(|&limit| limit > 0)
}

/// What a memory limit leaves for linear memory, so that `memory.grow` fails in the guest before
/// the kernel kills the process: all but an eighth, of which the runtime itself needs at least
/// 2 MiB and never more than 32 MiB.
fn linear_memory(limit: u64) -> usize {
    const MIB: u64 = 1 << 20;
    let reserve = (limit / 8).clamp(2 * MIB, 32 * MIB);
    usize::try_from(limit.saturating_sub(reserve)).unwrap_or(usize::MAX)
}

/// The directories handed to the guest, as pairs of host path and guest name, in descriptor
/// order from 3 on.
///
/// With the working directory `/` there is one, `/`. With another, WASI 0.1 has a trap: wasi-libc
/// strips the leading `/` and `./` from paths and from names of preopens alike, so `/` and `.`
/// look the same to it and the one that comes last wins. So the root's directories are preopened
/// by name as well, and the working directory comes last as `.`: `/data/x` finds `/data`, `x`
/// finds the working directory, and Go, which joins paths with `PWD` itself, finds everything.
/// Left ambiguous for wasi-libc: a relative path whose first part is also a directory of the
/// root, and files that lie directly in `/`.
///
/// `directories` are the names of the directories in `/`.
pub fn preopens(cwd: &Path, mut directories: Vec<String>) -> Vec<(PathBuf, String)> {
    let mut preopens = vec![(PathBuf::from("/"), "/".to_owned())];
    if cwd != Path::new("/") {
        directories.sort();
        preopens
            .extend(directories.iter().map(|name| (Path::new("/").join(name), format!("/{name}"))));
        preopens.push((cwd.to_owned(), ".".to_owned()));
    }
    preopens
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::ProcessBuilder;

    fn guest(cwd: &str, env: &[&str]) -> Guest {
        let env: Vec<String> = env.iter().map(|&s| s.to_owned()).collect();
        let process = ProcessBuilder::default().cwd(cwd).env(env).build().unwrap();
        Guest::new(&Spec::default(), &process, &config::Guest::default())
    }

    #[test]
    fn the_environment_is_exact_and_pwd_is_added_only_when_needed() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(guest("/", &["A=1=2", "B"]).env, [pair("A", "1=2"), pair("B", "")]);
        assert_eq!(guest("/app", &["A=1"]).env, [pair("A", "1"), pair("PWD", "/app")]);
        assert_eq!(guest("/app", &["PWD=/b"]).env, [pair("PWD", "/b")]);
    }

    #[test]
    fn root_alone_is_preopened_for_cwd_root_and_the_working_directory_comes_last_otherwise() {
        let names = |cwd: &str| -> Vec<String> {
            let directories = vec!["etc".to_owned(), "app".to_owned()];
            preopens(Path::new(cwd), directories).into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(names("/"), ["/"]);
        assert_eq!(names("/app"), ["/", "/app", "/etc", "."]);
    }

    #[test]
    fn the_runtime_keeps_a_part_of_the_memory_limit() {
        assert_eq!(linear_memory(64 << 20), 56 << 20);
        assert_eq!(linear_memory(4 << 20), 2 << 20);
        assert_eq!(linear_memory(1 << 20), 0);
        assert_eq!(linear_memory(1 << 30), (1 << 30) - (32 << 20));
    }
}
