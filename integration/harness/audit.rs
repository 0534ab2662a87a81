//! What a container or the whole run leaves behind on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use nix::sys::prctl::set_child_subreaper;

use super::{PATIENCE, Result, cgroup, eventually, orphans, procfs, suite};

/// Where the sockets of containerd's shims lie, named by a hash that tells nothing.
const SHIM_SOCKETS: &str = "/run/containerd/s";

static MOUNTS_BEFORE: OnceLock<BTreeSet<String>> = OnceLock::new();
static SOCKETS_BEFORE: OnceLock<Vec<PathBuf>> = OnceLock::new();
static FOREIGN_IDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers how the machine was. Every process that loses its parent from here on becomes
/// our child, so none can hide.
pub fn begin() -> Result {
    set_child_subreaper(true)?;
    orphans::reap_always();
    MOUNTS_BEFORE.get_or_init(|| mounts().into_iter().collect());
    SOCKETS_BEFORE.get_or_init(stale_sockets);
    Ok(())
}

/// Adds an id given by an engine to what [`whole_run`] looks for.
pub fn watch(id: &str) {
    FOREIGN_IDS.lock().expect("no trial panics here").push(id.to_owned());
}

/// Fails if anything of container `id` is left: it is waited for, as ends are asynchronous.
pub fn nothing_left_of(id: &str) -> Result {
    let mut found = Vec::new();
    let gone = eventually("the end of a container", PATIENCE, || {
        found = left_of(id)?;
        Ok(found.is_empty().then_some(()))
    });
    gone.map_err(|_| format!("left of {id}: {found:#?}").into())
}

/// As [`nothing_left_of`], for a container whose shim may live on.
pub fn nothing_left_but_the_shim_of(id: &str) -> Result {
    let mut found = Vec::new();
    let gone = eventually("the end of a container", PATIENCE, || {
        found = left_of(id)?;
        found.retain(|item| !item.contains("/containerd-shim-wasm-v1 "));
        Ok(found.is_empty().then_some(()))
    });
    gone.map_err(|_| format!("left of {id}: {found:#?}").into())
}

fn left_of(id: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for pid in procfs::living()? {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let line = procfs::command_line(pid);
        if (cgroups.contains(id) || line.contains(id)) && procfs::is_living(pid) {
            found.push(format!("process {pid}: {line}"));
        }
    }
    found.extend(mounts().into_iter().filter(|line| line.contains(id)));
    let directories = cgroup::directories_named(id).into_iter().chain(entries_in_run(id));
    found.extend(directories.map(|path| path.display().to_string()));
    Ok(found)
}

/// The trial that comes last: nothing of the whole run is left.
pub fn whole_run() -> Result {
    let mut found = Vec::new();
    let gone = eventually("the end of the run", PATIENCE, || {
        orphans::reap()?;
        found = left_of(&suite::id_prefix())?;
        for id in FOREIGN_IDS.lock().expect("no trial panics here").iter() {
            found.extend(left_of(id)?);
        }
        found.extend(
            descendants()?
                .into_iter()
                .map(|pid| format!("our descendant {pid}: {}", procfs::command_line(pid))),
        );
        found.extend(new_mounts());
        found.extend(new_stale_sockets());
        if suite::dir().exists() {
            found.push(suite::dir().display().to_string());
        }
        Ok(found.is_empty().then_some(()))
    });
    gone.map_err(|_| format!("the run left behind: {found:#?}").into())
}

fn descendants() -> Result<Vec<i32>> {
    let own = std::process::id() as i32;
    let is_ours = |pid: &i32| {
        let mut at = *pid;
        while let Some((_, parent)) = procfs::stat(at) {
            if parent == own {
                return true;
            }
            at = parent;
        }
        false
    };
    Ok(procfs::living()?.into_iter().filter(is_ours).collect())
}

fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Other programs on the machine may mount things meanwhile: ours name us or our directory.
fn new_mounts() -> Vec<String> {
    let before = MOUNTS_BEFORE.get_or_init(BTreeSet::new);
    let is_ours =
        |line: &String| line.contains("runwasm") || line.contains(&*suite::dir().to_string_lossy());
    mounts().into_iter().filter(|line| !before.contains(line) && is_ours(line)).collect()
}

fn new_stale_sockets() -> Vec<String> {
    let before = SOCKETS_BEFORE.get_or_init(Vec::new);
    let new = stale_sockets().into_iter().filter(|path| !before.contains(path));
    new.map(|path| format!("socket without a listener: {}", path.display())).collect()
}

/// Shim sockets nobody listens on. One with a listener belongs to a living shim, which the
/// list of processes shows if it is ours.
fn stale_sockets() -> Vec<PathBuf> {
    let entries = fs::read_dir(SHIM_SOCKETS).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    sockets.map(|entry| entry.path()).filter(|path| UnixStream::connect(path).is_err()).collect()
}

/// State directories that engines and runtimes keep below /run.
fn entries_in_run(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![(PathBuf::from("/run"), 0)];
    while let Some((dir, depth)) = pending.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(id) {
                found.push(entry.path());
            }
            if depth < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

/// Fails if `dir` contains anything.
pub fn is_empty(dir: &Path) -> Result {
    let names: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    if names.is_empty() { Ok(()) } else { Err(format!("left in {dir:?}: {names:?}").into()) }
}
