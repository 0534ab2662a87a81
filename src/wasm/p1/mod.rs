//! A host of WASI 0.1 around wasmtime's: descriptors are numbered here, so that there can be
//! sockets among them; standard streams, sockets and waiting are done here, by plain system
//! calls; files, clocks and randomness are wasmtime's.
//!
//! A call that waits blocks its thread: a guest's thread has one all to itself.

mod buffers;
mod calls;
mod errno;
pub mod listeners;
mod poll;
mod socket;
mod stream;
mod table;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use wasmtime::Linker;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p1::types::{Errno, Error, Fd};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self, WasiSnapshotPreview1};
use wasmtime_wasi::p1::{WasiP1Ctx, types};
use wiggle::GuestMemory;

use listeners::Listeners;
use socket::Socket;
use stream::{Standard, Stream};
use table::{Slot, Table};

/// How many standard streams there are.
pub const STANDARD: u32 = 3;

/// The host, as one thread of the guest has it.
#[derive(Clone)]
pub struct Host {
    state: Arc<Mutex<State>>,
    /// The number of the first directory, if listeners come before it.
    first_directory: u32,
    /// The most bytes that the current call may have the host copy.
    fuel: usize,
}

/// What a descriptor stands for, ready to be used.
enum Target<'a> {
    /// Its number in wasmtime's table, where nothing changes meanwhile.
    File(MutexGuard<'a, State>, Fd),
    Stream(Stream),
    Socket(Arc<Socket>),
}

/// What the threads of a guest have in common.
struct State {
    inner: WasiP1Ctx,
    table: Table,
}

impl Host {
    /// A host with the standard streams, the first `directories` descriptors that `inner` preopens,
    /// and `listeners`. `inner` must block rather than use threads of its own
    /// (`WasiCtxBuilder::allow_blocking_current_thread`).
    pub fn new(inner: WasiP1Ctx, directories: u32, listeners: &Listeners) -> Self {
        let standard = [Standard::Input, Standard::Output, Standard::Error];
        let mut slots: Vec<_> =
            standard.into_iter().map(|standard| Slot::Stream(Stream::new(standard))).collect();
        let files = (STANDARD..STANDARD + directories).map(|number| Slot::File(number.into()));
        let sockets = listeners.sockets.iter().map(|(_, socket)| Slot::Socket(socket.clone()));
        let mut first_directory = STANDARD;
        if listeners.first {
            first_directory += sockets.len() as u32;
            slots.extend(sockets.chain(files));
        } else {
            slots.extend(files.chain(sockets));
        }
        let table = Table::new(slots);
        let state = Arc::new(Mutex::new(State { inner, table }));
        Self { state, first_directory, fuel: 0 }
    }

    /// A host that offers nothing.
    pub fn blank() -> Self {
        Self::new(WasiCtx::builder().build_p1(), 0, &Listeners::default())
    }

    /// Held for as long as a call takes that does not wait.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.inner.set_hostcall_fuel(self.fuel);
        state
    }

    /// What `fd` stands for.
    fn target(&self, fd: Fd) -> Result<Target<'_>, Error> {
        let state = self.lock();
        Ok(match state.table.get(fd)? {
            Slot::File(inner) => {
                let inner = *inner;
                Target::File(state, inner)
            }
            Slot::Stream(stream) => Target::Stream(*stream),
            Slot::Socket(socket) => Target::Socket(socket.clone()),
        })
    }

    /// The file `fd`; `otherwise` for what is no file.
    fn file(&self, fd: Fd, otherwise: Errno) -> Result<(MutexGuard<'_, State>, Fd), Error> {
        match self.target(fd)? {
            Target::File(state, inner) => Ok((state, inner)),
            Target::Stream(_) | Target::Socket(_) => Err(otherwise.into()),
        }
    }

    /// As [`Host::file`], for two directories.
    fn directories(&self, from: Fd, to: Fd) -> Result<(MutexGuard<'_, State>, Fd, Fd), Error> {
        let (state, from) = self.file(from, Errno::Notdir)?;
        match state.table.get(to)? {
            Slot::File(to) => {
                let to = *to;
                Ok((state, from, to))
            }
            Slot::Stream(_) | Slot::Socket(_) => Err(Errno::Notdir.into()),
        }
    }

    /// Closes what no number stands for any more.
    fn close(&self, memory: &mut GuestMemory<'_>, slot: Slot) -> Result<(), Error> {
        match slot {
            Slot::File(inner) => at_once(self.lock().inner.fd_close(memory, inner)),
            // The last one to use a socket closes it; the container's streams stay open.
            Slot::Socket(_) | Slot::Stream(_) => Ok(()),
        }
    }
}

/// Defines WASI 0.1 in `linker`.
///
/// # Errors
/// When something of that name is there.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host: fn(&mut T) -> &mut Host,
) -> wasmtime::Result<()> {
    wasi_snapshot_preview1::add_to_linker(linker, host)
}

/// Runs to its end what never waits: a host that may block does everything in place.
///
/// # Errors
/// What the future returns; a trap should it wait all the same.
fn at_once<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::trap(wasmtime::format_err!("a call of WASI 0.1 waits"))),
    }
}

/// `fd_filestat_get` of what has no place in a file system, as wasmtime answers it.
fn placeless(filetype: types::Filetype) -> types::Filestat {
    types::Filestat { dev: 0, ino: 0, filetype, nlink: 0, size: 0, atim: 0, mtim: 0, ctim: 0 }
}
