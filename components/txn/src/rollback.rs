//! A transaction has never been.

use crate::error::TxnError;
use engine::{Snapshot, WriteBatch};
use mvcc::{
    Lock, LockKind, MvccReader, Record, SeededBug, Write, WriteKind, delete_lock, delete_value, put_write,
};
use types::{Key, Timestamp};

/// Rolls a key of the transaction that began at `start_ts` back, and sees to it that it is not written later.
///
/// # Errors
/// [`TxnError`].
pub fn rollback<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &Key,
    start_ts: Timestamp,
    batch: &mut WriteBatch,
) -> Result<(), TxnError> {
    if let Some(lock) = reader.lock(key)?.filter(|lock| lock.start_ts == start_ts) {
        return roll_back_lock(reader, key, &lock, batch);
    }
    match reader.record_of(key, start_ts)? {
        Record::Committed { commit_ts, .. } => {
            Err(TxnError::Committed { key: key.clone(), start_ts, commit_ts })
        }
        Record::RolledBack => Ok(()),
        Record::None => forbid(reader, key, start_ts, batch),
    }
}

/// Takes a lock away with what it stood for.
pub(crate) fn roll_back_lock<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &Key,
    lock: &Lock,
    batch: &mut WriteBatch,
) -> Result<(), TxnError> {
    if lock.kind == LockKind::Put && lock.short_value.is_none() {
        delete_value(batch, key, lock.start_ts);
    }
    delete_lock(batch, key);
    forbid(reader, key, lock.start_ts, batch)
}

/// Leaves a record that keeps the transaction from writing the key. Every such record stays until it is below the safe
/// point: a request that was on its way may come at any time.
fn forbid<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    key: &Key,
    start_ts: Timestamp,
    batch: &mut WriteBatch,
) -> Result<(), TxnError> {
    if reader.breaks(SeededBug::RollbackWithoutRecord) {
        return Ok(());
    }
    let newest = reader.newest(key)?;
    let record = match reader.write_at(key, newest.as_ref(), start_ts)? {
        // Somebody has committed at that very timestamp: one record says both.
        Some(committed) => Write { overlapped_rollback: true, ..committed },
        None => Write::new(WriteKind::Rollback, start_ts),
    };
    put_write(batch, key, newest.as_ref(), start_ts, &record);
    Ok(())
}
