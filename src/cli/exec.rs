//! `exec`.

use std::path::Path;

use liboci_cli::Exec;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use crate::config::Sources;
use crate::container::console::{Relay, socket_pair};
use crate::container::exec::{Options, exec as container_exec};
use crate::container::foreground::Foreground;
use crate::container::launch::Console;
use crate::container::state::Container;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::bundle::{parse, read_limited};

/// Runs a process in a running container; unless detached, stays until it ends. Returns its exit
/// code.
///
/// # Errors
/// As [`container_exec`], and for malformed options.
pub fn exec(root: &Path, sources: &Sources, args: &Exec) -> Result<u8> {
    let container = Container::load(root, &args.container_id)?;
    let process = process(args, || container.spec())?;
    let terminal = process.terminal().unwrap_or(false);
    let foreground = if args.detach { None } else { Some(Foreground::new()?) };
    let (ours, console) = match (&args.console_socket, terminal, args.detach) {
        (Some(_), false, _) => {
            return Err(Error::invalid(
                "--console-socket needs --tty, or process.terminal to be true",
            ));
        }
        (Some(path), true, _) => (None, Console::Path(path.clone())),
        (None, true, true) => {
            return Err(Error::invalid(
                "a detached process with a terminal needs --console-socket",
            ));
        }
        (None, true, false) => {
            let (ours, theirs) = socket_pair()?;
            (Some(ours), Console::Socket(theirs))
        }
        (None, false, _) => (None, Console::None),
    };
    let pid = container_exec(
        &container,
        Options {
            process,
            pid_file: args.pid_file.as_deref(),
            console,
            preserve_fds: args.preserve_fds,
            ignore_paused: args.ignore_paused,
            sub_cgroup: args.cgroup.as_deref(),
            sources,
        },
    )?;
    let relay = ours.map(|socket| Relay::new(&socket)).transpose()?;
    let code = foreground.map(|foreground| foreground.wait(pid, relay)).transpose()?;
    Ok(u8::try_from(code.unwrap_or(0)).unwrap_or(u8::MAX))
}

/// The process of `--process`, or the container's own, changed by the other options.
fn process(args: &Exec, spec: impl FnOnce() -> Result<Spec>) -> Result<Process> {
    if let Some(path) = &args.process {
        return parse(&read_limited(path)?, path);
    }
    if args.command.is_empty() {
        return Err(Error::invalid("no command to execute; give one, or --process"));
    }
    let mut process = spec()?.process().clone().unwrap_or_default();
    process.set_args(Some(args.command.clone())).set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    for (key, value) in &args.env {
        env.retain(|pair| pair.split_once('=').map_or(pair.as_str(), |(name, _)| name) != key);
        env.push(format!("{key}={value}"));
    }
    process.set_env(Some(env));
    if let Some((uid, gid)) = args.user {
        let mut user = process.user().clone();
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
        process.set_user(user);
    }
    if !args.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&args.additional_gids);
        user.set_additional_gids(Some(gids));
        process.set_user(user);
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if args.process_label.is_some() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "--process-label: SELinux is not supported",
        ));
    }
    add_capabilities(&mut process, &args.cap)?;
    Ok(process)
}

/// Adds `--cap` to every set but the inheritable one, as runc does since CVE-2022-29162.
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let added: Vec<Capability> = names
        .iter()
        .map(|name| {
            serde_json::from_value(name.as_str().into())
                .context(ErrorKind::InvalidArgument, || format!("--cap {name:?}"))
        })
        .collect::<Result<_>>()?;
    let extended = |set: &Option<Capabilities>| -> Option<Capabilities> {
        Some(set.iter().flatten().chain(&added).copied().collect())
    };
    let mut capabilities: LinuxCapabilities = process.capabilities().clone().unwrap_or_default();
    let (bounding, effective) =
        (extended(capabilities.bounding()), extended(capabilities.effective()));
    let permitted = extended(capabilities.permitted());
    capabilities.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(capabilities));
    Ok(())
}
