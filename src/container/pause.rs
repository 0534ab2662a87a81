//! Freezing and thawing.

use libcgroups::common::{CgroupManager, FreezerState};
use libcontainer::container::ContainerStatus;

use super::cgroup;
use super::state::{Container, Status};
use crate::error::{Context, Error, Result};

/// Freezes every process of a running container.
///
/// # Errors
/// [`crate::error::ErrorKind::FailedPrecondition`] unless it runs.
pub fn pause(container: &mut Container) -> Result<()> {
    if !matches!(container.status(), Status::Running | Status::Created) {
        return Err(Error::precondition(format!(
            "container not running: cannot pause a container that is {}",
            container.status().as_str()
        )));
    }
    freeze(container, FreezerState::Frozen)?;
    container.save_status(ContainerStatus::Paused)
}

/// Lets a paused container go on.
///
/// # Errors
/// [`crate::error::ErrorKind::FailedPrecondition`] unless it is paused.
pub fn resume(container: &mut Container) -> Result<()> {
    if container.status() != Status::Paused {
        return Err(Error::precondition(format!(
            "container not paused: cannot resume a container that is {}",
            container.status().as_str()
        )));
    }
    freeze(container, FreezerState::Thawed)?;
    container.save_status(ContainerStatus::Running)
}

fn freeze(container: &Container, state: FreezerState) -> Result<()> {
    let manager = cgroup::manager(&container.record, container.id())?;
    manager.freeze(state).os(|| "change the freezer state of the container's cgroup")
}
