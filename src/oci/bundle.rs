//! Reading and checking a bundle: `config.json` and the root file system it names.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use libcontainer::validator::Validator;
use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;

use super::mounts::is_bind;
use crate::error::{Context, Error, ErrorKind, Result};

/// More than any engine writes; a larger file is an attack or a mistake.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// A bundle whose `config.json` has been read and checked.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle directory, absolute and free of symlinks.
    pub dir: PathBuf,
    /// Its `config.json`, with `root.path` made absolute.
    pub spec: Spec,
}

impl Bundle {
    /// Reads and checks the bundle in `dir`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] naming the file or the field, what was found and what is
    /// expected.
    pub fn load(dir: &Path) -> Result<Self> {
        let dir = dir
            .canonicalize()
            .context(ErrorKind::InvalidArgument, || format!("bundle {}", dir.display()))?;
        if dir.to_str().is_none() {
            // The state says where the bundle is, and JSON knows only UTF-8.
            return Err(Error::invalid(format!(
                "bundle {dir:?}: the path is not UTF-8; rename it"
            )));
        }
        let mut spec = read_spec(&dir.join("config.json"))?;
        check(&spec)?;
        let root = spec.root().as_ref().map(|r| dir.join(r.path())).unwrap_or_default();
        if !root.is_dir() {
            return Err(Error::invalid(format!(
                "config.json: root.path {} is not a directory",
                root.display()
            )));
        }
        make_sources_absolute(&mut spec, &dir);
        set_default_umask(&mut spec);
        spec.canonicalize_rootfs(&dir)
            .context(ErrorKind::InvalidArgument, || "config.json: root.path")?;
        Ok(Self { dir, spec })
    }
}

/// Sources of bind mounts are "absolute or relative to the bundle" (runtime-spec,
/// `config.md#posix-platform-mounts`).
fn make_sources_absolute(spec: &mut Spec, dir: &Path) {
    let Some(mounts) = spec.mounts_mut() else {
        return;
    };
    for mount in mounts.iter_mut().filter(|mount| is_bind(mount)) {
        let source = mount.source().as_ref().map(|source| dir.join(source));
        mount.set_source(source);
    }
}

/// runc's default, and not what our caller happens to have.
fn set_default_umask(spec: &mut Spec) {
    if let Some(process) = spec.process_mut() {
        let mut user = process.user().clone();
        user.set_umask(user.umask().or(Some(0o022)));
        process.set_user(user);
    }
}

fn read_spec(path: &Path) -> Result<Spec> {
    let spec: Spec = parse(&read_limited(path)?, path)?;
    if !spec.version().starts_with("1.") {
        return Err(Error::invalid(format!(
            "config.json: ociVersion is {:?}, expected 1.x.y",
            spec.version()
        )));
    }
    Ok(spec)
}

/// Decodes JSON.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming `path`, the field, what was found and what is expected.
pub fn parse<T: DeserializeOwned>(json: &[u8], path: &Path) -> Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .context(ErrorKind::InvalidArgument, || path.display().to_string())?;
    let rest = deserializer.end();
    rest.context(ErrorKind::InvalidArgument, || path.display().to_string())?;
    Ok(value)
}

/// Reads a JSON file of bounded size.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when it cannot be read, is no regular file, or is larger than
/// 16 MiB.
pub fn read_limited(path: &Path) -> Result<Vec<u8>> {
    // A FIFO must not block.
    let mut options = File::options();
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .context(ErrorKind::InvalidArgument, || format!("open {}", path.display()))?;
    let meta = file.metadata().os(|| path.display().to_string())?;
    if !meta.is_file() || meta.len() > MAX_CONFIG_BYTES {
        return Err(Error::invalid(format!(
            "{}: {} bytes; expected a regular file of at most 16 MiB",
            path.display(),
            meta.len()
        )));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.take(MAX_CONFIG_BYTES)
        .read_to_end(&mut bytes)
        .context(ErrorKind::InvalidArgument, || format!("read {}", path.display()))?;
    Ok(bytes)
}

fn check(spec: &Spec) -> Result<()> {
    let Some(process) = spec.process() else {
        return Err(missing("process"));
    };
    if spec.root().is_none() {
        return Err(missing("root"));
    }
    if spec.linux().is_none() {
        return Err(missing("linux"));
    }
    check_process(process)?;
    check_mounts(spec)?;
    check_namespaces(spec)?;
    Validator::validate_spec(spec).context(ErrorKind::InvalidArgument, || "config.json")
}

fn missing(field: &str) -> Error {
    Error::invalid(format!("config.json: {field} is missing; a container needs it"))
}

/// Checks what every process needs, of a container or an exec: arguments, an absolute working
/// directory, and no NUL byte where the kernel would cut the string.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming the field.
pub fn check_process(process: &Process) -> Result<()> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(|arg| arg.is_empty()) {
        return Err(Error::invalid(
            "process.args must not be empty: its first entry is the program to run",
        ));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::invalid(format!(
            "process.cwd {:?} must be an absolute path",
            process.cwd().display().to_string()
        )));
    }
    check_rlimits(process)?;
    let env = process.env().as_deref().unwrap_or_default();
    let cwd = process.cwd().to_string_lossy();
    let strings = args.iter().map(|s| ("process.args", s.as_str()));
    let strings = strings.chain(env.iter().map(|s| ("process.env", s.as_str())));
    for (field, text) in strings.chain([("process.cwd", &*cwd)]) {
        if text.contains('\0') {
            return Err(Error::invalid(format!("{field} holds {text:?}, which has a NUL byte")));
        }
    }
    Ok(())
}

/// Of each type there can be one, and its path, if it has one, must be there.
fn check_namespaces(spec: &Spec) -> Result<()> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let mut seen = Vec::new();
    for (i, namespace) in namespaces.unwrap_or_default().iter().enumerate() {
        let typ = namespace.typ();
        if seen.contains(&typ) {
            return Err(Error::invalid(format!(
                "linux.namespaces[{i}]: duplicate namespace {typ}; list each type once"
            )));
        }
        seen.push(typ);
    }
    Ok(())
}

fn check_rlimits(process: &Process) -> Result<()> {
    let mut seen = Vec::new();
    for (i, limit) in process.rlimits().iter().flatten().enumerate() {
        let typ = limit.typ();
        if seen.contains(&typ) {
            return Err(Error::invalid(format!(
                "process.rlimits[{i}]: duplicate {typ}; list each type once"
            )));
        }
        if limit.soft() > limit.hard() {
            return Err(Error::invalid(format!(
                "process.rlimits[{i}]: {typ} has a soft limit of {}, above its hard limit of {}",
                limit.soft(),
                limit.hard()
            )));
        }
        seen.push(typ);
    }
    Ok(())
}

fn check_mounts(spec: &Spec) -> Result<()> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    for (i, mount) in mounts.iter().enumerate() {
        let has_nul = |path: &Path| path.to_string_lossy().contains('\0');
        if has_nul(mount.destination()) || mount.source().as_deref().is_some_and(has_nul) {
            return Err(Error::invalid(format!("mounts[{i}]: a path holds a NUL byte")));
        }
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "mounts[{i}]: id-mapped mounts are not supported; remove uidMappings and gidMappings"
                ),
            ));
        }
    }
    libcontainer::utils::validate_mount_options(mounts)
        .context(ErrorKind::InvalidArgument, || "config.json: mounts")
}
