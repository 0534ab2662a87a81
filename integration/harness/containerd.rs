//! A containerd of our own: own root, state, socket; our shim first on its PATH.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::command::{Cmd, Running};
use super::{PATIENCE, Result, eventually, runtime, suite};

/// The runtime's name for containerd, which makes the shim's name of it.
pub const RUNTIME: &str = "io.containerd.wasm.v1";

/// Where hack/setup.sh unpacks the generations of containerd.
const UNPACKED: &str = "/usr/local/lib/runwasm-test";

/// A server lives as long as the suite.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A containerd that speaks its own version of a shim's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Version 2 of the task service, a bare address as the answer.
    V1_6,
    /// Version 2 of the task service, if that is what the shim offers.
    V1_7,
    /// Version 3 of the task service.
    V2,
}

impl Generation {
    /// Those the suite runs on.
    pub const ALL: [Self; 3] = [Self::V1_6, Self::V1_7, Self::V2];

    /// What the names of its trials start with.
    pub fn group(self) -> &'static str {
        match self {
            Self::V1_6 => "containerd_1_6",
            Self::V1_7 => "containerd_1_7",
            Self::V2 => "containerd_2",
        }
    }

    /// The server that trials share, started by the first of them.
    pub fn server(self) -> Result<Arc<Server>> {
        let mut servers = shared();
        if let Some(server) = servers.iter().find(|server| server.generation == self) {
            return Ok(server.clone());
        }
        let server = Server::start(self)?;
        servers.push(server.clone());
        Ok(server)
    }

    fn program(self, name: &str) -> Result<PathBuf> {
        let version = match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
            Self::V2 => "2",
        };
        let file = format!("{UNPACKED}/containerd-{version}/usr/bin/{name}");
        match Path::new(&file).is_file() {
            true => Ok(file.into()),
            false => Err(format!("{file} is missing; install it: hack/setup.sh").into()),
        }
    }
}

static SHARED: Mutex<Vec<Arc<Server>>> = Mutex::new(Vec::new());

fn shared() -> MutexGuard<'static, Vec<Arc<Server>>> {
    SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Stops the servers that trials share.
pub fn stop() {
    shared().clear();
}

/// A running containerd, stopped when dropped.
pub struct Server {
    generation: Generation,
    ctr: PathBuf,
    dir: PathBuf,
    process: Mutex<Running>,
}

impl Server {
    /// Starts a server that no other trial uses.
    pub fn start(generation: Generation) -> Result<Arc<Self>> {
        let dir = suite::new_dir("cd")?;
        fs::write(dir.join("config.toml"), configuration(&dir))?;
        let process = Mutex::new(spawn(generation, &dir)?);
        let server = Self { generation, ctr: generation.program("ctr")?, dir, process };
        server.wait_until_it_serves()?;
        Ok(Arc::new(server))
    }

    /// A `ctr` command for the server.
    pub fn ctr<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        let cmd = Cmd::new(&self.ctr).arg("--address").arg(self.dir.join("s"));
        cmd.args(["--namespace", "it"]).args(args)
    }

    /// Which generation it is of.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The process id of the server.
    pub fn pid(&self) -> i32 {
        self.process().pid()
    }

    /// What it has logged since it was started last, the shims' logs included.
    pub fn log(&self) -> Result<String> {
        self.process().stderr()
    }

    /// Where the bundle of container `id` is.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.dir.join("state/io.containerd.runtime.v2.task/it").join(id)
    }

    /// Where the server keeps the blob of a digest's hexadecimal digits.
    pub fn blob(&self, digits: &str) -> PathBuf {
        self.dir.join("root/io.containerd.content.v1.content/blobs/sha256").join(digits)
    }

    /// Stops the server; shims and containers go on.
    pub fn stop(&self) -> Result {
        let mut process = self.process();
        process.signal(Signal::SIGTERM)?;
        eventually("the end of containerd", PATIENCE, || Ok((!process.is_alive()?).then_some(())))
    }

    /// Starts the server again after [`Server::stop`].
    pub fn start_again(&self) -> Result {
        *self.process() = spawn(self.generation, &self.dir)?;
        self.wait_until_it_serves()
    }

    fn wait_until_it_serves(&self) -> Result {
        eventually("containerd's socket", PATIENCE, || {
            let mut process = self.process();
            if !process.is_alive()? {
                return Err(format!("containerd ended: {}", process.stderr()?).into());
            }
            drop(process);
            Ok((self.ctr(["version"]).run()?.code == 0).then_some(()))
        })
    }

    fn process(&self) -> MutexGuard<'_, Running> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that does not end is killed with its process; what it leaves, the audit finds.
        let _ = self.stop();
    }
}

fn spawn(generation: Generation, dir: &Path) -> Result<Running> {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", runtime::shim_dir()?.display());
    let cmd = Cmd::new(generation.program("containerd")?).arg("--config");
    let cmd = cmd.arg(dir.join("config.toml")).env("PATH", path);
    // No container may see it.
    let cmd = cmd.env("CONTAINERD_VARIABLE", "leak");
    cmd.limit(FOREVER).spawn()
}

/// Version 2 of the configuration is understood by all.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    let disabled = [
        "io.containerd.grpc.v1.cri",
        "io.containerd.internal.v1.opt",
        "io.containerd.cri.v1.images",
        "io.containerd.cri.v1.runtime",
    ];
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\
         disabled_plugins = {disabled:?}\n[grpc]\naddress = \"{dir}/s\"\n"
    )
}

/// Lists functions that take a server as trials of one generation of containerd.
#[allow(unused_macros, reason = "the trials of the CRI have no use for it")]
macro_rules! trials_on {
    ($generation:expr => $($name:ident),+ $(,)?) => {{
        let generation: $crate::harness::containerd::Generation = $generation;
        vec![$(libtest_mimic::Trial::test(
            format!("{}::{}", generation.group(), stringify!($name)),
            move || $name(&generation.server()?),
        )),+]
    }};
}
pub(crate) use trials_on;
