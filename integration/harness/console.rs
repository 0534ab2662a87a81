//! The other end of `--console-socket`: receives the terminal's master side.

use std::fs::File;
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{PATIENCE, Result, eventually, suite};

/// A socket that waits for one terminal.
pub struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Binds the socket.
    pub fn new() -> Result<Self> {
        let path = suite::new_dir("tty")?.join("s");
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { path, listener })
    }

    /// The path to give to `--console-socket`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal the runtime sends.
    pub fn receive(&self) -> Result<Terminal> {
        let stream = eventually("a connection to the console socket", PATIENCE, || {
            match self.listener.accept() {
                Ok((stream, _)) => Ok(Some(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 256];
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let received: Option<OwnedFd> = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Terminal::new(received.ok_or("the console socket got a message without a descriptor")?)
    }
}

/// The master side of a terminal, read by a thread.
pub struct Terminal {
    master: File,
    chunks: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn new(master: OwnedFd) -> Result<Self> {
        let master = File::from(master);
        let mut reader = master.try_clone()?;
        let (sender, chunks) = channel();
        // The thread ends with EIO once the container has closed the other side.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { master, chunks, seen: String::new() })
    }

    /// Types `text`.
    pub fn write(&mut self, text: &str) -> Result {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Waits until the terminal shows `text`.
    pub fn wait_for(&mut self, text: &str) -> Result {
        while !self.seen.contains(text) {
            let chunk = self.chunks.recv_timeout(PATIENCE);
            let chunk = chunk.map_err(|_| format!("no {text:?} on terminal: {:?}", self.seen))?;
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        Ok(())
    }
}
