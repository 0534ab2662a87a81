//! Runtime calls that outlive the shim that made them.
//!
//! A shim can be killed while a `runwasm create` runs. What that call goes on to make must not
//! come after the clean-up.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{debug, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A call may end by itself within this time, which leaves less to clean up; containerd waits five
/// seconds for the whole clean-up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits until no runtime call on `bundle` is running, and ends those that take too long.
pub fn settle(bundle: &Path) {
    let deadline = Instant::now() + PATIENCE;
    for (pid, process) in calls(bundle) {
        if ends_before(&process, deadline) {
            continue;
        }
        warn!("the runtime call {pid} on {} takes too long and is killed", bundle.display());
        if let Err(error) = pidfd_send_signal(&process, Signal::KILL) {
            debug!("kill {pid}: {error}");
        }
        ends_before(&process, Instant::now() + PATIENCE);
    }
}

/// The runtime calls on `bundle`, which all log into it.
fn calls(bundle: &Path) -> Vec<(i32, OwnedFd)> {
    let own = std::process::id() as i32;
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own)
        .filter_map(|pid| {
            // Held before the look at its arguments, so that they are this process's.
            let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            (logs_into(&arguments, bundle) && !is_contained(pid)).then_some((pid, process))
        })
        .collect()
}

/// Whether a command line, with its arguments ended by zeros, has `--log` for a file in `bundle`.
fn logs_into(arguments: &[u8], bundle: &Path) -> bool {
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.any(|argument| argument == b"--log")
        && arguments
            .next()
            .is_some_and(|log| Path::new(std::ffi::OsStr::from_bytes(log)).parent() == Some(bundle))
}

/// Whether the process is in the container: one that runs wasm keeps its runtime's arguments.
fn is_contained(pid: i32) -> bool {
    let mounts = |pid: &str| std::fs::read_link(PathBuf::from(format!("/proc/{pid}/ns/mnt"))).ok();
    mounts(&pid.to_string()) != mounts("self")
}

fn ends_before(process: &OwnedFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&left)), Ok(ready) if ready > 0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn finds_a_call_by_its_log() {
        let bundle = Path::new("/b/c1");
        assert!(logs_into(b"runwasm\0--root\0/r\0--log\0/b/c1/log.json\0create\0c1\0", bundle));
        assert!(!logs_into(b"runwasm\0--log\0/b/c10/log.json\0create\0c10\0", bundle));
        assert!(!logs_into(b"shim\0-bundle\0/b/c1\0delete\0", bundle));
        assert!(!logs_into(b"", bundle));
    }

    #[test]
    fn waits_for_a_call_that_ends_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log.json");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.3", "sh", "--log"]).arg(log);
        let mut call = command.spawn().unwrap();
        // A new process has no arguments for a moment.
        while std::fs::read(format!("/proc/{}/cmdline", call.id())).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let start = Instant::now();
        settle(dir.path());
        assert!(call.try_wait().unwrap().unwrap().success());
        assert!(start.elapsed() < PATIENCE);
    }
}
