//! The container's cgroup as directories, for what libcgroups takes detours: under version 1 it
//! reads the table of mounts anew for each controller, and joins by `cgroup.procs`.

use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Result};

/// The controllers of version 1 that libcgroups knows.
const CONTROLLERS: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];
/// A new cpuset has none of these, and can have no process until it has.
const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// A cgroup: its path below the root, and the hierarchies that it may be in.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    hierarchies: Vec<Hierarchy>,
}

#[derive(Debug, PartialEq)]
struct Hierarchy {
    mount: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    V1,
    V1WithCpuset,
    V2,
}

impl Cgroup {
    /// Finds the cgroup with this path, whether or not it exists. Nothing is found when the path
    /// leads elsewhere by its dots.
    pub fn find(path: &Path) -> Option<Self> {
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let hierarchies: Vec<_> = mounts.lines().filter_map(hierarchy).collect();
        (!hierarchies.is_empty()).then_some(Self { path, hierarchies })
    }

    /// Makes the cgroup in the hierarchies of version 1.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn make(&self) -> Result<()> {
        for hierarchy in self.version_1() {
            let dir = hierarchy.mount.join(&self.path);
            fs::create_dir_all(&dir).os(|| format!("make the cgroup {}", dir.display()))?;
            if hierarchy.kind == Kind::V1WithCpuset {
                self.fill_cpusets(&hierarchy.mount)?;
            }
        }
        Ok(())
    }

    /// Moves this process, which must have one thread, to the cgroup that was made.
    ///
    /// A thread that moves itself by `tasks` moves at once. By `cgroup.procs` it waits until every
    /// CPU has passed a quiescent state (kernel, `cgroup_attach_lock`), some 10 to 20 ms.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn join(&self) -> Result<()> {
        let mut dirs = self.version_1().map(|hierarchy| hierarchy.mount.join(&self.path));
        dirs.try_for_each(|dir| write(&dir.join("tasks"), "0"))
    }

    fn version_1(&self) -> impl Iterator<Item = &Hierarchy> {
        self.hierarchies.iter().filter(|hierarchy| hierarchy.kind != Kind::V2)
    }

    /// Gives each cpuset on the way that has nothing what its parent has.
    fn fill_cpusets(&self, mount: &Path) -> Result<()> {
        for name in CPUSET_FILES {
            let mut dir = mount.to_owned();
            let mut inherited = read(&dir.join(name))?;
            for part in self.path.components() {
                dir.push(part);
                let file = dir.join(name);
                let own = read(&file)?;
                match own.trim().is_empty() {
                    true => write(&file, inherited.trim())?,
                    false => inherited = own,
                }
            }
        }
        Ok(())
    }

    /// Removes the cgroup if nothing is left in it, and says whether it is gone: the kernel
    /// refuses when there are processes or cgroups in it.
    pub fn remove_empty(&self) -> bool {
        // All are tried, also after one that is not empty.
        self.hierarchies.iter().fold(true, |gone, hierarchy| {
            match fs::remove_dir(hierarchy.mount.join(&self.path)) {
                Ok(()) => gone,
                Err(error) => gone && error.kind() == IoErrorKind::NotFound,
            }
        })
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).os(|| format!("read {}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).os(|| format!("write {text:?} to {}", file.display()))
}

/// The hierarchy with controllers, if that is what a line of mountinfo describes
/// (proc_pid_mountinfo(5)).
fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (mount, source) = line.split_once(" - ")?;
    let mut source = source.split(' ');
    let system = source.next()?;
    let options: Vec<_> = source.next_back()?.split(',').collect();
    let kind = match system {
        "cgroup2" => Kind::V2,
        "cgroup" if options.contains(&"cpuset") => Kind::V1WithCpuset,
        "cgroup" if CONTROLLERS.iter().any(|name| options.contains(name)) => Kind::V1,
        _ => return None,
    };
    Some(Hierarchy { mount: PathBuf::from(mount.split(' ').nth(4)?), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_from_other_mounts() {
        let line = |rest: &str| hierarchy(&format!("34 31 0:28 / /sys/fs/cgroup/x rw {rest}"));
        let known = |kind| Some(Hierarchy { mount: "/sys/fs/cgroup/x".into(), kind });
        assert_eq!(line("- cgroup cgroup rw,cpu,cpuacct"), known(Kind::V1));
        assert_eq!(line("shared:9 - cgroup cgroup rw,cpuset"), known(Kind::V1WithCpuset));
        assert_eq!(line("shared:9 - cgroup2 cgroup2 rw"), known(Kind::V2));
        assert_eq!(line("- cgroup cgroup rw,xattr,name=systemd"), None);
        assert_eq!(line("- cgroup cgroup rw,misc"), None);
        assert_eq!(line("- tmpfs tmpfs rw"), None);
        assert_eq!(hierarchy(""), None);
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_left_to_libcgroups() {
        assert!(Cgroup::find(Path::new("/a/../b")).is_none());
    }
}
