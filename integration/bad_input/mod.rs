//! Malformed input: one sentence, a record in the log, a failure, and nothing left behind.

mod config;
mod ids;
mod states;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::Result;
use crate::harness::command::Output;
use crate::harness::runtime;

/// What every OCI runtime refuses.
pub fn tests() -> Vec<Trial> {
    [config::tests(), ids::tests(), states::tests()].into_iter().flatten().collect()
}

/// What only ours refuses, or says.
pub fn our_tests() -> Vec<Trial> {
    [config::our_tests(), states::our_tests()].into_iter().flatten().collect()
}

/// Fails unless a command failed as a person and an engine want it: one line on standard
/// error that contains `needle`, and a JSON record of level error in the log that says the
/// same. How others phrase it, and how often, is not our business.
fn well_told(output: &Output, log: &str, needle: &str) -> Result {
    if output.code == 0 {
        return Err(format!("succeeded: {output:?}").into());
    }
    let records: Vec<Value> =
        log.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let record = records.iter().find(|record| record["level"] == "error");
    let record = record.ok_or_else(|| format!("no error in the log: {log:?}, {output:?}"))?;
    if !runtime::is_ours() {
        return Ok(());
    }
    let text = output.stderr.trim_end();
    let message = record["msg"].as_str().unwrap_or_default();
    let shortcomings = [
        (text.lines().count() != 1, "standard error is not one line"),
        (!text.contains(needle), "standard error does not name what is wrong"),
        (!message.contains(needle), "the log does not name what is wrong"),
        (!record["time"].is_string(), "the record has no time"),
        (text.contains("panicked"), "it panicked"),
        (text.len() > 600, "the sentence is too long"),
        (output.code > 127 && output.code != 255, "it was killed"),
    ];
    match shortcomings.iter().find(|(found, _)| *found) {
        Some((_, what)) => Err(format!("{what} ({needle:?}): {output:?}, log: {log}").into()),
        None => Ok(()),
    }
}
