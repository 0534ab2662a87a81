//! Creating a container: everything up to, and not including, the first instruction of its
//! program.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libcontainer::config::YoukiConfig;
use libcontainer::container::{Container as Inner, ContainerStatus};
use libcontainer::notify_socket::NOTIFY_FILE;
use libcontainer::process::args::ContainerType;
use libcontainer::user_ns::UserNamespaceConfig;
use libcontainer::workload::Executor;
use nix::sys::wait::waitpid;
use oci_spec::runtime::{
    Capabilities, Hook, LinuxCapabilities, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources,
    Process, Spec,
};
use pathrs::Root;

use super::delete::kill_creators;
use super::executor::{Role, Surrounded};
use super::launch::{Console, Launch, launch, write_pid_file};
use super::linux::LinuxExecutor;
use super::state::{
    CREATING, Container, LINUX, Record, WASM, claim, save_spec, save_state, start_time,
};
use super::wasm::WasmExecutor;
use super::without_proc;
use super::{cgroup, cgroup_mounts, checks, hooks, network, propagation, unified};
use crate::config::Sources;
use crate::error::{Context, ErrorKind, Result};
use crate::image::wasm::Artifact;
use crate::oci::bundle::Bundle;
use crate::oci::mounts::{check_mounted, remove_kernel_interfaces};
use crate::oci::rootfs::{Rootfs, normalise};
use crate::oci::workload::{Workload, decide};

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
    /// Where settings come from.
    pub sources: &'a Sources,
    /// The image, if it may be an artifact.
    pub image: Option<Artifact>,
}

/// Creates a container. On failure nothing of it is left.
///
/// # Errors
/// Of every kind; the sentence names the field, the file or the hook.
pub fn create(options: Options<'_>) -> Result<Container> {
    let bundle = Bundle::load(options.bundle)?;
    checks::check(&bundle.spec, &options)?;
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
        image: options.image.clone(),
        init_start_time: None,
    }
}

/// Chooses the executor, and prepares what it runs.
fn choose_executor(
    spec: &mut Spec,
    record: &mut Record,
    role: Role,
    options: &Options<'_>,
) -> Result<Box<dyn Executor>> {
    let mounts = spec.mounts().clone().unwrap_or_default();
    let rootfs = Rootfs::open(&record.rootfs, &mounts)?;
    let decision = decide(spec, &rootfs, &|program| record.find_in_image(program))?;
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
    Ok(Box::new(Surrounded::new(WasmExecutor::new(spec, &file, options.sources)?, role)))
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
    save_state(&inner)?;
    YoukiConfig::from_spec(&spec, options.id)
        .and_then(|config| config.save(dir))
        .os(|| "save the container's hooks")?;

    save_spec(&spec, dir)?;

    let role = Role::Init { hooks: take_start_hooks(&mut spec), state: inner.state.clone().into() };
    let executor = choose_executor(&mut spec, record, role, options)?;
    log::info!("container {:?} runs as {}: {}", options.id, record.workload, record.reason);
    record.save(dir)?;
    make_cwd(&spec, record);
    cgroup_mounts::bind(&mut spec, &record.cgroup_path)?;
    require_capabilities(&mut spec, None);
    let _network = network::prepare(&mut spec)?;
    propagation::name_of_root(&mut spec)?;
    propagation::prepare(&mut spec, record.workload == WASM)?;
    deny_devices(&mut spec);
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    let resources = resources.filter(|_| cgroup::is_v2());
    if let (Some(resources), Some(linux), true) =
        (&resources, spec.linux_mut(), options.systemd_cgroup)
    {
        linux.set_resources(Some(unified::for_systemd(resources)));
    }
    set_oom_score(spec.process().as_ref())?;
    let mounts = spec.mounts().clone().unwrap_or_default();
    let hooks = spec.hooks().clone();
    let pid = launch(Launch {
        container_type: ContainerType::InitContainer,
        user_ns_config: UserNamespaceConfig::new(&spec)
            .context(ErrorKind::InvalidArgument, || "user namespace")?,
        spec,
        executor,
        console: &options.console,
        socket: &dir.join(NOTIFY_FILE),
        inner: &inner,
        record,
        cgroup_path: &record.cgroup_path,
        preserve_fds: options.preserve_fds,
        no_pivot: options.no_pivot,
    })
    .map_err(|error| hooks::name_in(error, hooks.as_ref()))?;
    propagation::apply(pid, &mounts, record.workload == WASM)?;
    if record.workload == WASM {
        check_mounted(pid)?;
    }
    if let Some(resources) = &resources {
        finish_limits(pid, resources, options)?;
    }
    record.init_start_time = start_time(pid);
    record.save(dir)?;
    inner.set_status(ContainerStatus::Created);
    inner.set_creator(nix::unistd::geteuid().as_raw()).set_pid(pid);
    save_state(&inner)?;
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

/// Denies all devices before the rules of the spec, as runc does: on cgroup v1 what no rule
/// mentions is otherwise allowed.
fn deny_devices(spec: &mut Spec) {
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut all = LinuxDeviceCgroup::default();
    all.set_allow(false).set_access(Some("rwm".to_owned())).set_typ(Some(LinuxDeviceType::A));
    let rules = resources.devices().iter().flatten().cloned();
    let rules = std::iter::once(all).chain(rules).collect();
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
}

/// On cgroup v2: what libcontainer did not apply.
fn finish_limits(pid: i32, resources: &LinuxResources, options: &Options<'_>) -> Result<()> {
    let cgroup = unified::cgroup_of(pid)?;
    if options.systemd_cgroup {
        unified::apply(&cgroup, resources)?;
    }
    // Without root there is no right to attach a filter, and none to make devices either.
    if nix::unistd::geteuid().is_root() {
        unified::restrict_devices(&cgroup, resources)
    } else {
        Ok(())
    }
}

/// What the container's process inherits from this one.
///
/// # Errors
/// When this user may not lower the score.
pub fn set_oom_score(process: Option<&Process>) -> Result<()> {
    let Some(score) = process.and_then(Process::oom_score_adj) else {
        return Ok(());
    };
    fs::write("/proc/self/oom_score_adj", score.to_string())
        .context(ErrorKind::Os, || format!("process.oomScoreAdj {score}"))
}

/// Takes back a creation that failed. Its own failures are logged: the cause matters more.
fn clean_up(dir: &Path, record: &Record, id: &str) {
    let cleaned = kill_creators(dir).and_then(|()| {
        let manager = cgroup::manager(record, id)?;
        cgroup::kill_all(&manager)?;
        // The processes are children of this one, and would keep the cgroup as zombies.
        while waitpid(None, None).is_ok() {}
        cgroup::remove(&manager)
    });
    let removed = fs::remove_dir_all(dir).os(|| format!("remove {}", dir.display()));
    for error in [cleaned.err(), removed.err()].into_iter().flatten() {
        log::warn!("cleaning up after the failed creation of {id:?}: {error}");
    }
}
