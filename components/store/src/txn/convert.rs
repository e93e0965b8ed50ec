//! Between what clients say and what `txn` and `mvcc` know.

use txn::TxnError;
use types::Key;
use wire::kv::KvError;
use wire::txn::{CommitMode, Conflict, LockInfo, LockKind, MutationKind, TxnFault, Version, VersionKind};

pub(crate) fn mode(mode: &CommitMode) -> txn::CommitMode {
    match mode {
        CommitMode::TwoPhase => txn::CommitMode::TwoPhase,
        CommitMode::Async { secondaries } => txn::CommitMode::Async { secondaries: secondaries.clone() },
        CommitMode::OnePhase => txn::CommitMode::OnePhase,
    }
}

pub(crate) fn mutation(mutation: &wire::txn::Mutation) -> txn::Mutation {
    let kind = match &mutation.kind {
        MutationKind::Put(value) => txn::MutationKind::Put(value.clone()),
        MutationKind::Insert(value) => txn::MutationKind::Insert(value.clone()),
        MutationKind::Delete => txn::MutationKind::Delete,
        MutationKind::Lock => txn::MutationKind::Lock,
        MutationKind::CheckNotExists => txn::MutationKind::CheckNotExists,
    };
    txn::Mutation { key: mutation.key.clone(), kind, is_locked: mutation.is_reserved }
}

pub(crate) fn lock_info(key: Key, lock: mvcc::Lock) -> LockInfo {
    LockInfo {
        key,
        primary: lock.primary,
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
        secondaries: lock.secondaries.unwrap_or_default(),
    }
}

pub(crate) fn lock_infos(locks: Vec<(Key, mvcc::Lock)>) -> Vec<LockInfo> {
    locks.into_iter().map(|(key, lock)| lock_info(key, lock)).collect()
}

/// What a reader is told who meets these; `None` if there are none.
pub(crate) fn locks_in_the_way(locks: Vec<(Key, mvcc::Lock)>) -> Option<KvError> {
    let fault = |locks| TxnFault::KeyIsLocked { locks };
    Some(lock_infos(locks))
        .filter(|locks| !locks.is_empty())
        .map(|locks| KvError::Txn(Box::new(fault(locks))))
}

pub(crate) fn version(seen: mvcc::Version) -> Version {
    Version {
        kind: match seen.kind {
            mvcc::WriteKind::Put => VersionKind::Put,
            mvcc::WriteKind::Delete => VersionKind::Delete,
            mvcc::WriteKind::Lock => VersionKind::Lock,
            mvcc::WriteKind::Rollback => VersionKind::Rollback,
        },
        commit_ts: seen.commit_ts,
        start_ts: seen.start_ts,
        value: seen.value,
    }
}

/// What a client is told; `Err` if the engine cannot be read.
pub(crate) fn fault(error: TxnError) -> Result<KvError, engine::EngineError> {
    let fault = match error {
        TxnError::Engine(error) => return Err(error),
        TxnError::Invalid { message } => return Ok(KvError::InvalidRequest { message: message.to_owned() }),
        TxnError::KeyIsLocked { locks } => TxnFault::KeyIsLocked { locks: lock_infos(locks) },
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
        TxnError::PrimaryMismatch { key, lock } => TxnFault::PrimaryMismatch { lock: lock_info(key, *lock) },
        TxnError::PessimisticLockNotFound { key, start_ts } => {
            TxnFault::PessimisticLockNotFound { key, start_ts }
        }
        TxnError::Committed { key, start_ts, commit_ts } => TxnFault::Committed { key, start_ts, commit_ts },
    };
    Ok(KvError::Txn(Box::new(fault)))
}
