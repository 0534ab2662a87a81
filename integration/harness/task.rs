//! A container of a containerd, on a bundle's root file system.

use std::sync::Arc;

use super::bundle::Bundle;
use super::command::{Cmd, Output};
use super::containerd::{RUNTIME, Server};
use super::{PATIENCE, Result, audit, eventually, procfs};

/// A container of the server on a bundle's root file system; deleted when dropped.
pub struct Task {
    /// What the container is made of.
    pub bundle: Bundle,
    server: Arc<Server>,
}

impl Task {
    /// A container that is not made yet.
    pub fn new(server: &Arc<Server>, bundle: Bundle) -> Self {
        Self { bundle, server: server.clone() }
    }

    /// `ctr run` with flags before the root file system and the command after it.
    pub fn command(server: &Server, bundle: &Bundle, flags: &[&str], args: &[&str]) -> Cmd {
        let rootfs = bundle.rootfs().to_string_lossy().into_owned();
        let tail = ["--runtime", RUNTIME, "--rootfs", &rootfs, &bundle.id];
        server.ctr(["run"].iter().chain(flags).chain(&tail).chain(args))
    }

    /// Runs a container in the foreground; nothing of it may be left.
    pub fn run(
        server: &Arc<Server>,
        bundle: Bundle,
        flags: &[&str],
        args: &[&str],
    ) -> Result<Output> {
        let flags = [flags, &["--rm"]].concat();
        let task = Self::new(server, bundle);
        let output = Self::command(server, &task.bundle, &flags, args).run()?;
        audit::nothing_left_of(&task.bundle.id)?;
        Ok(output)
    }

    /// Runs a container in the background.
    pub fn start(
        server: &Arc<Server>,
        bundle: Bundle,
        flags: &[&str],
        args: &[&str],
    ) -> Result<Self> {
        let task = Self::new(server, bundle);
        let flags = [flags, &["--detach"]].concat();
        Self::command(server, &task.bundle, &flags, args).run()?.success()?;
        Ok(task)
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    /// A `ctr task` command with this container's id after the options.
    pub fn task(&self, command: &str, options: &[&str]) -> Cmd {
        self.server.ctr(["task", command].iter().chain(options).chain(&[self.id()]))
    }

    /// A `ctr task exec` command.
    pub fn exec(&self, exec_id: &str, flags: &[&str], args: &[&str]) -> Cmd {
        let flags = [&["--exec-id", exec_id], flags].concat();
        self.task("exec", &flags).args(args)
    }

    /// Sends a signal.
    pub fn kill(&self, signal: &str) -> Result {
        self.task("kill", &["--signal", signal]).run()?.success().map(drop)
    }

    /// The line of `ctr task ls` for this container: id, pid, status.
    pub fn listed(&self) -> Result<Option<Vec<String>>> {
        let lines = self.server.ctr(["task", "ls"]).run()?.success()?.lines();
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Ok(lines.iter().map(words).find(|words| words[0] == self.id()))
    }

    /// The id of the container's first process, as the host counts.
    pub fn pid(&self) -> Result<i32> {
        let line = self.listed()?.ok_or("the task is not listed")?;
        Ok(line[1].parse()?)
    }

    /// The id of the container's shim.
    pub fn shim_pid(&self) -> Result<i32> {
        procfs::stat(self.pid()?).map(|(_, parent)| parent).ok_or("the task has ended".into())
    }

    /// Waits for a status such as STOPPED.
    pub fn wait_for_status(&self, status: &str) -> Result {
        eventually(&format!("the status {status} of {}", self.id()), PATIENCE, || {
            let line = self.listed()?.ok_or("the task is not listed")?;
            Ok((line[2] == status).then_some(()))
        })
    }

    /// Deletes the task; answers the exit code.
    pub fn delete_task(&self) -> Result<i32> {
        let delete = self.task("delete", &[]).run()?.success()?;
        // ctr tells it in a warning, and nothing of a 0.
        let code = delete.stderr.split("exit code ").nth(1).and_then(|rest| rest.split('"').next());
        Ok(code.map_or(Ok(0), |digits| digits.trim().parse())?)
    }

    /// Deletes task and container, of which nothing may be left; answers the exit code.
    pub fn delete(&self) -> Result<i32> {
        let code = self.delete_task()?;
        self.server.ctr(["container", "delete", self.id()]).run()?.success()?;
        audit::nothing_left_of(self.id())?;
        Ok(code)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Nothing to report in a destructor: what survives, the audit finds.
        let id = self.bundle.id.clone();
        if let Ok(pid) = self.pid() {
            let _ = self.task("delete", &["--force"]).run();
            let _ = eventually("the end of the task", PATIENCE, || {
                Ok((!procfs::is_living(pid)).then_some(()))
            });
        }
        let _ = self.server.ctr(["container", "delete", &id]).run();
    }
}
