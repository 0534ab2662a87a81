//! A process's terminal: the master side comes from the runtime over a socket and is copied from
//! and to containerd's FIFOs.

use std::fs::{File, OpenOptions};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_shim::io::Pty;
use log::{debug, warn};
use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, copy, sink};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::{Context, Error, Result};
use crate::shim::driver::Logger;
use crate::shim::fifo::{Output, hold, is_fifo};
use crate::shim::io::{Opener, open_file};
use crate::shim::options::Options;
use crate::shim::stdio::{Stdio, Target};

/// The runtime has sent the terminal when its call returns; this is for one that has not.
const ARRIVAL: Duration = Duration::from_secs(5);

/// A terminal gives out at most this much at once.
const BUFFER: usize = 16 << 10;

/// How long the exit of a process waits for the rest of its output. A reader that is slower gets
/// the output all the same, only after the news; a file has no reader, and gets all of it first.
const READ: Duration = Duration::from_secs(2);
const WRITTEN: Duration = Duration::from_secs(20);

/// The socket on which the runtime hands over a terminal. Dropping it removes the socket.
pub struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Listens at `path`.
    pub fn bind(path: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(&path)
            .os(|| format!("listen for the terminal at {}", path.display()))?;
        Ok(Self { path, listener })
    }

    /// Where the runtime connects.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal's master side. Whoever connects and sends none is not the runtime, but
    /// somebody who looks which sockets are alive.
    pub async fn receive(self) -> Result<OwnedFd> {
        let arrival = async {
            loop {
                let (stream, _) = self.listener.accept().await?;
                let read = || receive_descriptor(&stream);
                if let Some(master) = stream.async_io(Interest::READABLE, read).await? {
                    return std::io::Result::Ok(master);
                }
            }
        };
        match timeout(ARRIVAL, arrival).await {
            Ok(master) => master.os(|| "receive the terminal from the OCI runtime"),
            Err(_) => Err(Error::os("the OCI runtime made no terminal")),
        }
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!("remove {}: {error}", self.path.display());
        }
    }
}

fn receive_descriptor(stream: &UnixStream) -> std::io::Result<Option<OwnedFd>> {
    // The message is the terminal's name, which nobody needs.
    let mut name = [0; 4096];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [IoSliceMut::new(&mut name)];
    recvmsg(stream, &mut name, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// A terminal in use.
pub struct Terminal {
    master: Pty,
    stdin: Option<File>,
    input: Option<AbortHandle>,
    output: AbortHandle,
    drained: watch::Receiver<bool>,
    patience: Duration,
    logger: Option<Logger>,
}

/// The log driver for a terminal's output, and where it is to be written.
pub type Driven = (Logger, File);

impl Terminal {
    /// Starts the log driver that `stdio` asks for, if it does.
    pub async fn start_driver(stdio: &Stdio, opener: &Opener<'_>) -> Result<Option<Driven>> {
        let Target::Driver(driver) = Target::parse(&stdio.stdout)? else { return Ok(None) };
        // A terminal has no error output: the second pipe is closed here.
        let (logger, [writer, _]) = Logger::start(&driver, opener).await?;
        Ok(Some((logger, writer)))
    }

    /// Connects the terminal to what `stdio` asks for.
    pub fn attach(
        master: OwnedFd,
        stdio: &Stdio,
        options: &Options,
        driven: Option<Driven>,
    ) -> Result<Self> {
        let master = Pty::new(File::from(master)).os(|| "use the terminal")?;
        let (stdin, input) = attach_input(&stdio.stdin, &master)?;
        let (logger, writer) = driven.unzip();
        let sink = match writer {
            Some(writer) => Sink::pipe(writer)?,
            None => Sink::open(&stdio.stdout, options)?,
        };
        let patience = if sink.is_file { WRITTEN } else { READ };
        let (done, drained) = watch::channel(false);
        let copy = tokio::spawn(copy_output(master.clone(), sink, done));
        let output = copy.abort_handle();
        Ok(Self { master, stdin, input, output, drained, patience, logger })
    }

    /// Changes the window's size.
    pub fn resize(&self, columns: u32, rows: u32) -> Result<()> {
        let size = |value: u32, name: &str| {
            u16::try_from(value).map_err(|_| Error::invalid(format!("{name} {value} is too large")))
        };
        let size = Winsize {
            ws_col: size(columns, "width")?,
            ws_row: size(rows, "height")?,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).os(|| "resize the terminal")
    }

    /// Ends the input, once what was written is read.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until the output is written, within reason.
    pub fn drain(&self) -> impl Future<Output = ()> + use<> {
        let (mut drained, patience) = (self.drained.clone(), self.patience);
        async move {
            // Neither a slow reader nor the end of the copy is an error.
            drop(timeout(patience, drained.wait_for(|drained| *drained)).await);
        }
    }

    /// The log driver, whose end is to be waited for.
    pub fn take_logger(&mut self) -> Option<Logger> {
        self.logger.take()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.output.abort();
        if let Some(input) = &self.input {
            input.abort();
        }
    }
}

fn attach_input(uri: &str, master: &Pty) -> Result<(Option<File>, Option<AbortHandle>)> {
    let path = match Target::parse(uri)? {
        Target::Null => return Ok((None, None)),
        Target::Path(path) => path,
        Target::Append(_) | Target::Driver(_) => {
            return Err(Error::invalid(format!("stdin {uri:?} must be a FIFO")));
        }
    };
    let reader = pipe::OpenOptions::new()
        .open_receiver(&path)
        .os(|| format!("open FIFO {}", path.display()))?;
    // Clients come and go; the terminal's input ends with CloseIO.
    let writer = hold(&path, OpenOptions::new().write(true))?;
    let copy = tokio::spawn(copy_input(reader, master.clone()));
    Ok((Some(writer), Some(copy.abort_handle())))
}

async fn copy_input(mut reader: pipe::Receiver, mut master: Pty) {
    if let Err(error) = copy(&mut reader, &mut master).await {
        debug!("terminal input ended: {error}");
    }
}

/// Where a terminal's output goes.
struct Sink {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The reader that holds a FIFO open.
    hold: Option<Output>,
    is_file: bool,
}

impl Sink {
    fn open(uri: &str, options: &Options) -> Result<Self> {
        let path = match Target::parse(uri)? {
            Target::Null => return Ok(Self::new(sink(), None)),
            Target::Append(path) => return Ok(Self::file(open_file(&path, true)?)),
            Target::Path(path) if !is_fifo(&path)? => {
                return Ok(Self::file(open_file(&path, false)?));
            }
            Target::Path(path) => path,
            Target::Driver(_) => return Err(Error::os("the log driver was not started")),
        };
        let hold = Output::hold(&path, options)?;
        let writer = pipe::OpenOptions::new()
            .open_sender(&path)
            .os(|| format!("open FIFO {}", path.display()))?;
        Ok(Self::new(writer, Some(hold)))
    }

    fn pipe(writer: File) -> Result<Self> {
        let writer = pipe::Sender::from_file(writer).os(|| "use the log driver's pipe")?;
        Ok(Self::new(writer, None))
    }

    fn file(file: File) -> Self {
        Self { is_file: true, ..Self::new(tokio::fs::File::from_std(file), None) }
    }

    fn new(writer: impl AsyncWrite + Send + Unpin + 'static, hold: Option<Output>) -> Self {
        Self { writer: Box::new(writer), hold, is_file: false }
    }
}

async fn copy_output(mut master: Pty, mut to: Sink, done: watch::Sender<bool>) {
    let mut buffer = vec![0; BUFFER];
    let mut written = Ok(());
    // EIO is how a terminal says that its last process is gone. The library's own copying loses
    // what it has not written when reading fails.
    while let Ok(count @ 1..) = master.read(&mut buffer).await {
        // After a failed write, say to a full disk, the process is not to wait for a reader.
        if written.is_ok() {
            written = to.writer.write_all(&buffer[..count]).await;
        }
    }
    if let Err(error) = written.and(to.writer.flush().await) {
        warn!("the terminal's output is incomplete: {error}");
    }
    drop(to.writer);
    done.send_replace(true);
    if let Some(hold) = to.hold {
        hold.finished().await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[tokio::test]
    async fn whoever_sends_no_terminal_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let socket = ConsoleSocket::bind(dir.path().join("s")).unwrap();
        drop(std::os::unix::net::UnixStream::connect(socket.path()).unwrap());
        let runtime = std::os::unix::net::UnixStream::connect(socket.path()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let name = [std::io::IoSlice::new(b"/dev/ptmx")];
        sendmsg(&runtime, &name, &mut control, SendFlags::empty()).unwrap();
        socket.receive().await.unwrap();
    }
}
