//! A container's process by a single fork.
//!
//! libcontainer forks twice (`container_main_process`): an intermediate process joins the cgroup
//! and enters the user, time and PID namespaces, and then makes the container's process. Only a
//! user or a time namespace needs it. Without them this process can take its place.

use std::fs::File;

use libcgroups::common::{AnyCgroupManager, CgroupManager, ControllerOpt, create_cgroup_manager};
use libcontainer::hooks::run_hooks;
use libcontainer::namespaces::Namespaces;
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::channel::{
    InitReceiver, InitSender, MainReceiver, MainSender, init_channel, main_channel,
};
use libcontainer::process::container_main_process::ProcessError;
use libcontainer::process::init::container_init_process;
use libcontainer::seccomp::is_notify;
use libcontainer::utils::rootless_required;
use nix::sched::{CloneFlags, setns};
use nix_of_libcontainer::unistd::{Pid, getpid};
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::hierarchies::Cgroup;
use super::{cgroup, diagnosis};
use crate::error::{Context, Error, Result};
use crate::sys::{descriptors, fork, title};

/// What `ps` shows until the process becomes the container's program.
const NAME: &str = "runwasm:init";

/// Whether [`launch`] can make the process: nothing that it asks for takes the intermediate
/// process, or one of libcontainer's conversations with it that cannot be held from outside.
pub fn can_launch(args: &ContainerArgs) -> bool {
    let syscall = args.syscall.create_syscall();
    let takes_more = |linux: &Linux| {
        let namespaces = linux.namespaces().iter().flatten();
        let kinds = [LinuxNamespaceType::User, LinuxNamespaceType::Time];
        namespaces.into_iter().any(|namespace| kinds.contains(&namespace.typ()))
            || linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())
            || linux.seccomp().as_ref().is_some_and(is_notify)
    };
    let process = args.spec.process().as_ref();
    let affinity = process.is_some_and(|process| process.exec_cpu_affinity().is_some());
    // systemd has to be told the process's number on the host.
    !affinity
        && !args.cgroup_config.systemd_cgroup
        && !args.spec.linux().as_ref().is_none_or(takes_more)
        && rootless_required(syscall.as_ref()).is_ok_and(|rootless| !rootless)
}

/// Makes the process, up to where it waits for its start. Returns its pid.
///
/// # Errors
/// What the kernel refuses, a hook's failure, or what the process reports.
pub fn launch(args: &ContainerArgs) -> Result<Pid> {
    let cgroup = cgroup_of_version_1(args);
    if let Some(cgroup) = &cgroup {
        cgroup.make()?;
        // Before the process makes its devices: they are allowed one by one.
        set_limits(args)?;
    }
    let failed = |error: ProcessError| diagnosis::explain(&error);
    let (mut to_main, mut from_init) = main_channel().map_err(|error| failed(error.into()))?;
    let (mut to_init, mut from_main) = init_channel().map_err(|error| failed(error.into()))?;
    let pid = fork_into_pid_namespace(args, || {
        let closed = to_init.close().and_then(|()| from_init.close());
        let made = closed.map_err(|error| error.to_string());
        run(args, cgroup.as_ref(), made, &mut to_main, &mut from_main)
    })?;
    to_main.close().map_err(|error| failed(error.into()))?;
    let pid = Pid::from_raw(pid.as_raw());
    converse(args, pid, &mut to_init, &mut from_init).map_err(failed)?;
    from_main.close().map_err(|error| failed(error.into()))?;
    Ok(pid)
}

/// The cgroup, where there is a faster way to join it than by libcgroups.
fn cgroup_of_version_1(args: &ContainerArgs) -> Option<Cgroup> {
    (!cgroup::is_v2()).then(|| Cgroup::find(&args.cgroup_config.cgroup_path)).flatten()
}

/// Forks, so that the new process is in the PID namespace of the spec and this one stays.
fn fork_into_pid_namespace(
    args: &ContainerArgs,
    child: impl FnOnce() -> i32,
) -> Result<nix::unistd::Pid> {
    let namespaces = args.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let namespaces = Namespaces::try_from(namespaces).os(|| "read linux.namespaces")?;
    let Some(namespace) = namespaces.get(LinuxNamespaceType::Pid).os(|| "linux.namespaces")? else {
        return fork::run_in_child(child).os(|| "fork");
    };
    let own = File::open("/proc/self/ns/pid").os(|| "open the PID namespace")?;
    namespaces.unshare_or_setns(namespace).os(|| "enter the PID namespace")?;
    let pid = fork::run_in_child(child).os(|| "fork");
    // What comes later, hooks above all, belongs to the host.
    setns(own, CloneFlags::CLONE_NEWPID).os(|| "leave the PID namespace")?;
    pid
}

/// What the new process does.
fn run(
    args: &ContainerArgs,
    cgroup: Option<&Cgroup>,
    made: std::result::Result<(), String>,
    to_main: &mut MainSender,
    from_main: &mut InitReceiver,
) -> i32 {
    title::set_name(NAME);
    let made = made
        .and_then(|()| prepare(args, cgroup).map_err(|error| error.to_string()))
        .and_then(|()| {
            container_init_process(args, to_main, from_main).map_err(|error| error.to_string())
        });
    let Err(reason) = made else { return 0 };
    // The other end may be gone; the exit code remains.
    let _ = to_main.exec_failed(reason.clone());
    if let ContainerType::TenantContainer { exec_notify_fd } = args.container_type {
        let _ = descriptors::write_to(exec_notify_fd, reason.as_bytes());
    }
    -1
}

/// Joins the cgroup, and sets what the process passes on to its program.
fn prepare(args: &ContainerArgs, cgroup: Option<&Cgroup>) -> Result<()> {
    match cgroup {
        Some(cgroup) => cgroup.join()?,
        None => {
            let manager = cgroup_manager(args)?;
            manager.add_task(getpid()).map_err(|error| Error::os(error.to_string()))?;
            set_limits(args)?;
        }
    }
    let syscall = args.syscall.create_syscall();
    let process = args.spec.process().as_ref();
    for limit in process.and_then(|process| process.rlimits().as_ref()).into_iter().flatten() {
        syscall.set_rlimit(limit).os(|| format!("process.rlimits: set {}", limit.typ()))?;
    }
    Ok(())
}

/// Sets the limits of a new container's cgroup.
fn set_limits(args: &ContainerArgs) -> Result<()> {
    let resources = args.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let (ContainerType::InitContainer, Some(resources)) = (args.container_type, resources) else {
        return Ok(());
    };
    let limits = ControllerOpt {
        resources,
        freezer_state: None,
        oom_score_adj: None,
        disable_oom_killer: false,
    };
    cgroup_manager(args)?.apply(&limits).map_err(|error| Error::os(error.to_string()))
}

fn cgroup_manager(args: &ContainerArgs) -> Result<AnyCgroupManager> {
    let path = args.cgroup_config.cgroup_path.display();
    create_cgroup_manager(args.cgroup_config.clone()).os(|| format!("cgroup {path}"))
}

/// This process's part of the conversation with the new one: the hooks.
fn converse(
    args: &ContainerArgs,
    pid: Pid,
    to_init: &mut InitSender,
    from_init: &mut MainReceiver,
) -> std::result::Result<(), ProcessError> {
    if let (ContainerType::InitContainer, Some(hooks)) = (args.container_type, args.spec.hooks()) {
        from_init.wait_for_hook_request()?;
        let state = args.container.as_ref().map(|container| &container.state);
        for hooks in [hooks.prestart(), hooks.create_runtime()] {
            run_hooks(hooks.as_ref(), state, None, Some(pid), None)?;
        }
        to_init.hook_done()?;
    }
    to_init.close()?;
    from_init.wait_for_init_ready()?;
    Ok(from_init.close()?)
}
