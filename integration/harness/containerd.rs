//! A containerd of our own: own root, state, socket; our shim first on its PATH.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::bundle::Bundle;
use super::command::{Cmd, Output, Running};
use super::{PATIENCE, Result, audit, eventually, procfs, runtime, suite};

/// The runtime's name for containerd, which makes the shim's name of it.
pub const RUNTIME: &str = "io.containerd.wasm.v1";

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

struct Server {
    process: Running,
    socket: PathBuf,
}

/// A `ctr` command for the server, which is started by the first of them.
pub fn ctr<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Cmd> {
    let socket = socket()?;
    Ok(Cmd::new("ctr").arg("--address").arg(socket).args(["--namespace", "it"]).args(args))
}

/// The process id of the server.
pub fn pid() -> Result<i32> {
    socket()?;
    let server = SERVER.lock().map_err(|_| "containerd could not be started")?;
    Ok(server.as_ref().ok_or("containerd does not run")?.process.pid())
}

fn socket() -> Result<PathBuf> {
    let mut server = SERVER.lock().map_err(|_| "containerd could not be started")?;
    if server.is_none() {
        *server = Some(Server::start()?);
    }
    Ok(server.as_ref().ok_or("containerd does not run")?.socket.clone())
}

/// Stops the server, if it was started.
pub fn stop() {
    let Ok(mut server) = SERVER.lock() else { return };
    if let Some(Server { process, .. }) = server.take() {
        // A server that does not end is killed when dropped; what it leaves, the audit finds.
        let _ = process.signal(Signal::SIGTERM);
        let _ = process.wait();
    }
}

impl Server {
    fn start() -> Result<Self> {
        let dir = suite::new_dir("cd")?;
        let socket = dir.join("s");
        let config = dir.join("config.toml");
        fs::write(&config, configuration(&dir, &socket))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", runtime::shim_dir()?.display());
        let cmd = Cmd::new("containerd").arg("--config").arg(&config).env("PATH", path);
        // No container may see it.
        let cmd = cmd.env("CONTAINERD_VARIABLE", "leak");
        let mut process = cmd.limit(Duration::from_secs(20)).spawn()?;
        eventually("containerd's socket", PATIENCE, || {
            if !process.is_alive()? {
                return Err(format!("containerd ended: {}", process.stderr()?).into());
            }
            let version = Cmd::new("ctr").arg("--address").arg(&socket).arg("version").run()?;
            Ok((version.code == 0).then_some(()))
        })?;
        Ok(Self { process, socket })
    }
}

fn configuration(dir: &Path, socket: &Path) -> String {
    let dir = dir.display();
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = \"{}\"\n",
        socket.display()
    )
}

/// A container of the server on a bundle's root file system; deleted when dropped.
pub struct Task {
    /// What the container is made of.
    pub bundle: Bundle,
}

impl Task {
    /// `ctr run` with flags before the root file system and the command after it.
    pub fn command(bundle: &Bundle, flags: &[&str], args: &[&str]) -> Result<Cmd> {
        let rootfs = bundle.rootfs().to_string_lossy().into_owned();
        let tail = ["--runtime", RUNTIME, "--rootfs", &rootfs, &bundle.id];
        ctr(["run"].iter().chain(flags).chain(&tail).chain(args))
    }

    /// Runs a container in the foreground; nothing of it may be left.
    pub fn run(bundle: Bundle, flags: &[&str], args: &[&str]) -> Result<Output> {
        let flags = [flags, &["--rm"]].concat();
        let task = Self { bundle };
        let output = Self::command(&task.bundle, &flags, args)?.run()?;
        audit::nothing_left_of(&task.bundle.id)?;
        Ok(output)
    }

    /// Runs a container in the background.
    pub fn start(bundle: Bundle, flags: &[&str], args: &[&str]) -> Result<Self> {
        let task = Self { bundle };
        let flags = [flags, &["--detach"]].concat();
        Self::command(&task.bundle, &flags, args)?.run()?.success()?;
        Ok(task)
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    /// A `ctr task` command with this container's id after the options.
    pub fn task(&self, command: &str, options: &[&str]) -> Result<Cmd> {
        ctr(["task", command].iter().chain(options).chain(&[self.id()]))
    }

    /// The line of `ctr task ls` for this container: id, pid, status.
    pub fn listed(&self) -> Result<Option<Vec<String>>> {
        let lines = ctr(["task", "ls"])?.run()?.success()?.lines();
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Ok(lines.iter().map(words).find(|words| words[0] == self.id()))
    }

    /// The id of the container's first process, as the host counts.
    pub fn pid(&self) -> Result<i32> {
        let line = self.listed()?.ok_or("the task is not listed")?;
        Ok(line[1].parse()?)
    }

    /// Waits for a status such as STOPPED.
    pub fn wait_for_status(&self, status: &str) -> Result {
        eventually(&format!("the status {status} of {}", self.id()), PATIENCE, || {
            let line = self.listed()?.ok_or("the task is not listed")?;
            Ok((line[2] == status).then_some(()))
        })
    }

    /// Deletes task and container, of which nothing may be left; answers the exit code.
    pub fn delete(&self) -> Result<i32> {
        let delete = self.task("delete", &[])?.run()?.success()?;
        // ctr tells it in a warning, and nothing of a 0.
        let code = delete.stderr.split("exit code ").nth(1).and_then(|rest| rest.split('"').next());
        let code = code.map_or(Ok(0), |digits| digits.trim().parse())?;
        ctr(["container", "delete", self.id()])?.run()?.success()?;
        audit::nothing_left_of(self.id())?;
        Ok(code)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Nothing to report in a destructor: what survives, the audit finds.
        let id = self.bundle.id.clone();
        if let Ok(pid) = self.pid() {
            let _ = self.task("delete", &["--force"]).and_then(Cmd::run);
            let _ = eventually("the end of the task", PATIENCE, || {
                Ok((!procfs::is_living(pid)).then_some(()))
            });
        }
        let _ = ctr(["container", "delete", &id]).and_then(Cmd::run);
    }
}
