//! Anyone to the placement driver.

use crate::store::DiskState;
use crate::txn::WaitEdge;
use bytes::BytesMut;
use codec::{Decode, DecodeError, Encode, Reader, codec_enum, codec_struct};
use types::{
    ClusterId, Epoch, Key, KeyRange, Peer, PeerId, Region, RegionId, SafePoints, StoreId, Term, Timestamp,
};

/// What the placement driver can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PdRequest {
    /// Which cluster is this, and is it bootstrapped? Answer: [`PdReply::Cluster`].
    GetCluster,
    /// Make this the first store and the first region. Answer: [`PdReply::Done`], or
    /// [`PdError::AlreadyBootstrapped`] if another store was first.
    Bootstrap {
        /// The store that asks.
        store: StoreInfo,
        /// The region that it has prepared; covers all keys, with one peer on that store.
        region: Region,
    },
    /// New ids, never handed out before. Answer: [`PdReply::Ids`].
    AllocateIds {
        /// How many.
        count: u32,
    },
    /// This store is up, at this address. Answer: [`PdReply::Done`].
    PutStore {
        /// The store.
        store: StoreInfo,
    },
    /// All stores. Answer: [`PdReply::Stores`].
    GetStores,
    /// The region that holds a key. Answer: [`PdReply::Region`].
    GetRegionByKey {
        /// The key, as the region layer sees it.
        key: Key,
        /// The region before that key instead (for scans in reverse): the one that holds keys just below it. An empty
        /// key then means the end of all keys.
        before: bool,
    },
    /// A region. Answer: [`PdReply::Region`].
    GetRegion {
        /// Its id.
        region_id: RegionId,
    },
    /// The regions that overlap a range, in key order. Answer: [`PdReply::Regions`].
    GetRegions {
        /// The range.
        range: KeyRange,
        /// At most so many; zero for PD's own limit.
        limit: u32,
    },
    /// How a store is. Answer: [`PdReply::Done`].
    StoreHeartbeat {
        /// What it says of itself.
        stats: StoreStats,
    },
    /// How the regions that a store leads are. Answer: [`PdReply::Instructions`].
    RegionHeartbeats {
        /// The store.
        store_id: StoreId,
        /// Its regions, or those of them that are due.
        regions: Vec<RegionHeartbeat>,
    },
    /// Ids for the children of a split. Answer: [`PdReply::SplitIds`].
    AskSplit {
        /// The region, as its leader knows it.
        region: Region,
        /// How many children.
        count: u32,
    },
    /// Timestamps, unique and growing. Answer: [`PdReply::Timestamp`].
    GetTimestamps {
        /// How many.
        count: u32,
    },
    /// Operators in progress, and the latest ones that ended. Answer: [`PdReply::Operators`].
    GetOperators,
    /// Change the members of a region, as an operator of people. Answer: [`PdReply::Operators`] with the one that runs
    /// now, or [`PdError::InvalidRequest`] with the reason. The same order again is answered with the operator that it
    /// led to, as long as that runs.
    AddOperator {
        /// The region.
        region_id: RegionId,
        /// What is wanted.
        order: Order,
    },
    /// Let a store hold regions, or lead them, or not. Answer: [`PdReply::Done`], or [`PdError::InvalidRequest`] with the
    /// reason.
    SetStoreMode {
        /// The store.
        store_id: StoreId,
        /// What it is to do.
        mode: StoreMode,
    },
    /// End the operator of a region. What it has done stays. Answer: [`PdReply::Done`], or [`PdError::InvalidRequest`]
    /// if none runs.
    CancelOperator {
        /// The region.
        region_id: RegionId,
    },
    /// How far the removal of old versions is. Answer: [`PdReply::Gc`].
    GetGc,
    /// A service needs the versions from a timestamp on; asked again in time, it goes on needing them. Answer:
    /// [`PdReply::Done`], or [`PdError::BelowSafePoint`].
    HoldSafePoint {
        /// The service.
        name: String,
        /// From when on.
        at: Timestamp,
        /// For how long, in milliseconds from now.
        ttl_ms: u64,
    },
    /// A service needs nothing any more. Answer: [`PdReply::Done`], or [`PdError::InvalidRequest`] if none of that name
    /// does.
    ReleaseSafePoint {
        /// The service.
        name: String,
    },
    /// No lock is left in any region of a transaction that began by the safe points of a round. Answer: [`PdReply::Done`].
    GcResolved {
        /// The round.
        round: u64,
    },
    /// What may go by the safe points of a round is gone, in all regions. Answer: [`PdReply::Done`].
    GcCollected {
        /// The round.
        round: u64,
    },
    /// A key space of this name; the one that is there, if there is one. Answer: [`PdReply::Keyspaces`] with it.
    CreateKeyspace {
        /// The name.
        name: String,
        /// How long versions live there, in milliseconds; zero for as long as elsewhere.
        gc_life_ms: u64,
    },
    /// The key space of a name, or all. Answer: [`PdReply::Keyspaces`], in the order of their ids, or
    /// [`PdError::UnknownKeyspace`].
    GetKeyspaces {
        /// The name.
        name: Option<String>,
    },
    /// Change how long versions live in a key space. Answer: [`PdReply::Keyspaces`] with it, or
    /// [`PdError::UnknownKeyspace`].
    SetKeyspaceLife {
        /// The name.
        name: String,
        /// As of [`PdRequest::CreateKeyspace`].
        gc_life_ms: u64,
    },
    /// Who waits for whose locks at a store: what has changed since its last report. Answer: [`PdReply::Deadlocks`].
    ReportLockWaits {
        /// The store.
        store_id: StoreId,
        /// The number of this report, never zero.
        report: u64,
        /// The number of the last report that was taken; zero: there was none, and this one says all there is.
        after: u64,
        /// These wait, or wait for somebody else than before.
        added: Vec<LockWait>,
        /// The ids of those that do not wait any more.
        removed: Vec<u64>,
    },
    /// Who waits for whose locks in the whole cluster, as stores have reported; a bounded number. Answer: [`PdReply::LockWaits`].
    GetLockWaits,
}
codec_enum!(PdRequest {
    1 = GetCluster,
    2 = Bootstrap { store, region },
    3 = AllocateIds { count },
    4 = PutStore { store },
    5 = GetStores,
    6 = GetRegionByKey { key, before },
    7 = GetRegion { region_id },
    8 = GetRegions { range, limit },
    9 = StoreHeartbeat { stats },
    10 = RegionHeartbeats { store_id, regions },
    11 = AskSplit { region, count },
    12 = GetTimestamps { count },
    13 = GetOperators,
    14 = AddOperator { region_id, order },
    15 = CancelOperator { region_id },
    16 = SetStoreMode { store_id, mode },
    17 = GetGc,
    18 = HoldSafePoint { name, at, ttl_ms },
    19 = ReleaseSafePoint { name },
    20 = GcResolved { round },
    21 = GcCollected { round },
    22 = CreateKeyspace { name, gc_life_ms },
    23 = GetKeyspaces { name },
    24 = SetKeyspaceLife { name, gc_life_ms },
    25 = ReportLockWaits { store_id, report, after, added, removed },
    26 = GetLockWaits,
});

/// A request that waits for a lock.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LockWait {
    /// Names it among those of its store.
    pub id: u64,
    /// Who waits for whom.
    pub edge: WaitEdge,
    /// It waits so long at most, in milliseconds from now.
    pub left_ms: u64,
}
codec_struct!(LockWait { id, edge, left_ms });

/// A request that waits for a lock, as people are told.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SeenWait {
    /// Where.
    pub store_id: StoreId,
    /// Who waits for whom.
    pub edge: WaitEdge,
    /// For how long, as far as is known, in milliseconds.
    pub age_ms: u64,
}
codec_struct!(SeenWait { store_id, edge, age_ms });

/// A request that must not wait: it would be waited for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FoundDeadlock {
    /// The request, as its store has named it.
    pub id: u64,
    /// Who waits for whom, from the request's transaction back to it.
    pub wait_chain: Vec<WaitEdge>,
}
codec_struct!(FoundDeadlock { id, wait_chain });

/// A key space: keys of its own, raw ones and those of transactions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KeyspaceInfo {
    /// Stands in every key; never used again.
    pub id: u32,
    /// How users call it.
    pub name: String,
    /// How long versions live there, in milliseconds; zero for as long as elsewhere.
    pub gc_life_ms: u64,
}
codec_struct!(KeyspaceInfo { id, name, gc_life_ms });

/// What is being done about old versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum GcStage {
    /// Nothing.
    #[default]
    Idle,
    /// Regions are told to refuse who is too old, and old locks are resolved.
    Guarding,
    /// Versions are removed.
    Removing,
}
codec_enum!(GcStage { 1 = Idle, 2 = Guarding, 3 = Removing });

impl GcStage {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Guarding => "resolving locks",
            Self::Removing => "removing versions",
        }
    }
}

/// Someone who needs old versions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ServicePoint {
    /// Who.
    pub name: String,
    /// From when on.
    pub at: Timestamp,
    /// For how much longer unless it asks again, in milliseconds.
    pub left_ms: u64,
}
codec_struct!(ServicePoint { name, at, left_ms });

/// How far the removal of old versions is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct GcStatus {
    /// Counts rounds; zero before the first.
    pub round: u64,
    /// What is being done.
    pub stage: GcStage,
    /// For how long, in milliseconds, as far as the one who answers knows.
    pub stage_age_ms: u64,
    /// Nobody reads below these, and no transaction that began by then writes.
    pub guarded: SafePoints,
    /// Versions below these may be gone: those of the last round whose locks are resolved.
    pub removable: SafePoints,
    /// How long versions live at least, in milliseconds.
    pub life_ms: u64,
    /// How often a round begins, in milliseconds.
    pub interval_ms: u64,
    /// The time, by the oracle.
    pub now: Timestamp,
    /// Who holds the safe point back.
    pub services: Vec<ServicePoint>,
}
codec_struct!(GcStatus {
    round,
    stage,
    stage_age_ms,
    guarded,
    removable,
    life_ms,
    interval_ms,
    now,
    services,
});

/// What a store is to do, as people have decided.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum StoreMode {
    /// Hold regions and lead them.
    #[default]
    Serving,
    /// Hold regions, but lead none where another store can.
    LeadingNone,
    /// Give all of its regions away; once it has none, its id ends.
    Draining,
}

impl StoreMode {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::LeadingNone => "leading-none",
            Self::Draining => "draining",
        }
    }
}

impl Encode for StoreMode {
    fn encode(&self, out: &mut BytesMut) {
        let number: u64 = match self {
            Self::Serving => 0,
            Self::LeadingNone => 1,
            Self::Draining => 2,
        };
        number.encode(out);
    }
}

impl Decode for StoreMode {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.varint()? {
            0 => Ok(Self::Serving),
            1 => Ok(Self::LeadingNone),
            2 => Ok(Self::Draining),
            tag => Err(DecodeError::UnknownVariant { of: "StoreMode", tag }),
        }
    }

    /// Older writers knew no other.
    fn missing() -> Result<Self, DecodeError> {
        Ok(Self::Serving)
    }
}

/// A change of a region's members that people ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Order {
    /// One voter more.
    AddPeer {
        /// Where.
        to_store: StoreId,
    },
    /// One peer less.
    RemovePeer {
        /// Where it is.
        from_store: StoreId,
    },
    /// A voter in the place of a peer.
    TransferPeer {
        /// Where the peer is.
        from_store: StoreId,
        /// Where the voter is to be.
        to_store: StoreId,
    },
}
codec_enum!(Order {
    1 = AddPeer { to_store },
    2 = RemovePeer { from_store },
    3 = TransferPeer { from_store, to_store },
});

/// The answer to a [`PdRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PdResponse {
    /// It was done.
    Ok(PdReply),
    /// It was not.
    Err(PdError),
}
codec_enum!(PdResponse { 1 = Ok(reply), 2 = Err(error) });

impl From<Result<PdReply, PdError>> for PdResponse {
    fn from(result: Result<PdReply, PdError>) -> Self {
        match result {
            Ok(reply) => Self::Ok(reply),
            Err(error) => Self::Err(error),
        }
    }
}

impl From<PdResponse> for Result<PdReply, PdError> {
    fn from(response: PdResponse) -> Self {
        match response {
            PdResponse::Ok(reply) => Ok(reply),
            PdResponse::Err(error) => Err(error),
        }
    }
}

/// What the placement driver answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PdReply {
    /// Nothing more to say.
    Done,
    /// Which cluster this is.
    Cluster {
        /// Its id.
        cluster_id: ClusterId,
        /// Whether it has a first region.
        bootstrapped: bool,
    },
    /// The ids `first .. first + count`.
    Ids {
        /// The first of them.
        first: u64,
    },
    /// All stores.
    Stores(Vec<StoreStatus>),
    /// A region, if PD knows of one.
    Region(Option<RegionRoute>),
    /// Regions in key order.
    Regions(Vec<RegionRoute>),
    /// What a leader is to do next with its regions.
    Instructions(Vec<Instruction>),
    /// Ids for each child.
    SplitIds(Vec<SplitIds>),
    /// The last of the timestamps asked for; the others are those right before it (same physical part).
    Timestamp(Timestamp),
    /// Operators.
    Operators(Vec<OperatorStatus>),
    /// How far the removal of old versions is.
    Gc(GcStatus),
    /// Key spaces.
    Keyspaces(Vec<KeyspaceInfo>),
    /// What a report about lock waits has shown.
    Deadlocks {
        /// It was taken. If not, the report before it is not known here: the next one is to say all there is.
        is_taken: bool,
        /// Those of the added ones that must not wait.
        found: Vec<FoundDeadlock>,
    },
    /// Who waits for whose locks.
    LockWaits(Vec<SeenWait>),
    /// A store's word on itself was taken.
    StoreHeard {
        /// The id of the last key space that was made; all before it are there too.
        last_keyspace: u32,
    },
}
codec_enum!(PdReply {
    1 = Done,
    2 = Cluster { cluster_id, bootstrapped },
    3 = Ids { first },
    4 = Stores(stores),
    5 = Region(region),
    6 = Regions(regions),
    7 = Instructions(instructions),
    8 = SplitIds(ids),
    9 = Timestamp(timestamp),
    10 = Operators(operators),
    11 = Gc(status),
    12 = Keyspaces(keyspaces),
    13 = Deadlocks { is_taken, found },
    14 = LockWaits(waits),
    15 = StoreHeard { last_keyspace },
});

/// Why the placement driver refuses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PdError {
    /// Ask the leader of the PD group.
    NotLeader {
        /// Its address, if known.
        leader: Option<String>,
    },
    /// No store has bootstrapped the cluster yet.
    NotBootstrapped,
    /// Another store has.
    AlreadyBootstrapped,
    /// The store id is retired, or another store holds its address.
    StoreRejected {
        /// What is wrong, and what to do.
        message: String,
    },
    /// The region has changed since.
    StaleRegion {
        /// What PD knows.
        epoch: Epoch,
    },
    /// The request itself is wrong.
    InvalidRequest {
        /// What is wrong.
        message: String,
    },
    /// Too many requests wait; try again.
    ServerIsBusy {
        /// When to try, in milliseconds from now.
        backoff_ms: u32,
    },
    /// What was there then may be gone.
    BelowSafePoint {
        /// What was asked for.
        at: Timestamp,
        /// Below this nothing can be held any more.
        safe_point: Timestamp,
    },
    /// There is no key space of this name.
    UnknownKeyspace {
        /// The name.
        name: String,
    },
}
codec_enum!(PdError {
    1 = NotLeader { leader },
    2 = NotBootstrapped,
    3 = AlreadyBootstrapped,
    4 = StoreRejected { message },
    5 = StaleRegion { epoch },
    6 = InvalidRequest { message },
    7 = ServerIsBusy { backoff_ms },
    8 = BelowSafePoint { at, safe_point },
    9 = UnknownKeyspace { name },
});

/// A store, as it introduces itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StoreInfo {
    /// Its id.
    pub id: StoreId,
    /// Where clients and other stores reach it.
    pub address: String,
    /// Where its status page and metrics are.
    pub status_address: String,
    /// Its build.
    pub version: String,
    /// How many of its starts the placement driver has taken, as its disk knows, and one more for this one.
    pub starts: u64,
    /// How often it has written to its logs, as its disk knows.
    pub log_mark: u64,
}
codec_struct!(StoreInfo { id, address, status_address, version, starts, log_mark });

/// What a store says of itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StoreStats {
    /// Which store.
    pub store_id: StoreId,
    /// The size of its disk, in bytes.
    pub capacity_bytes: u64,
    /// What is left of it.
    pub available_bytes: u64,
    /// What the store's data occupies.
    pub used_bytes: u64,
    /// How many regions have a peer there.
    pub region_count: u64,
    /// How many of them it leads.
    pub leader_count: u64,
    /// How much space it has left, as it judges it.
    pub disk: DiskState,
    /// True while its log makes no progress.
    pub is_slow: bool,
    /// Snapshots being received or applied.
    pub snapshots_receiving: u32,
    /// Snapshots being sent.
    pub snapshots_sending: u32,
    /// As in [`StoreInfo::starts`].
    pub starts: u64,
    /// As in [`StoreInfo::log_mark`], as far as that is durable.
    pub log_mark: u64,
}
codec_struct!(StoreStats {
    store_id,
    capacity_bytes,
    available_bytes,
    used_bytes,
    region_count,
    leader_count,
    disk,
    is_slow,
    snapshots_receiving,
    snapshots_sending,
    starts,
    log_mark,
});

/// Whether a store takes part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StoreState {
    /// Its heartbeats arrive.
    Up,
    /// No heartbeat for a while; its regions are led elsewhere by now.
    Disconnected,
    /// No heartbeat for so long that its copies are made again elsewhere.
    Down,
}
codec_enum!(StoreState { 1 = Up, 2 = Disconnected, 3 = Down });

/// A store, as the placement driver sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreStatus {
    /// How it introduced itself.
    pub info: StoreInfo,
    /// What it said last.
    pub stats: StoreStats,
    /// Whether it takes part.
    pub state: StoreState,
    /// Milliseconds since its last heartbeat.
    pub silent_ms: u64,
    /// What it is to do.
    pub mode: StoreMode,
}
codec_struct!(StoreStatus { info, stats, state, silent_ms, mode });

/// A region and where to reach it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RegionRoute {
    /// The region.
    pub region: Region,
    /// Its leader, if known.
    pub leader: Option<Peer>,
    /// The size of its data, in bytes, about.
    pub size_bytes: u64,
    /// Peers that lag behind.
    pub pending_peers: Vec<PeerId>,
    /// Peers that do not answer.
    pub down_peers: Vec<PeerId>,
}
codec_struct!(RegionRoute { region, leader, size_bytes, pending_peers, down_peers });

/// How a region is, said by its leader.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RegionHeartbeat {
    /// The region.
    pub region: Region,
    /// Its leader.
    pub leader: Peer,
    /// The leader's term.
    pub term: Term,
    /// Peers whose log is far behind, or that wait for a snapshot.
    pub pending_peers: Vec<PeerId>,
    /// Peers that have been silent for longer than the time after which they count as down.
    pub down_peers: Vec<PeerId>,
    /// The size of its data, in bytes, about.
    pub size_bytes: u64,
    /// How many keys it holds, about.
    pub keys: u64,
}
codec_struct!(RegionHeartbeat { region, leader, term, pending_peers, down_peers, size_bytes, keys });

/// What a leader is to do with one of its regions, if its epoch is still this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// The region.
    pub region_id: RegionId,
    /// Its epoch when this was decided.
    pub epoch: Epoch,
    /// What to do.
    pub step: Step,
}
codec_struct!(Instruction { region_id, epoch, step });

/// One step of an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Hand leadership to this peer.
    TransferLeader {
        /// The peer.
        to: Peer,
    },
    /// Add a learner.
    AddLearner {
        /// The new peer.
        peer: Peer,
    },
    /// Turn learners into voters, and voters into learners, at once (through a joint configuration if more than one
    /// changes).
    ChangeRoles {
        /// Learners that become voters.
        promote: Vec<PeerId>,
        /// Voters that become learners.
        demote: Vec<PeerId>,
    },
    /// Remove a learner.
    RemoveLearner {
        /// The peer.
        peer_id: PeerId,
    },
}
codec_enum!(Step {
    1 = TransferLeader { to },
    2 = AddLearner { peer },
    3 = ChangeRoles { promote, demote },
    4 = RemoveLearner { peer_id },
});

/// Ids for one child of a split.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SplitIds {
    /// The child's id.
    pub region_id: RegionId,
    /// Ids of its peers, in the order of the parent's peers.
    pub peer_ids: Vec<PeerId>,
}
codec_struct!(SplitIds { region_id, peer_ids });

/// An operator, for people.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OperatorStatus {
    /// The region that it changes.
    pub region_id: RegionId,
    /// What it is called, for instance `replica-repair`.
    pub kind: String,
    /// Its steps, in words.
    pub steps: Vec<String>,
    /// How many of them are done.
    pub steps_done: u32,
    /// Why it was made: the inputs, the scores, the alternatives.
    pub why: String,
    /// `running`, or how it ended.
    pub state: String,
    /// Milliseconds since it was made.
    pub age_ms: u64,
}
codec_struct!(OperatorStatus { region_id, kind, steps, steps_done, why, state, age_ms });
