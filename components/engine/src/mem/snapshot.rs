//! A fixed view of the engine in memory, and positions in it.

use super::State;
use super::versions::bounds;
use crate::{Cf, EngineError, EngineIterator, Snapshot};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Bound;
use std::sync::Arc;
use types::KeyRange;

/// A view of a [`MemEngine`](super::MemEngine) at the number of one batch.
pub struct MemSnapshot {
    state: Arc<Mutex<State>>,
    sequence: u64,
}

impl MemSnapshot {
    pub(super) fn new(state: &Arc<Mutex<State>>) -> Self {
        let mut locked = state.lock();
        let sequence = locked.last_sequence;
        *locked.snapshots.entry(sequence).or_insert(0) += 1;
        Self { state: Arc::clone(state), sequence }
    }

    /// The number of the last batch or ingestion that it sees.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Drop for MemSnapshot {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let count = state.snapshots.get_mut(&self.sequence).expect("a live snapshot is counted");
        *count -= 1;
        if *count == 0 {
            state.snapshots.remove(&self.sequence);
            state.collect_garbage();
        }
    }
}

impl Snapshot for MemSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let mut state = self.state.lock();
        state.check_read()?;
        Ok(state.families[cf as usize].get(key, self.sequence))
    }

    fn iter(&self, cf: Cf, range: &KeyRange) -> Box<dyn EngineIterator + '_> {
        Box::new(MemIterator { snapshot: self, cf, range: range.clone(), current: None, failure: None })
    }
}

/// A position in a [`MemSnapshot`]. It looks its place up at every move, so it holds nothing between them.
pub struct MemIterator<'a> {
    snapshot: &'a MemSnapshot,
    cf: Cf,
    range: KeyRange,
    current: Option<(Bytes, Bytes)>,
    failure: Option<EngineError>,
}

impl MemIterator<'_> {
    /// Moves to the first (or, `backward`, the last) key within both `low..high` and the range.
    fn find(&mut self, backward: bool, low: Bound<&[u8]>, high: Bound<&[u8]>) -> bool {
        self.current = None;
        let mut state = self.snapshot.state.lock();
        self.failure = state.check_read().err();
        if self.failure.is_none() && !self.range.is_empty() {
            let (lowest, highest) = bounds(&self.range);
            let low = if self.below_range(low) { lowest } else { low };
            let high = if self.beyond_range(high) { highest } else { high };
            let family = &state.families[self.cf as usize];
            let at = self.snapshot.sequence;
            self.current = if backward { family.last(low, high, at) } else { family.first(low, high, at) };
        }
        self.current.is_some()
    }

    fn below_range(&self, low: Bound<&[u8]>) -> bool {
        match low {
            Bound::Included(key) | Bound::Excluded(key) => key < &self.range.start[..],
            Bound::Unbounded => true,
        }
    }

    fn beyond_range(&self, high: Bound<&[u8]>) -> bool {
        match high {
            Bound::Included(key) | Bound::Excluded(key) => {
                !self.range.end.is_empty() && key >= &self.range.end[..]
            }
            Bound::Unbounded => true,
        }
    }

    fn place(&self) -> &(Bytes, Bytes) {
        self.current.as_ref().expect("the iterator is on a key")
    }
}

impl EngineIterator for MemIterator<'_> {
    fn seek_to_first(&mut self) -> bool {
        self.find(false, Bound::Unbounded, Bound::Unbounded)
    }

    fn seek_to_last(&mut self) -> bool {
        self.find(true, Bound::Unbounded, Bound::Unbounded)
    }

    fn seek(&mut self, key: &[u8]) -> bool {
        self.find(false, Bound::Included(key), Bound::Unbounded)
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> bool {
        self.find(true, Bound::Unbounded, Bound::Included(key))
    }

    fn next(&mut self) -> bool {
        let from = self.place().0.clone();
        self.find(false, Bound::Excluded(&from), Bound::Unbounded)
    }

    fn prev(&mut self) -> bool {
        let from = self.place().0.clone();
        self.find(true, Bound::Unbounded, Bound::Excluded(&from))
    }

    fn key(&self) -> &[u8] {
        &self.place().0
    }

    fn value(&self) -> &[u8] {
        &self.place().1
    }

    fn status(&self) -> Result<(), EngineError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}
