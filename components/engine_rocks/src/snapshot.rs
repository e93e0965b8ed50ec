//! A fixed view that owns what it looks at, and positions in it.

use crate::error::engine_error;
use crate::rocks::Inner;
use bytes::Bytes;
use engine::{Cf, EngineError, EngineIterator, Snapshot, first_of};
use parking_lot::Mutex;
use rocksdb::{DB, DBRawIteratorWithThreadMode, ErrorKind, ReadOptions, SnapshotWithThreadMode};
use std::sync::Arc;
use types::KeyRange;

/// What a look at one place passes over at most that is deleted or overwritten, before it is bounded to its range.
const PASSED_OVER_MAX: u64 = 64;

type DbSnapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell!(
    /// The engine, kept open, and a snapshot of it.
    struct OwnedSnapshot {
        owner: Arc<Inner>,
        #[covariant]
        dependent: DbSnapshot,
    }
);

type RawIterator<'a> = DBRawIteratorWithThreadMode<'a, DB>;

self_cell::self_cell!(
    /// The engine, kept open, and a position in it.
    struct OwnedIterator {
        owner: Arc<Inner>,
        #[covariant]
        dependent: RawIterator,
    }
);

/// A view of a [`RocksEngine`](crate::RocksEngine). Keeps the engine open.
pub struct RocksSnapshot {
    /// Looks at single places of a family, one after the other: to make an iterator takes about as long as to move it. Goes
    /// before the view that it is of.
    looking: Mutex<Option<(Cf, OwnedIterator)>>,
    cell: OwnedSnapshot,
}

impl RocksSnapshot {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        let cell = OwnedSnapshot::new(Arc::clone(inner), |inner| inner.db().snapshot());
        Self { looking: Mutex::default(), cell }
    }

    /// One that is bounded by nothing but how much it passes over.
    fn look(&self, cf: Cf) -> OwnedIterator {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.cell.borrow_dependent());
        options.set_max_skippable_internal_keys(PASSED_OVER_MAX);
        options.set_background_purge_on_iterator_cleanup(true);
        let inner = Arc::clone(self.cell.borrow_owner());
        OwnedIterator::new(inner, |inner| inner.db().raw_iterator_cf_opt(inner.family(cf), options))
    }
}

impl Snapshot for RocksSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let inner = self.cell.borrow_owner();
        inner.check()?;
        match self.cell.borrow_dependent().get_pinned_cf(inner.family(cf), key) {
            Ok(value) => Ok(value.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(engine_error(&error)),
        }
    }

    fn iter(&self, cf: Cf, range: &KeyRange) -> Box<dyn EngineIterator + '_> {
        let mut options = ReadOptions::default();
        if !range.start.is_empty() {
            options.set_iterate_lower_bound(&range.start[..]);
        }
        if !range.end.is_empty() {
            // Of an inverted range RocksDB promises nothing; an empty one it knows.
            options.set_iterate_upper_bound((&range.end).max(&range.start).to_vec());
        }
        // The last reader of a deleted file leaves its removal to a background thread.
        options.set_background_purge_on_iterator_cleanup(true);
        let inner = self.cell.borrow_owner();
        let raw = self.cell.borrow_dependent().raw_iterator_cf_opt(inner.family(cf), options);
        Box::new(RocksIterator { inner, raw, is_on_key: false, refused: None })
    }

    fn first(&self, cf: Cf, range: &KeyRange) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        self.cell.borrow_owner().check()?;
        let mut looking = self.looking.lock();
        let (_, cursor) = match looking.take() {
            Some(kept) if kept.0 == cf => looking.insert(kept),
            _ => looking.insert((cf, self.look(cf))),
        };
        let found = cursor.with_dependent_mut(|_, raw| {
            raw.seek(&range.start[..]);
            match raw.item() {
                Some((key, value)) if range.end.is_empty() || *key < range.end[..] => {
                    Ok(Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))))
                }
                Some(_) => Ok(None),
                None => raw.status().map(|()| None),
            }
        });
        match found {
            // There may be no end to it: what was deleted after the range is none of its business.
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                drop(looking);
                first_of(&mut *self.iter(cf, range))
            }
            found => found.map_err(|error| engine_error(&error)),
        }
    }
}

/// A position in a [`RocksSnapshot`].
pub struct RocksIterator<'a> {
    inner: &'a Inner,
    raw: DBRawIteratorWithThreadMode<'a, DB>,
    /// Whether the last move ended on a key.
    is_on_key: bool,
    /// Set when the last move was refused because the engine is poisoned.
    refused: Option<EngineError>,
}

impl RocksIterator<'_> {
    /// Moves unless the engine is poisoned.
    fn go(&mut self, movement: impl FnOnce(&mut DBRawIteratorWithThreadMode<'_, DB>)) -> bool {
        self.refused = self.inner.check().err();
        if self.refused.is_none() {
            movement(&mut self.raw);
        }
        self.is_on_key = self.refused.is_none() && self.raw.valid();
        self.is_on_key
    }
}

impl EngineIterator for RocksIterator<'_> {
    fn seek_to_first(&mut self) -> bool {
        self.go(|raw| raw.seek_to_first())
    }

    fn seek_to_last(&mut self) -> bool {
        self.go(|raw| raw.seek_to_last())
    }

    fn seek(&mut self, key: &[u8]) -> bool {
        self.go(|raw| raw.seek(key))
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> bool {
        self.go(|raw| raw.seek_for_prev(key))
    }

    fn next(&mut self) -> bool {
        assert!(self.is_on_key, "the iterator is on a key");
        self.go(|raw| raw.next())
    }

    fn prev(&mut self) -> bool {
        assert!(self.is_on_key, "the iterator is on a key");
        self.go(|raw| raw.prev())
    }

    fn key(&self) -> &[u8] {
        self.raw.key().expect("the iterator is on a key")
    }

    fn value(&self) -> &[u8] {
        self.raw.value().expect("the iterator is on a key")
    }

    fn status(&self) -> Result<(), EngineError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        self.raw.status().map_err(|error| engine_error(&error))
    }
}
