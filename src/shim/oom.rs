//! News of the kernel's out-of-memory killer at work in a container.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use log::debug;
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::error::{Context, Error, Result};
use crate::shim::process::Process;
use crate::shim::stats::{Cgroups, keyed};
use crate::sys::readiness::watched;

/// Watches one container until it is dropped.
pub struct Watch {
    account: Arc<Account>,
    task: AbortHandle,
}

/// What was told of what the kernel has counted.
struct Account {
    counter: PathBuf,
    counted: AtomicU64,
    told: Mutex<u64>,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl Watch {
    /// Calls `tell` when the kernel kills in `cgroups` for want of memory, but not while `init` is
    /// being started: that is told first.
    pub fn start(
        cgroups: &Cgroups,
        init: Arc<Process>,
        tell: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self> {
        let (directory, file) = match cgroups {
            Cgroups::V1(directories) => (directories.get("memory"), "memory.oom_control"),
            Cgroups::V2(directory) => (Some(directory), "memory.events"),
        };
        let directory = directory.ok_or_else(|| Error::not_found("no memory controller"))?;
        let counter = directory.join(file);
        let account = Arc::new(Account {
            counter,
            counted: AtomicU64::new(0),
            told: Mutex::new(0),
            tell: Box::new(tell),
        });
        let task = match cgroups {
            Cgroups::V1(_) => tokio::spawn(wait_v1(subscribe(directory)?, account.clone(), init)),
            Cgroups::V2(_) => tokio::spawn(wait_v2(open(&account.counter)?, account.clone(), init)),
        };
        Ok(Self { account, task: task.abort_handle() })
    }

    /// Takes note of what the kernel has counted, without telling it. With the last process
    /// systemd removes the cgroup, so this comes first when one has ended.
    pub fn look(&self) {
        self.account.look();
    }

    /// Tells now what is still to be told, so that it comes before the end of the process.
    pub fn catch_up(&self) {
        self.account.compare();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Account {
    /// How many kills the kernel has counted, as far as is known.
    fn look(&self) -> u64 {
        let counted = keyed(&self.counter).get("oom_kill").copied().unwrap_or_default();
        counted.max(self.counted.fetch_max(counted, Ordering::Relaxed))
    }

    /// Tells if the kernel has counted more than was told.
    fn compare(&self) {
        let counted = self.look();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if counted > *told {
            *told = counted;
            (self.tell)();
        }
    }

    /// Tells of a kill that is about to be counted, unless something was told since `before`.
    fn ahead(&self, before: u64) {
        let counted = self.look();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told > before {
            return;
        }
        // Two kills in a row can be one piece of news.
        *told = (before + 1).max(counted);
        (self.tell)();
    }

    fn told(&self) -> u64 {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the kernel write to an event descriptor when `memory`, a cgroup of version 1, has no more.
fn subscribe(memory: &Path) -> Result<AsyncFd<OwnedFd>> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .os(|| "make an event descriptor")?;
    let control = memory.join("memory.oom_control");
    let file = File::open(&control).os(|| format!("open {}", control.display()))?;
    let registration = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
    let path = memory.join("cgroup.event_control");
    std::fs::write(&path, registration).os(|| format!("write {}", path.display()))?;
    watched(event, Interest::READABLE).os(|| "wait for events")
}

async fn wait_v1(event: AsyncFd<OwnedFd>, account: Arc<Account>, init: Arc<Process>) {
    loop {
        let count = &mut [0; 8];
        let read =
            event.async_io(Interest::READABLE, |event| Ok(rustix::io::read(event, &mut *count)?));
        if let Err(error) = read.await {
            return debug!("no more news of memory: {error}");
        }
        // The removal of the cgroup is an event too.
        if !account.counter.exists() {
            return;
        }
        let before = account.told();
        let _started = init.starting.lock().await;
        account.ahead(before);
    }
}

/// Opens a file whose changes the kernel makes known as exceptional conditions.
fn open(events: &Path) -> Result<AsyncFd<OwnedFd>> {
    let file = File::open(events).os(|| format!("open {}", events.display()))?;
    watched(file.into(), Interest::PRIORITY).os(|| "wait for events")
}

async fn wait_v2(events: AsyncFd<OwnedFd>, account: Arc<Account>, init: Arc<Process>) {
    loop {
        // A change counts from the last time that the file was read through this descriptor.
        if let Err(error) = rustix::io::pread(events.get_ref(), &mut [0; 4096], 0) {
            return debug!("no more news of memory: {error}");
        }
        account.look();
        let started = init.starting.lock().await;
        account.compare();
        drop(started);
        match events.ready(Interest::PRIORITY).await {
            Ok(mut changed) => changed.clear_ready(),
            Err(error) => return debug!("no more news of memory: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn a_kill_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let counter = dir.path().join("memory.events");
        let count = |count: u32| std::fs::write(&counter, format!("oom 9\noom_kill {count}\n"));
        let times = Arc::new(AtomicU32::new(0));
        let heard = times.clone();
        let tell = Box::new(move || {
            heard.fetch_add(1, Ordering::Relaxed);
        });
        let (counted, unheard) = (AtomicU64::new(0), Mutex::new(0));
        let account = Account { counter: counter.clone(), counted, told: unheard, tell };
        let told = |expected: u32| assert_eq!(times.load(Ordering::Relaxed), expected);
        account.compare();
        told(0);
        count(1).unwrap();
        account.compare();
        account.compare();
        told(1);
        account.ahead(1);
        told(2);
        // The end of the process has told of it meanwhile.
        account.ahead(1);
        told(2);
        count(2).unwrap();
        account.compare();
        told(2);
        count(3).unwrap();
        account.look();
        told(2);
        std::fs::remove_file(&counter).unwrap();
        account.compare();
        told(3);
    }
}
