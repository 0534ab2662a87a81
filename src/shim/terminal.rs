//! A process's terminal: the master side comes from the runtime over a socket and is copied from
//! and to containerd's FIFOs.

use std::fs::{File, OpenOptions};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_shim::io::Pty;
use log::debug;
use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncWrite, Interest, copy, sink};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::shim::io::{Output, Stdio, Target, hold};
use crate::shim::options::Options;

/// The runtime has sent the terminal when its call returns; this is for one that has not.
const ARRIVAL: Duration = Duration::from_secs(5);

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
}

impl Terminal {
    /// Connects the terminal to the FIFOs of `stdio`.
    pub fn attach(master: OwnedFd, stdio: &Stdio, options: &Options) -> Result<Self> {
        let master = Pty::new(File::from(master)).os(|| "use the terminal")?;
        let (stdin, input) = match fifo(&stdio.stdin)? {
            None => (None, None),
            Some(path) => {
                let open = || format!("open FIFO {}", path.display());
                let reader = pipe::OpenOptions::new().open_receiver(&path).os(open)?;
                // Clients come and go; the terminal's input ends with CloseIO.
                let writer = hold(&path, OpenOptions::new().write(true))?;
                let copy = tokio::spawn(copy_input(reader, master.clone()));
                (Some(writer), Some(copy.abort_handle()))
            }
        };
        let (done, drained) = watch::channel(false);
        let copy = match fifo(&stdio.stdout)? {
            None => tokio::spawn(copy_output(master.clone(), sink(), None, done)),
            Some(path) => {
                let hold = Output::hold(&path, options)?;
                let writer = pipe::OpenOptions::new()
                    .open_sender(&path)
                    .os(|| format!("open FIFO {}", path.display()))?;
                tokio::spawn(copy_output(master.clone(), writer, Some(hold), done))
            }
        };
        Ok(Self { master, stdin, input, output: copy.abort_handle(), drained })
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

    /// Turns true when all output is in the FIFO.
    pub fn drained(&self) -> watch::Receiver<bool> {
        self.drained.clone()
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

/// The FIFO a stream of a terminal leads to.
fn fifo(uri: &str) -> Result<Option<PathBuf>> {
    match Target::parse(uri)? {
        Target::Null => Ok(None),
        Target::Path(path) => Ok(Some(path)),
        Target::Append(_) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("stdio {uri:?}: with a terminal only FIFOs are supported"),
        )),
    }
}

async fn copy_input(mut reader: pipe::Receiver, mut master: Pty) {
    if let Err(error) = copy(&mut reader, &mut master).await {
        debug!("terminal input ended: {error}");
    }
}

async fn copy_output(
    mut master: Pty,
    mut writer: impl AsyncWrite + Unpin,
    hold: Option<Output>,
    done: watch::Sender<bool>,
) {
    // EIO is how a terminal says that its last process is gone.
    if let Err(error) = copy(&mut master, &mut writer).await {
        debug!("terminal output ended: {error}");
    }
    drop(writer);
    done.send_replace(true);
    if let Some(hold) = hold {
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
