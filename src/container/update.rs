//! Changing resource limits in place, and reading resource use.

use libcgroups::common::{AnyCgroupManager, CgroupManager, ControllerOpt};
use libcgroups::stats::{MemoryData, Stats};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::state::{Container, Status};
use super::{cgroup, unified};
use crate::error::{Context, Error, Result};

/// Applies `resources` to a container that has not stopped. A wasm guest's bound on linear memory
/// stays what it was at create; the kernel enforces the new limit.
///
/// # Errors
/// [`crate::error::ErrorKind::FailedPrecondition`] when it has stopped; what the kernel refuses.
pub fn update(container: &Container, resources: &LinuxResources) -> Result<()> {
    require_alive(container)?;
    let manager = cgroup::manager(&container.record, container.id())?;
    if !unified::is_systemd(&manager) {
        return apply(&manager, resources);
    }
    let cgroup = unified::cgroup_of(container.init().unwrap_or_default())?;
    let mut complete = resources.clone();
    unified::complete_cpu(&cgroup, &mut complete);
    apply(&manager, &unified::for_systemd(&complete))?;
    unified::apply(&cgroup, &complete)
}

fn apply(manager: &AnyCgroupManager, resources: &LinuxResources) -> Result<()> {
    let options = ControllerOpt {
        resources,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    manager.apply(&options).os(|| "apply the new limits")
}

/// Reads the resource use of a container that has not stopped, under runc's names
/// (`types/events.go`).
///
/// # Errors
/// [`crate::error::ErrorKind::FailedPrecondition`] when it has stopped.
pub fn stats(container: &Container) -> Result<Value> {
    require_alive(container)?;
    if cgroup::is_v2() {
        return Ok(unified::stats(&unified::cgroup_of(container.init().unwrap_or_default())?));
    }
    let manager = cgroup::manager(&container.record, container.id())?;
    Ok(named(&manager.stats().os(|| "read the container's statistics")?))
}

fn require_alive(container: &Container) -> Result<()> {
    if container.status() == Status::Stopped {
        return Err(Error::precondition("container not running"));
    }
    Ok(())
}

/// The statistics of cgroup v1 under runc's names.
fn named(stats: &Stats) -> Value {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let usage = |data: &MemoryData| {
        json!({
            "limit": data.limit, "usage": data.usage, "max": data.max_usage,
            "failcnt": data.fail_count,
        })
    };
    let hugetlb: Map<String, Value> = stats
        .hugetlb
        .iter()
        .map(|(size, data)| {
            let value = json!({
                "usage": data.usage, "max": data.max_usage, "failcnt": data.fail_count,
            });
            (size.clone(), value)
        })
        .collect();
    json!({
        "cpu": {
            "usage": {
                "total": cpu.usage.usage_total,
                "percpu": cpu.usage.per_core_usage_total,
                "kernel": cpu.usage.usage_kernel,
                "user": cpu.usage.usage_user,
            },
            "throttling": {
                "periods": cpu.throttling.periods,
                "throttledPeriods": cpu.throttling.throttled_periods,
                "throttledTime": cpu.throttling.throttled_time,
            },
        },
        "memory": {
            "cache": memory.cache,
            "usage": usage(&memory.memory),
            "swap": usage(&memory.memswap),
            "kernel": usage(&memory.kernel),
            "kernelTCP": usage(&memory.kernel_tcp),
            "raw": memory.stats,
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "hugetlb": hugetlb,
    })
}
