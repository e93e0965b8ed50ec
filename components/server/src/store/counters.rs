//! What a store process counts.

use crate::measure::{Durations, Sizes};
use raftstore::PdTask;
use std::sync::atomic::AtomicU64;
use wire::kv::{BusyReason, KvCommand, KvError};
use wire::store::StoreMessage;
use wire::txn::{TxnCommand, TxnFault, TxnRead};

macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $name {
            $($variant,)*
        }

        impl $name {
            /// Every one, in order.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The label's value.
            pub(crate) const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

labelled!(
    /// What a client asks for.
    Method {
        Get = "get",
        BatchGet = "batch_get",
        Scan = "scan",
        Write = "write",
        CompareAndSwap = "compare_and_swap",
        GetLife = "get_ttl",
        Split = "split",
        TransferLeader = "transfer_leader",
        CompactLog = "compact_log",
        Prewrite = "prewrite",
        Commit = "commit",
        Rollback = "rollback",
        CleanUp = "clean_up",
        CheckStatus = "check_txn_status",
        CheckSecondaries = "check_secondary_locks",
        Resolve = "resolve_lock",
        Heartbeat = "txn_heartbeat",
        Acquire = "pessimistic_lock",
        Release = "pessimistic_rollback",
        Guard = "gc_guard",
        Collect = "gc_collect",
        CollectExpired = "ttl_collect",
        TxnGet = "txn_get",
        TxnBatchGet = "txn_batch_get",
        TxnScan = "txn_scan",
        ScanLocks = "scan_locks",
        History = "mvcc_history",
        KeyChanges = "txn_key_changes",
        RangeChanges = "txn_range_changes",
    }
);

impl Method {
    pub(crate) fn of(command: &KvCommand) -> Self {
        match command {
            KvCommand::Get { .. } => Self::Get,
            KvCommand::BatchGet { .. } => Self::BatchGet,
            KvCommand::Scan(_) => Self::Scan,
            KvCommand::Write { .. } => Self::Write,
            KvCommand::CompareAndSwap { .. } | KvCommand::CompareAndSwapFor { .. } => Self::CompareAndSwap,
            KvCommand::GetLife { .. } => Self::GetLife,
            KvCommand::Split { .. } => Self::Split,
            KvCommand::TransferLeader { .. } => Self::TransferLeader,
            KvCommand::CompactLog => Self::CompactLog,
            KvCommand::Txn(command) => match **command {
                TxnCommand::Prewrite(_) => Self::Prewrite,
                TxnCommand::Commit { .. } => Self::Commit,
                TxnCommand::Rollback { .. } => Self::Rollback,
                TxnCommand::CleanUp { .. } => Self::CleanUp,
                TxnCommand::CheckStatus(_) => Self::CheckStatus,
                TxnCommand::CheckSecondaries { .. } => Self::CheckSecondaries,
                TxnCommand::Resolve { .. } => Self::Resolve,
                TxnCommand::Heartbeat { .. } => Self::Heartbeat,
                TxnCommand::Acquire(_) => Self::Acquire,
                TxnCommand::Release { .. } => Self::Release,
                TxnCommand::Guard { .. } => Self::Guard,
                TxnCommand::Collect { .. } => Self::Collect,
                TxnCommand::CollectExpired { .. } => Self::CollectExpired,
            },
            KvCommand::TxnRead(read) => match **read {
                TxnRead::Get { .. } => Self::TxnGet,
                TxnRead::BatchGet { .. } => Self::TxnBatchGet,
                TxnRead::Scan { .. } => Self::TxnScan,
                TxnRead::Locks { .. } => Self::ScanLocks,
                TxnRead::History { .. } => Self::History,
                TxnRead::KeyChanges { .. } => Self::KeyChanges,
                TxnRead::RangeChanges { .. } => Self::RangeChanges,
            },
        }
    }
}

labelled!(
    /// What is refused.
    Code {
        NotLeader = "not_leader",
        EpochNotMatch = "epoch_not_match",
        RegionNotFound = "region_not_found",
        KeyNotInRegion = "key_not_in_region",
        ServerIsBusy = "server_is_busy",
        StaleCommand = "stale_command",
        DiskFull = "disk_full",
        DeadlineExceeded = "deadline_exceeded",
        InvalidRequest = "invalid_request",
        UnknownKeyspace = "unknown_keyspace",
        UndeterminedResult = "undetermined_result",
        KeyIsLocked = "key_is_locked",
        WriteConflict = "write_conflict",
        AlreadyExist = "already_exist",
        CommitTsExpired = "commit_ts_expired",
        TxnLockNotFound = "txn_lock_not_found",
        TxnNotFound = "txn_not_found",
        PrimaryMismatch = "primary_mismatch",
        PessimisticLockNotFound = "pessimistic_lock_not_found",
        Committed = "committed",
        TimestampFromFuture = "timestamp_from_future",
        BelowSafePoint = "below_safe_point",
        Deadlock = "deadlock",
    }
);

impl Code {
    pub(crate) fn of(error: &KvError) -> Self {
        match error {
            KvError::NotLeader { .. } => Self::NotLeader,
            KvError::EpochNotMatch { .. } => Self::EpochNotMatch,
            KvError::RegionNotFound { .. } => Self::RegionNotFound,
            KvError::KeyNotInRegion { .. } => Self::KeyNotInRegion,
            KvError::ServerIsBusy { .. } => Self::ServerIsBusy,
            KvError::StaleCommand => Self::StaleCommand,
            KvError::DiskFull => Self::DiskFull,
            KvError::DeadlineExceeded => Self::DeadlineExceeded,
            KvError::InvalidRequest { .. } => Self::InvalidRequest,
            KvError::UnknownKeyspace { .. } => Self::UnknownKeyspace,
            KvError::UndeterminedResult => Self::UndeterminedResult,
            KvError::Txn(fault) => match **fault {
                TxnFault::KeyIsLocked { .. } => Self::KeyIsLocked,
                TxnFault::WriteConflict { .. } => Self::WriteConflict,
                TxnFault::AlreadyExist { .. } => Self::AlreadyExist,
                TxnFault::CommitTsExpired { .. } => Self::CommitTsExpired,
                TxnFault::TxnLockNotFound { .. } => Self::TxnLockNotFound,
                TxnFault::TxnNotFound { .. } => Self::TxnNotFound,
                TxnFault::PrimaryMismatch { .. } => Self::PrimaryMismatch,
                TxnFault::PessimisticLockNotFound { .. } => Self::PessimisticLockNotFound,
                TxnFault::Committed { .. } => Self::Committed,
                TxnFault::TimestampFromFuture { .. } => Self::TimestampFromFuture,
                TxnFault::BelowSafePoint { .. } => Self::BelowSafePoint,
                TxnFault::Deadlock { .. } => Self::Deadlock,
            },
        }
    }
}

/// Why a store was busy, with the label's value.
pub(crate) const BUSY: [(BusyReason, &str); 9] = [
    (BusyReason::ProposalQueue, "proposal_queue"),
    (BusyReason::Memory, "memory"),
    (BusyReason::WriteStall, "write_stall"),
    (BusyReason::SlowDisk, "slow_disk"),
    (BusyReason::RegionMoving, "region_moving"),
    (BusyReason::Clock, "clock"),
    (BusyReason::LockWaits, "lock_waits"),
    (BusyReason::Keyspaces, "keyspaces"),
    (BusyReason::GarbageCollection, "garbage_collection"),
];

labelled!(
    /// What stores say to each other.
    Said {
        Append = "append",
        AppendResponse = "append_response",
        Vote = "vote",
        VoteResponse = "vote_response",
        Heartbeat = "heartbeat",
        HeartbeatResponse = "heartbeat_response",
        Other = "other",
        Removal = "removal",
        Alive = "alive",
        Hibernation = "hibernation",
    }
);

impl Said {
    pub(crate) fn of(message: &StoreMessage) -> Self {
        use raft::Body;
        match message {
            StoreMessage::Raft(message) => match &message.message.body {
                Body::Append { .. } => Self::Append,
                Body::AppendResp { .. } => Self::AppendResponse,
                Body::Vote { .. } => Self::Vote,
                Body::VoteResp { .. } => Self::VoteResponse,
                Body::Heartbeat { .. } => Self::Heartbeat,
                Body::HeartbeatResp { .. } => Self::HeartbeatResponse,
                _ => Self::Other,
            },
            StoreMessage::Removed { .. } | StoreMessage::RemovedConfirmed { .. } => Self::Removal,
            StoreMessage::Alive { .. } => Self::Alive,
            StoreMessage::Sleep { .. } | StoreMessage::SleepAgreed { .. } | StoreMessage::Wake { .. } => {
                Self::Hibernation
            }
        }
    }
}

/// What a store process counts. All grow only, but for those that are said to be current.
#[derive(Default, Debug)]
pub(crate) struct Counters {
    /// From a request's arrival to its answer, by [`Method`].
    pub(crate) rpc: [Durations; Method::ALL.len()],
    pub(crate) rpc_errors: [[AtomicU64; Code::ALL.len()]; Method::ALL.len()],
    busy: [AtomicU64; BUSY.len()],
    /// Reads that a lease allowed.
    pub(crate) reads_lease: AtomicU64,
    /// From an input's arrival to its worker's turn; the oldest of each turn.
    pub(crate) propose_wait: Durations,
    /// From a turn's end until what it wrote was durable.
    pub(crate) append: Durations,
    pub(crate) log_sync: Durations,
    /// From a write's arrival until it was committed; one write per turn.
    pub(crate) commit: Durations,
    pub(crate) apply_wait: Durations,
    /// How long requests waited for locks of other transactions.
    pub(crate) lock_wait: Durations,
    /// How long commands of transactions waited for others of the same keys.
    pub(crate) latch_wait: Durations,
    /// Commands of transactions that are not done.
    pub(crate) txn_commands: AtomicU64,
    /// Requests for pessimistic locks that were answered once they were proposed …
    pub(crate) pipelined: AtomicU64,
    /// … and those of them that were not applied after all.
    pub(crate) pipelined_lost: AtomicU64,
    pub(crate) apply: Durations,
    pub(crate) turns: AtomicU64,
    /// Requests that took longer than is configured.
    pub(crate) slow_requests: AtomicU64,
    pub(crate) log_writes: AtomicU64,
    pub(crate) log_syncs: AtomicU64,
    /// How often the logs were written to since the store began, durably: it goes on over restarts.
    pub(crate) log_mark: AtomicU64,
    /// Turns of workers whose writes went to the log.
    pub(crate) log_tasks: AtomicU64,
    /// Appends of single groups in them.
    pub(crate) log_appends: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) applied_entries: AtomicU64,
    pub(crate) apply_writes: AtomicU64,
    pub(crate) messages_sent: [AtomicU64; Said::ALL.len()],
    pub(crate) messages_received: AtomicU64,
    /// Messages that arrived while a worker had too much to do.
    pub(crate) messages_refused: AtomicU64,
    /// Snapshots that were not sent for now, because too many wait.
    pub(crate) snapshots_put_off: AtomicU64,
    /// Entries that peers lack; see [`Counters::look_at`].
    pub(crate) log_lags: Sizes,
    pub(crate) region_sizes: Sizes,
    pub(crate) snapshots_sent: AtomicU64,
    pub(crate) snapshots_failed: AtomicU64,
    pub(crate) snapshots_received: AtomicU64,
    /// Bytes of those that were sent or received whole.
    pub(crate) snapshot_bytes_sent: Sizes,
    pub(crate) snapshot_bytes_received: Sizes,
    /// Current.
    pub(crate) snapshots_sending: AtomicU64,
    /// Current.
    pub(crate) snapshots_arriving: AtomicU64,
    pub(crate) pd_calls: AtomicU64,
    pub(crate) pd_failures: AtomicU64,
}

impl Counters {
    /// Looks at regions that are led here when the placement driver is told of them.
    pub(crate) fn look_at(&self, tasks: &[PdTask]) {
        for task in tasks {
            if let PdTask::Heartbeat { heartbeat, lags } = task {
                self.region_sizes.observe(heartbeat.size_bytes);
                lags.iter().for_each(|lag| self.log_lags.observe(*lag));
            }
        }
    }

    pub(crate) fn busy(&self, reason: BusyReason) -> &AtomicU64 {
        let index = BUSY.iter().position(|(other, _)| *other == reason);
        &self.busy[index.expect("every reason is in the list")]
    }
}
