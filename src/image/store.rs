//! Blobs: found by digest, and checked against it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use oci_spec::image::{Descriptor, Digest, DigestAlgorithm, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::error::{Context, Error, ErrorKind, Result};

/// More than any manifest, index or configuration has.
const MAX_JSON_BYTES: u64 = 4 << 20;
/// Indexes name manifests, and may name indexes.
const MAX_DEPTH: usize = 4;
/// How much is hashed at once.
const CHUNK: usize = 1 << 20;

/// Where the blobs of images are.
pub trait Blobs {
    /// The bytes of the blob `digest`, not checked against it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such blob.
    fn find(&self, digest: &Digest) -> Result<Blob>;

    /// What errors call this place.
    fn name(&self) -> String;
}

/// Where in a file a blob is.
#[derive(Debug)]
pub struct Blob {
    /// The file.
    pub file: File,
    /// Where the blob begins in it, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub size: u64,
}

impl Blob {
    /// A reader of the blob.
    ///
    /// # Errors
    /// When the file cannot be positioned.
    pub fn reader(&self) -> std::io::Result<impl Read + '_> {
        (&self.file).seek(SeekFrom::Start(self.offset))?;
        Ok((&self.file).take(self.size))
    }
}

/// A directory with blobs at `blobs/ALGORITHM/DIGEST`: containerd's content store, or an OCI
/// layout that is not packed.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Blobs for Directory {
    fn find(&self, digest: &Digest) -> Result<Blob> {
        let path = self.0.join("blobs").join(digest.algorithm().as_ref()).join(digest.digest());
        let file = File::open(&path).context(ErrorKind::NotFound, || {
            format!("blob {digest} is missing from {}", self.0.display())
        })?;
        let size = file.metadata().os(|| format!("look at {}", path.display()))?.len();
        Ok(Blob { file, offset: 0, size })
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

/// Finds the blob of `descriptor` and checks size and digest.
///
/// # Errors
/// [`ErrorKind::NotFound`], and [`ErrorKind::InvalidArgument`] when it is not what the descriptor
/// says, or is larger than `limit` bytes.
pub fn verified(blobs: &dyn Blobs, descriptor: &Descriptor, limit: u64) -> Result<Blob> {
    let digest = descriptor.digest();
    let blob = blobs.find(digest)?;
    if blob.size != descriptor.size() {
        return Err(Error::invalid(format!(
            "{}: blob {digest} has {} bytes, and its descriptor says {}",
            blobs.name(),
            blob.size,
            descriptor.size()
        )));
    }
    if blob.size > limit {
        return Err(Error::invalid(format!(
            "{}: blob {digest} has {} bytes, more than the {limit} that are allowed",
            blobs.name(),
            blob.size
        )));
    }
    if *digest.algorithm() != DigestAlgorithm::Sha256 {
        return Err(Error::invalid(format!(
            "{}: digest {digest} is not of sha256, the only kind that is supported",
            blobs.name()
        )));
    }
    let found = sha256_of(blob.reader().os(|| format!("read blob {digest}"))?)
        .os(|| format!("read blob {digest}"))?;
    if found != digest.digest() {
        return Err(Error::invalid(format!(
            "{}: blob {digest} is damaged: its content has the digest sha256:{found}",
            blobs.name()
        )));
    }
    Ok(blob)
}

/// The descriptor of a manifest or index of which only the digest is known.
///
/// # Errors
/// [`ErrorKind::NotFound`], and [`ErrorKind::InvalidArgument`] when it is neither.
pub fn described(blobs: &dyn Blobs, digest: &str) -> Result<Descriptor> {
    let parsed: Digest =
        digest.parse().context(ErrorKind::InvalidArgument, || format!("digest {digest:?}"))?;
    let size = blobs.find(&parsed)?.size;
    let untyped = Descriptor::new(MediaType::ImageManifest, size, parsed);
    // The type of a manifest is an optional field of it; an index is told by what it lists.
    let value: serde_json::Value = read_json(blobs, &untyped)?;
    let mut descriptor = untyped;
    if value.get("manifests").is_some() {
        descriptor.set_media_type(MediaType::ImageIndex);
    }
    Ok(descriptor)
}

/// The bytes of a verified blob.
///
/// # Errors
/// As [`verified`].
pub fn read(blobs: &dyn Blobs, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    let blob = verified(blobs, descriptor, limit)?;
    let mut bytes = Vec::new();
    blob.reader()
        .and_then(|mut reader| reader.read_to_end(&mut bytes))
        .os(|| format!("read blob {}", descriptor.digest()))?;
    Ok(bytes)
}

/// Reads and parses a blob of JSON.
///
/// # Errors
/// As [`verified`], and when it is not what was expected.
pub fn read_json<T: DeserializeOwned>(blobs: &dyn Blobs, descriptor: &Descriptor) -> Result<T> {
    let bytes = read(blobs, descriptor, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).context(ErrorKind::InvalidArgument, || {
        format!("{}: blob {} is malformed", blobs.name(), descriptor.digest())
    })
}

/// The manifests that `descriptor` stands for: itself, or all that an index names.
///
/// # Errors
/// As [`read_json`]; an index may name what is not there, such as the manifests for platforms
/// that were not pulled, and those are left out.
pub fn manifests(
    blobs: &dyn Blobs,
    descriptor: &Descriptor,
) -> Result<Vec<(Descriptor, ImageManifest)>> {
    let mut found = Vec::new();
    collect(blobs, descriptor, 0, &mut found)?;
    Ok(found)
}

fn collect(
    blobs: &dyn Blobs,
    descriptor: &Descriptor,
    depth: usize,
    found: &mut Vec<(Descriptor, ImageManifest)>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid(format!(
            "{}: indexes are nested more than {MAX_DEPTH} deep",
            blobs.name()
        )));
    }
    if !is_index(descriptor.media_type()) {
        found.push((descriptor.clone(), read_json(blobs, descriptor)?));
        return Ok(());
    }
    let index: ImageIndex = read_json(blobs, descriptor)?;
    for descriptor in index.manifests() {
        match collect(blobs, descriptor, depth + 1, found) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

/// Whether this is the type of an index, by its OCI name or by Docker's.
pub fn is_index(kind: &MediaType) -> bool {
    matches!(kind, MediaType::ImageIndex)
        || kind.as_ref() == "application/vnd.docker.distribution.manifest.list.v2+json"
}

/// The digest, as hexadecimal digits, of all that can be read.
///
/// # Errors
/// Those of the reader.
pub fn sha256_of(mut reader: impl Read) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            count => hash.update(chunk.get(..count).unwrap_or_default()),
        }
    }
}
