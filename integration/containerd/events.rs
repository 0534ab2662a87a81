//! What containerd publishes of a container.

use std::sync::Arc;

use libtest_mimic::Trial;

use super::probe;
use crate::harness::bundle::Bundle;
use crate::harness::command::Running;
use crate::harness::containerd::{Generation, Server, trials_on};
use crate::harness::task::Task;
use crate::harness::{PATIENCE, Result, eventually};

pub fn tests(generation: Generation) -> Vec<Trial> {
    trials_on!(generation => events_come_in_order, memory_kills_are_told)
}

/// `ctr events`, from a moment at which it surely listens.
fn listen(server: &Arc<Server>) -> Result<Running> {
    let events = server.ctr(["events"]).spawn()?;
    // The subscription has no sign of its own: another container's events are one.
    eventually("an event", PATIENCE, || {
        Task::run(server, probe()?, &[], &["/probe.wasm"])?.success()?;
        Ok(events.stdout()?.contains("/tasks/exit").then_some(()))
    })?;
    Ok(events)
}

/// The topics of the events about container `id` up to `last`, and the line of its last exit.
fn topics(events: &Running, id: &str, last: &str) -> Result<(Vec<String>, String)> {
    eventually(&format!("{last} of {id}"), PATIENCE, || {
        let text = events.stdout()?;
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(id)).collect();
        let words = lines.iter().flat_map(|line| line.split_whitespace());
        let topics: Vec<String> =
            words.filter(|word| word.starts_with("/tasks/")).map(str::to_owned).collect();
        let exit = lines.iter().rfind(|line| line.contains("/tasks/exit")).copied();
        let exit = exit.unwrap_or_default().to_owned();
        Ok((topics.last().map(String::as_str) == Some(last)).then_some((topics, exit)))
    })
}

fn events_come_in_order(server: &Arc<Server>) -> Result {
    let events = listen(server)?;
    let task = Task::start(server, probe()?, &[], &["/probe.wasm", "sleep"])?;
    let id = task.id().to_owned();
    task.exec("e", &[], &["/probe.wasm", "exit", "3"]).run()?.expect(3)?;
    task.task("pause", &[]).run()?.success()?;
    task.task("resume", &[]).run()?.success()?;
    task.kill("SIGTERM")?;
    task.wait_for_status("STOPPED")?;
    assert_eq!(task.delete()?, 143);
    let (topics, exit) = topics(&events, &id, "/tasks/delete")?;
    let expected = [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exit",
        "paused",
        "resumed",
        "exit",
        "delete",
    ];
    assert_eq!(topics, expected.map(|topic| format!("/tasks/{topic}")));
    assert!(exit.contains("\"exit_status\":143"), "{exit}");
    Ok(())
}

fn memory_kills_are_told(server: &Arc<Server>) -> Result {
    let events = listen(server)?;
    let args = ["/bin/sh", "-c", "exec tail /dev/zero"];
    let flags = ["--memory-limit", "16777216"];
    let task = Task::start(server, Bundle::linux(&[])?, &flags, &args)?;
    task.wait_for_status("STOPPED")?;
    let id = task.id().to_owned();
    assert_eq!(task.delete()?, 137);
    let (topics, _) = topics(&events, &id, "/tasks/delete")?;
    assert_eq!(topics, ["create", "start", "oom", "exit", "delete"].map(|t| format!("/tasks/{t}")));
    Ok(())
}
