//! Waiting for a descriptor in the event loop.

use std::io::{self, Stdin};
use std::os::fd::OwnedFd;

use nix::sys::signalfd::SignalFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers standard input for reading with the current event loop. `None` for what epoll
/// refuses since it is always ready: regular files and /dev/null.
pub fn readable(stdin: Stdin) -> Option<AsyncFd<Stdin>> {
    // SAFETY: Stdin always stands for descriptor 0, which this process never closes or replaces.
    unsafe { AsyncFd::register_with_interest(stdin, Interest::READABLE) }.ok()
}

/// Registers a descriptor with the current event loop.
///
/// # Errors
/// That of epoll_ctl(2).
pub fn watched(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the registration, so it stays open and the same for as
    // long as that lives.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Registers a signalfd with the current event loop.
///
/// # Errors
/// When there is no event loop, or epoll is short of memory.
pub fn signals(signals: SignalFd) -> io::Result<AsyncFd<SignalFd>> {
    // SAFETY: a SignalFd owns its descriptor, always the same one, until it is dropped.
    unsafe { AsyncFd::register_with_interest(signals, Interest::READABLE) }.map_err(io::Error::from)
}
