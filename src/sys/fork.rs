//! Processes that go on with this one's memory.

use nix::unistd::{ForkResult, Pid, fork};

/// Runs `child` in a new process, which exits with the code that it returns. Returns the new
/// process's pid.
///
/// The caller must have one thread: of others, the child would have neither the thread nor what
/// it was at.
///
/// # Errors
/// When there can be no more processes.
pub fn run_in_child(child: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: with one thread, as required above, no lock is held by a thread that the child
    // lacks, so it may do whatever this process may.
    match unsafe { fork() }? {
        ForkResult::Child => std::process::exit(child()),
        ForkResult::Parent { child } => Ok(child),
    }
}
