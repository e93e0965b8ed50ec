//! Reads at a timestamp, on a view of the engine.

use super::convert::{lock_info, lock_infos, version};
use super::gc::{read_too_old, sees_from};
use crate::execute::ReadLimits;
use bytes::Bytes;
use engine::{EngineError, Snapshot};
use mvcc::{ChangeLimits, Changes, Direction, HeldLocks, MvccReader, ReadError, ScanLimits, View};
use raftstore::gc_record;
use types::{Key, Region, Timestamp};
use wire::kv::{KvError, KvReply, Scan};
use wire::txn::{Changed, LockInfo, ReadView, TxnFault, TxnItem, TxnRead, TxnReply};

/// Locks that one answer names.
const LOCKS_MAX: usize = 256;
/// Versions that one answer names.
const VERSIONS_MAX: usize = 256;
/// Moves of a scan's cursors for one answer: what is passed over counts too.
const STEPS_MAX: usize = 100_000;
/// What one answer about changes of a range looks at.
const CHANGES_LIMITS: ChangeLimits = ChangeLimits { steps_max: STEPS_MAX, locks_max: LOCKS_MAX };

/// Serves a read from a view of `region`, and from what was held before that was taken. Inner errors are the client's; keys
/// outside of the region are refused. `guarded` as of [`serve`](crate::serve).
///
/// # Errors
/// [`EngineError`] when the data cannot be read.
pub(crate) fn read<S: Snapshot>(
    snapshot: &S,
    region: &Region,
    read: &TxnRead,
    limits: ReadLimits,
    guarded: Timestamp,
    held: &HeldLocks,
) -> Result<Result<KvReply, KvError>, EngineError> {
    let reader = MvccReader::new(snapshot).holding(held).breaking(limits.bugs);
    let range = &region.range;
    if sees_from(read).is_some_and(|from| from < guarded) {
        let too_old = read_too_old(&gc_record(snapshot, region.id)?, region, read);
        if let Some(fault) = too_old.filter(|_| !limits.bugs.has(mvcc::SeededBug::ReadsBelowSafePoint)) {
            return Ok(Err(KvError::Txn(Box::new(fault))));
        }
    }
    let outside = || Err(KvError::KeyNotInRegion { region_id: region.id, range: range.clone() });
    Ok(match read {
        TxnRead::Get { key, .. } | TxnRead::History { key } if !range.contains(key) => outside(),
        TxnRead::BatchGet { keys, .. } | TxnRead::KeyChanges { keys, .. }
            if !keys.iter().all(|key| range.contains(key)) =>
        {
            outside()
        }
        TxnRead::Get { key, view } => match reader.get(key, &seen(view)) {
            Ok(value) => Ok(KvReply::Value(value)),
            Err(ReadError::Locked { key, lock }) => Err(locked(vec![lock_info(key, *lock)])),
            Err(ReadError::Engine(error)) => return Err(error),
        },
        TxnRead::BatchGet { keys, view } => get_all(&reader, keys, &seen(view), limits)?,
        TxnRead::Scan { scan, view } => Ok(page(&reader, region, scan, &seen(view), limits)?),
        TxnRead::Locks { range: wanted, up_to, limit } => {
            let limit = if *limit == 0 { LOCKS_MAX } else { LOCKS_MAX.min(*limit as usize) };
            let page = reader.locks(&range.intersection(wanted), *up_to, limit)?;
            let locks = lock_infos(page.locks);
            Ok(KvReply::Txn(Box::new(TxnReply::Locks { locks, resume: page.resume })))
        }
        TxnRead::KeyChanges { keys, since, view } => {
            changes(reader.changed_keys(keys, *since, &seen(view), LOCKS_MAX)?)
        }
        TxnRead::RangeChanges { range: wanted, since, view } => {
            let range = range.intersection(wanted);
            changes(reader.changed_in(&range, *since, &seen(view), CHANGES_LIMITS)?)
        }
        TxnRead::History { key } => {
            let lock = reader.lock(key)?.map(|lock| lock_info(key.clone(), lock));
            let versions = reader.history(key, VERSIONS_MAX)?.into_iter().map(version).collect();
            Ok(KvReply::Txn(Box::new(TxnReply::History { lock, versions })))
        }
    })
}

/// What a search for changes has come to, as its asker is told.
fn changes(found: Changes) -> Result<KvReply, KvError> {
    match found {
        Changes { locks, .. } if !locks.is_empty() => Err(locked(lock_infos(locks))),
        Changes { first, resume, .. } => {
            let first = first.map(|(key, commit_ts, start_ts)| Changed { key, commit_ts, start_ts });
            Ok(KvReply::Txn(Box::new(TxnReply::Changes { first, resume })))
        }
    }
}

fn seen(view: &ReadView) -> View {
    View {
        at: view.at,
        resolved: view.resolved.iter().copied().collect(),
        committed: view.committed.iter().copied().collect(),
    }
}

fn locked(locks: Vec<LockInfo>) -> KvError {
    KvError::Txn(Box::new(TxnFault::KeyIsLocked { locks }))
}

fn get_all<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    keys: &[Key],
    view: &View,
    limits: ReadLimits,
) -> Result<Result<KvReply, KvError>, EngineError> {
    let (mut values, mut locks, mut bytes) = (Vec::with_capacity(keys.len()), Vec::new(), 0);
    for key in keys {
        match reader.get(key, view) {
            Ok(value) => {
                bytes += value.as_ref().map_or(0, Bytes::len);
                values.push(value);
            }
            // All of them are told, so that they can be resolved in one go.
            Err(ReadError::Locked { key, lock }) => locks.push(lock_info(key, *lock)),
            Err(ReadError::Engine(error)) => return Err(error),
        }
        if locks.len() >= LOCKS_MAX {
            break;
        }
        if bytes > limits.bytes_max && values.len() < keys.len() {
            let message =
                format!("the values have more than {} bytes together: ask for fewer", limits.bytes_max);
            return Ok(Err(KvError::InvalidRequest { message }));
        }
    }
    Ok(match locks.is_empty() {
        true => Ok(KvReply::Values(values)),
        false => Err(locked(locks)),
    })
}

fn page<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    region: &Region,
    scan: &Scan,
    view: &View,
    limits: ReadLimits,
) -> Result<KvReply, EngineError> {
    let own = |limit: u32, max: usize| if limit == 0 { max } else { max.min(limit as usize) };
    let limits = ScanLimits {
        items_max: own(scan.limit, limits.pairs_max),
        bytes_max: own(scan.bytes_max, limits.bytes_max),
        steps_max: STEPS_MAX,
    };
    let range = region.range.intersection(&scan.range);
    if range.is_empty() {
        return Ok(KvReply::Txn(Box::new(TxnReply::Page { items: Vec::new(), resume: None })));
    }
    let direction = if scan.reverse { Direction::Backward } else { Direction::Forward };
    let page = reader.scan(&range, direction, view, limits)?;
    let items = page.items.into_iter().map(|item| match item.outcome {
        Ok(value) => {
            let value = if scan.keys_only { Bytes::new() } else { value };
            TxnItem { key: item.key, value, lock: None }
        }
        Err(lock) => {
            TxnItem { lock: Some(lock_info(item.key.clone(), *lock)), key: item.key, value: Bytes::new() }
        }
    });
    let resume = page.rest.map(|rest| if scan.reverse { rest.end } else { rest.start });
    Ok(KvReply::Txn(Box::new(TxnReply::Page { items: items.collect(), resume })))
}
