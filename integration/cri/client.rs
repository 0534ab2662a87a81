//! Pods and their containers, by the command line of `cri`, a small crictl.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::command::{Cmd, Output};
use crate::harness::{PATIENCE, Result, audit, cgroup, eventually, suite};
use crate::server::{self, Presence};

/// The state of a container that ended, as CRI names it: `CONTAINER_EXITED`.
pub const EXITED: i64 = 2;
/// `CONTAINER_RUNNING`.
pub const RUNNING: i64 = 1;

/// A `cri` command for the server.
pub fn cri<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Cmd> {
    Ok(at(&server::socket()?).args(args))
}

/// A `cri` command for the server that listens on `socket`.
pub fn at(socket: &Path) -> Cmd {
    let program = suite::repository().join("target/kubernetes/cri");
    let endpoint = format!("unix://{}", socket.display());
    Cmd::new(program).arg("--runtime-endpoint").arg(endpoint).limit(Duration::from_secs(120))
}

/// A pod on the handler `wasm`; removed when dropped.
pub struct Pod {
    /// The id that the server gave it.
    pub id: String,
    dir: PathBuf,
    config: Value,
    removed: bool,
    _presence: Presence,
}

impl Pod {
    /// Runs a pod without annotations.
    pub fn run() -> Result<Self> {
        Self::run_with(|_| ())
    }

    /// Runs a pod while there is no other, so that the server may be killed.
    pub fn run_alone() -> Result<Self> {
        Self::run_in(Presence::alone(), |_| ())
    }

    /// Runs a pod after `change` to its configuration.
    pub fn run_with(change: impl FnOnce(&mut Value)) -> Result<Self> {
        Self::run_in(Presence::with_others(), change)
    }

    fn run_in(presence: Presence, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let name = suite::unique_id();
        let dir = suite::dir().join(format!("{name}-pod"));
        fs::create_dir_all(dir.join("logs"))?;
        let mut config = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "attempt": 1},
            "log_directory": dir.join("logs"),
            "linux": {"cgroup_parent": format!("/{name}")},
        });
        change(&mut config);
        fs::write(dir.join("pod.json"), serde_json::to_vec(&config)?)?;
        let run = cri(["runp", "--runtime", &server::handler()])?.arg(dir.join("pod.json"));
        let id = run.run()?.success()?.text().trim().to_owned();
        audit::watch(&id);
        Ok(Self { id, dir, config, removed: false, _presence: presence })
    }

    /// A directory for the trial's own files, removed with the pod.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates a container; the answer is what the command said.
    pub fn try_create(&self, container: &Value) -> Result<Output> {
        let file = self.dir.join(format!("{}.json", suite::unique_id()));
        fs::write(&file, serde_json::to_vec(container)?)?;
        cri(["create", &self.id])?.arg(file).arg(self.dir.join("pod.json")).run()
    }

    /// Creates a container.
    pub fn create(&self, container: &Value) -> Result<Container> {
        let id = self.try_create(container)?.success()?.text().trim().to_owned();
        audit::watch(&id);
        Ok(Container { id })
    }

    /// Creates and starts a container.
    pub fn start(&self, container: &Value) -> Result<Container> {
        let container = self.create(container)?;
        cri(["start", &container.id])?.run()?.success()?;
        Ok(container)
    }

    /// Runs a container to its end; its code and its logs.
    pub fn output(&self, container: &Value) -> Result<Output> {
        let container = self.start(container)?;
        let code = container.exit_code()?;
        let mut output = container.logs()?.success()?;
        output.code = code;
        Ok(output)
    }

    /// Stops and removes it, and its cgroup as the kubelet does; nothing of it may be left.
    pub fn remove(mut self) -> Result {
        self.removed = true;
        cri(["stopp", &self.id])?.run()?.success()?;
        cri(["rmp", &self.id])?.run()?.success()?;
        self.remove_cgroup()?;
        fs::remove_dir_all(&self.dir)?;
        audit::nothing_left_of(self.name())?;
        audit::nothing_left_of(&self.id)
    }

    fn name(&self) -> &str {
        self.config["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// What is in it goes first, which after the death of a shim takes its time.
    fn remove_cgroup(&self) -> Result {
        eventually(&format!("the cgroup {} to be empty", self.name()), PATIENCE, || {
            let directories = cgroup::directories_named(self.name());
            let removed = directories.iter().all(|directory| fs::remove_dir(directory).is_ok());
            Ok(removed.then_some(()))
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        // Nothing to report in a destructor: what survives, the audit finds.
        for command in ["stopp", "rmp"] {
            let _ = cri([command, &self.id]).and_then(Cmd::run);
        }
        let _ = self.remove_cgroup();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A container of a pod; it goes with the pod.
pub struct Container {
    /// The id that the server gave it.
    pub id: String,
}

impl Container {
    /// A `cri` command with this container's id after the options and `args` after it.
    pub fn cmd(&self, command: &str, options: &[&str], args: &[&str]) -> Result<Cmd> {
        cri([command].iter().chain(options).chain(&[self.id.as_str()]).chain(args))
    }

    /// A command in it, run as an exec probe does.
    pub fn exec_sync(&self, args: &[&str]) -> Result<Output> {
        self.cmd("exec", &["--sync"], args)?.run()
    }

    /// What the server knows of it.
    pub fn inspect(&self) -> Result<Value> {
        let output = self.cmd("inspect", &[], &[])?.run()?.success()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Its first process, as the host counts.
    pub fn pid(&self) -> Result<i32> {
        let inspected = self.inspect()?;
        let info: Value = serde_json::from_str(inspected["info"]["info"].as_str().unwrap_or("{}"))?;
        Ok(i32::try_from(info["pid"].as_i64().ok_or("no pid is told")?)?)
    }

    /// Waits for a state.
    pub fn wait_for(&self, state: i64) -> Result<Value> {
        eventually(&format!("state {state} of {}", self.id), PATIENCE, || {
            let status = self.inspect()?["status"].take();
            Ok((status["state"].as_i64() == Some(state)).then_some(status))
        })
    }

    /// Waits for its end; the exit code.
    pub fn exit_code(&self) -> Result<i32> {
        // A code of 0 is left out of the answer.
        let code = self.wait_for(EXITED)?["exit_code"].as_i64().unwrap_or(0);
        Ok(i32::try_from(code)?)
    }

    /// What it wrote, as the kubelet reads it.
    pub fn logs(&self) -> Result<Output> {
        self.cmd("logs", &[], &[])?.run()
    }

    /// Waits until it has written `text`.
    pub fn wait_for_log(&self, text: &str) -> Result<Output> {
        eventually(&format!("{text:?} in the log of {}", self.id), PATIENCE, || {
            let output = self.logs()?.success()?;
            Ok((output.text().contains(text) || output.stderr.contains(text)).then_some(output))
        })
    }

    /// Stops it, with a grace period in seconds.
    pub fn stop(&self, grace: u32) -> Result {
        self.cmd("stop", &["--timeout", &grace.to_string()], &[])?.run()?.success().map(drop)
    }
}

/// A container of `image` that runs `words` and logs.
pub fn container(image: &str, words: &[&str]) -> Value {
    let name = suite::unique_id();
    json!({
        "metadata": {"name": name},
        "image": {"image": image},
        "command": words,
        "log_path": format!("{name}.log"),
        "linux": {},
    })
}

/// `container` with one more key of its configuration.
pub fn with(mut container: Value, key: &str, value: Value) -> Value {
    container[key] = value;
    container
}
