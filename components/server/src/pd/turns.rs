//! The turns of a placement driver: drain, read the clock, step, write, answer.

use super::Shared;
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::Drained;
use crate::measure::{Durations, add};
use ::pd::{Pd, PdInput, PdStatus};
use engine::Engine as _;
use engine_rocks::{EngineStats, RocksEngine};
use env::Clock as _;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::{info, warn};
use transport::Responder;
use types::{ClusterId, MonoTime};
use wire::pd::{PdError, PdRequest, PdResponse, StoreState};

/// Requests of one turn, at most.
const TURN_INPUTS_MAX: usize = 4096;
/// How often what takes a walk over all stores is counted for the status page.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// A request on its way to the thread.
pub(crate) struct Asked {
    pub(crate) request: PdRequest,
    pub(crate) responder: Responder,
    /// When it arrived.
    pub(crate) since: MonoTime,
}

/// What can be asked, as labels of metrics.
pub(crate) const METHODS: [&str; 15] = [
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
    }
}

/// Why a request was refused, as labels of metrics.
pub(crate) const CODES: [&str; 7] = [
    "not_leader",
    "not_bootstrapped",
    "already_bootstrapped",
    "store_rejected",
    "stale_region",
    "invalid_request",
    "server_is_busy",
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

/// Who awaits an answer.
struct Waiting {
    responder: Responder,
    method: usize,
    since: MonoTime,
}

/// Takes turns until the inbox is closed.
pub(crate) fn run(shared: &Shared, engine: &RocksEngine, mut pd: Pd<RocksEngine>) {
    let published = &shared.published;
    let mut asked: Vec<Asked> = Vec::new();
    let mut inputs: Vec<PdInput> = Vec::new();
    let mut waiting: BTreeMap<u64, Waiting> = BTreeMap::new();
    let mut next_token = 0;
    let mut next_count = MonoTime::ZERO;
    loop {
        // What became durable in the last turn does not wait for anything else.
        let wait = match inputs.is_empty() {
            true => pd.next_deadline().since(BootClock.now()),
            false => Duration::ZERO,
        };
        if shared.inbox.drain(&mut asked, TURN_INPUTS_MAX, Some(wait)) == Drained::Closed {
            break;
        }
        for Asked { request, responder, since } in asked.drain(..) {
            next_token += 1;
            let method = method(&request);
            waiting.insert(next_token, Waiting { responder, method, since });
            inputs.push(PdInput::Request { token: next_token, request });
        }
        // After the inbox was drained: no input is younger than this.
        let now = BootClock.now();
        let effects = pd.step(now, wall_ms(), &mut inputs);
        let effects = effects.unwrap_or_else(|error| fatal("the placement driver's turn", &error));
        answer(published, &mut waiting, effects.replies);
        if !effects.messages.is_empty() {
            // Of a group with one member, nobody is there to hear it.
            warn!(messages = effects.messages.len(), "messages to other members are dropped");
        }
        if let Some(append) = effects.append {
            engine.write(&append.batch).unwrap_or_else(|error| fatal("writing the log", &error));
            if append.must_sync {
                let begun = BootClock.now();
                engine.sync().unwrap_or_else(|error| fatal("syncing the log", &error));
                published.log_sync.span(begun, BootClock.now());
                add(&published.log_syncs, 1);
            }
            inputs.push(PdInput::Persisted(append.token));
        }
        add(&published.turns, 1);
        published.waiting.store(waiting.len() as u64, std::sync::atomic::Ordering::Relaxed);
        published.publish(pd.status());
        if now >= next_count {
            next_count = now + COUNT_INTERVAL;
            count(published, engine, &pd);
        }
    }
    // Nothing is decided for these; they can be asked again, here or elsewhere.
    let busy = |token| (token, PdResponse::Err(PdError::ServerIsBusy { backoff_ms: 100 }));
    let left: Vec<_> = waiting.keys().copied().map(busy).collect();
    answer(published, &mut waiting, left);
}

fn answer(published: &Published, waiting: &mut BTreeMap<u64, Waiting>, replies: Vec<(u64, PdResponse)>) {
    if replies.is_empty() {
        return;
    }
    let now = BootClock.now();
    transport::hold_wakes(|| {
        for (token, response) in replies {
            let Some(Waiting { responder, method, since }) = waiting.remove(&token) else {
                warn!(token, "an answer to no request");
                continue;
            };
            published.rpc[method].span(since, now);
            match &response {
                PdResponse::Err(error) => add(&published.rpc_errors[method][code(error)], 1),
                PdResponse::Ok(wire::pd::PdReply::Timestamp(_)) => add(&published.timestamps, 1),
                PdResponse::Ok(_) => {}
            }
            responder.respond_pd(&response);
        }
    });
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

#[expect(clippy::disallowed_methods, reason = "the driver owns the clocks, this one for timestamps")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Before 1970 the oracle goes on from its own bound.
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
