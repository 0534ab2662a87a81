//! Resource usage from the controllers of cgroup v1.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use containerd_shim::protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, PidsStat, Throttle,
};

use super::{keyed, number, text};

/// The kernel counts the processor time of cgroup v1 in these.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// The directories that `/proc/PID/cgroup` names, by controller.
pub(super) fn directories(text: &str, mount: &Path) -> HashMap<String, PathBuf> {
    let mut directories = HashMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        for controller in controllers.split(',').filter(|name| !name.contains('=')) {
            // Controllers that share a hierarchy are mounted under their joint name, mostly with
            // a link for each.
            let names = [controllers, controller];
            let directory = names.map(|name| mount.join(name).join(path));
            if let Some(directory) = directory.into_iter().find(|path| path.is_dir()) {
                directories.insert(controller.to_owned(), directory);
            }
        }
    }
    directories
}

/// The usage that the files in the controllers' `directories` tell.
pub(super) fn metrics(directories: &HashMap<String, PathBuf>) -> Metrics {
    let directory = |controller: &str| directories.get(controller);
    let mut metrics = Metrics::new();
    if let Some(pids) = directory("pids") {
        let stat = PidsStat {
            current: number(&pids.join("pids.current")),
            // "max" is no number, and containerd's no limit is 0.
            limit: number(&pids.join("pids.max")),
            ..Default::default()
        };
        metrics.pids = Some(stat).into();
    }
    metrics.cpu = Some(cpu_stat(directory("cpu"), directory("cpuacct"))).into();
    if let Some(memory) = directory("memory") {
        metrics.memory = Some(memory_stat(memory)).into();
        let oom = keyed(&memory.join("memory.oom_control"));
        let control = MemoryOomControl {
            oom_kill_disable: oom.get("oom_kill_disable").copied().unwrap_or_default(),
            under_oom: oom.get("under_oom").copied().unwrap_or_default(),
            oom_kill: oom.get("oom_kill").copied().unwrap_or_default(),
            ..Default::default()
        };
        metrics.memory_oom_control = Some(control).into();
    }
    if let Some(blkio) = directory("blkio") {
        metrics.blkio = Some(blkio_stat(blkio)).into();
    }
    if let Some(hugetlb) = directory("hugetlb") {
        metrics.hugetlb = hugetlb_stats(hugetlb);
    }
    metrics
}

fn cpu_stat(cpu: Option<&PathBuf>, cpuacct: Option<&PathBuf>) -> CPUStat {
    let mut stat = CPUStat::new();
    if let Some(cpuacct) = cpuacct {
        let ticks = keyed(&cpuacct.join("cpuacct.stat"));
        let nanoseconds =
            |key: &str| ticks.get(key).copied().unwrap_or_default() * NANOSECONDS_PER_TICK;
        let usage = CPUUsage {
            total: number(&cpuacct.join("cpuacct.usage")),
            user: nanoseconds("user"),
            kernel: nanoseconds("system"),
            per_cpu: text(&cpuacct.join("cpuacct.usage_percpu"))
                .split_whitespace()
                .filter_map(|value| value.parse().ok())
                .collect(),
            ..Default::default()
        };
        stat.usage = Some(usage).into();
    }
    if let Some(cpu) = cpu {
        let values = keyed(&cpu.join("cpu.stat"));
        let value = |key: &str| values.get(key).copied().unwrap_or_default();
        let throttling = Throttle {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time: value("throttled_time"),
            ..Default::default()
        };
        stat.throttling = Some(throttling).into();
    }
    stat
}

fn memory_stat(memory: &Path) -> MemoryStat {
    let values = keyed(&memory.join("memory.stat"));
    let value = |key: &str| values.get(key).copied().unwrap_or_default();
    let entry = |name: &str| {
        let file = |suffix: &str| number(&memory.join(format!("memory.{name}.{suffix}")));
        let entry = MemoryEntry {
            limit: file("limit_in_bytes"),
            usage: file("usage_in_bytes"),
            max: file("max_usage_in_bytes"),
            failcnt: file("failcnt"),
            ..Default::default()
        };
        Some(entry).into()
    };
    let usage = MemoryEntry {
        limit: number(&memory.join("memory.limit_in_bytes")),
        usage: number(&memory.join("memory.usage_in_bytes")),
        max: number(&memory.join("memory.max_usage_in_bytes")),
        failcnt: number(&memory.join("memory.failcnt")),
        ..Default::default()
    };
    MemoryStat {
        cache: value("cache"),
        rss: value("rss"),
        rss_huge: value("rss_huge"),
        mapped_file: value("mapped_file"),
        dirty: value("dirty"),
        writeback: value("writeback"),
        pg_pg_in: value("pgpgin"),
        pg_pg_out: value("pgpgout"),
        pg_fault: value("pgfault"),
        pg_maj_fault: value("pgmajfault"),
        inactive_anon: value("inactive_anon"),
        active_anon: value("active_anon"),
        inactive_file: value("inactive_file"),
        active_file: value("active_file"),
        unevictable: value("unevictable"),
        hierarchical_memory_limit: value("hierarchical_memory_limit"),
        hierarchical_swap_limit: value("hierarchical_memsw_limit"),
        total_cache: value("total_cache"),
        total_rss: value("total_rss"),
        total_rss_huge: value("total_rss_huge"),
        total_mapped_file: value("total_mapped_file"),
        total_dirty: value("total_dirty"),
        total_writeback: value("total_writeback"),
        total_pg_pg_in: value("total_pgpgin"),
        total_pg_pg_out: value("total_pgpgout"),
        total_pg_fault: value("total_pgfault"),
        total_pg_maj_fault: value("total_pgmajfault"),
        total_inactive_anon: value("total_inactive_anon"),
        total_active_anon: value("total_active_anon"),
        total_inactive_file: value("total_inactive_file"),
        total_active_file: value("total_active_file"),
        total_unevictable: value("total_unevictable"),
        usage: Some(usage).into(),
        swap: entry("memsw"),
        kernel: entry("kmem"),
        kernel_tcp: entry("kmem.tcp"),
        ..Default::default()
    }
}

fn blkio_stat(blkio: &Path) -> BlkIOStat {
    let entries = |name: &str| {
        // The throttling files count whatever the scheduler is; both exist with CFQ and BFQ.
        let files = [format!("blkio.{name}_recursive"), format!("blkio.throttle.{name}")];
        let tables = files.map(|file| blkio_table(&text(&blkio.join(file))));
        tables.into_iter().find(|table| !table.is_empty()).unwrap_or_default()
    };
    BlkIOStat {
        io_service_bytes_recursive: entries("io_service_bytes"),
        io_serviced_recursive: entries("io_serviced"),
        io_queued_recursive: entries("io_queued"),
        io_service_time_recursive: entries("io_service_time"),
        io_wait_time_recursive: entries("io_wait_time"),
        io_merged_recursive: entries("io_merged"),
        io_time_recursive: entries("time"),
        sectors_recursive: entries("sectors"),
        ..Default::default()
    }
}

/// Reads lines such as `8:0 Read 4096`; the line with the total over all devices is left out.
fn blkio_table(text: &str) -> Vec<BlkIOEntry> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        let rest: Vec<_> = fields.collect();
        let (op, value) = match rest.as_slice() {
            [op, value] => (*op, value),
            [value] => ("", value),
            _ => return None,
        };
        Some(BlkIOEntry {
            op: op.to_owned(),
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            value: value.parse().ok()?,
            ..Default::default()
        })
    };
    text.lines().filter_map(entry).collect()
}

fn hugetlb_stats(hugetlb: &Path) -> Vec<HugetlbStat> {
    let names = std::fs::read_dir(hugetlb).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(".usage_in_bytes")?;
        (!size.ends_with(".rsvd")).then(|| size.to_owned())
    });
    sizes
        .map(|pagesize| {
            let file = |suffix: &str| number(&hugetlb.join(format!("hugetlb.{pagesize}.{suffix}")));
            HugetlbStat {
                usage: file("usage_in_bytes"),
                max: file("max_usage_in_bytes"),
                failcnt: file("failcnt"),
                pagesize: pagesize.clone(),
                ..Default::default()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_directory_of_each_controller() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cpu,cpuacct/a/b", "memory/a/b", "pids"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let text = "5:cpu,cpuacct:/a/b\n4:memory:/a/b\n3:pids:/a/b\n1:name=systemd:/a\n0::/a\n";
        let directories = directories(text, dir.path());
        assert_eq!(directories["cpu"], dir.path().join("cpu,cpuacct/a/b"));
        assert_eq!(directories["cpuacct"], directories["cpu"]);
        assert_eq!(directories["memory"], dir.path().join("memory/a/b"));
        assert_eq!(directories.len(), 3);
    }

    #[test]
    fn reads_usage() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        file("pids.current", "3\n");
        file("pids.max", "max\n");
        file("cpuacct.usage", "1500\n");
        file("cpuacct.usage_percpu", "1000 500 \n");
        file("cpuacct.stat", "user 2\nsystem 1\n");
        file("cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 77\n");
        file("memory.usage_in_bytes", "4096\n");
        file("memory.stat", "cache 1\ntotal_inactive_file 2\n");
        file("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
        file("blkio.throttle.io_service_bytes", "8:0 Read 4096\n8:0 Write 1\nTotal 4097\n");
        let controllers = ["pids", "cpu", "cpuacct", "memory", "blkio"];
        let all =
            controllers.map(|name| (name.to_owned(), dir.path().to_owned())).into_iter().collect();
        let metrics = metrics(&all);
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, 0));
        assert_eq!(metrics.cpu.usage.total, 1500);
        assert_eq!(metrics.cpu.usage.user, 20_000_000);
        assert_eq!(metrics.cpu.usage.per_cpu, [1000, 500]);
        assert_eq!(metrics.cpu.throttling.throttled_time, 77);
        assert_eq!(metrics.memory.usage.usage, 4096);
        assert_eq!(metrics.memory.total_inactive_file, 2);
        assert_eq!(metrics.memory_oom_control.oom_kill, 5);
        let bytes = &metrics.blkio.io_service_bytes_recursive;
        assert_eq!((bytes.len(), bytes[0].value, bytes[0].op.as_str()), (2, 4096, "Read"));
    }
}
