//! Pods: a Linux container and a wasm container in one shim, many at once, and killed at random.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::probe;
use crate::harness::bundle::Bundle;
use crate::harness::containerd::{Generation, Server, trials_on};
use crate::harness::task::Task;
use crate::harness::{PATIENCE, Result, audit, eventually, procfs};

pub fn tests(generation: Generation) -> Vec<Trial> {
    let chaos = Trial::test(format!("{}::pods_survive_chaos", generation.group()), move || {
        pods_survive_chaos(generation)
    });
    let mut trials = trials_on!(generation => one_shim_serves_a_pod);
    trials.push(chaos);
    trials
}

const PODS: usize = 50;

/// So many are started at the same time.
const AT_A_TIME: usize = 16;

/// The containers of a pod: the first is the Linux one.
fn pod(server: &Arc<Server>) -> Result<[Task; 2]> {
    Ok([Task::new(server, Bundle::linux(&[])?), Task::new(server, probe()?)])
}

/// Starts one of them as the CRI does, by the annotation that names the pod.
fn start(server: &Server, task: &Task, sandbox: &str, is_linux: bool) -> Result<bool> {
    let annotation = format!("io.kubernetes.cri.sandbox-id={sandbox}");
    // FIFOs would be the client's to remove, which has no occasion to if its shim dies.
    let flags = ["--detach", "--null-io", "--annotation", &annotation];
    let linux = ["/bin/sleep", "600"];
    let args = if is_linux { linux } else { ["/probe.wasm", "sleep"] };
    let limit = Duration::from_secs(120);
    let run = Task::command(server, &task.bundle, &flags, &args).limit(limit).run()?;
    Ok(run.code == 0)
}

fn one_shim_serves_a_pod(server: &Arc<Server>) -> Result {
    let tasks = pod(server)?;
    let sandbox = format!("{}-pod", tasks[0].id());
    for (task, is_linux) in tasks.iter().zip([true, false]) {
        assert!(start(server, task, &sandbox, is_linux)?);
    }
    let shim = tasks[0].shim_pid()?;
    assert_eq!(tasks[1].shim_pid()?, shim);
    tasks[0].kill("SIGKILL")?;
    tasks[0].wait_for_status("STOPPED")?;
    assert_eq!(tasks[0].delete_task()?, 137);
    assert!(procfs::is_living(shim), "the shim ended before its last container");
    let exec = tasks[1].exec("e", &[], &["/probe.wasm", "exit", "5"]).run()?;
    exec.expect(5)?;
    tasks[1].kill("SIGKILL")?;
    tasks[1].wait_for_status("STOPPED")?;
    assert_eq!(tasks[1].delete_task()?, 137);
    eventually("the shim's end", PATIENCE, || Ok((!procfs::is_living(shim)).then_some(())))?;
    for task in &tasks {
        server.ctr(["container", "delete", task.id()]).run()?.success()?;
        audit::nothing_left_of(task.id())?;
    }
    Ok(())
}

/// What a victim is: the pod's number and what of it is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Shim,
    Linux,
    Wasm,
    Nobody,
}

/// 50 pods are started; of every second one the shim or a container is killed, while it starts
/// or later. Whatever that hits, in the end each container runs, has ended by SIGKILL, or is not
/// there, and can be removed without a trace.
fn pods_survive_chaos(generation: Generation) -> Result {
    let server = &Server::start(generation)?;
    let next = AtomicUsize::new(0);
    let pods: Vec<[Task; 2]> = (0..PODS).map(|_| pod(server)).collect::<Result<_>>()?;
    let work = || -> Result<Vec<(usize, [bool; 2])>> {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(tasks) = pods.get(number) else { return Ok(done) };
            done.push((number, one_pod(server, tasks, number)?));
        }
    };
    let started: BTreeMap<usize, [bool; 2]> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        let all =
            workers.into_iter().map(|worker| worker.join().map_err(|_| "a worker panicked")?);
        all.collect::<Result<Vec<_>>>().map(|all| all.into_iter().flatten().collect())
    })?;
    for (number, tasks) in pods.iter().enumerate() {
        let expected = started.get(&number).copied().unwrap_or_default();
        settled(tasks, victim(number), expected)
            .map_err(|failed| format!("pod {number}, {:?}: {failed:?}", victim(number)))?;
    }
    for task in pods.iter().flatten() {
        task.task("delete", &["--force"]).run()?;
        server.ctr(["container", "delete", task.id()]).run()?;
    }
    pods.iter().flatten().try_for_each(|task| {
        assert!(!server.bundle(task.id()).exists());
        audit::nothing_left_of(task.id())
    })
}

fn victim(pod: usize) -> Victim {
    match pod % 6 {
        1 => Victim::Shim,
        3 => Victim::Linux,
        5 => Victim::Wasm,
        _ => Victim::Nobody,
    }
}

/// Starts a pod, and kills in it at a moment that the pod's number decides on: from before its
/// shim is there until after all of it runs.
fn one_pod(server: &Server, tasks: &[Task; 2], number: usize) -> Result<[bool; 2]> {
    let sandbox = format!("{}-pod", tasks[0].id());
    let delay = Duration::from_millis((number as u64 * 37) % 400);
    std::thread::scope(|scope| {
        let killer = scope.spawn(move || {
            std::thread::sleep(delay);
            strike(tasks, victim(number))
        });
        let linux = start(server, &tasks[0], &sandbox, true)?;
        let wasm = start(server, &tasks[1], &sandbox, false)?;
        killer.join().map_err(|_| "the killer panicked")??;
        Ok([linux, wasm])
    })
}

/// Kills what there is of the victim now, found without containerd's help.
fn strike(tasks: &[Task; 2], victim: Victim) -> Result {
    let pids = match victim {
        Victim::Nobody => return Ok(()),
        Victim::Shim => shims(tasks[0].id())?,
        Victim::Linux => contained(tasks[0].id())?,
        Victim::Wasm => contained(tasks[1].id())?,
    };
    for pid in pids {
        // It may have ended.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    Ok(())
}

fn shims(id: &str) -> Result<Vec<i32>> {
    let is_shim = |pid: &i32| {
        let line = procfs::command_line(*pid);
        line.contains("containerd-shim-wasm-v1") && line.contains(id) && line.contains("-socket")
    };
    Ok(procfs::living()?.into_iter().filter(is_shim).collect())
}

/// The processes in the container's cgroup.
fn contained(id: &str) -> Result<Vec<i32>> {
    let is_in = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(id))
    };
    Ok(procfs::living()?.into_iter().filter(is_in).collect())
}

/// Waits until both containers are in a state that they stay in, and checks it.
fn settled(tasks: &[Task; 2], victim: Victim, started: [bool; 2]) -> Result {
    for (index, task) in tasks.iter().enumerate() {
        let listed = eventually("a final state", PATIENCE, || {
            let status = task.listed()?.map(|line| line[2].clone());
            let is_final = match status.as_deref() {
                None => true,
                Some("RUNNING") => !contained(task.id())?.is_empty(),
                Some("STOPPED") => contained(task.id())?.is_empty(),
                Some(_) => false,
            };
            Ok(is_final.then_some(status))
        })?;
        let untouched =
            matches!((victim, index), (Victim::Nobody, _) | (Victim::Linux, 1) | (Victim::Wasm, 0));
        if untouched && (!started[index] || listed.as_deref() != Some("RUNNING")) {
            return Err(format!("an untouched container is {listed:?}").into());
        }
    }
    Ok(())
}
