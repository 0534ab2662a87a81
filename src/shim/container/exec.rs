//! Processes exec'd into a container.

use std::sync::Arc;
use std::time::SystemTime;

use containerd_shim::protos::events::task::{TaskExecAdded, TaskExecStarted};

use super::{Container, Deleted, Exec, no_process};
use crate::error::{Error, ErrorKind, Result};
use crate::shim::process::Process;
use crate::shim::reaper::{Exit, Exiting};
use crate::shim::spec;
use crate::shim::state::{Action, Change, Status};
use crate::shim::stdio::Stdio;

impl Container {
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

    pub(super) async fn start_exec(self: &Arc<Self>, exec_id: &str) -> Result<u32> {
        let (process, spec) = {
            let execs = self.execs();
            let exec = execs.get(exec_id).ok_or_else(|| no_process(exec_id))?;
            (exec.process.clone(), exec.spec.clone())
        };
        let _starting = process.starting.lock().await;
        process.allows(Action::Start)?;
        self.init.allows(Action::StartExec)?;
        let exiting = self.make_exec(&process, &spec).await.inspect_err(|_| {
            // Whoever waits for it is told that it will not come.
            process.stopped(Exit { status: 255, at: SystemTime::now() });
        })?;
        process.change(Change::Started);
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
        let mut prepared = self.prepare(process).await?;
        let (handles, console) = (prepared.handles(), prepared.console());
        let pid = self.runtime.exec(&process.exec_id, spec, handles, console).await?;
        let exiting = self.shim.reaper.watch(pid, &operation);
        let streams = prepared.connect(&process.stdio, &self.options).await?;
        process.made(pid, streams);
        Ok(exiting)
    }

    /// Deletes an exec'd process that is not running.
    pub async fn delete_exec(&self, exec_id: &str) -> Result<Deleted> {
        let process = self.process(exec_id)?;
        {
            // Its start may be on the way, in which case it is as good as running.
            let starting = process.starting.try_lock();
            let status = if starting.is_ok() { process.status() } else { Status::Running };
            status.allows(Action::Delete)?;
            if self.execs().remove(exec_id).is_none() {
                return Err(no_process(exec_id));
            }
        }
        process.logged().await;
        let deleted = Deleted { pid: process.pid(), exit: process.exit() };
        process.deleted();
        Ok(deleted)
    }
}
