//! critest, the tests of the Container Runtime Interface that Kubernetes' node developers have,
//! with our shim as the runtime of every pod.
//!
//! `critest.txt` lists what does not pass, and why. What fails there and passes here fails the
//! trial, as does what fails here and is not listed.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::command::Cmd;
use crate::harness::{Result, suite};
use crate::registry::Registry;
use crate::server::{self, Presence};

const EXPECTATIONS: &str = include_str!("critest.txt");

/// It takes two minutes and a half when nothing else runs.
pub const LIMIT: Duration = Duration::from_secs(480);

pub fn tests() -> Vec<Trial> {
    // containerd 1.6 takes its registries from elsewhere.
    let ignored = !server::is_version_2().unwrap_or(false);
    vec![Trial::test("critest::as_listed", as_listed).with_ignored_flag(ignored)]
}

/// What is expected of each test that is not expected to pass, in the words of critest's report.
fn expectations() -> BTreeMap<&'static str, &'static str> {
    let ours = server::handler() == "wasm";
    let lines = EXPECTATIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let expected = lines.filter_map(|line| {
        let (test, reason) = line.split_once(": ").unwrap_or_default();
        let (expectation, name) = test.split_once(' ').unwrap_or_default();
        assert!(!reason.is_empty(), "critest.txt: what does {line:?} say?");
        match expectation {
            "fails" => Some((name, "failed")),
            "skips" => Some((name, "skipped")),
            "fails-on-ours" => ours.then_some((name, "failed")),
            "skips-on-ours" => ours.then_some((name, "skipped")),
            _ => panic!("critest.txt: what is expected of {name}?"),
        }
    });
    expected.collect()
}

fn as_listed() -> Result {
    // It removes images, takes fixed ports, and tells times.
    let _presence = Presence::alone();
    let report = run()?;
    let mut expected = expectations();
    let mut differences = Vec::new();
    let tests = report[0]["SpecReports"].as_array().ok_or("critest reports no tests")?;
    for test in tests.iter().filter(|test| test["LeafNodeType"] == "It") {
        let name = name(test);
        if name.contains("benchmark") {
            continue;
        }
        let wanted = expected.remove(name.as_str()).unwrap_or("passed");
        let state = test["State"].as_str().unwrap_or_default();
        if state != wanted {
            let message = test["Failure"]["Message"].as_str().unwrap_or_default();
            differences.push(format!("{name}: {state}, not {wanted}\n{message}"));
        }
    }
    differences.extend(expected.keys().map(|name| format!("{name}: there is no such test")));
    match differences.as_slice() {
        [] => Ok(()),
        _ => Err(format!("unlike critest.txt:\n{}", differences.join("\n")).into()),
    }
}

/// A test's name with those of the groups that it is in. A colon would end it in the list.
fn name(test: &Value) -> String {
    let groups = test["ContainerHierarchyTexts"].as_array();
    let words = groups.into_iter().flatten().chain([&test["LeafNodeText"]]);
    let words = words.filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    words.trim_start_matches("[k8s.io] ").replace(':', "")
}

/// Runs all tests; the report.
fn run() -> Result<Value> {
    let socket = server::socket()?;
    let _registry = Registry::start(&socket.with_file_name("certs.d"))?;
    let dir = suite::new_dir("critest")?;
    let report = dir.join("report.json");
    let segments = shared_memory()?;
    let critest = Cmd::new(suite::repository().join("target/kubernetes/critest"));
    let critest = critest.args(["-runtime-handler", &server::handler()]);
    let critest = critest.args(["-runtime-endpoint", &format!("unix://{}", socket.display())]);
    let critest = critest.arg(format!("-ginkgo.json-report={}", report.display()));
    // Whether it succeeds the report says.
    let output = critest.arg("-ginkgo.no-color").env("TMPDIR", &dir).limit(LIMIT).run()?;
    // Two of its tests make a segment each and leave it.
    for segment in shared_memory()?.into_iter().filter(|segment| !segments.contains(segment)) {
        Cmd::new("ipcrm").args(["-m", &segment]).run()?.success()?;
    }
    let report = fs::read(report).map_err(|_| output.text() + &output.stderr)?;
    Ok(serde_json::from_slice(&report)?)
}

/// The shared memory segments of the machine of the size that critest makes and of which nobody
/// has made use.
fn shared_memory() -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/sysvipc/shm")?;
    let rows = text.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Columns: key, id, permissions, size, creator, last user.
    let unused = rows.filter(|row| row.get(3) == Some(&"1048576") && row.get(5) == Some(&"0"));
    Ok(unused.filter_map(|row| row.get(1).map(|id| (*id).to_owned())).collect())
}
