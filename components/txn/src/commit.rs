//! The second phase: what is locked becomes visible.

use crate::error::TxnError;
use bytes::Bytes;
use engine::{Snapshot, WriteBatch};
use mvcc::{LockKind, MvccReader, Newest, Record, SeededBug, Write, WriteKind, delete_lock, put_write};
use types::{Key, Timestamp};

/// Commits a key of the transaction that began at `start_ts`.
///
/// # Errors
/// [`TxnError`].
pub fn commit<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &Key,
    start_ts: Timestamp,
    commit_ts: Timestamp,
    batch: &mut WriteBatch,
) -> Result<(), TxnError> {
    if commit_ts <= start_ts {
        return Err(TxnError::Invalid {
            message: "a transaction commits after it began: ask for a new timestamp",
        });
    }
    let any = reader.breaks(SeededBug::CommitTakesAnyLock);
    let Some(lock) = reader.lock(key)?.filter(|lock| lock.start_ts == start_ts || any) else {
        return match reader.record_of(key, start_ts)? {
            Record::Committed { .. } if reader.breaks(SeededBug::CommitNotRepeatable) => {
                Err(TxnError::TxnLockNotFound { key: key.clone(), start_ts })
            }
            Record::Committed { commit_ts: at, .. } if at == commit_ts => Ok(()),
            Record::Committed { .. } => {
                Err(TxnError::Invalid { message: "the transaction was committed at another timestamp" })
            }
            Record::RolledBack | Record::None => {
                Err(TxnError::TxnLockNotFound { key: key.clone(), start_ts })
            }
        };
    };
    let is_checked = lock.start_ts == start_ts && !reader.breaks(SeededBug::CommitIgnoresMinimum);
    if is_checked && commit_ts < lock.min_commit_ts {
        return Err(TxnError::CommitTsExpired {
            key: key.clone(),
            start_ts,
            attempted: commit_ts,
            min_commit_ts: lock.min_commit_ts,
        });
    }
    delete_lock(batch, key);
    if lock.kind == LockKind::Pessimistic {
        // The transaction did nothing to the key in the end, and the request to release it was lost.
        return Ok(());
    }
    let newest = reader.newest(key)?;
    put_record(reader, key, lock.kind, start_ts, lock.short_value, commit_ts, newest.as_ref(), batch)
}

/// Records what a transaction did to a key, to which `newest` was done last.
#[expect(clippy::too_many_arguments, reason = "who did what to which key when, and what was there before")]
pub(crate) fn put_record<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &Key,
    kind: LockKind,
    start_ts: Timestamp,
    short_value: Option<Bytes>,
    commit_ts: Timestamp,
    newest: Option<&Newest>,
    batch: &mut WriteBatch,
) -> Result<(), TxnError> {
    let kind = match kind {
        LockKind::Put => WriteKind::Put,
        LockKind::Delete => WriteKind::Delete,
        LockKind::Lock => WriteKind::Lock,
        LockKind::Pessimistic => unreachable!("a reservation is not committed"),
    };
    let overlapped = reader.write_at(key, newest, commit_ts)?;
    assert!(
        overlapped.as_ref().is_none_or(|other| other.kind == WriteKind::Rollback),
        "INV-TXN-3: {start_ts:?} commits at {commit_ts:?}, where there is {overlapped:?}"
    );
    let write = Write {
        short_value: short_value.filter(|_| !reader.breaks(SeededBug::ShortValueDropped)),
        overlapped_rollback: overlapped.is_some(),
        ..Write::new(kind, start_ts)
    };
    let before = newest.filter(|_| !reader.breaks(SeededBug::OlderVersionLost));
    put_write(batch, key, before, commit_ts, &write);
    Ok(())
}
