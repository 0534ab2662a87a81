//! Mount propagation: libcontainer ignores it in the options of bind mounts, so that a mount the
//! host makes later below a volume's source would show up in the container.

use std::fs::File;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Mount, Spec};

use super::without_proc::add_hook;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::identity;

/// The hidden command that makes mounts private.
pub const PRIVATE_COMMAND: &str = "make-private";

/// Sees to it that all mounts of a wasm container become private where [`apply`] cannot: only root
/// of the host may enter the container's mount namespace and leave it again, so elsewhere a hook
/// does it.
///
/// # Errors
/// As [`add_hook`].
pub fn prepare(spec: &mut Spec, wasm: bool) -> Result<()> {
    if !wasm || identity::is_host_root() {
        return Ok(());
    }
    let rootfs = spec.root().as_ref().map(|root| root.path().display().to_string());
    add_hook(spec, &[PRIVATE_COMMAND.to_owned(), rootfs.unwrap_or_default()])
}

/// Names the propagation of the root as libcontainer wants it, which knows only the names without
/// "r" and always means all mounts (runtime-spec, `config-linux.md`, `rootfsPropagation`). Engines
/// name it "rslave" or "rshared" for a volume with that propagation.
///
/// # Errors
/// When it is none that there is.
pub fn name_of_root(spec: &mut Spec) -> Result<()> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let Some(named) = linux.rootfs_propagation().clone() else { return Ok(()) };
    let name = named.strip_prefix('r').unwrap_or(&named);
    let name = match name {
        "shared" | "slave" | "private" | "unbindable" => Some(name.to_owned()),
        // As with nothing.
        "" => None,
        _ => {
            return Err(Error::invalid(format!(
                "config.json: linux.rootfsPropagation is {named:?}; it must be shared, slave, \
                 private or unbindable, or one of these with an \"r\" before it"
            )));
        }
    };
    linux.set_rootfs_propagation(name);
    Ok(())
}

/// What [`PRIVATE_COMMAND`] does: makes `path` and all mounts below it private.
///
/// # Errors
/// When the kernel refuses.
pub fn make_private(path: &Path) -> Result<()> {
    change(path, MsFlags::MS_PRIVATE | MsFlags::MS_REC)
}

fn change(path: &Path, flags: MsFlags) -> Result<()> {
    mount(None::<&Path>, path, None::<&Path>, flags, None::<&Path>)
        .context(ErrorKind::Os, || format!("propagation of {}", path.display()))
}

/// Sets the propagation that `mounts` ask for in the mount namespace of `pid`. With `private`
/// everything becomes private instead: a procfs that the host mounts below a volume must not reach
/// a wasm guest. For users other than root of the host see [`prepare`].
///
/// # Errors
/// When the namespace cannot be entered, or the kernel refuses.
pub fn apply(pid: i32, mounts: &[Mount], private: bool) -> Result<()> {
    if !identity::is_host_root() {
        return Ok(());
    }
    let changes: Vec<(&Path, MsFlags)> = if private {
        vec![(Path::new("/"), MsFlags::MS_PRIVATE | MsFlags::MS_REC)]
    } else {
        mounts
            .iter()
            .filter_map(|mount| Some((mount.destination().as_path(), flags(mount)?)))
            .collect()
    };
    let ours = namespace("self")?;
    let theirs = namespace(&pid.to_string())?;
    if changes.is_empty() || same(&ours, &theirs)? {
        return Ok(());
    }
    let directory = File::open(".").os(|| "open the working directory");
    setns(theirs, CloneFlags::CLONE_NEWNS).os(|| "enter the container's mount namespace")?;
    let changed = changes.iter().try_for_each(|(path, flags)| change(path, *flags));
    setns(ours, CloneFlags::CLONE_NEWNS).os(|| "return from the container's mount namespace")?;
    // Entering a mount namespace goes to its root. Relative paths of ours are still to be used.
    if let Ok(directory) = directory {
        nix::unistd::fchdir(directory).os(|| "return to the working directory")?;
    }
    changed
}

fn namespace(process: &str) -> Result<File> {
    let path = format!("/proc/{process}/ns/mnt");
    File::open(&path).os(|| format!("open {path}"))
}

fn same(a: &File, b: &File) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let number = |file: &File| file.metadata().map(|meta| meta.ino()).os(|| "look at a namespace");
    Ok(number(a)? == number(b)?)
}

/// The propagation in the options of a mount; the last one counts.
fn flags(mount: &Mount) -> Option<MsFlags> {
    mount.options().iter().flatten().rev().find_map(|option| {
        let (name, recursive) = match option.strip_prefix('r') {
            Some(name) => (name, MsFlags::MS_REC),
            None => (option.as_str(), MsFlags::empty()),
        };
        let typ = match name {
            "private" => MsFlags::MS_PRIVATE,
            "slave" => MsFlags::MS_SLAVE,
            "shared" => MsFlags::MS_SHARED,
            "unbindable" => MsFlags::MS_UNBINDABLE,
            _ => return None,
        };
        Some(typ | recursive)
    })
}
