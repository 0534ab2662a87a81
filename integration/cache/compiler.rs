//! The process that compiles: one for a module however many want it, confined, bounded, and no
//! loss when it dies.

use std::fs;
use std::time::Duration;

use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use nix::unistd::getpid;
use serde_json::json;

use super::{Cache, SMALL, large_module, run};
use crate::harness::bundle::Bundle;
use crate::harness::command::Running;
use crate::harness::container::tidied;
use crate::harness::{PATIENCE, Result, eventually, procfs, trials};

pub fn tests() -> Vec<Trial> {
    trials!["cache": concurrent_starts_compile_once, compiler_is_confined,
        killed_compilation_is_forgotten, run_can_be_interrupted_while_it_compiles, module_beyond_the_time_is_refused,
        module_beyond_the_memory_is_refused, module_beyond_the_size_is_refused,
        long_compilation_is_announced_and_small_containers_start]
}

fn large(cache: &Cache) -> Result<Bundle> {
    let bundle = Bundle::empty(&["/large.wasm"])?.file("/large.wasm", &large_module()?)?;
    Ok(cache.used_by(bundle))
}

fn concurrent_starts_compile_once() -> Result {
    let cache = Cache::new()?;
    let bundles: Vec<_> = (0..8)
        .map(|_| Ok(cache.used_by(Bundle::wasm(&SMALL, &["/exit.wasm"])?)))
        .collect::<Result<_>>()?;
    let running: Vec<Running> =
        bundles.iter().map(|bundle| bundle.make("run", &[])?.spawn()).collect::<Result<_>>()?;
    let mut compiled = 0;
    for (bundle, running) in bundles.iter().zip(running) {
        tidied(bundle, running.wait())?.expect(super::SMALL_CODE)?;
        let lines = bundle.logged("info")?;
        compiled += lines.iter().filter(|line| line.starts_with("compiling ")).count();
    }
    assert_eq!(compiled, 1);
    cache.entry()?;
    Ok(())
}

/// The compiler process of a `create` that is under way.
fn compiler_of(create: &Running) -> Result<i32> {
    eventually("the compiler process", PATIENCE, || {
        let children = procfs::living()?.into_iter().filter(|&pid| {
            procfs::stat(pid).is_some_and(|(_, parent)| parent == create.pid())
                && procfs::command_line(pid).contains("compile-module")
        });
        // Confined, once it reads the module: that is what it does last.
        Ok(children
            .into_iter()
            .find(|&pid| procfs::status(pid, "NoNewPrivs").is_ok_and(|value| value == "1")))
    })
}

fn compiler_is_confined() -> Result {
    let cache = Cache::new()?;
    let bundle = large(&cache)?;
    let create = bundle.make("create", &[])?.spawn()?;
    let compiler = compiler_of(&create)?;
    assert_eq!(procfs::status(compiler, "Uid")?, "65534\t65534\t65534\t65534");
    assert_eq!(procfs::status(compiler, "Groups")?, "");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(procfs::status(compiler, set)?, "0000000000000000", "{set}");
    }
    let of = |kind| procfs::namespace(&compiler.to_string(), kind);
    for kind in ["net", "ipc", "mnt"] {
        assert_ne!(of(kind)?, procfs::namespace("self", kind)?, "{kind}");
    }
    assert_eq!(fs::read_dir(format!("/proc/{compiler}/root"))?.count(), 0, "its files");
    let descriptors: Vec<_> = procfs::descriptors(compiler)?.into_keys().collect();
    assert_eq!(descriptors, [0, 1, 2]);
    let stat = fs::read_to_string(format!("/proc/{compiler}/stat"))?;
    let nice = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16));
    assert_eq!(nice, Some("19"));
    let cgroup = |pid| fs::read_to_string(format!("/proc/{pid}/cgroup"));
    assert_eq!(cgroup(compiler)?, cgroup(getpid().as_raw())?, "outside the container's");
    let limits = fs::read_to_string(format!("/proc/{compiler}/limits"))?;
    for limit in ["Max address space", "Max cpu time", "Max file size"] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap_or_default();
        assert!(!line.is_empty() && !line.contains("unlimited"), "{limits}");
    }
    create.signal(Signal::SIGKILL)?;
    drop(create);
    bundle.runtime("delete").args(["--force", &bundle.id]).run()?.success()?;
    Ok(())
}

fn killed_compilation_is_forgotten() -> Result {
    let cache = Cache::new()?;
    let bundle = large(&cache)?;
    let mut create = bundle.make("create", &[])?.spawn()?;
    let compiler = compiler_of(&create)?;
    create.signal(Signal::SIGKILL)?;
    create.wait_for_exit()?;
    eventually("the end of the compiler", PATIENCE, || {
        Ok((!procfs::is_living(compiler)).then_some(()))
    })?;
    bundle.runtime("delete").args(["--force", &bundle.id]).run()?.success()?;
    let output = bundle.make("run", &[])?.run();
    tidied(&bundle, output)?.success()?;
    cache.entry()?;
    Ok(())
}

fn run_can_be_interrupted_while_it_compiles() -> Result {
    let cache = Cache::new()?;
    let bundle = large(&cache)?.setting("compile.cores=1");
    let mut run = bundle.make("run", &[])?.spawn()?;
    let compiler = compiler_of(&run)?;
    run.signal(Signal::SIGTERM)?;
    let output = run.wait_for_exit();
    tidied(&bundle, output)?.refused("interrupted by SIGTERM")?;
    assert!(!procfs::is_living(compiler));
    Ok(())
}

fn module_beyond_the_time_is_refused() -> Result {
    let cache = Cache::new()?;
    let bundle = large(&cache)?.setting("compile.timeout=1").setting("compile.cores=1");
    bundle.create_fails()?.refused(
        "/large.wasm cannot be compiled: it takes longer than 1 seconds (compile.timeout)",
    )?;
    assert_eq!(cache.files()?, [""; 0]);
    Ok(())
}

fn module_beyond_the_memory_is_refused() -> Result {
    let cache = Cache::new()?;
    let bundle = large(&cache)?.setting("compile.memory=100MiB");
    bundle.create_fails()?.refused("104857600 bytes of memory (compile.memory)")?;
    assert_eq!(cache.files()?, [""; 0]);
    Ok(())
}

fn module_beyond_the_size_is_refused() -> Result {
    let cache = Cache::new()?;
    let bundle = cache.used_by(Bundle::wasm(&SMALL, &["/exit.wasm"])?);
    bundle.setting("compile.module=10").create_fails()?.refused("compile.module")?;
    Ok(())
}

/// Compiling takes far more memory than the container may have.
fn long_compilation_is_announced_and_small_containers_start() -> Result {
    let cache = Cache::new()?;
    let bundle = large(&cache)?.setting("compile.cores=1").edit(|config| {
        let limit = 32 << 20;
        config["linux"]["resources"]["memory"] = json!({"limit": limit, "swap": limit});
    });
    let started = std::time::Instant::now();
    let ran = run(bundle)?;
    let stderr = ran.output.success()?.stderr;
    let told = "compiling /large.wasm takes a while";
    // On a machine that is fast enough there is nothing to tell.
    let long = started.elapsed() > Duration::from_secs(5);
    assert!(!long || stderr.contains(told), "{stderr}");
    assert_eq!(stderr.contains(told), ran.warnings.iter().any(|line| line.contains(told)));
    Ok(())
}
