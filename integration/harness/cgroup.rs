//! The cgroup of a process, on version 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};

use super::Result;

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
