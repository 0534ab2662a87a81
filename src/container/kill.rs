//! Sending signals.

use libcgroups::common::{CgroupManager, FreezerState};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::cgroup;
use super::state::{Container, Status};
use crate::error::{Context, Error, Result};

/// Sends `signal` to the init process, or with `all` to every process of the container.
///
/// # Errors
/// [`crate::error::ErrorKind::FailedPrecondition`], in the words engines match on, when the
/// container has stopped; with `all` that is no error.
pub fn kill(container: &Container, signal: i32, all: bool) -> Result<()> {
    let status = container.status();
    if all {
        cgroup::signal_all(&cgroup::manager(&container.record, container.id())?, signal)?;
    } else {
        let Some(init) = container.open_init().filter(|_| status != Status::Stopped) else {
            return Err(Error::precondition("container not running"));
        };
        match init.send(signal) {
            Err(Errno::ESRCH) => return Err(Error::precondition("container not running")),
            result => result.os(|| format!("send signal {signal} to the container"))?,
        }
    }
    // Under cgroup v1 a frozen process does not even take SIGKILL; runc thaws it too.
    if status == Status::Paused && signal == Signal::SIGKILL as i32 {
        let manager = cgroup::manager(&container.record, container.id())?;
        manager.freeze(FreezerState::Thawed).os(|| "thaw the container")?;
    }
    Ok(())
}

/// Reads a signal as runc does: a number, or a name with or without `SIG`, in any case.
///
/// # Errors
/// [`crate::error::ErrorKind::InvalidArgument`] quoting what is no signal.
pub fn parse_signal(text: &str) -> Result<i32> {
    let unknown =
        || Error::invalid(format!("unknown signal {text:?}; use a name such as TERM or a number"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=libc::SIGRTMAX()).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: i32| -> Result<i32> {
        let number: i32 =
            if rest.is_empty() { 0 } else { rest[1..].parse().map_err(|_| unknown())? };
        Ok(number * sign)
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => {
            libc::SIGRTMIN() + offset(rest, 1)?
        }
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => {
            libc::SIGRTMAX() + offset(rest, -1)?
        }
        _ => {
            return format!("SIG{name}")
                .parse()
                .map(|signal: Signal| signal as i32)
                .map_err(|_| unknown());
        }
    };
    if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) {
        Ok(number)
    } else {
        Err(unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        for text in ["15", "TERM", "SIGTERM", "term", "sigterm"] {
            assert_eq!(parse_signal(text).unwrap(), 15, "{text}");
        }
        assert_eq!(parse_signal("RTMIN+3").unwrap(), libc::SIGRTMIN() + 3);
        assert_eq!(parse_signal("SIGRTMAX-1").unwrap(), libc::SIGRTMAX() - 1);
        for text in ["", "0", "-1", "65", "NOPE", "RTMIN+99", "RTMIN-1", "TERM "] {
            let error = parse_signal(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
