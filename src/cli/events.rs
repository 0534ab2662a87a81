//! `events`.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use liboci_cli::Events;
use serde_json::json;

use crate::container::state::{Container, Status};
use crate::container::update::stats;
use crate::error::{Context, Error, Result};

/// Prints the resource use of a container as one JSON line: once with `--stats`, otherwise every
/// `--interval` seconds until the container stops.
///
/// # Errors
/// When the container has stopped, or `--interval` is 0.
pub fn events(root: &Path, args: &Events) -> Result<()> {
    if args.interval == 0 {
        return Err(Error::invalid("--interval must be at least 1 second"));
    }
    loop {
        let container = Container::load(root, &args.container_id)?;
        let line = json!({"type": "stats", "id": container.id(), "data": stats(&container)?});
        writeln!(std::io::stdout(), "{line}").os(|| "write to standard output")?;
        if args.stats {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(args.interval.into()));
        if Container::load(root, &args.container_id).is_ok_and(|c| c.status() == Status::Stopped) {
            return Ok(());
        }
    }
}
