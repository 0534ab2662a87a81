//! Running another process in a running container: in its namespaces, in its cgroup, under its
//! seccomp filter.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libcontainer::notify_socket::NotifySocket;
use libcontainer::process::args::ContainerType;
use libcontainer::workload::Executor;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Process, Spec};

use super::create::{require_capabilities, set_oom_score};
use super::executor::{Role, Surrounded};
use super::launch::{Console, Launch, launch, write_pid_file};
use super::linux::LinuxExecutor;
use super::state::{Container, Status, WASM};
use super::wasm::WasmExecutor;
use super::without_proc;
use crate::config::Sources;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::bundle::check_process;
use crate::oci::rootfs::Rootfs;
use crate::oci::workload::{Workload, decide_exec};
use crate::sys::pidfd::PidFd;

/// What `exec` takes.
#[derive(Debug)]
pub struct Options<'a> {
    /// What to run.
    pub process: Process,
    /// Where to write its pid.
    pub pid_file: Option<&'a Path>,
    /// Where its terminal goes.
    pub console: Console,
    /// How many descriptors from 3 on it inherits.
    pub preserve_fds: i32,
    /// Whether a paused container will do.
    pub ignore_paused: bool,
    /// A cgroup below the container's to run in.
    pub sub_cgroup: Option<&'a str>,
    /// Where settings come from.
    pub sources: &'a Sources,
}

/// Starts a process in `container` and returns its pid, a child of this process.
///
/// # Errors
/// [`ErrorKind::FailedPrecondition`] when the container does not run, [`ErrorKind::NotFound`] when
/// there is no such program, in the words engines match on.
pub fn exec(container: &Container, options: Options<'_>) -> Result<i32> {
    let init = require_running(container, options.ignore_paused)?;
    check_process(&options.process)?;
    let mut spec = container.spec()?;
    let namespaces = open_namespaces(&spec, init)?;
    // Had it ended, these could be the namespaces of whatever process got its number.
    if container.init() != Some(init) {
        return Err(Error::precondition("cannot exec in a stopped container"));
    }
    let mappings = spec.linux().as_ref().and_then(|linux| linux.gid_mappings().clone());
    let first = spec.process().clone();
    let capabilities = first.as_ref().and_then(|first| first.capabilities().clone());
    adapt(&mut spec, options.process.clone(), &namespaces)?;
    require_capabilities(&mut spec, capabilities);
    if container.record.workload == WASM {
        without_proc::inherit_groups(&mut spec, mappings.as_deref())?;
    }
    let own = options.process.oom_score_adj().is_some();
    set_oom_score(if own { Some(&options.process) } else { first.as_ref() })?;
    let executor = choose_executor(container, &mut spec, init, options.sources)?;
    let dir = &container.inner.root;
    let socket = dir.join(format!("exec-{}.sock", std::process::id()));
    let started = spawn(container, spec, executor, &socket, &options);
    // Each exec has its own start socket; it has served its purpose.
    let _ = fs::remove_file(&socket);
    let pid = started?;
    if let Some(path) = options.pid_file {
        write_pid_file(path, pid)?;
    }
    Ok(pid)
}

fn require_running(container: &Container, ignore_paused: bool) -> Result<i32> {
    match (container.status(), container.init()) {
        (Status::Running, Some(pid)) => Ok(pid),
        (Status::Paused, Some(pid)) if ignore_paused => Ok(pid),
        (Status::Paused, _) => Err(Error::precondition("cannot exec in a paused container")),
        (Status::Created | Status::Creating, _) => Err(Error::precondition(
            "cannot exec in a container that is not started: container not running",
        )),
        _ => Err(Error::precondition("cannot exec in a stopped container")),
    }
}

/// A wasm file in a wasm container runs as wasm. In a Linux container it does not: the guest
/// would find that container's /proc.
fn choose_executor(
    container: &Container,
    spec: &mut Spec,
    init: i32,
    sources: &Sources,
) -> Result<Box<dyn Executor>> {
    let parent = PidFd::open(std::process::id() as i32).os(|| "watch this process")?;
    let role = Role::Exec { parent: parent.into() };
    let linux = |role| Ok(Box::new(Surrounded::new(LinuxExecutor::default(), role)) as _);
    if container.record.workload != WASM {
        return linux(role);
    }
    let process = &spec.process().clone().unwrap_or_default();
    // The link itself would not be followed; the dot behind it makes it a directory.
    let rootfs = Rootfs::open(&PathBuf::from(format!("/proc/{init}/root/.")), &[])?;
    let image = |program: &str| container.record.find_in_image(program);
    let Workload::Wasm(file) = decide_exec(process, &rootfs, &image)?.workload else {
        return linux(role);
    };
    let mut executor = WasmExecutor::new(spec, &file, sources)?;
    // The container's first process has them.
    executor.listen.addresses.0.clear();
    Ok(Box::new(Surrounded::new(executor, role)))
}

/// The namespaces to join, held open: once in the container's user namespace, /proc of the init
/// process may be out of reach.
fn open_namespaces(spec: &Spec, init: i32) -> Result<Vec<(LinuxNamespaceType, File)>> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces
        .into_iter()
        .flatten()
        .map(|namespace| {
            let name = match namespace.typ() {
                LinuxNamespaceType::Mount => "mnt",
                LinuxNamespaceType::Network => "net",
                LinuxNamespaceType::Cgroup => "cgroup",
                LinuxNamespaceType::Uts => "uts",
                LinuxNamespaceType::Ipc => "ipc",
                LinuxNamespaceType::User => "user",
                LinuxNamespaceType::Pid => "pid",
                LinuxNamespaceType::Time => "time",
            };
            let path = format!("/proc/{init}/ns/{name}");
            let file = File::open(&path).os(|| format!("open {path}"))?;
            Ok((namespace.typ(), file))
        })
        .collect()
}

/// Turns the container's spec into that of a process joining it: no mounts or hooks of its own,
/// and the same seccomp filter. libcontainer applies no limits to a process that joins.
fn adapt(
    spec: &mut Spec,
    process: Process,
    namespaces: &[(LinuxNamespaceType, File)],
) -> Result<()> {
    let joined: Vec<LinuxNamespace> = namespaces
        .iter()
        .map(|(typ, file)| {
            LinuxNamespaceBuilder::default()
                .typ(*typ)
                .path(format!("/proc/self/fd/{}", file.as_raw_fd()))
                .build()
                .context(ErrorKind::Os, || "describe a namespace")
        })
        .collect::<Result<_>>()?;
    spec.set_process(Some(process)).set_hooks(None).set_mounts(None);
    if let Some(linux) = spec.linux_mut() {
        linux.set_namespaces(Some(joined));
        linux.set_uid_mappings(None);
        linux.set_gid_mappings(None);
        linux.set_net_devices(None);
        linux.set_time_offsets(None);
    }
    Ok(())
}

fn spawn(
    container: &Container,
    spec: Spec,
    executor: Box<dyn Executor>,
    socket: &Path,
    options: &Options<'_>,
) -> Result<i32> {
    let cgroup_path = match options.sub_cgroup {
        Some(sub) => join_cgroup(&container.record.cgroup_path, sub)?,
        None => container.record.cgroup_path.clone(),
    };
    let (result, result_writer) = pipe2(OFlag::O_CLOEXEC).os(|| "create a pipe")?;
    let exec_notify_fd = result_writer.as_raw_fd();
    let pid = launch(Launch {
        container_type: ContainerType::TenantContainer { exec_notify_fd },
        spec,
        executor,
        console: &options.console,
        socket,
        inner: &container.inner,
        record: &container.record,
        cgroup_path: &cgroup_path,
        // The user namespace, if any, is joined like the others, and its mappings exist.
        user_ns_config: None,
        preserve_fds: options.preserve_fds,
        no_pivot: false,
    })?;
    NotifySocket::new(socket).notify_container_start().os(|| "start the process")?;
    drop(result_writer);
    // Closed by a successful execve; otherwise it carries the reason.
    let mut failure = String::new();
    File::from(result).read_to_string(&mut failure).os(|| "wait for the process to start")?;
    if failure.is_empty() { Ok(pid) } else { Err(Error::invalid(failure)) }
}

fn join_cgroup(base: &Path, sub: &str) -> Result<PathBuf> {
    let relative = sub.trim_start_matches('/');
    if Path::new(relative).components().any(|part| part.as_os_str() == "..") {
        return Err(Error::invalid(format!("--cgroup {sub:?} leaves the container's cgroup")));
    }
    Ok(base.join(relative))
}
