//! cgroups v2 and systemd, which this machine may lack, in a virtual machine: hack/vm/.
//!
//! The machine boots once and runs all its checks, at the speed of an emulator. They make three
//! trials and not a hundred, which would all wait for the machine and let no other trial run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::harness::command::Cmd;
use crate::harness::{Result, runtime, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["vm": linux_on_cgroups_v2]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["vm": wasm_on_cgroups_v2, shim_on_cgroups_v2]
}

/// The checks in the life of one container.
const LIFE: &str = "create limits start exec exec-cgroup stats pause update update-one kill \
    delete again force";

/// What the limits of a container do.
const LINUX_LIMITS: &str = "others memory pids devices default-path";
const WASM_LIMITS: &str = "memory";

fn linux_on_cgroups_v2() -> Result {
    let mut names = lives("linux", LINUX_LIMITS);
    names.extend(["host".to_owned(), "suite".to_owned()]);
    // runc 1.1 leaves it in the cgroup of the caller.
    let exec = "user-systemd-linux-exec-cgroup";
    names.retain(|name| runtime::is_ours() || name != exec);
    all_hold(&names)
}

fn wasm_on_cgroups_v2() -> Result {
    all_hold(&lives("wasm", WASM_LIMITS))
}

fn shim_on_cgroups_v2() -> Result {
    all_hold(&["shim".to_owned(), "shim-systemd".to_owned()])
}

/// All checks of a workload, whoever makes the cgroup: the runtime or systemd, for root or for
/// a user.
fn lives(workload: &str, limits: &str) -> Vec<String> {
    let mut names = Vec::new();
    for manager in ["cgroupfs", "systemd"] {
        names.extend(checks(manager, workload, LIFE));
        names.extend(checks(manager, workload, "sockets"));
        names.extend(checks(manager, workload, limits));
        names.extend(checks(&format!("user-{manager}"), workload, LIFE));
    }
    names
}

fn checks(manager: &str, workload: &str, words: &str) -> Vec<String> {
    words.split_whitespace().map(|word| format!("{manager}-{workload}-{word}")).collect()
}

fn all_hold(names: &[String]) -> Result {
    static REPORT: OnceLock<std::result::Result<Report, String>> = OnceLock::new();
    let report = REPORT.get_or_init(|| {
        let message = |failed: libtest_mimic::Failed| failed.message().unwrap_or("").to_owned();
        Report::of_the_machine().map_err(message)
    });
    let report = report.as_ref()?;
    let failures: Vec<String> = names
        .iter()
        .filter_map(|name| match report.checks.get(name) {
            Some(None) => None,
            Some(Some(reason)) => Some(format!("{name}: {reason}")),
            None => Some(format!("{name}: not reached\n")),
        })
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("{}{}", failures.concat(), report.end).into())
}

/// What came of the checks.
struct Report {
    /// Each check's reason, if it failed.
    checks: BTreeMap<String, Option<String>>,
    /// What the machine said last, if it did not come to its end.
    end: String,
}

impl Report {
    fn of_the_machine() -> Result<Self> {
        // The kernel is kept in the target directory, beside the tests' own directory.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("vm");
        let output = Cmd::new(suite::repository().join("hack/vm/run.sh"))
            .arg(runtime::path())
            .arg(directory)
            .arg(std::env::current_exe()?)
            .limit(Duration::from_secs(600))
            .run()?;
        Ok(Self { checks: parse(&output.text()), end: output.stderr })
    }
}

/// Reads lines `ok NAME`, and `FAIL NAME` with the reason in indented lines below it.
fn parse(text: &str) -> BTreeMap<String, Option<String>> {
    let mut checks = BTreeMap::new();
    let mut last = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("ok ") {
            checks.insert(name.to_owned(), None);
        } else if let Some(name) = line.strip_prefix("FAIL ") {
            checks.insert(name.to_owned(), Some(String::new()));
            last = name;
        } else if let Some(line) = line.strip_prefix("    ")
            && let Some(Some(reason)) = checks.get_mut(last)
        {
            reason.push_str(line);
            reason.push('\n');
        }
    }
    checks
}
