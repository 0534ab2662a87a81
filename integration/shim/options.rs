//! Runtime options and the configuration file, and which of them is stronger.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use containerd_shim::api::Options;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use libtest_mimic::Trial;

use super::wasm;
use crate::harness::bundle::Bundle;
use crate::harness::command::Cmd;
use crate::harness::guests::PROBE;
use crate::harness::shim::{Shim, Stdio, action, ok, prepare};
use crate::harness::{PATIENCE, Result, cgroup, eventually, suite, trials};

pub fn tests() -> Vec<Trial> {
    trials!["shim": the_stronger_option_wins, options_choose_the_runtime_and_its_root,
        fifos_get_an_owner, the_shim_gets_a_cgroup]
}

/// How many MiB a guest gets with these options and this annotation.
fn granted(options: &str, annotation: Option<&str>) -> Result<u32> {
    let mut bundle = Bundle::wasm(&PROBE, &["/probe.wasm", "grow"])?;
    if let Some(memory) = annotation {
        bundle = bundle.annotation("runwasm.guest.memory", memory);
    }
    let output = bundle.dir().join("output");
    let stdio = Stdio { stdout: format!("file://{}", output.display()), ..Stdio::options(options) };
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &stdio)?;
    assert_eq!(ok(shim.exit_code(&bundle.id, ""))?, 0);
    ok(shim.remove(&bundle.id, ""))?;
    shim.finish()?;
    let text = fs::read_to_string(output)?;
    let taken = text.strip_prefix("refused after ").and_then(|rest| rest.split(' ').next());
    Ok(taken.ok_or_else(|| format!("{text:?}"))?.parse()?)
}

fn the_stronger_option_wins() -> Result {
    let file = suite::new_dir("config")?.join("config.toml");
    let config = "[guest]\nmemory = \"64MiB\"\n[shim]\nRoot = \"/run/containerd/runwasm\"\n";
    fs::write(&file, config)?;
    let file = format!("ConfigFile = {:?}\n", file.display().to_string());
    let with_option = file.clone() + "[guest]\nmemory = \"32MiB\"\n";
    let from_file = granted(&file, None)?;
    assert!((40..64).contains(&from_file), "{from_file}");
    let option = granted(&with_option, None)?;
    assert!((16..32).contains(&option), "{option}");
    let annotation = granted(&with_option, Some("16MiB"))?;
    assert!((4..16).contains(&annotation), "{annotation}");
    Ok(())
}

/// runc's own message, which names another runtime and a root for its state.
fn options_choose_the_runtime_and_its_root() -> Result {
    let root = suite::new_dir("root")?;
    let bundle = Bundle::linux(&["sleep", "600"])?;
    let options = Options {
        binary_name: "runc".into(),
        root: root.to_string_lossy().into_owned(),
        ..Default::default()
    };
    let value = options.write_to_bytes()?;
    let type_url = "containerd.runc.v1.Options".into();
    let options = Some(Any { type_url, value, ..Default::default() });
    let shim = Shim::start(&bundle)?;
    let pid = shim.run(&bundle, &Stdio { options, ..Default::default() })?;
    let state = root.join("it").join(&bundle.id).join("state.json");
    assert!(state.is_file(), "{} is missing", state.display());
    // Our runtime's state has another form.
    assert!(fs::read_to_string(state)?.contains("\"init_process_pid\""));
    eventually("the program in runc's process", PATIENCE, || {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
        Ok((name.trim() == "sleep").then_some(()))
    })?;
    shim.end(&bundle.id)?;
    shim.finish()
}

fn fifos_get_an_owner() -> Result {
    let bundle = wasm(&["sleep"])?;
    let fifo = bundle.dir().join("out");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let stdio = Stdio {
        stdout: fifo.to_string_lossy().into_owned(),
        ..Stdio::options("IoUid = 1234\nIoGid = 4321\n")
    };
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &stdio)?;
    let owner = fs::metadata(&fifo)?;
    assert_eq!((owner.uid(), owner.gid()), (1234, 4321));
    shim.end(&bundle.id)?;
    shim.finish()
}

/// At its start, from the options on standard input. The cgroup exists before.
fn the_shim_gets_a_cgroup() -> Result {
    let bundle = wasm(&["sleep"])?;
    prepare(&bundle)?;
    let name = format!("{}-shim", bundle.id);
    cgroup::make_everywhere(&name)?;
    let options = Options { shim_cgroup: format!("/{name}"), ..Default::default() };
    let type_url = "containerd.runc.v1.Options".into();
    let value = options.write_to_bytes()?;
    let options = Any { type_url, value, ..Default::default() }.write_to_bytes()?;
    let ask = |cmd: Cmd| cmd.input(options);
    let shim = Shim::start_as(&bundle, ask, |output| Ok(output.text()))?;
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", shim.pid()))?;
    assert!(cgroups.contains(&name), "{cgroups}");
    ok(shim.shutdown(Default::default()))?;
    shim.wait_for_end()?;
    cgroup::remove_everywhere(&name)?;
    shim_options_are_read_at_start(&bundle)
}

fn shim_options_are_read_at_start(bundle: &Bundle) -> Result {
    let file = Path::new("/nonexistent/options.toml");
    let mut stdio = Stdio::options(&format!("ConfigFile = {:?}", file.display().to_string()));
    let options = stdio.options.take().ok_or("no options")?.write_to_bytes()?;
    let start = action(bundle, "start").env("TTRPC_ADDRESS", "/nonexistent").input(options);
    start.run()?.refused("/nonexistent/options.toml")?;
    Ok(())
}
