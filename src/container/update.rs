//! Changing resource limits in place, and reading resource use.

use libcgroups::common::{CgroupManager, ControllerOpt};
use libcgroups::stats::Stats;
use oci_spec::runtime::LinuxResources;

use super::cgroup;
use super::state::{Container, Status};
use crate::error::{Context, Error, Result};

/// Applies `resources` to a container that has not stopped. A wasm guest's bound on linear memory
/// stays what it was at create; the kernel enforces the new limit.
///
/// # Errors
/// [`crate::error::ErrorKind::FailedPrecondition`] when it has stopped; what the kernel refuses.
pub fn update(container: &Container, resources: &LinuxResources) -> Result<()> {
    require_alive(container)?;
    let options = ControllerOpt {
        resources,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    let manager = cgroup::manager(&container.record, container.id())?;
    manager.apply(&options).os(|| "apply the new limits")
}

/// Reads the resource use of a container that has not stopped.
///
/// # Errors
/// [`crate::error::ErrorKind::FailedPrecondition`] when it has stopped.
pub fn stats(container: &Container) -> Result<Stats> {
    require_alive(container)?;
    let manager = cgroup::manager(&container.record, container.id())?;
    manager.stats().os(|| "read the container's statistics")
}

fn require_alive(container: &Container) -> Result<()> {
    if container.status() == Status::Stopped {
        return Err(Error::precondition("container not running"));
    }
    Ok(())
}
