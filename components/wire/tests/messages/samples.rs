//! One sample of each variant of each message, with unlike values in all fields.

pub(crate) mod txn;

use bytes::Bytes;
use codec::{Decode, DecodeError, Encode};
use raft::{Body, ConfState, Entry, EntryId, EntryKind, Message, Reject, Snapshot, SnapshotMeta, VoteKind};
use types::{
    ClusterId, Epoch, Key, KeyRange, LogIndex, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term,
    Timestamp,
};
use wire::FrameKind;
use wire::hello::{Close, ConnectionRole, Hello, HelloAck};
use wire::kv::{BusyReason, KvCommand, KvError, KvPair, KvReply, KvRequest, KvResponse, Life, Scan, WriteOp};
use wire::pd::{
    FoundDeadlock, GcStage, GcStatus, Instruction, KeyspaceInfo, LockWait, OperatorStatus, Order, PdError,
    PdReply, PdRequest, PdResponse, RegionHeartbeat, RegionRoute, SeenWait, ServicePoint, SplitIds, Step,
    StoreInfo, StoreMode, StoreState, StoreStats, StoreStatus,
};
use wire::store::{
    DiskState, RaftMessage, SnapshotKey, SnapshotPiece, SnapshotVerdict, StoreBatch, StoreMessage,
};

/// A message as text and as bytes.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
    pub(crate) debug: String,
}

/// All samples of one kind of frame, and how its payload is read.
pub(crate) struct Family {
    pub(crate) kind: FrameKind,
    pub(crate) samples: Vec<Sample>,
    /// What the bytes mean, and how we would write it.
    pub(crate) read: fn(&Bytes) -> Result<(String, Bytes), DecodeError>,
    /// Whether the bytes are a message.
    pub(crate) check: fn(&Bytes) -> bool,
    /// True if the message begins with a tag.
    pub(crate) tagged: bool,
}

fn family<T>(kind: FrameKind, tagged: bool, messages: Vec<T>) -> Family
where
    T: Encode + Decode + std::fmt::Debug,
{
    let sample = |(number, message): (usize, &T)| {
        let debug = format!("{message:?}");
        // The names of the outer variants tell which sample it is.
        let words: Vec<_> = debug
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.starts_with(char::is_uppercase))
            .take(3)
            .collect();
        Sample { name: format!("{number:02} {}", words.join(" ")), bytes: message.to_bytes(), debug }
    };
    Family {
        kind,
        samples: messages.iter().enumerate().map(sample).collect(),
        read: |bytes| T::from_bytes(bytes).map(|message| (format!("{message:?}"), message.to_bytes())),
        check: |bytes| T::from_bytes(bytes).is_ok(),
        tagged,
    }
}

/// Every kind of frame that has a payload.
pub(crate) fn families() -> Vec<Family> {
    let requests =
        commands().into_iter().map(|command| KvRequest { region_id: RegionId(3), epoch: epoch(), command });
    let kv_errors = kv_errors().into_iter().map(KvResponse::Err);
    let kv_responses = kv_replies().into_iter().map(KvResponse::Ok).chain(kv_errors).collect();
    let pd_errors = pd_errors().into_iter().map(PdResponse::Err);
    let pd_responses = pd_replies().into_iter().map(PdResponse::Ok).chain(pd_errors).collect();
    vec![
        family(FrameKind::Hello, false, hellos()),
        family(FrameKind::HelloAck, false, vec![hello_ack()]),
        family(FrameKind::Close, true, closes()),
        family(FrameKind::StoreBatch, false, batches()),
        family(FrameKind::SnapshotPiece, true, pieces()),
        family(FrameKind::SnapshotVerdict, true, verdicts()),
        family(FrameKind::KvRequest, false, requests.collect()),
        family(FrameKind::KvResponse, true, kv_responses),
        family(FrameKind::PdRequest, true, pd_requests()),
        family(FrameKind::PdResponse, true, pd_responses),
    ]
}

fn key(text: &'static str) -> Key {
    Key::from_static(text.as_bytes())
}

fn epoch() -> Epoch {
    Epoch { conf_ver: 5, version: 300 }
}

fn peer(id: u64, role: PeerRole) -> Peer {
    Peer { id: PeerId(id), store_id: StoreId(id % 10), role }
}

pub(crate) fn roles() -> Vec<PeerRole> {
    vec![PeerRole::Voter, PeerRole::Learner, PeerRole::IncomingVoter, PeerRole::DemotingVoter]
}

fn region() -> Region {
    let peers = roles().into_iter().zip(41..).map(|(role, id)| peer(id, role)).collect();
    Region { id: RegionId(3), range: KeyRange::new("b", "k\u{e9}y"), epoch: epoch(), peers }
}

pub(crate) fn connection_roles() -> Vec<ConnectionRole> {
    vec![ConnectionRole::Client, ConnectionRole::Store, ConnectionRole::Snapshot]
}

fn hellos() -> Vec<Hello> {
    let hello = |role| Hello {
        cluster_id: ClusterId(0xfeed_beef_cafe),
        role,
        protocol_min: 1,
        protocol_max: 200,
        store_id: StoreId(4),
        to_store_id: StoreId(5),
    };
    connection_roles().into_iter().map(hello).collect()
}

fn hello_ack() -> HelloAck {
    HelloAck { cluster_id: ClusterId(77), protocol: 1, store_id: StoreId(5) }
}

pub(crate) fn closes() -> Vec<Close> {
    vec![
        Close::WrongCluster { ours: ClusterId(9) },
        Close::ProtocolMismatch { min: 2, max: 3 },
        Close::WrongStore { ours: StoreId(6) },
        Close::BadFrame { reason: "frame of unknown kind 99".into() },
        Close::ShuttingDown,
        Close::TooBusy,
    ]
}

pub(crate) fn vote_kinds() -> Vec<VoteKind> {
    vec![VoteKind::Pre, VoteKind::Real, VoteKind::Transfer { leader_term: Term(6) }]
}

pub(crate) fn bodies() -> Vec<Body> {
    let id = |term, index| EntryId { term: Term(term), index: LogIndex(index) };
    let entry = |index, kind, data: &'static str| Entry {
        term: Term(7),
        index: LogIndex(index),
        kind,
        data: Bytes::from_static(data.as_bytes()),
    };
    let conf_state = ConfState {
        voters: vec![PeerId(1), PeerId(2)],
        learners: vec![PeerId(3)],
        voters_outgoing: vec![PeerId(1), PeerId(4)],
        learners_next: vec![PeerId(4)],
        auto_leave: true,
    };
    let snapshot = Snapshot {
        meta: SnapshotMeta { index: LogIndex(900), term: Term(6), conf_state },
        data: Bytes::from_static(b"where"),
    };
    let mut bodies = vec![
        Body::Append {
            prev: id(6, 1000),
            entries: vec![
                entry(1001, EntryKind::Normal, ""),
                entry(1002, EntryKind::Normal, "put"),
                entry(1003, EntryKind::ConfChange, "change"),
            ]
            .into(),
            commit: LogIndex(999),
        },
        Body::Append { prev: id(0, 0), entries: Vec::new().into(), commit: LogIndex(0) },
        Body::AppendResp { index: LogIndex(1003), commit: LogIndex(1001), reject: None },
        Body::AppendResp {
            index: LogIndex(0),
            commit: LogIndex(800),
            reject: Some(Reject { rejected: LogIndex(1000), hint: id(5, 850) }),
        },
        Body::VoteResp { pre: true, reject: false, commit: id(6, 998) },
        Body::Heartbeat { commit: LogIndex(1001), round: 12 },
        Body::HeartbeatResp { commit: LogIndex(1000), round: 12 },
        Body::Snapshot { snapshot: Box::new(snapshot) },
        Body::TimeoutNow,
        Body::ReadIndex { token: u64::MAX },
        Body::ReadIndexResp { index: LogIndex(1001), token: u64::MAX, reject: false },
    ];
    bodies.extend(vote_kinds().into_iter().map(|kind| Body::Vote {
        kind,
        last: id(6, 1003),
        commit: id(6, 1001),
    }));
    bodies
}

fn raft_message(body: Body) -> RaftMessage {
    RaftMessage {
        region_id: RegionId(3),
        from: peer(41, PeerRole::Voter),
        to: peer(42, PeerRole::Learner),
        epoch: epoch(),
        range: KeyRange::new("b", ""),
        message: Message { from: PeerId(41), to: PeerId(42), term: Term(7), body },
    }
}

pub(crate) fn store_messages() -> Vec<StoreMessage> {
    let (gone, member) = (peer(43, PeerRole::Learner), peer(41, PeerRole::Voter));
    let mut messages: Vec<_> =
        bodies().into_iter().map(|body| StoreMessage::Raft(raft_message(body))).collect();
    messages.push(StoreMessage::Removed { region_id: RegionId(3), peer: gone, epoch: epoch(), from: member });
    messages.push(StoreMessage::RemovedConfirmed { region_id: RegionId(3), peer: gone, to: member });
    let (region_id, from, to) = (RegionId(3), member, peer(42, PeerRole::Learner));
    let (from_store, incarnation) = (StoreId(1), 0xfeed_face_cafe_f00d);
    messages.push(StoreMessage::Alive { from_store, worker: 2, workers: 300, incarnation, relies: true });
    let (term, index, attempt) = (Term(7), LogIndex(1003), 4);
    messages.push(StoreMessage::Sleep { region_id, from, to, term, index, attempt });
    messages.push(StoreMessage::SleepAgreed { region_id, from: to, to: from, attempt });
    messages.push(StoreMessage::Wake { region_id, to });
    messages
}

pub(crate) fn disk_states() -> Vec<DiskState> {
    vec![DiskState::Ok, DiskState::Low, DiskState::Full]
}

fn batches() -> Vec<StoreBatch> {
    let batch = |disk, messages| StoreBatch { from_store: StoreId(1), disk, messages };
    let mut batches: Vec<_> =
        store_messages().into_iter().map(|message| batch(DiskState::Ok, vec![message])).collect();
    batches.extend(disk_states().into_iter().map(|disk| batch(disk, Vec::new())));
    batches.push(batch(DiskState::Low, store_messages()));
    batches
}

fn snapshot_key() -> SnapshotKey {
    SnapshotKey { region_id: RegionId(3), to_peer: PeerId(42), term: Term(6), index: LogIndex(900) }
}

pub(crate) fn pieces() -> Vec<SnapshotPiece> {
    let message = bodies().into_iter().find(|body| matches!(body, Body::Snapshot { .. })).unwrap();
    let pairs = vec![
        (key("c"), Bytes::from_static(b"value")),
        (key("d"), Bytes::new()),
        (key("e"), Bytes::from(vec![0xee; 200])),
    ];
    vec![
        SnapshotPiece::Start {
            key: snapshot_key(),
            region: region(),
            message: Box::new(raft_message(message)),
        },
        SnapshotPiece::Chunk { key: snapshot_key(), family: 2, pairs },
        SnapshotPiece::End { key: snapshot_key(), pairs: 3, checksum: 0xdead_beef },
    ]
}

pub(crate) fn verdicts() -> Vec<SnapshotVerdict> {
    vec![
        SnapshotVerdict::Accepted(snapshot_key()),
        SnapshotVerdict::Refused { key: snapshot_key(), reason: "too many snapshots".into() },
    ]
}

pub(crate) fn write_ops() -> Vec<WriteOp> {
    vec![
        WriteOp::Put { key: key("a"), value: Bytes::from_static(b"1") },
        WriteOp::Delete { key: key("b") },
        WriteOp::DeleteRange { range: KeyRange::new("c", "d") },
        WriteOp::PutFor { key: key("e"), value: Bytes::from_static(b"5"), ttl_ms: 60_000 },
    ]
}

pub(crate) fn commands() -> Vec<KvCommand> {
    let mut commands = vec![
        KvCommand::Get { key: key("k") },
        KvCommand::BatchGet { keys: vec![key("a"), key(""), key("b")] },
        KvCommand::Scan(Scan {
            range: KeyRange::new("a", "z"),
            limit: 100,
            bytes_max: 1 << 20,
            reverse: true,
            keys_only: true,
        }),
        KvCommand::Write { ops: write_ops() },
        KvCommand::CompareAndSwap { key: key("k"), expected: None, new: Some(Bytes::from_static(b"new")) },
        KvCommand::CompareAndSwap { key: key("k"), expected: Some(Bytes::new()), new: None },
        KvCommand::Split { keys: vec![key("g"), key("m")] },
        KvCommand::TransferLeader { to_store: StoreId(2) },
        KvCommand::CompactLog,
        KvCommand::CompareAndSwapFor {
            key: key("k"),
            expected: Some(Bytes::from_static(b"old")),
            new: Bytes::from_static(b"new"),
            ttl_ms: 10_000,
        },
        KvCommand::GetLife { key: key("k") },
    ];
    commands.extend(txn::commands().into_iter().map(|command| KvCommand::Txn(Box::new(command))));
    commands.extend(txn::reads().into_iter().map(|read| KvCommand::TxnRead(Box::new(read))));
    commands
}

pub(crate) fn kv_replies() -> Vec<KvReply> {
    let pair = |name, value: &'static str| KvPair {
        key: key(name),
        value: Bytes::from_static(value.as_bytes()),
        ttl_ms: 0,
    };
    let mut replies = vec![
        KvReply::Written,
        KvReply::Value(None),
        KvReply::Value(Some(Bytes::from_static(b"value"))),
        KvReply::Values(vec![Some(Bytes::new()), None, Some(Bytes::from_static(b"v"))]),
        KvReply::Page { pairs: vec![pair("a", "1"), pair("b", "")], resume: Some(key("c")) },
        KvReply::Page { pairs: Vec::new(), resume: None },
        KvReply::Swapped { succeeded: true, previous: Some(Bytes::from_static(b"old")) },
        KvReply::Regions(vec![region(), Region::default()]),
        KvReply::Started,
        KvReply::Compacted { to: LogIndex(1001) },
        KvReply::Life(None),
        KvReply::Life(Some(Life::Unlimited)),
        KvReply::Life(Some(Life::Left { ms: 9_999 })),
    ];
    replies.extend(txn::replies().into_iter().map(|reply| KvReply::Txn(Box::new(reply))));
    replies
}

pub(crate) fn busy_reasons() -> Vec<BusyReason> {
    vec![
        BusyReason::ProposalQueue,
        BusyReason::Memory,
        BusyReason::WriteStall,
        BusyReason::SlowDisk,
        BusyReason::RegionMoving,
        BusyReason::Clock,
        BusyReason::LockWaits,
        BusyReason::Keyspaces,
        BusyReason::GarbageCollection,
    ]
}

pub(crate) fn kv_errors() -> Vec<KvError> {
    let mut errors = vec![
        KvError::NotLeader { region_id: RegionId(3), leader: Some(peer(41, PeerRole::Voter)) },
        KvError::NotLeader { region_id: RegionId(3), leader: None },
        KvError::EpochNotMatch { current_regions: vec![region()] },
        KvError::RegionNotFound { region_id: RegionId(3) },
        KvError::KeyNotInRegion { region_id: RegionId(3), range: KeyRange::new("b", "") },
        KvError::StaleCommand,
        KvError::DiskFull,
        KvError::DeadlineExceeded,
        KvError::InvalidRequest { message: "a key of 40,000 bytes".into() },
        KvError::UndeterminedResult,
        KvError::UnknownKeyspace { keyspace: 7 },
    ];
    errors.extend(busy_reasons().into_iter().map(|reason| KvError::ServerIsBusy { reason, backoff_ms: 250 }));
    errors.extend(txn::faults().into_iter().map(|fault| KvError::Txn(Box::new(fault))));
    errors
}

fn store_info() -> StoreInfo {
    StoreInfo {
        id: StoreId(1),
        address: "127.0.0.1:20160".into(),
        status_address: "127.0.0.1:20180".into(),
        version: "0.1.0".into(),
        starts: 12,
        log_mark: 3_000,
    }
}

fn store_stats() -> StoreStats {
    StoreStats {
        store_id: StoreId(1),
        capacity_bytes: 1 << 40,
        available_bytes: 1 << 39,
        used_bytes: 1 << 38,
        region_count: 1000,
        leader_count: 333,
        disk: DiskState::Low,
        is_slow: true,
        snapshots_receiving: 1,
        snapshots_sending: 2,
        starts: 12,
        log_mark: 3_001,
    }
}

pub(crate) fn pd_requests() -> Vec<PdRequest> {
    let heartbeat = RegionHeartbeat {
        region: region(),
        leader: peer(41, PeerRole::Voter),
        term: Term(7),
        pending_peers: vec![PeerId(42)],
        down_peers: vec![PeerId(43)],
        size_bytes: 96 << 20,
        keys: 1_000_000,
    };
    let mut requests = vec![
        PdRequest::GetCluster,
        PdRequest::Bootstrap { store: store_info(), region: region() },
        PdRequest::AllocateIds { count: 10 },
        PdRequest::PutStore { store: store_info() },
        PdRequest::GetStores,
        PdRequest::GetRegionByKey { key: key("k"), before: true },
        PdRequest::GetRegion { region_id: RegionId(3) },
        PdRequest::GetRegions { range: KeyRange::full(), limit: 16 },
        PdRequest::StoreHeartbeat { stats: store_stats() },
        PdRequest::RegionHeartbeats { store_id: StoreId(1), regions: vec![heartbeat] },
        PdRequest::AskSplit { region: region(), count: 2 },
        PdRequest::GetTimestamps { count: 64 },
        PdRequest::GetOperators,
    ];
    let region_id = RegionId(3);
    requests.extend(orders().into_iter().map(|order| PdRequest::AddOperator { region_id, order }));
    requests.push(PdRequest::CancelOperator { region_id });
    let store_id = StoreId(4);
    requests.extend(store_modes().into_iter().map(|mode| PdRequest::SetStoreMode { store_id, mode }));
    requests.push(PdRequest::GetGc);
    let at = Timestamp::compose(1_700_000_000_000, 9);
    requests.push(PdRequest::HoldSafePoint { name: "backup".into(), at, ttl_ms: 60_000 });
    requests.push(PdRequest::ReleaseSafePoint { name: "backup".into() });
    requests.push(PdRequest::GcResolved { round: 4 });
    requests.push(PdRequest::GcCollected { round: 4 });
    requests.push(PdRequest::CreateKeyspace { name: "shop".into(), gc_life_ms: 3_600_000 });
    requests.push(PdRequest::GetKeyspaces { name: Some("shop".into()) });
    requests.push(PdRequest::GetKeyspaces { name: None });
    requests.push(PdRequest::SetKeyspaceLife { name: "shop".into(), gc_life_ms: 0 });
    let added = txn::wait_chain().into_iter().map(|edge| LockWait { id: 7, edge, left_ms: 500 }).collect();
    requests.push(PdRequest::ReportLockWaits { store_id, report: 9, after: 8, added, removed: vec![5, 6] });
    requests.push(PdRequest::GetLockWaits);
    requests
}

pub(crate) fn store_modes() -> Vec<StoreMode> {
    vec![StoreMode::Serving, StoreMode::LeadingNone, StoreMode::Draining]
}

pub(crate) fn orders() -> Vec<Order> {
    let (from_store, to_store) = (StoreId(4), StoreId(5));
    vec![
        Order::AddPeer { to_store },
        Order::RemovePeer { from_store },
        Order::TransferPeer { from_store, to_store },
    ]
}

pub(crate) fn store_states() -> Vec<StoreState> {
    vec![StoreState::Up, StoreState::Disconnected, StoreState::Down]
}

pub(crate) fn steps() -> Vec<Step> {
    vec![
        Step::TransferLeader { to: peer(42, PeerRole::Voter) },
        Step::AddLearner { peer: peer(44, PeerRole::Learner) },
        Step::ChangeRoles { promote: vec![PeerId(44)], demote: vec![PeerId(41)] },
        Step::RemoveLearner { peer_id: PeerId(41) },
    ]
}

pub(crate) fn pd_replies() -> Vec<PdReply> {
    let status = |state| StoreStatus {
        info: store_info(),
        stats: store_stats(),
        state,
        silent_ms: 1500,
        mode: StoreMode::Draining,
    };
    let route = RegionRoute {
        region: region(),
        leader: Some(peer(41, PeerRole::Voter)),
        size_bytes: 96 << 20,
        pending_peers: vec![PeerId(42)],
        down_peers: vec![PeerId(43)],
    };
    let instruction = |step| Instruction { region_id: RegionId(3), epoch: epoch(), step };
    let operator = OperatorStatus {
        region_id: RegionId(3),
        kind: "replica-repair".into(),
        steps: vec!["add a learner on store 4".into(), "promote it".into()],
        steps_done: 1,
        why: "store 2 is down".into(),
        state: "running".into(),
        age_ms: 900,
    };
    let mut replies = vec![
        PdReply::Done,
        PdReply::Cluster { cluster_id: ClusterId(77), bootstrapped: true },
        PdReply::Ids { first: 1000 },
        PdReply::Stores(store_states().into_iter().map(status).collect()),
        PdReply::Region(Some(route.clone())),
        PdReply::Region(None),
        PdReply::Regions(vec![route]),
        PdReply::Instructions(steps().into_iter().map(instruction).collect()),
        PdReply::SplitIds(vec![SplitIds { region_id: RegionId(50), peer_ids: vec![PeerId(51), PeerId(52)] }]),
        PdReply::Timestamp(Timestamp::compose(1_700_000_000_000, 9)),
        PdReply::Operators(vec![operator]),
    ];
    let keyspace = KeyspaceInfo { id: 7, name: "shop".into(), gc_life_ms: 3_600_000 };
    replies.push(PdReply::Keyspaces(vec![keyspace]));
    let found = vec![FoundDeadlock { id: 7, wait_chain: txn::wait_chain() }];
    replies.push(PdReply::Deadlocks { is_taken: true, found });
    let waits = txn::wait_chain().into_iter();
    let waits = waits.map(|edge| SeenWait { store_id: StoreId(4), edge, age_ms: 300 }).collect();
    replies.push(PdReply::LockWaits(waits));
    replies.push(PdReply::StoreHeard { last_keyspace: 7 });
    replies.extend(gc_stages().into_iter().map(gc_status).map(PdReply::Gc));
    replies
}

pub(crate) fn gc_stages() -> Vec<GcStage> {
    vec![GcStage::Idle, GcStage::Guarding, GcStage::Removing]
}

fn gc_status(stage: GcStage) -> GcStatus {
    let now = Timestamp::compose(1_700_000_000_000, 9);
    GcStatus {
        round: 4,
        stage,
        stage_age_ms: 1_500,
        guarded: txn::safe_points(),
        removable: txn::safe_points(),
        life_ms: 600_000,
        interval_ms: 120_000,
        now,
        services: vec![ServicePoint { name: "backup".into(), at: now, left_ms: 60_000 }],
    }
}

pub(crate) fn pd_errors() -> Vec<PdError> {
    vec![
        PdError::NotLeader { leader: Some("127.0.0.1:2379".into()) },
        PdError::NotLeader { leader: None },
        PdError::NotBootstrapped,
        PdError::AlreadyBootstrapped,
        PdError::StoreRejected { message: "store 9 is retired: start with an empty directory".into() },
        PdError::StaleRegion { epoch: epoch() },
        PdError::InvalidRequest { message: "a count of 0".into() },
        PdError::ServerIsBusy { backoff_ms: 100 },
        PdError::BelowSafePoint { at: Timestamp(1_000), safe_point: Timestamp(2_000) },
        PdError::UnknownKeyspace { name: "shop".into() },
    ]
}
