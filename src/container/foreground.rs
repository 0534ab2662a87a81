//! Staying with a process until it ends: signals are forwarded, a terminal is relayed, and the
//! exit code becomes ours.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::console::Relay;
use crate::error::{Context, Result};
use crate::sys::pidfd::PidFd;

/// Signals that concern this process and not the container: faults, job control, its children.
const OWN: [Signal; 12] = [
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGURG,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Holds signals back from the moment it is made, so that none is lost before there is a process
/// to forward them to.
pub struct Foreground(SignalFd);

/// What there is to do.
struct Ready {
    /// The process ended.
    end: bool,
    /// A signal is to be forwarded.
    signal: bool,
    /// The terminal has output.
    output: bool,
    /// The terminal takes input.
    room: bool,
    /// Standard input has some.
    input: bool,
}

impl Foreground {
    /// Starts holding signals back. The container's process starts with none blocked.
    ///
    /// # Errors
    /// When the kernel refuses a signalfd.
    pub fn new() -> Result<Self> {
        let mut mask = SigSet::all();
        for signal in OWN {
            mask.remove(signal);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).os(|| "block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&mask, flags).os(|| "open a signalfd")?))
    }

    /// Waits until the child process `pid` ends, and returns what a shell would: its exit code,
    /// or 128 and the signal that ended it.
    ///
    /// # Errors
    /// When the process is not a child of this one.
    pub fn wait(&self, pid: i32, mut relay: Option<Relay>) -> Result<i32> {
        // The pid cannot be recycled: it is our child and only this function reaps it.
        let process = PidFd::open(pid).os(|| format!("watch process {pid}"))?;
        let mut terminal_open = relay.is_some();
        loop {
            let ready = self.poll(&process, relay.as_ref(), terminal_open);
            let ready = ready.os(|| "wait for the container")?;
            if ready.signal {
                self.forward(&process, relay.as_ref());
            }
            if let Some(relay) = &mut relay {
                if ready.room {
                    relay.write_pending();
                }
                if ready.output {
                    terminal_open = relay.copy_output();
                }
                if ready.input {
                    relay.copy_input();
                }
            }
            if ready.end {
                break;
            }
        }
        if let Some(relay) = &mut relay {
            relay.drain();
        }
        match waitpid(Pid::from_raw(pid), None).os(|| format!("wait for process {pid}"))? {
            WaitStatus::Exited(_, code) => Ok(code),
            WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
            status => Err(crate::error::Error::os(format!("process {pid}: {status:?}"))),
        }
    }

    fn poll(
        &self,
        process: &PidFd,
        relay: Option<&Relay>,
        terminal_open: bool,
    ) -> nix::Result<Ready> {
        let stdin = io::stdin();
        let mut fds = vec![
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
        ];
        let terminal = relay.filter(|_| terminal_open).map(|relay| {
            let (master, events) = relay.master();
            fds.push(PollFd::new(master, events));
            fds.len() - 1
        });
        let input = relay.filter(|relay| terminal_open && relay.wants_input()).map(|_| {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            fds.len() - 1
        });
        poll(&mut fds, PollTimeout::NONE)?;
        let events = |index: usize| fds[index].revents().unwrap_or(PollFlags::empty());
        let terminal = terminal.map_or(PollFlags::empty(), events);
        Ok(Ready {
            end: !events(0).is_empty(),
            signal: !events(1).is_empty(),
            // An error or the other side's end shows itself when it is read.
            output: !terminal.difference(PollFlags::POLLOUT).is_empty(),
            room: terminal.contains(PollFlags::POLLOUT),
            input: input.is_some_and(|index| !events(index).is_empty()),
        })
    }

    fn forward(&self, process: &PidFd, relay: Option<&Relay>) {
        while let Ok(Some(info)) = self.0.read_signal() {
            match relay {
                Some(relay) if info.ssi_signo == Signal::SIGWINCH as u32 => relay.resize(),
                // The process may just have ended.
                _ => drop(process.send(info.ssi_signo as i32)),
            }
        }
    }
}
