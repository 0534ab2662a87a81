//! Sockets of a guest: listeners that it was handed, and the connections it accepts from them.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, SocketFlags, accept_with, recv, shutdown, sockopt};
use wasmtime_wasi::p1::types;

/// A socket. Whether its calls wait is a flag of the open socket, which nobody else has.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    listens: bool,
}

impl Socket {
    /// One that listens.
    pub fn listener(fd: OwnedFd) -> Self {
        Self { fd, listens: true }
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next connection, whose calls wait unless `flags` say otherwise. Small writes are sent
    /// at once: a guest cannot ask for that, and Go always does.
    ///
    /// # Errors
    /// Those of accept(2): EAGAIN when there is none, EMFILE when descriptors are short.
    pub fn accept(&self, flags: types::Fdflags) -> Result<Self, Errno> {
        if !self.listens {
            return Err(Errno::INVAL);
        }
        let nonblocking = flags.contains(types::Fdflags::NONBLOCK);
        let extra = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        let fd = retried(|| accept_with(&self.fd, SocketFlags::CLOEXEC | extra))?;
        // A Unix socket knows no such option, and needs none.
        let _ = sockopt::set_tcp_nodelay(&fd, true);
        Ok(Self { fd, listens: false })
    }

    /// Receives with flags of recv(2).
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn receive(&self, bytes: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        retried(|| recv(&self.fd, &mut *bytes, flags).map(|(count, _)| count))
    }

    /// Sends.
    ///
    /// # Errors
    /// Those of write(2); EPIPE when the other side reads no more.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        retried(|| rustix::io::writev(&self.fd, parts))
    }

    /// Ends one direction or both.
    ///
    /// # Errors
    /// EINVAL for none; those of shutdown(2).
    pub fn shutdown(&self, how: types::Sdflags) -> Result<(), Errno> {
        let both = types::Sdflags::RD | types::Sdflags::WR;
        let how = match how {
            how if how == both => Shutdown::Both,
            types::Sdflags::RD => Shutdown::Read,
            types::Sdflags::WR => Shutdown::Write,
            _ => return Err(Errno::INVAL),
        };
        shutdown(&self.fd, how)
    }

    /// Sets whether calls wait; other flags mean nothing to a socket.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn set_flags(&self, flags: types::Fdflags) -> Result<(), Errno> {
        let mut set = fcntl_getfl(&self.fd)?;
        set.set(OFlags::NONBLOCK, flags.contains(types::Fdflags::NONBLOCK));
        fcntl_setfl(&self.fd, set)
    }

    /// `fd_fdstat_get`.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn stat(&self) -> Result<types::Fdstat, Errno> {
        let set = fcntl_getfl(&self.fd)?;
        let nonblocking = set.contains(OFlags::NONBLOCK);
        let rights = types::Rights::FD_READ
            | types::Rights::FD_WRITE
            | types::Rights::FD_FDSTAT_SET_FLAGS
            | types::Rights::FD_FILESTAT_GET
            | types::Rights::POLL_FD_READWRITE
            | types::Rights::SOCK_SHUTDOWN
            | types::Rights::SOCK_ACCEPT;
        Ok(types::Fdstat {
            fs_filetype: types::Filetype::SocketStream,
            fs_flags: if nonblocking { types::Fdflags::NONBLOCK } else { types::Fdflags::empty() },
            fs_rights_base: rights,
            fs_rights_inheriting: rights,
        })
    }
}

fn retried<R>(mut call: impl FnMut() -> Result<R, Errno>) -> Result<R, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
