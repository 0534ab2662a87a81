//! Commands that tell something: list, ps, events, features, spec; and update.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::{Result, cgroup, runtime, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["cli": list, ps, update_resources, events_stats, features, spec, spec_refuses_to_overwrite,
        version, log_in_both_formats]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["cli": checkpoint_and_restore_are_not_supported]
}

fn list() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    let bundle = &container.bundle;
    assert_eq!(bundle.runtime("list").arg("--quiet").run()?.success()?.lines(), [container.id()]);
    let json = bundle.runtime("list").args(["--format", "json"]).run()?.success()?;
    let json: Value = serde_json::from_slice(&json.stdout)?;
    assert_eq!(json.as_array().map(Vec::len), Some(1));
    assert_eq!(json[0]["id"], container.id());
    assert_eq!(json[0]["pid"], container.pid()?);
    assert_eq!(json[0]["status"], "running");
    let table = bundle.runtime("list").run()?.success()?.lines();
    let words: Vec<&str> = table[0].split_whitespace().collect();
    assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let row: Vec<&str> = table[1].split_whitespace().collect();
    assert_eq!(row[..3], [container.id(), &container.pid()?.to_string(), "running"]);
    container.finish()?;
    let bundle = &container.bundle;
    assert_eq!(bundle.runtime("list").arg("--quiet").run()?.success()?.text(), "");
    Ok(())
}

fn ps() -> Result {
    let container = Container::start_new(Bundle::sh("sleep 54321 & echo ready; wait")?)?;
    container.wait_for("ready")?;
    let output = container.cmd("ps", &["--format", "json"]).run()?.success()?;
    let pids: Vec<i32> = serde_json::from_slice(&output.stdout)?;
    assert_eq!(pids.len(), 2, "{pids:?}");
    assert!(pids.contains(&container.pid()?), "{pids:?}");
    let table = container.cmd("ps", &[]).run()?.success()?.text();
    assert!(table.contains("PID") && table.contains("sleep 54321"), "{table}");
    container.finish()
}

fn update_resources() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    let pid = container.pid()?;
    let resources = r#"{"memory": {"limit": 104857600}, "pids": {"limit": 77}}"#;
    container.cmd("update", &["--resources", "-"]).input(resources).run()?.success()?;
    assert_eq!(cgroup::read(pid, "memory.limit_in_bytes", "memory.max")?, "104857600");
    assert_eq!(cgroup::read(pid, "pids.max", "pids.max")?, "77");
    let file = suite::new_dir("update")?.join("resources.json");
    fs::write(&file, r#"{"cpu": {"quota": 50000, "period": 100000}}"#)?;
    container.cmd("update", &["--resources", &file.to_string_lossy()]).run()?.success()?;
    let quota = cgroup::read(pid, "cpu.cfs_quota_us", "cpu.max")?;
    assert!(quota.starts_with("50000"), "{quota}");
    assert_eq!(cgroup::read(pid, "pids.max", "pids.max")?, "77", "an update must keep the rest");
    container.finish()
}

fn events_stats() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    let output = container.cmd("events", &["--stats"]).run()?.success()?;
    let event: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], container.id());
    let data = &event["data"];
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0), "{data}");
    assert!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 0), "{data}");
    assert!(data["pids"]["current"].as_u64().is_some_and(|count| count > 0), "{data}");
    container.finish()
}

fn features() -> Result {
    let output = runtime::cmd().arg("features").run()?.success()?;
    let features: Value = serde_json::from_slice(&output.stdout)?;
    assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
    let has = |list: &Value, item: &str| {
        list.as_array().is_some_and(|list| list.iter().any(|one| one == item))
    };
    for hook in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        assert!(has(&features["hooks"], hook), "{hook}: {features}");
    }
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(has(&features["linux"]["namespaces"], kind), "{kind}: {features}");
    }
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    Ok(())
}

fn spec() -> Result {
    let dir = suite::new_dir("spec")?;
    runtime::cmd().args(["spec", "--bundle"]).arg(&dir).run()?.success()?;
    let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json"))?)?;
    assert_eq!(config["process"]["args"], serde_json::json!(["sh"]));
    assert_eq!(config["root"]["path"], "rootfs");
    assert_eq!(config["process"]["noNewPrivileges"], true);
    let rootless = suite::new_dir("spec")?;
    runtime::cmd().args(["spec", "--rootless", "--bundle"]).arg(&rootless).run()?.success()?;
    let config: Value = serde_json::from_slice(&fs::read(rootless.join("config.json"))?)?;
    assert_eq!(config["linux"]["uidMappings"][0]["containerID"], 0);
    let namespaces = config["linux"]["namespaces"].to_string();
    assert!(namespaces.contains("\"user\"") && !namespaces.contains("\"network\""), "{namespaces}");
    Ok(())
}

fn spec_refuses_to_overwrite() -> Result {
    let dir = suite::new_dir("spec")?;
    fs::write(dir.join("config.json"), "mine")?;
    runtime::cmd().args(["spec", "--bundle"]).arg(&dir).run()?.refused("config.json")?;
    assert_eq!(fs::read_to_string(dir.join("config.json"))?, "mine");
    Ok(())
}

fn log_in_both_formats() -> Result {
    let log = suite::new_dir("log")?.join("log");
    for format in ["text", "json"] {
        let cmd = runtime::cmd().arg("--debug").arg("--log").arg(&log);
        cmd.args(["--log-format", format, "state", "nosuch"]).run()?.refused("does not exist")?;
        let text = fs::read_to_string(&log)?;
        let last = text.lines().last().unwrap_or_default();
        assert!(last.contains("container does not exist"), "{format}: {text}");
        assert_eq!(serde_json::from_str::<Value>(last).is_ok(), format == "json", "{last}");
    }
    // Both runs appended to the one file.
    assert!(fs::read_to_string(&log)?.lines().count() >= 2);
    Ok(())
}

fn version() -> Result {
    let output = runtime::cmd().arg("--version").run()?.success()?;
    let name = runtime::path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    assert!(output.text().starts_with(&format!("{name} version ")), "{}", output.text());
    assert!(output.text().contains("\nspec: 1."), "{}", output.text());
    Ok(())
}

fn checkpoint_and_restore_are_not_supported() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    container.cmd("checkpoint", &[]).run()?.refused("not supported")?;
    let other = Bundle::sleeper()?;
    other.make("restore", &[])?.run()?.refused("not supported")?;
    let output = runtime::cmd().arg("features").run()?.success()?;
    let features: Value = serde_json::from_slice(&output.stdout)?;
    let annotations = features["annotations"].as_object().ok_or("no annotations")?;
    let enabled = annotations.iter().find(|(key, _)| key.ends_with(".checkpoint.enabled"));
    assert_eq!(enabled.map(|(_, value)| value), Some(&Value::from("false")), "{features}");
    container.finish()
}
