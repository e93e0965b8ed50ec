//! What a store does with commands of transactions: the real ones, over an engine in memory. One at a time, so that
//! nothing stands between a view and its proposal.

use bytes::Bytes;
use engine::{Engine, EngineError, MemEngine, MemSnapshot, WriteBatch};
use mvcc::{ChangeLimits, Changes, Direction, Lock, MvccReader, ReadError, ScanLimits, View};
use std::collections::BTreeSet;
use txn::TxnError;
use types::{Key, KeyRange, Timestamp};
use wire::kv::{KvCommand, KvError, KvReply};
use wire::txn::{
    Changed, CommitMode, Conflict, LockInfo, LockKind, MutationKind, ReadView, Secondary, TxnCommand,
    TxnFault, TxnItem, TxnRead, TxnReply, TxnStatus,
};

type Reader<'a> = MvccReader<'a, MemSnapshot>;

/// The keys that a command looks at in the region that it was sent to.
pub(crate) fn keys_of(command: &TxnCommand) -> Vec<&Key> {
    match command {
        TxnCommand::Prewrite(prewrite) => prewrite.mutations.iter().map(|mutation| &mutation.key).collect(),
        TxnCommand::Commit { keys, .. }
        | TxnCommand::Rollback { keys, .. }
        | TxnCommand::CheckSecondaries { keys, .. }
        | TxnCommand::Resolve { keys, .. }
        | TxnCommand::Release { keys, .. } => keys.iter().collect(),
        TxnCommand::Acquire(acquire) => acquire.keys.iter().collect(),
        TxnCommand::CleanUp { key, .. } => vec![key],
        TxnCommand::CheckStatus(asked) => vec![&asked.primary],
        TxnCommand::Heartbeat { primary, .. } => vec![primary],
        TxnCommand::Guard { .. } | TxnCommand::Collect { .. } | TxnCommand::CollectExpired { .. } => {
            Vec::new()
        }
    }
}

/// Does a command, as a whole or not at all. With a `floor`, above all that was read at, a transaction may be committed without
/// a second phase.
pub(crate) fn execute(
    engine: &MemEngine,
    command: TxnCommand,
    floor: Option<Timestamp>,
) -> Result<KvReply, KvError> {
    let keys = keys_of(&command);
    let distinct: BTreeSet<&&Key> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len(), "a key came twice in one command");
    let snapshot = engine.snapshot();
    let reader = MvccReader::new(&snapshot);
    let mut batch = WriteBatch::default();
    let reply = evaluate(&reader, command, floor, &mut batch)?;
    engine.write(&batch).expect("the engine in memory does not fail");
    Ok(KvReply::Txn(Box::new(reply)))
}

fn evaluate(
    reader: &Reader<'_>,
    command: TxnCommand,
    floor: Option<Timestamp>,
    batch: &mut WriteBatch,
) -> Result<TxnReply, KvError> {
    match command {
        TxnCommand::Prewrite(asked) => {
            let shared = txn::Prewrite {
                primary: asked.primary,
                start_ts: asked.start_ts,
                ttl_ms: asked.ttl_ms,
                txn_size: asked.txn_size,
                for_update_ts: asked.for_update_ts,
                min_commit_ts: asked.min_commit_ts.max(floor.unwrap_or_default()),
                max_commit_ts: asked.max_commit_ts,
                mode: match asked.mode {
                    CommitMode::Async { secondaries } if floor.is_some() => {
                        txn::CommitMode::Async { secondaries }
                    }
                    CommitMode::OnePhase if floor.is_some() => txn::CommitMode::OnePhase,
                    _ => txn::CommitMode::TwoPhase,
                },
            };
            let mut mutations = Vec::new();
            for mutation in asked.mutations {
                let kind = match mutation.kind {
                    MutationKind::Put(value) => txn::MutationKind::Put(value),
                    MutationKind::Insert(value) => txn::MutationKind::Insert(value),
                    MutationKind::Delete => txn::MutationKind::Delete,
                    MutationKind::Lock => txn::MutationKind::Lock,
                    MutationKind::CheckNotExists => txn::MutationKind::CheckNotExists,
                };
                mutations.push(txn::Mutation { key: mutation.key, kind, is_locked: mutation.is_reserved });
            }
            let prewritten = txn::prewrite(reader, &shared, &mutations, batch);
            let txn::Prewritten { committed_at, min_commit_ts } =
                prewritten.map_err(|error| fault(&error))?;
            Ok(TxnReply::Prewritten { committed_at, min_commit_ts })
        }
        TxnCommand::Commit { keys, start_ts, commit_ts } => {
            done(keys, |key| txn::commit(reader, key, start_ts, commit_ts, batch))
        }
        TxnCommand::Rollback { keys, start_ts } => {
            done(keys, |key| txn::rollback(reader, key, start_ts, batch))
        }
        TxnCommand::CleanUp { key, start_ts, current_ts } => {
            done(vec![key], |key| txn::clean_up(reader, key, start_ts, current_ts, batch))
        }
        TxnCommand::CheckStatus(asked) => {
            let asked = txn::CheckStatus {
                primary: asked.primary,
                start_ts: asked.start_ts,
                reads_at: asked.reads_at,
                current_ts: asked.current_ts,
                rollback_if_unknown: asked.rollback_if_unknown,
                force_sync_commit: asked.force_sync_commit,
                found_pessimistic: asked.found_pessimistic,
            };
            let status = match txn::check_status(reader, &asked, batch).map_err(|error| fault(&error))? {
                txn::Status::Alive { lock, pushed } => {
                    TxnStatus::Alive { lock: lock_info(&asked.primary, &lock), is_pushed: pushed }
                }
                txn::Status::Committed(commit_ts) => TxnStatus::Committed { commit_ts },
                txn::Status::RolledBack | txn::Status::Expired => TxnStatus::RolledBack,
                txn::Status::Released => TxnStatus::Released,
            };
            Ok(TxnReply::Status(status))
        }
        TxnCommand::CheckSecondaries { keys, start_ts } => {
            let found = keys.into_iter().map(|key| {
                Ok(match txn::check_secondary(reader, &key, start_ts, batch)? {
                    txn::Secondary::Locked(lock) => Secondary::Locked(lock_info(&key, &lock)),
                    txn::Secondary::Committed(commit_ts) => Secondary::Committed { commit_ts },
                    txn::Secondary::RolledBack => Secondary::RolledBack,
                })
            });
            Ok(TxnReply::Secondaries(all(found.collect())?))
        }
        TxnCommand::Resolve { start_ts, commit_ts, keys } => done(keys, |key| {
            if reader.lock(key)?.is_none_or(|lock| lock.start_ts != start_ts) {
                return Ok(());
            }
            match commit_ts {
                Some(commit_ts) => txn::commit(reader, key, start_ts, commit_ts, batch),
                None => txn::rollback(reader, key, start_ts, batch),
            }
        }),
        TxnCommand::Heartbeat { primary, start_ts, ttl_ms } => {
            let ttl_ms = txn::heartbeat(reader, &primary, start_ts, ttl_ms, batch);
            Ok(TxnReply::TimeToLive { ttl_ms: ttl_ms.map_err(|error| fault(&error))? })
        }
        TxnCommand::Acquire(asked) => {
            let request = txn::LockRequest {
                keys: asked.keys,
                primary: asked.primary,
                start_ts: asked.start_ts,
                for_update_ts: asked.for_update_ts,
                ttl_ms: asked.ttl_ms,
                must_be_new: asked.must_be_new,
            };
            let values = txn::acquire(reader, &request, batch).map_err(|error| fault(&error))?;
            Ok(TxnReply::Reserved { values })
        }
        TxnCommand::Release { keys, start_ts, for_update_ts } => {
            done(keys, |key| txn::release(reader, key, start_ts, for_update_ts, batch))
        }
        TxnCommand::Guard { .. } => Ok(TxnReply::Done),
        TxnCommand::CollectExpired { .. } => panic!("values do not end here"),
        TxnCommand::Collect { safe_points, from } => {
            let range = KeyRange { start: from, end: Key::new() };
            let limits = mvcc::GcLimits { removed_max: 2, steps_max: usize::MAX };
            let step = reader.collect(&range, &safe_points, limits, batch).expect("readable");
            Ok(TxnReply::Collected { removed: step.removed, resume: step.resume })
        }
    }
}

/// Up to when a command or read sees keys that it does not write.
pub(crate) fn seen_at(command: &KvCommand) -> Timestamp {
    match command {
        KvCommand::TxnRead(read) => match &**read {
            TxnRead::Get { view, .. } | TxnRead::BatchGet { view, .. } | TxnRead::Scan { view, .. } => {
                view.at
            }
            TxnRead::KeyChanges { view, .. } | TxnRead::RangeChanges { view, .. } => view.at,
            TxnRead::Locks { .. } | TxnRead::History { .. } => Timestamp(0),
        },
        KvCommand::Txn(command) => match &**command {
            TxnCommand::Prewrite(prewrite) => prewrite.start_ts.max(prewrite.for_update_ts),
            TxnCommand::Acquire(acquire) => acquire.for_update_ts,
            _ => Timestamp(0),
        },
        _ => Timestamp(0),
    }
}

/// What a read finds; a scan's page has at most so many items.
pub(crate) fn read(engine: &MemEngine, read: TxnRead, page_max: usize) -> Result<KvReply, KvError> {
    let snapshot = engine.snapshot();
    let reader = MvccReader::new(&snapshot);
    match read {
        TxnRead::Get { key, view } => Ok(KvReply::Value(values(&reader, &[key], view)?.remove(0))),
        TxnRead::BatchGet { keys, view } => Ok(KvReply::Values(values(&reader, &keys, view)?)),
        TxnRead::Scan { scan, view } => {
            let direction = if scan.reverse { Direction::Backward } else { Direction::Forward };
            let limits =
                ScanLimits { items_max: page_max.min(scan.limit as usize).max(1), ..ScanLimits::default() };
            let page = reader.scan(&scan.range, direction, &as_view(view), limits).expect("a sound engine");
            let items = page.items.into_iter().map(|item| match item.outcome {
                Ok(value) if !scan.keys_only => TxnItem { key: item.key, value, lock: None },
                Ok(_) => TxnItem { key: item.key, value: Bytes::new(), lock: None },
                Err(lock) => {
                    let lock = Some(lock_info(&item.key, &lock));
                    TxnItem { key: item.key, value: Bytes::new(), lock }
                }
            });
            let items = items.collect();
            let resume = page.rest.map(|rest| if scan.reverse { rest.end } else { rest.start });
            Ok(KvReply::Txn(Box::new(TxnReply::Page { items, resume })))
        }
        TxnRead::KeyChanges { keys, since, view } => {
            changes(reader.changed_keys(&keys, since, &as_view(view), usize::MAX).expect("a sound engine"))
        }
        TxnRead::RangeChanges { range, since, view } => {
            let limits = ChangeLimits { steps_max: page_max, locks_max: page_max };
            changes(reader.changed_in(&range, since, &as_view(view), limits).expect("a sound engine"))
        }
        other => panic!("a client does not ask {other:?}"),
    }
}

fn changes(found: Changes) -> Result<KvReply, KvError> {
    if !found.locks.is_empty() {
        let locks = found.locks.iter().map(|(key, lock)| lock_info(key, lock)).collect();
        return Err(told(TxnFault::KeyIsLocked { locks }));
    }
    let first = found.first.map(|(key, commit_ts, start_ts)| Changed { key, commit_ts, start_ts });
    Ok(KvReply::Txn(Box::new(TxnReply::Changes { first, resume: found.resume })))
}

fn values(reader: &Reader<'_>, keys: &[Key], view: ReadView) -> Result<Vec<Option<Bytes>>, KvError> {
    let view = as_view(view);
    let (mut values, mut locks) = (Vec::new(), Vec::new());
    for key in keys {
        match reader.get(key, &view) {
            Ok(value) => values.push(value),
            Err(ReadError::Locked { key, lock }) => locks.push(lock_info(&key, &lock)),
            Err(ReadError::Engine(error)) => panic!("{error}"),
        }
    }
    if locks.is_empty() { Ok(values) } else { Err(told(TxnFault::KeyIsLocked { locks })) }
}

/// Locks that were left behind, by anybody, anywhere in the range.
pub(crate) fn locks_in(engine: &MemEngine, range: &KeyRange) -> Vec<Key> {
    use engine::{Cf, Snapshot};
    let snapshot = engine.snapshot();
    let mut iter = snapshot.iter(Cf::Lock, range);
    let mut keys = Vec::new();
    let mut valid = iter.seek_to_first();
    while valid {
        keys.push(Bytes::copy_from_slice(iter.key()));
        valid = iter.next();
    }
    keys
}

fn as_view(view: ReadView) -> View {
    View {
        at: view.at,
        resolved: view.resolved.into_iter().collect(),
        committed: view.committed.into_iter().collect(),
    }
}

fn done(keys: Vec<Key>, mut each: impl FnMut(&Key) -> Result<(), TxnError>) -> Result<TxnReply, KvError> {
    all(keys.iter().map(&mut each).collect())?;
    Ok(TxnReply::Done)
}

/// All of what was found, or the first thing that is in the way.
fn all<T>(found: Vec<Result<T, TxnError>>) -> Result<Vec<T>, KvError> {
    found.into_iter().collect::<Result<_, _>>().map_err(|error| fault(&error))
}

fn told(fault: TxnFault) -> KvError {
    KvError::Txn(Box::new(fault))
}

fn fault(error: &TxnError) -> KvError {
    if let TxnError::Invalid { message } = error {
        return KvError::InvalidRequest { message: (*message).to_owned() };
    }
    told(match error.clone() {
        TxnError::KeyIsLocked { locks } => {
            let locks = locks.iter().map(|(key, lock)| lock_info(key, lock)).collect();
            TxnFault::KeyIsLocked { locks }
        }
        TxnError::WriteConflict { key, start_ts, conflict_start_ts, conflict_commit_ts, reason } => {
            let reason = match reason {
                txn::Conflict::Optimistic => Conflict::Optimistic,
                txn::Conflict::Pessimistic => Conflict::Pessimistic,
                txn::Conflict::RolledBack => Conflict::RolledBack,
            };
            TxnFault::WriteConflict { key, start_ts, conflict_start_ts, conflict_commit_ts, reason }
        }
        TxnError::AlreadyExist { key } => TxnFault::AlreadyExist { key },
        TxnError::CommitTsExpired { key, start_ts, attempted, min_commit_ts } => {
            TxnFault::CommitTsExpired { key, start_ts, attempted, min_commit_ts }
        }
        TxnError::TxnLockNotFound { key, start_ts } => TxnFault::TxnLockNotFound { key, start_ts },
        TxnError::TxnNotFound { primary, start_ts } => TxnFault::TxnNotFound { primary, start_ts },
        TxnError::PrimaryMismatch { key, lock } => TxnFault::PrimaryMismatch { lock: lock_info(&key, &lock) },
        TxnError::PessimisticLockNotFound { key, start_ts } => {
            TxnFault::PessimisticLockNotFound { key, start_ts }
        }
        TxnError::Committed { key, start_ts, commit_ts } => TxnFault::Committed { key, start_ts, commit_ts },
        TxnError::Invalid { .. } => unreachable!("dealt with above"),
        TxnError::Engine(error) => panic!("{error}"),
    })
}

fn lock_info(key: &Key, lock: &Lock) -> LockInfo {
    LockInfo {
        key: key.clone(),
        primary: lock.primary.clone(),
        start_ts: lock.start_ts,
        ttl_ms: lock.ttl_ms,
        kind: match lock.kind {
            mvcc::LockKind::Put => LockKind::Put,
            mvcc::LockKind::Delete => LockKind::Delete,
            mvcc::LockKind::Lock => LockKind::Lock,
            mvcc::LockKind::Pessimistic => LockKind::Pessimistic,
        },
        txn_size: lock.txn_size,
        for_update_ts: lock.for_update_ts,
        min_commit_ts: lock.min_commit_ts,
        is_async_commit: lock.async_commit,
        secondaries: lock.secondaries.clone().unwrap_or_default(),
    }
}

/// Locks keys as a client does that commits as soon as all are locked, and then says no more.
pub(crate) fn lock_async(
    engine: &MemEngine,
    primary: &Key,
    secondaries: &[Key],
    locked: &[Key],
    start_ts: Timestamp,
    value: &Bytes,
) -> Result<(), EngineError> {
    let mut batch = WriteBatch::default();
    for key in locked {
        let lock = Lock {
            short_value: Some(value.clone()),
            async_commit: true,
            min_commit_ts: Timestamp(start_ts.0 + 1),
            secondaries: (key == primary).then(|| secondaries.to_vec()),
            ..Lock::new(mvcc::LockKind::Put, primary.clone(), start_ts, 1000)
        };
        mvcc::put_lock(&mut batch, key, &lock);
    }
    engine.write(&batch)
}
