//! Every call of the task service, for a container and for a process exec'd into it.

use containerd_shim::api::*;
use containerd_shim::protos::ttrpc::Code;
use libtest_mimic::Trial;

use super::{sleepers, wasm};
use crate::harness::bundle::Bundle;
use crate::harness::shim::{Refusal, Shim, Stdio, ok, refused};
use crate::harness::{PATIENCE, Result, eventually, procfs, trials};

pub fn tests() -> Vec<Trial> {
    trials!["shim": events_come_in_order, state_and_pids_tell_of_all_processes,
        kill_of_a_created_container, kill_of_all_processes, signals_of_all_kinds,
        what_is_not_supported_is_said, refusals_have_reasons]
}

fn events_come_in_order() -> Result {
    for bundle in sleepers()? {
        let shim = Shim::start(&bundle)?;
        let id = bundle.id.clone();
        shim.run(&bundle, &Stdio::default())?;
        ok(shim.add_exec(&id, "e", &["/bin/sh", "-c", "exit 3"], &Stdio::default()))?;
        ok(shim.start_process(&id, "e"))?;
        assert_eq!(ok(shim.exit_code(&id, "e"))?, 3);
        assert_eq!(ok(shim.remove(&id, "e"))?.exit_status, 3);
        ok(shim.pause(PauseRequest { id: id.clone(), ..Default::default() }))?;
        ok(shim.resume(ResumeRequest { id: id.clone(), ..Default::default() }))?;
        shim.end(&id)?;
        shim.wait_for_event("/tasks/delete")?;
        let expected = [
            "create",
            "start",
            "exec-added",
            "exec-started",
            "exit",
            "paused",
            "resumed",
            "exit",
            "delete",
        ];
        assert_eq!(shim.topics(), expected.map(|topic| format!("/tasks/{topic}")));
        shim.finish()?;
    }
    Ok(())
}

fn state_and_pids_tell_of_all_processes() -> Result {
    for bundle in sleepers()? {
        let shim = Shim::start(&bundle)?;
        let id = bundle.id.clone();
        let pid = ok(shim.make(&bundle, &Stdio::default()))?;
        let state = |exec_id: &str| {
            let (id, exec_id) = (id.clone(), exec_id.to_owned());
            ok(shim.state(StateRequest { id, exec_id, ..Default::default() }))
        };
        let created = state("")?;
        assert_eq!((created.pid, created.status.enum_value()), (pid, Ok(Status::CREATED)));
        assert_eq!(created.bundle, bundle.dir().to_string_lossy());
        assert_eq!(ok(shim.start_process(&id, ""))?.pid, pid);
        ok(shim.add_exec(&id, "e", &["/bin/sleep", "600"], &Stdio::default()))?;
        let exec_pid = ok(shim.start_process(&id, "e"))?.pid;
        let exec = state("e")?;
        assert_eq!((exec.pid, exec.exec_id.as_str()), (exec_pid, "e"));
        let pids = ok(shim.pids(PidsRequest { id: id.clone(), ..Default::default() }))?.processes;
        let named = |pid| pids.iter().find(|process| process.pid == pid);
        assert!(named(pid).is_some_and(|process| process.info.is_none()), "{pids:?}");
        let details = named(exec_pid).and_then(|process| process.info.as_ref());
        assert!(details.is_some_and(|info| info.value.ends_with(b"e")), "{pids:?}");
        let connected =
            ok(shim.connect_call(ConnectRequest { id: id.clone(), ..Default::default() }))?;
        assert_eq!((connected.shim_pid, connected.task_pid), (shim.pid() as u32, pid));
        assert_eq!(procfs::stat(pid as i32).map(|(_, parent)| parent), Some(shim.pid()));
        shim.end(&id)?;
        shim.finish()?;
    }
    Ok(())
}

fn kill_of_a_created_container() -> Result {
    for bundle in sleepers()? {
        let shim = Shim::start(&bundle)?;
        ok(shim.make(&bundle, &Stdio::default()))?;
        ok(shim.signal(&bundle.id, "", 9))?;
        assert_eq!(ok(shim.exit_code(&bundle.id, ""))?, 137);
        ok(shim.remove(&bundle.id, ""))?;
        // Again, and without a kill before.
        ok(shim.make(&bundle, &Stdio::default()))?;
        assert_eq!(ok(shim.remove(&bundle.id, ""))?.exit_status, 137);
        assert_eq!(refused(shim.remove(&bundle.id, ""))?.code, Code::NOT_FOUND);
        shim.finish()?;
    }
    Ok(())
}

/// In the host's process namespace nothing ends a child with its parent.
fn kill_of_all_processes() -> Result {
    for all in [true, false] {
        let script = "sleep 600 & sleep 600 & echo $! >/child; wait";
        let bundle = Bundle::sh(script)?.without_namespace("pid").writable();
        let shim = Shim::start(&bundle)?;
        shim.run(&bundle, &Stdio::default())?;
        let file = bundle.rootfs().join("child");
        let child: i32 = eventually("the child's pid", PATIENCE, || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            Ok(text.trim().parse().ok())
        })?;
        let id = bundle.id.clone();
        ok(shim.kill(KillRequest { id: id.clone(), signal: 9, all, ..Default::default() }))?;
        assert_eq!(ok(shim.exit_code(&id, ""))?, 137);
        // Without `all`, the shim ends the rest when the first process has ended.
        eventually(&format!("the child's end, all: {all}"), PATIENCE, || {
            Ok((!procfs::is_living(child)).then_some(()))
        })?;
        ok(shim.remove(&id, ""))?;
        shim.finish()?;
    }
    Ok(())
}

fn signals_of_all_kinds() -> Result {
    let bundle = wasm(&["sleep"])?;
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio::default())?;
    let id = &bundle.id;
    for (signal, code) in [(15, 143), (9, 137), (34, 162), (64, 192)] {
        let exec_id = format!("e{signal}");
        ok(shim.add_exec(id, &exec_id, &["/bin/sleep", "600"], &Stdio::default()))?;
        ok(shim.start_process(id, &exec_id))?;
        ok(shim.signal(id, &exec_id, signal))?;
        assert_eq!(ok(shim.exit_code(id, &exec_id))?, code);
    }
    ok(shim.add_exec(id, "e", &["/bin/sleep", "600"], &Stdio::default()))?;
    ok(shim.start_process(id, "e"))?;
    for signal in [65, 4000] {
        assert_eq!(refused(shim.signal(id, "e", signal))?.code, Code::INVALID_ARGUMENT);
    }
    // A guest ends by SIGTERM with 143; one that has handlers is Linux's business.
    ok(shim.signal(id, "", 15))?;
    assert_eq!(ok(shim.exit_code(id, ""))?, 143);
    ok(shim.remove(id, ""))?;
    shim.finish()
}

fn what_is_not_supported_is_said() -> Result {
    let bundle = wasm(&["sleep"])?;
    let shim = Shim::start(&bundle)?;
    shim.run(&bundle, &Stdio::default())?;
    let id = bundle.id.clone();
    let answer = shim.checkpoint(CheckpointTaskRequest { id, ..Default::default() });
    let refusal = refused(answer)?;
    assert_eq!(refusal.code, Code::UNIMPLEMENTED);
    assert_eq!(refusal.message, "checkpoint is not supported: not implemented");
    shim.end(&bundle.id)?;
    let request = CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.dir().to_string_lossy().into_owned(),
        checkpoint: "/some".into(),
        ..Default::default()
    };
    let refusal = refused(shim.create(request))?;
    assert_eq!(refusal.code, Code::UNIMPLEMENTED);
    assert!(refusal.message.contains("restore from a checkpoint"), "{refusal}");
    shim.finish()
}

/// The texts, which the random calls do not look at.
fn refusals_have_reasons() -> Result {
    let bundle = wasm(&["sleep"])?;
    let shim = Shim::start(&bundle)?;
    let id = bundle.id.clone();
    let says = |answer: std::result::Result<(), Refusal>, text: &str| {
        let message = answer.err().map(|refusal| refusal.message).unwrap_or_default();
        assert!(message.contains(text), "{message:?} instead of {text:?}");
    };
    says(shim.start_process(&id, "").map(drop), &format!("container {id} does not exist"));
    shim.run(&bundle, &Stdio::default())?;
    says(
        shim.make(&bundle, &Stdio::default()).map(drop),
        &format!("container {id} already exists"),
    );
    says(shim.start_process(&id, "").map(drop), "cannot start a running process");
    says(shim.remove(&id, "").map(drop), "cannot delete a running process");
    says(shim.start_process(&id, "x").map(drop), "process x does not exist");
    let exec = |exec_id: &str, args: &[&str]| shim.add_exec(&id, exec_id, args, &Stdio::default());
    says(exec("a/b", &["/bin/true"]).map(drop), "exec id \"a/b\" is not a file name");
    ok(exec("absent", &["/nosuch"]))?;
    says(shim.start_process(&id, "absent").map(drop), "exec: \"/nosuch\": no such file");
    // Whoever waits for it learns that it will not come.
    assert_eq!(ok(shim.exit_code(&id, "absent"))?, 255);
    ok(shim.remove(&id, "absent"))?;
    ok(shim.signal(&id, "", 9))?;
    ok(shim.exit_code(&id, ""))?;
    says(shim.signal(&id, "", 9).map(drop), "process already finished");
    says(exec("late", &["/bin/true"]).map(drop), "cannot exec in a stopped process");
    ok(shim.remove(&id, ""))?;
    shim.finish()
}
