//! `cache list`, `add`, `prune` and `clear`, and the bound on the cache's size.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Cache, SMALL, SMALL_CODE};
use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::{Guest, PROBE};
use crate::harness::{Result, runtime, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["cache": added_module_starts_without_compiling, add_refuses_what_is_no_wasm,
        list_is_for_people_and_programs, prune_removes_what_is_of_no_use,
        the_size_is_bounded_and_what_is_used_stays, clear_leaves_containers_alone,
        another_user_has_a_cache_of_their_own, cache_can_be_turned_off]
}

/// Writes the small module to a file on the host.
fn module() -> Result<String> {
    let file = suite::new_dir("module")?.join("small.wasm");
    fs::write(&file, SMALL.bytes()?)?;
    Ok(file.to_string_lossy().into_owned())
}

fn added_module_starts_without_compiling() -> Result {
    let cache = Cache::new()?;
    let module = module()?;
    let output = cache.command(&["add", &module]).run()?.success()?;
    assert!(output.stderr.contains(&format!("{module}: ready after")), "{output:?}");
    assert!(!cache.run()?.well()?.compiled);
    Ok(())
}

fn add_refuses_what_is_no_wasm() -> Result {
    let cache = Cache::new()?;
    cache.command(&["add", "/bin/sh"]).run()?.refused("/bin/sh is an ELF file")?;
    cache.command(&["add", "/nonexistent"]).run()?.refused("/nonexistent: No such file")?;
    cache.command(&["add"]).run()?.refused("<FILES>")?;
    Ok(())
}

fn list_is_for_people_and_programs() -> Result {
    let cache = Cache::new()?;
    assert_eq!(cache.list()?, [Value::Null; 0]);
    cache.run()?.well()?;
    let entry = cache.entry()?;
    let listed = &cache.list()?[0];
    assert_eq!(listed["module"], "/exit.wasm");
    assert_eq!(listed["moduleSize"], SMALL.bytes()?.len());
    assert_eq!(listed["size"], fs::metadata(&entry)?.len());
    assert_eq!(listed["inUse"], false);
    let table = cache.command(&["list"]).run()?.success()?.text();
    assert!(table.starts_with("KEY ") && table.contains("/exit.wasm"), "{table}");
    fs::write(&entry, "x")?;
    let table = cache.command(&["list"]).run()?.success()?.text();
    assert!(table.contains("(damaged)") || table.contains("(truncated)"), "{table}");
    cache.command(&["list", "--format", "xml"]).run()?.refused("xml")?;
    Ok(())
}

fn prune_removes_what_is_of_no_use() -> Result {
    let cache = Cache::new()?;
    // A module of its own: one that another trial runs just now counts as in use.
    let text = "(module (func (export \"_start\")) (global i64 (i64.const 77)))";
    let bundle = Bundle::empty(&["/small.wat"])?.file("/small.wat", text.as_bytes())?;
    super::run(cache.used_by(bundle))?.output.success()?;
    let entry = cache.entry()?;
    fs::write(cache.dir().join("half.tmp"), "half an entry")?;
    fs::write(cache.dir().join("damaged"), "not an entry")?;
    let output = cache.command(&["prune"]).run()?.success()?;
    assert!(output.text().starts_with("removed 2 files"), "{output:?}");
    assert_eq!(cache.entry()?, entry);
    cache.command(&["prune", "--size", "0"]).run()?.success()?;
    assert_eq!(cache.files()?, [""; 0]);
    cache.command(&["prune", "--size", "much"]).run()?.refused("64MiB")?;
    Ok(())
}

fn the_size_is_bounded_and_what_is_used_stays() -> Result {
    let cache = Cache::new()?;
    let sleeper = cache.used_by(Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?);
    let container = Container::start_new(sleeper)?;
    container.wait_for("ready")?;
    let used = cache.entry()?;
    assert_eq!(cache.list()?[0]["inUse"], true);
    for number in 0..3 {
        let text = format!("(module (func (export \"_start\")) (global i32 (i32.const {number})))");
        let bundle = Bundle::empty(&["/small.wat"])?.file("/small.wat", text.as_bytes())?;
        super::run(cache.used_by(bundle).setting("cache.size=1"))?.output.success()?;
    }
    assert_eq!(cache.entry()?, used, "all others had to go");
    container.finish()
}

fn clear_leaves_containers_alone() -> Result {
    let cache = Cache::new()?;
    let echo = cache.used_by(Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?);
    let container = Container::start_new(echo)?;
    container.wait_for("ready")?;
    cache.command(&["clear"]).run()?.success()?;
    assert_eq!(cache.files()?, [""; 0]);
    assert_eq!(container.status()?, "running");
    container.kill("TERM")?;
    assert_eq!(container.wait()?, 128 + 15);
    container.delete()
}

fn another_user_has_a_cache_of_their_own() -> Result {
    let home = suite::new_dir("home")?;
    fs::set_permissions(&home, PermissionsExt::from_mode(0o777))?;
    let module = module()?;
    let as_user = |args: &[&str]| {
        let cmd = runtime::cmd().env("HOME", &home).env("XDG_CACHE_HOME", "").arg("cache");
        let ids = ["--reuid=12345", "--regid=12345", "--clear-groups"];
        cmd.args(args).wrapped("setpriv", &ids).run()?.success()
    };
    as_user(&["add", &module])?;
    let listed: Vec<Value> = serde_json::from_slice(&as_user(&["list", "-f", "json"])?.stdout)?;
    assert_eq!(listed[0]["module"], module.as_str());
    assert_eq!(fs::read_dir(home.join(".cache/runwasm"))?.count(), 1);
    Ok(())
}

fn cache_can_be_turned_off() -> Result {
    let cache = Cache::new()?;
    for _ in 0..2 {
        let ran = cache.run_with(|bundle| bundle.setting("cache.enabled=false"))?.well()?;
        assert!(ran.compiled && ran.warnings.is_empty(), "{:?}", ran.warnings);
    }
    assert!(!cache.dir().exists());
    let exit = Bundle::wasm(&Guest::Wat("exit"), &["/exit.wasm"])?;
    cache.used_by(exit).run()?.expect(SMALL_CODE)?;
    cache.entry()?;
    Ok(())
}
