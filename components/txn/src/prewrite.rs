//! The first phase: a key is locked with what the transaction does to it.

use crate::error::{Conflict, TxnError};
use bytes::Bytes;
use engine::{Snapshot, WriteBatch};
use mvcc::{
    Lock, LockKind, MvccReader, Record, SHORT_VALUE_MAX, SeededBug, Write, WriteKind, put_lock, put_value,
};
use types::{Key, Timestamp};

/// What is done to a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MutationKind {
    /// It gets a value.
    Put(Bytes),
    /// It gets a value, and must not have one.
    Insert(Bytes),
    /// It is removed.
    Delete,
    /// It must not be written by others.
    Lock,
    /// It must not have a value; it is not locked.
    CheckNotExists,
}

/// One key of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutation {
    /// The key.
    pub key: Key,
    /// What is done to it.
    pub kind: MutationKind,
    /// The transaction has locked it before, by [`acquire`](crate::acquire).
    pub is_locked: bool,
}

/// What all keys of a prewrite share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prewrite {
    /// The key that decides.
    pub primary: Key,
    /// When the transaction began.
    pub start_ts: Timestamp,
    /// How long it may take, in milliseconds.
    pub ttl_ms: u64,
    /// How many keys it has.
    pub txn_size: u64,
    /// Up to when it has seen the keys that it locked before; zero for an optimistic one.
    pub for_update_ts: Timestamp,
    /// It does not commit earlier.
    pub min_commit_ts: Timestamp,
}

/// Locks a key. Returns when the transaction committed, if it has already: then this request comes late, and again.
///
/// # Errors
/// [`TxnError`].
pub fn prewrite<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    txn: &Prewrite,
    mutation: &Mutation,
    batch: &mut WriteBatch,
) -> Result<Option<Timestamp>, TxnError> {
    let key = &mutation.key;
    let held = match reader.lock(key)? {
        Some(lock) if lock.start_ts != txn.start_ts && !reader.breaks(SeededBug::PrewriteIgnoresLocks) => {
            let lost = mutation.is_locked;
            return Err(if lost { not_locked(txn, key) } else { locked(key, lock) });
        }
        Some(lock) if lock.kind != LockKind::Pessimistic => {
            return same_again(reader, txn, mutation, &lock).map(|()| None);
        }
        held => held,
    };
    // Its own record first: whoever comes again after the transaction was committed must not take that for a conflict.
    match reader.record_of(key, txn.start_ts)? {
        Record::Committed { commit_ts, .. } => return Ok(Some(commit_ts)),
        Record::RolledBack if !reader.breaks(SeededBug::PrewriteForgetsRollback) => {
            return Err(TxnError::WriteConflict {
                key: key.clone(),
                start_ts: txn.start_ts,
                conflict_start_ts: txn.start_ts,
                conflict_commit_ts: txn.start_ts,
                reason: Conflict::RolledBack,
            });
        }
        Record::RolledBack | Record::None => {}
    }
    if held.is_none() {
        let newest = newest_commit(reader, key)?.filter(|(commit_ts, _)| *commit_ts > txn.start_ts);
        match newest {
            // The lock may have been lost with its leader; then it is as good as held if nobody has written since.
            Some(_) if mutation.is_locked && !reader.breaks(SeededBug::LostLockAmended) => {
                return Err(not_locked(txn, key));
            }
            Some(_) if mutation.is_locked || reader.breaks(SeededBug::PrewriteSkipsWrites) => {}
            Some((commit_ts, write)) => {
                return Err(TxnError::WriteConflict {
                    key: key.clone(),
                    start_ts: txn.start_ts,
                    conflict_start_ts: write.start_ts,
                    conflict_commit_ts: commit_ts,
                    reason: Conflict::Optimistic,
                });
            }
            None => {}
        }
    }
    if matches!(mutation.kind, MutationKind::Insert(_) | MutationKind::CheckNotExists)
        && reader.newest_value(key, Timestamp(u64::MAX))?.is_some()
    {
        return Err(TxnError::AlreadyExist { key: key.clone() });
    }
    let (kind, value) = match &mutation.kind {
        MutationKind::Put(value) | MutationKind::Insert(value) => (LockKind::Put, Some(value)),
        MutationKind::Delete => (LockKind::Delete, None),
        MutationKind::Lock => (LockKind::Lock, None),
        MutationKind::CheckNotExists => return Ok(None),
    };
    let short_value = value.filter(|value| value.len() <= SHORT_VALUE_MAX);
    if let (Some(value), None) = (value, short_value) {
        put_value(batch, key, txn.start_ts, value);
    }
    let after = txn.start_ts.max(txn.for_update_ts).0 + 1;
    let held_min = held.as_ref().map_or(Timestamp(0), |held| held.min_commit_ts);
    let lock = Lock {
        ttl_ms: txn.ttl_ms.max(held.map_or(0, |held| held.ttl_ms)),
        short_value: short_value.cloned(),
        for_update_ts: txn.for_update_ts,
        txn_size: txn.txn_size,
        min_commit_ts: txn.min_commit_ts.max(held_min).max(Timestamp(after)),
        ..Lock::new(kind, txn.primary.clone(), txn.start_ts, 0)
    };
    put_lock(batch, key, &lock);
    Ok(None)
}

/// The same prewrite has come before: it must say the same.
fn same_again<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    txn: &Prewrite,
    mutation: &Mutation,
    lock: &Lock,
) -> Result<(), TxnError> {
    let (kind, value) = match &mutation.kind {
        MutationKind::Put(value) | MutationKind::Insert(value) => (LockKind::Put, Some(value)),
        MutationKind::Delete => (LockKind::Delete, None),
        MutationKind::Lock => (LockKind::Lock, None),
        MutationKind::CheckNotExists => {
            return Err(TxnError::Invalid {
                message: "the transaction writes the key that it wants not to be there",
            });
        }
    };
    let held = reader.locked_value(&mutation.key, lock)?;
    match lock.kind == kind && held.as_ref() == value && lock.primary == txn.primary {
        true => Ok(()),
        false => Err(TxnError::Invalid {
            message: "the transaction has prewritten the key before, otherwise; roll it back and begin again",
        }),
    }
}

/// The newest record of a transaction that has committed something there, or claimed the key.
pub(crate) fn newest_commit<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &[u8],
) -> Result<Option<(Timestamp, Write)>, TxnError> {
    // Rollbacks change nothing, so they are in nobody's way.
    Ok(reader.newest(key, Timestamp(u64::MAX), |write| write.kind != WriteKind::Rollback)?)
}

pub(crate) fn locked(key: &Key, lock: Lock) -> TxnError {
    TxnError::KeyIsLocked { key: key.clone(), lock: Box::new(lock) }
}

fn not_locked(txn: &Prewrite, key: &Key) -> TxnError {
    TxnError::PessimisticLockNotFound { key: key.clone(), start_ts: txn.start_ts }
}
