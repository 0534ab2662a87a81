//! docs/kubernetes.md shows what is tested, and its example pod runs.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use crate::client::{Container, RUNNING, cri};
use crate::harness::{PATIENCE, Result, audit, cgroup, eventually, suite, trials};
use crate::images::{LINUX, WASM};
use crate::server::{self, Presence, ctr};

pub fn tests() -> Vec<Trial> {
    trials!["docs": snippets_are_the_files, unknown_handler]
}

pub fn our_tests() -> Vec<Trial> {
    trials!["docs": example_pod_runs]
}

/// Each snippet that follows the name of a file is that file.
fn snippets_are_the_files() -> Result {
    let text = fs::read_to_string(suite::repository().join("docs/kubernetes.md"))?;
    let mut shown = Vec::new();
    for part in text.split("<!-- ").skip(1) {
        let (file, rest) = part.split_once(" -->\n").ok_or("a comment without an end")?;
        let indent = rest.len() - rest.trim_start().len();
        let lines = rest.lines().map(|line| line.get(indent..).unwrap_or_default());
        let block = lines.skip(1).take_while(|line| !line.starts_with("```"));
        let block = block.map(|line| format!("{line}\n")).collect::<String>();
        assert_eq!(block, fs::read_to_string(suite::repository().join(file))?, "{file}");
        shown.push(file);
    }
    assert_eq!(shown.len(), 4, "{shown:?}");
    Ok(())
}

/// The message that the table of troubles starts with.
fn unknown_handler() -> Result {
    let _presence = Presence::with_others();
    let file = suite::new_dir("unknown")?.join("pod.json");
    let name = suite::unique_id();
    let metadata = json!({"name": name, "namespace": "default", "uid": name});
    fs::write(&file, serde_json::to_vec(&json!({"metadata": metadata}))?)?;
    let run = cri(["runp", "--runtime", "wasn"])?.arg(file).run()?;
    run.refused("no runtime for \"wasn\" is configured").map(drop)
}

fn example_pod_runs() -> Result {
    let _presence = Presence::with_others();
    let socket = server::socket()?;
    for (from, to) in [(WASM, "registry.example/app:1"), (LINUX, "registry.example/sidecar:1")] {
        ctr(&socket).args(["image", "tag", "--force", from, to]).run()?.success()?;
    }
    let name = suite::unique_id();
    let dir = suite::new_dir("example")?;
    let files = suite::repository().join("hack/kubernetes");
    let play = cri(["play", "--cgroup-parent", &format!("/{name}")])?;
    let play = play.arg(files.join("runtimeclass.yaml")).arg(files.join("pod.yaml")).arg(&dir);
    let ids = play.run()?.success()?.lines();
    ids.iter().for_each(|id| audit::watch(id));
    let looked_at = look_at(&ids);
    for command in ["stopp", "rmp"] {
        cri([command, ids[0].as_str()])?.run()?.success()?;
    }
    looked_at?;
    for directory in cgroup::directories_named(&name) {
        eventually("the pod's cgroup to be empty", PATIENCE, || {
            Ok(fs::remove_dir(&directory).is_ok().then_some(()))
        })?;
    }
    audit::nothing_left_of(&ids[0])
}

/// What the kubelet and its users would do with the example: see both containers run, probe the
/// application, read the sidecar's log.
fn look_at(ids: &[String]) -> Result {
    let [_, app, sidecar] = ids else { return Err("not two containers".into()) };
    let (app, sidecar) = (Container { id: app.clone() }, Container { id: sidecar.clone() });
    app.wait_for(RUNNING)?;
    app.exec_sync(&["/app.wasm", "healthy"])?.success()?;
    sidecar.wait_for_log("started")?;
    app.exec_sync(&["/app.wasm", "cat", "/shared/log"])?.success()?;
    let environment = app.exec_sync(&["/app.wasm", "env"])?.success()?.text();
    assert!(environment.contains("GREETING=hello"), "{environment}");
    Ok(())
}
