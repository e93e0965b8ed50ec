//! What we ask of an ordered engine.
//!
//! One [`Engine`] per store holds five column families behind one write-ahead log. [`Engine::write`] applies a batch
//! atomically and makes it visible at once, durable not yet; [`Engine::sync`] makes durable everything written before
//! it began. After a crash the engine holds a prefix of the batches, at least all those that were written before the
//! last successful sync began. Ingested files and physical file deletions stand outside that order: they are durable
//! when the call returns.
//!
//! This room knows no region, no Raft and no RocksDB. Start with [`Engine`]; [`WriteBatch`] is the unit of change;
//! [`MemEngine`] is the contract in memory, with power losses; feature `testing` brings `conformance`, the suite that
//! every engine passes.

mod batch;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
mod mem;

pub use batch::{Op, Ops, WriteBatch};
pub use error::EngineError;
pub use mem::{Durability, Fault, FileDeletion, MemEngine, MemIterator, MemSnapshot, SyncTicket};

use bytes::Bytes;
use types::KeyRange;

/// A column family: a key space of its own within the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Cf {
    /// Values.
    Default = 0,
    /// Locks of transactions in progress.
    Lock = 1,
    /// Older records of what transactions did to keys.
    Write = 2,
    /// Raft logs and hard states, region and apply states, the store's identity.
    Raft = 3,
    /// What transactions did last to keys.
    Newest = 4,
}

impl Cf {
    /// Every column family.
    pub const ALL: [Self; 5] = [Self::Default, Self::Lock, Self::Write, Self::Raft, Self::Newest];
    /// Those that hold a region's data: what a region snapshot carries, in this order.
    pub const DATA: [Self; 4] = [Self::Default, Self::Lock, Self::Write, Self::Newest];

    /// The name under which it is kept on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Lock => "lock",
            Self::Write => "write",
            Self::Raft => "raft",
            Self::Newest => "newest",
        }
    }
}

/// An ordered, transactional-batch engine. A clone is another handle to the same engine.
///
/// An error of [`write`](Engine::write), [`sync`](Engine::sync) or [`ingest`](Engine::ingest) is final: the state of
/// the disk is unknown, the engine refuses everything afterwards, and the store must stop.
pub trait Engine: Clone + Send + Sync + 'static {
    /// A fixed view of the engine.
    type Snapshot: Snapshot;

    /// Applies a batch atomically. Visible when it returns; durable after the next [`sync`](Engine::sync).
    ///
    /// # Errors
    /// [`EngineError::Io`]: the store must stop.
    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// Makes durable every batch whose write returned before this call began. Others may write meanwhile.
    ///
    /// # Errors
    /// [`EngineError::Io`]: the store must stop; a sync is never tried again.
    fn sync(&self) -> Result<(), EngineError>;

    /// The value at `key` now.
    ///
    /// # Errors
    /// [`EngineError`] when the data cannot be read.
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// A fixed view of everything written so far. Holding it for long keeps old data from being reclaimed.
    fn snapshot(&self) -> Self::Snapshot;

    /// A file in the engine's own directory, to be filled with keys in ascending order and then ingested into `cf`.
    /// The name satisfies [`sst_name_is_valid`]; a finished file of that name is replaced when this one is finished. A
    /// writer that is dropped unfinished leaves nothing behind, nor does a crash.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    fn create_sst(&self, cf: Cf, name: &str) -> Result<Box<dyn SstWriter>, EngineError>;

    /// Makes the content of finished files visible over what the engine holds at their keys: all at once within a
    /// family, family after family in the order of their first mention. Files of one family do not overlap. Durable
    /// when it returns, whatever becomes of unsynced writes: sync first what must not be lost before it. Files stay in
    /// place until [`remove_sst`](Engine::remove_sst), so that an interrupted caller can ingest them again.
    ///
    /// # Errors
    /// [`EngineError::Io`]: the store must stop. [`EngineError::MissingFile`]: nothing was changed.
    fn ingest(&self, names: &[(Cf, String)]) -> Result<(), EngineError>;

    /// Names of the files that were finished and not removed, in ascending order.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    fn list_sst(&self) -> Result<Vec<String>, EngineError>;

    /// Removes a file made by [`create_sst`](Engine::create_sst); no error if it does not exist. What was ingested from
    /// it stays.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    fn remove_sst(&self, name: &str) -> Result<(), EngineError>;

    /// Drops whole files that hold only keys of `range`, at once and durably, under live snapshots too: only for data
    /// that no reader can reach any more. Any part of the range may remain, and where it does, a value that had been
    /// overwritten or removed may come back with it: nothing may be read there until a batch has removed the range.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    fn delete_files_in_range(&self, cf: Cf, range: &KeyRange) -> Result<(), EngineError>;

    /// About how many bytes the keys of `range` occupy; zero when unknown.
    fn approximate_size_bytes(&self, cf: Cf, range: &KeyRange) -> u64;

    /// How far the engine is from slowing writes down.
    fn pressure(&self) -> Pressure;
}

/// True if `name` can name a file of [`Engine::create_sst`]: ASCII letters, digits, `-`, `_` and `.`, not beginning
/// with a `.`, at most 128 characters.
#[must_use]
pub fn sst_name_is_valid(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// How far an engine is from slowing its writers down. Admission refuses client writes before it comes to that.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Pressure {
    /// Files in level 0, of the family that has most.
    pub level0_files: u64,
    /// Memtables that wait to be flushed, of the family that has most.
    pub immutable_memtables: u64,
    /// Bytes that compaction is behind, of the family that has most.
    pub pending_compaction_bytes: u64,
    /// Errors of background work; any at all stops the store.
    pub background_errors: u64,
}

/// A fixed view of an engine.
pub trait Snapshot: Send + Sync + 'static {
    /// The value at `key`.
    ///
    /// # Errors
    /// [`EngineError`] when the data cannot be read.
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// An iterator over the keys of `range`, not positioned yet.
    fn iter(&self, cf: Cf, range: &KeyRange) -> Box<dyn EngineIterator + '_>;

    /// The first pair of a range. For those who look at many places: what it takes is kept for the next.
    ///
    /// # Errors
    /// [`EngineError`] when the data cannot be read.
    fn first(&self, cf: Cf, range: &KeyRange) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        first_of(&mut *self.iter(cf, range))
    }
}

/// The first pair within an iterator's bounds.
///
/// # Errors
/// [`EngineError`] when the data cannot be read.
pub fn first_of(iter: &mut dyn EngineIterator) -> Result<Option<(Bytes, Bytes)>, EngineError> {
    match iter.seek_to_first() {
        true => Ok(Some((Bytes::copy_from_slice(iter.key()), Bytes::copy_from_slice(iter.value())))),
        false => iter.status().map(|()| None),
    }
}

/// A position among the keys of a [`Snapshot`]. Every move returns whether it found a key within the bounds; when it
/// did not, [`status`](EngineIterator::status) tells an end from an error.
pub trait EngineIterator {
    /// Moves to the first key within the bounds.
    fn seek_to_first(&mut self) -> bool;
    /// Moves to the last key within the bounds.
    fn seek_to_last(&mut self) -> bool;
    /// Moves to the first key at or after `key`.
    fn seek(&mut self, key: &[u8]) -> bool;
    /// Moves to the last key at or before `key`.
    fn seek_for_prev(&mut self, key: &[u8]) -> bool;
    /// Moves to the following key. Must be on a key.
    fn next(&mut self) -> bool;
    /// Moves to the preceding key. Must be on a key.
    fn prev(&mut self) -> bool;
    /// The key under the position. Must be on a key.
    fn key(&self) -> &[u8];
    /// The value under the position. Must be on a key.
    fn value(&self) -> &[u8];
    /// Why the last move found nothing: `Ok` at the end of the bounds.
    ///
    /// # Errors
    /// [`EngineError`] when the data cannot be read.
    fn status(&self) -> Result<(), EngineError>;
}

/// A file being written for [`Engine::ingest`].
pub trait SstWriter: Send {
    /// Appends a key, greater than all before it (asserted).
    ///
    /// # Errors
    /// [`EngineError::Io`].
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError>;

    /// Makes the file durable. A file without keys is not kept; returns whether it was.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    fn finish(self: Box<Self>) -> Result<bool, EngineError>;
}
