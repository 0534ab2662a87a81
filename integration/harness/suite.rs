//! The one directory everything is written to, and the names of containers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Result;

/// The directory of this run. Its name is short: a socket's path has 108 bytes at most.
pub fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("runwasm-it-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("the temporary directory is writable");
        // Rootless trials reach their bundles through this directory as another user.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).expect("own directory");
        dir
    })
}

/// What every container id of this run starts with, so that the audit finds what is ours.
pub fn id_prefix() -> String {
    format!("it{}-", std::process::id())
}

/// A container id nobody else uses. The number has a fixed width: no id is part of another.
pub fn unique_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}{:05}", id_prefix(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A new directory in [`dir`], for the trial's own files.
pub fn new_dir(name: &str) -> Result<PathBuf> {
    let dir = dir().join(format!("{}-{name}", unique_id()));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// The repository's root, where examples and built images lie.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Removes [`dir`] at the end of the run.
pub fn remove() {
    // What cannot be removed, such as a mount point, the audit reports.
    let _ = fs::remove_dir_all(dir());
}
