//! The container's standard streams as the guest's, byte for byte: no buffer in between, no
//! helper thread, no read ahead.

use std::io::{ErrorKind, Stdin, stdin};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::sys::readiness::readable;

/// The most that one read or write moves, in bytes.
const CHUNK: usize = 1 << 16;

/// Standard input. Reads happen when the guest asks and not before.
#[derive(Clone, Default)]
pub struct Input(Arc<Source>);

/// Descriptor 0 itself: a copy would be one more that is open while the guest runs.
#[derive(Default)]
struct Source {
    /// Readiness by epoll; `None` for what epoll refuses because it is always ready: regular
    /// files and /dev/null. Made on first use, inside the runtime.
    readiness: OnceLock<Option<AsyncFd<Stdin>>>,
}

impl Source {
    fn readiness(&self) -> Option<&AsyncFd<Stdin>> {
        self.readiness.get_or_init(|| readable(stdin())).as_ref()
    }

    /// Whether a read would return at once: data, end of file, or an error.
    fn is_ready(&self) -> bool {
        // An error of poll(2) here means the descriptor is bad, which the read reports.
        let stdin = stdin();
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    async fn ready(&self) {
        let Some(readiness) = self.readiness() else {
            return;
        };
        while !self.is_ready() {
            match readiness.readable().await {
                // The event may be stale; poll(2) has the last word.
                Ok(mut guard) if !self.is_ready() => guard.clear_ready(),
                _ => return,
            }
        }
    }

    fn read(&self, size: usize) -> std::io::Result<Option<Vec<u8>>> {
        if !self.is_ready() {
            return Ok(Some(Vec::new()));
        }
        let mut buffer = vec![0; size.min(CHUNK)];
        loop {
            match nix::unistd::read(stdin(), &mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => {
                    buffer.truncate(n);
                    return Ok(Some(buffer));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Some(Vec::new())),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        nix::unistd::isatty(stdin()).unwrap_or(false)
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.0.ready().await;
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<bytes::Bytes> {
        if size == 0 {
            return Ok(bytes::Bytes::new());
        }
        match self.0.read(size) {
            Ok(Some(data)) => Ok(data.into()),
            Ok(None) => Err(StreamError::Closed),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let source = &self.0;
        if let Some(readiness) = source.readiness() {
            while !source.is_ready() {
                match readiness.poll_read_ready(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(guard) => guard?.clear_ready(),
                }
            }
        }
        if let Some(data) = source.read(buffer.remaining())? {
            buffer.put_slice(&data);
        }
        Poll::Ready(Ok(()))
    }
}

/// Standard output or error. A write returns when the kernel has the bytes, so a guest that is
/// stopped right after it loses none.
#[derive(Clone, Copy)]
pub enum Output {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Output {
    fn with_fd<R>(self, action: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
        match self {
            Self::Stdout => action(std::io::stdout().as_fd()),
            Self::Stderr => action(std::io::stderr().as_fd()),
        }
    }

    /// Writes all of `bytes`, waiting where the other side made the descriptor non-blocking.
    fn write_all(self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match self.with_fd(|fd| nix::unistd::write(fd, bytes)) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.with_fd(|fd| {
                        poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE)
                    })?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        self.with_fd(|fd| nix::unistd::isatty(fd).unwrap_or(false))
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(*self)
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.write_all(&bytes).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => StreamError::Closed,
            _ => StreamError::LastOperationFailed(error.into()),
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.write_all(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
