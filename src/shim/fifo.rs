//! FIFOs that a process writes to while clients come and go.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::debug;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use tokio::task::AbortHandle;

use crate::error::{Context, ErrorKind, Result};
use crate::shim::options::Options;

/// A reader counts when it is seen this often, at this distance.
const SIGHTINGS: u32 = 3;
const SIGHTING: Duration = Duration::from_millis(5);

/// Whether the file at `path`, which must exist, is a FIFO.
pub fn is_fifo(path: &Path) -> Result<bool> {
    let metadata = std::fs::metadata(path)
        .context(ErrorKind::InvalidArgument, || format!("stdio {}", path.display()))?;
    Ok(metadata.file_type().is_fifo())
}

/// Opens a FIFO without waiting for a peer.
pub fn hold(path: &Path, options: &mut OpenOptions) -> Result<File> {
    options
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .os(|| format!("open FIFO {}", path.display()))
}

/// The shim's reader on an output FIFO, which it never reads.
#[derive(Debug)]
pub struct Output {
    reader: Option<File>,
    lingering: Option<AbortHandle>,
}

impl Output {
    /// Holds the FIFO at `path` open, so that its writers need no other reader.
    pub fn hold(path: &Path, options: &Options) -> Result<Self> {
        let reader = hold(path, OpenOptions::new().read(true))?;
        if (options.io_uid, options.io_gid) != (0, 0) {
            std::os::unix::fs::fchown(&reader, Some(options.io_uid), Some(options.io_gid))
                .os(|| format!("change the owner of {}", path.display()))?;
        }
        Ok(Self { reader: Some(reader), lingering: None })
    }

    /// Ends the output: a reader sees the end of file after the last byte.
    ///
    /// A client can be late: it opens its end after a fast process is gone. What lies in the FIFO
    /// lives as long as someone holds it, and an open for reading waits for a writer, so the shim
    /// stays on as writer until a reader has come or the process is deleted.
    ///
    /// With `quiet`, no child of the shim is between fork and exec, where it holds all the shim
    /// holds and looks like a reader.
    pub fn finish(&mut self, quiet: bool) {
        if let Some(writer) = self.release()
            && !(quiet && has_reader(&writer))
        {
            self.lingering = Some(tokio::spawn(linger(writer)).abort_handle());
        }
    }

    /// Ends the output and waits until a reader has it.
    pub async fn finished(mut self) {
        if let Some(writer) = self.release() {
            linger(writer).await;
        }
    }

    /// Becomes a writer instead of a reader.
    fn release(&mut self) -> Option<File> {
        let reader = self.reader.take()?;
        let same = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        hold(&same, OpenOptions::new().write(true))
            .inspect_err(|error| debug!("output is dropped if nobody reads it: {error}"))
            .ok()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(lingering) = &self.lingering {
            lingering.abort();
        }
    }
}

/// Holds the FIFO until a reader is there, and not just a child on its way to exec.
async fn linger(writer: File) {
    let mut pause = SIGHTING;
    let mut seen = 0;
    loop {
        seen = if has_reader(&writer) { seen + 1 } else { 0 };
        if seen == SIGHTINGS {
            return;
        }
        if seen == 0 {
            pause = (pause * 2).min(Duration::from_millis(500));
        }
        tokio::time::sleep(if seen > 0 { SIGHTING } else { pause }).await;
    }
}

/// Whether anybody has the FIFO open for reading.
fn has_reader(writer: &File) -> bool {
    let mut fds = [PollFd::new(writer, PollFlags::OUT)];
    let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && !fds[0].revents().contains(PollFlags::ERR)
}
