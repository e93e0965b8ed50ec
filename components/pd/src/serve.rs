//! What one leadership serves from: soft state, the windows of ids and timestamps, and the answers to requests.

use crate::deadlock::Detector;
use crate::ids::IdPool;
use crate::operators::Operators;
use crate::state::{Command, LogMark, State, StoreRecord};
use crate::tso::Oracle;
use crate::view::StoreHealth;
use crate::{ClusterView, Config, Directory, StoreView, Verdict, plan};
use env::{SplitMix, sim_point};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use types::{Epoch, KeyRange, MonoTime, PeerId, Region, RegionId, StoreId, Term};
use wire::pd::{
    GcStage, GcStatus, Instruction, Order, PdError, PdReply, PdRequest, PdResponse, RegionHeartbeat,
    SplitIds, Step, StoreInfo, StoreMode, StoreState, StoreStats, StoreStatus,
};

/// An answer about regions stops growing at this size, well below the largest frame.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// A region with more peers than this is no region of ours.
const PEERS_MAX: usize = 64;
/// Regions that changed and wait to be checked, at most; the patrol finds the others.
const SUSPECTS_MAX: usize = 65_536;

/// Who waits for an entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// The request with this token.
    Request(u64),
    /// The pool of ids.
    Ids,
    /// The oracle.
    Tso,
    /// Nobody.
    Nobody,
}

/// How a request goes on.
pub(crate) enum Answer {
    Now(PdResponse),
    /// It was put aside until a window is extended.
    Later,
    /// Answered once this is applied.
    Propose(Command),
    NotLeader,
}

/// A request for ids that waits for more of them.
enum IdRequest {
    Plain { count: u32 },
    Split { children: u32, peers: usize },
}

impl IdRequest {
    fn ids(&self) -> u64 {
        match self {
            Self::Plain { count } => u64::from(*count),
            Self::Split { children, peers } => u64::from(*children) * (1 + *peers as u64),
        }
    }

    fn answer(&self, first: u64) -> PdResponse {
        PdResponse::Ok(match self {
            Self::Plain { .. } => PdReply::Ids { first },
            Self::Split { children, peers } => {
                let each = 1 + *peers as u64;
                let child = |index: u64| {
                    let first = first + index * each;
                    let peer_ids = (first + 1..first + each).map(PeerId).collect();
                    SplitIds { region_id: RegionId(first), peer_ids }
                };
                PdReply::SplitIds((0..u64::from(*children)).map(child).collect())
            }
        })
    }
}

/// All that belongs to one leadership.
pub(crate) struct Lead {
    pub(crate) term: Term,
    pub(crate) oracle: Oracle,
    /// A larger bound of timestamps is on its way.
    pub(crate) extending: bool,
    pub(crate) ids: IdPool,
    /// More ids are on their way.
    pub(crate) reserving: bool,
    pub(crate) directory: Directory,
    pub(crate) operators: Operators,
    /// The stores as of the last look at them.
    pub(crate) stores: BTreeMap<StoreId, StoreView>,
    health: BTreeMap<StoreId, StoreHealth>,
    since: MonoTime,
    pub(crate) next_plan: MonoTime,
    next_marks: MonoTime,
    /// Enough regions have been heard of to schedule. Once true, it stays so.
    pub(crate) is_prepared: bool,
    patrol: RegionId,
    suspects: BTreeSet<RegionId>,
    dice: SplitMix,
    id_queue: VecDeque<(u64, IdRequest)>,
    tso_queue: VecDeque<(u64, u32)>,
    pub(crate) heartbeats_stale: u64,
    pub(crate) heartbeats_invalid: u64,
    /// What was seen last to be done about old versions, and since when.
    gc_seen: ((u64, GcStage), MonoTime),
    pub(crate) detector: Detector,
}

impl Lead {
    pub(crate) fn new(term: Term, oracle: Oracle, dice: SplitMix, now: MonoTime, config: &Config) -> Self {
        Self {
            term,
            oracle,
            extending: false,
            ids: IdPool::default(),
            reserving: false,
            directory: Directory::default(),
            operators: Operators::default(),
            stores: BTreeMap::new(),
            health: BTreeMap::new(),
            since: now,
            next_plan: now + config.plan_interval,
            next_marks: now,
            is_prepared: false,
            patrol: RegionId::ZERO,
            suspects: BTreeSet::new(),
            dice,
            id_queue: VecDeque::new(),
            tso_queue: VecDeque::new(),
            heartbeats_stale: 0,
            heartbeats_invalid: 0,
            gc_seen: ((0, GcStage::Idle), now),
            detector: Detector::new(config.bugs),
        }
    }

    /// How many requests wait for a window.
    pub(crate) fn waiting(&self) -> usize {
        self.id_queue.len() + self.tso_queue.len()
    }

    /// The requests that wait for a window, when the leadership ends.
    pub(crate) fn into_waiting(self) -> Vec<u64> {
        let ids = self.id_queue.into_iter().map(|(token, _)| token);
        ids.chain(self.tso_queue.into_iter().map(|(token, _)| token)).collect()
    }

    pub(crate) fn handle(
        &mut self,
        token: u64,
        request: PdRequest,
        state: &State,
        config: &Config,
        now: MonoTime,
        holds_lease: bool,
    ) -> Answer {
        let needs_bootstrap = !matches!(
            request,
            PdRequest::GetCluster
                | PdRequest::Bootstrap { .. }
                | PdRequest::AllocateIds { .. }
                | PdRequest::GetTimestamps { .. }
        );
        if needs_bootstrap && !state.is_bootstrapped() {
            return Answer::Now(PdResponse::Err(PdError::NotBootstrapped));
        }
        let result = match request {
            PdRequest::GetCluster => {
                Ok(PdReply::Cluster { cluster_id: state.cluster_id(), bootstrapped: state.is_bootstrapped() })
            }
            PdRequest::Bootstrap { store, region } => {
                return Answer::Propose(Command::Bootstrap { store, region });
            }
            PdRequest::PutStore { store } => {
                if let Some(health) = self.health.get_mut(&store.id) {
                    health.contact = now;
                }
                return Answer::Propose(self.put_store(store, state, config, now));
            }
            PdRequest::AllocateIds { count } => match count {
                0 => Err(invalid("no ids are asked for")),
                count if count > config.id_count_max => {
                    Err(invalid(format!("at most {} ids at once, not {count}", config.id_count_max)))
                }
                count => return self.take_ids(token, IdRequest::Plain { count }),
            },
            PdRequest::AskSplit { region, count } => match self.check_split(&region, count, config) {
                Ok(request) => return self.take_ids(token, request),
                Err(error) => Err(error),
            },
            PdRequest::GetTimestamps { count } => {
                if count == 0 || count > config.tso_count_max {
                    Err(invalid(format!("1 to {} timestamps at once, not {count}", config.tso_count_max)))
                } else if !holds_lease {
                    return Answer::NotLeader;
                } else {
                    return self.take_timestamps(token, count);
                }
            }
            PdRequest::GetStores => Ok(PdReply::Stores(self.store_statuses(state, config, now))),
            PdRequest::GetRegionByKey { key, before } => {
                let found = if before { self.directory.before(&key) } else { self.directory.at(&key) };
                Ok(PdReply::Region(found.map(crate::RegionInfo::route)))
            }
            PdRequest::GetRegion { region_id } => {
                Ok(PdReply::Region(self.directory.get(region_id).map(crate::RegionInfo::route)))
            }
            PdRequest::GetRegions { range, limit } => {
                Ok(PdReply::Regions(self.regions(&range, limit, config)))
            }
            PdRequest::StoreHeartbeat { stats } => self.on_store_heartbeat(stats, state, config, now),
            PdRequest::RegionHeartbeats { store_id, regions } => {
                self.on_region_heartbeats(store_id, regions, state, config, now).map(PdReply::Instructions)
            }
            PdRequest::GetOperators => Ok(PdReply::Operators(self.operators.statuses(now))),
            PdRequest::AddOperator { region_id, order } => self.add_operator(region_id, order, config, now),
            PdRequest::SetStoreMode { store_id, mode } => {
                return self.set_mode(store_id, mode, state, config, now);
            }
            PdRequest::CancelOperator { region_id } => match self.operators.cancel(region_id, now, config) {
                true => Ok(PdReply::Done),
                false => Err(invalid(format!("no operator runs on region {region_id}"))),
            },
            PdRequest::GetGc => Ok(PdReply::Gc(self.gc_status(state, config, now))),
            PdRequest::HoldSafePoint { ttl_ms: 0, .. } => Err(invalid("a safe point is held for some time")),
            PdRequest::HoldSafePoint { name, at, ttl_ms } => {
                let expires_ms = self.oracle.now().physical_ms().saturating_add(ttl_ms);
                return Answer::Propose(Command::HoldSafePoint { name, at, expires_ms });
            }
            PdRequest::ReleaseSafePoint { name } => {
                return Answer::Propose(Command::ReleaseSafePoint { name });
            }
            PdRequest::CreateKeyspace { name, gc_life_ms } => {
                return Answer::Propose(Command::CreateKeyspace { name, gc_life_ms });
            }
            PdRequest::SetKeyspaceLife { name, gc_life_ms } => {
                return Answer::Propose(Command::SetKeyspaceLife { name, gc_life_ms });
            }
            PdRequest::GetKeyspaces { name: None } => {
                Ok(PdReply::Keyspaces(state.keyspaces().cloned().collect()))
            }
            PdRequest::GetKeyspaces { name: Some(name) } => match state.keyspace(&name) {
                Some(known) => Ok(PdReply::Keyspaces(vec![known.clone()])),
                None => Err(PdError::UnknownKeyspace { name }),
            },
            PdRequest::GcResolved { round } => return Answer::Propose(Command::GcResolved { round }),
            PdRequest::GcCollected { round } => return Answer::Propose(Command::GcCollected { round }),
            // Of two that lead one knows nothing of what the other is told.
            PdRequest::ReportLockWaits { .. } | PdRequest::GetLockWaits if !holds_lease => {
                return Answer::NotLeader;
            }
            PdRequest::ReportLockWaits { store_id, .. } if !state.stores().contains_key(&store_id) => {
                Err(invalid(format!("store {store_id} is not known")))
            }
            PdRequest::ReportLockWaits { store_id, report, after, added, removed } => {
                let found = self.detector.report(now, store_id, (report, after), added, &removed);
                Ok(PdReply::Deadlocks { is_taken: found.is_some(), found: found.unwrap_or_default() })
            }
            PdRequest::GetLockWaits => Ok(PdReply::LockWaits(self.detector.waits(now))),
        };
        Answer::Now(result.into())
    }

    /// Whether enough stores answer is judged here; whether enough are there at all, where the log decides.
    fn set_mode(
        &self,
        store_id: StoreId,
        mode: StoreMode,
        state: &State,
        config: &Config,
        now: MonoTime,
    ) -> Answer {
        let others_min = match mode {
            StoreMode::Serving => 0,
            StoreMode::LeadingNone => 1,
            StoreMode::Draining => config.replicas,
        };
        let serves = |record: &&StoreRecord| {
            record.info.id != store_id
                && record.takes_part()
                && record.mode == StoreMode::Serving
                && self
                    .health
                    .get(&record.info.id)
                    .is_some_and(|health| health.state(now, config) == StoreState::Up)
        };
        let others = state.stores().values().filter(serves).count();
        if others < others_min && state.stores().contains_key(&store_id) {
            return Answer::Now(PdResponse::Err(invalid(format!(
                "{others} other stores are up and serve, and {others_min} are needed: add stores first"
            ))));
        }
        Answer::Propose(Command::SetMode { store_id, mode, others_min: others_min as u64 })
    }

    /// The stores that have given everything away, of those that were to: no region of any key has a copy there, nothing
    /// is on its way there, and the store says so itself, unless it is given up. Those whose address has another store by now
    /// are given up in time.
    fn drained(&self, state: &State, config: &Config, now: MonoTime) -> Vec<StoreId> {
        let drains = |record: &&StoreRecord| record.mode == StoreMode::Draining && !record.retired;
        let draining: Vec<StoreId> =
            state.stores().values().filter(drains).map(|record| record.info.id).collect();
        if draining.is_empty() || !self.directory.covers_all_keys() {
            return Vec::new();
        }
        let is_target = |id: StoreId| {
            let mut steps = self.operators.running().flat_map(|operator| operator.remaining());
            steps.any(|step| matches!(step, Step::AddLearner { peer } if peer.store_id == id))
        };
        let is_empty = |id: &StoreId| {
            let Some(health) = self.health.get(id) else { return false };
            let says_so = match health.state(now, config) {
                StoreState::Up => health.stats.as_ref().is_some_and(|stats| stats.region_count == 0),
                StoreState::Disconnected => false,
                StoreState::Down => true,
            };
            says_so && self.directory.region_count(*id) == 0 && !is_target(*id)
        };
        draining.into_iter().filter(is_empty).collect()
    }

    /// How far the disks of stores have come since that was told to the log last, if it is time to tell.
    pub(crate) fn new_marks(&mut self, state: &State, now: MonoTime, config: &Config) -> Vec<LogMark> {
        if now < self.next_marks {
            return Vec::new();
        }
        self.next_marks = now + config.mark_interval;
        let heard = self.health.iter().filter_map(|(id, health)| {
            let log_mark = health.stats.as_ref()?.log_mark;
            let known = state.stores().get(id)?.info.log_mark;
            (log_mark > known).then_some(LogMark { store_id: *id, log_mark })
        });
        heard.collect()
    }

    fn gc_status(&self, state: &State, config: &Config, now: MonoTime) -> GcStatus {
        let gc = state.gc().cloned().unwrap_or_default();
        let time = self.oracle.now();
        GcStatus {
            round: gc.round,
            stage: gc.stage,
            stage_age_ms: now.since(self.gc_seen.1).as_millis() as u64,
            services: gc.holders(time.physical_ms()),
            guarded: gc.guarded,
            removable: gc.removable,
            life_ms: config.gc_life_time.as_millis() as u64,
            interval_ms: config.gc_interval.as_millis() as u64,
            now: time,
        }
    }

    /// The command by which the safe point rises, if it is time: if it would rise by enough, and the last round is done.
    pub(crate) fn gc_is_due(&mut self, state: &State, now: MonoTime, config: &Config) -> Option<Command> {
        let gc = state.gc().cloned().unwrap_or_default();
        if self.gc_seen.0 != (gc.round, gc.stage) {
            self.gc_seen = ((gc.round, gc.stage), now);
        }
        if gc.stage != GcStage::Idle || !state.is_bootstrapped() {
            return None;
        }
        let now_ms = self.oracle.now().physical_ms();
        let life_ms = config.gc_life_time.as_millis() as u64;
        let rise = gc.rise_ms(now_ms, &state.lives(life_ms));
        let is_due = rise >= config.gc_interval.as_millis() as u64;
        is_due.then_some(Command::AdvanceGc { now_ms, life_ms })
    }

    /// Begins what people ask for, if nothing speaks against it.
    fn add_operator(
        &mut self,
        region_id: RegionId,
        order: Order,
        config: &Config,
        now: MonoTime,
    ) -> Result<PdReply, PdError> {
        // Asked once more, because the answer was lost.
        let running = self.operators.get(region_id).filter(|running| running.order == Some(order));
        if let Some(running) = running {
            return Ok(PdReply::Operators(vec![running.status("running", now.since(running.created))]));
        }
        let view = ClusterView {
            config,
            stores: &self.stores,
            directory: &self.directory,
            operators: &self.operators,
            suspects: &[],
        };
        let mut operator = plan::order(&view, region_id, order, now).map_err(invalid)?;
        if operator.needs_peer_id() {
            // They are reserved ahead; should none be left, more are on their way.
            let id = self.ids.take(1).ok_or(PdError::ServerIsBusy { backoff_ms: 100 })?;
            operator.assign_peer_id(PeerId(id));
        }
        let status = operator.status("running", Duration::ZERO);
        self.operators.start(operator);
        Ok(PdReply::Operators(vec![status]))
    }

    fn take_ids(&mut self, token: u64, request: IdRequest) -> Answer {
        if self.id_queue.is_empty()
            && let Some(first) = self.ids.take(request.ids())
        {
            return Answer::Now(request.answer(first));
        }
        self.id_queue.push_back((token, request));
        Answer::Later
    }

    /// Answers those that waited for ids.
    pub(crate) fn serve_ids(&mut self, replies: &mut Vec<(u64, PdResponse)>) {
        while let Some((token, request)) = self.id_queue.front() {
            let Some(first) = self.ids.take(request.ids()) else { return };
            replies.push((*token, request.answer(first)));
            self.id_queue.pop_front();
        }
    }

    /// How many ids should be reserved now. One is always wanted ahead: scheduling takes what is there, and asks for none.
    pub(crate) fn wanted_ids(&self, config: &Config) -> Option<u64> {
        let asked: u64 = self.id_queue.iter().map(|(_, request)| request.ids()).sum();
        (self.ids.left() < asked + config.id_window.div_ceil(2)).then(|| asked + config.id_window)
    }

    fn take_timestamps(&mut self, token: u64, count: u32) -> Answer {
        if self.tso_queue.is_empty()
            && let Some(timestamp) = self.oracle.allocate(count)
        {
            return Answer::Now(PdResponse::Ok(PdReply::Timestamp(timestamp)));
        }
        self.tso_queue.push_back((token, count));
        Answer::Later
    }

    /// Answers those that waited for timestamps. The caller has made sure that nobody else leads.
    pub(crate) fn serve_timestamps(&mut self, replies: &mut Vec<(u64, PdResponse)>) {
        while let Some((token, count)) = self.tso_queue.front() {
            let Some(timestamp) = self.oracle.allocate(*count) else { return };
            replies.push((*token, PdResponse::Ok(PdReply::Timestamp(timestamp))));
            self.tso_queue.pop_front();
        }
    }

    fn check_split(&self, region: &Region, count: u32, config: &Config) -> Result<IdRequest, PdError> {
        if count == 0 || count > config.split_count_max {
            return Err(invalid(format!("1 to {} children at once, not {count}", config.split_count_max)));
        }
        if region.peers.is_empty() || region.peers.len() > PEERS_MAX || region.range.is_empty() {
            return Err(invalid(format!(
                "region {} has {} peers and may be empty",
                region.id,
                region.peers.len()
            )));
        }
        let newer = |known: Epoch| Err(PdError::StaleRegion { epoch: known });
        match self.directory.get(region.id) {
            Some(known) if region.epoch.is_older_than(known.region.epoch) => {
                return newer(known.region.epoch);
            }
            Some(_) => {}
            None => {
                // A region that we do not know may be one whose range has newer owners.
                let mut owners = self.directory.overlapping(&region.range);
                if let Some(owner) = owners.find(|owner| owner.region.epoch.version > region.epoch.version) {
                    return newer(owner.region.epoch);
                }
            }
        }
        Ok(IdRequest::Split { children: count, peers: region.peers.len() })
    }

    /// Decides by what we know of the address's holder now; what is decided goes through the log.
    fn put_store(&self, store: StoreInfo, state: &State, config: &Config, now: MonoTime) -> Command {
        let holder = state.address_holder(&store.address).filter(|holder| *holder != store.id);
        let silent = holder.filter(|holder| {
            self.health
                .get(holder)
                .is_some_and(|health| now.since(health.contact) >= config.disconnected_after)
        });
        // Its id ends only if no region counts on it: otherwise it may still come back, under another address.
        let retires = silent.is_some_and(|holder| {
            self.is_prepared
                && self.directory.region_count(holder) == 0
                && self.health[&holder].state(now, config) == StoreState::Down
        });
        Command::PutStore { store, takes_over: silent, retires }
    }

    fn regions(&self, range: &KeyRange, limit: u32, config: &Config) -> Vec<wire::pd::RegionRoute> {
        let limit =
            if limit == 0 { config.regions_per_answer_max } else { limit.min(config.regions_per_answer_max) };
        let mut bytes = 0;
        let mut routes = Vec::new();
        if range.is_empty() {
            return routes;
        }
        for info in self.directory.overlapping(range).take(limit as usize) {
            // Keys, and some 16 bytes for each of the numbers around them.
            bytes += info.region.range.start.len()
                + info.region.range.end.len()
                + 64 * (2 + info.region.peers.len());
            if bytes > ANSWER_BYTES_MAX && !routes.is_empty() {
                break;
            }
            routes.push(info.route());
        }
        routes
    }

    fn on_store_heartbeat(
        &mut self,
        stats: StoreStats,
        state: &State,
        config: &Config,
        now: MonoTime,
    ) -> Result<PdReply, PdError> {
        check_store(stats.store_id, state)?;
        let starts = state.stores()[&stats.store_id].info.starts;
        if stats.starts < starts {
            let message = format!(
                "store {} was started again elsewhere ({starts} times by now, this was start {}): two processes must not \
                 share an identity, stop one of them",
                stats.store_id, stats.starts
            );
            return Err(PdError::StoreRejected { message });
        }
        let health = self.health.entry(stats.store_id).or_default();
        health.contact = now;
        health.stats = Some(stats);
        self.look_at_stores(state, config, now);
        Ok(PdReply::StoreHeard { last_keyspace: state.last_keyspace() })
    }

    fn on_region_heartbeats(
        &mut self,
        store_id: StoreId,
        regions: Vec<RegionHeartbeat>,
        state: &State,
        config: &Config,
        now: MonoTime,
    ) -> Result<Vec<Instruction>, PdError> {
        check_store(store_id, state)?;
        let mut instructions = Vec::new();
        for heartbeat in regions {
            let id = heartbeat.region.id;
            if heartbeat.leader.store_id != store_id || heartbeat.region.peers.len() > PEERS_MAX {
                self.heartbeats_invalid += 1;
                continue;
            }
            let leader = heartbeat.leader;
            match self.directory.heartbeat(heartbeat, now) {
                Verdict::Stale(_) => {
                    self.heartbeats_stale += 1;
                    continue;
                }
                Verdict::Invalid => {
                    self.heartbeats_invalid += 1;
                    continue;
                }
                Verdict::Updated => {
                    if self.suspects.len() < SUSPECTS_MAX {
                        self.suspects.insert(id);
                    }
                }
                Verdict::Unchanged => {}
            }
            let info = self.directory.get(id).expect("an accepted region is in the directory");
            if info.leader == leader && !sim_point!("pd.say_nothing") {
                instructions.extend(self.operators.observe(info, &self.stores, now, config));
            }
        }
        Ok(instructions)
    }

    fn store_statuses(&self, state: &State, config: &Config, now: MonoTime) -> Vec<StoreStatus> {
        let known = state.stores().values().filter(|record| !record.retired);
        known
            .map(|record| {
                let health = self.health.get(&record.info.id).cloned().unwrap_or_default();
                StoreStatus {
                    info: record.info.clone(),
                    state: health.state(now, config),
                    silent_ms: now.since(health.contact).as_millis() as u64,
                    mode: record.mode,
                    stats: health.stats.unwrap_or_else(|| unheard(record.info.id)),
                }
            })
            .collect()
    }

    /// Takes in the stores that the group knows by now. A store that just introduced itself has been heard.
    pub(crate) fn follow_stores(&mut self, state: &State, now: MonoTime, config: &Config) {
        for id in state.stores().keys() {
            self.health.entry(*id).or_insert_with(|| StoreHealth { contact: now, stats: None });
        }
        self.look_at_stores(state, config, now);
    }

    fn look_at_stores(&mut self, state: &State, config: &Config, now: MonoTime) {
        let present = state.stores().values().filter(|record| record.takes_part());
        self.stores = present
            .map(|record| {
                let id = record.info.id;
                let health = self.health.get(&id).cloned().unwrap_or_default();
                let (state, mode) = (health.state(now, config), record.mode);
                (id, StoreView { id, state, mode, stats: health.stats.unwrap_or_else(|| unheard(id)) })
            })
            .collect();
    }

    /// Looks at what should move, and starts it. Returns the stores whose ids are to end.
    pub(crate) fn schedule(&mut self, state: &State, now: MonoTime, config: &Config) -> Vec<StoreId> {
        self.next_plan = now + config.plan_interval;
        self.look_at_stores(state, config, now);
        self.operators.expire(now, config);
        self.is_prepared = self.is_prepared
            || self.directory.covers_all_keys()
            || now.since(self.since) >= config.prepare_timeout;
        if !self.is_prepared {
            return Vec::new();
        }
        let on_patrol = self.directory.from_id(self.patrol).map(|info| info.region.id);
        let mut suspects: Vec<RegionId> = on_patrol.take(config.patrol_batch).collect();
        self.patrol = match suspects.last() {
            Some(last) if suspects.len() == config.patrol_batch => RegionId(last.get() + 1),
            _ => RegionId::ZERO,
        };
        suspects.extend(std::mem::take(&mut self.suspects));
        suspects.sort_unstable();
        suspects.dedup();
        let view = ClusterView {
            config,
            stores: &self.stores,
            directory: &self.directory,
            operators: &self.operators,
            suspects: &suspects,
        };
        let drafts = plan(&view, now, &mut self.dice);
        for mut operator in drafts {
            if operator.needs_peer_id() {
                // Ids are reserved ahead; should none be left, the next plan comes to the same end.
                let Some(id) = self.ids.take(1) else { continue };
                operator.assign_peer_id(PeerId(id));
            }
            self.operators.start(operator);
        }
        self.drained(state, config, now)
    }

    pub(crate) fn check_invariants(&self, state: &State) {
        self.oracle.check_invariants(state.tso_upper_ms());
        self.ids.check_invariants(state.id_bound());
        self.directory.check_invariants();
        for operator in self.operators.running() {
            assert!(!operator.needs_peer_id(), "INV-PD-IDS: an operator runs without an id for its peer");
        }
    }
}

/// A store must have introduced itself, and must not have been replaced since.
fn check_store(id: StoreId, state: &State) -> Result<(), PdError> {
    let message = match state.stores().get(&id) {
        None => format!("store {id} is not known here: it introduces itself first"),
        Some(record) if record.retired => format!("store id {id} is retired"),
        Some(record) if record.info.address.is_empty() => {
            format!(
                "the address of store {id} was taken over by another store: start it with another address"
            )
        }
        Some(_) => return Ok(()),
    };
    Err(PdError::StoreRejected { message })
}

fn unheard(store_id: StoreId) -> StoreStats {
    StoreStats { store_id, ..StoreStats::default() }
}

fn invalid(message: impl Into<String>) -> PdError {
    PdError::InvalidRequest { message: message.into() }
}
