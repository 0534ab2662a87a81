//! One container: its processes, and what can be done with them.

mod create;
mod exec;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use containerd_shim::protos::events::task::{
    TaskDelete, TaskExit, TaskPaused, TaskResumed, TaskStart,
};
use log::{info, warn};
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::shim::io::Opener;
use crate::shim::mount;
use crate::shim::oom::Watch;
use crate::shim::options::Options;
use crate::shim::process::{Prepared, Process};
use crate::shim::reaper::{Exit, Exiting};
use crate::shim::runtime::Runtime;
use crate::shim::server::Shim;
use crate::shim::state::{Action, Change, Status};
use crate::shim::stats::Cgroups;
use crate::shim::terminal::ConsoleSocket;
use crate::shim::wire::to_timestamp;

/// The end of a container waits this long for the ends of its exec'd processes, which the kernel
/// has killed, and `delete` for the end of a container that was never started.
const LAST_EXITS: Duration = Duration::from_secs(5);

const KILL: u32 = 9;

/// The exit code of a wasm guest that trapped, and of an aborted Linux process.
const TRAPPED: u32 = 134;

/// A container.
pub struct Container {
    shim: Arc<Shim>,
    id: String,
    bundle: PathBuf,
    runtime: Runtime,
    options: Options,
    init: Arc<Process>,
    execs: Mutex<HashMap<String, Exec>>,
    cgroups: Option<Cgroups>,
    oom: Option<Watch>,
    /// Whether the kernel ends every process of the container with the first one.
    private_pids: bool,
    /// One operation of the runtime on the container's state at a time.
    operations: tokio::sync::Mutex<()>,
}

struct Exec {
    process: Arc<Process>,
    /// The OCI spec's process, as JSON.
    spec: Arc<[u8]>,
}

/// How a deleted process ended.
pub struct Deleted {
    /// The pid it had.
    pub pid: u32,
    /// Its exit; none if it was never started.
    pub exit: Option<Exit>,
}

impl Container {
    async fn prepare(&self, process: &Process) -> Result<Prepared> {
        let opener = Opener {
            options: &self.options,
            reaper: &self.shim.reaper,
            namespace: &self.shim.namespace,
            id: match process.exec_id.as_str() {
                "" => &self.id,
                exec_id => exec_id,
            },
        };
        let console = || ConsoleSocket::bind(self.shim.console_path());
        Prepared::open(&process.stdio, &opener, console).await
    }

    /// Follows a process to its end, and tells containerd.
    fn follow(self: Arc<Self>, process: Arc<Process>, exiting: Exiting) {
        tokio::spawn(async move {
            // The reaper ends with the shim only.
            let Ok(exit) = exiting.await else { return };
            if let Some(oom) = &self.oom {
                oom.look();
            }
            let started = process.starting.lock().await;
            if process.exec_id.is_empty() {
                self.end_the_rest().await;
            }
            process.drain(self.shim.reaper.is_quiet()).await;
            self.log_exit(&process, &exit);
            if let Some(oom) = &self.oom {
                oom.catch_up();
            }
            self.shim.events.publish(TaskExit {
                container_id: self.id.clone(),
                id: self.event_id(&process),
                pid: process.pid(),
                exit_status: exit.status,
                exited_at: Some(to_timestamp(exit.at)).into(),
                ..Default::default()
            });
            drop(started);
            process.stopped(exit);
        });
    }

    fn log_exit(&self, process: &Process, exit: &Exit) {
        let why = match exit.status {
            0..=128 => "",
            TRAPPED => ", an abort or a trap of a wasm guest: see its standard error",
            137 => ", killed",
            _ => ", by a signal or of its own",
        };
        info!("{}: process {} exited with {}{why}", self.id, process.pid(), exit.status);
    }

    /// After the first process: ends the others, and lets their exits be told first.
    async fn end_the_rest(&self) {
        if !self.private_pids {
            match self.runtime.kill(KILL, true).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    warn!("{}: kill what the first process left: {error}", self.id);
                }
                _ => {}
            }
        }
        let running: Vec<_> = self.execs().values().map(|exec| exec.process.clone()).collect();
        let running = running.into_iter().filter(|exec| exec.status() == Status::Running);
        let all = async {
            for exec in running {
                exec.wait().await;
            }
        };
        if timeout(LAST_EXITS, all).await.is_err() {
            warn!("{}: an exec'd process outlives the container", self.id);
        }
    }

    /// Starts the container, or the exec'd process `exec_id`. Returns its pid.
    pub async fn start(self: &Arc<Self>, exec_id: &str) -> Result<u32> {
        match exec_id {
            "" => self.start_init().await,
            _ => self.start_exec(exec_id).await,
        }
    }

    async fn start_init(&self) -> Result<u32> {
        let _operation = self.operations.lock().await;
        let _starting = self.init.starting.lock().await;
        self.init.allows(Action::Start)?;
        self.runtime.start().await?;
        self.init.change(Change::Started);
        let pid = self.init.pid();
        let container_id = self.id.clone();
        self.shim.events.publish(TaskStart { container_id, pid, ..Default::default() });
        Ok(pid)
    }

    /// Deletes the container. On success the caller takes it off the shim's list.
    pub async fn delete(&self) -> Result<Deleted> {
        let _operation = self.operations.lock().await;
        self.init.allows(Action::Delete)?;
        self.remove().await?;
        if timeout(LAST_EXITS, self.init.wait()).await.is_err() {
            warn!("{}: the container is deleted, but its process lives on", self.id);
        }
        let execs: Vec<_> = self.execs().drain().map(|(_, exec)| exec.process).collect();
        for process in execs.iter().chain([&self.init]) {
            process.logged().await;
        }
        execs.iter().for_each(|exec| exec.deleted());
        let deleted = Deleted { pid: self.init.pid(), exit: self.init.exit() };
        self.init.deleted();
        self.shim.events.publish(TaskDelete {
            container_id: self.id.clone(),
            pid: deleted.pid,
            exit_status: deleted.exit.map_or(0, |exit| exit.status),
            exited_at: deleted.exit.map(|exit| to_timestamp(exit.at)).into(),
            ..Default::default()
        });
        Ok(deleted)
    }

    /// Ends the container and removes it, whatever its state: the shim itself is told to end. The
    /// exit is told to containerd; the rest containerd tells by itself, as it takes the shim for
    /// dead.
    pub async fn end(&self) {
        let _operation = self.operations.lock().await;
        if self.init.exit().is_none() {
            match self.runtime.kill(KILL, true).await {
                Err(error) if error.kind() != ErrorKind::NotFound => warn!("{}: {error}", self.id),
                _ => {}
            }
            if timeout(LAST_EXITS, self.init.wait()).await.is_err() {
                warn!("{}: the container does not end", self.id);
            }
        }
        if let Err(error) = self.remove().await {
            warn!("{}: clean up at the shim's end: {error}", self.id);
        }
    }

    /// Removes what was made for the container.
    async fn remove(&self) -> Result<()> {
        let deleted = self.runtime.delete().await;
        // Tried even if the step before it failed.
        let unmounted = mount::unmount_all(self.rootfs()).await;
        deleted.and(unmounted)?;
        Options::forget(&self.bundle);
        Ok(())
    }

    /// Sends `signal` to the first process, to all, or to an exec'd process.
    pub async fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<()> {
        if exec_id.is_empty() {
            let _operation = self.operations.lock().await;
            self.init.allows(Action::Kill)?;
            return self.runtime.kill(signal, all).await;
        }
        let process = self.process(exec_id)?;
        // A process can show signs of life before its start is answered.
        let _starting = process.starting.lock().await;
        process.allows(Action::Kill)?;
        match process.pid() {
            0 => Err(Error::new(ErrorKind::FailedPrecondition, "process was not started")),
            pid if self.shim.reaper.signal(pid, signal)? => Ok(()),
            _ => Status::Stopped.allows(Action::Kill),
        }
    }

    /// Freezes the container.
    pub async fn pause(&self) -> Result<()> {
        let _operation = self.operations.lock().await;
        self.init.allows(Action::Pause)?;
        self.runtime.pause().await?;
        self.init.change(Change::Paused);
        let container_id = self.id.clone();
        self.shim.events.publish(TaskPaused { container_id, ..Default::default() });
        Ok(())
    }

    /// Thaws the container.
    pub async fn resume(&self) -> Result<()> {
        let _operation = self.operations.lock().await;
        self.init.allows(Action::Resume)?;
        self.runtime.resume().await?;
        self.init.change(Change::Resumed);
        let container_id = self.id.clone();
        self.shim.events.publish(TaskResumed { container_id, ..Default::default() });
        Ok(())
    }

    /// Changes the limits to `resources`, the OCI spec's JSON.
    pub async fn update(&self, resources: &[u8]) -> Result<()> {
        let _operation = self.operations.lock().await;
        self.init.allows(Action::Update)?;
        self.runtime.update(resources).await
    }

    /// The pids of all processes, each with its exec id if it has one.
    pub async fn pids(&self) -> Result<Vec<(u32, Option<String>)>> {
        if self.init.status() == Status::Stopped {
            // A restarted containerd takes a task without processes for a leak, and would throw
            // the exit code away.
            return Ok(vec![(self.init.pid(), None)]);
        }
        let pids = self.runtime.ps().await?;
        let execs = self.execs();
        let exec_id = |pid: u32| {
            let exec = execs.values().find(|exec| exec.process.pid() == pid);
            exec.map(|exec| exec.process.exec_id.clone())
        };
        Ok(pids.into_iter().map(|pid| (pid, exec_id(pid))).collect())
    }

    /// Where the statistics come from.
    pub fn cgroups(&self) -> Result<&Cgroups> {
        let known = self.cgroups.as_ref().filter(|_| self.init.status() != Status::Deleted);
        known.ok_or_else(|| Error::not_found(format!("container {} has no cgroup", self.id)))
    }

    /// The first process, or an exec'd one.
    pub fn process(&self, exec_id: &str) -> Result<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        let execs = self.execs();
        execs.get(exec_id).map(|exec| exec.process.clone()).ok_or_else(|| no_process(exec_id))
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The container's bundle.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Exec>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events name the first process by the container.
    fn event_id(&self, process: &Process) -> String {
        match process.exec_id.as_str() {
            "" => self.id.clone(),
            exec_id => exec_id.to_owned(),
        }
    }
}

fn no_process(exec_id: &str) -> Error {
    Error::not_found(format!("process {exec_id} does not exist"))
}
