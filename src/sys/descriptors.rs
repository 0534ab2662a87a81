//! Closing file descriptors by range.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// Really closes every descriptor from `first` on but those in `kept`.
///
/// libcontainer only marks them close-on-exec, and a wasm container never calls execve
/// (CVE-2024-21626 is what an inherited descriptor leads to).
///
/// # Errors
/// The error of close_range(2); the kernel must be Linux 5.9 or newer.
pub fn close_from(first: RawFd, kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = kept.iter().copied().filter(|&fd| fd >= first).collect();
    kept.sort_unstable();
    let mut next = first;
    for fd in kept {
        if fd > next {
            close_range(next, fd - 1, 0)?;
        }
        next = fd + 1;
    }
    close_range(next, RawFd::MAX, 0)
}

/// Whether the number `fd` refers to an open descriptor.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: no memory is passed and nothing is changed.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Closes `fds`, which something that is never used or dropped again still owns.
pub fn close_abandoned(fds: &[RawFd]) {
    for &fd in fds {
        // SAFETY: callers promise that the owner is never used or dropped again, so no other
        // descriptor that takes this number can be closed or used by mistake.
        unsafe { libc::close(fd) };
    }
}

/// The descriptors of this process that refer to the same file as `file`, itself not included.
///
/// # Errors
/// When /proc is not there.
pub fn others_of(file: &File) -> io::Result<Vec<RawFd>> {
    let wanted = file.metadata()?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let fd = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let same = std::fs::metadata(entry.path())
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()));
        found.extend(fd.filter(|&fd| same && fd != file.as_raw_fd()));
    }
    Ok(found)
}

/// Marks every descriptor from `first` on close-on-exec, so that none that the caller of this
/// process leaked reaches a hook or a container.
///
/// # Errors
/// The error of close_range(2); `CLOSE_RANGE_CLOEXEC` needs Linux 5.11.
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    close_range(first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: no memory is passed. Callers own the process: they run right after it starts or
    // right before its last call, and touch no descriptor in the range afterwards.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_descriptors_of_a_file_are_found() {
        let file = tempfile::tempfile().unwrap();
        let copy = file.try_clone().unwrap();
        assert_eq!(others_of(&file).unwrap(), [copy.as_raw_fd()]);
    }
}
