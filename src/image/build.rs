//! Making images: a wasm file becomes an OCI archive, the same to the byte every time.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, Digest, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, Platform, PlatformBuilder,
    RootFsBuilder,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::Builder;

use super::archive::Archive;
use super::layer::{self, Entry, append};
use super::store::{Blob, Blobs, manifests, read_json, verified};
use super::{CONTAINERD_NAME, REFERENCE, TITLE, canonical_json};
use crate::error::{Context, Error, ErrorKind, Result};

/// The time at which every image was made: the same file is the same image.
const CREATED: &str = "1970-01-01T00:00:00Z";
/// The annotation by which other runtimes know a wasm image.
const VARIANT: &str = "module.wasm.image/variant";
/// The label with the digest of the wasm file.
pub const SOURCE_DIGEST: &str = "runwasm.source.digest";
/// The label with the version of what made the image.
pub const MADE_BY: &str = "runwasm.version";

/// A file that goes into an image.
#[derive(Debug)]
pub struct Source {
    /// Its path there, without slash at the beginning.
    pub path: String,
    /// The file.
    pub file: layer::File,
}

/// An image to be made.
#[derive(Debug)]
pub struct Image {
    /// The wasm file, which is the entrypoint.
    pub program: Source,
    /// What else it holds.
    pub files: Vec<Source>,
    /// `KEY=VALUE`, each a variable of the environment.
    pub env: Vec<String>,
    /// The form.
    pub form: Form,
}

/// The forms of images that hold wasm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An image with a root file system, for the platform `wasi/wasm`.
    RootFs,
    /// An artifact as CNCF lays it out, with its value of `os`.
    Cncf(&'static str),
    /// An artifact as krustlet laid it out.
    Krustlet,
}

/// Blobs by their digests, with what an index says of the images among them.
#[derive(Default)]
struct Layout {
    blobs: BTreeMap<String, Content>,
}

enum Content {
    Bytes(Vec<u8>),
    /// Of another archive.
    Section(Blob),
}

/// Makes `image`, named `name`, together with the images of `others` if there are any, and writes
/// the archive to `output`, which appears when it is complete.
///
/// # Errors
/// When a file cannot be written, or `others` is damaged.
pub fn write(image: Image, name: &str, others: Option<&Archive>, output: &Path) -> Result<()> {
    let mut layout = Layout::default();
    let mut descriptor = match image.form {
        Form::RootFs => layout.add_image(image)?,
        Form::Cncf(_) | Form::Krustlet => layout.add_artifact(image)?,
    };
    if let Some(archive) = others {
        descriptor.set_platform(Some(wasi()));
        let mut all = layout.copy_of(archive)?;
        let platforms: Vec<_> = all.iter().map(Descriptor::platform).cloned().collect();
        if platforms.contains(&Some(wasi())) {
            return Err(Error::invalid(format!(
                "{} has an image for wasi/wasm already",
                archive.name()
            )));
        }
        all.push(descriptor);
        descriptor = layout.add_index(all)?;
    }
    let names = [REFERENCE, CONTAINERD_NAME].map(|key| (key.to_owned(), name.to_owned()));
    descriptor.set_annotations(Some(HashMap::from(names)));
    layout.write(descriptor, output)
}

/// The platform of wasm images, as Docker and podman name it.
fn wasi() -> Platform {
    let mut platform = Platform::default();
    platform.set_architecture(Arch::Wasm).set_os(Os::Other("wasi".to_owned()));
    platform
}

fn labels(program: &[u8]) -> HashMap<String, String> {
    HashMap::from([
        (SOURCE_DIGEST.to_owned(), format!("sha256:{:x}", Sha256::digest(program))),
        (MADE_BY.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ])
}

fn wrong(what: &'static str) -> impl FnOnce() -> String {
    move || format!("make the {what} of an image")
}

impl Layout {
    fn add(&mut self, kind: MediaType, bytes: Vec<u8>) -> Result<Descriptor> {
        let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
        let size = bytes.len() as u64;
        self.blobs.insert(digest.clone(), Content::Bytes(bytes));
        Ok(Descriptor::new(kind, size, digest.parse::<Digest>().os(wrong("digest"))?))
    }

    fn add_image(&mut self, image: Image) -> Result<Descriptor> {
        let program = format!("/{}", image.program.path);
        let labels = labels(&image.program.file.bytes);
        let sources = image.files.into_iter().chain([image.program]);
        let files: BTreeMap<_, _> = sources.map(|source| (source.path, source.file)).collect();
        let layer = self.add(MediaType::ImageLayer, layer::pack(&files)?)?;
        let mut config = ConfigBuilder::default().entrypoint(vec![program]).labels(labels);
        if !image.env.is_empty() {
            config = config.env(image.env);
        }
        let rootfs = RootFsBuilder::default().diff_ids(vec![layer.digest().to_string()]);
        let history = HistoryBuilder::default().created(CREATED).created_by("runwasm image");
        let configuration = ImageConfigurationBuilder::default()
            .created(CREATED)
            .architecture(Arch::Wasm)
            .os(Os::Other("wasi".to_owned()))
            .config(config.build().os(wrong("configuration"))?)
            .rootfs(rootfs.build().os(wrong("configuration"))?)
            .history(vec![history.build().os(wrong("history"))?])
            .build()
            .os(wrong("configuration"))?;
        let config = self.add(MediaType::ImageConfig, canonical_json(&configuration)?)?;
        let variant = HashMap::from([(VARIANT.to_owned(), "compat".to_owned())]);
        self.add_manifest(config, vec![layer], variant)
    }

    fn add_artifact(&mut self, image: Image) -> Result<Descriptor> {
        let labels = labels(&image.program.file.bytes);
        let (config_type, layer_type) = match image.form {
            Form::Krustlet => (
                "application/vnd.wasm.config.v1+json",
                "application/vnd.wasm.content.layer.v1+wasm",
            ),
            _ => ("application/vnd.wasm.config.v0+json", "application/wasm"),
        };
        let mut layers = Vec::new();
        for source in std::iter::once(image.program).chain(image.files) {
            let mut layer = self.add(layer_type.into(), source.file.bytes)?;
            layer.set_annotations(Some(HashMap::from([(TITLE.to_owned(), source.path)])));
            layers.push(layer);
        }
        let digests: Vec<_> = layers.iter().map(|layer| layer.digest().to_string()).collect();
        let config = match image.form {
            Form::Cncf(os) => json!({
                "created": CREATED, "architecture": "wasm", "os": os, "layerDigests": digests,
            }),
            _ => json!({}),
        };
        let config = self.add(config_type.into(), canonical_json(&config)?)?;
        self.add_manifest(config, layers, labels)
    }

    fn add_manifest(
        &mut self,
        config: Descriptor,
        layers: Vec<Descriptor>,
        annotations: HashMap<String, String>,
    ) -> Result<Descriptor> {
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers)
            .annotations(annotations)
            .build()
            .os(wrong("manifest"))?;
        self.add(MediaType::ImageManifest, canonical_json(&manifest)?)
    }

    fn add_index(&mut self, images: Vec<Descriptor>) -> Result<Descriptor> {
        let index = ImageIndexBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageIndex)
            .manifests(images)
            .build()
            .os(wrong("index"))?;
        self.add(MediaType::ImageIndex, canonical_json(&index)?)
    }

    /// Takes over the images of `archive`, each with its platform.
    fn copy_of(&mut self, archive: &Archive) -> Result<Vec<Descriptor>> {
        let mut copied = Vec::new();
        for image in archive.images()? {
            for (mut descriptor, manifest) in manifests(archive, &image)? {
                let blobs = manifest.layers().iter().chain([manifest.config(), &descriptor]);
                for blob in blobs {
                    let content = Content::Section(verified(archive, blob, u64::MAX)?);
                    self.blobs.insert(blob.digest().to_string(), content);
                }
                if descriptor.platform().is_none() {
                    descriptor.set_platform(Some(platform_of(archive, manifest.config())?));
                }
                descriptor.set_annotations(None);
                copied.push(descriptor);
            }
        }
        if copied.is_empty() {
            return Err(Error::invalid(format!("{} holds no image", archive.name())));
        }
        Ok(copied)
    }

    /// Writes the archive beside `output` first, so that no half of one is ever found there.
    fn write(&self, image: Descriptor, output: &Path) -> Result<()> {
        let index = ImageIndexBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageIndex)
            .manifests(vec![image])
            .build()
            .os(wrong("index"))?;
        let mut half = output.as_os_str().to_owned();
        half.push(format!(".{}.tmp", std::process::id()));
        let half = Path::new(&half);
        let written = File::create_new(half)
            .os(|| format!("create {}", half.display()))
            .and_then(|file| self.pack(&canonical_json(&index)?, file))
            .and_then(|()| fs::rename(half, output).os(|| format!("write {}", output.display())));
        if written.is_err() {
            // It may not even be there.
            let _ = fs::remove_file(half);
        }
        written
    }

    fn pack(&self, index: &[u8], file: File) -> Result<()> {
        let mut tar = Builder::new(io::BufWriter::new(file));
        for directory in ["blobs", "blobs/sha256"] {
            append(&mut tar, Entry::directory(Path::new(directory)), io::empty())?;
        }
        for (digest, content) in &self.blobs {
            let path = format!("blobs/{}", digest.replace(':', "/"));
            let size = match content {
                Content::Bytes(bytes) => bytes.len() as u64,
                Content::Section(blob) => blob.size,
            };
            let entry = Entry { path: Path::new(&path), mode: 0o644, size };
            match content {
                Content::Bytes(bytes) => append(&mut tar, entry, bytes.as_slice())?,
                Content::Section(blob) => {
                    append(&mut tar, entry, blob.reader().os(|| format!("read blob {digest}"))?)?;
                }
            }
        }
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        for (path, bytes) in [("index.json", index), ("oci-layout", layout.as_slice())] {
            let entry = Entry { path: Path::new(path), mode: 0o644, size: bytes.len() as u64 };
            append(&mut tar, entry, bytes)?;
        }
        let written = tar.into_inner().and_then(|mut buffer| buffer.flush());
        written.os(|| "write the archive")
    }
}

/// The platform that the configuration of an image names.
fn platform_of(archive: &Archive, config: &Descriptor) -> Result<Platform> {
    let value: serde_json::Value = read_json(archive, config)?;
    let text = |key: &str| value.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let (Some(os), Some(architecture)) = (text("os"), text("architecture")) else {
        return Err(Error::invalid(format!(
            "{}: the configuration {} names no os and architecture",
            archive.name(),
            config.digest()
        )));
    };
    let mut platform =
        PlatformBuilder::default().os(os.as_str()).architecture(architecture.as_str());
    if let Some(variant) = text("variant") {
        platform = platform.variant(variant);
    }
    platform.build().context(ErrorKind::InvalidArgument, wrong("platform"))
}
