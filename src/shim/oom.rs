//! News of the kernel's out-of-memory killer at work in a container.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use log::debug;
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::error::{Context, Error, Result};
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
    told: Mutex<u64>,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl Watch {
    /// Calls `tell` when the kernel kills in `cgroups` for want of memory.
    pub fn start(cgroups: &Cgroups, tell: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let (directory, file) = match cgroups {
            Cgroups::V1(directories) => (directories.get("memory"), "memory.oom_control"),
            Cgroups::V2(directory) => (Some(directory), "memory.events"),
        };
        let directory = directory.ok_or_else(|| Error::not_found("no memory controller"))?;
        let counter = directory.join(file);
        let account = Arc::new(Account { counter, told: Mutex::new(0), tell: Box::new(tell) });
        let task = match cgroups {
            Cgroups::V1(_) => tokio::spawn(wait_v1(subscribe(directory)?, account.clone())),
            Cgroups::V2(_) => tokio::spawn(wait_v2(open(&account.counter)?, account.clone())),
        };
        Ok(Self { account, task: task.abort_handle() })
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
    /// Tells if the kernel has counted more than was told.
    fn compare(&self) {
        let counted = keyed(&self.counter).get("oom_kill").copied().unwrap_or_default();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if counted > *told {
            *told = counted;
            (self.tell)();
        }
    }

    /// Tells of a kill that is about to be counted.
    fn ahead(&self) {
        let counted = keyed(&self.counter).get("oom_kill").copied().unwrap_or_default();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Two kills in a row can be one piece of news.
        *told = (*told + 1).max(counted);
        (self.tell)();
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

async fn wait_v1(event: AsyncFd<OwnedFd>, account: Arc<Account>) {
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
        account.ahead();
    }
}

/// Opens a file whose changes the kernel makes known as exceptional conditions.
fn open(events: &Path) -> Result<AsyncFd<OwnedFd>> {
    let file = File::open(events).os(|| format!("open {}", events.display()))?;
    watched(file.into(), Interest::PRIORITY).os(|| "wait for events")
}

async fn wait_v2(events: AsyncFd<OwnedFd>, account: Arc<Account>) {
    loop {
        // A change counts from the last time that the file was read through this descriptor.
        if let Err(error) = rustix::io::pread(events.get_ref(), &mut [0; 4096], 0) {
            return debug!("no more news of memory: {error}");
        }
        account.compare();
        match events.ready(Interest::PRIORITY).await {
            Ok(mut changed) => changed.clear_ready(),
            Err(error) => return debug!("no more news of memory: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

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
        let account = Account { counter: counter.clone(), told: Mutex::new(0), tell };
        let told = |expected: u32| assert_eq!(times.load(Ordering::Relaxed), expected);
        account.compare();
        told(0);
        count(1).unwrap();
        account.compare();
        account.compare();
        told(1);
        account.ahead();
        told(2);
        count(2).unwrap();
        account.compare();
        told(2);
        count(3).unwrap();
        account.compare();
        told(3);
    }
}
