//! The engine: one database, one log.

use crate::error::{engine_error, io_error};
use crate::journal::{Journal, Missing, Position, Recovered};
use crate::sst::{RocksSstWriter, Staging};
use crate::{EngineStats, FamilyStats, OpenError, Options, RocksSnapshot, options, raw};
use bytes::Bytes;
use engine::{Cf, Engine, EngineError, Op, Pressure, SstWriter, WriteBatch, sst_name_is_valid};
use rocksdb::properties as property;
use rocksdb::statistics::Ticker;
use rocksdb::{
    BoundColumnFamily, CStrLike, Cache, DB, FlushOptions, IngestExternalFileOptions, ReadOptions, ReadTier,
    WriteOptions,
};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use types::KeyRange;

/// Handles of the families, in the order of [`Cf::ALL`], and behind them the one of the journal.
type Families<'a> = [Arc<BoundColumnFamily<'a>>; JOURNAL + 1];

/// Where the journal's own family is among them.
const JOURNAL: usize = Cf::ALL.len();
/// Where its files are.
const JOURNAL_DIRECTORY: &str = "journal";
/// The key in it: the last batch that the database holds, with all before it. In each batch, so in each flush.
const POSITION: &[u8] = b"position";

self_cell::self_cell!(
    /// A database with the handles of its families.
    struct Database {
        owner: DB,
        #[covariant]
        dependent: Families,
    }
);

/// What all handles of one engine share.
pub(crate) struct Inner {
    database: Database,
    cache: Cache,
    /// What it was opened with; holds what it counts.
    options: rocksdb::Options,
    staging: Staging,
    journal: Journal,
    /// Past RocksDB's own log.
    write_options: WriteOptions,
    /// When the journal holds more that is not flushed, everything is flushed.
    journal_bytes_max: u64,
    /// Why everything is refused; never taken back.
    poison: OnceLock<EngineError>,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
}

/// RocksDB as an [`Engine`]. A clone is another handle to the same engine; the last one closes it, and so do
/// snapshots, which keep it open.
#[derive(Clone)]
pub struct RocksEngine {
    inner: Arc<Inner>,
}

/// What counts the keys that iterators came to and gave.
const ITERATED: [Ticker; 3] =
    [Ticker::NumberDbSeekFound, Ticker::NumberDbNextFound, Ticker::NumberDbPrevFound];

impl RocksEngine {
    /// Opens the engine in the directory `path`, which is made if it does not exist. What was synced before is there;
    /// of what was not, a prefix.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let unusable = |source| OpenError::Path { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let mut database_options = options::database(options);
        raw::assert_one_prefix(&database_options);
        if is_half_made(path).map_err(unusable)? {
            // Recovery misses the log file, and it is right where there was one.
            raw::chain_logs(&mut database_options, false);
            let made = DB::open_cf_descriptors(&database_options, path, options::families(options, &cache));
            drop(made.map_err(|error| OpenError::from_rocks(path, &error))?);
            raw::chain_logs(&mut database_options, true);
        }
        let db = DB::open_cf_descriptors(&database_options, path, options::families(options, &cache))
            .map_err(|error| OpenError::from_rocks(path, &error))?;
        // After the database, whose lock says that nobody else is writing files there.
        let staging = Staging::open(path).map_err(unusable)?;
        let database = Database::new(db, |db| {
            let own = Cf::ALL.map(|cf| db.cf_handle(cf.name()).expect("it was opened with every family"));
            let journal = db.cf_handle(options::JOURNAL_FAMILY).expect("it was opened with the journal's");
            let [default, lock, write, raft, newest] = own;
            [default, lock, write, raft, newest, journal]
        });
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        let journal = recover(path, &database, &write_options)?;
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                cache,
                options: database_options,
                staging,
                journal,
                write_options,
                journal_bytes_max: options.max_total_wal_bytes,
                poison: OnceLock::new(),
                writes: AtomicU64::new(0),
                written_bytes: AtomicU64::new(0),
                syncs: AtomicU64::new(0),
            }),
        })
    }

    /// Why the engine refuses everything, if it does.
    #[must_use]
    pub fn poisoned(&self) -> Option<EngineError> {
        self.inner.poison.get().cloned()
    }

    /// A property of RocksDB as text, by its full name (`rocksdb.stats`); `None` if there is none of that name.
    #[must_use]
    pub fn property(&self, cf: Cf, name: &str) -> Option<String> {
        self.inner.db().property_value_cf(self.inner.family(cf), name).ok().flatten()
    }

    /// Numbers for metrics. Takes RocksDB's mutex some forty times: for every few seconds.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let inner = &self.inner;
        EngineStats {
            writes: inner.writes.load(Ordering::Relaxed),
            written_bytes: inner.written_bytes.load(Ordering::Relaxed),
            syncs: inner.syncs.load(Ordering::Relaxed),
            block_cache_bytes: inner.cache.get_usage() as u64,
            block_cache_pinned_bytes: inner.cache.get_pinned_usage() as u64,
            iterated_keys: ITERATED.iter().map(|ticker| inner.options.get_ticker_count(*ticker)).sum(),
            iterated_past: inner.options.get_ticker_count(Ticker::NumberIterSkip),
            block_cache_hits: inner.options.get_ticker_count(Ticker::BlockCacheHit),
            block_cache_misses: inner.options.get_ticker_count(Ticker::BlockCacheMiss),
            stalled_micros: inner.options.get_ticker_count(Ticker::StallMicros),
            wal_bytes: inner.journal.unflushed_bytes(),
            snapshots: inner.number(Cf::Default, property::NUM_SNAPSHOTS),
            running_flushes: inner.number(Cf::Default, property::NUM_RUNNING_FLUSHES),
            running_compactions: inner.number(Cf::Default, property::NUM_RUNNING_COMPACTIONS),
            is_write_stopped: inner.number(Cf::Default, property::IS_WRITE_STOPPED) > 0,
            delayed_write_rate: inner.number(Cf::Default, property::ACTUAL_DELAYED_WRITE_RATE),
            background_errors: inner.number(Cf::Default, property::BACKGROUND_ERRORS),
            families: Cf::ALL.iter().map(|cf| inner.family_stats(*cf)).collect(),
        }
    }

    /// Writes all memtables to files, so that the log files can go and a restart has nothing to replay. For an orderly
    /// stop; nothing depends on it.
    ///
    /// # Errors
    /// [`EngineError::Io`]: the store must stop.
    pub fn flush(&self) -> Result<(), EngineError> {
        self.inner.check()?;
        self.inner.flush(true)?;
        self.inner.forget_flushed()
    }

    /// Compacts the keys of `range`, which takes as long as it takes. For operators and tests.
    ///
    /// # Errors
    /// As of [`RocksEngine::flush`].
    pub fn compact(&self, cf: Cf, range: &KeyRange) -> Result<(), EngineError> {
        self.inner.check()?;
        let bound = |key: &Bytes| (!key.is_empty()).then(|| key.clone());
        self.inner.db().compact_range_cf(self.inner.family(cf), bound(&range.start), bound(&range.end));
        self.inner.check_background()
    }
}

impl Inner {
    pub(crate) fn db(&self) -> &DB {
        self.database.borrow_owner()
    }

    pub(crate) fn family(&self, cf: Cf) -> &Arc<BoundColumnFamily<'_>> {
        &self.database.borrow_dependent()[cf as usize]
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Refuses everything once the engine is poisoned (INV-ENGINE-4).
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        match self.poison.get() {
            None => Ok(()),
            Some(reason) => Err(EngineError::Io(format!("refused since an earlier failure: {reason}"))),
        }
    }

    /// Poisons the engine if `result` is an error.
    fn or_poison<T>(&self, result: Result<T, rocksdb::Error>) -> Result<T, EngineError> {
        result.map_err(|error| self.poison(engine_error(&error)))
    }

    fn poison(&self, error: EngineError) -> EngineError {
        // The first reason stays.
        drop(self.poison.set(error.clone()));
        error
    }

    /// Poisons the engine if background work has failed. RocksDB counts errors of all families in its first.
    fn check_background(&self) -> Result<(), EngineError> {
        let errors = self.number(Cf::Default, property::BACKGROUND_ERRORS);
        if errors > 0 {
            return Err(self.poison(EngineError::Io(format!("{errors} failures of flushes or compactions"))));
        }
        Ok(())
    }

    /// A property that is a number; zero if RocksDB does not know it.
    fn number(&self, cf: Cf, name: impl CStrLike) -> u64 {
        self.db().property_int_value_cf(self.family(cf), name).ok().flatten().unwrap_or(0)
    }

    fn level_files(&self, cf: Cf, level: usize) -> Option<u64> {
        let value = self.db().property_value_cf(self.family(cf), property::num_files_at_level(level));
        value.ok().flatten()?.parse().ok()
    }

    fn family_stats(&self, cf: Cf) -> FamilyStats {
        FamilyStats {
            cf,
            memtable_bytes: self.number(cf, property::SIZE_ALL_MEM_TABLES),
            immutable_memtables: self.number(cf, property::NUM_IMMUTABLE_MEM_TABLE),
            sst_bytes: self.number(cf, property::LIVE_SST_FILES_SIZE),
            level_files: (0..).map_while(|level| self.level_files(cf, level)).collect(),
            pending_compaction_bytes: self.number(cf, property::ESTIMATE_PENDING_COMPACTION_BYTES),
            estimated_keys: self.number(cf, property::ESTIMATE_NUM_KEYS),
        }
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut rocks_batch = translate(&self.database, batch);
        let is_full = {
            // Memtables get batches in the order of their places, so that what is flushed is a prefix (INV-ENGINE-3).
            let mut pending = self.journal.pending();
            let position = pending.push(batch.encoded());
            rocks_batch.put_cf(self.journal_family(), POSITION, position.to_bytes());
            self.or_poison(self.db().write_opt(rocks_batch, &self.write_options))?;
            pending.is_full()
        };
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(batch.size_bytes() as u64, Ordering::Relaxed);
        if is_full { self.sync_journal() } else { Ok(()) }
    }

    fn journal_family(&self) -> &Arc<BoundColumnFamily<'_>> {
        &self.database.borrow_dependent()[JOURNAL]
    }

    fn sync_journal(&self) -> Result<(), EngineError> {
        let synced = self.journal.sync(|| self.poison.get().is_none());
        synced.map_err(|error| self.poison(EngineError::Io(format!("writing the journal: {error}"))))?;
        if self.journal.has_begun_segment() {
            self.forget_flushed()?;
            if self.journal.unflushed_bytes() > self.journal_bytes_max {
                self.flush(false)?;
            }
        }
        Ok(())
    }

    /// Writes all memtables to files, of all families as one.
    fn flush(&self, is_awaited: bool) -> Result<(), EngineError> {
        self.or_poison(flush(&self.database, is_awaited))
    }

    /// Tells the journal what it need not keep any more.
    fn forget_flushed(&self) -> Result<(), EngineError> {
        let mut options = ReadOptions::default();
        // Not from memtables, since nothing in them is in RocksDB's own log.
        options.set_read_tier(ReadTier::Persisted);
        let found = self.db().get_cf_opt(self.journal_family(), POSITION, &options);
        let found = found.map_err(|error| engine_error(&error))?;
        let flushed = found.as_deref().and_then(Position::from_bytes);
        self.journal.forget(flushed.expect("the position was flushed when the engine opened"));
        Ok(())
    }

    /// Ingests files of one family, all at once. They stay in place.
    fn ingest_family(&self, cf: Cf, names: &[&str]) -> Result<(), EngineError> {
        // RocksDB either copies a file or takes it over. It takes over a second name of it, so nothing is copied and
        // the first name stays; where the file system knows no second names it copies.
        let links: Vec<_> = names.iter().map(|_| self.staging.temporary()).collect();
        let linked = links
            .iter()
            .zip(names)
            .all(|(link, name)| std::fs::hard_link(self.staging.file(name), link).is_ok());
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(linked);
        let files: Vec<_> = names.iter().map(|name| self.staging.file(name)).collect();
        let sources = if linked { &links } else { &files };
        let ingested =
            self.db().ingest_external_file_cf_opts(self.family(cf), &options, sources.iter().collect());
        for link in &links {
            // Gone if RocksDB took it. What cannot be removed now is removed at the next open.
            drop(std::fs::remove_file(link));
        }
        self.or_poison(ingested)
    }
}

impl Engine for RocksEngine {
    type Snapshot = RocksSnapshot;

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.inner.write(batch)
    }

    fn sync(&self) -> Result<(), EngineError> {
        let inner = &*self.inner;
        inner.check()?;
        inner.sync_journal()?;
        // A failed flush or compaction is told by nobody else: no sync is acknowledged after one.
        inner.check_background()?;
        // And none after a write that failed meanwhile.
        inner.check()?;
        inner.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let inner = &*self.inner;
        inner.check()?;
        match inner.db().get_pinned_cf(inner.family(cf), key) {
            Ok(value) => Ok(value.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(engine_error(&error)),
        }
    }

    fn snapshot(&self) -> RocksSnapshot {
        RocksSnapshot::new(&self.inner)
    }

    fn create_sst(&self, _cf: Cf, name: &str) -> Result<Box<dyn SstWriter>, EngineError> {
        assert!(sst_name_is_valid(name), "{name:?} cannot name a file");
        self.inner.check()?;
        Ok(Box::new(RocksSstWriter::create(&self.inner, name)?))
    }

    fn ingest(&self, names: &[(Cf, String)]) -> Result<(), EngineError> {
        let inner = &*self.inner;
        inner.check()?;
        for (_, name) in names {
            let path = inner.staging.file(name);
            match path.try_exists() {
                Ok(true) => {}
                Ok(false) => return Err(EngineError::MissingFile(name.clone())),
                Err(error) => return Err(inner.poison(io_error("looking for", &path, &error))),
            }
        }
        let mut families: Vec<(Cf, Vec<&str>)> = Vec::new();
        for (cf, name) in names {
            match families.iter_mut().find(|(family, _)| family == cf) {
                Some((_, names)) => names.push(name),
                None => families.push((*cf, vec![name])),
            }
        }
        // Batches that are redone after a crash come to lie over everything that the files hold. So those that were written
        // before them must be flushed, and the others wait: first for what is left after the bulk of it.
        inner.flush(true)?;
        let _pending = inner.journal.pending();
        inner.flush(true)?;
        families.iter().try_for_each(|(cf, names)| inner.ingest_family(*cf, names))
    }

    fn list_sst(&self) -> Result<Vec<String>, EngineError> {
        self.inner.check()?;
        self.inner.staging.list()
    }

    fn remove_sst(&self, name: &str) -> Result<(), EngineError> {
        self.inner.check()?;
        self.inner.staging.remove(name)
    }

    fn delete_files_in_range(&self, cf: Cf, range: &KeyRange) -> Result<(), EngineError> {
        let inner = &*self.inner;
        inner.check()?;
        if range.is_empty() {
            return Ok(());
        }
        let last = last_key_to_delete(&range.end);
        if last[..] < range.start[..] {
            return Ok(());
        }
        let deleted = inner.db().delete_file_in_range_cf(inner.family(cf), &range.start[..], &last);
        inner.or_poison(deleted)
    }

    fn approximate_size_bytes(&self, cf: Cf, range: &KeyRange) -> u64 {
        raw::approximate_size_bytes(self.inner.db(), self.inner.family(cf), range)
    }

    fn pressure(&self) -> Pressure {
        let inner = &*self.inner;
        let most = |number: &dyn Fn(Cf) -> u64| Cf::ALL.into_iter().map(number).max().unwrap_or(0);
        Pressure {
            level0_files: most(&|cf| inner.level_files(cf, 0).unwrap_or(0)),
            immutable_memtables: most(&|cf| inner.number(cf, property::NUM_IMMUTABLE_MEM_TABLE)),
            pending_compaction_bytes: most(&|cf| {
                inner.number(cf, property::ESTIMATE_PENDING_COMPACTION_BYTES)
            }),
            background_errors: inner.number(Cf::Default, property::BACKGROUND_ERRORS),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What was written and not synced may be lost; but not for want of trying.
        if self.poison.get().is_none() {
            drop(self.journal.sync(|| true));
        }
    }
}

/// A batch as RocksDB takes it.
fn translate(database: &Database, batch: &WriteBatch) -> rocksdb::WriteBatch {
    let families = database.borrow_dependent();
    // RocksDB's encoding of an operation is no longer than ours.
    let mut rocks_batch = rocksdb::WriteBatch::with_capacity_bytes(batch.size_bytes() + 64);
    for op in batch.ops() {
        match op {
            Op::Put { cf, key, value } => rocks_batch.put_cf(&families[cf as usize], key, value),
            Op::Delete { cf, key } => rocks_batch.delete_cf(&families[cf as usize], key),
            Op::DeleteRange { cf, start, end } => {
                rocks_batch.delete_range_cf(&families[cf as usize], start, end);
            }
        }
    }
    rocks_batch
}

fn flush(database: &Database, is_awaited: bool) -> Result<(), rocksdb::Error> {
    let mut options = FlushOptions::default();
    options.set_wait(is_awaited);
    let families: Vec<_> = database.borrow_dependent().iter().collect();
    database.borrow_owner().flush_cfs_opt(&families, &options)
}

/// Does again what the journal holds beyond the database, has all of it flushed, and begins a new life of the journal.
fn recover(path: &Path, database: &Database, unlogged: &WriteOptions) -> Result<Journal, OpenError> {
    let (db, family) = (database.borrow_owner(), &database.borrow_dependent()[JOURNAL]);
    let refused = |error: rocksdb::Error| OpenError::from_rocks(path, &error);
    let corrupt = |detail: String| OpenError::Corrupt { path: path.to_owned(), detail };
    let missing = |missing: Missing| match missing {
        Missing::Io(source) => OpenError::Path { path: path.join(JOURNAL_DIRECTORY), source },
        Missing::Corrupt(detail) => corrupt(detail),
        Missing::Foreign(detail) => OpenError::Foreign { path: path.to_owned(), detail },
    };
    let flushed = match db.get_cf(family, POSITION).map_err(refused)? {
        None => Position::NONE,
        Some(bytes) => Position::from_bytes(&bytes)
            .ok_or_else(|| corrupt("the journal's position makes no sense".to_owned()))?,
    };
    let directory = path.join(JOURNAL_DIRECTORY);
    let recovered = Recovered::look(&directory, flushed).map_err(missing)?;
    let redo = |number, payload: &[u8]| {
        let batch = WriteBatch::decode(payload)
            .ok_or_else(|| Missing::Corrupt(format!("batch {number} of the journal is no batch")))?;
        let mut rocks_batch = translate(database, &batch);
        rocks_batch.put_cf(family, POSITION, Position { number, ..flushed }.to_bytes());
        db.write_opt(rocks_batch, unlogged).map_err(|error| Missing::Io(std::io::Error::other(error)))
    };
    let number = recovered.replay(flushed, redo).map_err(missing)?;
    let journal = Journal::begin(&directory, Position { number, ..flushed }, recovered)
        .map_err(|error| missing(Missing::Io(error)))?;
    let position = journal.pending().position();
    let mut begin = rocksdb::WriteBatch::default();
    begin.put_cf(family, POSITION, position.to_bytes());
    db.write_opt(begin, unlogged).map_err(refused)?;
    // From here on the segments of the last life say nothing.
    flush(database, true).map_err(refused)?;
    journal.forget(position);
    Ok(journal)
}

/// Whether whoever made this directory died before there was a log file, that is, before anything could be written.
fn is_half_made(path: &Path) -> std::io::Result<bool> {
    let mut is_begun = false;
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        match Path::new(&name).extension().and_then(|extension| extension.to_str()) {
            Some("log" | "sst") => return Ok(false),
            _ => is_begun |= name == "CURRENT",
        }
    }
    Ok(is_begun)
}

/// The greatest key that files may hold to be deleted for a range that ends before `end`.
///
/// RocksDB deletes a file whose greatest key *is* the end it is given, and with it a key that we must keep. So it is
/// given a key below: the keys between that one and `end` are few, and a file that holds one of them merely stays.
fn last_key_to_delete(end: &[u8]) -> Vec<u8> {
    const PADDING: [u8; 32] = [0xff; 32];
    match end.split_last() {
        // No end.
        None => PADDING.repeat(2),
        Some((0, rest)) => rest.to_vec(),
        Some((last, rest)) => [rest, &[last - 1], &PADDING].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_key_to_delete_is_below_the_end_and_above_its_usual_predecessors() {
        assert_eq!(last_key_to_delete(b"b\0"), b"b");
        for (end, below) in
            [(&b"b"[..], &b"azzz"[..]), (b"b\x01", b"b\0zz"), (b"r\0\0\x02", b"r\0\0\x01\xff\xff")]
        {
            let last = last_key_to_delete(end);
            assert!(below < &last[..] && &last[..] < end, "{last:?}");
        }
        assert!(last_key_to_delete(b"") > b"zzzz".to_vec());
    }
}
