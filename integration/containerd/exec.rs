//! Processes exec'd into a container.

use std::sync::Arc;

use libtest_mimic::Trial;

use super::probe;
use crate::harness::bundle::{Bundle, install_busybox};
use crate::harness::containerd::{Generation, Server, trials_on};
use crate::harness::task::Task;
use crate::harness::{PATIENCE, Result, eventually, procfs};

pub fn tests(generation: Generation) -> Vec<Trial> {
    trials_on!(generation => exec_of_wasm_and_linux, exec_returns_exit_codes,
        exec_of_something_absent, exec_in_a_terminal, exec_ends_by_signals,
        exec_ends_with_its_container)
}

/// A wasm container that sleeps and has a shell, too.
fn sleeper(server: &Arc<Server>) -> Result<Task> {
    let bundle = probe()?;
    install_busybox(&bundle.rootfs())?;
    Task::start(server, bundle, &[], &["/probe.wasm", "sleep"])
}

fn exec_of_wasm_and_linux(server: &Arc<Server>) -> Result {
    let task = sleeper(server)?;
    for args in [["/probe.wasm", "echo"], ["/bin/cat", "-"]] {
        let exec = task.exec("echo", &[], &args).input("text").run()?.success()?;
        assert_eq!(exec.text(), "text", "{args:?}");
    }
    let exec = task.exec("guest", &[], &["/probe.wasm", "stderr", "oops"]).run()?.success()?;
    assert_eq!((exec.text().as_str(), exec.stderr.as_str()), ("", "oops"));
    let exec = task.exec("linux", &[], &["/bin/sh", "-c", "echo linux >&2"]).run()?.success()?;
    assert_eq!(exec.stderr, "linux\n");
    let linux = Task::start(server, Bundle::linux(&[])?, &[], &["/bin/sleep", "600"])?;
    let exec = linux.exec("cat", &[], &["/bin/cat"]).input("text").run()?.success()?;
    assert_eq!(exec.text(), "text");
    task.kill("SIGKILL")?;
    task.wait_for_status("STOPPED")?;
    assert_eq!(task.delete()?, 137);
    Ok(())
}

fn exec_returns_exit_codes(server: &Arc<Server>) -> Result {
    let task = sleeper(server)?;
    for code in ["0", "1", "42", "127", "255"] {
        let args = ["/probe.wasm", "exit", code];
        task.exec(&format!("wasm{code}"), &[], &args).run()?.expect(code.parse()?)?;
        let args = ["/bin/sh", "-c", &format!("exit {code}")];
        task.exec(&format!("linux{code}"), &[], &args).run()?.expect(code.parse()?)?;
    }
    Ok(())
}

/// In the words that people know from the kubelet and search for.
fn exec_of_something_absent(server: &Arc<Server>) -> Result {
    let wasm = sleeper(server)?;
    let linux = Task::start(server, Bundle::linux(&[])?, &[], &["/bin/sleep", "600"])?;
    for task in [wasm, linux] {
        let by_name = task.exec("name", &[], &["nosuch"]).run()?;
        by_name.refused("exec: \"nosuch\": executable file not found in $PATH")?;
        let by_path = task.exec("path", &[], &["/bin/nosuch"]).run()?;
        by_path.refused("exec: \"/bin/nosuch\": no such file or directory")?;
        let id = task.id();
        task.kill("SIGKILL")?;
        task.wait_for_status("STOPPED")?;
        task.exec("late", &[], &["/bin/true"]).run()?.refused("stopped")?;
        assert_eq!(task.delete()?, 137, "{id}");
    }
    Ok(())
}

fn exec_in_a_terminal(server: &Arc<Server>) -> Result {
    let task = sleeper(server)?;
    let linux = "if [ -t 0 -a -t 1 -a -t 2 ]; then echo terminal [true, true, true]; fi; \
                 read line; echo got:$line";
    for args in [vec!["/probe.wasm", "terminal"], vec!["/bin/sh", "-c", linux]] {
        let exec = task.exec("tty", &["--tty"], &args).in_terminal();
        let mut exec = exec.open_input().spawn()?;
        exec.wait_for("terminal [true, true, true]")?;
        exec.write(b"typed\n")?;
        exec.wait_for("got:typed")?;
        exec.wait()?.success()?;
    }
    Ok(())
}

/// `ctr` passes a signal on to the process it exec'd, and ends with its code.
fn exec_ends_by_signals(server: &Arc<Server>) -> Result {
    let task = sleeper(server)?;
    for args in [vec!["/probe.wasm", "sleep"], vec!["/bin/sh", "-c", "echo ready; exec sleep 600"]]
    {
        for (signal, code) in [("SIGTERM", 143), ("SIGKILL", 137)] {
            let mut exec = task.exec("sleeper", &[], &args).spawn()?;
            exec.wait_for("ready")?;
            task.task("kill", &["--exec-id", "sleeper", "--signal", signal]).run()?.success()?;
            exec.wait()?.expect(code)?;
        }
    }
    assert_eq!(task.listed()?.map(|line| line[2].clone()).as_deref(), Some("RUNNING"));
    Ok(())
}

fn exec_ends_with_its_container(server: &Arc<Server>) -> Result {
    let task = sleeper(server)?;
    let mut exec = task.exec("sleeper", &[], &["/probe.wasm", "sleep"]).spawn()?;
    exec.wait_for("ready")?;
    let pids = task.task("ps", &[]).run()?.success()?.lines();
    let line = pids.iter().find(|line| line.contains("sleeper"));
    let pid: i32 =
        line.and_then(|line| line.split_whitespace().next()).ok_or("not listed")?.parse()?;
    task.kill("SIGKILL")?;
    exec.wait()?.expect(137)?;
    eventually("the exec'd process's end", PATIENCE, || {
        Ok((!procfs::is_living(pid)).then_some(()))
    })?;
    assert_eq!(task.delete()?, 137);
    Ok(())
}
