//! cgroups v2 and systemd, which this machine may lack, in a virtual machine: hack/vm/.
//!
//! The machine boots once and runs all its checks. They are few trials, so that the others need
//! not wait for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::harness::command::Cmd;
use crate::harness::{Result, runtime, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["vm": linux]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["vm": wasm]
}

/// Who makes the cgroups, and the checks in the life of one container.
const LIVES: [(&str, &str); 4] = [
    ("cgroupfs", ROOTS_LIFE),
    ("systemd", ROOTS_LIFE),
    ("user-cgroupfs", LIFE),
    ("user-systemd", LIFE),
];
const LIFE: &str = "create limits start exec stats pause update update-one kill delete again force";
const ROOTS_LIFE: &str =
    "create limits start sockets exec stats pause update update-one kill delete again force";

/// What the limits do.
const LINUX_LIMITS: &str = "others memory pids devices default-path";
const WASM_LIMITS: &str = "memory";

fn linux() -> Result {
    let mut names = vec!["host".to_owned(), "suite".to_owned()];
    for (manager, life) in LIVES {
        names.extend(checks(manager, "linux", life));
    }
    for manager in ["cgroupfs", "systemd"] {
        names.extend(checks(manager, "linux", LINUX_LIMITS));
    }
    all_hold(&names)
}

fn wasm() -> Result {
    let mut names = Vec::new();
    for (manager, life) in LIVES {
        names.extend(checks(manager, "wasm", life));
    }
    for manager in ["cgroupfs", "systemd"] {
        names.extend(checks(manager, "wasm", WASM_LIMITS));
    }
    all_hold(&names)
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
            None => Some(format!("{name}: the machine did not get to it\n")),
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
