//! Terminals.

use libtest_mimic::Trial;

use crate::harness::bundle::Bundle;
use crate::harness::console::ConsoleSocket;
use crate::harness::container::Container;
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["cli": create_with_console_socket, console_needs_a_socket_when_detached,
        run_in_a_terminal]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["cli": paste_into_a_terminal]
}

const SCRIPT: &str = "test -t 0 -a -t 1 -a -t 2 && echo terminal; ls -l /dev/console; \
    read line; echo got:$line; stty size; exit 4";

fn create_with_console_socket() -> Result {
    let socket = ConsoleSocket::new()?;
    let bundle = Bundle::sh(SCRIPT)?.terminal().edit(|config| {
        config["process"]["consoleSize"] = serde_json::json!({"height": 40, "width": 100});
    });
    let path = socket.path().to_string_lossy().into_owned();
    let container = Container::create_with(bundle, &["--console-socket", &path])?;
    let mut terminal = socket.receive()?;
    container.start()?;
    terminal.wait_for("terminal")?;
    terminal.wait_for("/dev/console")?;
    terminal.write("hello\n")?;
    terminal.wait_for("got:hello")?;
    terminal.wait_for("40 100")?;
    assert_eq!(container.wait()?, 4);
    container.delete()
}

fn console_needs_a_socket_when_detached() -> Result {
    Bundle::sh(SCRIPT)?.terminal().create_fails()?.refused("console")?;
    Ok(())
}

fn run_in_a_terminal() -> Result {
    let bundle = Bundle::sh("test -t 0 -a -t 1 -a -t 2 && echo terminal; exit 4")?.terminal();
    let output = bundle.make("run", &[])?.in_terminal().run()?;
    assert!(output.text().contains("terminal"), "{output:?}");
    output.expect(4)?;
    Ok(())
}

/// More than the terminal holds, for a program that talks before it reads. runc waits for ever.
fn paste_into_a_terminal() -> Result {
    const BYTES: usize = 300_000;
    let script = format!(
        "stty raw -echo; touch /ready; \
        head -c {BYTES} /dev/zero; head -c {BYTES} >/dev/null"
    );
    let bundle = Bundle::sh(&script)?.terminal().writable();
    let typist = format!(
        "{{ until [ -e {}/ready ]; do sleep 0.05; done; head -c {BYTES} /dev/zero; }} | \"$@\"",
        bundle.rootfs().display()
    );
    let run = bundle.make("run", &[])?.wrapped("sh", &["-c", &typist, "sh"]);
    assert_eq!(run.run()?.success()?.stdout.len(), BYTES);
    Ok(())
}
