//! The pod of a wasm server and a Linux sidecar: podman plays the file that Kubernetes reads.

use libtest_mimic::Trial;

use crate::harness::podman::podman;
use crate::harness::{PATIENCE, Result, audit, eventually, images, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["sidecar": the_pod_talks]
}

fn the_pod_talks() -> Result {
    for image in ["http-rust-0.2", "busybox"] {
        images::load(image)?;
    }
    let file = suite::repository().join("examples/sidecar/pod.yaml");
    // No network but the pod's own loopback: another would need a bridge and a firewall.
    let play = podman(&["kube", "play", "--network", "none"])?.arg(&file).run()?.success()?;
    let ids = play.lines().into_iter().filter(|line| line.len() == 64).collect::<Vec<_>>();
    ids.iter().for_each(|id| audit::watch(id));
    let talked = talks();
    podman(&["kube", "play", "--down"])?.arg(&file).run()?.success()?;
    talked?;
    assert_eq!(ids.len(), 3, "a pod and two containers");
    ids.iter().try_for_each(|id| audit::nothing_left_of(id))
}

/// The sidecar wrote a file, and what it got by HTTP is what the server read from that file.
fn talks() -> Result {
    let logs = |container: &str| podman(&["logs", container])?.run()?.success();
    eventually("the answer in the sidecar's log", PATIENCE, || {
        let lines = logs("sidecar-sidecar")?.lines();
        Ok(lines.contains(&"hello from the sidecar".to_owned()).then_some(()))
    })?;
    assert_eq!(logs("sidecar-app")?.text(), "serving /file?/shared/greeting\n");
    Ok(())
}
