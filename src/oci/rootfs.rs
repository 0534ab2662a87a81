//! Looking files up the way the container will see them, before its mounts exist.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};
use oci_spec::runtime::Mount;
use pathrs::flags::OpenFlags;
use pathrs::{Handle, Root};

use crate::error::{Context, ErrorKind, Result};

/// The most symlinks that one look-up follows, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A root file system together with the mounts that will cover parts of it.
///
/// Look-ups never leave the tree they start in: `..` stops at its root and absolute symlinks
/// start there, as they will inside the container.
#[derive(Debug)]
pub struct Rootfs {
    root: Root,
    /// Destination of each mount, in mount order, and for a bind mount its source.
    mounts: Vec<(PathBuf, Option<PathBuf>)>,
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
        let mut rootfs = Self { root, mounts: Vec::new() };
        for mount in mounts {
            // A destination is resolved in what has been mounted so far. What does not exist yet
            // will be created as it is written.
            let written = normalise(mount.destination());
            let destination = rootfs.walk(mount.destination()).unwrap_or(written);
            let source = mount.source().clone().filter(|_| super::mounts::is_bind(mount));
            rootfs.mounts.push((destination, source));
        }
        Ok(rootfs)
    }

    /// Opens the regular file at `path`, which is absolute. `None` when there is none: missing, a
    /// directory, a device, not readable, or in a mount whose content is not known yet.
    pub fn find(&self, path: &Path) -> Option<Found> {
        regular(&self.look_at(&self.walk(path)?)?)
    }

    /// Follows `path` as the kernel will: component by component, through symlinks and mounts.
    fn walk(&self, path: &Path) -> Option<PathBuf> {
        let mut left: VecDeque<OsString> = components(path);
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let next = done.join(name);
            // What does not exist is no link: a missing working directory will be created.
            let Some(link) = self.look_at(&next).filter(is_link) else {
                done = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            let target = PathBuf::from(readlinkat(&link, "").ok()?);
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            for name in components(&target).into_iter().rev() {
                left.push_front(name);
            }
        }
        Some(done)
    }

    /// Opens what is at `path`, of which all but the last component are known to be no symlinks,
    /// without following or reading it.
    fn look_at(&self, path: &Path) -> Option<Handle> {
        // The mount made last covers the ones before it.
        let covering = self.mounts.iter().rev().find_map(|(destination, source)| {
            path.strip_prefix(destination).ok().map(|rest| (source, rest))
        });
        match covering {
            None => self.root.resolve_nofollow(path).ok(),
            Some((None, rest)) if rest.as_os_str().is_empty() => {
                // Only that it is a directory is known of a mount that is made later.
                self.root.resolve("/").ok()
            }
            Some((None, _)) => None,
            Some((Some(source), rest)) if rest.as_os_str().is_empty() => {
                let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
                Some(Handle::from_fd(open(source, flags, Mode::empty()).ok()?))
            }
            Some((Some(source), rest)) => Root::open(source).ok()?.resolve_nofollow(rest).ok(),
        }
    }
}

fn is_link(handle: &Handle) -> bool {
    let mode = fstat(handle).map_or(0, |stat| stat.st_mode);
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFLNK
}

/// The names in `path`, `..` included.
fn components(path: &Path) -> VecDeque<OsString> {
    let names = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| part.as_os_str().to_owned()).collect()
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
