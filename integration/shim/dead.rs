//! Shims that die, are told to end, or fail to make a container: nothing of it is left.

use std::fs;
use std::path::Path;

use containerd_shim::protos::types::mount::Mount;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{sleepers, wasm};
use crate::harness::bundle::Bundle;
use crate::harness::guests::Guest;
use crate::harness::shim::{Shim, Stdio, delete_after_death, ok, refused};
use crate::harness::{Result, audit, procfs, trials};

pub fn tests() -> Vec<Trial> {
    trials!["shim": delete_cleans_up_after_a_killed_shim, delete_cleans_up_after_a_power_cut,
        sigterm_ends_the_shim_and_its_containers, sigterm_ends_what_is_not_running,
        a_socket_without_a_shim_is_replaced, a_failed_create_leaves_nothing,
        a_shim_killed_during_create_leaves_nothing]
}

/// The root file system mounted over itself, as a mount that containerd asks for.
fn mounted(bundle: &Bundle) -> Stdio {
    let mount = Mount {
        type_: "bind".into(),
        source: bundle.rootfs().to_string_lossy().into_owned(),
        options: vec!["rbind".into(), "rw".into()],
        ..Default::default()
    };
    Stdio { rootfs: vec![mount], ..Default::default() }
}

fn signal(pid: i32, signal: Signal) -> Result {
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// Only the bundle is left, without the file that says that there is something to clean up.
fn nothing_is_left(bundle: &Bundle, shim: &Shim) -> Result {
    audit::nothing_left_of(&bundle.id)?;
    assert!(!bundle.dir().join("options.json").exists());
    let socket = shim.address().trim_start_matches("unix://");
    assert!(!Path::new(socket).exists(), "{socket} is left");
    Ok(())
}

fn delete_cleans_up_after_a_killed_shim() -> Result {
    for bundle in sleepers()? {
        for started in [true, false] {
            let shim = Shim::start(&bundle)?;
            let pid = ok(shim.make(&bundle, &mounted(&bundle)))? as i32;
            if started {
                ok(shim.start_process(&bundle.id, ""))?;
                ok(shim.add_exec(&bundle.id, "e", &["/bin/sleep", "600"], &Stdio::default()))?;
                ok(shim.start_process(&bundle.id, "e"))?;
            }
            signal(shim.pid(), Signal::SIGKILL)?;
            shim.wait_for_end()?;
            assert!(procfs::is_living(pid), "the container died with its shim");
            assert_eq!(delete_after_death(&bundle)?, 137);
            nothing_is_left(&bundle, &shim)?;
            // Once more is no error.
            delete_after_death(&bundle)?;
        }
    }
    Ok(())
}

/// Processes, mounts and the runtime's state are gone; bundle and cgroup are not.
fn delete_cleans_up_after_a_power_cut() -> Result {
    for bundle in sleepers()? {
        let shim = Shim::start(&bundle)?;
        let pid = shim.run(&bundle, &Stdio::default())? as i32;
        signal(shim.pid(), Signal::SIGKILL)?;
        signal(pid, Signal::SIGKILL)?;
        shim.wait_for_end()?;
        let state = Path::new("/run/containerd/runwasm/it").join(&bundle.id);
        let lost = state.with_file_name(format!("{}-lost", bundle.id));
        fs::rename(&state, &lost)?;
        let said = delete_after_death(&bundle);
        fs::rename(&lost, &state)?;
        assert_eq!(said?, 137);
        // The cgroup, which would not be there either, goes with the state.
        fs::write(bundle.dir().join("options.json"), "{}")?;
        delete_after_death(&bundle)?;
        nothing_is_left(&bundle, &shim)?;
    }
    Ok(())
}

fn sigterm_ends_the_shim_and_its_containers() -> Result {
    let [linux, guest] = sleepers()?;
    let shim = Shim::start(&linux)?;
    shim.run(&linux, &mounted(&linux))?;
    crate::harness::shim::prepare(&guest)?;
    shim.run(&guest, &mounted(&guest))?;
    ok(shim.add_exec(&linux.id, "e", &["/bin/sleep", "600"], &Stdio::default()))?;
    ok(shim.start_process(&linux.id, "e"))?;
    signal(shim.pid(), Signal::SIGTERM)?;
    shim.wait_for_end()?;
    let exits = shim.topics().iter().filter(|topic| *topic == "/tasks/exit").count();
    assert_eq!(exits, 3, "{:?}", shim.topics());
    for bundle in [&linux, &guest] {
        nothing_is_left(bundle, &shim)?;
        // containerd comes all the same.
        assert_eq!(delete_after_death(bundle)?, 137);
    }
    Ok(())
}

fn sigterm_ends_what_is_not_running() -> Result {
    for state in ["created", "paused", "stopped"] {
        let bundle = wasm(&["sleep"])?;
        let shim = Shim::start(&bundle)?;
        ok(shim.make(&bundle, &mounted(&bundle)))?;
        let id = bundle.id.clone();
        if state != "created" {
            ok(shim.start_process(&id, ""))?;
        }
        match state {
            "paused" => drop(ok(
                shim.pause(containerd_shim::api::PauseRequest { id, ..Default::default() })
            )?),
            "stopped" => {
                ok(shim.signal(&id, "", 9))?;
                ok(shim.exit_code(&id, ""))?;
            }
            _ => {}
        }
        signal(shim.pid(), Signal::SIGTERM)?;
        shim.wait_for_end()?;
        nothing_is_left(&bundle, &shim)?;
    }
    // And one without any container.
    let bundle = wasm(&["sleep"])?;
    let shim = Shim::start(&bundle)?;
    signal(shim.pid(), Signal::SIGTERM)?;
    shim.wait_for_end()?;
    nothing_is_left(&bundle, &shim)
}

fn a_socket_without_a_shim_is_replaced() -> Result {
    let bundle = wasm(&["sleep"])?;
    let shim = Shim::start(&bundle)?;
    let address = shim.address().to_owned();
    signal(shim.pid(), Signal::SIGKILL)?;
    shim.wait_for_end()?;
    assert!(Path::new(address.trim_start_matches("unix://")).exists());
    let again = Shim::start(&bundle)?;
    assert_eq!(again.address(), address);
    again.run(&bundle, &Stdio::default())?;
    again.end(&bundle.id)?;
    again.finish()
}

/// Each way to fail: what is said, and that a good create follows on it.
fn a_failed_create_leaves_nothing() -> Result {
    let layers = Mount {
        type_: "overlay".into(),
        source: "overlay".into(),
        options: vec!["lowerdir=/nonexistent/1:/nonexistent/2".into()],
        ..Default::default()
    };
    let bad_mount = || Stdio { rootfs: vec![layers.clone()], ..Default::default() };
    let missing_driver = || Stdio::to("binary:///nonexistent/logger");
    let missing_fifo = || Stdio::to("/nonexistent/fifo");
    let failing: [(&str, Stdio, &str); 7] = [
        ("rootfs", bad_mount(), "image layer /nonexistent/1 is missing"),
        ("option", Stdio::options("SystemdCgruop = true"), "unknown field `SystemdCgruop`"),
        ("setting", Stdio::options("[guest]\nmemroy = 1"), "unknown field `memroy`"),
        ("runtime", Stdio::options("BinaryName = '/nonexistent/oci'"), "/nonexistent/oci"),
        ("driver", missing_driver(), "/nonexistent/logger"),
        ("fifo", missing_fifo(), "/nonexistent/fifo"),
        ("scheme", Stdio::to("http:///x"), "unknown scheme \"http\""),
    ];
    let bundle = wasm(&["exit", "4"])?;
    let shim = Shim::start(&bundle)?;
    for (name, stdio, expected) in failing {
        let refusal = refused(shim.make(&bundle, &stdio))?;
        assert!(refusal.message.contains(expected), "{name}: {refusal}");
        audit::nothing_left_but_the_shim_of(&bundle.id)?;
    }
    shim.run(&bundle, &mounted(&bundle))?;
    assert_eq!(ok(shim.exit_code(&bundle.id, ""))?, 4);
    ok(shim.remove(&bundle.id, ""))?;
    shim.finish()?;

    let mystery = Bundle::wasm(&Guest::Wat("mystery"), &["/mystery.wasm"])?;
    let missing = Bundle::linux(&["/nosuch"])?;
    let bad_bind = wasm(&["args"])?.bind(Path::new("/nonexistent/dir"), "/data", "ro");
    for (bundle, expected) in
        [(mystery, "/mystery.wasm"), (missing, "\"/nosuch\""), (bad_bind, "/nonexistent/dir")]
    {
        let shim = Shim::start(&bundle)?;
        let refusal = refused(shim.make(&bundle, &mounted(&bundle)))?;
        assert!(refusal.message.contains(expected), "{refusal}");
        assert!(!refusal.message.contains('\n'), "{refusal}");
        audit::nothing_left_but_the_shim_of(&bundle.id)?;
        shim.finish()?;
        assert!(!bundle.dir().join("options.json").exists());
    }
    Ok(())
}

/// Later and later, until it is too late.
fn a_shim_killed_during_create_leaves_nothing() -> Result {
    for step in 0..20 {
        let bundle =
            if step % 2 == 0 { wasm(&["sleep"])? } else { Bundle::linux(&["sleep", "9"])? };
        let shim = Shim::start(&bundle)?;
        let pid = shim.pid();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(2 * step));
            signal(pid, Signal::SIGKILL)
        });
        // The connection breaks, or the container is made before.
        let _ = shim.make(&bundle, &mounted(&bundle));
        killer.join().map_err(|_| "the killer panicked")??;
        shim.wait_for_end()?;
        delete_after_death(&bundle)?;
        nothing_is_left(&bundle, &shim)?;
    }
    Ok(())
}
