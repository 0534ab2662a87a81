//! OCI artifacts of wasm: images whose layers are wasm files and not file systems.
//!
//! The forms in use, all found by the type of their layers: CNCF's (configuration
//! `application/vnd.wasm.config.v0+json`, layer `application/wasm`; TAG Runtime, "Wasm OCI
//! Artifact layout"), krustlet's (`application/vnd.wasm.content.layer.v1+wasm`), the Bytecode
//! Alliance's (`application/vnd.bytecodealliance.wasm.component.layer.v0+wasm`) and Istio's
//! (`application/vnd.module.wasm.content.layer.v1+wasm`).

use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde::{Deserialize, Serialize};

use super::TITLE;
use super::store::{Directory, described, manifests, verified};
use crate::error::{Error, Result};

/// The program that means "the only wasm file of the image", as runwasi's users write it.
pub const ANY: &str = "/";
/// More than the compiler takes by default; a setting may make it less.
const MAX_WASM_BYTES: u64 = 4 << 30;

/// A wasm file of an artifact.
#[derive(Debug)]
pub struct Layer {
    /// Its name, if it has one.
    pub title: Option<String>,
    /// The blob.
    pub descriptor: Descriptor,
}

/// The layers of `manifest` that are wasm files.
pub fn layers(manifest: &ImageManifest) -> Vec<Layer> {
    let wasm = manifest.layers().iter().filter(|layer| is_wasm(layer.media_type()));
    wasm.map(|layer| Layer {
        title: layer.annotations().as_ref().and_then(|all| all.get(TITLE).cloned()),
        descriptor: layer.clone(),
    })
    .collect()
}

fn is_wasm(kind: &MediaType) -> bool {
    kind.as_ref() == "application/wasm" || kind.as_ref().ends_with("+wasm")
}

/// An image in a content store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The directory below which its blobs are.
    pub store: PathBuf,
    /// The digest of its manifest or index.
    pub digest: String,
}

impl Artifact {
    /// The wasm file that `program` means, with its path as if it were a file in the root of the
    /// image; none if this is an image without wasm layers. An index is searched for the first
    /// manifest that has some.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::InvalidArgument`] when it has wasm files and `program` names none of them, or
    /// a blob is not what its descriptor says.
    pub fn find(&self, program: &str) -> Result<Option<(PathBuf, File)>> {
        let blobs = Directory(self.store.clone());
        for (_, manifest) in manifests(&blobs, &described(&blobs, &self.digest)?)? {
            let layers = layers(&manifest);
            if layers.is_empty() {
                continue;
            }
            let layer = choose(&layers, program)?;
            let file = verified(&blobs, &layer.descriptor, MAX_WASM_BYTES)?.file;
            let name = match (&layer.title, program) {
                (Some(title), _) => base_name(title),
                (None, ANY) => "module.wasm",
                (None, program) => base_name(program),
            };
            return Ok(Some((Path::new("/").join(name), file)));
        }
        Ok(None)
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The layer titled like `program`. The only one needs no title, and [`ANY`] means it.
fn choose<'a>(layers: &'a [Layer], program: &str) -> Result<&'a Layer> {
    let titled = |layer: &&Layer| layer.title.as_deref().map(base_name) == Some(base_name(program));
    if let Some(layer) = layers.iter().find(titled) {
        return Ok(layer);
    }
    match layers {
        [only] if only.title.is_none() || program == ANY => return Ok(only),
        _ => {}
    }
    let titles: Vec<_> =
        layers.iter().map(|layer| layer.title.as_deref().unwrap_or("(untitled)")).collect();
    Err(Error::invalid(format!(
        "the image is a wasm artifact, and {program:?} names none of its files: {}",
        titles.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use oci_spec::image::Digest;

    use super::*;

    fn layer(title: Option<&str>) -> Layer {
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let descriptor = Descriptor::new("application/wasm".into(), 1, digest);
        Layer { title: title.map(str::to_owned), descriptor }
    }

    #[test]
    fn layers_are_told_apart_by_title() {
        let chosen = |titles: &[Option<&str>], program| {
            let layers: Vec<_> = titles.iter().map(|title| layer(*title)).collect();
            choose(&layers, program).map(|layer| layer.title.clone()).map_err(|e| e.to_string())
        };
        let named = |title: &str| Ok(Some(title.to_owned()));
        let two = [Some("a.wasm"), Some("bin/b.wasm")];
        assert_eq!(chosen(&two, "/b.wasm"), named("bin/b.wasm"));
        assert_eq!(chosen(&two, "a.wasm"), named("a.wasm"));
        assert!(chosen(&two, "/").unwrap_err().contains("a.wasm, bin/b.wasm"));
        assert_eq!(chosen(&[Some("a.wasm")], "/"), named("a.wasm"));
        assert!(chosen(&[Some("a.wasm")], "/b.wasm").is_err());
        assert_eq!(chosen(&[None], "whatever"), Ok(None));
    }
}
