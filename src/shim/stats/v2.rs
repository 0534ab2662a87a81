//! Resource usage from cgroup v2.

use std::collections::HashMap;
use std::path::Path;

use containerd_shim::protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat,
};

use super::{keyed, number, text};

/// The usage that the files in `cgroup` tell.
pub(super) fn metrics(cgroup: &Path) -> Metrics {
    // A controller that is not enabled has no files, and no entry in the message.
    let has = |file: &str| cgroup.join(file).exists();
    Metrics {
        pids: has("pids.current").then(|| pids(cgroup)).into(),
        cpu: has("cpu.stat").then(|| cpu(cgroup)).into(),
        memory: has("memory.current").then(|| memory(cgroup)).into(),
        memory_events: has("memory.events").then(|| memory_events(cgroup)).into(),
        io: has("io.stat").then(|| io(cgroup)).into(),
        hugetlb: hugetlb(cgroup),
        ..Default::default()
    }
}

fn pids(cgroup: &Path) -> PidsStat {
    PidsStat {
        current: number(&cgroup.join("pids.current")),
        // "max" is no number, and containerd's no limit is 0.
        limit: number(&cgroup.join("pids.max")),
        ..Default::default()
    }
}

fn cpu(cgroup: &Path) -> CPUStat {
    let stat = keyed(&cgroup.join("cpu.stat"));
    let value = |key: &str| stat.get(key).copied().unwrap_or_default();
    CPUStat {
        usage_usec: value("usage_usec"),
        user_usec: value("user_usec"),
        system_usec: value("system_usec"),
        nr_periods: value("nr_periods"),
        nr_throttled: value("nr_throttled"),
        throttled_usec: value("throttled_usec"),
        nr_bursts: value("nr_bursts"),
        burst_usec: value("burst_usec"),
        psi: pressure(&cgroup.join("cpu.pressure")).into(),
        ..Default::default()
    }
}

fn memory(cgroup: &Path) -> MemoryStat {
    let stat = keyed(&cgroup.join("memory.stat"));
    let value = |key: &str| stat.get(key).copied().unwrap_or_default();
    let file = |name: &str| number(&cgroup.join(format!("memory.{name}")));
    let limit = |name: &str| limit(&cgroup.join(format!("memory.{name}")));
    MemoryStat {
        anon: value("anon"),
        file: value("file"),
        kernel_stack: value("kernel_stack"),
        slab: value("slab"),
        sock: value("sock"),
        shmem: value("shmem"),
        file_mapped: value("file_mapped"),
        file_dirty: value("file_dirty"),
        file_writeback: value("file_writeback"),
        anon_thp: value("anon_thp"),
        inactive_anon: value("inactive_anon"),
        active_anon: value("active_anon"),
        inactive_file: value("inactive_file"),
        active_file: value("active_file"),
        unevictable: value("unevictable"),
        slab_reclaimable: value("slab_reclaimable"),
        slab_unreclaimable: value("slab_unreclaimable"),
        pgfault: value("pgfault"),
        pgmajfault: value("pgmajfault"),
        workingset_refault: value("workingset_refault"),
        workingset_activate: value("workingset_activate"),
        workingset_nodereclaim: value("workingset_nodereclaim"),
        pgrefill: value("pgrefill"),
        pgscan: value("pgscan"),
        pgsteal: value("pgsteal"),
        pgactivate: value("pgactivate"),
        pgdeactivate: value("pgdeactivate"),
        pglazyfree: value("pglazyfree"),
        pglazyfreed: value("pglazyfreed"),
        thp_fault_alloc: value("thp_fault_alloc"),
        thp_collapse_alloc: value("thp_collapse_alloc"),
        usage: file("current"),
        usage_limit: limit("max"),
        max_usage: file("peak"),
        swap_usage: file("swap.current"),
        swap_limit: limit("swap.max"),
        swap_max_usage: file("swap.peak"),
        psi: pressure(&cgroup.join("memory.pressure")).into(),
        ..Default::default()
    }
}

fn memory_events(cgroup: &Path) -> MemoryEvents {
    let events = keyed(&cgroup.join("memory.events"));
    let value = |key: &str| events.get(key).copied().unwrap_or_default();
    MemoryEvents {
        low: value("low"),
        high: value("high"),
        max: value("max"),
        oom: value("oom"),
        oom_kill: value("oom_kill"),
        oom_group_kill: value("oom_group_kill"),
        ..Default::default()
    }
}

/// Reads lines such as `8:0 rbytes=90 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io(cgroup: &Path) -> IOStat {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        let pairs = fields.filter_map(|field| field.split_once('='));
        let values: HashMap<&str, u64> =
            pairs.filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect();
        let value = |key: &str| values.get(key).copied().unwrap_or_default();
        Some(IOEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            rbytes: value("rbytes"),
            wbytes: value("wbytes"),
            rios: value("rios"),
            wios: value("wios"),
            ..Default::default()
        })
    };
    IOStat {
        usage: text(&cgroup.join("io.stat")).lines().filter_map(entry).collect(),
        psi: pressure(&cgroup.join("io.pressure")).into(),
        ..Default::default()
    }
}

fn hugetlb(cgroup: &Path) -> Vec<HugeTlbStat> {
    let names = std::fs::read_dir(cgroup).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
        (!size.ends_with(".rsvd")).then(|| size.to_owned())
    });
    sizes
        .map(|pagesize| {
            let file = |suffix: &str| cgroup.join(format!("hugetlb.{pagesize}.{suffix}"));
            HugeTlbStat {
                current: number(&file("current")),
                max: limit(&file("max")),
                failcnt: keyed(&file("events")).get("max").copied().unwrap_or_default(),
                pagesize: pagesize.clone(),
                ..Default::default()
            }
        })
        .collect()
}

/// Reads lines such as `some avg10=0.12 avg60=0.00 avg300=0.00 total=4201`; nothing from a kernel
/// that keeps no such account.
fn pressure(file: &Path) -> Option<PSIStats> {
    let text = text(file);
    let data = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let pairs = line.split_whitespace().filter_map(|field| field.split_once('='));
        let values: HashMap<&str, &str> = pairs.collect();
        let average = |key: &str| values.get(key)?.parse().ok();
        Some(PSIData {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: values.get("total")?.parse().ok()?,
            ..Default::default()
        })
    };
    let stats =
        PSIStats { some: data("some").into(), full: data("full").into(), ..Default::default() };
    (stats.some.is_some() || stats.full.is_some()).then_some(stats)
}

/// A limit; as containerd has it, no limit is the largest number.
fn limit(file: &Path) -> u64 {
    match text(file).trim() {
        "max" => u64::MAX,
        value => value.parse().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_usage() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        file("pids.current", "3\n");
        file("pids.max", "max\n");
        file("cpu.stat", "usage_usec 15\nuser_usec 10\nnr_throttled 2\n");
        file("cpu.pressure", "some avg10=0.50 avg60=0.10 avg300=0.00 total=4201\n");
        file("memory.current", "4096\n");
        file("memory.max", "max\n");
        file("memory.swap.max", "8192\n");
        file("memory.stat", "anon 7\nfile 9\n");
        file("memory.events", "low 0\noom 2\noom_kill 1\n");
        file("io.stat", "8:0 rbytes=90 wbytes=4 rios=1 wios=2 dbytes=0 dios=0\n7:1 \n");
        file("hugetlb.2MB.current", "1\n");
        file("hugetlb.2MB.rsvd.current", "1\n");
        file("hugetlb.2MB.max", "max\n");
        file("hugetlb.2MB.events", "max 6\n");
        let metrics = metrics(dir.path());
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, 0));
        assert_eq!((metrics.cpu.usage_usec, metrics.cpu.nr_throttled), (15, 2));
        assert_eq!((metrics.cpu.psi.some.avg10, metrics.cpu.psi.some.total), (0.5, 4201));
        assert!(metrics.cpu.psi.full.is_none());
        assert_eq!((metrics.memory.anon, metrics.memory.usage), (7, 4096));
        assert_eq!((metrics.memory.usage_limit, metrics.memory.swap_limit), (u64::MAX, 8192));
        assert_eq!((metrics.memory_events.oom, metrics.memory_events.oom_kill), (2, 1));
        assert_eq!((metrics.io.usage.len(), metrics.io.usage[0].rbytes), (2, 90));
        assert_eq!((metrics.io.usage[0].major, metrics.io.usage[1].minor), (8, 1));
        assert_eq!(metrics.hugetlb.len(), 1);
        assert_eq!((metrics.hugetlb[0].max, metrics.hugetlb[0].failcnt), (u64::MAX, 6));
    }

    #[test]
    fn a_controller_that_is_off_has_no_entry() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = metrics(dir.path());
        assert!(metrics.memory.is_none() && metrics.io.is_none() && metrics.pids.is_none());
    }
}
