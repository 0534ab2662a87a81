//! Terminals: receiving one, and its size.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Receives the one descriptor that libcontainer sends over a console socket (SCM_RIGHTS).
///
/// # Errors
/// When the other side closes the socket without sending one.
pub fn receive(socket: &impl AsFd) -> io::Result<OwnedFd> {
    let mut name = [0; 256];
    let mut buffers = [IoSliceMut::new(&mut name)];
    let mut space = cmsg_space!(std::os::fd::RawFd);
    let fd = socket.as_fd().as_raw_fd();
    let message = recvmsg::<()>(fd, &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let [fd] = fds[..]
        {
            // SAFETY: the kernel just installed this descriptor for us, and nobody else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(io::Error::other("no terminal was sent"))
}

/// Gives `to` the size of the terminal `from`; does nothing if either is no terminal.
pub fn copy_size(from: &impl AsFd, to: &impl AsFd) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes and TIOCSWINSZ reads one winsize, which outlives both calls.
    unsafe {
        if libc::ioctl(from.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) == 0 {
            libc::ioctl(to.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size);
        }
    }
}

/// Gives the terminal `to` a size in characters; does nothing if it is no terminal.
pub fn set_size(to: &impl AsFd, rows: u64, columns: u64) {
    let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
    let size =
        libc::winsize { ws_row: cells(rows), ws_col: cells(columns), ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    unsafe { libc::ioctl(to.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) };
}
