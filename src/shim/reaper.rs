//! The one place that reaps processes.
//!
//! The shim is a subreaper: `runwasm` calls are its children, and a container's processes become
//! its children when the `runwasm` that made them ends. Nothing else in the shim may wait for a
//! process, or it would take an exit away from here.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use log::{debug, warn};
use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::error::{Context, Error, Result};
use crate::sys::signals::send;

/// How a process ended, as containerd counts it: its exit code, or 128 and the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub status: u32,
    /// When the shim saw the exit.
    pub at: SystemTime,
}

/// Resolves when the process ends.
pub type Exiting = oneshot::Receiver<Exit>;

/// Reaps every child and hands each exit to whoever watches that process.
#[derive(Default)]
pub struct Reaper {
    children: Mutex<Children>,
}

#[derive(Default)]
struct Children {
    watched: HashMap<u32, oneshot::Sender<Exit>>,
    /// Exits nobody watched yet. A container can end before the `runwasm` that made it does, so
    /// before the shim knows its pid. Kept only while an operation that may ask is in flight.
    early: HashMap<u32, Exit>,
    operations: usize,
    /// The runtime calls in progress.
    spawned: HashSet<u32>,
}

/// While this lives, the exits of processes nobody watches yet are kept.
pub struct Operation(Arc<Reaper>);

impl Drop for Operation {
    fn drop(&mut self) {
        let mut children = self.0.lock();
        children.operations -= 1;
        if children.operations == 0 {
            children.early.clear();
        }
    }
}

impl Reaper {
    /// Makes this process the reaper of its descendants and starts to reap.
    ///
    /// Needs a Tokio runtime.
    pub fn start() -> Result<Arc<Self>> {
        nix::sys::prctl::set_child_subreaper(true).os(|| "become the reaper of the containers")?;
        let mut signals = signal(SignalKind::child()).os(|| "listen for SIGCHLD")?;
        let reaper = Arc::new(Self::default());
        let this = reaper.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                this.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts to keep the exits of processes that are not watched yet.
    pub fn operation(self: &Arc<Self>) -> Operation {
        self.lock().operations += 1;
        Operation(self.clone())
    }

    /// Starts a runtime call and watches it.
    pub fn spawn(&self, command: &mut Command) -> std::io::Result<Exiting> {
        let (pid, exiting) = self.spawn_driver(command)?;
        self.lock().spawned.insert(pid);
        Ok(exiting)
    }

    /// Starts a program that runs as long as a container's process, and watches it. Returns also
    /// its pid.
    ///
    /// Its exit cannot be missed: both happen before the reaper's task runs again.
    pub fn spawn_driver(&self, command: &mut Command) -> std::io::Result<(u32, Exiting)> {
        let mut children = self.lock();
        let pid = command.spawn()?.id();
        children.early.remove(&pid);
        Ok((pid, children.watch(pid)))
    }

    /// Whether no runtime call is running. One that has not come to its exec yet holds every
    /// descriptor of the shim.
    pub fn is_quiet(&self) -> bool {
        self.lock().spawned.is_empty()
    }

    /// Watches a process that became a child of the shim during `_operation`.
    pub fn watch(&self, pid: u32, _operation: &Operation) -> Exiting {
        self.lock().watch(pid)
    }

    /// Sends `number` to a watched process; false when it has ended.
    ///
    /// A process that was not reaped keeps its pid, so the signal cannot hit a stranger.
    pub fn signal(&self, pid: u32, number: u32) -> Result<bool> {
        let children = self.lock();
        if !children.watched.contains_key(&pid) {
            return Ok(false);
        }
        let number = i32::try_from(number).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| Error::invalid("no such signal"))?;
        send(pid as i32, number).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => Error::invalid(format!("{number} is no signal")),
            _ => Error::os(format!("send signal {number} to process {pid}: {error}")),
        })?;
        Ok(true)
    }

    fn reap(&self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let code = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => code,
                        (None, Some(signal)) => 128 + signal,
                        (None, None) => continue,
                    };
                    let exit = Exit { status: code as u32, at: SystemTime::now() };
                    self.lock().exited(pid.as_raw_nonzero().get() as u32, exit);
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    warn!("wait for children: {error}");
                    return;
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Children {
    fn watch(&mut self, pid: u32) -> Exiting {
        let (sender, receiver) = oneshot::channel();
        match self.early.remove(&pid) {
            // The receiver is alive: it is returned below.
            Some(exit) => drop(sender.send(exit)),
            None => drop(self.watched.insert(pid, sender)),
        }
        receiver
    }

    fn exited(&mut self, pid: u32, exit: Exit) {
        debug!("process {pid} exited with {}", exit.status);
        self.spawned.remove(&pid);
        match self.watched.remove(&pid) {
            // Whoever watched may have lost interest.
            Some(sender) => drop(sender.send(exit)),
            None if self.operations > 0 => drop(self.early.insert(pid, exit)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: u32) -> Exit {
        Exit { status, at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn an_exit_before_the_watch_is_kept_during_an_operation() {
        let reaper = Arc::new(Reaper::default());
        let operation = reaper.operation();
        reaper.lock().exited(7, exit(3));
        assert_eq!(reaper.watch(7, &operation).try_recv().unwrap(), exit(3));
        assert!(reaper.lock().early.is_empty());
    }

    #[test]
    fn exits_nobody_can_ask_for_are_dropped() {
        let reaper = Arc::new(Reaper::default());
        reaper.lock().exited(7, exit(3));
        assert!(reaper.lock().early.is_empty());
        let first = reaper.operation();
        let second = reaper.operation();
        reaper.lock().exited(8, exit(0));
        drop(first);
        assert_eq!(reaper.lock().early.len(), 1);
        drop(second);
        assert!(reaper.lock().early.is_empty());
    }

    #[test]
    fn a_process_that_is_not_watched_gets_no_signal() {
        let reaper = Reaper::default();
        assert!(!reaper.signal(std::process::id(), 9).unwrap());
    }
}
