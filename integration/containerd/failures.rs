//! What a person reads when something fails, and what a failure leaves: nothing.

use std::sync::Arc;

use libtest_mimic::Trial;

use super::probe;
use crate::harness::bundle::Bundle;
use crate::harness::containerd::{Generation, Server, trials_on};
use crate::harness::guests::Guest;
use crate::harness::task::Task;
use crate::harness::{PATIENCE, Result, audit, eventually, suite};

pub fn tests(generation: Generation) -> Vec<Trial> {
    trials_on!(generation => failed_create_is_explained, failed_create_leaves_nothing,
        failed_options_are_explained, what_fails_in_a_guest_is_on_its_stderr,
        the_log_has_failures_by_default)
}

/// One sentence: all that `ctr` says is in one line.
fn explained(
    server: &Arc<Server>,
    bundle: Bundle,
    flags: &[&str],
    args: &[&str],
    words: &[&str],
) -> Result {
    let mut output = Task::run(server, bundle, flags, args)?;
    for word in words {
        output = output.refused(word)?;
    }
    let of_ctr: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("ctr: ")).collect();
    assert!(of_ctr.len() == 1 && words.iter().all(|word| of_ctr[0].contains(word)), "{of_ctr:?}");
    Ok(())
}

fn failed_create_is_explained(server: &Arc<Server>) -> Result {
    let mystery = Bundle::wasm(&Guest::Wat("mystery"), &["/mystery.wasm"])?;
    explained(server, mystery, &[], &["/mystery.wasm"], &["/mystery.wasm", "mystery"])?;
    let absent = "exec: \"nosuch\": executable file not found in $PATH";
    explained(server, Bundle::linux(&[])?, &[], &["nosuch"], &[absent])?;
    let text = Bundle::linux(&[])?.file("/text.wasm", b"no module")?;
    let flags = ["--annotation", "run.oci.handler=wasm"];
    explained(server, text, &flags, &["/text.wasm"], &["/text.wasm"])?;
    let flags = ["--annotation", "run.oci.handler=wasmedge"];
    explained(server, probe()?, &flags, &["/probe.wasm"], &["run.oci.handler", "wasmedge"])?;
    let flags = ["--mount", "type=bind,src=/nonexistent/dir,dst=/data,options=rbind:ro"];
    explained(server, probe()?, &flags, &["/probe.wasm"], &["/nonexistent/dir"])?;
    Ok(())
}

/// `ctr` has runtime options for us as a file only.
fn failed_options_are_explained(server: &Arc<Server>) -> Result {
    let file = suite::new_dir("options")?.join("options.toml");
    let name = file.to_string_lossy().into_owned();
    let flags = ["--runtime-config-path", name.as_str()];
    let run = |text: &str, words: &[&str]| -> Result {
        std::fs::write(&file, text)?;
        explained(server, probe()?, &flags, &["/probe.wasm"], words)
    };
    run("\nSystemdCgruop = true\n", &["options.toml, line 2", "unknown field `SystemdCgruop`"])?;
    run("[guest]\nmemroy = 1\n", &["[guest]", "unknown field `memroy`"])?;
    run("BinaryName = \"/nonexistent/oci\"\n", &["/nonexistent/oci"])?;
    std::fs::write(&file, "[guest]\nmemory = \"32MiB\"\n")?;
    let output = Task::run(server, probe()?, &flags, &["/probe.wasm", "grow"])?.success()?.text();
    let taken = output.strip_prefix("refused after ").and_then(|rest| rest.split(' ').next());
    let taken: u32 = taken.ok_or_else(|| output.clone())?.parse()?;
    assert!((16..32).contains(&taken), "{output}");
    Ok(())
}

fn failed_create_leaves_nothing(server: &Arc<Server>) -> Result {
    for _ in 0..5 {
        let task = Task::new(server, Bundle::linux(&[])?);
        let id = task.id().to_owned();
        Task::command(server, &task.bundle, &[], &["nosuch"]).run()?.refused("nosuch")?;
        assert_eq!(task.listed()?, None);
        assert!(!server.bundle(&id).exists());
        drop(task);
        audit::nothing_left_of(&id)?;
    }
    Ok(())
}

fn what_fails_in_a_guest_is_on_its_stderr(server: &Arc<Server>) -> Result {
    let trap = Bundle::wasm(&Guest::Wat("trap"), &["/trap.wasm"])?;
    let output = Task::run(server, trap, &[], &["/trap.wasm"])?.expect(134)?;
    assert!(output.stderr.contains("unreachable"), "{}", output.stderr);
    let output = Task::run(server, probe()?, &[], &["/probe.wasm", "panic"])?.expect(134)?;
    assert!(output.stderr.contains("as asked"), "{}", output.stderr);
    Ok(())
}

fn the_log_has_failures_by_default(server: &Arc<Server>) -> Result {
    let mystery = Bundle::wasm(&Guest::Wat("mystery"), &["/mystery.wasm"])?;
    let trap = Bundle::wasm(&Guest::Wat("trap"), &["/trap.wasm"])?;
    let (created, trapped) = (mystery.id.clone(), trap.id.clone());
    Task::run(server, mystery, &[], &["/mystery.wasm"])?.refused("mystery")?;
    Task::run(server, trap, &[], &["/trap.wasm"])?.expect(134)?;
    let logged = |id: &str, text: &str| {
        eventually(&format!("{text:?} of {id} in containerd's log"), PATIENCE, || {
            let log = server.log()?;
            let found = log.lines().any(|line| line.contains(id) && line.contains(text));
            Ok(found.then_some(()))
        })
    };
    logged(&created, "mystery.wasm")?;
    logged(&trapped, "exited with 134, an abort or a trap of a wasm guest")
}
