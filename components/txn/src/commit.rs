//! The second phase: what is locked becomes visible.

use crate::error::TxnError;
use bytes::Bytes;
use engine::{Snapshot, WriteBatch};
use mvcc::{LockKind, MvccReader, Record, SeededBug, Write, WriteKind, delete_lock, put_write};
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
    let overlapped = reader.write_at(key, commit_ts)?;
    let short_value = lock.short_value.filter(|_| !reader.breaks(SeededBug::ShortValueDropped));
    put_record(key, lock.kind, start_ts, short_value, commit_ts, overlapped.as_ref(), batch);
    Ok(())
}

/// Records what a transaction did to a key. `overlapped` is what stands in the place of the record.
pub(crate) fn put_record(
    key: &Key,
    kind: LockKind,
    start_ts: Timestamp,
    short_value: Option<Bytes>,
    commit_ts: Timestamp,
    overlapped: Option<&Write>,
    batch: &mut WriteBatch,
) {
    let kind = match kind {
        LockKind::Put => WriteKind::Put,
        LockKind::Delete => WriteKind::Delete,
        LockKind::Lock => WriteKind::Lock,
        LockKind::Pessimistic => unreachable!("a reservation is not committed"),
    };
    assert!(
        overlapped.is_none_or(|other| other.kind == WriteKind::Rollback),
        "INV-TXN-3: {start_ts:?} commits at {commit_ts:?}, where there is {overlapped:?}"
    );
    let overlapped_rollback = overlapped.is_some();
    let write = Write { short_value, overlapped_rollback, ..Write::new(kind, start_ts) };
    put_write(batch, key, commit_ts, &write);
}
