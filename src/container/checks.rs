//! What is checked before anything of a container is created, beyond the bundle itself: what
//! depends on the options and on this host.

use libcontainer::syscall::syscall::create_syscall;
use libcontainer::{apparmor, utils};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::create::Options;
use super::launch::Console;
use super::{cgroup, hooks};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::mounts::is_bind;

/// Checks `spec` and `options` against each other and against this host.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] or [`ErrorKind::Unsupported`], naming the field or the option.
pub fn check(spec: &Spec, options: &Options<'_>) -> Result<()> {
    let process = spec.process().as_ref();
    let terminal = process.and_then(|process| process.terminal()).unwrap_or(false);
    match (terminal, &options.console) {
        (true, Console::None) => {
            return Err(Error::invalid(
                "process.terminal is true and there is no --console-socket to send the terminal to",
            ));
        }
        (false, Console::Path(_)) => {
            return Err(Error::invalid("--console-socket needs process.terminal to be true"));
        }
        _ => {}
    }
    if options.preserve_fds < 0 {
        return Err(Error::invalid(format!("--preserve-fds {} is negative", options.preserve_fds)));
    }
    if let Some(profile) = process.and_then(|p| p.apparmor_profile().as_deref())
        && !profile.is_empty()
        && !apparmor::is_enabled().unwrap_or(false)
    {
        return Err(Error::invalid(format!(
            "process.apparmorProfile is {profile:?}, and AppArmor is not enabled on this host"
        )));
    }
    check_cgroups(options)?;
    check_mount_sources(spec)?;
    check_namespace_paths(spec)?;
    hooks::check(spec)?;
    let syscall = create_syscall();
    utils::validate_spec_for_new_user_ns(spec, &*syscall)
        .context(ErrorKind::InvalidArgument, || "config.json: linux.namespaces")?;
    utils::validate_spec_for_net_devices(spec, &*syscall)
        .context(ErrorKind::InvalidArgument, || "config.json: linux.netDevices")
}

/// libcontainer joins a cgroup in any case, and under cgroup v1 only root may.
fn check_cgroups(options: &Options<'_>) -> Result<()> {
    if options.systemd_cgroup && !libcgroups::systemd::booted() {
        return Err(Error::invalid("--systemd-cgroup: systemd is not running on this host"));
    }
    if !nix::unistd::geteuid().is_root() && !cgroup::is_v2() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "containers of users other than root need cgroup v2, and this host has cgroup v1",
        ));
    }
    Ok(())
}

fn check_namespace_paths(spec: &Spec) -> Result<()> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    for (i, namespace) in namespaces.into_iter().flatten().enumerate() {
        if namespace.typ() == LinuxNamespaceType::Mount && namespace.path().is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "linux.namespaces[{i}]: joining a mount namespace would change its root for all in it; leave path out"
                ),
            ));
        }
        if let Some(path) = namespace.path()
            && !path.exists()
        {
            return Err(Error::invalid(format!(
                "linux.namespaces[{i}]: path {} does not exist: no such file or directory",
                path.display()
            )));
        }
    }
    Ok(())
}

fn check_mount_sources(spec: &Spec) -> Result<()> {
    for (i, mount) in spec.mounts().iter().flatten().enumerate() {
        if is_bind(mount)
            && let Some(source) = mount.source()
            && !source.exists()
        {
            return Err(Error::invalid(format!(
                "mounts[{i}]: source {} does not exist: no such file or directory",
                source.display()
            )));
        }
    }
    Ok(())
}
