//! containerd's own CRI suite, with our shim as the runtime of every pod: the Linux half of the
//! shim as containerd's authors test theirs.
//!
//! `containerd-suite.txt` says what is expected of each of its tests. One that fails there and
//! passes here fails the run, as does one that is not listed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::harness::command::{Cmd, Output};
use crate::harness::{Result, suite};
use crate::images;
use crate::server::{self, Presence};

const EXPECTATIONS: &str = include_str!("containerd-suite.txt");

/// The slowest test takes a minute when nothing else runs.
const LIMIT: Duration = Duration::from_secs(240);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expectation {
    Passes,
    /// Passes if no other pod is there.
    PassesAlone,
    Fails,
    /// Finds by itself that it does not apply.
    Skips,
    /// Must not be run here.
    LeftOut,
}

/// The tests of the suite and what is expected of them.
fn expectations() -> impl Iterator<Item = (&'static str, Expectation)> {
    let lines = EXPECTATIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let expectation = match words.next().map(|word| word.trim_end_matches(':')) {
            Some("passes") => Expectation::Passes,
            Some("passes-alone") => Expectation::PassesAlone,
            Some("fails") => Expectation::Fails,
            Some("fails-on-ours") if server::handler() == "wasm" => Expectation::Fails,
            Some("fails-on-ours") => Expectation::Passes,
            Some("skips") => Expectation::Skips,
            Some("left-out") => Expectation::LeftOut,
            _ => panic!("containerd-suite.txt: what is expected of {name}?"),
        };
        (name, expectation)
    })
}

pub fn tests() -> Vec<Trial> {
    // The suite belongs to containerd 2.
    let ignored = !server::is_version_2().unwrap_or(false);
    let all = expectations().filter(|(_, expectation)| *expectation != Expectation::LeftOut);
    let trials = all.map(|(name, expectation)| {
        Trial::test(format!("conformance::{name}"), move || run(name, expectation))
    });
    let complete = Trial::test("conformance::every_test_is_listed", every_test_is_listed);
    trials.chain([complete]).map(|trial| trial.with_ignored_flag(ignored)).collect()
}

fn run(name: &str, expectation: Expectation) -> Result {
    let _presence = match expectation {
        Expectation::PassesAlone => Presence::alone(),
        _ => Presence::with_others(),
    };
    let run = program()?.arg("-image-list").arg(image_list()?);
    let run = run.args(["-test.v", "-test.run", &format!("^{name}$")]);
    let output = run.limit(LIMIT).run()?;
    match (expectation, verdict(name, &output)) {
        (Expectation::Passes | Expectation::PassesAlone, "PASS")
        | (Expectation::Fails, "FAIL")
        | (Expectation::Skips, "SKIP") => Ok(()),
        (Expectation::Fails | Expectation::Skips, other) => {
            Err(format!("{name}: {other} where containerd-suite.txt says otherwise").into())
        }
        (_, other) => Err(format!("{name}: {other}\n{}", complaints(&output)).into()),
    }
}

/// What the suite says of a test; a panic leaves no word.
fn verdict(name: &str, output: &Output) -> &'static str {
    let text = output.text();
    let says =
        |word: &str| text.lines().any(|line| line.starts_with(&format!("--- {word}: {name} ")));
    if output.code != 0 {
        return "FAIL";
    }
    if says("SKIP") {
        "SKIP"
    } else if says("PASS") {
        "PASS"
    } else {
        "FAIL"
    }
}

/// The suite's output without what it logs of each call.
fn complaints(output: &Output) -> String {
    let text = output.text() + &output.stderr;
    let lines =
        text.lines().filter(|line| !line.starts_with("time=") || line.contains("level=err"));
    lines.collect::<Vec<_>>().join("\n")
}

fn every_test_is_listed() -> Result {
    let _presence = Presence::with_others();
    let text = program()?.args(["-test.list", "."]).run()?.success()?.text();
    let all: BTreeSet<_> = text.lines().filter(|line| line.starts_with("Test")).collect();
    let listed: BTreeSet<_> = expectations().map(|(name, _)| name).collect();
    assert_eq!(all, listed);
    Ok(())
}

/// The suite against our server. What restarts containerd does so by the name of its program,
/// whoever else runs one; there is none of the name that is given.
fn program() -> Result<Cmd> {
    let endpoint = format!("unix://{}", server::socket()?.display());
    let program = suite::repository().join("target/kubernetes/containerd-suite");
    let cmd = Cmd::new(program).args(["-cri-endpoint", &endpoint]);
    let cmd = cmd.args(["-runtime-handler", &server::handler()]);
    Ok(cmd.args(["-containerd-bin", "none-of-this-name"]))
}

/// The images are made by the first that needs them.
fn image_list() -> Result<PathBuf> {
    static LIST: OnceLock<PathBuf> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().map_err(|_| "the images could not be made")?;
    if let Some(list) = LIST.get() {
        return Ok(list.clone());
    }
    let list = images::import_for_suite(&server::socket()?)?;
    Ok(LIST.get_or_init(|| list).clone())
}
