//! The signals that end a server, read when it is ready for them.

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

use crate::error::{Context, Result};
use crate::sys::readiness;
use crate::sys::signals::ENDING;

/// Signals held back, to be read one by one.
pub struct Signals(AsyncFd<SignalFd>);

/// Holds the signals back, in this thread and those it starts from now on.
///
/// # Errors
/// When descriptors are short.
pub fn hold() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    ENDING.into_iter().for_each(|signal| mask.add(signal));
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).os(|| "hold signals back")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&mask, flags).os(|| "open a signalfd")
}

impl Signals {
    /// Watches what [`hold`] made, inside the event loop.
    ///
    /// # Errors
    /// When the event loop refuses it.
    pub fn watch(held: SignalFd) -> Result<Self> {
        readiness::signals(held).map(Self).os(|| "watch for signals")
    }

    /// The number of the next signal.
    pub async fn next(&mut self) -> i32 {
        loop {
            let Ok(mut guard) = self.0.readable().await else { continue };
            if let Ok(Some(info)) = self.0.get_ref().read_signal() {
                return info.ssi_signo as i32;
            }
            guard.clear_ready();
        }
    }
}
