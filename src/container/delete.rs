//! Deleting a container, whatever state its creation or its engine left it in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use libcontainer::config::YoukiConfig;
use libcontainer::container::ContainerStatus;
use libcontainer::process::intel_rdt::cleanup_intel_rdt;
use nix::sys::signal::Signal;

use super::state::{CREATING, Container, Record, Status, directory, does_not_exist};
use super::{cgroup, hooks};
use crate::error::{Context, Error, Result};
use crate::sys::pidfd::PidFd;

/// How long a killed init process may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Deletes the container `id`: its processes, its cgroup and its state, then runs the poststop
/// hooks. Without `force` it must be stopped, or created and never started.
///
/// # Errors
/// [`crate::error::ErrorKind::NotFound`] when there is none and `force` is not set,
/// [`crate::error::ErrorKind::FailedPrecondition`] when it runs, and what the kernel refuses.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    let dir = directory(root, id)?;
    if !dir.is_dir() {
        return if force { Ok(()) } else { Err(does_not_exist(id)) };
    }
    match Container::load_locked(root, id) {
        Ok((mut container, _lock)) => delete_loaded(&mut container, force),
        // What a killed `create`, or a full disk, left behind.
        Err(_) if force => {
            kill_creators(&dir)?;
            if let Some(record) = Record::salvage(&dir) {
                cgroup::clear(&record, id)?;
            }
            fs::remove_dir_all(&dir).os(|| format!("remove {}", dir.display()))
        }
        Err(error) => Err(error),
    }
}

fn delete_loaded(container: &mut Container, force: bool) -> Result<()> {
    let status = container.status();
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        return Err(Error::precondition(format!(
            "cannot delete container {:?} that is not stopped: {}",
            container.id(),
            status.as_str()
        )));
    }
    if status == Status::Creating {
        kill_creators(&container.inner.root)?;
    }
    if let Some(init) = container.open_init() {
        init.send(Signal::SIGKILL as i32).ok();
        thaw(container);
        let ended = init.wait_end(Some(KILL_TIMEOUT)).os(|| "wait for the container's process")?;
        if !ended {
            return Err(Error::os("the container's process does not die"));
        }
    }
    cgroup::clear(&container.record, container.id())?;
    let inner = &container.inner;
    if let Err(error) = cleanup_intel_rdt(
        inner.intel_rdt_dir().map(|path| path.as_path()),
        inner.intel_rdt_monitoring_dir().map(|path| path.as_path()),
        inner.clean_up_intel_rdt_subdirectory(),
        inner.id(),
    ) {
        log::warn!("remove the resctrl group: {error}");
    }
    let config = YoukiConfig::load(&inner.root).ok().and_then(|config| config.hooks);
    let dir = inner.root.clone();
    fs::remove_dir_all(&dir).os(|| format!("remove {}", dir.display()))?;
    // The runtime spec: poststop hooks run after deletion.
    container.inner.set_status(ContainerStatus::Stopped);
    let poststop = config.as_ref().and_then(|hooks| hooks.poststop().as_ref());
    hooks::run_all("poststop", poststop, &container.inner.state);
    Ok(())
}

/// Kills the processes, this one excepted, that hold the mark of a container being created: a
/// `create` that is still at it, and what one that was killed left. They may not have joined the
/// cgroup yet, and would create it again.
///
/// # Errors
/// When one does not die.
pub fn kill_creators(dir: &Path) -> Result<()> {
    let Ok(mark) = fs::metadata(dir.join(CREATING)) else {
        return Ok(());
    };
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        let holders = holders(&mark);
        if holders.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::os(format!("processes {holders:?} do not die")));
        }
        for pid in holders {
            if let Ok(process) = PidFd::open(pid) {
                process.kill().ok();
                process.wait_end(Some(Duration::from_millis(100))).ok();
            }
        }
    }
}

/// The processes, this one excepted, that have the file open.
fn holders(file: &fs::Metadata) -> Vec<i32> {
    let own = std::process::id() as i32;
    let number = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    let holds = |pid: i32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| fs::metadata(entry.path()).ok())
            .any(|meta| (meta.dev(), meta.ino()) == (file.dev(), file.ino()))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| number(&entry)).filter(|&pid| pid != own && holds(pid)).collect()
}

/// Under cgroup v1 a frozen process does not take SIGKILL.
fn thaw(container: &Container) {
    use libcgroups::common::{CgroupManager, FreezerState};
    if container.status() == Status::Paused
        && let Ok(manager) = cgroup::manager(&container.record, container.id())
    {
        let _ = manager.freeze(FreezerState::Thawed);
    }
}
