//! A container's state directory, `<root>/<id>`: libcontainer's `state.json` and our
//! `runwasm.json`.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use libcontainer::container::{Container as Inner, ContainerStatus, State};
use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::image::wasm::Artifact;
use crate::oci::bundle::{parse, read_limited};
use crate::sys::pidfd::PidFd;

/// The longest container id, in bytes: a directory name.
const MAX_ID: usize = 255;
const RECORD: &str = "runwasm.json";
const SPEC: &str = "config.json";
/// In a state directory: a file that the creating process and those it makes hold open.
pub const CREATING: &str = "creating";
/// The workload of a wasm container in a [`Record`] and in `state`.
pub const WASM: &str = "wasm";
/// The workload of any other container.
pub const LINUX: &str = "linux";

/// What libcontainer's state does not hold. Written before anything is created, so that a
/// `create` that is killed leaves enough to clean up after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// `linux.cgroupsPath` as used.
    pub cgroup_path: PathBuf,
    /// Whether systemd manages the cgroup.
    pub systemd_cgroup: bool,
    /// The root file system on the host.
    pub rootfs: PathBuf,
    /// [`WASM`] or [`LINUX`]; empty until decided.
    #[serde(default)]
    pub workload: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The image that has the program, if the root file system has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Artifact>,
    /// When the init process started, in clock ticks after boot (proc(5)): tells it from a later
    /// process with the same pid.
    #[serde(default)]
    pub init_start_time: Option<u64>,
}

impl Record {
    /// The wasm file that `program` means in the image, if that is an artifact.
    ///
    /// # Errors
    /// As [`Artifact::find`].
    pub fn find_in_image(&self, program: &str) -> Result<Option<(PathBuf, File)>> {
        self.image.as_ref().map_or(Ok(None), |image| image.find(program))
    }
}

/// A container as its state directory describes it.
#[derive(Debug)]
pub struct Container {
    /// libcontainer's state; its `status` is what was last written, see [`Container::status`].
    pub inner: Inner,
    /// Ours.
    pub record: Record,
}

/// The status a container is in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` has not finished.
    Creating,
    /// The process waits for `start`.
    Created,
    /// The process runs.
    Running,
    /// The process is frozen.
    Paused,
    /// The process has ended.
    Stopped,
}

impl Status {
    /// The word of the runtime spec, and runc's `paused`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Container {
    /// Loads the container `id` below `root`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], in the words engines match on, when there is none;
    /// [`ErrorKind::Os`] when its files cannot be read.
    pub fn load(root: &Path, id: &str) -> Result<Self> {
        let dir = directory(root, id)?;
        if !dir.is_dir() {
            return Err(does_not_exist(id));
        }
        let damaged = || {
            format!(
                "state of container {id:?} in {} is damaged; delete it with --force",
                dir.display()
            )
        };
        let state = State::load(&dir).context(ErrorKind::Os, damaged)?;
        let record = Record::load(&dir).context(ErrorKind::Os, damaged)?;
        Ok(Self { inner: Inner { state, root: dir }, record })
    }

    /// Loads the container `id` to change it: until the lock is dropped nobody else does.
    ///
    /// # Errors
    /// As [`Container::load`].
    pub fn load_locked(root: &Path, id: &str) -> Result<(Self, Flock<File>)> {
        let dir = directory(root, id)?;
        let file = File::open(&dir).map_err(|_| does_not_exist(id))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .os(|| format!("lock {}", dir.display()))?;
        // Whoever had the lock may have deleted the container.
        Ok((Self::load(root, id)?, lock))
    }

    /// A handle on the init process, if it is alive. Opened before the check, so that it cannot
    /// be one of a later process with the same pid.
    pub fn open_init(&self) -> Option<PidFd> {
        let handle = PidFd::open(self.inner.state.pid?).ok()?;
        self.init().map(|_| handle)
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.inner.state.id
    }

    /// The init process, if it is alive.
    pub fn init(&self) -> Option<i32> {
        let pid = self.inner.state.pid?;
        let process = ProcessStat::read(pid)?;
        let same = self.record.init_start_time.is_none_or(|time| time == process.start_time);
        (same && !process.ended).then_some(pid)
    }

    /// The status now: what was written last, unless the init process has ended.
    pub fn status(&self) -> Status {
        match (self.inner.state.status, self.init()) {
            (ContainerStatus::Creating, _) => Status::Creating,
            (_, None) | (ContainerStatus::Stopped, _) => Status::Stopped,
            (ContainerStatus::Created, _) => Status::Created,
            (ContainerStatus::Running, _) => Status::Running,
            (ContainerStatus::Paused, _) => Status::Paused,
        }
    }

    /// The spec it was created with.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn spec(&self) -> Result<Spec> {
        let path = self.inner.root.join(SPEC);
        parse(&read_limited(&path)?, &path)
    }

    /// Writes `status` down.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub fn save_status(&mut self, status: ContainerStatus) -> Result<()> {
        self.inner.set_status(status);
        save_state(&self.inner)
    }
}

/// Writes libcontainer's state, whole or not at all: libcontainer itself empties the file first,
/// and somebody may be reading it.
///
/// # Errors
/// When the state directory cannot be written.
pub fn save_state(inner: &Inner) -> Result<()> {
    write_whole(&State::file_path(&inner.root), &inner.state)
}

fn write_whole(path: &Path, value: &impl Serialize) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let text = serde_json::to_vec(value).os(|| format!("encode {}", path.display()))?;
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .os(|| format!("write {}", path.display()))
}

/// Keeps the spec of a container that is being created in its state directory: what happens to
/// the bundle later is no concern of the container's.
///
/// # Errors
/// When the directory cannot be written.
pub fn save_spec(spec: &Spec, dir: &Path) -> Result<()> {
    let path = dir.join(SPEC);
    spec.save(&path).os(|| format!("write {}", path.display()))
}

/// The error for an id without container, in runc's words, which podman and containerd match.
pub fn does_not_exist(id: &str) -> Error {
    Error::not_found(format!("container {id:?} does not exist: container does not exist"))
}

/// The state directory of `id`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when the id could name anything but one directory.
pub fn directory(root: &Path, id: &str) -> Result<PathBuf> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > MAX_ID || id == "." || id == ".." || !id.bytes().all(allowed) {
        let shown: String = id.chars().take(64).collect();
        return Err(Error::invalid(format!(
            "invalid container id {shown:?} of {} bytes: use 1 to {MAX_ID} letters, digits and _ + - .",
            id.len()
        )));
    }
    Ok(root.join(id))
}

/// Claims the state directory of `id` for a new container.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`], in the words engines match on, when it is taken.
pub fn claim(root: &Path, id: &str) -> Result<PathBuf> {
    let dir = directory(root, id)?;
    let builder = |recursive| {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(recursive);
        builder
    };
    builder(true).create(root).os(|| format!("create {}", root.display()))?;
    match builder(false).create(&dir) {
        Ok(()) => Ok(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("container with given ID already exists: {id:?}"),
        )),
        Err(error) => Err(error).os(|| format!("create {}", dir.display())),
    }
}

impl Record {
    fn load(dir: &Path) -> io::Result<Self> {
        let bytes = fs::read(dir.join(RECORD))?;
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    /// Reads the record in `dir`, if there is a whole one: enough to clean up.
    pub fn salvage(dir: &Path) -> Option<Self> {
        Self::load(dir).ok()
    }

    /// Writes the record into `dir`, whole or not at all.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        write_whole(&dir.join(RECORD), self)
    }
}

/// What /proc says of a process.
struct ProcessStat {
    start_time: u64,
    ended: bool,
}

impl ProcessStat {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name may hold spaces; after it come the state and, as field 22, the start.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ended = matches!(*fields.first()?, "Z" | "X" | "x");
        Some(Self { start_time: fields.get(19)?.parse().ok()?, ended })
    }
}

/// When the process `pid` started, in clock ticks after boot.
pub fn start_time(pid: i32) -> Option<u64> {
    ProcessStat::read(pid).map(|stat| stat.start_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_exactly_one_directory() {
        let root = Path::new("/r");
        assert_eq!(directory(root, "a_b+c-d.e").unwrap(), Path::new("/r/a_b+c-d.e"));
        for id in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\n", &"x".repeat(4096)] {
            let error = directory(root, id).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{id:?}");
            assert!(error.to_string().len() < 200, "{error}");
        }
    }

    #[test]
    fn an_id_can_be_claimed_once() {
        let root = tempfile::tempdir().unwrap();
        claim(root.path(), "a").unwrap();
        let error = claim(root.path(), "a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("container with given ID already exists"), "{error}");
    }

    #[test]
    fn this_process_has_a_start_time_and_has_not_ended() {
        let stat = ProcessStat::read(std::process::id() as i32).unwrap();
        assert!(stat.start_time > 0 && !stat.ended);
    }
}
