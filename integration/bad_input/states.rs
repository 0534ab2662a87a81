//! Operations that a container's state, or their own arguments, do not allow.

use std::fs;

use libtest_mimic::Trial;

use super::well_told;
use crate::harness::bundle::Bundle;
use crate::harness::command::Cmd;
use crate::harness::container::Container;
use crate::harness::{PATIENCE, Result, cgroup, eventually, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["bad_input": start_of_a_running_container, start_of_a_stopped_container,
        kill_of_a_stopped_container, delete_of_a_running_container,
        exec_in_a_stopped_container, resume_of_a_running_container, exec_process_is_malformed,
        resources_are_malformed]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["bad_input": unknown_command_and_option, state_directory_is_damaged]
}

/// Runs a command that must fail and say `needle`, on standard error and in the log.
fn refused(container: &Container, cmd: Cmd, needle: &str) -> Result {
    fs::write(container.bundle.log_file(), "")?;
    let output = cmd.run()?.refused(needle)?;
    well_told(&output, &fs::read_to_string(container.bundle.log_file())?, needle)
}

fn stopped() -> Result<Container> {
    let container = Container::start_new(Bundle::sh("exit 0")?)?;
    eventually("the status stopped", PATIENCE, || {
        Ok((container.status()? == "stopped").then_some(()))
    })?;
    Ok(container)
}

fn start_of_a_running_container() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    refused(&container, container.cmd("start", &[]), "cannot start an already running container")?;
    assert_eq!(container.status()?, "running");
    container.finish()
}

fn start_of_a_stopped_container() -> Result {
    let container = stopped()?;
    refused(&container, container.cmd("start", &[]), "cannot start a container that has stopped")?;
    container.delete()
}

fn kill_of_a_stopped_container() -> Result {
    let container = stopped()?;
    refused(&container, container.cmd("kill", &[]).arg("TERM"), "container not running")?;
    container.delete()
}

fn delete_of_a_running_container() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    refused(&container, container.cmd("delete", &[]), "that is not stopped: running")?;
    assert_eq!(container.status()?, "running");
    container.finish()
}

fn exec_in_a_stopped_container() -> Result {
    let container = stopped()?;
    let exec = container.exec(&["true"]);
    refused(&container, exec, "cannot exec in a stopped container")?;
    container.delete()
}

fn resume_of_a_running_container() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    refused(&container, container.cmd("resume", &[]), "not paused")?;
    container.finish()
}

fn exec_process_is_malformed() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    let file = suite::new_dir("process")?.join("process.json");
    let path = file.to_string_lossy().into_owned();
    let missing = container.cmd("exec", &["--process", "/no/such/process.json"]);
    refused(&container, missing, "/no/such/process.json")?;
    let texts =
        ["", "{", "[]", "{\"args\": [], \"cwd\": \"/\"}", "{\"args\": [\"true\"], \"cwd\": \"a\"}"];
    for text in texts {
        fs::write(&file, text)?;
        refused(&container, container.cmd("exec", &["--process", &path]), "")?;
    }
    assert_eq!(container.status()?, "running");
    container.finish()
}

fn resources_are_malformed() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    for text in ["", "{", "{\"pids\": {\"limit\": \"many\"}}"] {
        let update = container.cmd("update", &["--resources", "-"]).input(text);
        refused(&container, update, "")?;
    }
    let update = container.cmd("update", &["--resources", "/no/such/file"]);
    refused(&container, update, "/no/such/file")?;
    container.finish()
}

fn unknown_command_and_option() -> Result {
    let bundle = Bundle::sleeper()?;
    bundle.runtime("nosuch").run()?.refused("nosuch")?;
    bundle.runtime("create").args(["--nosuch", &bundle.id]).run()?.refused("--nosuch")?;
    bundle.runtime("state").run()?.refused("")?;
    Ok(())
}

fn state_directory_is_damaged() -> Result {
    let container = Container::start_new(Bundle::sleeper()?)?;
    let pid = container.pid()?;
    let dir = container.bundle.state_root().join(container.id());
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            fs::write(path, "{\"id\":")?;
        }
    }
    let state = container.cmd("state", &[]);
    refused(&container, state, container.id())?;
    // The list still tells of the others, and the directory can be cleared away.
    container.bundle.runtime("list").run()?.success()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    container.wait()?;
    container.cmd("delete", &["--force"]).run()?.success()?;
    assert!(!dir.exists());
    // Where the cgroups are stood in the file that was damaged.
    for cgroup in cgroup::directories_named(container.id()) {
        fs::remove_dir(cgroup)?;
    }
    Ok(())
}
