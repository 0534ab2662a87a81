//! Bounding what a guest allocates.

use std::mem::size_of;

use wasmtime::ResourceLimiter;

/// The memory of one guest: its linear memories and tables together, since what bounds the
/// container bounds their sum.
#[derive(Debug)]
pub struct Budget {
    /// In bytes.
    left: usize,
    /// What the last request was granted, which is given back if it fails all the same.
    granted: usize,
}

impl Budget {
    /// A budget of `bytes`; without, only the kernel sets a limit.
    pub fn new(bytes: Option<usize>) -> Self {
        Self { left: bytes.unwrap_or(usize::MAX), granted: 0 }
    }

    fn grant(&mut self, bytes: usize) -> bool {
        let Some(left) = self.left.checked_sub(bytes) else {
            self.granted = 0;
            return false;
        };
        self.left = left;
        self.granted = bytes;
        true
    }

    fn take_back(&mut self) {
        self.left += std::mem::take(&mut self.granted);
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
}
