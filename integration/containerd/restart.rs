//! containerd is stopped and started, and shims are killed, while containers run.

use std::sync::Arc;

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::probe;
use crate::harness::bundle::{Bundle, install_busybox};
use crate::harness::containerd::{Generation, Server};
use crate::harness::task::Task;
use crate::harness::{PATIENCE, Result, audit, eventually, procfs};

/// Each has a server of its own.
pub fn tests(generation: Generation) -> Vec<Trial> {
    let trial = |name: &str, run: fn(Generation) -> Result| {
        Trial::test(format!("{}::{name}", generation.group()), move || run(generation))
    };
    vec![
        trial("restart_finds_what_lives", restart_finds_what_lives),
        trial("restart_finds_what_has_ended", restart_finds_what_has_ended),
        trial("restart_cleans_up_after_dead_shims", restart_cleans_up_after_dead_shims),
        trial("dead_shims_leave_nothing", dead_shims_leave_nothing),
    ]
}

fn send(pid: i32, signal: Signal) -> Result {
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// FIFOs are the client's to remove, which has no occasion to if containerd removes the task.
const FLAGS: [&str; 1] = ["--null-io"];

/// A signal can come before the first process of a container has a handler, and is lost then.
fn send_until(pids: &[i32], signal: Signal) -> Result {
    eventually("the ends of the containers", PATIENCE, || {
        let living: Vec<_> = pids.iter().filter(|pid| procfs::is_living(**pid)).collect();
        living.iter().try_for_each(|pid| send(**pid, signal))?;
        std::thread::sleep(std::time::Duration::from_millis(20));
        Ok(living.is_empty().then_some(()))
    })
}

fn sleepers(server: &Arc<Server>) -> Result<[Task; 2]> {
    let bundle = probe()?;
    install_busybox(&bundle.rootfs())?;
    let wasm = Task::start(server, bundle, &FLAGS, &["/probe.wasm", "sleep"])?;
    let script = "trap 'exit 7' TERM; while :; do sleep 0.1; done";
    let linux = Task::start(server, Bundle::linux(&[])?, &FLAGS, &["/bin/sh", "-c", script])?;
    Ok([wasm, linux])
}

/// Tasks and exec'd processes go on, and are served as before.
fn restart_finds_what_lives(generation: Generation) -> Result {
    let server = Server::start(generation)?;
    for (task, code) in sleepers(&server)?.iter().zip([143, 7]) {
        let pid = task.pid()?;
        // Detached: `ctr` would pass on the SIGPIPE it gets when its server goes.
        let output = format!("file://{}", task.bundle.dir().join("exec.log").display());
        let flags = ["--detach", "--log-uri", &output];
        task.exec("before", &flags, &["/bin/sleep", "600"]).run()?.success()?;
        let listed = || -> Result<Option<i32>> {
            let lines = task.task("ps", &[]).run()?.success()?.lines();
            let line = lines.into_iter().find(|line| line.contains("before"));
            Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()))
        };
        let exec_pid = eventually("the exec'd process", PATIENCE, listed)?;
        server.stop()?;
        assert!(procfs::is_living(pid) && procfs::is_living(exec_pid));
        server.start_again()?;
        task.wait_for_status("RUNNING")?;
        assert_eq!(task.pid()?, pid);
        assert_eq!(listed()?, Some(exec_pid));
        task.exec("after", &[], &["/bin/echo", "text"]).run()?.success()?;
        let flags = ["--exec-id", "before", "--signal", "SIGKILL"];
        task.task("kill", &flags).run()?.success()?;
        eventually("the exec'd process's end", PATIENCE, || {
            Ok((!procfs::is_living(exec_pid)).then_some(()))
        })?;
        send_until(&[pid], Signal::SIGTERM)?;
        task.wait_for_status("STOPPED")?;
        assert_eq!(task.delete()?, code);
    }
    Ok(())
}

/// What ends while nobody listens: the exit code is kept.
fn restart_finds_what_has_ended(generation: Generation) -> Result {
    let server = Server::start(generation)?;
    let [wasm, linux] = sleepers(&server)?;
    let pids = [wasm.pid()?, linux.pid()?];
    server.stop()?;
    send_until(&pids, Signal::SIGTERM)?;
    server.start_again()?;
    for (task, code) in [wasm, linux].iter().zip([143, 7]) {
        task.wait_for_status("STOPPED")?;
        assert_eq!(task.delete()?, code);
    }
    Ok(())
}

/// As after a power cut: shims and containers are gone when containerd comes back.
fn restart_cleans_up_after_dead_shims(generation: Generation) -> Result {
    let server = Server::start(generation)?;
    let tasks = sleepers(&server)?;
    let mut pids = Vec::new();
    for task in &tasks {
        pids.extend([task.shim_pid()?, task.pid()?]);
    }
    server.stop()?;
    for pid in &pids {
        send(*pid, Signal::SIGKILL)?;
    }
    server.start_again()?;
    for task in &tasks {
        let id = task.id();
        eventually(&format!("the end of {id}"), PATIENCE, || {
            Ok((!server.bundle(id).exists()).then_some(()))
        })?;
        server.ctr(["container", "delete", id]).run()?.success()?;
        audit::nothing_left_of(id)?;
    }
    Ok(())
}

/// Killed or told to end: containerd learns it, and the container has ended with its shim.
fn dead_shims_leave_nothing(generation: Generation) -> Result {
    let server = Server::start(generation)?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        for task in sleepers(&server)? {
            send(task.shim_pid()?, signal)?;
            eventually("containerd to learn of the end", PATIENCE, || {
                let listed = task.listed()?;
                Ok(listed.is_none_or(|line| line[2] == "STOPPED").then_some(()))
            })?;
            // containerd 2 keeps the task until it is deleted.
            task.task("delete", &[]).run()?;
            server.ctr(["container", "delete", task.id()]).run()?.success()?;
            audit::nothing_left_of(task.id())?;
            assert!(!server.bundle(task.id()).exists());
        }
    }
    Ok(())
}
