//! OCI archives: an image layout in a tar file (image-spec, `image-layout.md`), read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use oci_spec::image::{Descriptor, Digest, ImageIndex};

use super::store::{Blob, Blobs};
use crate::error::{Context, Error, ErrorKind, Result};

/// No image has as many files in its layout.
const MAX_ENTRIES: usize = 100_000;
/// The index names the images of the archive.
const MAX_INDEX_BYTES: u64 = 4 << 20;

/// An archive whose entries are known. Nothing of it is unpacked.
#[derive(Debug)]
pub struct Archive {
    file: File,
    name: String,
    /// Where each file begins, and how long it is.
    entries: HashMap<String, (u64, u64)>,
}

impl Archive {
    /// Reads the table of contents of the archive `file`, which messages call `name`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`]: no tar file, truncated, or with a path that leaves it.
    pub fn open(file: File, name: String) -> Result<Self> {
        let length = file.metadata().os(|| format!("look at {name}"))?.len();
        // The reader's own words quote the bytes that it found.
        let malformed = |_: std::io::Error| {
            Error::invalid(format!(
                "{name} is not a tar archive, or a damaged or compressed one; give an OCI archive"
            ))
        };
        let mut entries = HashMap::new();
        let shared = file.try_clone().os(|| format!("open {name}"))?;
        let mut archive = tar::Archive::new(shared);
        for entry in archive.entries_with_seek().map_err(malformed)? {
            let entry = entry.map_err(malformed)?;
            let path = entry.path().map_err(malformed)?;
            let path = plain(&path).ok_or_else(|| {
                Error::invalid(format!("{name}: entry {path:?} leaves the archive; it is not used"))
            })?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(Error::invalid(format!(
                    "{name} is truncated: its entry {path} needs {size} bytes from {offset} on, and the file has {length}"
                )));
            }
            entries.insert(path, (offset, size));
            if entries.len() > MAX_ENTRIES {
                return Err(Error::invalid(format!("{name} has more than {MAX_ENTRIES} entries")));
            }
        }
        Ok(Self { file, name, entries })
    }

    /// The images in the archive, as its `index.json` lists them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] when this is no OCI archive.
    pub fn images(&self) -> Result<Vec<Descriptor>> {
        let Some(&(offset, size)) = self.entries.get("index.json") else {
            let hint = match self.entries.contains_key("manifest.json") {
                true => "Docker's format; save it with `podman save --format oci-archive`",
                false => "no OCI archive: it has no index.json",
            };
            return Err(Error::invalid(format!("{} is {hint}", self.name)));
        };
        let blob = self.section(offset, size.min(MAX_INDEX_BYTES))?;
        let mut bytes = Vec::new();
        let read = blob.reader().and_then(|mut reader| reader.read_to_end(&mut bytes));
        read.os(|| format!("read {}", self.name))?;
        let index: ImageIndex = serde_json::from_slice(&bytes)
            .context(ErrorKind::InvalidArgument, || {
                format!("{}: index.json is malformed", self.name)
            })?;
        Ok(index.manifests().clone())
    }

    fn section(&self, offset: u64, size: u64) -> Result<Blob> {
        let file = self.file.try_clone().os(|| format!("open {}", self.name))?;
        Ok(Blob { file, offset, size })
    }
}

impl Blobs for Archive {
    fn find(&self, digest: &Digest) -> Result<Blob> {
        let path = format!("blobs/{}/{}", digest.algorithm(), digest.digest());
        let Some(&(offset, size)) = self.entries.get(&path) else {
            return Err(Error::not_found(format!("{}: blob {digest} is missing", self.name)));
        };
        self.section(offset, size)
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A path without `.` and slashes at its ends; none for one that leaves where it is.
pub fn plain(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_archive_is_none() {
        assert_eq!(plain(Path::new("./blobs//sha256/x")), Some("blobs/sha256/x".to_owned()));
        assert_eq!(plain(Path::new("/etc/passwd")), Some("etc/passwd".to_owned()));
        assert_eq!(plain(Path::new("a/../../b")), None);
    }
}
