//! One container: its processes, and what can be done with them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim::api::CreateTaskRequest;
use containerd_shim::protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskPaused,
    TaskResumed, TaskStart,
};
use log::{info, warn};
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::shim::io::Stdio;
use crate::shim::mount;
use crate::shim::options::Options;
use crate::shim::process::{Prepared, Process};
use crate::shim::reaper::{Exit, Exiting};
use crate::shim::runtime::{Runtime, Subject};
use crate::shim::server::Shim;
use crate::shim::spec::{self, Config};
use crate::shim::state::{Action, Status};
use crate::shim::stats::Cgroups;
use crate::shim::terminal::ConsoleSocket;
use crate::shim::wire::to_timestamp;

/// The end of a container waits this long for the ends of its exec'd processes, which the kernel
/// has killed, and `delete` for the end of a container that was never started.
const LAST_EXITS: Duration = Duration::from_secs(5);

const KILL: u32 = 9;

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
    /// Makes a container as `request` says. A failure leaves nothing behind.
    pub async fn create(shim: Arc<Shim>, request: CreateTaskRequest) -> Result<Arc<Self>> {
        if !request.checkpoint.is_empty() {
            return Err(unsupported("restore from a checkpoint is not supported"));
        }
        let options = Options::from_any(request.options.as_ref())?;
        let bundle = PathBuf::from(&request.bundle);
        let private_pids = Config::read(&bundle)?.has_private_pids();
        options.save(&bundle)?;
        let subject = Subject {
            namespace: &shim.namespace,
            id: &request.id,
            bundle: &bundle,
            debug: shim.debug,
        };
        let runtime = Runtime::new(&subject, &options, shim.reaper.clone());
        let stdio = Stdio {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let mut container = Self {
            id: request.id.clone(),
            init: Arc::new(Process::new("", stdio)),
            execs: Mutex::default(),
            operations: tokio::sync::Mutex::default(),
            cgroups: None,
            runtime,
            options,
            private_pids,
            bundle,
            shim,
        };
        let mounted = mount::mount_all(request.rootfs.clone(), container.rootfs()).await;
        let made = match mounted {
            Ok(()) => container.make_init().await,
            Err(error) => Err(error),
        };
        match made {
            Ok(exiting) => {
                let container = Arc::new(container);
                container.announce_create(&request);
                container.clone().follow(container.init.clone(), exiting);
                Ok(container)
            }
            Err(error) => {
                container.discard().await;
                Err(error)
            }
        }
    }

    /// Runs the runtime's create. On success the first process is known and waits to be started.
    async fn make_init(&mut self) -> Result<Exiting> {
        let operation = self.shim.reaper.operation();
        let mut prepared = self.prepare(&self.init.stdio)?;
        let pid = self.runtime.create(prepared.handles(), prepared.console()).await?;
        let exiting = self.shim.reaper.watch(pid, &operation);
        self.cgroups = Cgroups::of_process(pid)
            .inspect_err(|error| warn!("{}: no statistics: {error}", self.id))
            .ok();
        let streams = prepared.connect(&self.init.stdio, &self.options).await?;
        self.init.made(pid, streams);
        Ok(exiting)
    }

    fn prepare(&self, stdio: &Stdio) -> Result<Prepared> {
        Prepared::open(stdio, &self.options, || ConsoleSocket::bind(self.shim.console_path()))
    }

    /// Undoes what a failed create did.
    async fn discard(&self) {
        let deleted = self.runtime.delete().await;
        // Tried even if the step before it failed.
        let unmounted = mount::unmount_all(self.rootfs()).await;
        match deleted.and(unmounted) {
            Ok(()) => Options::forget(&self.bundle),
            Err(error) => warn!("{}: clean up after a failed create: {error}", self.id),
        }
    }

    /// Follows a process to its end, and tells containerd.
    fn follow(self: Arc<Self>, process: Arc<Process>, exiting: Exiting) {
        tokio::spawn(async move {
            // The reaper ends with the shim only.
            let Ok(exit) = exiting.await else { return };
            let started = process.starting.lock().await;
            if process.exec_id.is_empty() {
                self.end_the_rest().await;
            }
            process.drain(self.shim.reaper.is_quiet()).await;
            info!("{}: process {} exited with {}", self.id, process.pid(), exit.status);
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
        self.init.advance(Status::Created, Status::Running);
        let pid = self.init.pid();
        let container_id = self.id.clone();
        self.shim.events.publish(TaskStart { container_id, pid, ..Default::default() });
        Ok(pid)
    }

    async fn start_exec(self: &Arc<Self>, exec_id: &str) -> Result<u32> {
        let (process, spec) = {
            let execs = self.execs();
            let exec = execs.get(exec_id).ok_or_else(|| no_process(exec_id))?;
            (exec.process.clone(), exec.spec.clone())
        };
        let _starting = process.starting.lock().await;
        process.allows(Action::Start)?;
        self.init.allows(Action::Exec)?;
        let exiting = self.make_exec(&process, &spec).await.inspect_err(|_| {
            // Whoever waits for it is told that it will not come.
            process.stopped(Exit { status: 255, at: SystemTime::now() });
        })?;
        process.advance(Status::Created, Status::Running);
        let pid = process.pid();
        self.shim.events.publish(TaskExecStarted {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            pid,
            ..Default::default()
        });
        self.clone().follow(process.clone(), exiting);
        Ok(pid)
    }

    async fn make_exec(&self, process: &Process, spec: &[u8]) -> Result<Exiting> {
        let operation = self.shim.reaper.operation();
        let mut prepared = self.prepare(&process.stdio)?;
        let (handles, console) = (prepared.handles(), prepared.console());
        let pid = self.runtime.exec(&process.exec_id, spec, handles, console).await?;
        let exiting = self.shim.reaper.watch(pid, &operation);
        let streams = prepared.connect(&process.stdio, &self.options).await?;
        process.made(pid, streams);
        Ok(exiting)
    }

    /// Adds a process to be started: `spec` is the OCI spec's process.
    pub fn exec(&self, exec_id: &str, stdio: Stdio, spec: &[u8]) -> Result<()> {
        self.init.allows(Action::Exec)?;
        // It becomes part of file names.
        if exec_id.is_empty() || exec_id.contains('/') || exec_id.len() > 128 {
            return Err(Error::invalid(format!("exec id {exec_id:?} is not a file name")));
        }
        let spec = spec::with_terminal(spec, stdio.terminal)?.into();
        let mut execs = self.execs();
        if execs.contains_key(exec_id) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("process {exec_id} already exists in container {}", self.id),
            ));
        }
        let process = Arc::new(Process::new(exec_id, stdio));
        execs.insert(exec_id.to_owned(), Exec { process, spec });
        self.shim.events.publish(TaskExecAdded {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        });
        Ok(())
    }

    /// Deletes an exec'd process that is not running.
    pub fn delete_exec(&self, exec_id: &str) -> Result<Deleted> {
        let mut execs = self.execs();
        let process = &execs.get(exec_id).ok_or_else(|| no_process(exec_id))?.process;
        process.allows(Action::Delete)?;
        // Its start is on the way, in which case it is as good as running.
        if process.starting.try_lock().is_err() {
            return Err(Status::Running.allows(Action::Delete).err().unwrap_or_else(|| {
                Error::new(ErrorKind::FailedPrecondition, "the process is being started")
            }));
        }
        let deleted = Deleted { pid: process.pid(), exit: process.exit() };
        process.deleted();
        execs.remove(exec_id);
        Ok(deleted)
    }

    /// Deletes the container. On success the caller takes it off the shim's list.
    pub async fn delete(&self) -> Result<Deleted> {
        let _operation = self.operations.lock().await;
        self.init.allows(Action::Delete)?;
        self.runtime.delete().await?;
        mount::unmount_all(self.rootfs()).await?;
        Options::forget(&self.bundle);
        if timeout(LAST_EXITS, self.init.wait()).await.is_err() {
            warn!("{}: the container is deleted, but its process lives on", self.id);
        }
        for exec in self.execs().drain().map(|(_, exec)| exec.process) {
            exec.deleted();
        }
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

    /// Sends `signal` to the first process, to all, or to an exec'd process.
    pub async fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<()> {
        if exec_id.is_empty() {
            let _operation = self.operations.lock().await;
            self.init.allows(Action::Kill)?;
            return self.runtime.kill(signal, all).await;
        }
        let process = self.process(exec_id)?;
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
        self.init.advance(Status::Running, Status::Paused);
        let container_id = self.id.clone();
        self.shim.events.publish(TaskPaused { container_id, ..Default::default() });
        Ok(())
    }

    /// Thaws the container.
    pub async fn resume(&self) -> Result<()> {
        let _operation = self.operations.lock().await;
        self.init.allows(Action::Resume)?;
        self.runtime.resume().await?;
        self.init.advance(Status::Paused, Status::Running);
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
        let known = self.cgroups.as_ref().filter(|cgroups| match self.init.status() {
            Status::Deleted => false,
            // The pid may be another process's by now.
            Status::Stopped => matches!(cgroups, Cgroups::V1(_)),
            _ => true,
        });
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

    fn announce_create(&self, request: &CreateTaskRequest) {
        let io = TaskIO {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
            ..Default::default()
        };
        self.shim.events.publish(TaskCreate {
            container_id: self.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(io).into(),
            pid: self.init.pid(),
            ..Default::default()
        });
    }
}

/// An error for what this shim does not offer.
pub fn unsupported(message: &str) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

fn no_process(exec_id: &str) -> Error {
    Error::not_found(format!("process {exec_id} does not exist"))
}
