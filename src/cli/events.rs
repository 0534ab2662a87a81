//! `events`.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use libcgroups::stats::{MemoryData, Stats};
use liboci_cli::Events;
use serde_json::{Map, Value, json};

use crate::container::state::{Container, Status};
use crate::container::update::stats;
use crate::error::{Context, Error, Result};

/// Prints the resource use of a container as one JSON line: once with `--stats`, otherwise every
/// `--interval` seconds until the container stops.
///
/// # Errors
/// When the container has stopped, or `--interval` is 0.
pub fn events(root: &Path, args: &Events) -> Result<()> {
    if args.interval == 0 {
        return Err(Error::invalid("--interval must be at least 1 second"));
    }
    loop {
        let container = Container::load(root, &args.container_id)?;
        let line =
            json!({"type": "stats", "id": container.id(), "data": data(&stats(&container)?)});
        writeln!(std::io::stdout(), "{line}").os(|| "write to standard output")?;
        if args.stats {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(args.interval.into()));
        if Container::load(root, &args.container_id).is_ok_and(|c| c.status() == Status::Stopped) {
            return Ok(());
        }
    }
}

/// The statistics under runc's names (`types/events.go`).
fn data(stats: &Stats) -> Value {
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
