//! Plain numbers for metrics and status pages.

use engine::Cf;

/// What an engine holds and has done. Cheap enough for every few seconds, not for every request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineStats {
    /// Batches written since the engine was opened.
    pub writes: u64,
    /// Bytes of those batches.
    pub written_bytes: u64,
    /// Syncs of the write-ahead log since the engine was opened.
    pub syncs: u64,
    /// What the block cache holds.
    pub block_cache_bytes: u64,
    /// The part of it that readers and level 0 hold fast.
    pub block_cache_pinned_bytes: u64,
    /// Looks into the block cache that found something, since the engine was opened.
    pub block_cache_hits: u64,
    /// Looks that found nothing.
    pub block_cache_misses: u64,
    /// Keys that iterators came to and gave, since the engine was opened.
    pub iterated_keys: u64,
    /// Records that they stepped over: older versions and removals.
    pub iterated_past: u64,
    /// Microseconds for which writes were slowed or stopped.
    pub stalled_micros: u64,
    /// Of the write-ahead log what holds batches that may not be in files yet.
    pub wal_bytes: u64,
    /// Snapshots that are alive.
    pub snapshots: u64,
    /// Flushes running now.
    pub running_flushes: u64,
    /// Compactions running now.
    pub running_compactions: u64,
    /// Writes are stopped until compaction has caught up.
    pub is_write_stopped: bool,
    /// Writes are slowed down to so many bytes a second, for the same reason; zero: they are not.
    pub delayed_write_rate: u64,
    /// Errors of background work; any at all has poisoned the engine.
    pub background_errors: u64,
    /// Each family, in the order of [`Cf::ALL`].
    pub families: Vec<FamilyStats>,
}

/// What one column family holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FamilyStats {
    /// Which.
    pub cf: Cf,
    /// Memtables, flushed ones that snapshots or readers still hold included.
    pub memtable_bytes: u64,
    /// Memtables that wait to be flushed.
    pub immutable_memtables: u64,
    /// Files that belong to the newest version.
    pub sst_bytes: u64,
    /// Files of each level, level 0 first.
    pub level_files: Vec<u64>,
    /// Bytes that compaction is behind.
    pub pending_compaction_bytes: u64,
    /// About how many keys there are; counts overwritten ones and removals in part.
    pub estimated_keys: u64,
}
