//! Old versions, and those who come too late for them.
//!
//! What a region's versions may lack stands beside them in the engine ([`GcRecord`]), so it is looked up in the same view that
//! a read or a command is served from: whoever leads, and whatever it has heard, nobody is shown what may be incomplete
//! (INV-TXN-13). Hardly anybody is so old that it has to be: no record in a view is later than what the store says once the
//! view was taken ([`StoreMeta::guarded_to`](raftstore::StoreMeta::guarded_to)).

use super::evaluate::{Decision, changes, keys_of, start_of};
use engine::{Cf, EngineError, Snapshot, WriteBatch};
use mvcc::{Bugs, GcLimits, MvccReader, Record, SeededBug};
use raftstore::{Change, GcRecord, WriteItem};
use types::{Key, KeyRange, Region, SafePoints, Timestamp, transactional_range};
use wire::kv::KvReply;
use wire::txn::{TxnCommand, TxnFault, TxnRead, TxnReply};

/// What one step removes, and looks at: a small entry of the log, and a few milliseconds.
const LIMITS: GcLimits = GcLimits { removed_max: 1024, steps_max: 16 * 1024 };

/// The region is to refuse transactions that began by then.
pub(super) fn guard(gc: &GcRecord, safe_points: &SafePoints) -> Decision {
    let record = GcRecord { guarded: safe_points.clone(), ..GcRecord::default() };
    let write = (!gc.guarded.covers(safe_points)).then_some(WriteItem::Guard(record));
    Decision::without_locks(write, KvReply::Txn(Box::new(TxnReply::Done)))
}

/// One step of the removal of what is too old. The first one only says in the region's record that versions may be gone from
/// then on.
pub(super) fn collect<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    region: &Region,
    gc: &GcRecord,
    safe_points: &SafePoints,
    from: &Key,
    bugs: Bugs,
) -> Result<Decision, EngineError> {
    let reply = |removed, resume| KvReply::Txn(Box::new(TxnReply::Collected { removed, resume }));
    let wanted = KeyRange { start: from.clone(), end: transactional_range().end };
    let range = region.range.intersection(&wanted);
    if !gc.removed.covers(safe_points) {
        let (guarded, removed) = (safe_points.clone(), safe_points.clone());
        let write = Some(WriteItem::Guard(GcRecord { guarded, removed, ..GcRecord::default() }));
        return Ok(Decision::without_locks(write, reply(0, Some(range.start))));
    }
    if range.is_empty() {
        return Ok(Decision::without_locks(None, reply(0, None)));
    }
    let mut batch = WriteBatch::new();
    let too_soon = SafePoints::common(Timestamp(safe_points.common.0 + (1_000 << Timestamp::LOGICAL_BITS)));
    let safe_points = if bugs.has(SeededBug::VersionsGoTooSoon) { &too_soon } else { safe_points };
    let step = reader.collect(&range, safe_points, LIMITS, &mut batch)?;
    let mut changes = changes(&batch);
    // A key may get a new version before this is applied.
    let spent = |(key, value)| Change::DeleteIf { family: Cf::Newest as u8, key, value };
    changes.extend(step.spent.into_iter().map(spent));
    let write = (!changes.is_empty()).then_some(WriteItem::Changes(changes));
    Ok(Decision::without_locks(write, reply(step.removed, step.resume)))
}

/// True for a command that begins to write: nothing resolves its locks once those of its time have been.
pub(super) const fn gets_locks(command: &TxnCommand) -> bool {
    matches!(command, TxnCommand::Prewrite(_) | TxnCommand::Acquire(_))
}

/// Why a transaction is too old for a command: it would begin to write behind the back of those who resolve old locks, or what
/// became of it may be forgotten.
pub(super) fn too_old<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    gc: &GcRecord,
    command: &TxnCommand,
) -> Result<Option<TxnFault>, EngineError> {
    let at = start_of(command);
    let points = if gets_locks(command) { &gc.guarded } else { &gc.removed };
    if points.common < at && points.own.iter().all(|point| point.at < at) {
        return Ok(None);
    }
    for key in keys_of(command) {
        let safe_point = points.of_key(&key);
        if at > safe_point {
            continue;
        }
        let is_forgotten = match command {
            // Where nothing is locked they have nothing to do.
            TxnCommand::Resolve { .. } | TxnCommand::Release { .. } | TxnCommand::Heartbeat { .. } => false,
            _ => {
                reader.lock(&key)?.is_none_or(|lock| lock.start_ts != at)
                    && reader.record_of(&key, at)? == Record::None
            }
        };
        if is_forgotten {
            return Ok(Some(TxnFault::BelowSafePoint { at, safe_point }));
        }
    }
    Ok(None)
}

/// The timestamp from which on versions must all be there for a read; `None` for one that tells what is there.
pub(super) const fn sees_from(read: &TxnRead) -> Option<Timestamp> {
    match read {
        TxnRead::Get { view, .. } | TxnRead::BatchGet { view, .. } | TxnRead::Scan { view, .. } => {
            Some(view.at)
        }
        TxnRead::KeyChanges { since, .. } | TxnRead::RangeChanges { since, .. } => Some(*since),
        TxnRead::Locks { .. } | TxnRead::History { .. } => None,
    }
}

/// Why a read comes too late.
pub(super) fn read_too_old(gc: &GcRecord, region: &Region, read: &TxnRead) -> Option<TxnFault> {
    let at = sees_from(read)?;
    let over = |range: &KeyRange| gc.guarded.over(&region.range.intersection(range));
    let safe_point = match read {
        TxnRead::Get { key, .. } | TxnRead::History { key } => gc.guarded.of_key(key),
        TxnRead::BatchGet { keys, .. } | TxnRead::KeyChanges { keys, .. } => {
            keys.iter().map(|key| gc.guarded.of_key(key)).max().unwrap_or_default()
        }
        TxnRead::Scan { scan, .. } => over(&scan.range),
        TxnRead::RangeChanges { range, .. } | TxnRead::Locks { range, .. } => over(range),
    };
    (at < safe_point).then_some(TxnFault::BelowSafePoint { at, safe_point })
}
