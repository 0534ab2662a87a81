//! Files in memory: private copies that nobody else can name or change.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// An empty file.
///
/// # Errors
/// When memory or descriptors are short.
pub fn empty() -> io::Result<File> {
    Ok(memfd_create(c"module", MFdFlags::MFD_CLOEXEC)?.into())
}

/// A file that holds `bytes`.
///
/// # Errors
/// As [`empty`].
pub fn holding(bytes: &[u8]) -> io::Result<File> {
    let mut file = empty()?;
    file.write_all(bytes)?;
    Ok(file)
}

/// A copy of the first `limit` bytes of `file`.
///
/// # Errors
/// As [`empty`], and when `file` cannot be read.
pub fn copy_of(mut file: &File, limit: u64) -> io::Result<File> {
    file.rewind()?;
    let mut copy = empty()?;
    io::copy(&mut file.take(limit), &mut copy)?;
    Ok(copy)
}
