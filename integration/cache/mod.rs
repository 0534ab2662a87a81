//! The compile cache and the process that compiles: each fault costs time and nothing else.

mod commands;
mod compiler;
mod damage;

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::bundle::Bundle;
use crate::harness::command::{Cmd, Output};
use crate::harness::container::tidied;
use crate::harness::guests::Guest;
use crate::harness::{Result, runtime, suite};

pub fn our_tests() -> Vec<Trial> {
    let modules = [commands::tests(), compiler::tests(), damage::tests()];
    modules.into_iter().flatten().collect()
}

/// A small module, and the exit code by which a run of it is known.
const SMALL: Guest = Guest::Wat("exit");
const SMALL_CODE: i32 = 42;

/// A cache of the trial's own.
struct Cache(PathBuf);

impl Cache {
    fn new() -> Result<Self> {
        Ok(Self(suite::new_dir("cache")?.join("cache")))
    }

    fn dir(&self) -> &Path {
        &self.0
    }

    /// `bundle`, using this cache.
    fn used_by(&self, bundle: Bundle) -> Bundle {
        bundle.setting(&self.setting())
    }

    fn setting(&self) -> String {
        format!("cache.directory={}", self.0.display())
    }

    /// `cache` with this cache.
    fn command(&self, args: &[&str]) -> Cmd {
        runtime::cmd().args(["--set", &self.setting(), "cache"]).args(args)
    }

    fn list(&self) -> Result<Vec<Value>> {
        let output = self.command(&["list", "--format", "json"]).run()?.success()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The file of the only entry, which is good.
    fn entry(&self) -> Result<PathBuf> {
        match self.list()?.as_slice() {
            [entry] if entry["problem"].is_null() => {
                Ok(self.0.join(entry["key"].as_str().unwrap_or_default()))
            }
            entries => Err(format!("expected one good entry, found {entries:?}").into()),
        }
    }

    fn files(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.0)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Runs the small module.
    fn run(&self) -> Result<Ran> {
        self.run_with(|bundle| bundle)
    }

    fn run_with(&self, change: impl FnOnce(Bundle) -> Bundle) -> Result<Ran> {
        run(change(self.used_by(Bundle::wasm(&SMALL, &["/exit.wasm"])?)))
    }
}

/// What a run did.
struct Ran {
    output: Output,
    warnings: Vec<String>,
    compiled: bool,
}

impl Ran {
    /// The run went as it must, whatever the cache.
    fn well(self) -> Result<Self> {
        Ok(Self { output: self.output.expect(SMALL_CODE)?, ..self })
    }
}

fn run(bundle: Bundle) -> Result<Ran> {
    let output = bundle.make("run", &[])?.run();
    let output = tidied(&bundle, output)?;
    let compiled = bundle.logged("info")?.iter().any(|line| line.starts_with("compiling "));
    Ok(Ran { output, warnings: bundle.logged("warning")?, compiled })
}

/// A module that takes some seconds to compile on one core, and ends with code 0 at once.
fn large_module() -> Result<Vec<u8>> {
    const FUNCTIONS: usize = 8000;
    let mut text = String::from("(module (memory 1) (func (export \"_start\"))");
    for function in 0..FUNCTIONS {
        text.push_str("(func (param i32) (result i32)");
        for step in 0..30 {
            let number = function * 31 + step;
            text.push_str(&format!(
                "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const {number})) \
                 (i32.load (i32.and (local.get 0) (i32.const 65532)))))"
            ));
        }
        text.push_str("(local.get 0))");
    }
    text.push(')');
    Ok(wat::parse_str(text).map_err(|error| error.to_string())?)
}
