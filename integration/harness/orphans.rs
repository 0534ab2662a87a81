//! Processes whose parent ended: as the subreaper of the run we are given them, and collect
//! their exit codes as any init does. One that stays a zombie keeps its PID namespace alive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::{Result, procfs};

/// Our own children, which `Child` waits for, and the exit codes of all others.
struct Known {
    own: BTreeSet<i32>,
    codes: BTreeMap<i32, i32>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { own: BTreeSet::new(), codes: BTreeMap::new() });

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().expect("nothing panics while it is held")
}

/// Starts a child of our own, which must not be taken for an orphan before it is known.
pub fn not_while(spawn: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    let mut known = known();
    let child = spawn()?;
    known.own.insert(child.id() as i32);
    Ok(child)
}

/// The exit status of a child of our own, once it has ended.
pub fn collect(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let mut known = known();
    let status = child.try_wait()?;
    if status.is_some() {
        known.own.remove(&(child.id() as i32));
    }
    Ok(status)
}

/// Collects orphans as long as the suite runs, as any init does: a killed shim's containers are
/// ours, and whoever waits for their end must not wait for a trial.
pub fn reap_always() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            // Looking through all processes is worth it only if one has ended.
            if !matches!(waitid(Id::All, flags), Ok(WaitStatus::StillAlive) | Err(_)) {
                // What cannot be collected, the audit finds.
                let _ = reap();
            }
        }
    });
}

/// Collects the exit codes of all orphans that have ended.
pub fn reap() -> Result {
    let mut known = known();
    let own_pid = std::process::id() as i32;
    for pid in procfs::all()? {
        if procfs::stat(pid) != Some(('Z', own_pid)) || known.own.contains(&pid) {
            continue;
        }
        let code = match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            Ok(_) | Err(Errno::ECHILD) => continue,
            Err(error) => return Err(error.into()),
        };
        known.codes.insert(pid, code);
    }
    Ok(())
}

/// The exit code of an orphan, once it has ended.
pub fn exit_code(pid: i32) -> Result<Option<i32>> {
    reap()?;
    Ok(known().codes.remove(&pid))
}

/// Forgets the code of an earlier process with the same number.
pub fn forget(pid: i32) {
    known().codes.remove(&pid);
}
