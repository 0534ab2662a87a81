//! What docs/conformance.md lists: each proposal to WebAssembly by a small guest that ends with 42
//! if its instructions do what they should, and each world.

use std::collections::BTreeSet;
use std::fs;

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::guests::{self, Guest, PROBE, PROBE_COMPONENT};
use crate::harness::{Result, images, suite, trials};

/// Proposals that are part of WebAssembly 3, or need nothing of the engine.
const SUPPORTED: [&str; 17] = [
    "atomics",
    "branch-hinting",
    "bulk-memory",
    "exceptions",
    "extended-const",
    "function-references",
    "gc",
    "memory64",
    "multi-memory",
    "multi-value",
    "mutable-globals",
    "reference-types",
    "relaxed-simd",
    "saturating-conversions",
    "sign-extension",
    "simd",
    "tail-call",
];

/// Proposals that wasmtime does not count as finished, and what the refusal says of each.
const REFUSED: [(&str, &str); 5] = [
    ("custom-page-sizes", "custom page sizes proposal must be enabled"),
    ("legacy-exceptions", "legacy_exceptions feature required"),
    ("shared-everything", "require the shared-everything-threads proposal"),
    ("stack-switching", "when stack switching is disabled"),
    ("wide-arithmetic", "wide arithmetic support is not enabled"),
];

const DOCS: &str = "docs/conformance.md";

pub fn tests() -> Vec<Trial> {
    let trial = |name: &str, run: Box<dyn FnOnce() -> Result + Send>| {
        Trial::test(format!("conformance::{}", name.replace('-', "_")), run)
    };
    let supported = SUPPORTED.map(|name| trial(name, Box::new(|| runs(name))));
    let refused = REFUSED.map(|(name, reason)| trial(name, Box::new(|| is_refused(name, reason))));
    let others =
        trials!["conformance": garbage_is_bounded, wasi_0_0, command_0_1, command_0_2, command_0_3];
    let listed: Vec<_> = supported.into_iter().chain(refused).chain(others).collect();
    let names = listed.iter().map(|trial| trial.name().to_owned()).collect();
    let docs = Trial::test("conformance::docs_list_every_test", || docs_list(names));
    listed.into_iter().chain([docs]).collect()
}

/// The guest of a proposal, with little memory, so that garbage must be collected.
fn proposal(name: &str) -> Result<Bundle> {
    let file = guests::source(&format!("proposals/{name}.wat"));
    let bytes = wat::parse_file(file).map_err(|error| error.to_string())?;
    let bundle = Bundle::empty(&["/guest.wasm"])?.file("/guest.wasm", &bytes)?;
    // More than 4 GiB is the point of one of them.
    let memory = if name == "memory64" { "5GiB" } else { "8MiB" };
    Ok(bundle.annotation("runwasm.guest.memory", memory))
}

fn runs(name: &str) -> Result {
    proposal(name)?.run()?.expect(42).map(drop)
}

fn is_refused(name: &str, reason: &str) -> Result {
    let output = proposal(name)?.create_fails()?.refused("/guest.wasm cannot be compiled")?;
    assert!(output.stderr.contains(reason), "{}", output.stderr);
    Ok(())
}

fn garbage_is_bounded() -> Result {
    let hoard = Bundle::wasm(&Guest::Wat("hoard"), &["/guest.wasm"])?;
    let output = hoard.annotation("runwasm.guest.memory", "8MiB").run()?.expect(134)?;
    assert!(output.stderr.contains("GC heap out of memory"), "{}", output.stderr);
    Ok(())
}

fn wasi_0_0() -> Result {
    let guest = Guest::Wat("exit-unstable");
    Bundle::wasm(&guest, &["/guest.wasm"])?.run()?.expect(42).map(drop)
}

fn command_0_1() -> Result {
    command(&PROBE)
}

fn command_0_2() -> Result {
    command(&PROBE_COMPONENT)
}

/// Arguments, environment, input, output and failure. Rust's library for 0.2 knows only success and
/// failure, so what numbers come through is tested elsewhere, on 0.1.
fn command(guest: &Guest) -> Result {
    let bundle = |args: &[&str]| Bundle::wasm(guest, &[&["/probe.wasm"], args].concat());
    assert_eq!(bundle(&["args", "b"])?.run()?.success()?.lines()[2], "[b]");
    let environment = bundle(&["env"])?.env(&["A=1"]).run()?.success()?;
    assert_eq!(environment.lines(), ["A=1"]);
    assert_eq!(bundle(&["echo"])?.run_with_input("text")?.success()?.text(), "text");
    bundle(&["exit", "1"])?.run()?.expect(1).map(drop)
}

/// It prints what the same program on WASI 0.1 prints, but for its name.
fn command_0_3() -> Result {
    let lines = |image: &str| -> Result<Vec<String>> {
        let bundle = images::bundle(image, "/hello.wasm")?.args(&["/hello.wasm", "one", "two"]);
        let bundle = bundle.directory("/directory")?.env(&["A=1", "B=two words"]);
        Ok(bundle.run()?.success()?.lines())
    };
    let (old, new) = (lines("hello-rust")?, lines("hello-rust-0.3")?);
    assert_eq!(new[0], "hello from Rust on WASI 0.3");
    assert_eq!(new[1..], old[1..]);
    assert!(new.contains(&"files in /: directory/".to_owned()), "{new:?}");
    Ok(())
}

/// Each test here is in the document, and each test that the document names exists.
fn docs_list(trials: BTreeSet<String>) -> Result {
    let text = fs::read_to_string(suite::repository().join(DOCS))?;
    let words = text.split(['`', ' ']).filter(|word| word.contains("::"));
    let named: BTreeSet<_> = words.map(str::to_owned).collect();
    let (ours, others): (BTreeSet<_>, BTreeSet<_>) =
        named.into_iter().partition(|name| name.starts_with("conformance::"));
    assert_eq!(ours, trials);
    for name in others {
        let (module, function) = name.split_once("::").ok_or("a name has two parts")?;
        assert!(is_defined(module, function)?, "{DOCS} names {name}, which does not exist");
    }
    Ok(())
}

/// Whether a trial `module::function` is written in the file or the folder of the module.
fn is_defined(module: &str, function: &str) -> Result<bool> {
    let suite = suite::repository().join("integration");
    let mut files = vec![suite.join(format!("{module}.rs"))];
    for entry in fs::read_dir(suite.join(module)).into_iter().flatten() {
        files.push(entry?.path());
    }
    let definition = format!("fn {function}(");
    let has = |file| fs::read_to_string(file).is_ok_and(|text| text.contains(&definition));
    Ok(files.iter().any(has))
}
