//! Whatever is wrong with an entry, the directory or the disk: the program runs, and one warning
//! says why it took longer.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use libtest_mimic::Trial;

use super::Cache;
use crate::harness::command::Cmd;
use crate::harness::{Result, trials};

pub fn tests() -> Vec<Trial> {
    trials!["cache": truncated_entry, flipped_bit, foreign_entry, writable_entry, linked_entry,
        entry_of_another_compiler, writable_directory, foreign_directory, file_for_a_directory,
        full_disk, read_only_disk]
}

/// A damaged entry is ignored, with one warning that says why, and replaced.
fn is_replaced(reason: &str, damage: impl FnOnce(&Path) -> Result) -> Result {
    let cache = Cache::new()?;
    assert!(cache.run()?.well()?.compiled);
    assert!(!cache.run()?.well()?.compiled, "a good entry is used");
    let entry = cache.entry()?;
    damage(&entry)?;
    let ran = cache.run()?.well()?;
    assert!(ran.compiled);
    assert_eq!(ran.warnings.len(), 1, "{:?}", ran.warnings);
    let warning = &ran.warnings[0];
    assert!(warning.contains(&*entry.to_string_lossy()), "{warning}");
    assert!(warning.contains(reason), "{warning}");
    assert_eq!(cache.entry()?, entry);
    assert!(!cache.run()?.well()?.compiled, "the new entry is used");
    Ok(())
}

fn truncated_entry() -> Result {
    is_replaced("damaged", |entry| {
        let length = fs::metadata(entry)?.len();
        Ok(fs::File::options().write(true).open(entry)?.set_len(length / 2)?)
    })
}

fn flipped_bit() -> Result {
    is_replaced("damaged", |entry| {
        let mut bytes = fs::read(entry)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(fs::write(entry, bytes)?)
    })
}

fn foreign_entry() -> Result {
    is_replaced("owned by user 1", |entry| Ok(chown(entry, Some(1), None)?))
}

fn writable_entry() -> Result {
    is_replaced("writable by others", |entry| {
        Ok(fs::set_permissions(entry, PermissionsExt::from_mode(0o622))?)
    })
}

fn linked_entry() -> Result {
    is_replaced("symbolic links", |entry| {
        let elsewhere = entry.parent().unwrap_or(entry).with_file_name("elsewhere");
        fs::rename(entry, &elsewhere)?;
        Ok(symlink(elsewhere, entry)?)
    })
}

/// wasmtime compares its version, the processor's features and the settings, all of which it
/// writes into the file.
fn entry_of_another_compiler() -> Result {
    const TRAILER: usize = 32 + 8;
    is_replaced("version", |entry| {
        let mut bytes = fs::read(entry)?;
        let section = b".wasmtime.engine";
        let name = bytes.windows(section.len()).position(|window| window == section);
        name.ok_or("no section of the engine")?;
        // The section starts with its length and the version.
        let version = bytes.windows(3).position(|window| window == b"\x0248" || window == b"48.");
        let version = version.ok_or("no version in the entry")?;
        bytes[version + 1] = b'7';
        let checked = bytes.len() - TRAILER;
        let hash = blake3::hash(&bytes[..checked]);
        bytes[checked..checked + 32].copy_from_slice(hash.as_bytes());
        Ok(fs::write(entry, bytes)?)
    })
}

/// A directory that cannot be used is not used, with one warning.
fn is_done_without(prepare: impl FnOnce(&Path) -> Result) -> Result {
    let cache = Cache::new()?;
    prepare(cache.dir())?;
    for _ in 0..2 {
        let ran = cache.run()?.well()?;
        assert!(ran.compiled);
        assert_eq!(ran.warnings.len(), 1, "{:?}", ran.warnings);
        assert!(ran.warnings[0].contains("cache"), "{:?}", ran.warnings);
    }
    Ok(())
}

fn writable_directory() -> Result {
    is_done_without(|dir| {
        fs::create_dir(dir)?;
        Ok(fs::set_permissions(dir, PermissionsExt::from_mode(0o777))?)
    })
}

fn foreign_directory() -> Result {
    is_done_without(|dir| {
        fs::create_dir(dir)?;
        Ok(chown(dir, Some(1), None)?)
    })
}

fn file_for_a_directory() -> Result {
    is_done_without(|dir| Ok(fs::write(dir, "")?))
}

/// A file system of its own, gone with this value.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(dir: &'a Path, options: &str) -> Result<Self> {
        fs::create_dir(dir)?;
        let mount = Cmd::new("mount").args(["-t", "tmpfs", "-o", options, "disk"]).arg(dir);
        mount.run()?.success()?;
        Ok(Self(dir))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Nothing to report in a destructor: what survives, the audit finds.
        let _ = Cmd::new("umount").arg(self.0).run();
    }
}

fn full_disk() -> Result {
    let cache = Cache::new()?;
    let _disk = Disk::mount(cache.dir(), "size=8k,mode=700")?;
    let ran = cache.run()?.well()?;
    assert!(ran.compiled);
    assert_eq!(ran.warnings.len(), 1, "{:?}", ran.warnings);
    assert!(ran.warnings[0].contains("cache cannot be written"), "{:?}", ran.warnings);
    assert_eq!(cache.files()?, [""; 0]);
    Ok(())
}

fn read_only_disk() -> Result {
    let cache = Cache::new()?;
    let _disk = Disk::mount(cache.dir(), "ro,mode=700")?;
    let ran = cache.run()?.well()?;
    assert_eq!(ran.warnings.len(), 1, "{:?}", ran.warnings);
    assert!(ran.warnings[0].contains("cache cannot be written"), "{:?}", ran.warnings);
    // An entry that is there already is used all the same.
    let remount = |how| Cmd::new("mount").args(["-o", how]).arg(cache.dir()).run()?.success();
    remount("remount,rw")?;
    assert!(cache.run()?.well()?.compiled);
    remount("remount,ro")?;
    let ran = cache.run()?.well()?;
    assert!(!ran.compiled && ran.warnings.is_empty(), "{:?}", ran.warnings);
    Ok(())
}
