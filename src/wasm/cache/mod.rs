//! Compile once per node: machine code in a private, content-addressed directory.
//!
//! An entry is written to a temporary file, synced and renamed, so a reader sees a whole entry or
//! none; one compiler works on a key at a time and the others wait for it. Anything wrong with an
//! entry, or with the directory, costs a compilation and never correctness.

pub mod contents;
pub mod entry;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use super::compile::{Progress, compile};
use super::engine::WASMTIME_VERSION;
use super::memory_file;
use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::sys::identity;
use entry::{Description, check_private, private_file};

/// Where root keeps the cache.
const SYSTEM_DIR: &str = "/var/lib/runwasm/cache";
/// The extension of lock files.
const LOCK: &str = "lock";

/// The compile cache of this user.
pub struct Cache<'a> {
    /// `None` where no safe directory can be had: everything is then compiled at every start.
    dir: Option<PathBuf>,
    config: &'a Config,
    progress: Progress,
}

impl<'a> Cache<'a> {
    /// Opens the cache. A directory that cannot be used is reported once, as a warning, and not
    /// used. `progress` is told how long a compilation takes.
    pub fn open(config: &'a Config, progress: Progress) -> Self {
        let dir = directory(config).filter(|_| config.cache.enabled);
        let dir = dir.and_then(|dir| match prepare_dir(&dir) {
            Ok(()) => Some(dir),
            Err(reason) => {
                log::warn!("running without the compile cache: {}: {reason}", dir.display());
                None
            }
        });
        Self { dir, config, progress }
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
        let limit = self.config.compile.module.0;
        if size > limit {
            return Err(Error::invalid(format!(
                "{name} is {size} bytes; a module may have at most {limit} (compile.module)"
            )));
        }
        if let Some(dir) = &self.dir {
            let entry = dir.join(key(wasm).os(|| format!("read {name}"))?);
            match hit(&entry, &load) {
                Ok(Some(loaded)) => return Ok(loaded),
                Ok(None) => {}
                Err(reason) => log::warn!("ignoring cache entry {}: {reason}", entry.display()),
            }
        }
        // Others may be able to write the file. What is compiled and the key it is stored under
        // must be of the same bytes, so from here on they are those of a private copy.
        let copy = memory_file::copy_of(wasm, limit).os(|| format!("read {name}"))?;
        let Some(dir) = &self.dir else {
            return load_compiled(&self.compiled(&copy, name)?, name, load);
        };
        let entry = dir.join(key(&copy).os(|| format!("read {name}"))?);
        let lock = lock(&entry);
        // Another process may have compiled it while this one waited for the lock. What is wrong
        // with the entry was said before.
        if let Ok(Some(loaded)) = hit(&entry, &load) {
            return Ok(loaded);
        }
        let mut code = self.compiled(&copy, name)?;
        let description = Description {
            name: name.to_owned(),
            module_size: size,
            wasmtime: WASMTIME_VERSION.to_owned(),
        };
        let stored = lock.and_then(|_lock| store(&entry, &mut code, &description));
        match stored {
            Ok(artefact) => {
                if let Err(error) = contents::shrink(dir, self.config.cache.size.0) {
                    log::warn!("the compile cache cannot be bounded: {error}");
                }
                load_compiled(&artefact, name, load)
            }
            Err(error) => {
                log::warn!("the compile cache cannot be written: {error}");
                load_compiled(&code, name, load)
            }
        }
    }

    /// Compiles into a memory file: the compiler gets no descriptor of the cache.
    fn compiled(&self, wasm: &File, name: &str) -> Result<File> {
        let code = memory_file::empty().os(|| "create a memory file")?;
        io::Seek::rewind(&mut &*wasm).os(|| format!("read {name}"))?;
        compile(wasm, &code, name, &self.config.compile, self.progress)?;
        Ok(code)
    }
}

fn load_compiled<T>(
    code: &File,
    name: &str,
    load: impl Fn(&File) -> wasmtime::Result<T>,
) -> Result<T> {
    load(code).os(|| format!("load the compiled {name}"))
}

/// Where the cache is: as configured, else `/var/lib/runwasm/cache` for root and the user's cache
/// directory for others. `None` if there is no such directory.
pub fn directory(config: &Config) -> Option<PathBuf> {
    let usual = || match identity::is_host_root() {
        true => Some(SYSTEM_DIR.into()),
        false => identity::user_dir("XDG_CACHE_HOME", ".cache"),
    };
    config.cache.directory.clone().or_else(usual)
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

/// What decides the entry: the module, the compiler and the layout. CPU features and settings are
/// compared by wasmtime itself when it loads an artefact.
fn key(wasm: &File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(entry::MAGIC);
    hasher.update(WASMTIME_VERSION.as_bytes());
    hasher.update(&[0]);
    entry::hash(&mut hasher, wasm, wasm.metadata()?.len())?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Loads an entry; `None` if there is none. The error says what is wrong with it.
fn hit<T>(path: &Path, load: impl Fn(&File) -> wasmtime::Result<T>) -> Result<Option<T>, String> {
    let file = match entry::open(path) {
        Ok(entry) => entry.file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // The time of use, for eviction; a read-only disk loses only that.
    let _ = file.set_modified(SystemTime::now());
    load(&file).map(Some).map_err(|error| format!("{error:#}"))
}

/// Lets one process at a time work on `entry`. The lock file goes with its last user, so a process
/// that got the lock of a removed file tries again.
fn lock(entry: &Path) -> io::Result<Lock> {
    loop {
        if let Some(lock) = acquire(entry, FlockArg::LockExclusive)? {
            return Ok(lock);
        }
    }
}

/// As [`lock`], but `None` if somebody else works on it.
fn try_lock(entry: &Path) -> Option<Lock> {
    acquire(entry, FlockArg::LockExclusiveNonblock).ok().flatten()
}

fn acquire(entry: &Path, how: FlockArg) -> io::Result<Option<Lock>> {
    let path = entry.with_extension(LOCK);
    let file = Flock::lock(private_file(&path)?, how).map_err(|(_, errno)| errno)?;
    let held = file.metadata()?.ino();
    let current = fs::symlink_metadata(&path).is_ok_and(|meta| meta.ino() == held);
    Ok(current.then_some(Lock { path, _file: file }))
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

/// Stores `code` as `entry`: written under another name, synced and renamed. That name belongs to
/// whoever has the lock, so what a killed process left is overwritten.
fn store(entry: &Path, code: &mut File, description: &Description) -> io::Result<File> {
    let temporary = entry.with_extension("tmp");
    let stored =
        entry::write(&temporary, code, description).and_then(|()| fs::rename(&temporary, entry));
    if stored.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    stored.and_then(|()| entry::open(entry)).map(|entry| entry.file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        assert!(prepare_dir(dir.path()).unwrap_err().to_string().contains("mode 777"));
    }

    #[test]
    fn the_key_depends_on_the_content() {
        let file = |bytes: &[u8]| memory_file::holding(bytes).unwrap();
        assert_ne!(key(&file(b"a")).unwrap(), key(&file(b"b")).unwrap());
        assert_eq!(key(&file(b"a")).unwrap(), key(&file(b"a")).unwrap());
    }
}
