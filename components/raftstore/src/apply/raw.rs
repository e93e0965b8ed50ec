//! Raw operations: what they do to values that end is decided by the time that stands in the entry.

use super::{ApplyRegion, Turn};
use crate::raw_value::{RawValue, TimeUnknown, raw_value, stored};
use crate::records::{GcRecord, put_gc};
use crate::seeded_bug::SeededBug;
use crate::write::busy;
use bytes::Bytes;
use engine::{Cf, Engine, EngineError};
use types::Key;
use wire::kv::{BusyReason, KvError, KvReply, WriteOp};

/// What a condition is about, and what then becomes of the key.
pub(super) struct Swap<'a> {
    pub(super) key: &'a Key,
    pub(super) expected: &'a Option<Bytes>,
    pub(super) new: Option<&'a Bytes>,
    /// For how long, in milliseconds; `None` for a value that stays.
    pub(super) ttl_ms: Option<u64>,
    /// Zero if nobody knows.
    pub(super) now_ms: u64,
}

impl<E: Engine> Turn<'_, E> {
    /// `now_ms` is zero where no value is to end.
    pub(super) fn ops(
        &mut self,
        region: &mut ApplyRegion,
        ops: &[WriteOp],
        now_ms: u64,
    ) -> Result<(), EngineError> {
        for op in ops {
            match op {
                WriteOp::Put { key, value } => self.put(Cf::Default, key, &stored(value, None)),
                WriteOp::PutFor { key, value, ttl_ms } => {
                    if now_ms == 0 {
                        return Err(EngineError::Corrupt("an entry has a value that ends at no time".into()));
                    }
                    self.put_until(region, key, value, now_ms.saturating_add(*ttl_ms))?;
                }
                WriteOp::Delete { key } => self.delete(Cf::Default, key),
                WriteOp::DeleteRange { range } => {
                    self.out.batch.delete_range(Cf::Default, &range.start, &range.end);
                    if let Some(overlay) = &mut self.overlay {
                        overlay.delete_range(Cf::Default, range);
                    }
                }
            }
        }
        Ok(())
    }

    /// The outer result is the engine's; the inner one is the same on every replica.
    pub(super) fn swap(
        &mut self,
        region: &mut ApplyRegion,
        swap: &Swap<'_>,
    ) -> Result<Result<KvReply, KvError>, EngineError> {
        let found = self.read(Cf::Default, swap.key)?.map(raw_value);
        let ignores_end = self.bugs.has(SeededBug::EndedValueCompared);
        let found = match found.map(|found| if ignores_end { Ok(Some(found)) } else { found.at(swap.now_ms) })
        {
            Some(Err(TimeUnknown)) => return Ok(Err(busy(BusyReason::Clock))),
            Some(Ok(found)) => found,
            None => None,
        };
        let previous = found.map(|RawValue { value, .. }| value);
        let succeeded = previous == *swap.expected;
        if succeeded {
            match (swap.new, swap.ttl_ms) {
                (Some(value), None) => self.put(Cf::Default, swap.key, &stored(value, None)),
                (Some(value), Some(ttl_ms)) => {
                    self.put_until(region, swap.key, value, swap.now_ms.saturating_add(ttl_ms))?;
                }
                (None, _) => self.delete(Cf::Default, swap.key),
            }
        }
        Ok(Ok(KvReply::Swapped { succeeded, previous }))
    }

    /// Who decided that they are over saw an earlier state: whatever was written since stays.
    pub(super) fn remove_ended(&mut self, keys: &[Key], now_ms: u64) -> Result<(), EngineError> {
        for key in keys {
            let found = self.read(Cf::Default, key)?.map(raw_value);
            let is_over = found.is_some_and(|found| found.at(now_ms) == Ok(None));
            if is_over || self.bugs.has(SeededBug::RemovesWhatIsThere) {
                self.delete(Cf::Default, key);
            }
        }
        Ok(())
    }

    fn put_until(
        &mut self,
        region: &mut ApplyRegion,
        key: &Key,
        value: &Bytes,
        ends_ms: u64,
    ) -> Result<(), EngineError> {
        let region_id = region.record.region.id;
        let gc = self.gc_of(region)?;
        if gc.raise(&GcRecord { has_ends: true, ..GcRecord::default() }) {
            put_gc(&mut self.out.batch, region_id, gc);
        }
        self.put(Cf::Default, key, &stored(value, Some(ends_ms)));
        Ok(())
    }
}
