//! Steps of libcontainer that need /proc inside the container, done another way for wasm
//! containers, which have none.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, setgroups};
use oci_spec::runtime::{HookBuilder, HooksBuilder, LinuxIdMapping, Spec};

use crate::error::{Context, Error, ErrorKind, Result};

/// The hidden command that sets kernel parameters.
pub const SYSCTL_COMMAND: &str = "set-sysctls";

/// Takes the supplementary groups out of the spec and sets them on this process, from which the
/// container inherits them. `mappings` are those of the container's user namespace, if it has one.
///
/// # Errors
/// When a group is not mapped, or this user may not set groups.
pub fn inherit_groups(spec: &mut Spec, mappings: Option<&[LinuxIdMapping]>) -> Result<()> {
    let Some(process) = spec.process_mut() else {
        return Ok(());
    };
    let mut user = process.user().clone();
    let groups = user.additional_gids().clone().unwrap_or_default();
    if groups.is_empty() {
        return Ok(());
    }
    let groups = groups
        .into_iter()
        .map(|gid| on_host(gid, mappings))
        .collect::<Option<Vec<Gid>>>()
        .ok_or_else(|| {
            Error::invalid("process.user.additionalGids holds a group that is not mapped")
        })?;
    setgroups(&groups).context(ErrorKind::Os, || "process.user.additionalGids")?;
    user.set_additional_gids(None);
    process.set_user(user);
    Ok(())
}

fn on_host(gid: u32, mappings: Option<&[LinuxIdMapping]>) -> Option<Gid> {
    let Some(mappings) = mappings.filter(|mappings| !mappings.is_empty()) else {
        return Some(Gid::from_raw(gid));
    };
    mappings.iter().find_map(|mapping| {
        let offset = gid.checked_sub(mapping.container_id())?;
        (offset < mapping.size()).then(|| Gid::from_raw(mapping.host_id() + offset))
    })
}

/// Takes the kernel parameters out of the spec and has them set by a hook.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming a parameter that this kernel does not have.
pub fn set_sysctls_by_hook(spec: &mut Spec) -> Result<()> {
    let Some(linux) = spec.linux_mut() else {
        return Ok(());
    };
    let sysctls = linux.sysctl().clone().unwrap_or_default();
    linux.set_sysctl(None);
    if sysctls.is_empty() {
        return Ok(());
    }
    if let Some(name) = sysctls.keys().find(|name| !sysctl_path(name).exists()) {
        return Err(Error::invalid(format!("linux.sysctl: this kernel has no parameter {name:?}")));
    }
    let mut args = vec![SYSCTL_COMMAND.to_owned()];
    args.extend(sysctls.iter().map(|(name, value)| format!("{name}={value}")));
    add_hook(spec, &args)
}

/// Has a hidden command of this binary run as the first createContainer hook: in the container's
/// namespaces, as root, while the host's /proc is still there.
///
/// # Errors
/// Cannot fail in practice; the spec's builders want it.
pub fn add_hook(spec: &mut Spec, command: &[String]) -> Result<()> {
    let hook = HookBuilder::default()
        .path("/proc/self/exe")
        .args([&[env!("CARGO_PKG_NAME").to_owned()], command].concat())
        .build()
        .os(|| "describe a hook")?;
    let mut hooks = match spec.hooks() {
        Some(hooks) => hooks.clone(),
        None => HooksBuilder::default().build().os(|| "describe hooks")?,
    };
    let mut create_container = hooks.create_container().clone().unwrap_or_default();
    create_container.insert(0, hook);
    hooks.set_create_container(Some(create_container));
    spec.set_hooks(Some(hooks));
    Ok(())
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// Sets `parameters`, each `name=value`, in the namespaces of this process.
///
/// # Errors
/// Naming the parameter that the kernel does not know or refuses.
pub fn set_sysctls(parameters: &[String]) -> Result<()> {
    for parameter in parameters {
        let (name, value) = parameter
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("{parameter:?} is not name=value")))?;
        let path = sysctl_path(name);
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .context(ErrorKind::InvalidArgument, || format!("linux.sysctl {name}={value}"))?;
    }
    Ok(())
}

/// An AppArmor profile to enter without execve, at which it would otherwise take effect.
#[derive(Debug, Clone)]
pub struct AppArmor {
    profile: String,
    /// The host's /proc, since the container has none. Shared by clones; closed with all other
    /// descriptors before the guest runs.
    proc: std::rc::Rc<std::os::fd::OwnedFd>,
}

impl AppArmor {
    /// Takes the profile out of the spec. `None` if there is none.
    ///
    /// # Errors
    /// When /proc cannot be opened.
    pub fn take(spec: &mut Spec) -> Result<Option<Self>> {
        let Some(process) = spec.process_mut() else {
            return Ok(None);
        };
        let profile = process.apparmor_profile().clone().filter(|profile| !profile.is_empty());
        process.set_apparmor_profile(None);
        let Some(profile) = profile else {
            return Ok(None);
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open("/proc", flags, Mode::empty()).os(|| "open /proc")?;
        Ok(Some(Self { profile, proc: proc.into() }))
    }

    /// Enters the profile (`changeprofile`, apparmor(7)).
    ///
    /// # Errors
    /// When AppArmor does not know or allow the profile.
    pub fn enter(&self) -> Result<()> {
        let paths = ["thread-self/attr/apparmor/current", "thread-self/attr/current"];
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let attribute = paths
            .iter()
            .find_map(|&path| openat(&*self.proc, path, flags, Mode::empty()).ok())
            .ok_or_else(|| Error::os("process.apparmorProfile: this kernel has no AppArmor"))?;
        let command = format!("changeprofile {}", self.profile);
        let entered = File::from(attribute).write_all(command.as_bytes());
        entered.os(|| format!("process.apparmorProfile {:?}", self.profile))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxIdMappingBuilder;

    #[test]
    fn groups_are_mapped_to_the_host() {
        let mapping = LinuxIdMappingBuilder::default()
            .container_id(0u32)
            .host_id(100_000u32)
            .size(10u32)
            .build()
            .unwrap();
        assert_eq!(on_host(5, Some(&[mapping])), Some(Gid::from_raw(100_005)));
        assert_eq!(on_host(10, Some(&[mapping])), None);
        assert_eq!(on_host(10, None), Some(Gid::from_raw(10)));
    }

    #[test]
    fn sysctls_become_the_first_create_container_hook() {
        let mut spec = Spec::default();
        let sysctl = [("net.core.somaxconn".to_owned(), "7".to_owned())].into();
        spec.linux_mut().as_mut().unwrap().set_sysctl(Some(sysctl));
        set_sysctls_by_hook(&mut spec).unwrap();
        let hooks = spec.hooks().as_ref().unwrap().create_container().as_ref().unwrap();
        let args = hooks[0].args().as_ref().unwrap();
        assert_eq!(args[1..], ["set-sysctls", "net.core.somaxconn=7"]);
        assert_eq!(spec.linux().as_ref().unwrap().sysctl(), &None);
    }
}
