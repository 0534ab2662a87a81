//! The program that Emscripten compiles, by every engine.

use libtest_mimic::Trial;

use crate::harness::command::Output;
use crate::harness::containerd::{Generation, RUNTIME};
use crate::harness::podman::Pod;
use crate::harness::{Result, audit, images, suite, trials};

const NAME: &str = "hello-emscripten";

pub fn tests() -> Vec<Trial> {
    trials!["hello_emscripten": by_runwasm, by_podman, by_containerd]
}

/// Its own name, the arguments, and the environment with `A=1` in it.
fn greets(output: &Output) {
    let lines = output.lines();
    let start = ["hello from Emscripten", "arg 0: /hello.wasm", "arg 1: one", "arg 2: two"];
    assert_eq!(lines[..4], start);
    assert!(lines[4..].contains(&"env: A=1".to_owned()), "{lines:?}");
    assert!(lines[4..].iter().all(|line| line.starts_with("env: ")), "{lines:?}");
}

fn by_runwasm() -> Result {
    let bundle = images::bundle(NAME, "/hello.wasm")?.args(&["/hello.wasm", "one", "two"]);
    greets(&bundle.env(&["A=1", "B=2"]).run()?.success()?);
    Ok(())
}

fn by_podman() -> Result {
    let pod = Pod::new()?;
    let run = pod.run_image(&images::load(NAME)?, &["--env", "A=1"], &["one", "two"])?;
    greets(&run.run()?.success()?);
    pod.remove()
}

fn by_containerd() -> Result {
    let server = Generation::V1_7.server()?;
    let image = server.import(NAME)?;
    let id = suite::unique_id();
    let flags = ["run", "--rm", "--runtime", RUNTIME, "--env", "A=1", &image, &id];
    let run = server.ctr(flags).args(["/hello.wasm", "one", "two"]);
    greets(&run.run()?.success()?);
    audit::nothing_left_of(&id)
}
