//! OCI images as files: archives, content stores, layers, and the images that hold wasm.
//!
//! Knows the image specification, and neither wasmtime nor containers.

pub mod archive;
pub mod build;
pub mod layer;
pub mod store;
pub mod wasm;

use std::collections::HashMap;

use serde::Serialize;

use crate::error::{Context, Result};

/// The name of an image, in the index of an archive (image-spec, `annotations.md`).
pub const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// The same where containerd looks for it first.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The name of a layer that is a file.
pub const TITLE: &str = "org.opencontainers.image.title";

/// Annotations of a descriptor or a manifest.
pub type Annotations = HashMap<String, String>;

/// JSON whose members are in the order of their names: equal values are equal bytes.
///
/// # Errors
/// When `value` has no form in JSON.
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>> {
    // The map of a `Value` is sorted, the ones of the image types are not.
    let sorted = serde_json::to_value(value).os(|| "encode JSON")?;
    serde_json::to_vec(&sorted).os(|| "encode JSON")
}
