//! Which OCI runtime is tested: `RUNTIME`, a name on PATH or a path, else the one just built.
//!
//! The Linux half of the suite passes with runc too, so it tests the standard and not us.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Result;
use super::command::Cmd;

/// The runtime's binary.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("RUNTIME") {
        None => PathBuf::from(env!("CARGO_BIN_EXE_runwasm")),
        Some(given) if Path::new(&given).components().count() > 1 => PathBuf::from(given),
        Some(name) => find_on_path(Path::new(&name)),
    })
}

fn find_on_path(name: &Path) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("RUNTIME={} is not on PATH", name.display()))
}

/// The directory where containerd looks for the shim: beside our runtime.
pub fn shim_dir() -> Result<&'static Path> {
    let dir = path().parent().ok_or("the runtime's path has no directory")?;
    if dir.join("containerd-shim-wasm-v1").is_file() {
        return Ok(dir);
    }
    let built = Path::new(env!("CARGO_BIN_EXE_containerd-shim-wasm-v1"));
    Ok(built.parent().ok_or("the shim's path has no directory")?)
}

/// Whether the runtime is ours: only then the wasm half of the suite applies.
pub fn is_ours() -> bool {
    path().file_name().is_some_and(|name| name == "runwasm")
}

/// A command of the runtime.
pub fn cmd() -> Cmd {
    Cmd::new(path())
}
