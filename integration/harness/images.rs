//! The images and root directories that `make images` and `make examples` build of the examples.

use std::fs;
use std::path::PathBuf;

use super::bundle::Bundle;
use super::containerd::Server;
use super::podman::podman;
use super::{Result, suite};

/// The OCI archive of an image.
pub fn archive(name: &str) -> Result<PathBuf> {
    built(&format!("images/{name}.tar"))
}

/// A bundle with one file of an example's root directory, which is also its command.
pub fn bundle(name: &str, file: &str) -> Result<Bundle> {
    let bytes = fs::read(built(&format!("rootfs/{name}{file}"))?)?;
    Bundle::empty(&[file])?.file(file, &bytes)
}

fn built(file: &str) -> Result<PathBuf> {
    let file = suite::repository().join("target").join(file);
    match file.exists() {
        true => Ok(file),
        false => Err(format!(
            "{} is missing: run `make images`, or `make examples` for all of them",
            file.display()
        )
        .into()),
    }
}

impl Server {
    /// Imports an image; answers the name it has there.
    pub fn import(&self, name: &str) -> Result<String> {
        let import = self.ctr(["image", "import", "--all-platforms"]).arg(archive(name)?);
        import.run()?.success()?;
        let images = self.ctr(["image", "list", "--quiet"]).run()?.success()?.lines();
        let found = images.iter().find(|image| image.contains(&format!("{name}:")));
        Ok(found.ok_or_else(|| format!("no {name} in {images:?}"))?.clone())
    }
}

/// Loads an image into podman; answers the name it has there.
pub fn load(name: &str) -> Result<String> {
    let loaded = podman(&["load", "--input"])?.arg(archive(name)?).run()?.success()?.text();
    Ok(loaded.trim().rsplit(": ").next().unwrap_or_default().to_owned())
}
