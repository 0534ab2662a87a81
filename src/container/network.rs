//! A new network namespace gets its loopback interface brought up, as in runc; libcontainer leaves
//! it down.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::without_proc::add_hook;
use crate::error::{Context, Result};
use crate::sys::loopback;

/// The hidden command that brings loopback up.
pub const LOOPBACK_COMMAND: &str = "loopback-up";

/// Sees to it that a network namespace that is to be created has its loopback interface up.
///
/// Usually it is created here and handed on by path; the file that is returned keeps it until the
/// container has joined it. One that is to belong to a user namespace must be created inside that,
/// so there a hook brings the interface up.
///
/// # Errors
/// When the kernel refuses a namespace.
pub fn prepare(spec: &mut Spec) -> Result<Option<File>> {
    let Some(linux) = spec.linux_mut() else {
        return Ok(None);
    };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let in_user_namespace = namespaces.iter().any(|ns| ns.typ() == LinuxNamespaceType::User);
    let is_new = |typ, path: bool| typ == LinuxNamespaceType::Network && !path;
    let Some(network) = namespaces.iter_mut().find(|ns| is_new(ns.typ(), ns.path().is_some()))
    else {
        return Ok(None);
    };
    if in_user_namespace || !geteuid().is_root() {
        add_hook(spec, &[LOOPBACK_COMMAND.to_owned()])?;
        return Ok(None);
    }
    let created = create()?;
    network.set_path(Some(format!("/proc/self/fd/{}", created.as_raw_fd()).into()));
    linux.set_namespaces(Some(namespaces));
    Ok(Some(created))
}

/// Creates a namespace by entering and leaving it.
fn create() -> Result<File> {
    const OWN: &str = "/proc/self/ns/net";
    let ours = File::open(OWN).os(|| format!("open {OWN}"))?;
    unshare(CloneFlags::CLONE_NEWNET).os(|| "create a network namespace")?;
    let created = loopback::bring_up()
        .os(|| "bring up the loopback interface")
        .and_then(|()| File::open(OWN).os(|| format!("open {OWN}")));
    setns(ours, CloneFlags::CLONE_NEWNET).os(|| "return to the host's network namespace")?;
    created
}

/// What [`LOOPBACK_COMMAND`] does.
///
/// # Errors
/// When the kernel refuses.
pub fn loopback_up() -> Result<()> {
    loopback::bring_up().os(|| "bring up the loopback interface")
}
