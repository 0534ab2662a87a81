//! What is about cgroups, of either version: `shim_linux` needs nothing but busybox and is run in
//! the virtual machine with version 2, too.

use std::time::Duration;

use containerd_shim::api::*;
use containerd_shim::protos::cgroups::metrics::Metrics;
use containerd_shim::protos::cgroups_v2::metrics::Metrics as MetricsV2;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::ttrpc::Code;
use libtest_mimic::Trial;
use serde_json::json;

use super::wasm;
use crate::harness::bundle::Bundle;
use crate::harness::shim::{Shim, Stdio, any, ok, refused};
use crate::harness::{PATIENCE, Result, cgroup, eventually, procfs, trials};

pub fn tests() -> Vec<Trial> {
    let mut tests = trials!["shim": stats_of_wasm, update_of_wasm];
    tests.extend(trials!["shim_linux": stats_of_linux, update_of_linux, pause_stops_the_processes,
        memory_kills_are_told]);
    tests
}

fn linux() -> Result<Bundle> {
    Bundle::linux(&["sleep", "600"])
}

fn stats_of_linux() -> Result {
    stats(linux()?)
}

fn stats_of_wasm() -> Result {
    stats(wasm(&["sleep"])?)
}

fn update_of_linux() -> Result {
    update(linux()?)
}

fn update_of_wasm() -> Result {
    update(wasm(&["sleep"])?)
}

/// The memory limit and usage that the statistics tell, and the processor time.
fn numbers(stats: &StatsResponse) -> Result<(u64, u64, u64)> {
    if cgroup::is_v2() {
        assert_eq!(stats.stats.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = MetricsV2::parse_from_bytes(&stats.stats.value)?;
        return Ok((metrics.memory.usage_limit, metrics.memory.usage, metrics.cpu.usage_usec));
    }
    assert_eq!(stats.stats.type_url, "io.containerd.cgroups.v1.Metrics");
    let metrics = Metrics::parse_from_bytes(&stats.stats.value)?;
    Ok((metrics.memory.usage.limit, metrics.memory.usage.usage, metrics.cpu.usage.total))
}

fn limited(bundle: Bundle, memory: u64) -> Bundle {
    bundle.edit(|config| config["linux"]["resources"]["memory"] = json!({"limit": memory}))
}

fn stats(bundle: Bundle) -> Result {
    let bundle = limited(bundle, 64 << 20);
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio::default())?;
    let id = bundle.id.clone();
    let ask = || shim.stats(StatsRequest { id: id.clone(), ..Default::default() });
    let (limit, usage, time) = numbers(&ok(ask())?)?;
    assert_eq!(limit, 64 << 20);
    assert!(usage > 0 && time > 0, "{usage} {time}");
    ok(shim.signal(&id, "", 9))?;
    ok(shim.exit_code(&id, ""))?;
    let (_, _, after) = numbers(&ok(ask())?)?;
    assert!(after >= time, "{after} {time}");
    ok(shim.remove(&id, ""))?;
    assert_eq!(refused(ask())?.code, Code::NOT_FOUND);
    shim.finish()
}

fn update(bundle: Bundle) -> Result {
    let bundle = limited(bundle, 64 << 20);
    let shim = Shim::start(&bundle)?;
    let pid = shim.run(&bundle, &Stdio::default())? as i32;
    let resources = json!({
        "memory": {"limit": 128 << 20},
        "cpu": {"quota": 50000, "period": 100000},
        "pids": {"limit": 77},
    });
    let ask = |resources: &serde_json::Value| {
        let resources = any("linux-resources", resources);
        shim.update(UpdateTaskRequest { id: bundle.id.clone(), resources, ..Default::default() })
    };
    ok(ask(&resources))?;
    let memory = cgroup::read(pid, "memory.limit_in_bytes", "memory.max")?;
    assert_eq!(memory, (128 << 20).to_string());
    assert_eq!(cgroup::read(pid, "pids.max", "pids.max")?, "77");
    let cpu = cgroup::read(pid, "cpu.cfs_quota_us", "cpu.max")?;
    assert!(cpu.starts_with("50000"), "{cpu}");
    assert!(procfs::is_living(pid));
    let bad = refused(ask(&json!({"memory": {"limit": "much"}})))?;
    assert!(bad.message.contains("limit") || bad.message.contains("much"), "{bad}");
    shim.end(&bundle.id)?;
    shim.finish()
}

fn pause_stops_the_processes() -> Result {
    let bundle = Bundle::sh("while :; do echo >>/ticks; sleep 0.01; done")?.writable();
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio::default())?;
    let file = bundle.rootfs().join("ticks");
    let ticks = || std::fs::metadata(&file).map_or(0, |ticks| ticks.len());
    let more_than =
        |count: u64| eventually("a tick", PATIENCE, || Ok((ticks() > count).then_some(())));
    more_than(0)?;
    let id = bundle.id.clone();
    ok(shim.pause(PauseRequest { id: id.clone(), ..Default::default() }))?;
    let paused = ticks();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ticks(), paused);
    // A paused container can be killed.
    ok(shim.resume(ResumeRequest { id: id.clone(), ..Default::default() }))?;
    more_than(paused)?;
    ok(shim.pause(PauseRequest { id: id.clone(), ..Default::default() }))?;
    ok(shim.signal(&id, "", 9))?;
    assert_eq!(ok(shim.exit_code(&id, ""))?, 137);
    ok(shim.remove(&id, ""))?;
    shim.finish()
}

/// Whether the first process is killed or another one.
fn memory_kills_are_told() -> Result {
    let hungry = ["/bin/tail", "/dev/zero"];
    let bundle = limited(Bundle::linux(&hungry)?, 16 << 20);
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio::default())?;
    assert_eq!(ok(shim.exit_code(&bundle.id, ""))?, 137);
    oom_comes_before_exit(&shim)?;
    ok(shim.remove(&bundle.id, ""))?;
    shim.finish()?;

    let bundle = limited(linux()?, 16 << 20);
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio::default())?;
    ok(shim.add_exec(&bundle.id, "e", &hungry, &Stdio::default()))?;
    ok(shim.start_process(&bundle.id, "e"))?;
    assert_eq!(ok(shim.exit_code(&bundle.id, "e"))?, 137);
    oom_comes_before_exit(&shim)?;
    assert!(shim.log()?.contains("out of memory"));
    shim.end(&bundle.id)?;
    shim.finish()
}

fn oom_comes_before_exit(shim: &Shim) -> Result {
    shim.wait_for_event("/tasks/exit")?;
    let topics = shim.topics();
    let of = |topic: &str| topics.iter().position(|heard| heard == topic);
    assert!(of("/tasks/oom").is_some_and(|oom| Some(oom) < of("/tasks/exit")), "{topics:?}");
    Ok(())
}
