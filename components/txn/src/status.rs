//! What became of a transaction: asked by whoever finds its locks.

use crate::error::TxnError;
use crate::prewrite::locked;
use crate::rollback::{roll_back_lock, rollback};
use engine::{Snapshot, WriteBatch};
use mvcc::{Lock, LockKind, MvccReader, Record, SeededBug, delete_lock, put_lock};
use types::{Key, Timestamp};

/// A question about a transaction, asked at its primary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckStatus {
    /// The primary, as the lock says that was found.
    pub primary: Key,
    /// When the transaction began.
    pub start_ts: Timestamp,
    /// At which timestamp the asker reads: the transaction is made to commit later. Zero if the asker does not read.
    pub reads_at: Timestamp,
    /// What time it is, by the oracle. Decides whether the transaction is abandoned.
    pub current_ts: Timestamp,
    /// A transaction of which nothing is known is gone, for its lock is old: keep it from ever beginning, or release what it has
    /// reserved. Without this the asker is told that nothing is known.
    pub rollback_if_unknown: bool,
    /// Treat a transaction that commits as soon as all its keys are locked like any other.
    pub force_sync_commit: bool,
    /// The lock that was found is a pessimistic one: nothing can have been decided, and nothing need be.
    pub found_pessimistic: bool,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// It is under way.
    Alive {
        /// Its primary's lock.
        lock: Box<Lock>,
        /// It commits after the asker's timestamp.
        pushed: bool,
    },
    /// It committed.
    Committed(Timestamp),
    /// It was rolled back before.
    RolledBack,
    /// It was abandoned, and is rolled back by this.
    Expired,
    /// The lock that was found reserves a key for a transaction of which nothing else is known, or that is abandoned: release
    /// it.
    Released,
}

/// Finds out what became of a transaction, and rolls it back if it was abandoned.
///
/// # Errors
/// [`TxnError`].
pub fn check_status<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    asked: &CheckStatus,
    batch: &mut WriteBatch,
) -> Result<Status, TxnError> {
    let CheckStatus { primary, start_ts, .. } = asked;
    let Some(mut lock) = reader.lock(primary)?.filter(|lock| lock.start_ts == *start_ts) else {
        return match reader.record_of(primary, *start_ts)? {
            Record::Committed { commit_ts, .. } => Ok(Status::Committed(commit_ts)),
            Record::RolledBack => Ok(Status::RolledBack),
            // Whoever asks does not take the transaction for gone: what reserves its primary may be on its way.
            Record::None if !asked.rollback_if_unknown => {
                Err(TxnError::TxnNotFound { primary: primary.clone(), start_ts: *start_ts })
            }
            Record::None if asked.found_pessimistic => Ok(Status::Released),
            Record::None => {
                if !reader.breaks(SeededBug::UnknownNotForbidden) {
                    rollback(reader, primary, *start_ts, batch)?;
                }
                Ok(Status::RolledBack)
            }
        };
    };
    if lock.primary != *primary {
        return Err(TxnError::PrimaryMismatch { key: primary.clone(), lock: Box::new(lock) });
    }
    if lock.async_commit && !asked.force_sync_commit {
        // Whether it is decided is known only by asking all its keys.
        return Ok(Status::Alive { lock: Box::new(lock), pushed: false });
    }
    if is_expired(&lock, asked.current_ts) {
        if lock.kind == LockKind::Pessimistic && asked.found_pessimistic {
            delete_lock(batch, primary);
            return Ok(Status::Released);
        }
        if !reader.breaks(SeededBug::ExpiredNotRolledBack) {
            roll_back_lock(reader, primary, &lock, batch)?;
        }
        return Ok(Status::Expired);
    }
    let reads = asked.reads_at > Timestamp(0) && asked.reads_at < Timestamp(u64::MAX);
    if reads && lock.min_commit_ts <= asked.reads_at && !reader.breaks(SeededBug::MinimumNotPushed) {
        // As late as it is now, so that the next reader need not ask again.
        lock.min_commit_ts = Timestamp(asked.reads_at.0 + 1).max(asked.current_ts);
        put_lock(batch, primary, &lock);
    }
    Ok(Status::Alive { pushed: reads, lock: Box::new(lock) })
}

/// Rolls a transaction back unless it is committed, or may yet be by `current_ts`; zero asks for it in any case.
///
/// # Errors
/// [`TxnError`].
pub fn clean_up<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &Key,
    start_ts: Timestamp,
    current_ts: Timestamp,
    batch: &mut WriteBatch,
) -> Result<(), TxnError> {
    match reader.lock(key)?.filter(|lock| lock.start_ts == start_ts) {
        Some(lock) if current_ts > Timestamp(0) && !is_expired(&lock, current_ts) => Err(locked(key, lock)),
        _ => rollback(reader, key, start_ts, batch),
    }
}

/// The transaction is still at work: its primary lock is not taken for abandoned before `ttl_ms` after its beginning.
/// Returns what it has been promised.
///
/// # Errors
/// [`TxnError`].
pub fn heartbeat<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    primary: &Key,
    start_ts: Timestamp,
    ttl_ms: u64,
    batch: &mut WriteBatch,
) -> Result<u64, TxnError> {
    let Some(mut lock) = reader.lock(primary)?.filter(|lock| lock.start_ts == start_ts) else {
        return Err(TxnError::TxnNotFound { primary: primary.clone(), start_ts });
    };
    if lock.primary != *primary {
        return Err(TxnError::PrimaryMismatch { key: primary.clone(), lock: Box::new(lock) });
    }
    if lock.ttl_ms < ttl_ms {
        lock.ttl_ms = ttl_ms;
        put_lock(batch, primary, &lock);
    }
    Ok(lock.ttl_ms)
}

/// What one of the other keys says of a transaction that commits as soon as all its keys are locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Secondary {
    /// It is locked.
    Locked(Box<Lock>),
    /// The transaction committed.
    Committed(Timestamp),
    /// It is not, and never will be: the transaction is rolled back.
    RolledBack,
}

/// Looks at a key of such a transaction, and sees to it that the answer stays true.
///
/// # Errors
/// [`TxnError`].
pub fn check_secondary<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &Key,
    start_ts: Timestamp,
    batch: &mut WriteBatch,
) -> Result<Secondary, TxnError> {
    match reader.lock(key)?.filter(|lock| lock.start_ts == start_ts) {
        // Reserved, but not prewritten.
        Some(lock) if lock.kind == LockKind::Pessimistic => {
            roll_back_lock(reader, key, &lock, batch)?;
            Ok(Secondary::RolledBack)
        }
        Some(lock) => Ok(Secondary::Locked(Box::new(lock))),
        None => match rollback(reader, key, start_ts, batch) {
            Ok(()) => Ok(Secondary::RolledBack),
            Err(TxnError::Committed { commit_ts, .. }) => Ok(Secondary::Committed(commit_ts)),
            Err(other) => Err(other),
        },
    }
}

fn is_expired(lock: &Lock, current_ts: Timestamp) -> bool {
    lock.start_ts.physical_ms().saturating_add(lock.ttl_ms) < current_ts.physical_ms()
}
