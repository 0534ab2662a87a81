//! Listeners that are there before the guest: made where its container is, by its user.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use nix::sys::stat::{Mode, umask};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use super::socket::Socket;
use crate::config::{Address, Listen};
use crate::error::{Context, Result};

/// What sd_listen_fds(3) takes from the environment, and the number of the first listener, which
/// there is always 3.
pub const VARIABLES: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_FDS_START", "LISTEN_PID"];

/// Sockets that listen, in the order of their descriptors.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// With their names.
    pub sockets: Vec<(String, Arc<Socket>)>,
    /// Whether they come before the directories.
    pub first: bool,
}

impl Listeners {
    /// Listens at all addresses of `config`, or at none. Must run inside the container, in a
    /// process without other threads.
    ///
    /// # Errors
    /// The first address where it cannot.
    pub fn bind(config: &Listen) -> Result<Self> {
        let mut listeners = Self { sockets: Vec::new(), first: config.first };
        let mut made = Vec::new();
        for listener in &config.addresses.0 {
            let bound = match &listener.address {
                Address::Tcp(address) => at_address(*address, config),
                Address::Unix(path) => at_path(path, config).inspect(|_| made.push(path)),
            };
            let socket = bound.os(|| format!("listen.addresses: listen at {}", listener.address));
            let socket = socket.inspect_err(|_| {
                // Of no use to anybody; an error here would only hide the first.
                made.iter().for_each(|path| drop(std::fs::remove_file(path)));
            })?;
            listeners.sockets.push((listener.name.clone(), Arc::new(Socket::listener(socket))));
        }
        Ok(listeners)
    }

    /// The numbers that this process has for them.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.sockets.iter().map(|(_, socket)| socket.fd().as_raw_fd())
    }

    /// The variables by which the guest learns of them; `first` is the number of the first.
    pub fn variables(&self, first: u32) -> [(&'static str, String); 3] {
        let names: Vec<_> = self.sockets.iter().map(|(name, _)| name.as_str()).collect();
        let [count, list, start, _] = VARIABLES;
        [(count, names.len().to_string()), (list, names.join(":")), (start, first.to_string())]
    }
}

fn at_address(address: SocketAddr, config: &Listen) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, config)?;
    // Connections of an earlier container that linger do not keep it from its port.
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, config.backlog.into())?;
    Ok(socket)
}

/// As systemd's sockets: anybody who reaches the path may connect, and a socket that was left
/// there, where nobody listens any more, is replaced.
fn at_path(path: &Path, config: &Listen) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket(AddressFamily::UNIX, config)?;
    let bound = || {
        let mask = umask(Mode::from_bits_truncate(0o111));
        let bound = bind(&socket, &address);
        umask(mask);
        bound
    };
    match bound() {
        Err(Errno::ADDRINUSE) if is_abandoned(path, &address) => {
            rustix::fs::unlink(path)?;
            bound()?;
        }
        bound => bound?,
    }
    listen(&socket, config.backlog.into())?;
    Ok(socket)
}

fn is_abandoned(path: &Path, address: &SocketAddrUnix) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    is_socket && probe.is_ok_and(|probe| connect(&probe, address) == Err(Errno::CONNREFUSED))
}

fn socket(family: AddressFamily, config: &Listen) -> Result<OwnedFd, Errno> {
    let waits = if config.blocking { SocketFlags::empty() } else { SocketFlags::NONBLOCK };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | waits, None)
}
