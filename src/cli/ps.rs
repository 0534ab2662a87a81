//! `ps`.

use std::io::Write;
use std::process::Command;

use liboci_cli::Ps;

use super::state::print_json;
use crate::container::cgroup;
use crate::container::state::Container;
use crate::error::{Context, Error, Result};

/// Prints the processes of a container: their pids as JSON, or the lines of ps(1) about them.
///
/// # Errors
/// For an unknown `--format`, and when ps(1) is missing or fails.
pub fn ps(container: &Container, args: &Ps) -> Result<()> {
    let pids = cgroup::pids(&cgroup::manager(&container.record, container.id())?);
    match args.format.as_str() {
        "json" => print_json(&pids),
        "table" => {
            let mut out = std::io::stdout().lock();
            out.write_all(table(&pids, &args.ps_options)?.as_bytes())
                .os(|| "write to standard output")
        }
        other => Err(Error::invalid(format!("--format {other:?}: use table or json"))),
    }
}

fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default[..] } else { options };
    let output = Command::new("ps").args(options).output().os(|| "run ps")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::invalid(format!("ps {}: {stderr}", options.join(" "))));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::invalid(format!("ps {} prints no PID column", options.join(" "))))?;
    let ours = lines.filter(|line| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    });
    Ok(std::iter::once(header).chain(ours).map(|line| format!("{line}\n")).collect())
}
