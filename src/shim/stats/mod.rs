//! A container's resource usage, from its cgroups.

mod v1;
mod v2;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use containerd_shim::protos::protobuf::well_known_types::any::Any;

use crate::error::{Context, Error, Result};
use crate::shim::wire::to_any;

/// The protobuf packages of the messages.
pub(super) const PACKAGE_V1: &str = "io.containerd.cgroups.v1";
pub(super) const PACKAGE_V2: &str = "io.containerd.cgroups.v2";

const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroups of a container.
#[derive(Debug, Clone)]
pub enum Cgroups {
    /// The directory of each v1 controller.
    V1(HashMap<String, PathBuf>),
    /// The directory in the one hierarchy.
    V2(PathBuf),
}

impl Cgroups {
    /// The cgroups in which `pid` is.
    pub fn of_process(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/cgroup");
        let text = std::fs::read_to_string(&path).os(|| format!("read {path}"))?;
        if !Path::new(MOUNT).join("cgroup.controllers").exists() {
            return Ok(Self::V1(v1::directories(&text, Path::new(MOUNT))));
        }
        let line = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let line = line.ok_or_else(|| Error::os(format!("{path} has no line for cgroup v2")))?;
        Ok(Self::V2(Path::new(MOUNT).join(line)))
    }

    /// The usage now, as containerd's message for the version of the cgroups. It can be asked
    /// for as long as the cgroup exists, also when the container has ended.
    pub fn stats(&self) -> Result<Any> {
        match self {
            Self::V1(directories) if directories.values().any(|directory| directory.is_dir()) => {
                to_any(PACKAGE_V1, &v1::metrics(directories))
            }
            Self::V2(directory) if directory.is_dir() => {
                to_any(PACKAGE_V2, &v2::metrics(directory))
            }
            _ => Err(Error::not_found("the container's cgroup is gone")),
        }
    }
}

/// A file's text; files differ between kernels, so a missing one counts as empty.
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &Path) -> u64 {
    u64::from_str(text(path).trim()).unwrap_or_default()
}

/// Reads lines such as `key 42`.
pub(super) fn keyed(path: &Path) -> HashMap<String, u64> {
    let text = text(path);
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn usage_is_told_as_long_as_the_cgroup_exists() {
        let dir = tempfile::tempdir().unwrap();
        let v1 = Cgroups::V1([("memory".to_owned(), dir.path().to_owned())].into());
        let v2 = Cgroups::V2(dir.path().to_owned());
        for cgroups in [&v1, &v2] {
            assert!(cgroups.stats().is_ok());
        }
        drop(dir);
        for cgroups in [v1, v2] {
            assert_eq!(cgroups.stats().unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}
