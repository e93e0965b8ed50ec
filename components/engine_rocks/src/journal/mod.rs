//! The write-ahead log: every batch in one order, in files whose blocks are written again and again.
//!
//! RocksDB's own log grows with each sync, and each of them then changes the file's size and takes new pages. Here a
//! sync is one write of whole blocks past the system's cache, into a file that has them already. RocksDB gets each
//! batch unlogged, right after it got its place here, and flushes all families as one; a key in a family of its own
//! says which batch is the last of what was flushed ([`Position`]). What a restart finds is that, and the batches that
//! follow it here, up to the first that is not whole.
//!
//! Invariant: batches enter the memtables in the order of their numbers, so what is flushed is a prefix of them; and a
//! segment is written again only when everything in it was flushed.

mod files;
mod record;

pub(crate) use files::{Missing, Recovered};

use files::Files;
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::path::Path;

/// Up to which batch something holds all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Position {
    /// Which life of the directory; grows each time it is opened.
    pub(crate) generation: u64,
    /// The number of the last batch; they are counted over all lives.
    pub(crate) number: u64,
}

impl Position {
    /// Of a directory that has never had a journal.
    pub(crate) const NONE: Self = Self { generation: 0, number: 0 };

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.generation.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) made; `None` if that is something else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (generation, number) = bytes.split_first_chunk()?;
        let number = number.try_into().ok()?;
        Some(Self { generation: u64::from_be_bytes(*generation), number: u64::from_be_bytes(number) })
    }
}

/// Batches that have their place and are not on disk.
#[derive(Debug)]
pub(crate) struct Pending {
    generation: u64,
    /// The last batch.
    number: u64,
    records: Vec<u8>,
}

impl Pending {
    /// Gives a batch its place.
    pub(crate) fn push(&mut self, payload: &[u8]) -> Position {
        self.number += 1;
        record::push(self.number, payload, &mut self.records);
        self.position()
    }

    /// The place of the last batch.
    pub(crate) const fn position(&self) -> Position {
        Position { generation: self.generation, number: self.number }
    }

    /// Whether so much waits that whoever wrote it should write it out.
    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= PENDING_BYTES_MAX
    }
}

/// Bytes of batches that wait in memory for a sync.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// The write-ahead log of an open directory. Locks are taken in the order of the fields.
#[derive(Debug)]
pub(crate) struct Journal {
    files: Mutex<Files>,
    pending: Mutex<Pending>,
}

impl Journal {
    /// Begins a life of the directory: makes a first segment of it durable beside those of the last one, which stay until
    /// [`forget`](Self::forget).
    pub(crate) fn begin(directory: &Path, after: Position, recovered: Recovered) -> io::Result<Self> {
        let position = Position { generation: after.generation + 1, number: after.number };
        let files = Files::begin(directory, position, recovered)?;
        let pending =
            Pending { generation: position.generation, number: position.number, records: Vec::new() };
        Ok(Self { files: Mutex::new(files), pending: Mutex::new(pending) })
    }

    /// For a batch that is given its place and then written: others wait, so that memtables get them in this order.
    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock()
    }

    /// Makes durable every batch that has its place when this begins. `is_usable` is asked once nobody else writes.
    pub(crate) fn sync(&self, is_usable: impl FnOnce() -> bool) -> io::Result<()> {
        let mut files = self.files.lock();
        if !is_usable() {
            return Err(io::Error::other("the engine has failed before"));
        }
        let (mut records, last) = {
            let mut pending = self.pending.lock();
            let last = pending.position().number;
            (std::mem::take(&mut pending.records), last)
        };
        files.write(&mut records, last)?;
        records.clear();
        let mut pending = self.pending.lock();
        // The memory is used again, unless it was an unusual amount.
        if pending.records.is_empty() && records.capacity() <= 2 * PENDING_BYTES_MAX {
            pending.records = records;
        }
        Ok(())
    }

    /// Segments of which everything was flushed may be written again.
    pub(crate) fn forget(&self, flushed: Position) {
        self.files.lock().forget(flushed);
    }

    /// Bytes of segments that hold what may not have been flushed.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.files.lock().unflushed_bytes()
    }

    /// Whether a segment was begun since this was last asked.
    pub(crate) fn has_begun_segment(&self) -> bool {
        self.files.lock().has_begun()
    }
}
