//! Looking files up the way the container will see them, before its mounts exist.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use oci_spec::runtime::Mount;
use pathrs::flags::OpenFlags;
use pathrs::{Handle, Root};

use crate::error::{Context, ErrorKind, Result};

/// A root file system together with the bind mounts that will cover parts of it.
///
/// Look-ups never leave the tree they start in: `..` stops at its root and absolute symlinks
/// start there, as they will inside the container.
#[derive(Debug)]
pub struct Rootfs {
    root: Root,
    /// Destination and source of each bind mount, in mount order.
    binds: Vec<(PathBuf, PathBuf)>,
}

/// A regular file found in a [`Rootfs`].
#[derive(Debug)]
pub struct Found {
    /// The file, open for reading.
    pub file: File,
    /// Whether anyone may execute it.
    pub executable: bool,
}

impl Rootfs {
    /// Opens `root`; `mounts` are the spec's.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] when `root` cannot be opened.
    pub fn open(root: &Path, mounts: &[Mount]) -> Result<Self> {
        let root = Root::open(root).context(ErrorKind::InvalidArgument, || {
            format!("open root file system {}", root.display())
        })?;
        let binds = mounts
            .iter()
            .filter(|mount| super::mounts::is_bind(mount))
            .filter_map(|mount| Some((normalise(mount.destination()), mount.source().clone()?)))
            .collect();
        Ok(Self { root, binds })
    }

    /// Opens the regular file at `path`, which is absolute. `None` when there is none: missing, a
    /// directory, a device, or not readable.
    pub fn find(&self, path: &Path) -> Option<Found> {
        let path = normalise(path);
        // The mount made last covers the ones before it.
        let covering = self.binds.iter().rev().find_map(|(destination, source)| {
            path.strip_prefix(destination).ok().map(|rest| (source, rest))
        });
        match covering {
            Some((source, rest)) if rest.as_os_str().is_empty() => {
                let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
                regular(&Handle::from_fd(open(source, flags, Mode::empty()).ok()?))
            }
            Some((source, rest)) => regular(&Root::open(source).ok()?.resolve(rest).ok()?),
            None => regular(&self.root.resolve(&path).ok()?),
        }
    }
}

/// Reopens `handle` for reading if it is a regular file: opening a FIFO or a device could block or
/// have effects.
fn regular(handle: &Handle) -> Option<Found> {
    let stat = fstat(handle).ok()?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return None;
    }
    let file = handle.reopen(OpenFlags::O_RDONLY | OpenFlags::O_CLOEXEC).ok()?;
    Some(Found { file, executable: stat.st_mode & 0o111 != 0 })
}

/// Removes `.`, `..` and doubled slashes without looking at the file system; the result is
/// absolute and `..` stops at `/`.
pub fn normalise(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Reads up to `N` bytes from the start of `file`, leaving its offset alone.
///
/// # Errors
/// The error of pread(2).
pub fn head<const N: usize>(file: &File) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut buffer = [0; N];
    let mut filled = 0;
    while filled < N {
        match file.read_at(&mut buffer[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(buffer[..filled].to_vec())
}
