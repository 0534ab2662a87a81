//! Bounding what a guest allocates.

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

/// The memory of one guest: its linear memories and tables together, since what bounds the
/// container bounds their sum.
#[derive(Debug)]
pub struct Budget {
    /// In bytes.
    left: Arc<AtomicUsize>,
    /// What this guest has of it.
    taken: usize,
    /// What the last request was granted, which is given back if it fails all the same.
    granted: usize,
}

/// One that only the kernel bounds.
impl Default for Budget {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Budget {
    /// A budget of `bytes`; without, only the kernel sets a limit.
    pub fn new(bytes: Option<usize>) -> Self {
        Self { left: Arc::new(bytes.unwrap_or(usize::MAX).into()), taken: 0, granted: 0 }
    }

    fn grant(&mut self, bytes: usize) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        self.granted = if taken.is_ok() { bytes } else { 0 };
        self.taken += self.granted;
        taken.is_ok()
    }

    fn take_back(&mut self) {
        let granted = std::mem::take(&mut self.granted);
        self.taken -= granted;
        self.left.fetch_add(granted, Ordering::Relaxed);
    }

    /// The budget of another guest.
    pub fn share(&self) -> Self {
        Self { left: self.left.clone(), taken: 0, granted: 0 }
    }
}

/// What a guest had goes to the others.
impl Drop for Budget {
    fn drop(&mut self) {
        self.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

/// A guest that asks for too much is told so: `memory.grow` returns -1. Only what a program
/// needs to begin with, and cannot have, ends it.
impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grant(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        let elements = desired.saturating_sub(current);
        Ok(possible && self.grant(elements.saturating_mul(size_of::<usize>())))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_budget() {
        let mut budget = Budget::new(Some(1000));
        assert!(budget.memory_growing(0, 600, None).unwrap());
        assert!(!budget.memory_growing(0, 600, None).unwrap());
        assert!(budget.table_growing(0, 50, None).unwrap());
        assert!(!budget.table_growing(50, 51, None).unwrap());
        assert!(!budget.memory_growing(600, 601, Some(600)).unwrap());
    }

    #[test]
    fn a_grant_that_came_to_nothing_is_given_back() {
        let mut budget = Budget::new(Some(1000));
        assert!(budget.memory_growing(0, 1000, None).unwrap());
        budget.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert!(budget.memory_growing(0, 1000, None).unwrap());
        // A refusal grants nothing that could be given back.
        assert!(!budget.memory_growing(1000, 1001, None).unwrap());
        budget.memory_grow_failed(wasmtime::format_err!("refused")).unwrap();
        assert!(!budget.memory_growing(1000, 1001, None).unwrap());
    }

    #[test]
    fn guests_of_one_container_share_what_it_has() {
        let all = Budget::new(Some(1000));
        let (mut first, mut second) = (all.share(), all.share());
        assert!(first.memory_growing(0, 700, None).unwrap());
        assert!(!second.memory_growing(0, 700, None).unwrap());
        drop(first);
        assert!(second.memory_growing(0, 700, None).unwrap());
    }
}
