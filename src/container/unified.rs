//! What libcgroups leaves undone on cgroup v2: device rules, limits that its systemd manager
//! cannot express, and statistics where a controller is missing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use libcgroups::common::{AnyCgroupManager, CgroupManager, ControllerOpt};
use libcgroups::v2::manager::Manager;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};
use serde_json::{Map, Value, json};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::device_filter::{ALL_ACCESS, Kind, Rule, attach};

const MOUNT: &str = "/sys/fs/cgroup";
/// The period of `cpu.max` unless another is set, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The cgroup of the process `pid`, as a path below the mount point.
///
/// # Errors
/// When the process has ended.
pub fn cgroup_of(pid: i32) -> Result<PathBuf> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&path).os(|| format!("read {path}"))?;
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    unified
        .map(PathBuf::from)
        .ok_or_else(|| Error::os(format!("{path} names no cgroup of version 2")))
}

fn directory(cgroup: &Path) -> PathBuf {
    Path::new(MOUNT).join(cgroup.strip_prefix("/").unwrap_or(cgroup))
}

/// Writes all limits into the cgroup's files.
///
/// # Errors
/// What the kernel refuses.
pub fn apply(cgroup: &Path, resources: &LinuxResources) -> Result<()> {
    let options = ControllerOpt {
        resources,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    let manager = Manager::new(MOUNT.into(), cgroup.to_owned())
        .context(ErrorKind::Os, || format!("cgroup {}", cgroup.display()))?;
    manager.apply(&options).context(ErrorKind::Os, || "linux.resources")
}

/// The part of `resources` that libcgroups can tell systemd: it sends CPU sets in a form that
/// systemd refuses, and misreads most of `unified`. Those go into the cgroup's files, see
/// [`apply`]; systemd leaves them alone, since the scope is delegated.
pub fn for_systemd(resources: &LinuxResources) -> LinuxResources {
    let mut told = resources.clone();
    told.set_unified(None);
    let cpu = told.cpu().clone().map(|mut cpu| {
        cpu.set_cpus(None).set_mems(None);
        cpu
    });
    told.set_cpu(cpu);
    told
}

/// Completes CPU limits from what the cgroup has: libcgroups tells systemd quota and period
/// together, and takes a missing one for "none".
pub fn complete_cpu(cgroup: &Path, resources: &mut LinuxResources) {
    let Some(mut cpu) = resources.cpu().clone() else {
        return;
    };
    let text = fs::read_to_string(directory(cgroup).join("cpu.max")).unwrap_or_default();
    let mut fields = text.split_whitespace().map(|field| field.parse::<u64>().ok());
    let (quota, period) = (fields.next().flatten(), fields.next().flatten());
    if cpu.quota().is_none() {
        cpu.set_quota(quota.and_then(|quota| i64::try_from(quota).ok()));
    }
    if cpu.period().is_none() {
        cpu.set_period(Some(period.unwrap_or(DEFAULT_PERIOD)));
    }
    resources.set_cpu(Some(cpu));
}

/// Has the kernel enforce the device rules of `resources`, and after them the ones that every
/// container has. What no rule allows is denied.
///
/// # Errors
/// What bpf(2) says.
pub fn restrict_devices(cgroup: &Path, resources: &LinuxResources) -> Result<()> {
    let rules = resources.devices().as_deref().unwrap_or_default();
    let rules: Vec<Rule> =
        rules.iter().map(rule).collect::<Result<Vec<_>>>()?.into_iter().chain(usual()).collect();
    let dir = directory(cgroup);
    let dir = File::open(&dir).os(|| format!("open {}", dir.display()))?;
    attach(&dir, &rules).os(|| "linux.resources.devices: attach the device filter")
}

/// The devices of every container (runc, `specconv.AllowedDevices`; runtime-spec,
/// `config-linux.md#default-devices`).
fn usual() -> impl Iterator<Item = Rule> {
    let allow = |kind, major, minor, access| Rule { allow: true, kind, major, minor, access };
    let character = move |major, minor| allow(Kind::Character, Some(major), minor, ALL_ACCESS);
    [
        allow(Kind::All, None, None, 1),
        character(1, Some(3)),
        character(1, Some(5)),
        character(1, Some(7)),
        character(1, Some(8)),
        character(1, Some(9)),
        character(5, Some(0)),
        character(5, Some(2)),
        character(136, None),
    ]
    .into_iter()
}

fn rule(device: &LinuxDeviceCgroup) -> Result<Rule> {
    let kind = match device.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => Kind::All,
        LinuxDeviceType::B => Kind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => Kind::Character,
        LinuxDeviceType::P => {
            return Err(Error::invalid("linux.resources.devices: type p has no device rules"));
        }
    };
    // Negative numbers stand for all.
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let access = device.access().as_deref().unwrap_or("rwm");
    let access = [('m', 1), ('r', 2), ('w', 4)]
        .iter()
        .filter(|(letter, _)| access.contains(*letter))
        .map(|(_, bit)| bit)
        .sum();
    Ok(Rule {
        allow: device.allow(),
        kind,
        major: number(device.major()),
        minor: number(device.minor()),
        access,
    })
}

/// The statistics of a cgroup under runc's names, times in nanoseconds and sizes in bytes. What a
/// controller that is not enabled would tell is 0.
pub fn stats(cgroup: &Path) -> Value {
    let dir = directory(cgroup);
    let number = |file: &str| -> u64 {
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        match text.trim() {
            "max" => u64::MAX,
            text => text.parse().unwrap_or(0),
        }
    };
    let table = |file: &str| -> Map<String, Value> {
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs
            .filter_map(|(key, value)| Some((key.to_owned(), value.parse::<u64>().ok()?.into())))
            .collect()
    };
    let cpu = table("cpu.stat");
    let nanoseconds = |key: &str| cpu.get(key).and_then(Value::as_u64).unwrap_or(0) * 1000;
    let count = |key: &str| cpu.get(key).and_then(Value::as_u64).unwrap_or(0);
    let memory = table("memory.stat");
    json!({
        "cpu": {
            "usage": {
                "total": nanoseconds("usage_usec"),
                "kernel": nanoseconds("system_usec"),
                "user": nanoseconds("user_usec"),
            },
            "throttling": {
                "periods": count("nr_periods"),
                "throttledPeriods": count("nr_throttled"),
                "throttledTime": nanoseconds("throttled_usec"),
            },
        },
        "memory": {
            "cache": memory.get("file").cloned().unwrap_or(0.into()),
            "usage": {
                "limit": number("memory.max"),
                "usage": number("memory.current"),
                "max": number("memory.peak"),
                "failcnt": table("memory.events").get("max").cloned().unwrap_or(0.into()),
            },
            "swap": {"limit": number("memory.swap.max"), "usage": number("memory.swap.current")},
            "raw": memory,
        },
        "pids": {"current": number("pids.current"), "limit": number("pids.max")},
    })
}

/// Whether `manager` is one whose limits need [`apply`] and [`for_systemd`].
pub fn is_systemd(manager: &AnyCgroupManager) -> bool {
    matches!(manager, AnyCgroupManager::Systemd(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_spec_become_rules_of_the_filter() {
        let json = r#"{"allow":true,"type":"c","major":10,"minor":-1,"access":"rw"}"#;
        let device: LinuxDeviceCgroup = serde_json::from_str(json).unwrap();
        let expected =
            Rule { allow: true, kind: Kind::Character, major: Some(10), minor: None, access: 6 };
        assert_eq!(rule(&device).unwrap(), expected);
        let device: LinuxDeviceCgroup = serde_json::from_str(r#"{"allow":false}"#).unwrap();
        let expected =
            Rule { allow: false, kind: Kind::All, major: None, minor: None, access: ALL_ACCESS };
        assert_eq!(rule(&device).unwrap(), expected);
    }

    #[test]
    fn systemd_is_not_told_what_libcgroups_gets_wrong() {
        let json = r#"{"cpu":{"shares":9,"cpus":"0","mems":"0"},"unified":{"memory.high":"1"}}"#;
        let told = for_systemd(&serde_json::from_str(json).unwrap());
        let cpu = told.cpu().as_ref().unwrap();
        assert_eq!((cpu.shares(), cpu.cpus(), cpu.mems()), (Some(9), &None, &None));
        assert!(told.unified().is_none());
    }
}
