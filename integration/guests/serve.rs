//! Sends back what each client says, one client after the other.

use std::env;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::FromRawFd;

fn main() -> io::Result<()> {
    let first = env::var("LISTEN_FDS_START").expect("a number").parse().expect("a number");
    // SAFETY: the descriptor is this program's to have.
    let listener = unsafe { TcpListener::from_raw_fd(first) };
    if env::args().nth(1).as_deref() != Some("as-it-is") {
        listener.set_nonblocking(false)?;
    }
    println!("ready");
    loop {
        let (client, _) = listener.accept()?;
        if let Err(error) = io::copy(&mut &client, &mut &client) {
            println!("copy: {error}");
        }
        client.shutdown(Shutdown::Both)?;
    }
}
