//! Samples of what transactions say.

use super::key;
use bytes::Bytes;
use types::{Key, KeyRange, KeyspacePoint, SafePoints, Timestamp};
use wire::kv::Scan;
use wire::txn::{
    Acquire, Changed, CheckStatus, CommitMode, Conflict, LockInfo, LockKind, Mutation, MutationKind,
    Prewrite, ReadView, Secondary, TxnCommand, TxnFault, TxnItem, TxnRead, TxnReply, TxnStatus, Version,
    VersionKind, WaitEdge,
};

const START: Timestamp = Timestamp(1_000);
const COMMIT: Timestamp = Timestamp(2_000);

fn keys() -> Vec<Key> {
    vec![key("a"), key("b")]
}

pub(crate) fn wait_chain() -> Vec<WaitEdge> {
    vec![
        WaitEdge { waiter_ts: START, lock_ts: COMMIT, key: key("a") },
        WaitEdge { waiter_ts: COMMIT, lock_ts: START, key: key("b") },
    ]
}

pub(crate) fn mutation_kinds() -> Vec<MutationKind> {
    let value = Bytes::from_static(b"value");
    vec![
        MutationKind::Put(value.clone()),
        MutationKind::Insert(value),
        MutationKind::Delete,
        MutationKind::Lock,
        MutationKind::CheckNotExists,
    ]
}

pub(crate) fn commit_modes() -> Vec<CommitMode> {
    vec![CommitMode::TwoPhase, CommitMode::Async { secondaries: keys() }, CommitMode::OnePhase]
}

pub(crate) fn commands() -> Vec<TxnCommand> {
    let mutations: Vec<_> = mutation_kinds()
        .into_iter()
        .map(|kind| Mutation { key: key("k"), is_reserved: matches!(kind, MutationKind::Delete), kind })
        .collect();
    let prewrite = |mode| {
        TxnCommand::Prewrite(Prewrite {
            primary: key("p"),
            start_ts: START,
            ttl_ms: 3_000,
            txn_size: 5,
            for_update_ts: Timestamp(1_500),
            min_commit_ts: Timestamp(1_501),
            max_commit_ts: Timestamp(9_000),
            mode,
            mutations: mutations.clone(),
        })
    };
    let mut commands: Vec<TxnCommand> = commit_modes().into_iter().map(prewrite).collect();
    commands.extend([
        TxnCommand::Commit { keys: keys(), start_ts: START, commit_ts: COMMIT },
        TxnCommand::Rollback { keys: keys(), start_ts: START },
        TxnCommand::CleanUp { key: key("k"), start_ts: START, current_ts: Timestamp(3_000) },
        TxnCommand::CheckStatus(CheckStatus {
            primary: key("p"),
            start_ts: START,
            reads_at: Timestamp(1_800),
            current_ts: Timestamp(1_900),
            rollback_if_unknown: true,
            force_sync_commit: false,
            found_pessimistic: true,
        }),
        TxnCommand::CheckSecondaries { keys: keys(), start_ts: START },
        TxnCommand::Resolve { start_ts: START, commit_ts: Some(COMMIT), keys: keys() },
        TxnCommand::Resolve { start_ts: START, commit_ts: None, keys: vec![key("k")] },
        TxnCommand::Heartbeat { primary: key("p"), start_ts: START, ttl_ms: 40_000 },
        TxnCommand::Acquire(Acquire {
            primary: key("p"),
            start_ts: START,
            for_update_ts: Timestamp(1_500),
            ttl_ms: 20_000,
            keys: keys(),
            must_be_new: true,
            wait_ms: 500,
        }),
        TxnCommand::Release { keys: keys(), start_ts: START, for_update_ts: Timestamp(1_500) },
        TxnCommand::Guard { safe_points: safe_points() },
        TxnCommand::Collect { safe_points: safe_points(), from: key("k") },
        TxnCommand::CollectExpired { from: key("k") },
    ]);
    commands
}

pub(crate) fn safe_points() -> SafePoints {
    SafePoints { common: START, own: vec![KeyspacePoint { keyspace: 7, at: Timestamp(900) }] }
}

fn view() -> ReadView {
    ReadView { at: COMMIT, resolved: vec![START], committed: vec![Timestamp(1_200), Timestamp(1_300)] }
}

pub(crate) fn reads() -> Vec<TxnRead> {
    let scan = Scan {
        range: KeyRange::new("a", "z"),
        limit: 10,
        bytes_max: 1 << 16,
        reverse: true,
        keys_only: false,
    };
    vec![
        TxnRead::Get { key: key("k"), view: view() },
        TxnRead::BatchGet { keys: keys(), view: view() },
        TxnRead::Scan { scan, view: view() },
        TxnRead::Locks { range: KeyRange::new("a", ""), up_to: COMMIT, limit: 256 },
        TxnRead::History { key: key("k") },
        TxnRead::KeyChanges { keys: keys(), since: START, view: view() },
        TxnRead::RangeChanges { range: KeyRange::new("a", "z"), since: START, view: view() },
    ]
}

pub(crate) fn lock_kinds() -> Vec<LockKind> {
    vec![LockKind::Put, LockKind::Delete, LockKind::Lock, LockKind::Pessimistic]
}

fn lock(kind: LockKind) -> LockInfo {
    LockInfo {
        key: key("k"),
        primary: key("p"),
        start_ts: START,
        ttl_ms: 3_000,
        kind,
        txn_size: 5,
        for_update_ts: Timestamp(1_500),
        min_commit_ts: Timestamp(1_501),
        is_async_commit: true,
        secondaries: keys(),
    }
}

pub(crate) fn statuses() -> Vec<TxnStatus> {
    vec![
        TxnStatus::Alive { lock: lock(LockKind::Put), is_pushed: true },
        TxnStatus::Committed { commit_ts: COMMIT },
        TxnStatus::RolledBack,
        TxnStatus::Released,
    ]
}

pub(crate) fn secondaries() -> Vec<Secondary> {
    vec![
        Secondary::Locked(lock(LockKind::Delete)),
        Secondary::Committed { commit_ts: COMMIT },
        Secondary::RolledBack,
    ]
}

pub(crate) fn version_kinds() -> Vec<VersionKind> {
    vec![VersionKind::Put, VersionKind::Delete, VersionKind::Lock, VersionKind::Rollback]
}

pub(crate) fn replies() -> Vec<TxnReply> {
    let value = Bytes::from_static(b"value");
    let version = |kind| Version {
        kind,
        commit_ts: COMMIT,
        start_ts: START,
        value: (kind == VersionKind::Put).then(|| value.clone()),
    };
    let mut replies = vec![
        TxnReply::Done,
        TxnReply::Prewritten { committed_at: None, min_commit_ts: None },
        TxnReply::Prewritten { committed_at: None, min_commit_ts: Some(COMMIT) },
        TxnReply::Prewritten { committed_at: Some(COMMIT), min_commit_ts: None },
        TxnReply::Secondaries(secondaries()),
        TxnReply::TimeToLive { ttl_ms: 40_000 },
        TxnReply::Reserved { values: vec![None, Some(value.clone())] },
        TxnReply::Page {
            items: vec![
                TxnItem { key: key("a"), value: value.clone(), lock: None },
                TxnItem { key: key("b"), value: Bytes::new(), lock: Some(lock(LockKind::Put)) },
            ],
            resume: Some(key("c")),
        },
        TxnReply::Locks { locks: lock_kinds().into_iter().map(lock).collect(), resume: Some(key("l")) },
        TxnReply::History {
            lock: Some(lock(LockKind::Pessimistic)),
            versions: version_kinds().into_iter().map(version).collect(),
        },
    ];
    replies.push(TxnReply::Collected { removed: 12, resume: Some(key("m")) });
    let changed = Changed { key: key("k"), commit_ts: COMMIT, start_ts: START };
    replies.push(TxnReply::Changes { first: Some(changed), resume: None });
    replies.push(TxnReply::Changes { first: None, resume: Some(key("m")) });
    replies.extend(statuses().into_iter().map(TxnReply::Status));
    replies
}

pub(crate) fn conflicts() -> Vec<Conflict> {
    vec![Conflict::Optimistic, Conflict::Pessimistic, Conflict::RolledBack]
}

pub(crate) fn faults() -> Vec<TxnFault> {
    let (k, start_ts) = (|| key("k"), START);
    let mut faults = vec![
        TxnFault::KeyIsLocked { locks: vec![lock(LockKind::Put)] },
        TxnFault::AlreadyExist { key: k() },
        TxnFault::CommitTsExpired { key: k(), start_ts, attempted: COMMIT, min_commit_ts: Timestamp(2_100) },
        TxnFault::TxnLockNotFound { key: k(), start_ts },
        TxnFault::TxnNotFound { primary: key("p"), start_ts },
        TxnFault::PrimaryMismatch { lock: lock(LockKind::Put) },
        TxnFault::PessimisticLockNotFound { key: k(), start_ts },
        TxnFault::Committed { key: k(), start_ts, commit_ts: COMMIT },
        TxnFault::TimestampFromFuture { named: Timestamp(1 << 60), latest: Timestamp(1 << 50) },
        TxnFault::BelowSafePoint { at: Timestamp(900), safe_point: START },
        TxnFault::Deadlock { lock_ts: COMMIT, lock_key: key("a"), wait_chain: wait_chain() },
    ];
    faults.extend(conflicts().into_iter().map(|reason| TxnFault::WriteConflict {
        key: k(),
        start_ts,
        conflict_start_ts: Timestamp(1_100),
        conflict_commit_ts: Timestamp(1_200),
        reason,
    }));
    faults
}
