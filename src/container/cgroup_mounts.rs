//! The container's view of its own cgroups, version 1.
//!
//! libcontainer mounts them writable whatever the spec says: a container's root could allow
//! itself any device. It also finds out what to mount from the process whose number is, on the
//! host, the one that ours has in the container's PID namespace. So each `cgroup` mount becomes
//! what runc makes of it (`libcontainer/rootfs_linux.go`, `mountCgroupV1`): a tmpfs with one bind
//! mount a controller. Named hierarchies are left out, as the container has no cgroup in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use libcgroups::v1::util::list_supported_mount_points;
use oci_spec::runtime::{Mount, MountBuilder, Spec};

use super::cgroup;
use crate::error::{Context, Result};

/// Replaces the `cgroup` mounts of a spec on a host with cgroups of version 1. `path` is where
/// the container's cgroup goes.
///
/// # Errors
/// When the host's cgroup mounts cannot be read.
pub fn bind(spec: &mut Spec, path: &Path) -> Result<()> {
    // Without root the container may have no cgroup of its own, and no right to write to others.
    if cgroup::is_v2() || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let mut mounts = Vec::new();
    for mount in spec.mounts().clone().unwrap_or_default() {
        if mount.typ().as_deref() == Some("cgroup") {
            mounts.extend(replacements(&mount, &sources(path)?)?);
        } else {
            mounts.push(mount);
        }
    }
    spec.set_mounts(Some(mounts));
    Ok(())
}

/// The container's cgroups by the names under which programs look for them: each controller,
/// and each place where several are mounted together.
fn sources(path: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let points = list_supported_mount_points().os(|| "find the mounted cgroup controllers")?;
    let mut sources = BTreeMap::new();
    for (controller, point) in points {
        let source = point.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(name) = point.file_name().and_then(|name| name.to_str()) {
            sources.insert(name.to_owned(), source.clone());
        }
        sources.insert(controller.to_string(), source);
    }
    Ok(sources)
}

fn replacements(mount: &Mount, sources: &BTreeMap<String, PathBuf>) -> Result<Vec<Mount>> {
    let options = mount.options().clone().unwrap_or_default();
    let mut tmpfs: Vec<String> = options.clone();
    // The directories for the controllers are made in it.
    tmpfs.retain(|option| option != "ro");
    tmpfs.push("mode=755".to_owned());
    let mut all = vec![build("tmpfs", Path::new("tmpfs"), mount.destination(), tmpfs)?];
    for (name, source) in sources {
        let options = std::iter::once("bind".to_owned()).chain(options.iter().cloned()).collect();
        all.push(build("bind", source, &mount.destination().join(name), options)?);
    }
    Ok(all)
}

fn build(typ: &str, source: &Path, destination: &Path, options: Vec<String>) -> Result<Mount> {
    MountBuilder::default()
        .typ(typ)
        .source(source)
        .destination(destination)
        .options(options)
        .build()
        .os(|| format!("describe the mount {}", destination.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_controller_keeps_the_options_of_the_mount() {
        let options = ["nosuid", "ro"].map(str::to_owned).to_vec();
        let mount = build("cgroup", Path::new("cgroup"), Path::new("/sys/fs/cgroup"), options);
        let sources = BTreeMap::from([("cpu".to_owned(), PathBuf::from("/sys/fs/cgroup/cpu/c"))]);
        let mounts = replacements(&mount.unwrap(), &sources).unwrap();
        let destinations: Vec<_> = mounts.iter().map(|mount| mount.destination()).collect();
        assert_eq!(destinations, [Path::new("/sys/fs/cgroup"), Path::new("/sys/fs/cgroup/cpu")]);
        assert_eq!(mounts[0].options().as_ref().unwrap(), &["nosuid", "mode=755"]);
        assert_eq!(mounts[1].options().as_ref().unwrap(), &["bind", "nosuid", "ro"]);
        assert_eq!(mounts[1].source().as_deref(), Some(Path::new("/sys/fs/cgroup/cpu/c")));
    }
}
