//! Compile once per node: machine code in a private, content-addressed directory.
//!
//! An entry is the artefact followed by a trailer with its checksum. It is written to a temporary
//! file, synced and renamed, so a reader sees a whole entry or none; one compiler works on a key
//! at a time and the others wait for it. Anything wrong with an entry, or with the directory,
//! costs a compilation and never correctness.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::geteuid;

use super::compile::compile;
use super::engine::WASMTIME_VERSION;
use crate::error::{Context, Error, Result};
use crate::sys::identity;

/// Where root keeps the cache.
const SYSTEM_DIR: &str = "/var/lib/runwasm/cache";
/// The most the cache holds, in bytes; the least recently used entries go first.
const MAX_BYTES: u64 = 4 << 30;
/// Ends every entry, after the checksum of all before it.
const MAGIC: &[u8; 8] = b"runwasm1";
const TRAILER: u64 = 32 + MAGIC.len() as u64;
/// The extension of lock files.
const LOCK: &str = "lock";
/// The largest module, in bytes. It is read into memory to be compiled.
const MAX_MODULE: u64 = 1 << 30;

/// The compile cache of this user.
#[derive(Debug)]
pub struct Cache {
    /// `None` where no safe directory can be had: everything is then compiled at every start.
    dir: Option<PathBuf>,
}

impl Cache {
    /// Opens the cache: `/var/lib/runwasm/cache` for root, the user's cache directory otherwise.
    /// A directory that cannot be used is reported once, as a warning, and not used.
    pub fn open() -> Self {
        let dir = default_dir().and_then(|dir| match prepare_dir(&dir) {
            Ok(()) => Some(dir),
            Err(reason) => {
                log::warn!("running without the compile cache: {}: {reason}", dir.display());
                None
            }
        });
        Self { dir }
    }

    /// Loads the machine code of `wasm` with `load`, compiling it first if the cache has none
    /// that `load` accepts. `name` is for messages.
    ///
    /// # Errors
    /// When the module cannot be compiled.
    pub fn load<T>(
        &self,
        wasm: &File,
        name: &str,
        load: impl Fn(&File) -> wasmtime::Result<T>,
    ) -> Result<T> {
        let size = wasm.metadata().os(|| format!("read {name}"))?.len();
        if size > MAX_MODULE {
            return Err(Error::invalid(format!(
                "{name} is {size} bytes; a module may have at most {MAX_MODULE}"
            )));
        }
        if let Some(dir) = &self.dir
            && let Some(loaded) = hit(&dir.join(key(wasm).os(|| format!("read {name}"))?), &load)
        {
            return Ok(loaded);
        }
        // Others may be able to write the file. What is compiled and the key it is stored under
        // must be of the same bytes, so from here on they are those of a private copy.
        let copy = copy_of(wasm).os(|| format!("read {name}"))?;
        let Some(dir) = &self.dir else {
            return load_compiled(&compiled(&copy, name)?, name, load);
        };
        let entry = dir.join(key(&copy).os(|| format!("read {name}"))?);
        let lock = lock(&entry);
        // Another process may have compiled it while this one waited for the lock.
        if let Some(loaded) = hit(&entry, &load) {
            return Ok(loaded);
        }
        let code = compiled(&copy, name)?;
        let stored = lock.and_then(|_lock| store(&entry, &code));
        match stored {
            Ok(artefact) => {
                evict(dir, MAX_BYTES);
                load_compiled(&artefact, name, load)
            }
            Err(error) => {
                log::warn!("the compile cache cannot be written: {error}");
                load_compiled(&code, name, load)
            }
        }
    }
}

/// Compiles into a memory file: the compiler gets no descriptor of the cache.
fn compiled(wasm: &File, name: &str) -> Result<File> {
    let code = memory_file().os(|| "create a memory file")?;
    rewound(wasm).os(|| format!("read {name}"))?;
    compile(wasm, &code, name)?;
    Ok(code)
}

fn load_compiled<T>(
    code: &File,
    name: &str,
    load: impl Fn(&File) -> wasmtime::Result<T>,
) -> Result<T> {
    load(code).os(|| format!("load the compiled {name}"))
}

fn copy_of(file: &File) -> io::Result<File> {
    rewound(file)?;
    let mut copy = memory_file()?;
    io::copy(&mut io::Read::take(file, MAX_MODULE), &mut copy)?;
    Ok(copy)
}

fn default_dir() -> Option<PathBuf> {
    if identity::is_host_root() {
        return Some(SYSTEM_DIR.into());
    }
    let from = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let base = from("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(from("HOME")?).join(".cache")))?;
    Some(base.join("runwasm"))
}

/// Creates the directory if needed and refuses one that somebody else could write.
fn prepare_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() {
        return Err(io::Error::other("not a directory"));
    }
    check_private(&meta)
}

fn check_private(meta: &fs::Metadata) -> io::Result<()> {
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if owner != geteuid().as_raw() {
        return Err(io::Error::other(format!("owned by user {owner}")));
    }
    if mode & 0o022 != 0 {
        return Err(io::Error::other(format!("writable by others (mode {mode:o})")));
    }
    Ok(())
}

/// What decides the machine code: the module and the compiler. CPU features and settings are
/// compared by wasmtime itself when it loads an artefact.
fn key(wasm: &File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(WASMTIME_VERSION.as_bytes());
    hasher.update(&[0]);
    hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.update(&[0]);
    hash(&mut hasher, wasm, wasm.metadata()?.len())?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Adds the first `length` bytes of `file`.
fn hash(hasher: &mut blake3::Hasher, file: &File, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    let mut offset = 0;
    while offset < length {
        let want = buffer.len().min((length - offset) as usize);
        let read = file.read_at(&mut buffer[..want], offset)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        hasher.update(&buffer[..read]);
        offset += read as u64;
    }
    Ok(())
}

fn hit<T>(entry: &Path, load: impl Fn(&File) -> wasmtime::Result<T>) -> Option<T> {
    let file = match open_entry(entry) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            log::warn!("ignoring cache entry {}: {error}", entry.display());
            return None;
        }
    };
    // The time of use, for eviction; a read-only disk loses only that.
    let _ = file.set_modified(SystemTime::now());
    load(&file)
        .inspect_err(|error| log::warn!("ignoring cache entry {}: {error}", entry.display()))
        .ok()
}

/// Opens an entry if it is ours, private and undamaged.
fn open_entry(entry: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(entry)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    check_private(&meta)?;
    let length = meta.len().checked_sub(TRAILER).ok_or_else(|| io::Error::other("truncated"))?;
    let mut trailer = [0; TRAILER as usize];
    file.read_exact_at(&mut trailer, length)?;
    let mut hasher = blake3::Hasher::new();
    hash(&mut hasher, &file, length)?;
    if trailer[..32] != *hasher.finalize().as_bytes() || trailer[32..] != *MAGIC {
        return Err(io::Error::other("damaged"));
    }
    Ok(file)
}

/// Lets one process at a time work on `entry`. The lock file goes with its last user, so a process
/// that got the lock of a removed file tries again.
fn lock(entry: &Path) -> io::Result<Lock> {
    let path = entry.with_extension(LOCK);
    loop {
        let file = private_file(&path)?;
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let held = file.metadata()?.ino();
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.ino() == held) {
            return Ok(Lock { path, _file: file });
        }
    }
}

struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Left behind it is merely a file more.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens or creates a file that only this user may use.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Stores `code` as `entry`: written under another name, synced and renamed. That name belongs to
/// whoever has the lock, so what a killed process left is overwritten.
fn store(entry: &Path, code: &File) -> io::Result<File> {
    let temporary = entry.with_extension("tmp");
    let stored = write_entry(&temporary, code).and_then(|()| fs::rename(&temporary, entry));
    if stored.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    stored.and_then(|()| open_entry(entry))
}

fn write_entry(path: &Path, code: &File) -> io::Result<()> {
    let mut file = private_file(path)?;
    file.set_len(0)?;
    rewound(code)?;
    let length = io::copy(&mut &*code, &mut file)?;
    let mut hasher = blake3::Hasher::new();
    hash(&mut hasher, code, length)?;
    file.write_all(hasher.finalize().as_bytes())?;
    file.write_all(MAGIC)?;
    file.sync_data()
}

fn rewound(mut file: &File) -> io::Result<()> {
    io::Seek::rewind(&mut file)
}

fn memory_file() -> nix::Result<File> {
    Ok(File::from(memfd_create(c"module", MFdFlags::MFD_CLOEXEC)?))
}

/// A memory file that holds `bytes`.
///
/// # Errors
/// When memory is short.
pub fn file_of(bytes: &[u8]) -> io::Result<File> {
    let mut file = memory_file()?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Removes the least recently used entries until the rest fits `limit` bytes. A running container
/// keeps what it has mapped: removing a file does not end its mappings.
fn evict(dir: &Path, limit: u64) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut entries: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter(|entry| entry.path().extension().is_none_or(|extension| extension != LOCK))
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((meta.modified().ok()?, meta.len(), entry.path()))
        })
        .collect();
    let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
    entries.sort();
    for (_, size, path) in entries {
        if total <= limit {
            return;
        }
        if fs::remove_file(&path).is_ok() {
            total -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = dir.join(name);
        let hash = blake3::hash(content);
        let bytes = [content, hash.as_bytes(), MAGIC].concat();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn only_whole_private_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = entry(dir.path(), "good", b"code");
        assert!(open_entry(&path).is_ok());

        let mut bytes = fs::read(&path).unwrap();
        bytes[1] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(open_entry(&path).unwrap_err().to_string(), "damaged");
        fs::write(&path, &bytes[..20]).unwrap();
        assert_eq!(open_entry(&path).unwrap_err().to_string(), "truncated");

        let path = entry(dir.path(), "shared", b"code");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o620)).unwrap();
        assert!(open_entry(&path).unwrap_err().to_string().contains("writable by others"));

        let link = dir.path().join("link");
        std::os::unix::fs::symlink("good", &link).unwrap();
        assert!(open_entry(&link).is_err());
    }

    #[test]
    fn the_least_recently_used_entries_are_evicted_first() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (age, name) in [(30, "oldest"), (20, "older"), (10, "newest")] {
            let path = entry(dir.path(), name, &[0; 1000]);
            let time = now - std::time::Duration::from_secs(age);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        evict(dir.path(), 1500);
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["newest"]);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        assert!(prepare_dir(dir.path()).unwrap_err().to_string().contains("mode 777"));
    }

    #[test]
    fn the_key_depends_on_the_content() {
        let (a, b) = (file_of(b"a").unwrap(), file_of(b"b").unwrap());
        assert_ne!(key(&a).unwrap(), key(&b).unwrap());
        assert_eq!(key(&a).unwrap(), key(&file_of(b"a").unwrap()).unwrap());
    }
}
