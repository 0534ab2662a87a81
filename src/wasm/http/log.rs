//! The access log: a line a request on standard error, written by a thread of its own, so that a
//! slow reader delays nobody. Lines that it cannot keep up with are left out, and counted.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use crate::error::{Context, Result};

/// How many lines may wait to be written.
const WAITING: usize = 4096;

/// Where entries go.
#[derive(Clone)]
pub struct AccessLog {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
}

/// One request; its line is written when this is dropped.
pub struct Entry {
    log: AccessLog,
    id: u64,
    peer: SocketAddr,
    request: String,
    start: Instant,
    /// The status of the response.
    pub status: u16,
    /// The bytes of the response's body that were sent.
    pub bytes: u64,
}

impl AccessLog {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start() -> Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Self { lines, lost: lost.clone() };
        let writer = thread::Builder::new().name("access-log".to_owned());
        writer.spawn(move || write(&waiting, &lost)).os(|| "start a thread")?;
        Ok(log)
    }

    /// Begins the entry of a request.
    pub fn entry(&self, id: u64, peer: SocketAddr, request: &str, start: Instant) -> Entry {
        let request = request.to_owned();
        Entry { log: self.clone(), id, peer, request, start, status: 0, bytes: 0 }
    }
}

fn write(lines: &Receiver<String>, lost: &AtomicU64) {
    for line in lines {
        let lost = lost.swap(0, Ordering::Relaxed);
        let note = if lost > 0 { format!("({lost} lines left out)\n") } else { String::new() };
        // A log that nobody reads any more must not end the server.
        let _ = std::io::stderr().write_all(format!("{note}{line}").as_bytes());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Self { id, peer, request, status, bytes, .. } = self;
        let milliseconds = self.start.elapsed().as_secs_f64() * 1000.0;
        let line = format!(
            "request {id} {peer} \"{request}\" {status} {bytes} bytes {milliseconds:.1} ms\n"
        );
        if self.log.lines.try_send(line).is_err() {
            self.log.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
