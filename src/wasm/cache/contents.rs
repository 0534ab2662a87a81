//! What is in the cache, and making room in it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::LOCK;
use super::entry::{self, Description};
use crate::error::{Context, Result};
use crate::wasm::engine::WASMTIME_VERSION;

/// A file of the cache.
#[derive(Debug)]
pub struct Item {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
}

impl Item {
    /// The name of the file, which is the key.
    pub fn key(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What it is for.
    ///
    /// # Errors
    /// Saying why it can never be used: damaged, not whole, or made by another version.
    pub fn description(&self) -> Result<Description, String> {
        if self.path.extension().is_some() {
            return Err("unfinished".to_owned());
        }
        let description = entry::open(&self.path).map_err(|error| error.to_string())?.description;
        if description.wasmtime != WASMTIME_VERSION {
            return Err(format!("made by wasmtime {}", description.wasmtime));
        }
        Ok(description)
    }

    fn remove(&self) -> bool {
        // Another process may have removed it.
        fs::remove_file(&self.path).is_ok()
    }
}

/// What `prune` and `clear` did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files removed.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Removed {
    /// Both together.
    pub fn and(&self, other: &Self) -> Self {
        Self { files: self.files + other.files, bytes: self.bytes + other.bytes }
    }

    fn add(&mut self, item: &Item) {
        self.files += 1;
        self.bytes += item.size;
    }
}

/// The files in `dir`, the least recently used first; locks are left out.
///
/// # Errors
/// When the directory cannot be read.
pub fn items(dir: &Path) -> Result<Vec<Item>> {
    let entries = fs::read_dir(dir).os(|| format!("read {}", dir.display()))?;
    let mut items: Vec<Item> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_none_or(|extension| extension != LOCK))
        .filter_map(|entry| {
            // One that is gone by now has no metadata.
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Item { path: entry.path(), size: meta.len(), used: meta.modified().ok()? })
        })
        .collect();
    items.sort_by_key(|item| item.used);
    Ok(items)
}

/// Removes the least recently used files that nobody uses until the rest fits `limit` bytes.
///
/// # Errors
/// As [`items`].
pub fn shrink(dir: &Path, limit: u64) -> Result<Removed> {
    let items = items(dir)?;
    let mut total: u64 = items.iter().map(|item| item.size).sum();
    let mut removed = Removed::default();
    if total <= limit {
        return Ok(removed);
    }
    let used = in_use();
    for item in items.iter().filter(|item| !used.contains(&item.key())) {
        if total <= limit {
            break;
        }
        if item.remove() {
            total -= item.size;
            removed.add(item);
        }
    }
    Ok(removed)
}

/// Removes what can never be used: damaged entries, those of other versions, and what is left of
/// killed processes.
///
/// # Errors
/// As [`items`].
pub fn remove_useless(dir: &Path) -> Result<Removed> {
    let mut removed = Removed::default();
    for item in items(dir)? {
        // Whoever holds the lock is writing it.
        let Some(_lock) = super::try_lock(&item.path) else { continue };
        if item.description().is_err() && item.remove() {
            removed.add(&item);
        }
    }
    Ok(removed)
}

/// Removes everything.
///
/// # Errors
/// As [`items`].
pub fn clear(dir: &Path) -> Result<Removed> {
    let mut removed = Removed::default();
    for item in items(dir)? {
        if item.remove() {
            removed.add(&item);
        }
    }
    Ok(removed)
}

/// The names of all files that some process has mapped. A file that is removed stays with those
/// who have it mapped, but the next container would share no page with them.
pub fn in_use() -> HashSet<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let maps = processes
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        // Processes end at any time, and other users' are not for us to see.
        .filter_map(|entry| fs::read_to_string(entry.path().join("maps")).ok());
    let mut names = HashSet::new();
    for maps in maps {
        let files = maps.lines().filter_map(|line| line.rsplit_once('/'));
        names.extend(files.map(|(_, name)| name.to_owned()));
    }
    names
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::super::entry::tests::write_entry;
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        items(dir).unwrap().iter().map(Item::key).collect()
    }

    #[test]
    fn the_least_recently_used_entries_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (age, name) in [(10, "newest"), (30, "oldest"), (20, "older")] {
            let path = write_entry(dir.path(), name, &[0; 1000]);
            let time = now - Duration::from_secs(age);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(names(dir.path()), ["oldest", "older", "newest"]);
        assert_eq!(shrink(dir.path(), 5000).unwrap(), Removed::default());
        assert_eq!(shrink(dir.path(), 1500).unwrap().files, 2);
        assert_eq!(names(dir.path()), ["newest"]);
    }

    #[test]
    fn only_what_can_never_be_used_is_useless() {
        let dir = tempfile::tempdir().unwrap();
        write_entry(dir.path(), "good", b"code");
        write_entry(dir.path(), "killed.tmp", b"code");
        fs::write(dir.path().join("damaged"), b"code").unwrap();
        assert_eq!(remove_useless(dir.path()).unwrap().files, 2);
        assert_eq!(names(dir.path()), ["good"]);
    }
}
