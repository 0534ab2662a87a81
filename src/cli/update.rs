//! `update`.

use std::io::Read;
use std::path::Path;

use liboci_cli::Update;
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::container::state::Container;
use crate::container::update;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::bundle::{parse, read_limited};

/// Changes the limits of a container: those in `--resources`, or those given one by one.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a malformed file or no limit at all.
pub fn update(container: &Container, args: &Update) -> Result<()> {
    let resources: LinuxResources = match &args.resources {
        Some(path) => parse(&read(path)?, path)?,
        None => serde_json::from_value(from_flags(args)?)
            .context(ErrorKind::InvalidArgument, || "limits")?,
    };
    update::update(container, &resources)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path != Path::new("-") {
        return read_limited(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).os(|| "read resources from standard input")?;
    Ok(bytes)
}

/// The flags as the JSON that `--resources` takes.
fn from_flags(args: &Update) -> Result<Value> {
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "changing Intel RDT schemas of a running container is not supported",
        ));
    }
    let mut resources = Map::new();
    let mut set = |group: &str, field: &str, value: Option<Value>| {
        if let (Some(value), Some(group)) =
            (value, resources.entry(group).or_insert_with(|| json!({})).as_object_mut())
        {
            group.insert(field.to_owned(), value);
        }
    };
    set("blockIO", "weight", args.blkio_weight.map(Into::into));
    set("cpu", "period", args.cpu_period.map(Into::into));
    set("cpu", "quota", args.cpu_quota.map(Into::into));
    set("cpu", "realtimePeriod", args.cpu_rt_period.map(Into::into));
    set("cpu", "realtimeRuntime", args.cpu_rt_runtime.map(Into::into));
    set("cpu", "shares", args.cpu_share.map(Into::into));
    set("cpu", "cpus", args.cpuset_cpus.clone().map(Into::into));
    set("cpu", "mems", args.cpuset_mems.clone().map(Into::into));
    set("memory", "limit", args.memory.map(Into::into));
    set("memory", "reservation", args.memory_reservation.map(Into::into));
    set("memory", "swap", args.memory_swap.map(Into::into));
    set("pids", "limit", args.pids_limit.map(Into::into));
    resources.retain(|_, group| group.as_object().is_some_and(|group| !group.is_empty()));
    if resources.is_empty() {
        return Err(Error::invalid(
            "no limit to change; give --resources or a flag such as --memory",
        ));
    }
    Ok(Value::Object(resources))
}
