//! Signal dispositions of the process that becomes the container, and signals by number.

use std::mem::MaybeUninit;

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};

/// The signals that end a wasm command: without a handler, PID 1 of a PID namespace would
/// ignore them.
pub const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// Sets every signal to its default action and unblocks all: what a program finds after runc's
/// execve. Rust's own start-up ignores SIGPIPE, which a child would inherit.
///
/// # Errors
/// The error of sigprocmask(2).
pub fn reset() -> nix::Result<()> {
    reset_all_but(&[])
}

/// As [`reset`], but keeps the handlers by which wasmtime turns faults into traps.
///
/// # Errors
/// The error of sigprocmask(2).
pub fn reset_except_faults() -> nix::Result<()> {
    reset_all_but(&[Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE])
}

fn reset_all_but(kept: &[Signal]) -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) || kept.contains(&signal) {
            continue;
        }
        // SAFETY: SIG_DFL runs no code of ours.
        unsafe { sigaction(signal, &default) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Which of [`ENDING`] waits for this process while it holds signals back, if any.
pub fn pending_end() -> Option<Signal> {
    let mut pending = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the kernel writes the whole set, or the call fails and the set is not looked at.
    let pending = unsafe {
        if libc::sigpending(pending.as_mut_ptr()) != 0 {
            return None;
        }
        SigSet::from_sigset_t_unchecked(pending.assume_init())
    };
    ENDING.into_iter().find(|&signal| pending.contains(signal))
}

/// Makes each of [`ENDING`] end the process at once with 128+n, whether the guest spins, sleeps
/// or blocks in a read, and ignores SIGPIPE so that a write to a closed pipe is the guest's
/// EPIPE.
///
/// # Errors
/// The error of sigaction(2).
pub fn end_process_on_signals() -> nix::Result<()> {
    let end = SigAction::new(SigHandler::Handler(end_process), SaFlags::empty(), SigSet::empty());
    for signal in ENDING {
        // SAFETY: the handler makes one async-signal-safe call and touches no memory.
        unsafe { sigaction(signal, &end) }?;
    }
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { sigaction(Signal::SIGPIPE, &ignore) }?;
    Ok(())
}

/// Sends signal `number`, real-time signals included, to the process `pid`.
///
/// # Errors
/// The error of kill(2); EINVAL for a number that is no signal.
pub fn send(pid: libc::pid_t, number: libc::c_int) -> std::io::Result<()> {
    // SAFETY: no memory is passed.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

extern "C" fn end_process(signal: libc::c_int) {
    // SAFETY: _exit(2) is async-signal-safe. Nothing needs flushing: guest output is written
    // straight to the descriptors.
    unsafe { libc::_exit(128 + signal) }
}
