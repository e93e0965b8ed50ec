//! The logs in memory that both implementations write to and read from: as lean as can be, so that the rows measure the
//! cores. Each keeps what its implementation hands out as it is: raft-rs gives entries away, ours shares runs of them.

use crate::core::At;
use std::collections::VecDeque;

/// What both kinds of entries have.
pub(crate) trait Item: Clone {
    fn at(&self) -> At;
    fn size(&self) -> u64;
}

#[derive(Debug)]
pub(crate) struct Log<E> {
    /// What stands before the first entry.
    pub(crate) base: At,
    /// Contiguous from `base.index + 1`.
    pub(crate) entries: VecDeque<E>,
    pub(crate) voters: Vec<u64>,
    pub(crate) outgoing: Vec<u64>,
    /// Term, vote and commit of the hard state at the start.
    pub(crate) state: (u64, u64, u64),
}

impl<E: Item> Log<E> {
    pub(crate) fn first(&self) -> u64 {
        self.base.index + 1
    }

    pub(crate) fn last(&self) -> At {
        self.entries.back().map_or(self.base, Item::at)
    }

    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entries.get(index.checked_sub(self.first())? as usize).map(|entry| entry.at().term)
    }

    /// Entries of `low..high`, which are there; at least one, at most about `bytes_max`.
    pub(crate) fn read(&self, low: u64, high: u64, bytes_max: u64, out: &mut Vec<E>) {
        let first = self.first();
        let mut bytes = 0;
        for entry in self.entries.range((low - first) as usize..(high - first) as usize) {
            bytes += entry.size();
            if bytes > bytes_max && entry.at().index > low {
                break;
            }
            out.push(entry.clone());
        }
    }

    /// Appends, replacing what stands at and after the first.
    pub(crate) fn write(&mut self, entries: Vec<E>) {
        if let Some(first) = entries.first() {
            self.entries.truncate((first.at().index - self.first()) as usize);
            self.entries.extend(entries);
        }
    }

    /// Drops everything before `index`.
    pub(crate) fn compact(&mut self, index: u64) {
        if index > self.base.index {
            let term = self.term(index).expect("compaction ends at an entry");
            self.entries.drain(..(index - self.base.index) as usize);
            self.base = At { term, index };
        }
    }
}
