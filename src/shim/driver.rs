//! Log drivers: programs that read a container's output, `binary://` for containerd.
//!
//! The protocol is that of runc's shim. The driver finds standard output at descriptor 3,
//! standard error at 4, and closes descriptor 5 when it is ready; its environment tells whose
//! output it is. Its input ends with the process, after which it has time to write everything
//! down.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::error::{Context, Error, Result};
use crate::shim::io::Opener;
use crate::shim::reaper::{Exiting, Reaper};
use crate::shim::stdio::Driver;
use crate::sys::descriptors::pass;

/// A driver must be ready within this time.
const READY: Duration = Duration::from_secs(10);

/// After the end of its input a driver has this long to end by itself, and then this long after
/// SIGTERM. runc's shim sends SIGTERM at once, at which a driver may stop reading too early.
const WRITTEN_DOWN: Duration = Duration::from_secs(10);
const TERMINATED: Duration = Duration::from_secs(2);

/// The news of a driver's end comes this much after the end of its pipes, at most.
const NEWS: Duration = Duration::from_millis(10);

/// The first of the descriptors of a driver.
const FIRST: i32 = 3;

/// A running log driver. Dropping it lets it end, and sees to it.
pub struct Logger(Option<Running>);

struct Running {
    pid: u32,
    exiting: Exiting,
    reaper: Arc<Reaper>,
    /// Held so that a driver that dies blocks the process, as an absent reader of a FIFO does,
    /// instead of ending it with SIGPIPE.
    _readers: [PipeReader; 2],
}

impl Logger {
    /// Starts `driver` and waits until it is ready. Returns also where the process is to write
    /// its standard output and its standard error.
    pub async fn start(driver: &Driver, opener: &Opener<'_>) -> Result<(Self, [File; 2])> {
        let pipe = || std::io::pipe().os(|| "make a pipe for the log driver");
        let (stdout, stdout_writer) = pipe()?;
        let (stderr, stderr_writer) = pipe()?;
        let (ready, ready_writer) = pipe()?;
        let copy = |reader: &PipeReader| {
            reader.try_clone().map(OwnedFd::from).os(|| "share a pipe with the log driver")
        };
        let mut command = Command::new(&driver.program);
        command.args(&driver.arguments).env_clear();
        command.env("CONTAINER_ID", opener.id).env("CONTAINER_NAMESPACE", opener.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        pass(&mut command, FIRST, vec![copy(&stdout)?, copy(&stderr)?, ready_writer.into()])
            .os(|| "pass pipes to the log driver")?;
        let spawned = opener.reaper.spawn_driver(&mut command);
        // It holds the end whose closing is awaited.
        drop(command);
        let (pid, exiting) =
            spawned.os(|| format!("start the log driver {}", driver.program.display()))?;
        let reaper = opener.reaper.clone();
        let running = Running { pid, exiting, reaper, _readers: [stdout, stderr] };
        let mut logger = Self(Some(running));
        logger.wait_until_ready(ready, driver).await?;
        Ok((logger, [stdout_writer, stderr_writer].map(file)))
    }

    async fn wait_until_ready(&mut self, ready: PipeReader, driver: &Driver) -> Result<()> {
        let name = driver.program.display();
        let mut ready = pipe::Receiver::from_owned_fd(ready.into())
            .os(|| format!("listen to the log driver {name}"))?;
        // A byte or the end, which also comes when the driver has ended.
        match timeout(READY, ready.read(&mut [0])).await {
            Ok(read) => drop(read.os(|| format!("listen to the log driver {name}"))?),
            Err(_) => return Err(Error::os(format!("the log driver {name} does not get ready"))),
        }
        let exiting = self.0.as_mut().map(|running| &mut running.exiting);
        let Some(exiting) = exiting else { return Ok(()) };
        match timeout(NEWS, exiting).await {
            Ok(Ok(exit)) => {
                // Nothing is left to end.
                self.0 = None;
                Err(Error::os(format!("the log driver {name} ended with {}", exit.status)))
            }
            _ => Ok(()),
        }
    }

    /// Waits until the driver, whose input has ended, has ended too.
    pub async fn finish(mut self) {
        if let Some(running) = self.0.take() {
            running.finish().await;
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            tokio::spawn(running.finish());
        }
    }
}

impl Running {
    async fn finish(self) {
        let Self { pid, mut exiting, reaper, _readers: readers } = self;
        drop(readers);
        let patience = [(WRITTEN_DOWN, Signal::TERM), (TERMINATED, Signal::KILL)];
        for (time, signal) in patience {
            if timeout(time, &mut exiting).await.is_ok() {
                return;
            }
            warn!("the log driver {pid} does not end and gets signal {}", signal.as_raw());
            if let Err(error) = reaper.signal(pid, signal.as_raw() as u32) {
                debug!("{error}");
            }
        }
    }
}

fn file(writer: PipeWriter) -> File {
    File::from(OwnedFd::from(writer))
}
