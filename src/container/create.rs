//! Creating a container: everything up to, and not including, the first instruction of its
//! program.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::config::YoukiConfig;
use libcontainer::container::{Container as Inner, ContainerStatus};
use libcontainer::notify_socket::{NOTIFY_FILE, NotifyListener};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::syscall::syscall::{SyscallType, create_syscall};
use libcontainer::user_ns::UserNamespaceConfig;
use libcontainer::workload::Executor;
use libcontainer::{apparmor, tty, utils};
use nix::sys::wait::waitpid;
use oci_spec::runtime::{Capabilities, Hook, LinuxCapabilities, Spec};
use pathrs::Root;

use super::delete::kill_creators;
use super::executor::{LinuxExecutor, Role, Surrounded, WasmExecutor};
use super::state::{CREATING, Container, LINUX, Record, WASM, claim, start_time};
use super::without_proc::{self, AppArmor};
use super::{cgroup, diagnosis, hooks, network, state};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::bundle::Bundle;
use crate::oci::guest::Guest;
use crate::oci::mounts::{is_bind, remove_kernel_interfaces};
use crate::oci::rootfs::{Rootfs, normalise};
use crate::oci::workload::{Workload, decide};
use crate::sys::title::StringArea;
use crate::wasm::module::prepare;

/// Creates the working directory if the image lacks it, as runc does. One inside a mount, or on a
/// read-only root, cannot be made here, and is reported when it is entered.
fn make_cwd(spec: &Spec, record: &Record) {
    let Some(process) = spec.process() else {
        return;
    };
    let cwd = normalise(process.cwd());
    let mounts = spec.mounts().iter().flatten();
    let mut covered = mounts.map(|mount| normalise(mount.destination()));
    if covered.any(|destination| cwd.starts_with(destination)) {
        return;
    }
    let permissions = fs::Permissions::from_mode(0o755);
    if let Err(error) =
        Root::open(&record.rootfs).and_then(|root| root.mkdir_all(&cwd, &permissions))
    {
        log::info!("process.cwd {}: {error}", cwd.display());
    }
}

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

/// What `create` and `run` take.
#[derive(Debug)]
pub struct Options<'a> {
    /// The directory of all containers' state.
    pub root: &'a Path,
    /// The new container's id.
    pub id: &'a str,
    /// The bundle directory.
    pub bundle: &'a Path,
    /// Where to write the pid of the init process.
    pub pid_file: Option<&'a Path>,
    /// Where the terminal goes.
    pub console: Console,
    /// Use MS_MOVE and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: i32,
    /// Whether systemd manages the cgroup.
    pub systemd_cgroup: bool,
}

/// Creates a container. On failure nothing of it is left.
///
/// # Errors
/// Of every kind; the sentence names the field, the file or the hook.
pub fn create(options: Options<'_>) -> Result<Container> {
    let bundle = Bundle::load(options.bundle)?;
    check(&bundle.spec, &options)?;
    let dir = claim(options.root, options.id)?;
    let mut record = new_record(&bundle, &options);
    let created = record.save(&dir).and_then(|()| build(&dir, bundle, &mut record, &options));
    if created.is_err() {
        clean_up(&dir, &record, options.id);
    }
    created
}

fn new_record(bundle: &Bundle, options: &Options<'_>) -> Record {
    let configured = bundle.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let path = configured.filter(|path| !path.as_os_str().is_empty());
    Record {
        cgroup_path: path
            .unwrap_or_else(|| cgroup::default_path(options.id, options.systemd_cgroup)),
        systemd_cgroup: options.systemd_cgroup,
        rootfs: bundle.spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default(),
        workload: String::new(),
        reason: String::new(),
        init_start_time: None,
    }
}

/// Checks what depends on the options and the host, before anything is created.
fn check(spec: &Spec, options: &Options<'_>) -> Result<()> {
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

/// Chooses the executor, and prepares what it runs.
fn choose_executor(spec: &mut Spec, record: &mut Record, role: Role) -> Result<Box<dyn Executor>> {
    let mounts = spec.mounts().clone().unwrap_or_default();
    let decision = decide(spec, &Rootfs::open(&record.rootfs, &mounts)?)?;
    record.reason = decision.reason;
    let Workload::Wasm(file) = decision.workload else {
        record.workload = LINUX.to_owned();
        return Ok(Box::new(Surrounded::new(LinuxExecutor::default(), role)));
    };
    record.workload = WASM.to_owned();
    remove_kernel_interfaces(spec)?;
    let mappings = spec.linux().as_ref().and_then(|linux| linux.gid_mappings().clone());
    without_proc::inherit_groups(spec, mappings.as_deref())?;
    without_proc::set_sysctls_by_hook(spec)?;
    let apparmor = AppArmor::take(spec)?;
    let process = spec.process().clone().unwrap_or_default();
    let workload = WasmExecutor {
        prepared: prepare(&file)?,
        guest: Guest::new(spec, &process),
        apparmor,
        strings: StringArea::locate(),
    };
    Ok(Box::new(Surrounded::new(workload, role)))
}

fn build(
    dir: &Path,
    bundle: Bundle,
    record: &mut Record,
    options: &Options<'_>,
) -> Result<Container> {
    let Bundle { dir: bundle_dir, mut spec } = bundle;
    // Held by this process and those it makes, until the container's program runs; `delete` finds
    // what a killed creation left by it.
    let _creating =
        File::create(dir.join(CREATING)).os(|| "mark the container as being created")?;
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(record.cgroup_path.clone()));
    }
    let mut inner = Inner::new(options.id, ContainerStatus::Creating, None, &bundle_dir, dir)
        .os(|| "describe the container")?;
    inner.set_systemd(options.systemd_cgroup).set_annotations(spec.annotations().clone());
    inner.save().os(|| "save the container's state")?;
    YoukiConfig::from_spec(&spec, options.id)
        .and_then(|config| config.save(dir))
        .os(|| "save the container's hooks")?;

    let role = Role::Init { hooks: take_start_hooks(&mut spec), state: inner.state.clone().into() };
    let executor = choose_executor(&mut spec, record, role)?;
    log::info!("container {:?} runs as {}: {}", options.id, record.workload, record.reason);
    record.save(dir)?;
    make_cwd(&spec, record);
    require_capabilities(&mut spec, None);
    let _network = network::prepare(&mut spec)?;
    let hooks = spec.hooks().clone();
    let pid = spawn(dir, spec, executor, &inner, record, options)
        .map_err(|error| hooks::name_in(error, hooks.as_ref()))?;
    record.init_start_time = start_time(pid);
    record.save(dir)?;
    inner.set_status(ContainerStatus::Created);
    inner.set_creator(nix::unistd::geteuid().as_raw()).set_pid(pid);
    inner.save().os(|| "save the container's state")?;
    if let Some(path) = options.pid_file {
        write_pid_file(path, pid)?;
    }
    Ok(Container { inner, record: record.clone() })
}

/// Takes the startContainer hooks out of the spec: libcontainer would tell them that the container
/// is still being created.
fn take_start_hooks(spec: &mut Spec) -> Vec<Hook> {
    let Some(mut hooks) = spec.hooks().clone() else {
        return Vec::new();
    };
    let start = hooks.start_container().clone().unwrap_or_default();
    hooks.set_start_container(None);
    spec.set_hooks(Some(hooks));
    start
}

/// A process that lists no capabilities has `fallback`, or none: libcontainer would let it keep
/// all.
pub fn require_capabilities(spec: &mut Spec, fallback: Option<LinuxCapabilities>) {
    let Some(process) = spec.process_mut() else {
        return;
    };
    if process.capabilities().is_none() {
        let mut none = LinuxCapabilities::default();
        let empty = || Some(Capabilities::default());
        none.set_bounding(empty()).set_effective(empty()).set_permitted(empty());
        none.set_inheritable(empty()).set_ambient(empty());
        process.set_capabilities(Some(fallback.unwrap_or(none)));
    }
}

fn spawn(
    dir: &Path,
    spec: Spec,
    executor: Box<dyn Executor>,
    inner: &Inner,
    record: &Record,
    options: &Options<'_>,
) -> Result<i32> {
    let console = match &options.console {
        Console::None => None,
        Console::Socket(socket) => Some(socket.try_clone().os(|| "share the console socket")?),
        Console::Path(path) => Some(connect_console(dir, path)?),
    };
    let user_ns_config =
        UserNamespaceConfig::new(&spec).context(ErrorKind::InvalidArgument, || "user namespace")?;
    adjust_this_process(&spec)?;
    let args = ContainerArgs {
        container_type: ContainerType::InitContainer,
        syscall: SyscallType::default(),
        rootfs: record.rootfs.clone(),
        console_socket: console.as_ref().map(AsRawFd::as_raw_fd),
        notify_listener: NotifyListener::new(&dir.join(NOTIFY_FILE))
            .os(|| "bind the start socket")?,
        preserve_fds: options.preserve_fds,
        container: Some(inner.clone()),
        user_ns_config,
        cgroup_config: cgroup::config(&record.cgroup_path, record.systemd_cgroup, options.id),
        detached: true,
        executor,
        no_pivot: options.no_pivot,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: false,
        pid_file: None,
        spec: Rc::new(spec),
    };
    diagnosis::start();
    container_main_process(&args)
        .map(|pid| pid.as_raw())
        .map_err(|error| diagnosis::explain(&error))
}

/// Connects to the socket that takes a terminal's master end.
///
/// # Errors
/// When nobody listens there.
pub fn connect_console(dir: &Path, path: &Path) -> Result<OwnedFd> {
    let path = std::path::absolute(path).os(|| "console socket")?;
    let link = format!("console-{}", std::process::id());
    let socket = tty::setup_console_socket(dir, &path, &link)
        .context(ErrorKind::InvalidArgument, || format!("--console-socket {}", path.display()));
    // libcontainer connects through a link, for the sake of long paths.
    let _ = fs::remove_file(dir.join(link));
    socket
}

/// What the container's process inherits from this one.
fn adjust_this_process(spec: &Spec) -> Result<()> {
    let process = spec.process().as_ref();
    if let Some(score) = process.and_then(|process| process.oom_score_adj()) {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .context(ErrorKind::Os, || format!("process.oomScoreAdj {score}"))?;
    }
    not_dumpable()
}

/// Keeps processes of the namespaces that are about to be joined from tracing this one and
/// reaching the host through it. Comes after anything that writes to /proc/self.
///
/// # Errors
/// The error of prctl(2).
pub fn not_dumpable() -> Result<()> {
    nix::sys::prctl::set_dumpable(false).os(|| "make the process undumpable")
}

/// Writes `pid` to a new or existing file, whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    // Engines watch for the file and read it at once.
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, pid.to_string())
        .and_then(|()| fs::rename(&temporary, path))
        .context(ErrorKind::Os, || format!("--pid-file {}", path.display()))
}

/// Takes back a creation that failed. Its own failures are logged: the cause matters more.
fn clean_up(dir: &Path, record: &Record, id: &str) {
    let cleaned = kill_creators(dir).and_then(|()| {
        // The processes are children of this one, and would keep the cgroup as zombies.
        while waitpid(None, None).is_ok() {}
        let manager = cgroup::manager(record, id)?;
        cgroup::kill_all(&manager)?;
        cgroup::remove(&manager)
    });
    let removed = fs::remove_dir_all(dir).os(|| format!("remove {}", dir.display()));
    for error in [cleaned.err(), removed.err()].into_iter().flatten() {
        log::warn!("cleaning up after the failed creation of {id:?}: {error}");
    }
}

/// The spec that the container `container` was created with.
///
/// # Errors
/// When its bundle is gone or no longer valid.
pub fn spec_of(container: &state::Container) -> Result<Spec> {
    let mut spec = Bundle::load(&container.inner.state.bundle)?.spec;
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(container.record.cgroup_path.clone()));
    }
    Ok(spec)
}
