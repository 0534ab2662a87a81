//! The terminal of a container or exec that runs in the foreground: our own terminal is made raw
//! and joined to the container's.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Result};
use crate::sys::terminal;

/// How long output that the kernel is still moving may take to arrive after the program ended, in
/// milliseconds.
const DRAIN: u16 = 100;
/// Ctrl-D.
const END_OF_INPUT: u8 = 4;

/// Joins standard input and output to a container's terminal.
pub struct Relay {
    master: File,
    /// What our terminal was set to before it was made raw.
    saved: Option<Termios>,
    /// What was read from standard input and the container's terminal has not taken yet.
    pending: Vec<u8>,
    input_ended: bool,
}

/// A pair of connected sockets: ours, and the one that libcontainer sends the terminal over.
///
/// # Errors
/// When no more descriptors can be opened.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .os(|| "create the console socket")
}

impl Relay {
    /// Receives the terminal from `socket` and makes ours raw.
    ///
    /// # Errors
    /// When no terminal arrives.
    pub fn new(socket: &OwnedFd) -> Result<Self> {
        let master = terminal::receive(socket).os(|| "receive the container's terminal")?;
        // A terminal takes 4 KiB that its program does not read, and the program may itself wait
        // for its output to be taken: a write that blocked could then never end.
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).os(|| "set up the terminal")?;
        let stdin = io::stdin();
        let saved = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&stdin, SetArg::TCSANOW, &raw).os(|| "make the terminal raw")?;
        }
        let relay = Self { master: master.into(), saved, pending: Vec::new(), input_ended: false };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of ours.
    pub fn resize(&self) {
        terminal::copy_size(&io::stdin(), &self.master);
    }

    /// The container's terminal, and what to poll it for: output, and room for pending input.
    pub fn master(&self) -> (BorrowedFd<'_>, PollFlags) {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !self.pending.is_empty());
        (self.master.as_fd(), events)
    }

    /// Whether to poll standard input: only when all before it has gone on.
    pub fn wants_input(&self) -> bool {
        !self.input_ended && self.pending.is_empty()
    }

    /// Moves what there is on standard input to the container.
    pub fn copy_input(&mut self) {
        let mut buffer = [0; 4096];
        match io::stdin().lock().read(&mut buffer) {
            Ok(n) if n > 0 => self.pending.extend(&buffer[..n]),
            // The end of a file is Ctrl-D at a terminal.
            _ => {
                self.input_ended = true;
                self.pending.push(END_OF_INPUT);
            }
        }
        self.write_pending();
    }

    /// Hands as much pending input on as the container's terminal takes now.
    pub fn write_pending(&mut self) {
        match self.master.write(&self.pending) {
            Ok(written) => drop(self.pending.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A container that closed its terminal gets no input; it is about to end.
            Err(_) => self.pending.clear(),
        }
    }

    /// Moves what the container wrote to standard output. Says whether there may be more.
    pub fn copy_output(&mut self) -> bool {
        let mut buffer = [0; 8192];
        match self.master.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            // EIO: the last process with this terminal has ended.
            Ok(0) | Err(_) => false,
            Ok(n) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&buffer[..n]).and_then(|()| stdout.flush()).is_ok()
            }
        }
    }

    /// Moves what is left after the program has ended.
    pub fn drain(&mut self) {
        let ready = |master: &File| {
            let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
            matches!(poll(&mut fds, PollTimeout::from(DRAIN)), Ok(n) if n > 0)
        };
        while ready(&self.master) && self.copy_output() {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, saved);
        }
    }
}
