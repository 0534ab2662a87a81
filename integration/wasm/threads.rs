//! wasi-threads.

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::guests::Guest;
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": threads_share_memory, threads_are_refused_unless_allowed,
        threads_end_the_process, threads_come_and_go, threads_do_not_hold_up_others,
        threads_share_the_memory_limit, threads_need_a_start, signals_end_spinning_threads]
}

const THREADS: Guest = Guest::Threads("threads");

fn bundle(verb: &str) -> Result<Bundle> {
    let bundle = Bundle::wasm(&THREADS, &["/threads.wasm", verb])?;
    Ok(bundle.annotation("runwasm.guest.threads", "true"))
}

fn threads_share_memory() -> Result {
    assert_eq!(bundle("count")?.run()?.success()?.text(), "80000 80000\n");
    assert_eq!(bundle("files")?.writable().run()?.success()?.text(), "4000 lines\n");
    Ok(())
}

fn threads_are_refused_unless_allowed() -> Result {
    let reason = "it uses threads, which the setting guest.threads";
    let bundle = || Bundle::wasm(&THREADS, &["/threads.wasm", "count"]);
    bundle()?.create_fails()?.refused(reason)?;
    bundle()?.setting("guest.threads=true").run()?.success()?;
    for guest in ["own-shared-memory", "threads-without-start"] {
        Bundle::wasm(&Guest::Wat(guest), &["/guest.wasm"])?.create_fails()?.refused(reason)?;
    }
    Ok(())
}

/// Whatever ends one ends all: the main thread's return, an exit, a trap.
fn threads_end_the_process() -> Result {
    assert_eq!(bundle("leave")?.run()?.success()?.text(), "");
    bundle("exit")?.run()?.expect(7)?;
    let output = bundle("panic")?.run()?.expect(134)?;
    assert!(output.stderr.contains("as asked"), "{}", output.stderr);
    assert!(output.stderr.contains("unreachable"), "{}", output.stderr);
    Ok(())
}

fn threads_come_and_go() -> Result {
    let limited = bundle("many")?.edit(|config| {
        config["linux"]["resources"]["pids"] = serde_json::json!({"limit": 40});
    });
    let lines = limited.run()?.success()?.lines();
    assert_eq!(lines[0], "sum 124750");
    let at_once = lines[1].strip_suffix(" at once").ok_or_else(|| format!("{lines:?}"))?;
    assert!((30..40).contains(&at_once.parse::<u32>()?), "{lines:?}");
    Ok(())
}

fn threads_do_not_hold_up_others() -> Result {
    let bundle = bundle("read")?;
    let mut run = bundle.make("run", &[])?.open_input().spawn()?;
    run.wait_for("ready")?;
    run.write(b"typed")?;
    run.close_input();
    assert_eq!(run.wait()?.success()?.lines(), ["ready", "read \"typed\""]);
    Ok(())
}

fn threads_share_the_memory_limit() -> Result {
    let text = bundle("grow")?.annotation("runwasm.guest.memory", "64MiB").run()?.success()?.text();
    let taken = text.strip_prefix("refused after ").and_then(|rest| rest.split(' ').next());
    let taken: u32 = taken.ok_or_else(|| format!("{text:?}"))?.parse()?;
    assert!((16..64).contains(&taken), "{text}");
    let reason = "more than it may have";
    bundle("grow")?.annotation("runwasm.guest.memory", "64KiB").create_fails()?.refused(reason)?;
    Ok(())
}

fn threads_need_a_start() -> Result {
    let allowed = |name| -> Result<Bundle> {
        let bundle = Bundle::wasm(&Guest::Wat(name), &["/guest.wasm"])?;
        Ok(bundle.annotation("runwasm.guest.threads", "true"))
    };
    let reason = "exports no function `wasi_thread_start`";
    allowed("threads-without-start")?.create_fails()?.refused(reason)?;
    allowed("own-shared-memory")?.run()?.success()?;
    Ok(())
}

fn signals_end_spinning_threads() -> Result {
    let container = Container::start_new(bundle("spin")?)?;
    container.wait_for("ready")?;
    container.kill("TERM")?;
    assert_eq!(container.wait()?, 143);
    container.delete()
}
