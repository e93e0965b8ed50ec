//! What a command decides on a view of its region.

use super::convert::{fault, lock_info, mode, mutation};
use super::{expired, gc};
use crate::execute::Time;
use bytes::Bytes;
use codec::Decode;
use engine::{Cf, EngineError, Op, Snapshot, WriteBatch};
use mvcc::{HeldLocks, Lock, LockKind, MvccReader};
use raftstore::{Change, WriteItem, gc_record};
use txn::{LockRequest, Prewritten, TxnError};
use types::{Key, Region, Timestamp};
use wire::kv::{KvError, KvReply};
use wire::txn::{Acquire, Prewrite, Secondary, TxnCommand, TxnReply, TxnStatus};

/// What is to be written, if anything, and what the client is told once it is.
pub(crate) struct Decision {
    pub(crate) write: Option<WriteItem>,
    pub(crate) reply: KvReply,
    /// What the write does to locks in memory.
    pub(crate) held: Held,
    /// All that the write does is to reserve keys for the transaction that asks for it.
    pub(crate) only_reserves: bool,
}

impl Decision {
    /// One that neither sets nor removes locks that reserve keys.
    pub(super) fn without_locks(write: Option<WriteItem>, reply: KvReply) -> Self {
        Self { write, reply, held: Held::default(), only_reserves: false }
    }
}

/// What a write does to locks in memory.
#[derive(Default)]
pub(crate) struct Held {
    /// Keys whose locks it changes that stand in memory.
    pub(crate) changed: Vec<Key>,
    /// It need not be proposed: all that it does is to set and remove locks that reserve keys of which the engine has no lock.
    pub(crate) is_all: bool,
}

/// The keys that a command looks at or changes.
pub(crate) fn keys_of(command: &TxnCommand) -> Vec<Key> {
    match command {
        TxnCommand::Prewrite(prewrite) => {
            prewrite.mutations.iter().map(|mutation| mutation.key.clone()).collect()
        }
        TxnCommand::Acquire(acquire) => acquire.keys.clone(),
        TxnCommand::Commit { keys, .. }
        | TxnCommand::Rollback { keys, .. }
        | TxnCommand::CheckSecondaries { keys, .. }
        | TxnCommand::Resolve { keys, .. }
        | TxnCommand::Release { keys, .. } => keys.clone(),
        TxnCommand::CleanUp { key, .. } => vec![key.clone()],
        TxnCommand::CheckStatus(asked) => vec![asked.primary.clone()],
        TxnCommand::Heartbeat { primary, .. } => vec![primary.clone()],
        // Of what they remove nobody makes anything any more.
        TxnCommand::Guard { .. } | TxnCommand::Collect { .. } | TxnCommand::CollectExpired { .. } => {
            Vec::new()
        }
    }
}

/// When the transaction of a command began.
pub(super) fn start_of(command: &TxnCommand) -> Timestamp {
    match command {
        TxnCommand::Prewrite(prewrite) => prewrite.start_ts,
        TxnCommand::Acquire(acquire) => acquire.start_ts,
        TxnCommand::CheckStatus(asked) => asked.start_ts,
        TxnCommand::Commit { start_ts, .. }
        | TxnCommand::Rollback { start_ts, .. }
        | TxnCommand::CheckSecondaries { start_ts, .. }
        | TxnCommand::Resolve { start_ts, .. }
        | TxnCommand::Release { start_ts, .. }
        | TxnCommand::CleanUp { start_ts, .. }
        | TxnCommand::Heartbeat { start_ts, .. } => *start_ts,
        TxnCommand::Guard { .. } | TxnCommand::Collect { .. } | TxnCommand::CollectExpired { .. } => {
            Timestamp(0)
        }
    }
}

/// What a command weighs while it is under way, in bytes.
pub(crate) fn size_bytes(command: &TxnCommand) -> usize {
    /// Of what stands around a key: its lock or record, and the message.
    const ENVELOPE: usize = 64;
    match command {
        TxnCommand::Prewrite(prewrite) => {
            prewrite.mutations.iter().map(|mutation| mutation.size_bytes() + ENVELOPE).sum()
        }
        other => keys_of(other).iter().map(|key| key.len() + ENVELOPE).sum(),
    }
}

/// What a command decides by, beside the view.
pub(crate) struct Given<'a> {
    /// Above all that its keys were read at, from who has shown its locks to readers. A transaction commits without a
    /// second phase only with it.
    pub(crate) floor: Option<Timestamp>,
    /// As of [`serve`](crate::serve).
    pub(crate) guarded: Timestamp,
    pub(crate) time: &'a dyn Time,
    /// The locks of its keys that stood in memory before the view was taken.
    pub(crate) held: &'a HeldLocks,
    pub(crate) bugs: mvcc::Bugs,
}

/// Decides. Inner errors are the client's, and then nothing is to be written.
///
/// # Errors
/// [`EngineError`] when the data cannot be read.
pub(crate) fn evaluate<S: Snapshot>(
    snapshot: &S,
    region: &Region,
    command: &TxnCommand,
    given: &Given<'_>,
) -> Result<Result<Decision, KvError>, EngineError> {
    let Given { floor, guarded, time, held, bugs } = *given;
    if !keys_of(command).iter().all(|key| region.range.contains(key)) {
        return Ok(Err(KvError::KeyNotInRegion { region_id: region.id, range: region.range.clone() }));
    }
    let gc = || gc_record(snapshot, region.id);
    let reader = MvccReader::new(snapshot).holding(held).breaking(bugs);
    match command {
        TxnCommand::Guard { safe_points } => return Ok(Ok(gc::guard(&gc()?, safe_points))),
        TxnCommand::Collect { safe_points, from } => {
            return gc::collect(&reader, region, &gc()?, safe_points, from, bugs).map(Ok);
        }
        TxnCommand::CollectExpired { from } => return expired::collect(snapshot, region, &gc()?, from, time),
        _ => {}
    }
    if start_of(command) <= guarded
        && let Some(fault) = gc::too_old(&reader, &gc()?, command)?
    {
        return Ok(Err(KvError::Txn(Box::new(fault))));
    }
    let mut batch = WriteBatch::new();
    match decide(&reader, command, floor, &mut batch) {
        Ok(reply) => {
            let changes = changes(&batch);
            let held = held_in(&reader, held, &changes)?;
            let only_reserves = only_reserves(command, &changes);
            let (start_ts, gets_locks) = (start_of(command), gc::gets_locks(command));
            let write = (!changes.is_empty()).then_some(WriteItem::OfTxn { start_ts, gets_locks, changes });
            Ok(Ok(Decision { write, reply: KvReply::Txn(Box::new(reply)), held, only_reserves }))
        }
        Err(error) => fault(error).map(Err),
    }
}

/// What these changes do to the locks in memory that were looked at for them.
fn held_in<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    held: &HeldLocks,
    changes: &[Change],
) -> Result<Held, EngineError> {
    let of_locks = || changes.iter().filter(|change| change.cf() == Some(Cf::Lock));
    let changed = of_locks().map(Change::key).filter(|key| held.contains_key(*key)).cloned().collect();
    Ok(Held { changed, is_all: of_locks().count() == changes.len() && fit_memory(reader, held, changes)? })
}

/// Whether these changes of locks only set and remove those that reserve keys of which the engine has no lock.
fn fit_memory<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    held: &HeldLocks,
    changes: &[Change],
) -> Result<bool, EngineError> {
    for change in changes {
        let fits = match change {
            Change::Put { value, .. } if !is_reservation(value) => false,
            change if held.contains_key(change.key()) => true,
            Change::Put { key, .. } => reader.lock_in_engine(key)?.is_none(),
            Change::Delete { .. } | Change::DeleteIf { .. } => false,
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a command that is to reserve keys does that and nothing else. What others do to reservations may be a promise: a
/// reader who was told that a transaction commits later relies on the lock that says so.
fn only_reserves(command: &TxnCommand, changes: &[Change]) -> bool {
    let reserves = |change: &Change| match change {
        Change::Put { value, .. } => change.cf() == Some(Cf::Lock) && is_reservation(value),
        Change::Delete { .. } | Change::DeleteIf { .. } => false,
    };
    matches!(command, TxnCommand::Acquire(_)) && changes.iter().all(reserves)
}

fn is_reservation(lock: &Bytes) -> bool {
    let lock = Lock::from_bytes(lock).expect("a lock that was just made");
    lock.kind == LockKind::Pessimistic
}

fn decide<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    command: &TxnCommand,
    floor: Option<Timestamp>,
    batch: &mut WriteBatch,
) -> Result<TxnReply, TxnError> {
    match command {
        TxnCommand::Prewrite(prewrite) => return decide_prewrite(reader, prewrite, floor, batch),
        TxnCommand::Acquire(acquire) => return decide_acquire(reader, acquire, batch),
        TxnCommand::Commit { keys, start_ts, commit_ts } => {
            for key in keys {
                txn::commit(reader, key, *start_ts, *commit_ts, batch)?;
            }
        }
        TxnCommand::Rollback { keys, start_ts } => {
            for key in keys {
                txn::rollback(reader, key, *start_ts, batch)?;
            }
        }
        TxnCommand::CleanUp { key, start_ts, current_ts } => {
            txn::clean_up(reader, key, *start_ts, *current_ts, batch)?;
        }
        TxnCommand::Resolve { start_ts, commit_ts, keys } => {
            for key in keys {
                // What is not locked is resolved already.
                if reader.lock(key)?.is_some_and(|lock| lock.start_ts == *start_ts) {
                    match commit_ts {
                        Some(commit_ts) => txn::commit(reader, key, *start_ts, *commit_ts, batch)?,
                        None => txn::rollback(reader, key, *start_ts, batch)?,
                    }
                }
            }
        }
        TxnCommand::Release { keys, start_ts, for_update_ts } => {
            for key in keys {
                txn::release(reader, key, *start_ts, *for_update_ts, batch)?;
            }
        }
        TxnCommand::CheckStatus(asked) => {
            let asked = txn::CheckStatus {
                primary: asked.primary.clone(),
                start_ts: asked.start_ts,
                reads_at: asked.reads_at,
                current_ts: asked.current_ts,
                rollback_if_unknown: asked.rollback_if_unknown,
                force_sync_commit: asked.force_sync_commit,
                found_pessimistic: asked.found_pessimistic,
            };
            let status = match txn::check_status(reader, &asked, batch)? {
                txn::Status::Alive { lock, pushed } => {
                    TxnStatus::Alive { lock: lock_info(asked.primary, *lock), is_pushed: pushed }
                }
                txn::Status::Committed(commit_ts) => TxnStatus::Committed { commit_ts },
                txn::Status::RolledBack | txn::Status::Expired => TxnStatus::RolledBack,
                txn::Status::Released => TxnStatus::Released,
            };
            return Ok(TxnReply::Status(status));
        }
        TxnCommand::CheckSecondaries { keys, start_ts } => {
            return decide_secondaries(reader, keys, *start_ts, batch);
        }
        TxnCommand::Heartbeat { primary, start_ts, ttl_ms } => {
            let ttl_ms = txn::heartbeat(reader, primary, *start_ts, *ttl_ms, batch)?;
            return Ok(TxnReply::TimeToLive { ttl_ms });
        }
        TxnCommand::Guard { .. } | TxnCommand::Collect { .. } | TxnCommand::CollectExpired { .. } => {
            unreachable!("decided elsewhere")
        }
    }
    Ok(TxnReply::Done)
}

/// `floor` as of [`evaluate`].
fn decide_prewrite<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    asked: &Prewrite,
    floor: Option<Timestamp>,
    batch: &mut WriteBatch,
) -> Result<TxnReply, TxnError> {
    let shared = txn::Prewrite {
        primary: asked.primary.clone(),
        start_ts: asked.start_ts,
        ttl_ms: asked.ttl_ms,
        txn_size: asked.txn_size,
        for_update_ts: asked.for_update_ts,
        min_commit_ts: asked.min_commit_ts.max(floor.unwrap_or_default()),
        max_commit_ts: asked.max_commit_ts,
        mode: if floor.is_some() { mode(&asked.mode) } else { txn::CommitMode::TwoPhase },
    };
    let mutations: Vec<txn::Mutation> = asked.mutations.iter().map(mutation).collect();
    let Prewritten { committed_at, min_commit_ts } = txn::prewrite(reader, &shared, &mutations, batch)?;
    Ok(TxnReply::Prewritten { committed_at, min_commit_ts })
}

fn decide_acquire<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    asked: &Acquire,
    batch: &mut WriteBatch,
) -> Result<TxnReply, TxnError> {
    let request = LockRequest {
        keys: asked.keys.clone(),
        primary: asked.primary.clone(),
        start_ts: asked.start_ts,
        for_update_ts: asked.for_update_ts,
        ttl_ms: asked.ttl_ms,
        must_be_new: asked.must_be_new,
    };
    Ok(TxnReply::Reserved { values: txn::acquire(reader, &request, batch)? })
}

fn decide_secondaries<S: Snapshot>(
    reader: &MvccReader<'_, S>,
    keys: &[Key],
    start_ts: Timestamp,
    batch: &mut WriteBatch,
) -> Result<TxnReply, TxnError> {
    let mut secondaries = Vec::with_capacity(keys.len());
    for key in keys {
        secondaries.push(match txn::check_secondary(reader, key, start_ts, batch)? {
            txn::Secondary::Locked(lock) => Secondary::Locked(lock_info(key.clone(), *lock)),
            txn::Secondary::Committed(commit_ts) => Secondary::Committed { commit_ts },
            txn::Secondary::RolledBack => Secondary::RolledBack,
        });
    }
    Ok(TxnReply::Secondaries(secondaries))
}

/// A batch as it is proposed.
pub(super) fn changes(batch: &WriteBatch) -> Vec<Change> {
    let change = |op| match op {
        Op::Put { cf, key, value } => Change::Put {
            family: cf as u8,
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
        },
        Op::Delete { cf, key } => Change::Delete { family: cf as u8, key: Bytes::copy_from_slice(key) },
        Op::DeleteRange { .. } => unreachable!("no command of a transaction removes a range"),
    };
    batch.ops().map(change).collect()
}
