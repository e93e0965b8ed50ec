//! A fixed view that owns what it looks at, and positions in it.

use crate::error::engine_error;
use crate::rocks::Inner;
use bytes::Bytes;
use engine::{Cf, EngineError, EngineIterator, Snapshot};
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode};
use std::sync::Arc;
use types::KeyRange;

type DbSnapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell!(
    /// The engine, kept open, and a snapshot of it.
    struct OwnedSnapshot {
        owner: Arc<Inner>,
        #[covariant]
        dependent: DbSnapshot,
    }
);

/// A view of a [`RocksEngine`](crate::RocksEngine). Keeps the engine open.
pub struct RocksSnapshot {
    cell: OwnedSnapshot,
}

impl RocksSnapshot {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        Self { cell: OwnedSnapshot::new(Arc::clone(inner), |inner| inner.db().snapshot()) }
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
