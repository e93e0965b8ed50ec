//! What the thread of a placement driver tells the rest of the process.

use super::turns::Watch;
use crate::logging::fatal;
use crate::measure::{Durations, add};
use ::pd::{Pd, PdStatus};
use engine_rocks::{EngineStats, RocksEngine};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::info;
use types::{ClusterId, MonoTime};
use wire::pd::{PdError, PdReply, PdRequest, PdResponse, StoreState};

/// How often what takes a walk over all stores is counted for the status page.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// What can be asked, as labels of metrics.
pub(crate) const METHODS: [&str; 26] = [
    "get_cluster",
    "bootstrap",
    "allocate_ids",
    "put_store",
    "get_stores",
    "get_region_by_key",
    "get_region",
    "get_regions",
    "store_heartbeat",
    "region_heartbeats",
    "ask_split",
    "get_timestamps",
    "get_operators",
    "add_operator",
    "cancel_operator",
    "set_store_mode",
    "get_gc",
    "hold_safe_point",
    "release_safe_point",
    "gc_resolved",
    "gc_collected",
    "create_keyspace",
    "get_keyspaces",
    "set_keyspace_life",
    "report_lock_waits",
    "get_lock_waits",
];

fn method(request: &PdRequest) -> usize {
    match request {
        PdRequest::GetCluster => 0,
        PdRequest::Bootstrap { .. } => 1,
        PdRequest::AllocateIds { .. } => 2,
        PdRequest::PutStore { .. } => 3,
        PdRequest::GetStores => 4,
        PdRequest::GetRegionByKey { .. } => 5,
        PdRequest::GetRegion { .. } => 6,
        PdRequest::GetRegions { .. } => 7,
        PdRequest::StoreHeartbeat { .. } => 8,
        PdRequest::RegionHeartbeats { .. } => 9,
        PdRequest::AskSplit { .. } => 10,
        PdRequest::GetTimestamps { .. } => 11,
        PdRequest::GetOperators => 12,
        PdRequest::AddOperator { .. } => 13,
        PdRequest::CancelOperator { .. } => 14,
        PdRequest::SetStoreMode { .. } => 15,
        PdRequest::GetGc => 16,
        PdRequest::HoldSafePoint { .. } => 17,
        PdRequest::ReleaseSafePoint { .. } => 18,
        PdRequest::GcResolved { .. } => 19,
        PdRequest::GcCollected { .. } => 20,
        PdRequest::CreateKeyspace { .. } => 21,
        PdRequest::GetKeyspaces { .. } => 22,
        PdRequest::SetKeyspaceLife { .. } => 23,
        PdRequest::ReportLockWaits { .. } => 24,
        PdRequest::GetLockWaits => 25,
    }
}

/// Why a request was refused, as labels of metrics.
pub(crate) const CODES: [&str; 9] = [
    "not_leader",
    "not_bootstrapped",
    "already_bootstrapped",
    "store_rejected",
    "stale_region",
    "invalid_request",
    "server_is_busy",
    "below_safe_point",
    "unknown_keyspace",
];

fn code(error: &PdError) -> usize {
    match error {
        PdError::NotLeader { .. } => 0,
        PdError::NotBootstrapped => 1,
        PdError::AlreadyBootstrapped => 2,
        PdError::StoreRejected { .. } => 3,
        PdError::StaleRegion { .. } => 4,
        PdError::InvalidRequest { .. } => 5,
        PdError::ServerIsBusy { .. } => 6,
        PdError::BelowSafePoint { .. } => 7,
        PdError::UnknownKeyspace { .. } => 8,
    }
}

/// What the thread tells the rest of the process.
pub(crate) struct Published {
    pub(crate) status: Mutex<PdStatus>,
    /// Up, disconnected, down.
    pub(crate) stores: Mutex<[u64; 3]>,
    pub(crate) engine: Mutex<Option<EngineStats>>,
    serving: watch::Sender<ClusterId>,
    /// From arrival to answer, by method.
    pub(crate) rpc: [Durations; METHODS.len()],
    pub(crate) rpc_errors: [[AtomicU64; CODES.len()]; METHODS.len()],
    pub(crate) turns: AtomicU64,
    pub(crate) log_syncs: AtomicU64,
    pub(crate) log_sync: Durations,
    pub(crate) timestamps: AtomicU64,
    pub(crate) waiting: AtomicU64,
    /// Old locks that were resolved, old versions that were removed, and how often that failed.
    pub(crate) gc_locks: AtomicU64,
    pub(crate) gc_versions: AtomicU64,
    pub(crate) gc_failures: AtomicU64,
    /// Raw values that were over and are removed.
    pub(crate) expired_values: AtomicU64,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            status: Mutex::default(),
            stores: Mutex::default(),
            engine: Mutex::default(),
            serving: watch::Sender::new(ClusterId::ZERO),
            rpc: Default::default(),
            rpc_errors: Default::default(),
            turns: AtomicU64::new(0),
            log_syncs: AtomicU64::new(0),
            log_sync: Durations::default(),
            timestamps: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            gc_locks: AtomicU64::new(0),
            gc_versions: AtomicU64::new(0),
            gc_failures: AtomicU64::new(0),
            expired_values: AtomicU64::new(0),
        }
    }
}

impl Published {
    /// Ready once requests are answered; with the cluster's id.
    pub(crate) async fn serving(&self) -> ClusterId {
        let mut serving = self.serving.subscribe();
        // Fails only if the sender is gone, and we hold it.
        serving.wait_for(|id| !id.is_zero()).await.map_or(ClusterId::ZERO, |id| *id)
    }

    fn publish(&self, status: PdStatus) {
        let mut before = self.status.lock();
        if status.role != before.role || status.term != before.term || status.leader != before.leader {
            let (term, leader) = (status.term.get(), status.leader.get());
            info!(role = ?status.role, term, leader, "the group of the placement driver has changed");
        }
        let cluster_id = if status.is_serving { status.cluster_id } else { ClusterId::ZERO };
        *before = status;
        drop(before);
        self.serving.send_if_modified(|known| std::mem::replace(known, cluster_id) != cluster_id);
    }
}

/// Publishes what the thread does.
pub(crate) struct Publisher<'a> {
    pub(crate) published: &'a Published,
    pub(crate) engine: &'a RocksEngine,
    next_count: MonoTime,
}

impl<'a> Publisher<'a> {
    pub(crate) fn new(published: &'a Published, engine: &'a RocksEngine) -> Self {
        Self { published, engine, next_count: MonoTime::ZERO }
    }
}

impl Watch<RocksEngine> for Publisher<'_> {
    /// An index into [`METHODS`].
    type Kind = usize;

    fn kind(&self, request: &PdRequest) -> usize {
        method(request)
    }

    fn answered(&self, method: usize, since: MonoTime, now: MonoTime, response: &PdResponse) {
        let published = self.published;
        published.rpc[method].span(since, now);
        match response {
            PdResponse::Err(error) => add(&published.rpc_errors[method][code(error)], 1),
            PdResponse::Ok(PdReply::Timestamp(_)) => add(&published.timestamps, 1),
            PdResponse::Ok(_) => {}
        }
    }

    fn synced(&self, begun: MonoTime, done: MonoTime) {
        self.published.log_sync.span(begun, done);
        add(&self.published.log_syncs, 1);
    }

    fn turned(&mut self, now: MonoTime, pd: &Pd<RocksEngine>, waiting: usize) {
        let published = self.published;
        add(&published.turns, 1);
        published.waiting.store(waiting as u64, Ordering::Relaxed);
        published.publish(pd.status());
        if now >= self.next_count {
            self.next_count = now + COUNT_INTERVAL;
            count(published, self.engine, pd);
        }
    }
}

/// What is too much for every turn.
fn count(published: &Published, engine: &RocksEngine, pd: &Pd<RocksEngine>) {
    let stats = engine.stats();
    if stats.background_errors > 0 {
        fatal("background work of the engine", &"see the engine's own log");
    }
    *published.engine.lock() = Some(stats);
    let mut counted = [0; 3];
    for store in pd.stores().into_iter().flat_map(BTreeMap::values) {
        let state = match store.state {
            StoreState::Up => 0,
            StoreState::Disconnected => 1,
            StoreState::Down => 2,
        };
        counted[state] += 1;
    }
    *published.stores.lock() = counted;
}

/// The clock that timestamps follow, in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the driver owns the clocks, this one for timestamps")]
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Before 1970 the oracle goes on from its own bound.
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
