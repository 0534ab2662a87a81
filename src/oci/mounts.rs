//! The mounts of a wasm container: kernel interfaces stay out.
//!
//! A guest with `/` preopened that finds a procfs opens `/proc/self/mem` and writes its host
//! process, machine code included: WASI path resolution crosses mount points and follows the
//! plain symlink `/proc/self`. So no file system through which the kernel is controlled or
//! observed is mounted, and none may come in by a bind mount.

use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;
use oci_spec::runtime::{Mount, Spec};

use super::rootfs::normalise;
use crate::error::{Context, Error, Result};

/// File system types that are interfaces of the kernel rather than storage, as the spec and
/// mountinfo name them.
const KERNEL_TYPES: [&str; 20] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "bpf",
    "pstore",
    "efivarfs",
    "fusectl",
    "binfmt_misc",
    "selinuxfs",
    "nsfs",
    "devtmpfs",
    "binder",
    "smackfs",
    "resctrl",
    "rpc_pipefs",
];

/// The same by the magic number that statfs(2) reports (linux/magic.h), for bind mounts.
const KERNEL_MAGICS: [(i64, &str); 20] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6265_6570, "configfs"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0x6573_5543, "fusectl"),
    (0x4249_4e4d, "binfmt_misc"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x6e73_6673, "nsfs"),
    (0x6c6f_6f70, "binder"),
    (0x4341_5d53, "smackfs"),
    (0x0765_5821, "resctrl"),
    (0x6759_6969, "rpc_pipefs"),
    (0x5049_5045, "pipefs"),
];

/// Whether `mount` is a bind mount (runtime-spec, `config.md#mounts`).
pub fn is_bind(mount: &Mount) -> bool {
    let by_option =
        mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
    by_option || mount.typ().as_deref() == Some("bind")
}

/// Takes the kernel's interfaces out of a wasm container's spec: their mounts, and the masked
/// and read-only paths inside them.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming a bind mount whose source is, or recursively holds, a
/// kernel interface.
pub fn remove_kernel_interfaces(spec: &mut Spec) -> Result<()> {
    let mountinfo = mountinfo("self")?;
    let root = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    // libcontainer binds the root file system recursively.
    if let Some((point, typ)) = kernel_mount_below(&root, &mountinfo) {
        return Err(Error::invalid(format!(
            "root.path {} holds the {typ} mount {point}, and a wasm container gets no kernel interfaces; unmount it",
            root.display()
        )));
    }
    let mounts = spec.mounts().clone().unwrap_or_default();
    let mut removed: Vec<PathBuf> = Vec::new();
    let mut kept = Vec::with_capacity(mounts.len());
    for (i, mount) in mounts.into_iter().enumerate() {
        let destination = normalise(mount.destination());
        // The type first: libcontainer goes by it, whatever the options say.
        let by_type = mount.typ().as_deref().is_some_and(|typ| KERNEL_TYPES.contains(&typ));
        if by_type || (is_bind(&mount) && is_usual_place(&mount)) {
            removed.push(destination);
            continue;
        }
        if is_bind(&mount) {
            check_bind_source(i, &mount, &mountinfo)?;
        }
        check_layers(i, &mount)?;
        // What would be mounted inside a removed mount goes with it (a cgroup mount below /sys).
        if removed.iter().any(|gone| destination.starts_with(gone)) && !is_bind(&mount) {
            continue;
        }
        kept.push(mount);
    }
    spec.set_mounts(Some(kept));
    if let Some(linux) = spec.linux_mut() {
        let outside = |paths: &Option<Vec<String>>| {
            paths.as_ref().map(|paths| {
                let inside =
                    |path: &String| removed.iter().any(|gone| Path::new(path).starts_with(gone));
                paths.iter().filter(|path| !inside(path)).cloned().collect()
            })
        };
        let masked = outside(linux.masked_paths());
        let readonly = outside(linux.readonly_paths());
        linux.set_masked_paths(masked);
        linux.set_readonly_paths(readonly);
    }
    Ok(())
}

/// Reads mountinfo of a process; a name that is not UTF-8 is no reason to fail.
fn mountinfo(process: &str) -> Result<String> {
    let path = format!("/proc/{process}/mountinfo");
    let bytes = std::fs::read(&path).os(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last look, at what was really mounted: sources can be exchanged after they were checked,
/// and not every file system tells its name to statfs(2).
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming a kernel interface in the mount namespace of `pid`.
pub fn check_mounted(pid: i32) -> Result<()> {
    match kernel_mount_below(Path::new("/"), &mountinfo(&pid.to_string())?) {
        None => Ok(()),
        Some((point, typ)) => Err(Error::invalid(format!(
            "the {typ} file system is mounted on {point} in the container, and a wasm container gets no kernel interfaces"
        ))),
    }
}

/// The layers of an overlay must not lie on a kernel interface either.
fn check_layers(index: usize, mount: &Mount) -> Result<()> {
    let layers = mount.options().iter().flatten().filter_map(|option| {
        ["lowerdir=", "upperdir="].iter().find_map(|name| option.strip_prefix(name))
    });
    for layer in layers.flat_map(|layers| layers.split(':')).filter(|layer| !layer.is_empty()) {
        if let Some(name) = kernel_interface(Path::new(layer)) {
            return Err(Error::invalid(format!(
                "mounts[{index}]: layer {layer} lies on {name}, and a wasm container gets no kernel interfaces"
            )));
        }
    }
    Ok(())
}

/// The name of the kernel interface on which `path` lies, if it does.
fn kernel_interface(path: &Path) -> Option<&'static str> {
    let magic = statfs(path).ok()?.filesystem_type().0 as i64;
    KERNEL_MAGICS.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// Whether a bind mount stands for the mount of the kernel's interface that it would replace:
/// `/sys` on `/sys`, as rootless specs have it.
fn is_usual_place(mount: &Mount) -> bool {
    let usual = [Path::new("/proc"), Path::new("/sys")];
    let destination = normalise(mount.destination());
    usual.contains(&destination.as_path()) && mount.source().as_deref() == Some(&destination)
}

fn check_bind_source(index: usize, mount: &Mount, mountinfo: &str) -> Result<()> {
    let Some(source) = mount.source() else {
        return Ok(());
    };
    let refuse = |what: String| {
        Err(Error::invalid(format!(
            "mounts[{index}]: {what}, and a wasm container gets no kernel interfaces; remove the mount of {}",
            mount.destination().display()
        )))
    };
    // libcontainer reports a source that does not exist.
    let Ok(source) = source.canonicalize() else {
        return Ok(());
    };
    if let Some(name) = kernel_interface(&source) {
        return refuse(format!("source {} lies on {name}", source.display()));
    }
    let recursive = mount.options().iter().flatten().any(|option| option == "rbind");
    if recursive && let Some((point, typ)) = kernel_mount_below(&source, mountinfo) {
        return refuse(format!("source {} holds the {typ} mount {point}", source.display()));
    }
    Ok(())
}

/// The first kernel interface that is mounted below `dir`, with its type (proc(5), mountinfo).
fn kernel_mount_below(dir: &Path, mountinfo: &str) -> Option<(String, String)> {
    mountinfo.lines().find_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let typ = rest.split(' ').next()?;
        // A single device, bound from the host's /dev where mknod(2) is not allowed.
        let device = typ == "devtmpfs" && root != "/";
        (KERNEL_TYPES.contains(&typ) && !device && Path::new(&unescape(point)).starts_with(dir))
            .then(|| (unescape(point), typ.to_owned()))
    })
}

/// mountinfo writes space, tab, newline and backslash as octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn bind(source: &str, option: &str) -> Mount {
        MountBuilder::default()
            .destination("/x")
            .source(source)
            .options(vec![option.to_owned()])
            .build()
            .unwrap()
    }

    #[test]
    fn the_default_spec_loses_its_kernel_mounts_and_the_paths_inside_them() {
        let mut spec = Spec::default();
        remove_kernel_interfaces(&mut spec).unwrap();
        let left: Vec<_> =
            spec.mounts().iter().flatten().map(|m| m.destination().clone()).collect();
        assert!(left.iter().all(|d| !d.starts_with("/proc") && !d.starts_with("/sys")), "{left:?}");
        assert!(left.contains(&PathBuf::from("/dev")), "{left:?}");
        let linux = spec.linux().as_ref().unwrap();
        let paths = linux.masked_paths().iter().chain(linux.readonly_paths()).flatten();
        assert_eq!(paths.filter(|p| p.starts_with("/proc") || p.starts_with("/sys")).count(), 0);
    }

    #[test]
    fn a_bind_mount_of_a_kernel_interface_is_refused_by_name() {
        for source in ["/proc", "/proc/self", "/sys/kernel"] {
            let mut spec = Spec::default();
            spec.set_mounts(Some(vec![bind(source, "bind")]));
            let error = remove_kernel_interfaces(&mut spec).unwrap_err().to_string();
            assert!(error.contains("mounts[0]") && error.contains("/x"), "{error}");
        }
    }

    #[test]
    fn a_bind_mount_of_sys_on_sys_is_left_out_like_the_mount_it_stands_for() {
        let mut mount = bind("/sys", "rbind");
        mount.set_destination("/sys".into());
        let mut spec = Spec::default();
        spec.set_mounts(Some(vec![mount]));
        remove_kernel_interfaces(&mut spec).unwrap();
        assert_eq!(spec.mounts().as_deref(), Some(&[][..]));
    }

    #[test]
    fn a_recursive_bind_of_a_tree_that_holds_procfs_is_refused() {
        let mut spec = Spec::default();
        spec.set_mounts(Some(vec![bind("/", "rbind")]));
        let error = remove_kernel_interfaces(&mut spec).unwrap_err().to_string();
        assert!(error.contains("mounts[0]"), "{error}");
        spec.set_mounts(Some(vec![bind("/", "bind")]));
        remove_kernel_interfaces(&mut spec).unwrap();
    }
}
