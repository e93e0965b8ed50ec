//! Keys that a transaction reserves before it knows what it does to them.

use crate::error::{Conflict, Gathered, TxnError};
use crate::prewrite::locked;
use bytes::Bytes;
use engine::{Snapshot, WriteBatch};
use mvcc::{Lock, LockKind, MvccReader, Record, SeededBug, delete_lock, put_lock};
use types::{Key, Timestamp};

/// Keys are to be reserved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRequest {
    /// The keys.
    pub keys: Vec<Key>,
    /// The key that decides for the transaction.
    pub primary: Key,
    /// When the transaction began.
    pub start_ts: Timestamp,
    /// Up to when the transaction sees them.
    pub for_update_ts: Timestamp,
    /// How long the transaction may take, in milliseconds.
    pub ttl_ms: u64,
    /// None of them may have a value.
    pub must_be_new: bool,
}

/// Reserves keys. Returns their values, which stay so until the transaction is over.
///
/// # Errors
/// [`TxnError`].
pub fn acquire<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    request: &LockRequest,
    batch: &mut WriteBatch,
) -> Result<Vec<Option<Bytes>>, TxnError> {
    if request.for_update_ts < request.start_ts {
        return Err(TxnError::Invalid { message: "a transaction cannot look at a key before it began" });
    }
    let (mut values, mut failures) = (Vec::with_capacity(request.keys.len()), Gathered::default());
    for key in &request.keys {
        match acquire_one(reader, request, key, batch) {
            Ok(value) => values.push(value),
            Err(error) => failures.add(error),
        }
    }
    failures.end().map(|()| values)
}

fn acquire_one<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    request: &LockRequest,
    key: &Key,
    batch: &mut WriteBatch,
) -> Result<Option<Bytes>, TxnError> {
    let LockRequest { start_ts, for_update_ts, .. } = request;
    let held = match reader.lock(key)? {
        Some(lock) if lock.start_ts != *start_ts => return Err(locked(key, lock)),
        Some(lock) if lock.kind != LockKind::Pessimistic => {
            return Err(TxnError::Invalid { message: "the transaction has prewritten the key already" });
        }
        held => held,
    };
    let conflict = |other_start, other_commit, reason| TxnError::WriteConflict {
        key: key.clone(),
        start_ts: *start_ts,
        conflict_start_ts: other_start,
        conflict_commit_ts: other_commit,
        reason,
    };
    if held.is_none() {
        let past = reader.past(key, *start_ts)?;
        match past.own {
            Record::Committed { commit_ts, .. } => {
                return Err(TxnError::Committed { key: key.clone(), start_ts: *start_ts, commit_ts });
            }
            Record::RolledBack => return Err(conflict(*start_ts, *start_ts, Conflict::RolledBack)),
            Record::None => {}
        }
        if let Some((commit_ts, write)) = past.newer
            && commit_ts > *for_update_ts
            && !reader.breaks(SeededBug::AcquireSkipsNewer)
        {
            return Err(conflict(write.start_ts, commit_ts, Conflict::Pessimistic));
        }
    }
    let value = reader.value_at(key, Timestamp(u64::MAX))?;
    if request.must_be_new && value.is_some() {
        return Err(TxnError::AlreadyExist { key: key.clone() });
    }
    // A request that was overtaken by a later one takes nothing back.
    let is_news = held.as_ref().is_none_or(|held| held.for_update_ts < *for_update_ts);
    if is_news {
        let lock = Lock {
            for_update_ts: *for_update_ts,
            min_commit_ts: Timestamp(for_update_ts.0 + 1)
                .max(held.as_ref().map_or(Timestamp(0), |held| held.min_commit_ts)),
            ttl_ms: request.ttl_ms.max(held.map_or(0, |held| held.ttl_ms)),
            ..Lock::new(LockKind::Pessimistic, request.primary.clone(), *start_ts, 0)
        };
        put_lock(batch, key, &lock);
    }
    Ok(value)
}

/// Releases a key that the transaction has reserved with what it saw up to `for_update_ts`, and not since.
///
/// # Errors
/// [`TxnError`].
pub fn release<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &Key,
    start_ts: Timestamp,
    for_update_ts: Timestamp,
    batch: &mut WriteBatch,
) -> Result<(), TxnError> {
    let ours = |lock: &Lock| {
        lock.start_ts == start_ts && lock.kind == LockKind::Pessimistic && lock.for_update_ts <= for_update_ts
    };
    if reader.lock(key)?.is_some_and(|lock| ours(&lock)) {
        delete_lock(batch, key);
    }
    Ok(())
}
