//! Who this process is on the host.

use nix::unistd::geteuid;

/// Whether this is root of the host, and not root of a user namespace as under rootless engines
/// (user_namespaces(7): the initial one maps all ids to themselves).
pub fn is_host_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_whitespace().collect();
    geteuid().is_root() && fields == ["0", "0", "4294967295"]
}
