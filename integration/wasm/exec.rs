//! exec in a wasm container: more guests, and Linux programs if the image has any.

use std::fs;

use libtest_mimic::Trial;

use super::PROBES;
use crate::harness::bundle::{Bundle, install_busybox};
use crate::harness::container::Container;
use crate::harness::guests::PROBE;
use crate::harness::{PATIENCE, Result, eventually, orphans, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["wasm": exec_of_a_guest, exec_of_a_guest_with_options, exec_detached_and_killed,
        exec_of_a_linux_program_in_a_wasm_container]
}

fn sleeping() -> Result<Container> {
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?.directory("/app")?;
    let container = Container::start_new(bundle.env(&["PATH=/", "FROM=config"]))?;
    container.wait_for("ready")?;
    Ok(container)
}

fn exec_of_a_guest() -> Result {
    for probe in PROBES {
        let bundle = Bundle::wasm(&probe, &["/probe.wasm", "sleep"])?;
        let container = Container::start_new(bundle)?;
        container.wait_for("ready")?;
        let output = container.exec(&["/probe.wasm", "echo"]).input("text").run()?.success()?;
        assert_eq!(output.text(), "text", "{probe:?}");
        container.exec(&["/probe.wasm", "exit", "1"]).run()?.expect(1)?;
        container.exec(&["/probe.wasm", "panic"]).run()?.expect(134)?;
        container.exec(&["/nosuch.wasm"]).run()?.refused("nosuch.wasm")?;
        assert_eq!(container.status()?, "running");
        container.finish()?;
    }
    Ok(())
}

fn exec_of_a_guest_with_options() -> Result {
    let container = sleeping()?;
    let exec = container.exec_with(&["--env", "MORE=1"], &["probe.wasm", "env"]);
    let mut lines = exec.env("HOST_VARIABLE", "leak").run()?.success()?.lines();
    lines.sort();
    assert_eq!(lines, ["FROM=config", "MORE=1", "PATH=/"]);
    let exec = container.exec_with(&["--cwd", "/app"], &["/probe.wasm", "env"]);
    assert!(exec.run()?.success()?.lines().contains(&"PWD=/app".to_owned()));
    for code in [126, 127, 200, 255] {
        container.exec(&["/probe.wasm", "exit", &code.to_string()]).run()?.expect(code)?;
    }
    container.finish()
}

fn exec_detached_and_killed() -> Result {
    let container = sleeping()?;
    let file = suite::new_dir("pid")?.join("pid");
    let options = ["--detach", "--pid-file", &file.to_string_lossy()];
    container.exec_with(&options, &["/probe.wasm", "spin"]).run()?.success()?;
    let pid: i32 = fs::read_to_string(&file)?.parse()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    assert_eq!(eventually("the exec's end", PATIENCE, || orphans::exit_code(pid))?, 143);
    container.finish()
}

fn exec_of_a_linux_program_in_a_wasm_container() -> Result {
    let bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "sleep"])?.env(&["PATH=/bin"]);
    install_busybox(&bundle.rootfs())?;
    let container = Container::start_new(bundle)?;
    container.wait_for("ready")?;
    let output = container.exec(&["sh", "-c", "echo linux; exit 3"]).run()?.expect(3)?;
    assert_eq!(output.text(), "linux\n");
    container.finish()
}
