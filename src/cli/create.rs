//! `create` and `run`.

use std::path::Path;

use liboci_cli::{Create, Run};

use super::args::Global;
use crate::container::console::{Relay, socket_pair};
use crate::container::create::Options;
use crate::container::foreground::Foreground;
use crate::container::launch::Console;
use crate::container::{create as container_create, delete, start};
use crate::error::Result;
use crate::oci::bundle::Bundle;

/// Creates a container.
///
/// # Errors
/// As [`container_create::create`].
pub fn create(root: &Path, global: &Global, args: &Create) -> Result<()> {
    container_create::create(Options {
        root,
        id: &args.container_id,
        bundle: &args.bundle,
        pid_file: args.pid_file.as_deref(),
        console: args.console_socket.clone().map_or(Console::None, Console::Path),
        no_pivot: args.no_pivot,
        preserve_fds: args.preserve_fds,
        systemd_cgroup: global.oci.systemd_cgroup,
        sources: &global.sources,
        image: global.image.artifact(),
    })
    .map(drop)
}

/// Creates and starts a container; unless detached, stays until it ends and deletes it. Returns
/// the container's exit code.
///
/// # Errors
/// As [`create`] and [`start::start`]. The container is deleted then.
pub fn run(root: &Path, global: &Global, args: &Run) -> Result<u8> {
    let id = args.container_id.as_str();
    let foreground = if args.detach { None } else { Some(Foreground::new()?) };
    let (ours, console) = console(args)?;
    let mut container = container_create::create(Options {
        root,
        id,
        bundle: &args.bundle,
        pid_file: args.pid_file.as_deref(),
        console,
        no_pivot: args.no_pivot,
        preserve_fds: args.preserve_fds,
        systemd_cgroup: global.oci.systemd_cgroup,
        sources: &global.sources,
        image: global.image.artifact(),
    })?;
    let pid = container.inner.state.pid.unwrap_or_default();
    let relay = ours.map(|socket| Relay::new(&socket)).transpose();
    let ended = relay.and_then(|relay| {
        start::start(&mut container)?;
        foreground.map(|foreground| foreground.wait(pid, relay)).transpose()
    });
    match ended {
        // Detached.
        Ok(None) => Ok(0),
        Ok(Some(code)) => {
            // The container's exit code matters more than what is left of it.
            if !args.keep
                && let Err(error) = delete::delete(root, id, true)
            {
                log::error!("{error}");
            }
            Ok(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Err(error) => {
            delete::delete(root, id, true)?;
            Err(error)
        }
    }
}

/// In the foreground the container's terminal is joined to ours, unless a console socket is
/// given.
fn console(args: &Run) -> Result<(Option<std::os::fd::OwnedFd>, Console)> {
    if let Some(path) = &args.console_socket {
        return Ok((None, Console::Path(path.clone())));
    }
    let spec = Bundle::load(&args.bundle)?.spec;
    let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    if args.detach || !terminal {
        return Ok((None, Console::None));
    }
    let (ours, theirs) = socket_pair()?;
    Ok((Some(ours), Console::Socket(theirs)))
}
