//! The clock by which a guest that computes lets others run, so that its time limit can end it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

use crate::error::{Context, Result};

/// How long a guest computes before others get their turn.
const TICK: Duration = Duration::from_millis(10);

/// Ticks while guests run, in a thread of its own: those of the event loop may all be computing.
#[derive(Clone)]
pub struct Epochs {
    running: Arc<AtomicUsize>,
    thread: Thread,
}

impl Epochs {
    /// Starts the clock of `engine`.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(engine: &Engine) -> Result<Self> {
        let running = Arc::new(AtomicUsize::new(0));
        let (engine, counted) = (engine.clone(), running.clone());
        let ticker = thread::Builder::new().name("epochs".to_owned()).spawn(move || {
            loop {
                while counted.load(Ordering::Acquire) > 0 {
                    thread::sleep(TICK);
                    engine.increment_epoch();
                }
                thread::park();
            }
        });
        Ok(Self { running, thread: ticker.os(|| "start a thread")?.thread().clone() })
    }

    /// Ticks until the answer is dropped.
    pub fn tick(&self) -> Ticking {
        if self.running.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        Ticking(self.running.clone())
    }
}

/// As long as this lives, the clock ticks.
pub struct Ticking(Arc<AtomicUsize>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
