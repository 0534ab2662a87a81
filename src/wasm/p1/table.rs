//! The guest's descriptors by number.

use std::sync::Arc;

use wasmtime_wasi::p1::types::{Errno, Fd};

use super::socket::Socket;
use super::stream::Stream;

/// What a number stands for.
#[derive(Clone)]
pub enum Slot {
    /// One of the container's standard streams.
    Stream(Stream),
    /// A file or directory, by its number in wasmtime's own table.
    File(Fd),
    /// A socket.
    Socket(Arc<Socket>),
}

/// All of them. A new descriptor gets the lowest number that is free, as in POSIX.
pub struct Table {
    slots: Vec<Option<Slot>>,
    /// No number below this one is free.
    taken: usize,
}

impl Table {
    /// One with these, numbered from 0 on.
    pub fn new(slots: Vec<Slot>) -> Self {
        Self { taken: slots.len(), slots: slots.into_iter().map(Some).collect() }
    }

    /// What `fd` stands for; `Badf` for nothing.
    pub fn get(&self, fd: Fd) -> Result<&Slot, Errno> {
        self.slots.get(index(fd)).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    /// As [`Table::get`].
    pub fn get_mut(&mut self, fd: Fd) -> Result<&mut Slot, Errno> {
        self.slots.get_mut(index(fd)).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// One more than the highest number ever given.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Gives `slot` a number.
    pub fn insert(&mut self, slot: Slot) -> Fd {
        let free = self.slots[self.taken..].iter().position(Option::is_none);
        let number = free.map_or(self.slots.len(), |free| self.taken + free);
        match self.slots.get_mut(number) {
            Some(place) => *place = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        self.taken = number + 1;
        // Each descriptor of the guest is one of this process, of which there are far fewer.
        Fd::from(number as u32)
    }

    /// Frees a number.
    pub fn remove(&mut self, fd: Fd) -> Result<Slot, Errno> {
        let number = index(fd);
        let slot = self.slots.get_mut(number).and_then(Option::take).ok_or(Errno::Badf)?;
        self.taken = self.taken.min(number);
        Ok(slot)
    }

    /// Gives what `from` stands for the number `to`, and returns what had it. Both must be open:
    /// WASI has no way to make a number up (witx `fd_renumber`).
    pub fn renumber(&mut self, from: Fd, to: Fd) -> Result<Option<Slot>, Errno> {
        self.get(to)?;
        self.get(from)?;
        if index(from) == index(to) {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        Ok(Some(std::mem::replace(self.get_mut(to)?, moved)))
    }
}

fn index(fd: Fd) -> usize {
    u32::from(fd) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u32) -> Slot {
        Slot::File(number.into())
    }

    fn number(slot: &Slot) -> u32 {
        let Slot::File(fd) = slot else { panic!("a file was put in") };
        u32::from(*fd)
    }

    #[test]
    fn the_lowest_free_number_is_taken() {
        let mut table = Table::new(Vec::new());
        let numbers = |table: &mut Table, count: u32| -> Vec<u32> {
            (0..count).map(|n| table.insert(file(n)).into()).collect()
        };
        assert_eq!(numbers(&mut table, 5), [0, 1, 2, 3, 4]);
        for fd in [3, 1] {
            assert!(table.remove(fd.into()).is_ok());
        }
        assert_eq!(numbers(&mut table, 3), [1, 3, 5]);
        assert_eq!(table.remove(6.into()).err(), Some(Errno::Badf));
    }

    #[test]
    fn renumbering_moves_and_returns_what_was_there() {
        let mut table = Table::new((10..13).map(file).collect());
        let replaced = table.renumber(2.into(), 0.into()).unwrap();
        assert_eq!(replaced.as_ref().map(number), Some(10));
        assert_eq!(number(table.get(0.into()).unwrap()), 12);
        assert_eq!(table.get(2.into()).err(), Some(Errno::Badf));
        assert_eq!(u32::from(table.insert(file(7))), 2);
        assert!(table.renumber(1.into(), 1.into()).unwrap().is_none());
        assert_eq!(table.renumber(1.into(), 9.into()).err(), Some(Errno::Badf));
        assert_eq!(table.renumber(9.into(), 1.into()).err(), Some(Errno::Badf));
    }
}
