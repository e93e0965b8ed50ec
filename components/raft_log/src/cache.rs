//! The newest entries of one log, kept in memory.

use raft::{Entry, EntryId};
use std::collections::VecDeque;
use types::LogIndex;

/// Contiguous entries up to the end of a log. Serves replication to followers that keep up, so that the hot path reads
/// nothing from disk.
///
/// Invariant: always a suffix of the log as last appended (an overwritten entry never survives here).
#[derive(Default, Debug)]
pub struct EntryCache {
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl EntryCache {
    /// The index of the first entry held; `None` when empty.
    #[must_use]
    pub fn first_index(&self) -> Option<LogIndex> {
        self.entries.front().map(|entry| entry.index)
    }

    /// What the entries weigh, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends entries, dropping whatever stands at or after the first of them.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        self.truncate_from(first.index);
        if self.entries.back().is_some_and(|last| last.index.next() != first.index) {
            self.clear();
        }
        for entry in entries {
            self.bytes += entry.size_bytes();
            self.entries.push_back(own(entry));
        }
    }

    /// Drops the entries at and after `index`.
    pub fn truncate_from(&mut self, index: LogIndex) {
        while self.entries.back().is_some_and(|last| last.index >= index) {
            let entry = self.entries.pop_back().expect("there is a last entry");
            self.bytes -= entry.size_bytes();
        }
    }

    /// Drops the entries at and before `index`.
    pub fn evict_to(&mut self, index: LogIndex) {
        while self.entries.front().is_some_and(|first| first.index <= index) {
            self.evict_first();
        }
        self.release_memory();
    }

    /// Drops the oldest entries until the rest weighs at most `bytes_max`, but none after `index`.
    pub fn shrink_to(&mut self, bytes_max: u64, index: LogIndex) {
        while self.bytes > bytes_max && self.entries.front().is_some_and(|first| first.index <= index) {
            self.evict_first();
        }
        self.release_memory();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.entries = VecDeque::new();
        self.bytes = 0;
    }

    /// The entry at `index`.
    #[must_use]
    pub fn get(&self, index: LogIndex) -> Option<&Entry> {
        let first = self.first_index()?;
        self.entries.get(usize::try_from(index.get().checked_sub(first.get())?).ok()?)
    }

    /// Appends to `out` the entries of `low..high` that fit into `bytes_max`, the first one in any case. `low` must be
    /// held. Returns how many were appended.
    pub fn read(&self, low: LogIndex, high: LogIndex, bytes_max: u64, out: &mut Vec<Entry>) -> usize {
        let first = self.first_index().expect("the entry at `low` is held");
        let skip = usize::try_from(low.distance_from(first)).expect("the cache fits in memory");
        let mut bytes = 0;
        let before = out.len();
        for entry in self.entries.iter().skip(skip).take_while(|entry| entry.index < high) {
            bytes += entry.size_bytes();
            if bytes > bytes_max && out.len() > before {
                break;
            }
            out.push(entry.clone());
        }
        out.len() - before
    }

    /// The position of the last entry.
    #[must_use]
    pub fn last(&self) -> Option<EntryId> {
        self.entries.back().map(Entry::id)
    }

    fn evict_first(&mut self) {
        let entry = self.entries.pop_front().expect("there is a first entry");
        self.bytes -= entry.size_bytes();
    }

    fn release_memory(&mut self) {
        // A burst must not leave its buffer behind in a hundred thousand groups.
        const IDLE_CAPACITY: usize = 16;
        if self.entries.is_empty() && self.entries.capacity() > IDLE_CAPACITY {
            self.entries = VecDeque::new();
        }
    }
}

/// An entry as it is kept. A small one that came in a large receive buffer would keep all of that buffer.
fn own(entry: &Entry) -> Entry {
    const COPIED_BELOW: usize = 4 << 10;
    match entry.data.len() < COPIED_BELOW {
        true => Entry { data: bytes::Bytes::copy_from_slice(&entry.data), ..*entry },
        false => entry.clone(),
    }
}
