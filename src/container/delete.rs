//! Deleting a container, whatever state its creation or its engine left it in.

use std::fs;
use std::path::Path;
use std::time::Duration;

use libcontainer::config::YoukiConfig;
use libcontainer::hooks::run_hooks;
use libcontainer::process::intel_rdt::cleanup_intel_rdt;
use nix::sys::signal::Signal;

use super::cgroup;
use super::state::{Container, Record, Status, directory, does_not_exist};
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
    match Container::load(root, id) {
        Ok(mut container) => delete_loaded(&mut container, force),
        // What a killed `create`, or a full disk, left behind.
        Err(_) if force => {
            if let Some(record) = Record::salvage(&dir) {
                clear_cgroup(&record, id)?;
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
    if let Some(pid) = container.init()
        && let Ok(init) = PidFd::open(pid)
    {
        init.send(Signal::SIGKILL as i32).ok();
        thaw(container);
        let ended = init.wait_end(Some(KILL_TIMEOUT)).os(|| "wait for the container's process")?;
        if !ended {
            return Err(Error::os(format!("process {pid} does not die")));
        }
    }
    clear_cgroup(&container.record, container.id())?;
    let inner = &container.inner;
    if let Err(error) = cleanup_intel_rdt(
        inner.intel_rdt_dir().map(|path| path.as_path()),
        inner.intel_rdt_monitoring_dir().map(|path| path.as_path()),
        inner.clean_up_intel_rdt_subdirectory(),
        inner.id(),
    ) {
        log::warn!("remove the resctrl group: {error}");
    }
    let hooks = YoukiConfig::load(&inner.root).ok().and_then(|config| config.hooks);
    let dir = inner.root.clone();
    fs::remove_dir_all(&dir).os(|| format!("remove {}", dir.display()))?;
    // The runtime spec: poststop runs after deletion, and a failing hook is a warning.
    let poststop = hooks.as_ref().and_then(|hooks| hooks.poststop().as_ref());
    container.inner.set_status(libcontainer::container::ContainerStatus::Stopped);
    if let Err(error) = run_hooks(poststop, Some(&container.inner.state), None, None, None) {
        log::warn!("poststop hook: {error}");
    }
    Ok(())
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

fn clear_cgroup(record: &Record, id: &str) -> Result<()> {
    let manager = cgroup::manager(record, id)?;
    cgroup::kill_all(&manager)?;
    cgroup::remove(&manager)
}
