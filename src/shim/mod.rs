//! The containerd shim: one process a pod that serves containerd's task service and runs
//! `runwasm` for every operation.
//!
//! The binary has three lives. containerd runs it with the action `start` in a container's
//! bundle ([`actions::start`]); that starts the shim process ([`server::serve`]), which stays;
//! and when a shim has died, containerd runs `delete` ([`actions::delete`]) to clean up.

pub mod actions;
pub mod bootstrap;
pub mod container;
pub mod containerd;
pub mod driver;
pub mod events;
pub mod fifo;
pub mod group;
pub mod io;
pub mod mount;
pub mod oom;
pub mod options;
pub mod orphans;
pub mod process;
pub mod reaper;
pub mod runtime;
pub mod server;
pub mod service;
pub mod spec;
pub mod state;
pub mod stats;
pub mod stdio;
pub mod terminal;
pub mod wire;

use std::ffi::OsString;
use std::io::Write;

use crate::error::{Context, Error, ErrorKind, Result};

/// The runtime's name for containerd.
pub const RUNTIME: &str = "io.containerd.wasm.v1";

/// Does what `arguments`, without the program's name, ask for.
pub fn run(arguments: &[OsString]) -> Result<()> {
    let flags = containerd_shim::parse(arguments)
        .context(ErrorKind::InvalidArgument, || "bad command line")?;
    if flags.version {
        println!("containerd-shim-wasm-v1:\n  Version: {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    if flags.info {
        return answer(&actions::info()?);
    }
    for (flag, value) in [("namespace", &flags.namespace), ("id", &flags.id)] {
        // Both become part of paths.
        if value.is_empty() || value.contains('/') || value.starts_with('.') {
            return Err(Error::invalid(format!("-{flag} {value:?} is not a name")));
        }
    }
    match flags.action.as_str() {
        "start" => answer(&actions::start(&flags)?),
        "delete" => answer(&actions::delete(&flags)?),
        "" => server::serve(&flags),
        other => Err(Error::invalid(format!(
            "unknown action {other:?}: containerd runs this program with start or delete"
        ))),
    }
}

fn answer(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).os(|| "write the answer to containerd")
}

/// The path in a socket's address.
pub(crate) fn socket_path(address: &str) -> &str {
    address.strip_prefix("unix://").unwrap_or(address)
}
