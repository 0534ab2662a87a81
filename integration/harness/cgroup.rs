//! The cgroup of a process, on version 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PATIENCE, Result, eventually};

const MOUNT: &str = "/sys/fs/cgroup";

/// The value of a limit for `pid`: `v1` is a file of the version 1 controller whose name it
/// starts with, `v2` a file of the unified hierarchy.
pub fn read(pid: i32, v1: &str, v2: &str) -> Result<String> {
    let file = file(pid, v1, v2)?;
    let text = fs::read_to_string(&file);
    Ok(text.map_err(|error| format!("{}: {error}", file.display()))?.trim().to_owned())
}

/// Whether limits of `pid` are kept by version 2.
pub fn is_v2() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

fn file(pid: i32, v1: &str, v2: &str) -> Result<PathBuf> {
    let controller = v1.split('.').next().unwrap_or(v1);
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if is_v2() && controllers.is_empty() {
            return Ok(Path::new(MOUNT).join(path).join(v2));
        }
        if !is_v2() && controllers.split(',').any(|name| name == controller) {
            return Ok(Path::new(MOUNT).join(controller).join(path).join(v1));
        }
    }
    Err(format!("process {pid} is in no {controller} cgroup: {text}").into())
}

/// Makes a cgroup in every hierarchy.
pub fn make_everywhere(name: &str) -> Result {
    if is_v2() {
        return Ok(fs::create_dir(Path::new(MOUNT).join(name))?);
    }
    for hierarchy in fs::read_dir(MOUNT)? {
        let path = hierarchy?.path();
        if path.join("cgroup.procs").exists() {
            fs::create_dir(path.join(name))?;
            inherit_cpus(&path, &path.join(name))?;
        }
    }
    Ok(())
}

/// A cpuset of version 1 takes no process as long as its lists are empty.
fn inherit_cpus(parent: &Path, child: &Path) -> Result {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if parent.join(file).exists() {
            fs::write(child.join(file), fs::read(parent.join(file))?)?;
        }
    }
    Ok(())
}

/// Removes what [`make_everywhere`] has made, when its last process has ended.
pub fn remove_everywhere(name: &str) -> Result {
    eventually(&format!("the cgroup {name} to be empty"), PATIENCE, || {
        let removed = directories_named(name).iter().all(|path| fs::remove_dir(path).is_ok());
        Ok(removed.then_some(()))
    })
}

/// All cgroup directories whose name contains `part`, in every hierarchy.
pub fn directories_named(part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from(MOUNT)];
    while let Some(dir) = pending.pop() {
        // A cgroup of another trial may vanish while we walk.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(part) {
                found.push(entry.path());
            }
            pending.push(entry.path());
        }
    }
    found
}
