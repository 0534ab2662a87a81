//! One file of the cache: the machine code, what it is for, and a checksum of both.
//!
//! The machine code comes first, as wasmtime maps the file from its start. After it come the
//! description as JSON, its length in four bytes, the checksum of all before it, and [`MAGIC`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

/// Ends every entry; another layout has another.
pub const MAGIC: &[u8; 8] = b"runwasm2";
const HASH: usize = 32;
const LENGTH: usize = 4;
/// What ends every entry.
const TRAILER: usize = LENGTH + HASH + MAGIC.len();
/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 64 << 10;

/// What an entry is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The path of the module when it was compiled.
    pub name: String,
    /// The size of the module, in bytes.
    pub module_size: u64,
    /// The wasmtime that compiled it.
    pub wasmtime: String,
}

/// An entry that is ours, private and undamaged.
pub struct Entry {
    /// The whole file.
    pub file: File,
    /// What it is for.
    pub description: Description,
}

/// Opens and checks an entry.
///
/// # Errors
/// Saying what is wrong with it.
pub fn open(path: &Path) -> io::Result<Entry> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    check_private(&meta)?;
    let checked = meta.len().checked_sub((TRAILER - LENGTH) as u64);
    let checked = checked.ok_or_else(|| io::Error::other("truncated"))?;
    let mut trailer = [0; TRAILER - LENGTH];
    file.read_exact_at(&mut trailer, checked)?;
    let mut hasher = blake3::Hasher::new();
    hash(&mut hasher, &file, checked)?;
    if trailer[..HASH] != *hasher.finalize().as_bytes() || trailer[HASH..] != *MAGIC {
        return Err(io::Error::other("damaged"));
    }
    let description = read_description(&file, checked)?;
    Ok(Entry { file, description })
}

/// Reads the description, which ends with its length at `end`.
fn read_description(file: &File, end: u64) -> io::Result<Description> {
    let damaged = || io::Error::other("without a description");
    let end = end.checked_sub(LENGTH as u64).ok_or_else(damaged)?;
    let mut length = [0; LENGTH];
    file.read_exact_at(&mut length, end)?;
    let length = u32::from_le_bytes(length);
    let start = end.checked_sub(length.into()).ok_or_else(damaged)?;
    let mut text = vec![0; (length as usize).min(MAX_DESCRIPTION)];
    file.read_exact_at(&mut text, start)?;
    serde_json::from_slice(&text).map_err(|_| damaged())
}

/// Writes the machine code in `code` and its description to `path`, and waits until they are on
/// the disk.
///
/// # Errors
/// When the disk is full or cannot be written.
pub fn write(path: &Path, code: &mut File, description: &Description) -> io::Result<()> {
    let mut file = private_file(path)?;
    file.set_len(0)?;
    io::Seek::rewind(code)?;
    let length = io::copy(code, &mut file)?;
    let mut text = serde_json::to_vec(description).map_err(io::Error::other)?;
    text.extend((text.len() as u32).to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hash(&mut hasher, code, length)?;
    hasher.update(&text);
    text.extend(hasher.finalize().as_bytes());
    text.extend(MAGIC);
    file.write_all(&text)?;
    file.sync_data()
}

/// Opens or creates a file that only this user may use.
///
/// # Errors
/// When the directory cannot be written.
pub fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Refuses what is another user's, or what another user could write.
///
/// # Errors
/// Saying which.
pub fn check_private(meta: &fs::Metadata) -> io::Result<()> {
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if owner != geteuid().as_raw() {
        return Err(io::Error::other(format!("owned by user {owner}")));
    }
    if mode & 0o022 != 0 {
        return Err(io::Error::other(format!("writable by others (mode {mode:o})")));
    }
    Ok(())
}

/// Adds the first `length` bytes of `file`.
///
/// # Errors
/// When the file is shorter or cannot be read.
pub fn hash(hasher: &mut blake3::Hasher, file: &File, length: u64) -> io::Result<()> {
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

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::wasm::engine::WASMTIME_VERSION;
    use crate::wasm::memory_file::holding;

    pub fn write_entry(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = dir.join(name);
        let description = Description {
            name: "/app.wasm".to_owned(),
            module_size: 9,
            wasmtime: WASMTIME_VERSION.to_owned(),
        };
        write(&path, &mut holding(content).unwrap(), &description).unwrap();
        path
    }

    #[test]
    fn only_whole_private_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = write_entry(dir.path(), "good", b"code");
        assert_eq!(open(&path).unwrap().description.name, "/app.wasm");

        let bytes = fs::read(&path).unwrap();
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(open(&path).is_err(), "byte {position}");
        }
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(open(&path).is_err(), "{length} bytes");
        }

        let path = write_entry(dir.path(), "shared", b"code");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o620)).unwrap();
        let error = open(&path).err().unwrap().to_string();
        assert!(error.contains("writable by others"), "{error}");

        let link = dir.path().join("link");
        std::os::unix::fs::symlink("good", &link).unwrap();
        assert!(open(&link).is_err());
    }
}
