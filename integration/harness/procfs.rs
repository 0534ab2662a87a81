//! What /proc says about a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::Result;

/// One field of /proc/PID/status, such as `CapEff`.
pub fn status_field(status: &str, field: &str) -> Result<String> {
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.ok_or_else(|| format!("no {field} in {status}"))?.trim().to_owned())
}

/// One field of the status of `pid` as the host sees it.
pub fn status(pid: i32, field: &str) -> Result<String> {
    status_field(&fs::read_to_string(format!("/proc/{pid}/status"))?, field)
}

/// A hexadecimal field of a status text as a number.
pub fn status_mask(status: &str, field: &str) -> Result<u64> {
    Ok(u64::from_str_radix(&status_field(status, field)?, 16)?)
}

/// The open descriptors of `pid` and what each refers to.
pub fn descriptors(pid: i32) -> Result<BTreeMap<i32, PathBuf>> {
    let mut open = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse()?;
        // A descriptor may be closed between the listing and here.
        if let Ok(target) = fs::read_link(entry.path()) {
            open.insert(number, target);
        }
    }
    Ok(open)
}

/// The namespace of `pid` of one type, as `net:[4026531840]`.
pub fn namespace(pid: &str, kind: &str) -> Result<String> {
    Ok(fs::read_link(format!("/proc/{pid}/ns/{kind}"))?.to_string_lossy().into_owned())
}

/// All processes, zombies included.
pub fn all() -> Result<Vec<i32>> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_string_lossy().parse().ok()).collect())
}

/// All processes that are not zombies.
pub fn living() -> Result<Vec<i32>> {
    Ok(all()?.into_iter().filter(|pid| is_living(*pid)).collect())
}

/// Whether `pid` runs: it exists and is no zombie.
pub fn is_living(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// State and parent of a process, from /proc/PID/stat. The name before them is in
/// parentheses and may itself contain some.
pub fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The command line of a process, for messages.
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// The process that made the socket pair to which descriptor `number` of `pid` belongs, as the
/// kernel remembers it.
pub fn socket_maker(pid: i32, number: i32) -> Result<i32> {
    let process = rustix::process::Pid::from_raw(pid).ok_or("no such process")?;
    let handle = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
    let flags = rustix::process::PidfdGetfdFlags::empty();
    let socket = rustix::process::pidfd_getfd(handle, number, flags)?;
    Ok(rustix::net::sockopt::socket_peercred(socket)?.pid.as_raw_nonzero().get())
}
