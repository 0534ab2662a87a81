//! Making a process on libcontainer, for `create` and `exec` alike.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::Container as Inner;
use libcontainer::notify_socket::NotifyListener;
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::tty;
use libcontainer::user_ns::UserNamespaceConfig;
use libcontainer::workload::Executor;
use oci_spec::runtime::Spec;

use super::state::Record;
use super::{cgroup, diagnosis, direct};
use crate::error::{Context, ErrorKind, Result};

/// Where the terminal of a container goes.
#[derive(Debug)]
pub enum Console {
    /// No terminal is expected.
    None,
    /// Its master end is sent to the Unix socket at this path.
    Path(PathBuf),
    /// Its master end is sent over this socket.
    Socket(OwnedFd),
}

/// What a new process is made from.
pub struct Launch<'a> {
    /// The container's first process, or a later one.
    pub container_type: ContainerType,
    /// What it is like.
    pub spec: Spec,
    /// What it becomes.
    pub executor: Box<dyn Executor>,
    /// Where its terminal goes.
    pub console: &'a Console,
    /// The socket on which it waits for its start.
    pub socket: &'a Path,
    /// The container.
    pub inner: &'a Inner,
    /// The container.
    pub record: &'a Record,
    /// The cgroup it joins.
    pub cgroup_path: &'a Path,
    /// The mappings of a user namespace that is to be created.
    pub user_ns_config: Option<UserNamespaceConfig>,
    /// How many descriptors from 3 on its program inherits.
    pub preserve_fds: i32,
    /// Use MS_MOVE and chroot instead of pivot_root.
    pub no_pivot: bool,
}

/// Makes the process, up to where it waits for its start. Returns its pid, a child of this
/// process.
///
/// # Errors
/// What libcontainer's processes report.
pub fn launch(launch: Launch<'_>) -> Result<i32> {
    let Launch { inner, record, .. } = launch;
    let console = match launch.console {
        Console::None => None,
        Console::Socket(socket) => Some(socket.try_clone().os(|| "share the console socket")?),
        Console::Path(path) => Some(connect_console(&inner.root, path)?),
    };
    // Keeps processes of the namespaces that are about to be joined from tracing this one and
    // reaching the host through it. Comes after anything that writes to /proc/self.
    nix::sys::prctl::set_dumpable(false).os(|| "make the process undumpable")?;
    let args = ContainerArgs {
        container_type: launch.container_type,
        syscall: SyscallType::default(),
        rootfs: record.rootfs.clone(),
        console_socket: console.as_ref().map(AsRawFd::as_raw_fd),
        notify_listener: NotifyListener::new(launch.socket).os(|| "bind the start socket")?,
        preserve_fds: launch.preserve_fds,
        container: Some(inner.clone()),
        user_ns_config: launch.user_ns_config,
        cgroup_config: cgroup::config(launch.cgroup_path, record.systemd_cgroup, inner.id()),
        detached: true,
        executor: launch.executor,
        no_pivot: launch.no_pivot,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: false,
        pid_file: None,
        spec: Rc::new(launch.spec),
    };
    diagnosis::start();
    let pid = match direct::can_launch(&args) {
        true => direct::launch(&args)?,
        false => container_main_process(&args).map_err(|error| diagnosis::explain(&error))?,
    };
    Ok(pid.as_raw())
}

/// Connects to the socket that takes a terminal's master end.
fn connect_console(dir: &Path, path: &Path) -> Result<OwnedFd> {
    let path = std::path::absolute(path).os(|| "console socket")?;
    let link = format!("console-{}", std::process::id());
    let socket = tty::setup_console_socket(dir, &path, &link)
        .context(ErrorKind::InvalidArgument, || format!("--console-socket {}", path.display()));
    // libcontainer connects through a link, for the sake of long paths.
    let _ = fs::remove_file(dir.join(link));
    socket
}

/// Writes `pid` to a new or existing file, whole: engines watch for the file and read it at once.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    // One that a killed command left; it must not be followed if it is a link.
    let _ = fs::remove_file(&temporary);
    File::create_new(&temporary)
        .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
        .and_then(|()| fs::rename(&temporary, path))
        .context(ErrorKind::Os, || format!("--pid-file {}", path.display()))
}
