//! The example policy: a program that reads a request and answers it, by every engine.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::harness::command::Cmd;
use crate::harness::containerd::{Generation, RUNTIME};
use crate::harness::podman::Pod;
use crate::harness::{Result, audit, images, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["policy": by_runwasm, by_podman, by_containerd, settings_are_checked,
        nonsense_is_refused]
}

/// The request that the README shows: a pod with a privileged container.
fn request() -> Result<Value> {
    let file = suite::repository().join("examples/policy/request.json");
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

/// The same from a namespace where the settings allow it.
fn allowed() -> Result<Value> {
    let mut request = request()?;
    request["request"]["namespace"] = json!("kube-system");
    Ok(request)
}

/// Gives both requests to `validate`.
fn judges(mut run: impl FnMut() -> Result<Cmd>) -> Result {
    let mut verdict = |request: &Value| -> Result<Value> {
        let output = run()?.input(request.to_string()).run()?.success()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let message = "container \"shell\" is privileged";
    let rejected = json!({"accepted": false, "message": message, "code": 403});
    assert_eq!(verdict(&request()?)?, rejected);
    assert_eq!(verdict(&allowed()?)?, json!({"accepted": true}));
    Ok(())
}

fn by_runwasm() -> Result {
    let bundle = images::bundle("policy", "/policy.wasm")?.args(&["/policy.wasm", "validate"]);
    judges(|| bundle.make("run", &[]))?;
    audit::nothing_left_of(&bundle.id)
}

fn by_podman() -> Result {
    let image = images::load("policy")?;
    let mut pods = Vec::new();
    judges(|| {
        let pod = Pod::new()?;
        let run = pod.run_image(&image, &["--interactive"], &[])?;
        pods.push(pod);
        Ok(run)
    })?;
    pods.iter().try_for_each(Pod::remove)
}

fn by_containerd() -> Result {
    let server = Generation::V1_7.server()?;
    let image = server.import("policy")?;
    let id = suite::unique_id();
    judges(|| Ok(server.ctr(["run", "--rm", "--runtime", RUNTIME, &image, &id])))?;
    audit::nothing_left_of(&id)
}

fn settings_are_checked() -> Result {
    let bundle = || {
        let bundle = images::bundle("policy", "/policy.wasm")?;
        Ok::<_, libtest_mimic::Failed>(bundle.args(&["/policy.wasm", "validate-settings"]))
    };
    let good = bundle()?.run_with_input(r#"{"allowedNamespaces":["a"]}"#)?.success()?;
    assert_eq!(good.text(), "{\"valid\":true}\n");
    let bad = bundle()?.run_with_input(r#"{"allowed":["a"]}"#)?.success()?;
    assert!(bad.text().starts_with("{\"valid\":false,"), "{}", bad.text());
    Ok(())
}

fn nonsense_is_refused() -> Result {
    let bundle = images::bundle("policy", "/policy.wasm")?.args(&["/policy.wasm", "validate"]);
    bundle.run_with_input("nonsense")?.expect(1)?.refused("standard input").map(drop)
}
