//! Layers: tar files of a part of a root file system (image-spec, `layer.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use oci_spec::image::MediaType;
use tar::{Builder, EntryType, Header};

use super::archive::plain;
use crate::error::{Context, Error, ErrorKind, Result};

/// What every wasm file starts with.
const MAGIC: &[u8] = b"\0asm";
/// The most that is looked into, in bytes.
const MAX_WASM_BYTES: u64 = 1 << 30;
/// The bit of a mode that makes it a directory's (S_IFDIR).
const DIRECTORY: u32 = 0o040_000;

/// A file of a layer to be made.
#[derive(Debug, Clone)]
pub struct File {
    /// Whether anyone may execute it.
    pub executable: bool,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Packs files by their paths, without slash at the beginning. Owner is root, the time is 1970,
/// directories are made: equal files are equal bytes.
///
/// # Errors
/// When a path does not fit into a tar file.
pub fn pack(files: &BTreeMap<String, File>) -> Result<Vec<u8>> {
    let directories: BTreeSet<&Path> = files
        .keys()
        .flat_map(|path| Path::new(path).ancestors().skip(1))
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    let mut layer = Builder::new(Vec::new());
    for directory in directories {
        append(&mut layer, Entry::directory(directory), io::empty())?;
    }
    for (path, file) in files {
        let mode = if file.executable { 0o755 } else { 0o644 };
        let entry = Entry { path: Path::new(path), mode, size: file.bytes.len() as u64 };
        append(&mut layer, entry, file.bytes.as_slice())?;
    }
    layer.into_inner().os(|| "pack a layer")
}

/// A file or directory in a tar file, apart from its content.
pub(super) struct Entry<'a> {
    /// Its path; that of a directory ends in a slash.
    pub path: &'a Path,
    /// Its permissions.
    pub mode: u32,
    /// How long it is, in bytes.
    pub size: u64,
}

impl<'a> Entry<'a> {
    /// A directory.
    pub fn directory(path: &'a Path) -> Self {
        Self { path, mode: DIRECTORY | 0o755, size: 0 }
    }
}

/// Adds `entry`, of no time and no owner but root.
pub(super) fn append(
    tar: &mut Builder<impl Write>,
    entry: Entry<'_>,
    content: impl Read,
) -> Result<()> {
    let Entry { path, mode, size } = entry;
    let mut header = Header::new_gnu();
    let kind = if mode & DIRECTORY != 0 { EntryType::Directory } else { EntryType::Regular };
    header.set_entry_type(kind);
    header.set_mode(mode & !DIRECTORY);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    tar.append_data(&mut header, path, content)
        .context(ErrorKind::InvalidArgument, || format!("pack {}", path.display()))
}

/// The wasm files in a layer of the type `kind`, by their paths, with a slash at the beginning.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when the layer is damaged, or packed in a way that is not
/// supported. Messages call it `name`.
pub fn wasm_files(
    layer: impl Read,
    kind: &MediaType,
    name: &str,
) -> Result<Vec<(String, Vec<u8>)>> {
    let layer: Box<dyn Read> = match kind.as_ref() {
        kind if kind.ends_with("gzip") => Box::new(MultiGzDecoder::new(layer)),
        kind if kind.ends_with("zstd") => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{name} is packed with zstd, which inspect does not read; use gzip"),
            ));
        }
        _ => Box::new(layer),
    };
    // The reader's own words quote the bytes that it found.
    let malformed = |_: io::Error| Error::invalid(format!("{name} is no layer, or a damaged one"));
    let mut found = Vec::new();
    let mut total = 0;
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries().map_err(malformed)? {
        let mut entry = entry.map_err(malformed)?;
        let path = entry.path().map_err(malformed)?;
        let path = plain(&path).ok_or_else(|| {
            Error::invalid(format!("{name}: entry {path:?} leaves the image; it is not used"))
        })?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        (&mut entry).take(MAGIC.len() as u64).read_to_end(&mut bytes).map_err(malformed)?;
        if bytes == MAGIC {
            total += entry.size();
            if total > MAX_WASM_BYTES {
                return Err(Error::invalid(format!("{name} has more than 1 GiB of WebAssembly")));
            }
            entry.read_to_end(&mut bytes).map_err(malformed)?;
            found.push((format!("/{path}"), bytes));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        File { executable: true, bytes: bytes.to_vec() }
    }

    #[test]
    fn what_is_packed_is_found_and_always_the_same() {
        let files = BTreeMap::from([
            ("app.wasm".to_owned(), file(b"\0asm....")),
            (format!("{}/text", "long".repeat(40)), file(b"text")),
        ]);
        let layer = pack(&files).unwrap();
        assert_eq!(layer, pack(&files).unwrap());
        let found = wasm_files(layer.as_slice(), &MediaType::ImageLayer, "x").unwrap();
        assert_eq!(found, [("/app.wasm".to_owned(), b"\0asm....".to_vec())]);
        let gzip = wasm_files(layer.as_slice(), &MediaType::ImageLayerGzip, "x").unwrap_err();
        assert!(gzip.to_string().contains("damaged"), "{gzip}");
    }
}
