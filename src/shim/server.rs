//! The shim process itself: it serves containerd until its last container is gone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use containerd_shim::logger::FifoLogger;
use containerd_shim::protos::ttrpc::r#async::Server;
use containerd_shim::protos::ttrpc::r#async::transport::Listener;
use containerd_shim::{ExitSignal, Flags};
use log::{LevelFilter, info, warn};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::fs::OFlags;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::shim::container::Container;
use crate::shim::events::Publisher;
use crate::shim::reaper::Reaper;
use crate::shim::service;

/// At its end the shim waits this long for its last events and answers to get through.
const FAREWELL: Duration = Duration::from_secs(2);

/// Told to end, a shim has this long to end its containers. A service manager waits longer.
const LAST_ENDS: Duration = Duration::from_secs(20);

/// At this distance it looks whether a container that is being made is there.
const BEING_MADE: Duration = Duration::from_millis(20);

/// What all containers of a shim share.
pub struct Shim {
    /// The containerd namespace.
    pub namespace: String,
    /// containerd's own socket.
    pub containerd: PathBuf,
    /// Whether runtimes are to log what they do.
    pub debug: bool,
    /// Reaps every process.
    pub reaper: Arc<Reaper>,
    /// Tells containerd.
    pub events: Publisher,
    exit: ExitSignal,
    socket: PathBuf,
    consoles: AtomicU64,
    containers: Mutex<Containers>,
}

#[derive(Default)]
struct Containers {
    by_id: HashMap<String, Slot>,
    /// The shim is about to end and takes no more.
    closed: bool,
}

/// A container's place in the list, taken before it is made.
#[derive(Clone)]
enum Slot {
    Taken,
    Made(Arc<Container>),
}

impl Shim {
    /// The container `id`.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        match self.containers().by_id.get(id) {
            Some(Slot::Made(container)) => Ok(container.clone()),
            _ => Err(Error::not_found(format!("container {id} does not exist"))),
        }
    }

    /// Ends the shim if no container is left, nor on the way.
    pub fn shut_down(&self) {
        let mut containers = self.containers();
        if containers.by_id.is_empty() {
            containers.closed = true;
            self.exit.signal();
        }
    }

    /// Ends all containers, those that are being made included, and the shim.
    async fn end(&self) {
        self.containers().closed = true;
        let all = async {
            while let Some(next) = self.next_to_end() {
                match next {
                    Slot::Taken => tokio::time::sleep(BEING_MADE).await,
                    Slot::Made(container) => {
                        container.end().await;
                        self.remove(container.id());
                    }
                }
            }
        };
        if timeout(LAST_ENDS, all).await.is_err() {
            warn!("not all containers ended in time");
        }
        self.exit.signal();
    }

    /// A container, if possible one that is made.
    fn next_to_end(&self) -> Option<Slot> {
        let containers = self.containers();
        let made = containers.by_id.values().find(|slot| matches!(slot, Slot::Made(_)));
        made.or_else(|| containers.by_id.values().next()).cloned()
    }

    /// Adds the container that `make` makes under an id that is free.
    pub async fn add(
        &self,
        id: &str,
        make: impl Future<Output = Result<Arc<Container>>>,
    ) -> Result<Arc<Container>> {
        self.reserve(id)?;
        let made = make.await.inspect_err(|_| self.remove(id))?;
        self.containers().by_id.insert(id.to_owned(), Slot::Made(made.clone()));
        Ok(made)
    }

    fn reserve(&self, id: &str) -> Result<()> {
        let mut containers = self.containers();
        if containers.closed {
            return Err(Error::precondition("the shim is shutting down; try again"));
        }
        match containers.by_id.entry(id.to_owned()) {
            Entry::Vacant(free) => drop(free.insert(Slot::Taken)),
            Entry::Occupied(_) => {
                let message = format!("container {id} already exists");
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
        }
        Ok(())
    }

    /// Takes a deleted container off the list.
    pub fn remove(&self, id: &str) {
        self.containers().by_id.remove(id);
    }

    /// A new path for a console socket, beside the shim's own socket: a bundle's path can be too
    /// long for one.
    pub fn console_path(&self) -> PathBuf {
        let number = self.consoles.fetch_add(1, Ordering::Relaxed);
        self.socket.with_added_extension(format!("tty{number}"))
    }

    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves on the listener that is this process's standard input, until told to shut down.
pub fn serve(flags: &Flags) -> Result<()> {
    start_logging(flags.debug)?;
    // The bundle is the first container's; others of the group may outlive it.
    std::env::set_current_dir("/").os(|| "leave the bundle")?;
    let listener = take_listener()?;
    let socket = PathBuf::from(super::socket_path(&flags.socket));
    let inode = inode(&socket);
    let events = std::env::var("TTRPC_ADDRESS").os(|| "read TTRPC_ADDRESS from the environment")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .os(|| "start the Tokio runtime")?;
    runtime.block_on(async {
        let shim = Arc::new(Shim {
            namespace: flags.namespace.clone(),
            containerd: flags.address.clone().into(),
            debug: flags.debug,
            reaper: Reaper::start()?,
            events: Publisher::new(&events, &flags.namespace),
            exit: ExitSignal::default(),
            socket: socket.clone(),
            consoles: AtomicU64::new(0),
            containers: Mutex::default(),
        });
        let listener = Listener::try_from(listener).os(|| "use the socket")?;
        let mut server = Server::new().add_listener(listener);
        server = server.register_service(service::methods(&shim));
        server.start().await.os(|| "serve the task service")?;
        end_on_signals(&shim)?;
        report_ready()?;
        info!("serving {}", flags.socket);
        shim.exit.wait().await;
        // A new container of the group must not find a socket that is about to close.
        remove_socket(&socket, inode);
        shim.events.flush(FAREWELL).await;
        if timeout(FAREWELL, server.shutdown()).await.is_err() {
            warn!("a call was still in progress when the shim ended");
        }
        Ok(())
    })
}

/// Takes the listener from standard input, where the `start` action puts it.
fn take_listener() -> Result<UnixListener> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().os(|| "take the socket")?;
    let null = null()?;
    dup2_stdin(&null).os(|| "detach standard input")?;
    let listener = UnixListener::from(stdin);
    listener.local_addr().context(ErrorKind::InvalidArgument, || {
        "standard input is no socket: the shim is started by containerd, with the action \"start\""
    })?;
    Ok(listener)
}

/// Tells the `start` action, which waits for the end of this output, that all is well.
fn report_ready() -> Result<()> {
    let null = null()?;
    dup2_stdout(&null).os(|| "detach standard output")?;
    dup2_stderr(&null).os(|| "detach standard error")
}

fn null() -> Result<std::fs::File> {
    OpenOptions::new().read(true).write(true).open("/dev/null").os(|| "open /dev/null")
}

/// Logs to the FIFO that containerd has put into the bundle. It never waits for containerd: what
/// a full FIFO does not take is lost.
fn start_logging(debug: bool) -> Result<()> {
    let fifo = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open("log")
        .os(|| "open the FIFO \"log\" in the bundle")?;
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    log::set_boxed_logger(Box::new(FifoLogger::with_file(fifo))).os(|| "start logging")
}

/// SIGTERM ends the shim and its containers, as runc's shim does with containerd's help. This one
/// does not depend on it: containerd may be gone already when a machine goes down.
fn end_on_signals(shim: &Arc<Shim>) -> Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).os(|| "listen for signals")?;
        let shim = shim.clone();
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                warn!("signal {}: ending all containers", kind.as_raw_value());
                shim.end().await;
            }
        });
    }
    Ok(())
}

fn inode(socket: &Path) -> Option<u64> {
    std::fs::symlink_metadata(socket).ok().map(|socket| socket.ino())
}

/// Removes the socket, unless another shim has meanwhile put its own there.
fn remove_socket(socket: &Path, own: Option<u64>) {
    if own.is_some()
        && inode(socket) == own
        && let Err(error) = std::fs::remove_file(socket)
    {
        warn!("remove {}: {error}", socket.display());
    }
}
