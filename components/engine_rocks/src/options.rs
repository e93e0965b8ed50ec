//! What an operator may set, and how the rest of RocksDB is set.

use crate::raw;
use engine::Cf;
use rocksdb::statistics::StatsLevel;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
};
use std::sync::LazyLock;

/// How an engine uses its machine. The defaults suit a small one: an idle store stays well under 150 MB.
#[derive(Clone, Debug)]
pub struct Options {
    /// Blocks, indexes and filters of SST files held in memory. Grows to this size with use.
    pub block_cache_bytes: usize,
    /// A family's memtable is flushed at this size. Admission bounds how many there are
    /// ([`engine::Pressure::immutable_memtables`]).
    pub write_buffer_bytes: usize,
    /// When the journal holds more that is in no file, everything is flushed. Also about what a restart replays.
    pub max_total_wal_bytes: u64,
    /// Threads for flushes and compactions together.
    pub max_background_jobs: u32,
    /// SST files held open. With the log files and sockets it must fit the process's limit of open files.
    pub max_open_files: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_cache_bytes: 64 << 20,
            write_buffer_bytes: 16 << 20,
            max_total_wal_bytes: 256 << 20,
            max_background_jobs: 2,
            // The usual soft limit of a process is 1024.
            max_open_files: 640,
        }
    }
}

/// Level-0 files, immutable memtables and pending compaction at which RocksDB itself would slow or stop its writers.
/// Out of reach: admission refuses client writes long before, and what is already replicated must be applied.
const LEVEL0_SLOWDOWN: i32 = 1 << 12;
const LEVEL0_STOP: i32 = 1 << 13;
const MEMTABLES_STOP: i32 = 64;
const PENDING_COMPACTION_SLOWDOWN: usize = 1 << 42;
const PENDING_COMPACTION_STOP: usize = 1 << 43;

/// Options of the whole database.
pub(crate) fn database(options: &Options) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);

    // One prefix: see `raw::assert_one_prefix`. What is said here of RocksDB's own log is for directories that were written
    // before there was the journal: it is redone when they are opened, and never written to.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    db.set_track_and_verify_wals_in_manifest(true);
    db.set_max_total_wal_size(options.max_total_wal_bytes);
    // Each log file begins with what the one before it ended with. Without that, a loss of power that leaves the older one
    // short between two of its records, and has the newer one, recovers what came later without what came before.
    raw::chain_logs(&mut db, true);
    raw::forbid_resume(&mut db);

    // Families are flushed as one, so that files hold a prefix of all batches too: those in the journal follow it.
    db.set_atomic_flush(true);

    db.set_max_background_jobs(i32::try_from(options.max_background_jobs.max(2)).unwrap_or(i32::MAX));
    db.set_max_open_files(i32::try_from(options.max_open_files).unwrap_or(i32::MAX));
    // Written pages leave for the disk in small portions, so that a sync of the log does not wait behind a compaction.
    db.set_bytes_per_sync(1 << 20);
    db.set_max_manifest_file_size(64 << 20);

    // Counts alone: no clock is read for them.
    db.enable_statistics();
    db.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);

    // RocksDB's own log: enough for a post-mortem, bounded.
    db.set_log_level(LogLevel::Info);
    db.set_max_log_file_size(8 << 20);
    db.set_keep_log_file_num(4);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

/// The family of the journal. Programs that know only RocksDB's own log do not know it either, and open nothing that has it.
pub(crate) const JOURNAL_FAMILY: &str = "journal";

/// The families, in the order of [`Cf::ALL`], and that of the journal.
pub(crate) fn families(options: &Options, cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    let own = Cf::ALL.iter().map(|cf| (cf.name(), family(*cf, options, Some(cache))));
    let journal = (JOURNAL_FAMILY, family(Cf::Raft, options, Some(cache)));
    own.chain([journal]).map(|(name, options)| ColumnFamilyDescriptor::new(name, options)).collect()
}

/// Options of a file made for ingestion; the same for every family that is ingested into.
pub(crate) static SST_FILE: LazyLock<rocksdb::Options> =
    LazyLock::new(|| family(Cf::Default, &Options::default(), None));

/// Options of one family.
pub(crate) fn family(cf: Cf, options: &Options, cache: Option<&Cache>) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    if let Some(cache) = cache {
        table.set_block_cache(cache);
        // Indexes and filters count against the cache, so that memory stays bounded whatever the data grows to.
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    }
    table.set_block_size(8 << 10);
    if cf != Cf::Raft {
        // Ten bits a key: one in a hundred reads of an absent key looks into a file. The log is read by position.
        table.set_bloom_filter(10.0, false);
        table.set_optimize_filters_for_memory(true);
    }

    let mut family = rocksdb::Options::default();
    family.set_block_based_table_factory(&table);
    // What is flushed is merged into the levels below soon, and by then often overwritten: it is packed there. Files made
    // for ingestion are packed as the last level is.
    family.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]);
    family.set_write_buffer_size(options.write_buffer_bytes);
    family.set_max_write_buffer_number(MEMTABLES_STOP);
    family.set_target_file_size_base(32 << 20);
    family.set_max_bytes_for_level_base(128 << 20);
    family.set_level_compaction_dynamic_level_bytes(true);
    family.set_level_zero_slowdown_writes_trigger(LEVEL0_SLOWDOWN);
    family.set_level_zero_stop_writes_trigger(LEVEL0_STOP);
    family.set_soft_pending_compaction_bytes_limit(PENDING_COMPACTION_SLOWDOWN);
    family.set_hard_pending_compaction_bytes_limit(PENDING_COMPACTION_STOP);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_keep_the_promise_of_one_prefix() {
        raw::assert_one_prefix(&database(&Options::default()));
    }

    #[test]
    #[should_panic(expected = "batches are applied in order")]
    fn an_option_that_breaks_the_promise_is_found_out() {
        let mut options = database(&Options::default());
        options.set_unordered_write(true);
        raw::assert_one_prefix(&options);
    }
}
