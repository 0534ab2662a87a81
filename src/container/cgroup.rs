//! The container's cgroup.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, CgroupSetup, create_cgroup_manager,
    get_cgroup_setup,
};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::hierarchies::Cgroup;
use super::state::Record;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::pidfd::PidFd;

/// How long killed processes may take to go away.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a container's cgroup goes when `linux.cgroupsPath` is not set.
pub fn default_path(id: &str, systemd: bool) -> PathBuf {
    if systemd {
        PathBuf::from(format!("system.slice:runwasm:{id}"))
    } else {
        PathBuf::from(format!("/runwasm-{id}"))
    }
}

/// Whether this host has the unified hierarchy only.
pub fn is_v2() -> bool {
    matches!(get_cgroup_setup(), Ok(CgroupSetup::Unified))
}

/// libcontainer's description of the cgroup.
pub fn config(path: &Path, systemd_cgroup: bool, id: &str) -> CgroupConfig {
    CgroupConfig { cgroup_path: path.to_owned(), systemd_cgroup, container_name: id.to_owned() }
}

/// The manager of the container's cgroup: v1, v2 or systemd, as the host has it.
///
/// # Errors
/// When the host has no usable cgroup hierarchy.
pub fn manager(record: &Record, id: &str) -> Result<AnyCgroupManager> {
    create_cgroup_manager(config(&record.cgroup_path, record.systemd_cgroup, id))
        .context(ErrorKind::Os, || format!("cgroup {}", record.cgroup_path.display()))
}

/// The processes in the cgroup and below it; none if it does not exist.
pub fn pids(manager: &AnyCgroupManager) -> Vec<i32> {
    manager.get_all_pids().unwrap_or_default().into_iter().map(|pid| pid.as_raw()).collect()
}

/// Sends `signal` to every process in the cgroup.
///
/// # Errors
/// When a process may not be signalled.
pub fn signal_all(manager: &AnyCgroupManager, signal: i32) -> Result<()> {
    for pid in pids(manager) {
        // A process that cannot be opened has just ended.
        let Ok(process) = PidFd::open(pid) else {
            continue;
        };
        match process.send(signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).os(|| format!("signal process {pid}")),
        }
    }
    Ok(())
}

/// Kills every process in the cgroup, also those that are forked meanwhile, and waits until all
/// are gone.
///
/// # Errors
/// When some are still there after ten seconds.
pub fn kill_all(manager: &AnyCgroupManager) -> Result<()> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        // This process may be in the cgroup that a spec names, and so may its caller; it is not
        // the container's.
        let own = std::process::id() as i32;
        let left: Vec<i32> = pids(manager).into_iter().filter(|&pid| pid != own).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::os(format!("processes {left:?} do not die")));
        }
        // A frozen process dies only once it is thawed (cgroup v1).
        let _ = manager.freeze(libcgroups::common::FreezerState::Thawed);
        for pid in left {
            if let Ok(process) = PidFd::open(pid) {
                let _ = process.send(Signal::SIGKILL as i32);
                let _ = process.wait_end(Some(Duration::from_millis(100)));
            }
        }
    }
}

/// Kills what is left in the cgroup and removes it.
///
/// # Errors
/// As [`kill_all`] and [`remove`].
pub fn clear(record: &Record, id: &str) -> Result<()> {
    let cgroup = Cgroup::find(&record.cgroup_path).filter(|_| !record.systemd_cgroup);
    if cgroup.is_some_and(|cgroup| cgroup.remove_empty()) {
        return Ok(());
    }
    let manager = manager(record, id)?;
    kill_all(&manager)?;
    remove(&manager)
}

/// Removes the cgroup. One that is gone, or was never made, is fine.
///
/// # Errors
/// When a process is still in it.
pub fn remove(manager: &AnyCgroupManager) -> Result<()> {
    manager.remove().context(ErrorKind::Os, || "remove the container's cgroup")
}
