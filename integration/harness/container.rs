//! A container made by the tested runtime, deleted whatever happens to the trial.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::bundle::Bundle;
use super::command::{Cmd, Output, Running};
use super::{PATIENCE, Result, audit, eventually, orphans, procfs, runtime};

/// A container between create and delete.
pub struct Container {
    /// What it was made of.
    pub bundle: Bundle,
    /// The create command: its output files are the container's too.
    create: Option<Running>,
    pid: Cell<Option<i32>>,
}

impl Bundle {
    /// A command of the runtime on this bundle's state directory, with its log beside it.
    pub fn runtime(&self, command: &str) -> Cmd {
        let log = self.log_file();
        let cmd = runtime::cmd().arg("--root").arg(self.state_root()).arg("--log").arg(log);
        cmd.args(["--log-format", "json"]).args(&self.options).arg(command)
    }

    /// The messages logged so far at a level, such as "warning".
    pub fn logged(&self, level: &str) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.log_file())?;
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let lines = lines.collect::<std::result::Result<Vec<_>, _>>()?;
        let lines = lines.iter().filter(|line| line["level"] == level);
        Ok(lines.map(|line| line["msg"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Where [`Bundle::runtime`] sends the log.
    pub fn log_file(&self) -> PathBuf {
        self.dir().join("log.json")
    }

    /// `create` or `run` with options before the id.
    pub fn make(&self, command: &str, options: &[&str]) -> Result<Cmd> {
        self.write()?;
        let cmd = self.runtime(command).arg("--bundle").arg(self.dir());
        Ok(cmd.args(options).arg(&self.id))
    }

    /// Runs the container in the foreground to its end.
    pub fn run(self) -> Result<Output> {
        let output = self.make("run", &[])?.run();
        tidied(&self, output)
    }

    /// Runs the container with something on standard input.
    pub fn run_with_input(self, input: impl Into<Vec<u8>>) -> Result<Output> {
        let output = self.make("run", &[])?.input(input).run();
        tidied(&self, output)
    }

    /// What `create` says of a container that cannot be created, which must leave nothing.
    pub fn create_fails(self) -> Result<Output> {
        let output = self.make("create", &[])?.run();
        let output = tidied(&self, output)?;
        if output.code == 0 {
            return Err("create succeeded where it must fail".into());
        }
        Ok(output)
    }
}

/// After a command that must leave no container of `bundle`: what is left is a failure, and
/// is cleared away.
pub fn tidied(bundle: &Bundle, output: Result<Output>) -> Result<Output> {
    let left = audit::is_empty(&bundle.state_root());
    let left = left.and_then(|()| audit::nothing_left_of(&bundle.id));
    if left.is_err() || output.is_err() {
        bundle.runtime("delete").args(["--force", &bundle.id]).run()?;
    }
    let output = output?;
    left.map_err(|failed| format!("{}\nafter {output:?}", failed.message().unwrap_or_default()))?;
    Ok(output)
}

impl Container {
    /// Creates a container.
    pub fn create(bundle: Bundle) -> Result<Self> {
        Self::create_with(bundle, &[])
    }

    /// Creates a container with options such as `--pid-file`.
    pub fn create_with(bundle: Bundle, options: &[&str]) -> Result<Self> {
        let cmd = bundle.make("create", options)?;
        Self::create_by(bundle, cmd)
    }

    /// Creates a container by a command made with [`Bundle::make`] and changed since.
    pub fn create_by(bundle: Bundle, cmd: Cmd) -> Result<Self> {
        let mut container = Self { bundle, create: None, pid: Cell::new(None) };
        let mut create = cmd.spawn()?;
        create.wait_for_exit()?.success()?;
        container.create = Some(create);
        orphans::forget(container.pid()?);
        Ok(container)
    }

    /// Creates and starts a container.
    pub fn start_new(bundle: Bundle) -> Result<Self> {
        let container = Self::create(bundle)?;
        container.start()?;
        Ok(container)
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.bundle.id
    }

    /// A command of the runtime with this container's id as last argument.
    pub fn cmd(&self, command: &str, options: &[&str]) -> Cmd {
        self.bundle.runtime(command).args(options).arg(self.id())
    }

    /// Starts the container's process.
    pub fn start(&self) -> Result {
        self.cmd("start", &[]).run()?.success()?;
        Ok(())
    }

    /// The container's state.
    pub fn state(&self) -> Result<Value> {
        let output = self.cmd("state", &[]).run()?.success()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The container's status.
    pub fn status(&self) -> Result<String> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_owned())
    }

    /// The id of the container's first process, as the host counts.
    pub fn pid(&self) -> Result<i32> {
        if let Some(pid) = self.pid.get() {
            return Ok(pid);
        }
        let pid = self.state()?["pid"].as_i64().ok_or("state has no pid")?;
        let pid = i32::try_from(pid)?;
        self.pid.set(Some(pid));
        Ok(pid)
    }

    /// Sends a signal, by name, to the container's first process.
    pub fn kill(&self, signal: &str) -> Result {
        self.cmd("kill", &[]).arg(signal).run()?.success()?;
        Ok(())
    }

    /// Waits for the end of the container's first process and answers its exit code.
    pub fn wait(&self) -> Result<i32> {
        let pid = self.pid()?;
        let what = format!("the end of process {pid}: {}", procfs::command_line(pid));
        eventually(&what, PATIENCE, || orphans::exit_code(pid))
    }

    /// Deletes the container; nothing of it may be left.
    pub fn delete(&self) -> Result {
        self.cmd("delete", &[]).run()?.success()?;
        audit::is_empty(&self.bundle.state_root())?;
        audit::nothing_left_of(self.id())
    }

    /// Kills and deletes the container.
    pub fn finish(&self) -> Result {
        self.kill("KILL")?;
        self.wait()?;
        self.delete()
    }

    /// A command that runs `args` in the container.
    pub fn exec(&self, args: &[&str]) -> Cmd {
        self.exec_with(&[], args)
    }

    /// A command that runs `args` in the container, with options such as `--env A=b`.
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Cmd {
        self.cmd("exec", options).args(args)
    }

    /// Standard output of the container so far.
    pub fn stdout(&self) -> Result<String> {
        self.create.as_ref().ok_or("the container was not created")?.stdout()
    }

    /// Standard error of the container so far.
    pub fn stderr(&self) -> Result<String> {
        self.create.as_ref().ok_or("the container was not created")?.stderr()
    }

    /// Waits until the container has written `text` to standard output.
    pub fn wait_for(&self, text: &str) -> Result {
        let found = eventually(&format!("{text:?} from {}", self.id()), PATIENCE, || {
            Ok(self.stdout()?.contains(text).then_some(()))
        });
        found.map_err(|failed| {
            let message = failed.message().unwrap_or_default();
            format!("{message}: {:?} {:?}", self.stdout(), self.stderr()).into()
        })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Nothing to report in a destructor: what survives, the audit finds.
        if fs::exists(self.bundle.state_root().join(self.id())).unwrap_or(true) {
            let _ = self.cmd("delete", &["--force"]).run();
        }
        if let Some(pid) = self.pid.get() {
            let _ = orphans::exit_code(pid);
        }
    }
}
