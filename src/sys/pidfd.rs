//! Process handles that cannot be confused by a recycled pid.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// A handle on one process (pidfd_open(2)).
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process `pid`.
    ///
    /// # Errors
    /// ESRCH when there is no such process.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: no memory is passed; a new descriptor, close-on-exec, is returned.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends `signal`, a number so that real-time signals work too.
    ///
    /// # Errors
    /// ESRCH when the process has been reaped, EPERM, EINVAL for an unknown signal.
    pub fn send(&self, signal: i32) -> nix::Result<()> {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed and means the same as kill(2).
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, info, 0)
        };
        Errno::result(result).map(drop)
    }

    /// Kills the process.
    ///
    /// # Errors
    /// As [`PidFd::send`]; a process that is gone is no error.
    pub fn kill(&self) -> nix::Result<()> {
        match self.send(Signal::SIGKILL as i32) {
            Err(Errno::ESRCH) => Ok(()),
            result => result,
        }
    }

    /// Waits until the process has ended, or `timeout` has passed. Says whether it has ended.
    ///
    /// # Errors
    /// The error of poll(2).
    pub fn wait_end(&self, timeout: Option<Duration>) -> nix::Result<bool> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], wait) {
                Ok(0) if left.is_some_and(|left| left <= Duration::from_millis(1)) => {
                    return Ok(false);
                }
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
