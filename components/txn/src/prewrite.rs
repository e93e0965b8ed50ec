//! The first phase: keys are locked with what the transaction does to them. It can be the last one too: a transaction that
//! commits in one phase is committed by it, and one that commits asynchronously is as soon as all its keys have passed it.

use crate::commit::put_record;
use crate::error::{Conflict, Gathered, TxnError};
use bytes::Bytes;
use engine::{Snapshot, WriteBatch};
use mvcc::{
    Lock, LockKind, MvccReader, Newest, Record, SHORT_VALUE_MAX, SeededBug, delete_lock, put_lock, put_value,
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

/// How a transaction becomes committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommitMode {
    /// By a command of its own for its primary.
    TwoPhase,
    /// By having locked all of its keys, at the greatest `min_commit_ts` of its locks.
    Async {
        /// All its keys but the primary; looked at where the primary is prewritten.
        secondaries: Vec<Key>,
    },
    /// By this prewrite, which has all of its keys.
    OnePhase,
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
    /// It does not commit earlier. Unless it commits in two phases, this is above every timestamp that its keys were read
    /// at, and nobody reads them below it without meeting it (INV-TXN-4).
    pub min_commit_ts: Timestamp,
    /// If it would commit later than this without a second phase, it commits in two; zero if it does not mind.
    pub max_commit_ts: Timestamp,
    /// How it becomes committed.
    pub mode: CommitMode,
}

/// What a prewrite has come to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Prewritten {
    /// The transaction is committed, by this command or an earlier one.
    pub committed_at: Option<Timestamp>,
    /// These keys are locked so that it is committed as soon as all others are, at this timestamp or later. `None`: it
    /// commits in two phases, whatever other keys say.
    pub min_commit_ts: Option<Timestamp>,
}

/// Locks keys with what the transaction does to them, or commits them at once.
///
/// A key that stands committed already tells that this request comes late, and again: then the others are not looked at,
/// since others may have written them.
///
/// # Errors
/// [`TxnError`].
pub fn prewrite<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    txn: &Prewrite,
    mutations: &[Mutation],
    batch: &mut WriteBatch,
) -> Result<Prewritten, TxnError> {
    let (mut locks, mut free, mut failures) = (Vec::new(), Vec::new(), Gathered::default());
    for mutation in mutations {
        match examine(reader, txn, mutation) {
            Ok(Found::Committed(at)) => {
                return Ok(Prewritten { committed_at: Some(at), min_commit_ts: None });
            }
            Ok(Found::Nothing) => {}
            Ok(Found::Locked(lock)) => locks.push(lock),
            Ok(Found::Free(plan)) => free.push(plan),
            Err(error) => failures.add(error),
        }
    }
    failures.end()?;
    let commit_ts = free.iter().map(|plan| plan.commits_after(txn)).fold(txn.min_commit_ts, Timestamp::max);
    let is_too_late = txn.max_commit_ts > Timestamp(0) && commit_ts > txn.max_commit_ts;
    // Where an earlier request has locked keys instead, it is not tried again.
    if txn.mode == CommitMode::OnePhase && locks.is_empty() && !free.is_empty() && !is_too_late {
        for plan in &free {
            plan.commit(reader, txn.start_ts, commit_ts, batch)?;
        }
        return Ok(Prewritten { committed_at: Some(commit_ts), min_commit_ts: None });
    }
    let secondaries = match &txn.mode {
        CommitMode::Async { secondaries } if !is_too_late => Some(secondaries),
        _ => None,
    };
    locks.extend(free.into_iter().map(|plan| plan.lock(txn, secondaries, batch)));
    let is_async = !locks.is_empty() && locks.iter().all(|lock| lock.async_commit);
    let min_commit_ts = locks.iter().map(|lock| lock.min_commit_ts).max().filter(|_| is_async);
    Ok(Prewritten { committed_at: None, min_commit_ts })
}

/// What a key is like for the transaction.
enum Found {
    /// The transaction has committed it, or another of its keys.
    Committed(Timestamp),
    /// An earlier request has locked it, and said the same.
    Locked(Lock),
    /// It can be locked or committed.
    Free(Box<Plan>),
    /// It was only to be looked at, and is as it should be.
    Nothing,
}

/// What is to be done to a key that is free for it.
struct Plan {
    key: Key,
    kind: LockKind,
    value: Option<Bytes>,
    /// The lock by which the transaction has reserved the key.
    held: Option<Lock>,
    /// What was done to the key last.
    newest: Option<Newest>,
}

impl Plan {
    /// The transaction commits then at the earliest, as far as this key goes.
    fn commits_after(&self, txn: &Prewrite) -> Timestamp {
        let after = Timestamp(txn.start_ts.max(txn.for_update_ts).0 + 1);
        self.held.as_ref().map_or(after, |held| held.min_commit_ts.max(after))
    }

    fn lock(self: Box<Self>, txn: &Prewrite, secondaries: Option<&Vec<Key>>, batch: &mut WriteBatch) -> Lock {
        let min_commit_ts = txn.min_commit_ts.max(self.commits_after(txn));
        let short_value = self.put_value(txn.start_ts, batch);
        let lock = Lock {
            ttl_ms: txn.ttl_ms.max(self.held.map_or(0, |held| held.ttl_ms)),
            short_value,
            for_update_ts: txn.for_update_ts,
            txn_size: txn.txn_size,
            min_commit_ts,
            async_commit: secondaries.is_some(),
            secondaries: secondaries.filter(|_| self.key == txn.primary).cloned(),
            ..Lock::new(self.kind, txn.primary.clone(), txn.start_ts, 0)
        };
        put_lock(batch, &self.key, &lock);
        lock
    }

    fn commit<S: Snapshot>(
        &self,
        reader: &MvccReader<'_, S>,
        start_ts: Timestamp,
        commit_ts: Timestamp,
        batch: &mut WriteBatch,
    ) -> Result<(), TxnError> {
        let short_value = self.put_value(start_ts, batch);
        if self.held.is_some() {
            delete_lock(batch, &self.key);
        }
        let newest = self.newest.as_ref();
        put_record(reader, &self.key, self.kind, start_ts, short_value, commit_ts, newest, batch)
    }

    /// Puts a value that is too long for a lock or record where it belongs; gives back one that is not.
    fn put_value(&self, start_ts: Timestamp, batch: &mut WriteBatch) -> Option<Bytes> {
        let value = self.value.as_ref()?;
        if value.len() <= SHORT_VALUE_MAX {
            return Some(value.clone());
        }
        put_value(batch, &self.key, start_ts, value);
        None
    }
}

fn examine<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    txn: &Prewrite,
    mutation: &Mutation,
) -> Result<Found, TxnError> {
    let key = &mutation.key;
    let held = match reader.lock(key)? {
        Some(lock) if lock.start_ts != txn.start_ts && !reader.breaks(SeededBug::PrewriteIgnoresLocks) => {
            // It may have committed here before that; then the other one came later.
            if let Record::Committed { commit_ts, .. } = reader.record_of(key, txn.start_ts)? {
                return Ok(Found::Committed(commit_ts));
            }
            let lost = mutation.is_locked;
            return Err(if lost { not_locked(txn, key) } else { locked(key, lock) });
        }
        Some(lock) if lock.kind != LockKind::Pessimistic => {
            return same_again(reader, txn, mutation, &lock).map(|()| Found::Locked(lock));
        }
        held => held,
    };
    // Its own record first: whoever comes again after the transaction was committed must not take that for a conflict.
    let past = reader.past(key, txn.start_ts)?;
    match past.own {
        Record::Committed { commit_ts, .. } => return Ok(Found::Committed(commit_ts)),
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
        match past.newer {
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
        && past.newest.as_ref().is_some_and(Newest::is_put)
    {
        return Err(TxnError::AlreadyExist { key: key.clone() });
    }
    let (kind, value) = match &mutation.kind {
        MutationKind::Put(value) | MutationKind::Insert(value) => (LockKind::Put, Some(value.clone())),
        MutationKind::Delete => (LockKind::Delete, None),
        MutationKind::Lock => (LockKind::Lock, None),
        MutationKind::CheckNotExists => return Ok(Found::Nothing),
    };
    Ok(Found::Free(Box::new(Plan { key: key.clone(), kind, value, held, newest: past.newest })))
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

pub(crate) fn locked(key: &Key, lock: Lock) -> TxnError {
    TxnError::KeyIsLocked { locks: vec![(key.clone(), lock)] }
}

fn not_locked(txn: &Prewrite, key: &Key) -> TxnError {
    TxnError::PessimisticLockNotFound { key: key.clone(), start_ts: txn.start_ts }
}
