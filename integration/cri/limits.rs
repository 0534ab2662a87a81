//! Resource limits, their change in place, and statistics.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::client::{Container, Pod, container, cri, with};
use crate::harness::{PATIENCE, Result, cgroup, eventually, trials};
use crate::images::{LINUX, WASM};

const MIB: u64 = 1 << 20;

pub fn tests() -> Vec<Trial> {
    trials!["limits": linux_limits_and_update, linux_out_of_memory]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["limits": wasm_limits_and_update, memory_limit_bounds_the_guest, stats_of_wasm]
}

fn limited(image: &str, words: &[&str]) -> Value {
    let resources = json!({
        "memory_limit_in_bytes": 64 * MIB, "cpu_period": 100_000, "cpu_quota": 50_000,
        "cpu_shares": 512,
    });
    with(container(image, words), "linux", json!({"resources": resources}))
}

fn linux_limits_and_update() -> Result {
    limits_and_update(&limited(LINUX, &["sleep", "600"]))
}

fn wasm_limits_and_update() -> Result {
    limits_and_update(&limited(WASM, &["/probe.wasm", "sleep"]))
}

fn limits_and_update(app: &Value) -> Result {
    let pod = Pod::run()?;
    let app = pod.start(app)?;
    assert_eq!(limits(&app)?, [64 * MIB, 50_000]);
    let memory = (96 * MIB).to_string();
    app.cmd("update", &["--memory", &memory, "--cpu-quota", "80000"], &[])?.run()?.success()?;
    assert_eq!(limits(&app)?, [96 * MIB, 80_000]);
    pod.remove()
}

/// Memory in bytes and processor time in microseconds a period, as the kernel has them.
fn limits(app: &Container) -> Result<[u64; 2]> {
    let pid = app.pid()?;
    let memory = cgroup::read(pid, "memory.limit_in_bytes", "memory.max")?;
    let quota = cgroup::read(pid, "cpu.cfs_quota_us", "cpu.max")?;
    let quota = quota.split(' ').next().unwrap_or_default();
    Ok([memory.parse()?, quota.parse()?])
}

/// The guest is refused more memory before the kernel kills it.
fn memory_limit_bounds_the_guest() -> Result {
    let pod = Pod::run()?;
    let output = pod.output(&limited(WASM, &["/probe.wasm", "grow"]))?.expect(0)?;
    let taken = output.text();
    let taken: u64 = taken.split_whitespace().nth(2).unwrap_or_default().parse()?;
    assert!((8..64).contains(&taken), "{taken} MiB of 64");
    pod.remove()
}

fn linux_out_of_memory() -> Result {
    let pod = Pod::run()?;
    let app = pod.start(&limited(LINUX, &["sh", "-c", "exec tail /dev/zero"]))?;
    assert_eq!(app.exit_code()?, 137);
    eventually("the reason OOMKilled", PATIENCE, || {
        let status = app.inspect()?["status"].take();
        Ok((status["reason"] == "OOMKilled").then_some(()))
    })?;
    pod.remove()
}

/// Memory and processor time are told for a wasm container, and grow with its work.
fn stats_of_wasm() -> Result {
    let pod = Pod::run()?;
    let app = pod.start(&limited(WASM, &["/probe.wasm", "spin"]))?;
    app.wait_for_log("ready")?;
    let number = |value: &Value| value["value"].as_u64().unwrap_or(0);
    let used = eventually("statistics", PATIENCE, || {
        let output = app.cmd("stats", &[], &[])?.run()?.success()?;
        let stats: Value = serde_json::from_slice(&output.stdout)?;
        let cpu = number(&stats["cpu"]["usage_core_nano_seconds"]);
        let memory = number(&stats["memory"]["working_set_bytes"]);
        Ok((cpu > 100_000_000 && memory > 0).then_some(memory))
    })?;
    assert!(used < 64 * MIB, "{used}");
    let output = cri(["statsp", &pod.id])?.run()?.success()?;
    assert!(output.text().contains(&app.id), "{}", output.text());
    pod.remove()
}
