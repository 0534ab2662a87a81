//! Who this process is on the host.

use std::path::PathBuf;

use nix::unistd::geteuid;

/// Whether this is root of the host, and not root of a user namespace as under rootless engines
/// (user_namespaces(7): the initial one maps all ids to themselves).
pub fn is_host_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_whitespace().collect();
    geteuid().is_root() && fields == ["0", "0", "4294967295"]
}

/// The directory for files of one kind of a user who is not root: `runwasm` in the directory that
/// `variable` names, or in `fallback` of the home directory (XDG Base Directory Specification).
pub fn user_dir(variable: &str, fallback: &str) -> Option<PathBuf> {
    let from = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let base = from(variable).map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(from("HOME")?).join(fallback)))?;
    Some(base.join("runwasm"))
}
