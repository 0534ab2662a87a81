//! create, state, start, kill, delete, pause, resume.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::{PATIENCE, Result, audit, eventually, procfs, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["cli": states_from_create_to_delete, nothing_runs_before_start, pid_file,
        pause_and_resume, kill_takes_names_and_numbers, kill_all_reaches_every_process,
        delete_force_of_a_running_container, delete_force_of_a_missing_container,
        delete_of_a_created_container, create_without_pivot,
        end_without_kill_is_seen, bundle_is_the_working_directory_by_default]
}

fn states_from_create_to_delete() -> Result {
    let container = Container::create(Bundle::sleeper()?.annotation("org.example.key", "value"))?;
    let state = container.state()?;
    assert_eq!(state["id"], container.id());
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], json!(container.bundle.dir()));
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")));
    assert!(procfs::is_living(container.pid()?));
    container.start()?;
    assert_eq!(container.state()?["status"], "running");
    assert_eq!(container.state()?["pid"], json!(container.pid()?));
    container.kill("KILL")?;
    assert_eq!(container.wait()?, 137);
    let state = container.state()?;
    assert_eq!(state["status"], "stopped");
    assert_eq!(state["pid"].as_i64().unwrap_or(0), 0);
    container.delete()?;
    container.cmd("state", &[]).run()?.refused("container does not exist")?;
    Ok(())
}

fn nothing_runs_before_start() -> Result {
    let container = Container::create(Bundle::sh("echo started; sleep 60")?)?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(container.stdout()?, "");
    container.start()?;
    container.wait_for("started")?;
    container.finish()
}

fn pid_file() -> Result {
    let file = suite::new_dir("pid")?.join("pid");
    let option = file.to_string_lossy();
    let container = Container::create_with(Bundle::sleeper()?, &["--pid-file", &option])?;
    assert_eq!(fs::read_to_string(&file)?, container.pid()?.to_string());
    container.start()?;
    container.finish()
}

fn pause_and_resume() -> Result {
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";
    let container = Container::start_new(Bundle::sh(script)?)?;
    container.wait_for("2")?;
    container.cmd("pause", &[]).run()?.success()?;
    assert_eq!(container.status()?, "paused");
    let before = container.stdout()?;
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(container.stdout()?, before, "a paused container wrote something");
    container.cmd("resume", &[]).run()?.success()?;
    assert_eq!(container.status()?, "running");
    eventually("output after resume", PATIENCE, || {
        Ok((container.stdout()?.len() > before.len()).then_some(()))
    })?;
    container.finish()
}

fn kill_takes_names_and_numbers() -> Result {
    for (signal, said) in [("SIGHUP", "hup"), ("USR1", "usr1"), ("12", "usr2")] {
        let script = "trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo usr2' USR2; \
            echo ready; while :; do sleep 0.05; done";
        let container = Container::start_new(Bundle::sh(script)?)?;
        container.wait_for("ready")?;
        container.kill(signal)?;
        container.wait_for(said)?;
        container.cmd("kill", &[]).arg("NOSUCHSIGNAL").run()?.refused("NOSUCHSIGNAL")?;
        // Without a name the signal is TERM, which the shell as first process ignores.
        container.cmd("kill", &[]).run()?.success()?;
        container.finish()?;
    }
    Ok(())
}

fn kill_all_reaches_every_process() -> Result {
    let bundle = Bundle::sh("sleep 98765 & echo ready; wait")?.without_namespace("pid");
    let container = Container::start_new(bundle)?;
    container.wait_for("ready")?;
    let pid = container.pid()?;
    let child = eventually("the child process", PATIENCE, || {
        let all = procfs::living()?;
        Ok(all.into_iter().find(|one| procfs::stat(*one).is_some_and(|(_, parent)| parent == pid)))
    })?;
    container.cmd("kill", &["--all"]).arg("KILL").run()?.success()?;
    assert_eq!(container.wait()?, 137);
    eventually("the end of the child", PATIENCE, || Ok((!procfs::is_living(child)).then_some(())))?;
    container.delete()
}

fn delete_force_of_a_running_container() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    container.cmd("delete", &["--force"]).run()?.success()?;
    assert_eq!(container.wait()?, 137);
    audit::is_empty(&container.bundle.state_root())?;
    audit::nothing_left_of(container.id())
}

fn delete_of_a_created_container() -> Result {
    let container = Container::create(Bundle::sleeper()?)?;
    container.delete()?;
    assert_eq!(container.wait()?, 137);
    Ok(())
}

fn create_without_pivot() -> Result {
    let bundle = Bundle::sh("echo here; ls /")?;
    let output = bundle.make("run", &["--no-pivot"])?.run()?.success()?;
    assert_eq!(output.lines(), ["here", "bin", "dev", "proc", "sys"]);
    audit::nothing_left_of(&bundle.id)
}

fn delete_force_of_a_missing_container() -> Result {
    let bundle = Bundle::sleeper()?;
    bundle.runtime("delete").args(["--force", &bundle.id]).run()?.success()?;
    bundle.runtime("delete").arg(&bundle.id).run()?.refused("container does not exist")?;
    Ok(())
}

fn end_without_kill_is_seen() -> Result {
    let container = Container::start_new(Bundle::sh("exit 3")?)?;
    eventually("the status stopped", PATIENCE, || {
        Ok((container.status()? == "stopped").then_some(()))
    })?;
    assert_eq!(container.wait()?, 3);
    container.delete()
}

fn bundle_is_the_working_directory_by_default() -> Result {
    let bundle = Bundle::sh("echo here")?;
    bundle.write()?;
    let output =
        bundle.runtime("run").arg(&bundle.id).current_dir(bundle.dir()).run()?.success()?;
    assert_eq!(output.text(), "here\n");
    Ok(())
}
