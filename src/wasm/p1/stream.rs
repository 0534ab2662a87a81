//! The container's standard streams, read and written by the guest's calls alone: nothing is
//! read ahead, and a write returns when the kernel has the bytes.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::isatty;
use wasmtime_wasi::p1::types;

/// What a pipe that is ready takes without waiting (`PIPE_BUF` of Linux).
const ATOMIC: usize = 4096;
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// Descriptor 0.
    Input,
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

/// A standard stream. Whether its calls wait is the guest's own affair: the flag of the open file
/// itself is shared with whoever else has it.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    standard: Standard,
    /// What the guest set, as `fd_fdstat_set_flags` has it.
    pub flags: types::Fdflags,
}

impl Stream {
    /// A stream whose calls wait.
    pub fn new(standard: Standard) -> Self {
        Self { standard, flags: types::Fdflags::empty() }
    }

    /// Does something with the descriptor.
    pub fn with_fd<R>(self, action: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
        match self.standard {
            Standard::Input => action(std::io::stdin().as_fd()),
            Standard::Output => action(std::io::stdout().as_fd()),
            Standard::Error => action(std::io::stderr().as_fd()),
        }
    }

    /// The number of the descriptor.
    pub fn number(self) -> usize {
        self.standard as usize
    }

    /// Whether it is read or written.
    pub fn is_input(self) -> bool {
        self.standard == Standard::Input
    }

    /// `fd_fdstat_get`, as wasmtime answers it: what is no terminal is of unknown type.
    pub fn stat(self) -> types::Fdstat {
        let right = match self.is_input() {
            true => types::Rights::FD_READ,
            false => types::Rights::FD_WRITE,
        };
        let rights = right | types::Rights::POLL_FD_READWRITE | types::Rights::FD_FDSTAT_SET_FLAGS;
        types::Fdstat {
            fs_filetype: self.filetype(),
            fs_flags: self.flags,
            fs_rights_base: rights,
            fs_rights_inheriting: rights,
        }
    }

    /// Whether it is a terminal, in terms of WASI.
    pub fn filetype(self) -> types::Filetype {
        match self.with_fd(|fd| isatty(fd)) {
            true => types::Filetype::CharacterDevice,
            false => types::Filetype::Unknown,
        }
    }

    /// Reads what there is, once there is something.
    ///
    /// # Errors
    /// EAGAIN when there is nothing and the guest does not want to wait; those of read(2).
    pub fn read(self, bytes: &mut [u8]) -> Result<usize, Errno> {
        self.retried(PollFlags::IN, |fd| rustix::io::read(fd, &mut *bytes))
    }

    /// Writes at least something.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub fn write(self, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.retried(PollFlags::OUT, |fd| rustix::io::writev(fd, parts))
    }

    /// The most that one write is given.
    pub fn room(self) -> usize {
        if self.waits() { usize::MAX } else { ATOMIC }
    }

    fn waits(self) -> bool {
        !self.flags.contains(types::Fdflags::NONBLOCK)
    }

    fn retried<R>(
        self,
        readiness: PollFlags,
        mut call: impl FnMut(BorrowedFd<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let ready = |wait: Option<&Timespec>| {
            self.with_fd(|fd| poll(&mut [PollFd::from_borrowed_fd(fd, readiness)], wait))
        };
        if !self.waits() && ready(Some(&NOW))? == 0 {
            return Err(Errno::AGAIN);
        }
        loop {
            match self.with_fd(&mut call) {
                Err(Errno::INTR) => {}
                // The other side made the open file itself non-blocking.
                Err(Errno::AGAIN) if self.waits() => drop(ready(None)),
                result => return result,
            }
        }
    }
}
