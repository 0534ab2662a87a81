//! Attach and port-forward.

use std::io::{Read, Write};
use std::net::TcpStream;

use libtest_mimic::Trial;
use serde_json::json;

use crate::client::{Pod, container, cri, with};
use crate::harness::{Result, trials};
use crate::images::{LINUX, WASM};

pub fn tests() -> Vec<Trial> {
    trials!["streams": attach_to_linux]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["streams": attach_to_wasm, attach_to_a_terminal, port_forward_to_wasm]
}

fn attach_to_linux() -> Result {
    attach(LINUX, &["sh", "-c", "while read line; do echo \"read $line\"; done"])
}

fn attach_to_wasm() -> Result {
    attach(WASM, &["/probe.wasm", "answer-lines"])?;
    attach(WASM, &["/component.wasm", "answer-lines"])
}

/// A container that reads lines gets them, and what it answers comes back. The lines end with
/// the client, and so does the container.
fn attach(image: &str, words: &[&str]) -> Result {
    let pod = Pod::run()?;
    let app = with(container(image, words), "stdin", json!(true));
    let app = pod.start(&with(app, "stdin_once", json!(true)))?;
    let mut attached = app.cmd("attach", &["-i"], &[])?.open_input().spawn()?;
    for text in ["first", "second"] {
        attached.write(format!("{text}\n").as_bytes())?;
        attached.wait_for(text)?;
    }
    app.wait_for_log("second")?;
    drop(attached);
    assert_eq!(app.exit_code()?, 0);
    pod.remove()
}

fn attach_to_a_terminal() -> Result {
    let pod = Pod::run()?;
    let app = container(WASM, &["/probe.wasm", "terminal"]);
    let app = with(with(app, "stdin", json!(true)), "tty", json!(true));
    let app = pod.start(&app)?;
    app.wait_for_log("terminal [true, true, true]")?;
    let mut attached = app.cmd("attach", &["-i", "-t"], &[])?.open_input().spawn()?;
    attached.write(b"typed\n")?;
    attached.wait_for("got:typed")?;
    assert_eq!(app.exit_code()?, 0);
    pod.remove()
}

/// The guest listens on the pod's loopback; the client reaches it through containerd.
fn port_forward_to_wasm() -> Result {
    let pod = Pod::run()?;
    let server = pod.start(&container(WASM, &["/component.wasm", "answer"]))?;
    let said = server.wait_for_log("port ")?.text();
    let port = said.trim_start_matches("port ").split(';').next().unwrap_or_default().to_owned();
    let mut forward = cri(["port-forward", &pod.id, &format!("0:{port}")])?.spawn()?;
    forward.wait_for(" -> ")?;
    let line = forward.stdout()?;
    let address = line.trim_start_matches("Forwarding from ").split(' ').next().unwrap_or_default();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"through the pod\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert_eq!(answer, "through the pod\n");
    assert_eq!(server.exit_code()?, 0);
    drop(forward);
    pod.remove()
}
