//! That the samples leave no variant out: a new one does not compile before it is named here, and does not pass before
//! there is a sample of it.

use crate::samples;
use std::collections::BTreeSet;
use wire::FrameKind;

macro_rules! covered {
    ($samples:expr, $ty:ty { $($variant:ident),* $(,)? }) => {{
        type It = $ty;
        let name = |value: &It| match value {
            $(It::$variant { .. } => stringify!($variant),)*
        };
        let seen: BTreeSet<_> = $samples.iter().map(name).collect();
        let all = BTreeSet::from([$(stringify!($variant)),*]);
        assert_eq!(seen, all, "samples of {}", stringify!($ty));
    }};
}

#[test]
fn every_variant_has_a_sample() {
    covered!(samples::connection_roles(), wire::hello::ConnectionRole { Client, Store, Snapshot });
    covered!(
        samples::closes(),
        wire::hello::Close { WrongCluster, ProtocolMismatch, WrongStore, BadFrame, ShuttingDown, TooBusy }
    );
    covered!(
        samples::commands(),
        wire::kv::KvCommand {
            Get,
            BatchGet,
            Scan,
            Write,
            CompareAndSwap,
            Split,
            TransferLeader,
            CompactLog,
            Txn,
            TxnRead,
            CompareAndSwapFor,
            GetLife,
        }
    );
    covered!(samples::write_ops(), wire::kv::WriteOp { Put, Delete, DeleteRange, PutFor });
    covered!(
        samples::kv_replies(),
        wire::kv::KvReply { Written, Value, Values, Page, Swapped, Regions, Started, Compacted, Txn, Life }
    );
    covered!(
        samples::busy_reasons(),
        wire::kv::BusyReason {
            ProposalQueue,
            Memory,
            WriteStall,
            SlowDisk,
            RegionMoving,
            Clock,
            LockWaits,
            Keyspaces,
            GarbageCollection
        }
    );
    covered!(
        samples::kv_errors(),
        wire::kv::KvError {
            NotLeader,
            EpochNotMatch,
            RegionNotFound,
            KeyNotInRegion,
            ServerIsBusy,
            StaleCommand,
            DiskFull,
            DeadlineExceeded,
            InvalidRequest,
            UndeterminedResult,
            Txn,
            UnknownKeyspace,
        }
    );
    covered!(
        samples::txn::commands(),
        wire::txn::TxnCommand {
            Prewrite,
            Commit,
            Rollback,
            CleanUp,
            CheckStatus,
            CheckSecondaries,
            Resolve,
            Heartbeat,
            Acquire,
            Release,
            Guard,
            Collect,
            CollectExpired,
        }
    );
    covered!(
        samples::txn::reads(),
        wire::txn::TxnRead { Get, BatchGet, Scan, Locks, History, KeyChanges, RangeChanges }
    );
    covered!(
        samples::txn::replies(),
        wire::txn::TxnReply {
            Done,
            Prewritten,
            Status,
            Secondaries,
            TimeToLive,
            Reserved,
            Page,
            Locks,
            History,
            Collected,
            Changes,
        }
    );
    covered!(
        samples::txn::faults(),
        wire::txn::TxnFault {
            KeyIsLocked,
            WriteConflict,
            AlreadyExist,
            CommitTsExpired,
            TxnLockNotFound,
            TxnNotFound,
            PrimaryMismatch,
            PessimisticLockNotFound,
            Committed,
            TimestampFromFuture,
            BelowSafePoint,
            Deadlock,
        }
    );
    covered!(samples::txn::commit_modes(), wire::txn::CommitMode { TwoPhase, Async, OnePhase });
    covered!(
        samples::txn::mutation_kinds(),
        wire::txn::MutationKind { Put, Insert, Delete, Lock, CheckNotExists }
    );
    covered!(samples::txn::lock_kinds(), wire::txn::LockKind { Put, Delete, Lock, Pessimistic });
    covered!(samples::txn::version_kinds(), wire::txn::VersionKind { Put, Delete, Lock, Rollback });
    covered!(samples::txn::statuses(), wire::txn::TxnStatus { Alive, Committed, RolledBack, Released });
    covered!(samples::txn::secondaries(), wire::txn::Secondary { Locked, Committed, RolledBack });
    covered!(samples::txn::conflicts(), wire::txn::Conflict { Optimistic, Pessimistic, RolledBack });
    covered!(
        samples::pd_requests(),
        wire::pd::PdRequest {
            GetCluster,
            Bootstrap,
            AllocateIds,
            PutStore,
            GetStores,
            GetRegionByKey,
            GetRegion,
            GetRegions,
            StoreHeartbeat,
            RegionHeartbeats,
            AskSplit,
            GetTimestamps,
            GetOperators,
            AddOperator,
            CancelOperator,
            SetStoreMode,
            GetGc,
            HoldSafePoint,
            ReleaseSafePoint,
            GcResolved,
            GcCollected,
            CreateKeyspace,
            GetKeyspaces,
            SetKeyspaceLife,
            ReportLockWaits,
            GetLockWaits,
        }
    );
    covered!(
        samples::pd_replies(),
        wire::pd::PdReply {
            Done,
            Cluster,
            Ids,
            Stores,
            Region,
            Regions,
            Instructions,
            SplitIds,
            Timestamp,
            Operators,
            Gc,
            Keyspaces,
            Deadlocks,
            LockWaits,
            StoreHeard,
        }
    );
    covered!(
        samples::pd_errors(),
        wire::pd::PdError {
            NotLeader,
            NotBootstrapped,
            AlreadyBootstrapped,
            StoreRejected,
            StaleRegion,
            InvalidRequest,
            ServerIsBusy,
            BelowSafePoint,
            UnknownKeyspace,
        }
    );
    covered!(samples::gc_stages(), wire::pd::GcStage { Idle, Guarding, Removing });
    covered!(samples::store_states(), wire::pd::StoreState { Up, Disconnected, Down });
    covered!(samples::store_modes(), wire::pd::StoreMode { Serving, LeadingNone, Draining });
    covered!(samples::orders(), wire::pd::Order { AddPeer, RemovePeer, TransferPeer });
    covered!(samples::steps(), wire::pd::Step { TransferLeader, AddLearner, ChangeRoles, RemoveLearner });
    covered!(samples::disk_states(), wire::store::DiskState { Ok, Low, Full });
    covered!(
        samples::store_messages(),
        wire::store::StoreMessage { Raft, Removed, RemovedConfirmed, Alive, Sleep, SleepAgreed, Wake }
    );
    covered!(samples::pieces(), wire::store::SnapshotPiece { Start, Chunk, End });
    covered!(samples::verdicts(), wire::store::SnapshotVerdict { Accepted, Refused });
    covered!(samples::roles(), types::PeerRole { Voter, Learner, IncomingVoter, DemotingVoter });
    covered!(samples::vote_kinds(), raft::VoteKind { Pre, Real, Transfer });
    covered!(
        samples::bodies(),
        raft::Body {
            Append,
            AppendResp,
            Vote,
            VoteResp,
            Heartbeat,
            HeartbeatResp,
            Snapshot,
            TimeoutNow,
            ReadIndex,
            ReadIndexResp,
        }
    );
}

#[test]
fn every_kind_of_frame_with_a_payload_has_its_family() {
    covered!(
        FrameKind::ALL,
        FrameKind {
            Hello,
            HelloAck,
            Close,
            Ping,
            Pong,
            StoreBatch,
            SnapshotPiece,
            SnapshotVerdict,
            KvRequest,
            KvResponse,
            Cancel,
            PdRequest,
            PdResponse,
        }
    );
    let bare = [FrameKind::Ping, FrameKind::Pong, FrameKind::Cancel];
    let families: BTreeSet<_> = samples::families().iter().map(|family| family.kind).chain(bare).collect();
    assert_eq!(families, BTreeSet::from(FrameKind::ALL));
}

#[test]
fn numbers_of_frame_kinds_stay_and_unknown_ones_are_told() {
    let known = [1, 2, 3, 4, 5, 16, 17, 18, 32, 33, 34, 48, 49];
    assert_eq!(FrameKind::ALL.map(|kind| kind as u8), known);
    for number in 0..=u8::MAX {
        let kind = FrameKind::from_number(number);
        assert_eq!(kind.map(|kind| kind as u8), known.contains(&number).then_some(number));
    }
}
