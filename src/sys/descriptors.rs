//! Closing file descriptors by range, and passing them on by number.

use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

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

/// Writes `bytes` to `fd`, which another part of the program owns.
///
/// # Errors
/// As write(2).
pub fn write_to(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: it is not closed here, whatever it is.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    (&*file).write_all(bytes)
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

/// Lets the program of `command` find `descriptors` at the numbers from `first` on.
///
/// # Errors
/// When there are no descriptors left.
pub fn pass(command: &mut Command, first: RawFd, descriptors: Vec<OwnedFd>) -> io::Result<()> {
    let end = first + descriptors.len() as RawFd;
    // The standard library reports a failing exec through a descriptor of its own. It must not
    // get one of the numbers that are overwritten, so none of them is free.
    let mut fillers = Vec::new();
    if let Some(any) = descriptors.first() {
        loop {
            let filler = rustix::io::fcntl_dupfd_cloexec(any, first)?;
            if filler.as_raw_fd() >= end {
                break;
            }
            fillers.push(filler);
        }
    }
    let mut moved = vec![-1; descriptors.len()];
    let place = move || {
        let _occupied = &fillers;
        // Out of the way first: one may have a number that another is to get.
        for (to, from) in moved.iter_mut().zip(&descriptors) {
            // SAFETY: no memory is passed; only descriptors of the new process are changed.
            *to = checked(unsafe { libc::fcntl(from.as_raw_fd(), libc::F_DUPFD_CLOEXEC, end) })?;
        }
        for (from, to) in moved.iter().zip(first..) {
            // SAFETY: as above. The copy is not close-on-exec.
            checked(unsafe { libc::dup2(*from, to) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls; it allocates nothing
    // and takes no lock.
    unsafe { command.pre_exec(place) };
    Ok(())
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: no memory is passed. Callers own the process: they run right after it starts or
    // right before its last call, and touch no descriptor in the range afterwards.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_are_passed_by_number() {
        let (mut output, writer) = std::io::pipe().unwrap();
        let (input, mut text) = std::io::pipe().unwrap();
        text.write_all(b"through 8 and 9").unwrap();
        drop(text);
        let mut command = Command::new("sh");
        command.args(["-c", "cat <&8 >&9"]);
        pass(&mut command, 8, vec![input.into(), writer.into()]).unwrap();
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(said, "through 8 and 9");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let (_, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("/nonexistent");
        pass(&mut command, 3, vec![writer.into()]).unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn other_descriptors_of_a_file_are_found() {
        let file = tempfile::tempfile().unwrap();
        let copy = file.try_clone().unwrap();
        assert_eq!(others_of(&file).unwrap(), [copy.as_raw_fd()]);
    }
}
