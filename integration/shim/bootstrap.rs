//! What containerd runs the shim's binary for, in all the forms of its generations.

use containerd_shim::bootstrap::{BootstrapParams, BootstrapResult};
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::types::introspection::RuntimeInfo;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::harness::bundle::Bundle;
use crate::harness::command::Cmd;
use crate::harness::containerd::RUNTIME;
use crate::harness::shim::{Shim, Stdio, action, ok, prepare, program};
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["shim": version, info_has_features, info_names_what_is_wrong, bootstrap_by_flags,
        bootstrap_answers_in_json, bootstrap_by_message, start_names_what_is_wrong,
        one_shim_serves_a_pod]
}

fn version() -> Result {
    let output = Cmd::new(program()?).arg("-v").run()?.success()?;
    assert!(output.text().contains("containerd-shim-wasm-v1"), "{output:?}");
    assert!(output.text().contains(env!("CARGO_PKG_VERSION")), "{output:?}");
    Ok(())
}

fn info_has_features() -> Result {
    let output = Cmd::new(program()?).arg("-info").run()?.success()?;
    let info = RuntimeInfo::parse_from_bytes(&output.stdout)?;
    assert_eq!(info.name, RUNTIME);
    assert_eq!(info.version.version, env!("CARGO_PKG_VERSION"));
    assert!(info.features.type_url.ends_with("features/Features"), "{}", info.features.type_url);
    let features: Value = serde_json::from_slice(&info.features.value)?;
    assert!(features["ociVersionMax"].is_string(), "{features}");
    let namespaces = features["linux"]["namespaces"].as_array().ok_or("no namespaces")?;
    assert!(namespaces.contains(&"pid".into()), "{namespaces:?}");
    Ok(())
}

fn info_names_what_is_wrong() -> Result {
    let options = Any { type_url: "a.b.Options".into(), ..Default::default() };
    let info = || Ok::<_, libtest_mimic::Failed>(Cmd::new(program()?).arg("-info"));
    info()?.input(options.write_to_bytes()?).run()?.refused("a.b.Options")?;
    info()?.input("nonsense").run()?.refused("standard input")?;
    Ok(())
}

/// containerd 1.6 and 1.7: a bare address is the answer.
fn bootstrap_by_flags() -> Result {
    let bundle = Bundle::linux(&["true"])?;
    let shim = Shim::start_as(
        &bundle,
        |cmd| cmd,
        |output| {
            assert!(output.text().starts_with("unix:///run/containerd/s/"), "{output:?}");
            Ok(output.text())
        },
    )?;
    lives(&shim, &bundle)?;
    shim.finish()
}

/// containerd 2.0 to 2.2.
fn bootstrap_answers_in_json() -> Result {
    let bundle = Bundle::linux(&["true"])?;
    let shim = Shim::start_as(
        &bundle,
        |cmd| cmd.env("MAX_SHIM_VERSION", "3"),
        |output| {
            let answer: Value = serde_json::from_slice(&output.stdout)?;
            assert_eq!((&answer["version"], &answer["protocol"]), (&3.into(), &"ttrpc".into()));
            Ok(answer["address"].as_str().ok_or("no address")?.to_owned())
        },
    )?;
    lives(&shim, &bundle)?;
    shim.finish()
}

/// containerd 2.3 and later: parameters and answer are messages.
fn bootstrap_by_message() -> Result {
    let bundle = Bundle::linux(&["true"])?;
    let ask = |cmd: Cmd| {
        let address = cmd.variable("TTRPC_ADDRESS").unwrap_or_default();
        let params = BootstrapParams {
            instance_id: bundle.id.clone(),
            namespace: "it".into(),
            containerd_ttrpc_address: address,
            containerd_grpc_address: "/nonexistent".into(),
            ..Default::default()
        };
        cmd.env("TTRPC_ADDRESS", "").input(params.write_to_bytes().unwrap_or_default())
    };
    let shim = Shim::start_as(&bundle, ask, |output| {
        let answer = BootstrapResult::parse_from_bytes(&output.stdout)?;
        assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
        Ok(answer.address)
    })?;
    lives(&shim, &bundle)?;
    shim.finish()
}

/// The shim serves, and its events arrive.
fn lives(shim: &Shim, bundle: &Bundle) -> Result {
    shim.run(bundle, &Stdio::default())?;
    assert_eq!(ok(shim.exit_code(&bundle.id, ""))?, 0);
    shim.wait_for_event("/tasks/exit")?;
    ok(shim.remove(&bundle.id, ""))?;
    shim.wait_for_event("/tasks/delete")
}

fn start_names_what_is_wrong() -> Result {
    let bundle = Bundle::linux(&["true"])?;
    prepare(&bundle)?;
    action(&bundle, "start").env("TTRPC_ADDRESS", "").run()?.refused("TTRPC_ADDRESS")?;
    let start = || action(&bundle, "start").env("TTRPC_ADDRESS", "/nonexistent");
    start().input("nonsense").run()?.refused("standard input")?;
    action(&bundle, "dance").run()?.refused("\"dance\"")?;
    Cmd::new(program()?).args(["-namespace", "it", "-id", "a/b", "start"]).run()?.refused("a/b")?;
    std::fs::write(bundle.dir().join("config.json"), "{")?;
    start().run()?.refused("config.json is malformed")?;
    Ok(())
}

/// By the pod's annotation, which is stronger than the group's.
fn one_shim_serves_a_pod() -> Result {
    let pod = |bundle: Bundle, group: &str| {
        let sandbox = format!("{}-pod", bundle.id);
        let bundle = bundle.annotation("io.containerd.runc.v2.group", group);
        (sandbox, bundle)
    };
    let (sandbox, first) = pod(Bundle::linux(&["sleep", "600"])?, "a");
    let (_, second) = pod(super::wasm(&["sleep"])?, "b");
    let [first, second] =
        [first, second].map(|bundle| bundle.annotation("io.kubernetes.cri.sandbox-id", &sandbox));
    let shim = Shim::start(&first)?;
    shim.run(&first, &Stdio::default())?;
    prepare(&second)?;
    let joined = action(&second, "start").env("TTRPC_ADDRESS", shim.events_address());
    assert_eq!(joined.run()?.success()?.text(), shim.address());
    shim.run(&second, &Stdio::default())?;
    shim.end(&first.id)?;
    // The first container's end is not the shim's.
    ok(shim.shutdown(Default::default()))?;
    ok(shim.signal(&second.id, "", 15))?;
    assert_eq!(ok(shim.exit_code(&second.id, ""))?, 143);
    ok(shim.remove(&second.id, ""))?;
    shim.finish()
}
