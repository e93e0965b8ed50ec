//! Raw values whose time is over.
//!
//! Nobody is shown them any more; what is done here only makes room. Raw writes take no latches, so what was found may be
//! replaced before it is removed: whoever applies the removal looks again.

use super::evaluate::Decision;
use crate::execute::Time;
use engine::{Cf, EngineError, Snapshot};
use raftstore::{GcRecord, WriteItem, raw_value_in};
use types::{Key, KeyRange, Region, raw_range};
use wire::kv::{BusyReason, KvError, KvReply};
use wire::txn::TxnReply;

/// What one step removes, and looks at: as for old versions, though these have values beside them that must be read.
const REMOVED_MAX: usize = 1024;
const LOOKED_AT_MAX: usize = 8 * 1024;
const LOOKED_AT_BYTES_MAX: usize = 8 << 20;
/// How long to stay away while the time is being asked.
const BACKOFF_MS: u32 = 50;

/// One step of the removal. A region in which no value ever had an end is done at once.
pub(super) fn collect<S: Snapshot>(
    snapshot: &S,
    region: &Region,
    gc: &GcRecord,
    from: &Key,
    time: &dyn Time,
) -> Result<Result<Decision, KvError>, EngineError> {
    let reply = |removed, resume| KvReply::Txn(Box::new(TxnReply::Collected { removed, resume }));
    let raw = raw_range();
    let wanted = KeyRange { start: raw.start.max(from.clone()), end: raw.end };
    let range = region.range.intersection(&wanted);
    if !gc.has_ends || range.is_empty() {
        return Ok(Ok(Decision::without_locks(None, reply(0, None))));
    }
    let now_ms = time.now_ms();
    if now_ms == 0 {
        return Ok(Err(KvError::ServerIsBusy { reason: BusyReason::Clock, backoff_ms: BACKOFF_MS }));
    }
    let (mut keys, mut resume, mut steps, mut bytes) = (Vec::new(), None, 0, 0);
    let mut iter = snapshot.iter(Cf::Default, &range);
    let mut found = iter.seek_to_first();
    while found {
        if keys.len() >= REMOVED_MAX || steps >= LOOKED_AT_MAX || bytes >= LOOKED_AT_BYTES_MAX {
            resume = Some(Key::copy_from_slice(iter.key()));
            break;
        }
        (steps, bytes) = (steps + 1, bytes + iter.key().len() + iter.value().len());
        if raw_value_in(iter.value()).ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms) {
            keys.push(Key::copy_from_slice(iter.key()));
        }
        found = iter.next();
    }
    iter.status()?;
    let removed = keys.len() as u64;
    let write = (!keys.is_empty()).then_some(WriteItem::RemoveEnded { now_ms, keys });
    Ok(Ok(Decision::without_locks(write, reply(removed, resume))))
}
