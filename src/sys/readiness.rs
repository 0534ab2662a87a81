//! Waiting for a descriptor in the event loop.

use std::fs::File;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `file` for reading with the current event loop. `None` for what epoll refuses since
/// it is always ready: regular files and /dev/null.
pub fn readable(file: File) -> Option<AsyncFd<File>> {
    // SAFETY: a File owns its descriptor and returns the same one until it is dropped, and
    // nothing here moves another descriptor into its place.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.ok()
}
