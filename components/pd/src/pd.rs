//! The door: one member of the placement driver as a state machine.

use crate::group::{Group, GroupEffects};
use crate::operators::Operators;
use crate::seeded_bug::SeededBug;
use crate::serve::{Lead, Waiting};
use crate::state::{Command, Outcome, StoreRecord};
use crate::tso::{Oracle, WallClock};
use crate::{ClusterView, Config, Directory, Error, StoreView};
use engine::{Engine, WriteBatch};
use env::{Dice as _, SplitMix, sim_point};
use raft::{ConfState, EntryId, Message, Role};
use std::collections::BTreeMap;
use types::{ClusterId, LogIndex, MonoTime, PeerId, StoreId, Term, Timestamp};
use wire::pd::{GcStage, PdError, PdRequest, PdResponse, StoreMode};

pub use crate::group::WriteToken;

/// One of the processes that together are the placement driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id in the group.
    pub id: PeerId,
    /// Where stores and clients reach it.
    pub address: String,
}

/// What a turn takes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PdInput {
    /// Somebody asks. Answered exactly once, in this turn or a later one, under the same token.
    Request {
        /// Names the answer; the caller's, unique among those not answered.
        token: u64,
        /// What is asked.
        request: PdRequest,
    },
    /// The write of this token and all before it are durable.
    Persisted(WriteToken),
    /// Another member speaks.
    Message(Message),
}

/// A write that a turn asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PdAppend {
    /// To be written to the member's engine, in the order of the tokens.
    pub batch: WriteBatch,
    /// True if the engine must be synced before the token is handed back; otherwise it may be handed back once the
    /// batch is written.
    pub must_sync: bool,
    /// To be handed back as [`PdInput::Persisted`].
    pub token: WriteToken,
}

/// What a turn leads to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PdEffects {
    /// Write this.
    pub append: Option<PdAppend>,
    /// Send these now to the members that they name.
    pub messages: Vec<Message>,
    /// Send these now to whoever asked.
    pub replies: Vec<(u64, PdResponse)>,
}

/// What is remembered of a store for ever.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StoreEver {
    /// Its id has ended.
    pub is_retired: bool,
    /// What it is to do.
    pub mode: StoreMode,
    /// Its last start.
    pub starts: u64,
    /// How often it had written to its logs when it said so last.
    pub log_mark: u64,
}

/// A member at a glance, for status pages and metrics.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PdStatus {
    /// Who we are.
    pub id: PeerId,
    /// Our role in the group.
    pub role: Role,
    /// The leader as far as we know; zero for none.
    pub leader: PeerId,
    /// The group's term.
    pub term: Term,
    /// True if we answer requests.
    pub is_serving: bool,
    /// True once regions are scheduled.
    pub is_scheduling: bool,
    /// The cluster; zero before it has an id.
    pub cluster_id: ClusterId,
    /// True once it has a first region.
    pub bootstrapped: bool,
    /// Ids below this one may have been handed out.
    pub id_bound: u64,
    /// Timestamps up to this physical part may have been handed out.
    pub tso_upper_ms: u64,
    /// The last command applied.
    pub applied: LogIndex,
    /// How many stores are known.
    pub store_count: usize,
    /// How many regions are known.
    pub region_count: usize,
    /// How many of those have fewer peers than they should.
    pub regions_missing_peers: usize,
    /// How many have more.
    pub regions_extra_peers: usize,
    /// How many have a peer that does not answer.
    pub regions_down_peers: usize,
    /// How many have a peer that lags behind.
    pub regions_pending_peers: usize,
    /// How many operators run.
    pub operators_running: usize,
    /// How many were ever started under this leadership.
    pub operators_started: u64,
    /// How many of those came to their end as planned.
    pub operators_finished: u64,
    /// Heartbeats of regions that were refused because something newer was known.
    pub heartbeats_stale: u64,
    /// Heartbeats of regions that contradicted themselves.
    pub heartbeats_invalid: u64,
    /// Requests that wait for the log.
    pub requests_waiting: usize,
    /// Requests that wait for locks at stores, as far as is known.
    pub lock_waits: usize,
    /// Deadlocks found under this leadership.
    pub deadlocks_found: u64,
    /// Nobody is to read below this any more.
    pub gc_guarded: Timestamp,
    /// Versions below this may be gone.
    pub gc_removable: Timestamp,
    /// What is being done about them.
    pub gc_stage: GcStage,
}

/// One member of the placement driver.
pub struct Pd<E: Engine> {
    pub(crate) config: Config,
    id: PeerId,
    addresses: BTreeMap<PeerId, String>,
    dice: SplitMix,
    pub(crate) group: Group<E>,
    service: Service,
    /// Who waits for which entry of the log to be applied.
    waiting: BTreeMap<LogIndex, (Term, Waiting)>,
    pub(crate) now: MonoTime,
    wall_ms: u64,
    pub(crate) replies: Vec<(u64, PdResponse)>,
}

/// Whether we serve. What belongs to one leadership lives in it and is dropped with it.
enum Service {
    Idle,
    /// We lead, and the first window of timestamps is on its way through the log.
    Starting {
        term: Term,
        /// When to offer that window to the group; `None` once it is offered.
        offer_at: Option<MonoTime>,
    },
    Leading(Box<Lead>),
}

impl<E: Engine> Pd<E> {
    /// A member on its engine: as it was, or new on an empty one. `members` are all of the group, this one included,
    /// and stay the same for the life of the cluster. `seed` must differ from start to start.
    ///
    /// # Errors
    /// [`Error::Config`]: the configuration is wrong, or the members are not those of the engine. The others: the
    /// member cannot run on this engine.
    pub fn open(config: Config, engine: E, members: &[Member], id: PeerId, seed: u64) -> Result<Self, Error> {
        config.validate().map_err(Error::Config)?;
        let addresses: BTreeMap<_, _> =
            members.iter().map(|member| (member.id, member.address.clone())).collect();
        if addresses.len() != members.len()
            || addresses.contains_key(&PeerId::ZERO)
            || !addresses.contains_key(&id)
        {
            return Err(Error::Config(format!("members need distinct ids other than zero, {id} among them")));
        }
        let conf_state = ConfState { voters: addresses.keys().copied().collect(), ..ConfState::default() };
        let dice = SplitMix::new(seed);
        let group = Group::open(&config, engine, id, &conf_state, dice.fork("raft").next_u64())?;
        Ok(Self {
            config,
            id,
            addresses,
            dice: dice.fork("pd"),
            group,
            service: Service::Idle,
            waiting: BTreeMap::new(),
            now: MonoTime::ZERO,
            wall_ms: 0,
            replies: Vec::new(),
        })
    }

    /// One turn: lets time pass up to `now`, takes in all of `inputs` (which is empty afterwards) and returns what is to
    /// be done. `now` is not older than any input; `wall_ms` is the wall clock's time since the Unix epoch, read
    /// together with it. Call it when there is input and at [`next_deadline`](Self::next_deadline).
    ///
    /// # Errors
    /// Any: the member must stop, and nothing of this turn may leave it.
    pub fn step(
        &mut self,
        now: MonoTime,
        wall_ms: u64,
        inputs: &mut Vec<PdInput>,
    ) -> Result<PdEffects, Error> {
        assert!(now >= self.now, "time runs back from {:?} to {now:?}", self.now);
        self.now = now;
        self.wall_ms = wall_ms;
        let mut effects = GroupEffects::default();
        self.group.advance(now);
        if let Service::Leading(lead) = &mut self.service {
            lead.oracle.observe(now, wall_ms);
        }
        for input in inputs.drain(..) {
            match input {
                PdInput::Request { token, request } => self.on_request(token, request),
                PdInput::Persisted(token) => self.group.on_written(token, &mut effects),
                PdInput::Message(message) => self.group.step(message),
            }
        }
        // Applying may make us leader or fill a window, which leads to proposals, which Raft wants written: until
        // nothing is left to do now. Each round applies entries of the log, so this ends.
        loop {
            self.follow_role();
            self.refill_windows();
            self.schedule();
            self.group.drain(&mut effects)?;
            if effects.applied.is_empty() && self.serving_term() == self.group.leading_term() {
                break;
            }
            for (at, outcome) in std::mem::take(&mut effects.applied) {
                self.on_applied(at, outcome);
            }
        }
        let append =
            effects.token.map(|token| PdAppend { batch: effects.batch, must_sync: effects.must_sync, token });
        Ok(PdEffects { append, messages: effects.messages, replies: std::mem::take(&mut self.replies) })
    }

    /// When to call [`step`](Self::step) again if no input arrives before.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let plan = match &self.service {
            Service::Leading(lead) => lead.next_plan,
            _ => MonoTime::MAX,
        };
        self.group.next_tick().min(plan)
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> PdStatus {
        let (raft, state) = (self.group.status(), self.group.state());
        let mut status = PdStatus {
            id: self.id,
            role: raft.role,
            leader: raft.lead,
            term: raft.term,
            cluster_id: state.cluster_id(),
            bootstrapped: state.is_bootstrapped(),
            id_bound: state.id_bound(),
            tso_upper_ms: state.tso_upper_ms(),
            applied: state.applied().index,
            store_count: state.stores().len(),
            requests_waiting: self.waiting.len(),
            ..PdStatus::default()
        };
        if let Some(gc) = state.gc() {
            status.gc_guarded = gc.guarded.common;
            status.gc_removable = gc.removable.common;
            status.gc_stage = gc.stage;
        }
        if let Service::Leading(lead) = &self.service {
            let (started, finished) = lead.operators.totals();
            status.is_serving = true;
            status.is_scheduling = lead.is_prepared;
            status.region_count = lead.directory.len();
            status.lock_waits = lead.detector.waiting();
            status.deadlocks_found = lead.detector.found();
            let health = lead.directory.health();
            (status.regions_missing_peers, status.regions_extra_peers) =
                health.off_target(self.config.replicas);
            status.regions_down_peers = health.with_down_peers;
            status.regions_pending_peers = health.with_pending_peers;
            status.operators_running = lead.operators.running().count();
            status.operators_started = started;
            status.operators_finished = finished;
            status.heartbeats_stale = lead.heartbeats_stale;
            status.heartbeats_invalid = lead.heartbeats_invalid;
            status.requests_waiting += lead.waiting();
        }
        status
    }

    /// What is scheduled by, while we serve.
    #[must_use]
    pub fn view(&self) -> Option<ClusterView<'_>> {
        let lead = self.lead()?;
        Some(ClusterView {
            config: &self.config,
            stores: &lead.stores,
            directory: &lead.directory,
            operators: &lead.operators,
            suspects: &[],
        })
    }

    /// The regions known, while we serve.
    #[must_use]
    pub fn directory(&self) -> Option<&Directory> {
        self.lead().map(|lead| &lead.directory)
    }

    /// The operators, while we serve.
    #[must_use]
    pub fn operators(&self) -> Option<&Operators> {
        self.lead().map(|lead| &lead.operators)
    }

    /// The stores as scheduling sees them, while we serve.
    #[must_use]
    pub fn stores(&self) -> Option<&BTreeMap<StoreId, StoreView>> {
        self.lead().map(|lead| &lead.stores)
    }

    /// Every store that ever was, by id. As of [`PdStatus::applied`].
    #[must_use]
    pub fn stores_ever(&self) -> BTreeMap<StoreId, StoreEver> {
        let stores = self.group.state().stores().iter();
        let ever = |record: &StoreRecord| StoreEver {
            is_retired: record.retired,
            mode: record.mode,
            starts: record.info.starts,
            log_mark: record.info.log_mark,
        };
        stores.map(|(id, record)| (*id, ever(record))).collect()
    }

    pub(crate) fn lead(&self) -> Option<&Lead> {
        match &self.service {
            Service::Leading(lead) => Some(lead),
            _ => None,
        }
    }

    fn on_request(&mut self, token: u64, request: PdRequest) {
        let Service::Leading(lead) = &mut self.service else {
            let refusal = self.not_leader();
            self.replies.push((token, PdResponse::Err(refusal)));
            return;
        };
        if lead.waiting() + self.waiting.len() >= self.config.pending_requests_max
            || sim_point!("pd.refuse_request")
        {
            self.replies.push((token, PdResponse::Err(PdError::ServerIsBusy { backoff_ms: 100 })));
            return;
        }
        let holds_lease =
            self.group.holds_lease(self.now) || self.config.bugs.has(SeededBug::TsoWithoutLease);
        let answer = lead.handle(token, request, self.group.state(), &self.config, self.now, holds_lease);
        match answer {
            crate::serve::Answer::Now(response) => self.replies.push((token, response)),
            crate::serve::Answer::Later => {}
            crate::serve::Answer::Propose(command) => {
                self.propose(&command, Waiting::Request(token));
            }
            crate::serve::Answer::NotLeader => {
                let refusal = self.not_leader();
                self.replies.push((token, PdResponse::Err(refusal)));
            }
        }
    }

    fn not_leader(&self) -> PdError {
        let leader = self.group.status().lead;
        let leader = self.addresses.get(&leader).filter(|_| leader != self.id).cloned();
        PdError::NotLeader { leader }
    }

    /// Offers a command to the group. Whoever waits for it is told at once if it is not taken. Returns whether it is.
    fn propose(&mut self, command: &Command, waiting: Waiting) -> bool {
        let offered = self.group.propose(command);
        let is_taken = offered.is_ok();
        match offered {
            Ok(at) => {
                let old = self.waiting.insert(at.index, (at.term, waiting));
                if let Some((_, old)) = old {
                    // Another leader's entries took the place of ours, and we lead again.
                    self.fail(old, None);
                }
            }
            Err(raft::Dropped::TooManyUncommitted) => {
                self.fail(waiting, Some(PdError::ServerIsBusy { backoff_ms: 100 }));
            }
            Err(_) => self.fail(waiting, None),
        }
        is_taken
    }

    fn fail(&mut self, waiting: Waiting, error: Option<PdError>) {
        match waiting {
            Waiting::Request(token) => {
                let error = error.unwrap_or_else(|| self.not_leader());
                self.replies.push((token, PdResponse::Err(error)));
            }
            Waiting::Ids => {
                if let Service::Leading(lead) = &mut self.service {
                    lead.reserving = false;
                }
            }
            Waiting::Tso => match &mut self.service {
                Service::Leading(lead) => lead.extending = false,
                Service::Starting { offer_at, .. } => *offer_at = Some(self.now + self.config.tick),
                Service::Idle => {}
            },
            Waiting::Nobody => {}
        }
    }

    fn on_applied(&mut self, at: EntryId, outcome: Outcome) {
        let waiting = match self.waiting.remove(&at.index) {
            Some((term, waiting)) if term == at.term => waiting,
            Some((_, lost)) => {
                self.fail(lost, None);
                Waiting::Nobody
            }
            None => Waiting::Nobody,
        };
        match (waiting, outcome) {
            (Waiting::Request(token), outcome) => {
                let response = match outcome {
                    Outcome::Refused(error) => PdResponse::Err(error),
                    Outcome::Keyspace(keyspace) => {
                        PdResponse::Ok(wire::pd::PdReply::Keyspaces(vec![keyspace]))
                    }
                    _ => PdResponse::Ok(wire::pd::PdReply::Done),
                };
                self.replies.push((token, response));
                if let Service::Leading(lead) = &mut self.service {
                    lead.follow_stores(self.group.state(), self.now, &self.config);
                }
            }
            (Waiting::Ids, Outcome::Ids { first, end }) => {
                if let Service::Leading(lead) = &mut self.service {
                    lead.reserving = false;
                    lead.ids.refill(first, end);
                    lead.serve_ids(&mut self.replies);
                }
            }
            (Waiting::Tso, Outcome::Tso { before_ms, upper_ms }) => self.on_tso_window(before_ms, upper_ms),
            (Waiting::Nobody, _) => {}
            (waiting, outcome) => unreachable!("{waiting:?} came to {outcome:?}"),
        }
    }

    fn on_tso_window(&mut self, before_ms: u64, upper_ms: u64) {
        match &mut self.service {
            Service::Leading(lead) => {
                lead.extending = false;
                lead.oracle.extend(upper_ms);
                if self.group.holds_lease(self.now) {
                    lead.serve_timestamps(&mut self.replies);
                }
            }
            Service::Starting { term, .. } => {
                let clock = WallClock::new(self.now, self.wall_ms, self.config.clock_jump_max);
                let before_ms = if self.config.bugs.has(SeededBug::TsoFromClock) { 0 } else { before_ms };
                let oracle = Oracle::new(before_ms, upper_ms, clock);
                let dice = self.dice.fork(&format!("lead {term}"));
                let mut lead = Box::new(Lead::new(*term, oracle, dice, self.now, &self.config));
                lead.follow_stores(self.group.state(), self.now, &self.config);
                self.service = Service::Leading(lead);
            }
            Service::Idle => {}
        }
    }

    fn serving_term(&self) -> Option<Term> {
        match &self.service {
            Service::Idle => None,
            Service::Starting { term, .. } => Some(*term),
            Service::Leading(lead) => Some(lead.term),
        }
    }

    /// Begins to serve when we have come to lead, and stops when we do not any more.
    fn follow_role(&mut self) {
        let (leading, serving) = (self.group.leading_term(), self.serving_term());
        if serving.is_some() && serving != leading {
            let old = std::mem::replace(&mut self.service, Service::Idle);
            let mut tokens = match old {
                Service::Leading(lead) => lead.into_waiting(),
                _ => Vec::new(),
            };
            for (_, (_, waiting)) in std::mem::take(&mut self.waiting) {
                if let Waiting::Request(token) = waiting {
                    tokens.push(token);
                }
            }
            let refusal = self.not_leader();
            self.replies.extend(tokens.into_iter().map(|token| (token, PdResponse::Err(refusal.clone()))));
        }
        if let (Service::Idle, Some(term)) = (&self.service, leading) {
            self.service = Service::Starting { term, offer_at: Some(self.now) };
        }
        match &mut self.service {
            Service::Starting { offer_at, .. } if offer_at.is_some_and(|at| at <= self.now) => {
                *offer_at = None
            }
            _ => return,
        }
        if self.group.state().cluster_id().is_zero() {
            let cluster_id = ClusterId(self.dice.fork("cluster id").next_u64().max(1));
            // Whoever is served learns which cluster this is, so the window must not be there without a name before it.
            if !self.propose(&Command::Init { cluster_id }, Waiting::Nobody) {
                return self.fail(Waiting::Tso, None);
            }
        }
        let start_ms = self.wall_ms.max(self.group.state().tso_upper_ms() + 1);
        let upper_ms = start_ms + self.config.tso_window.as_millis() as u64;
        self.propose(&Command::ExtendTso { upper_ms }, Waiting::Tso);
    }

    /// Reserves ids and timestamps ahead of need.
    fn refill_windows(&mut self) {
        let Service::Leading(lead) = &mut self.service else { return };
        let mut commands = Vec::new();
        if !lead.extending
            && let Some(upper_ms) = lead.oracle.wanted_upper_ms(self.config.tso_window)
        {
            if self.config.bugs.has(SeededBug::TsoWindowNotSaved) {
                lead.oracle.extend(upper_ms);
            } else {
                lead.extending = true;
                commands.push((Command::ExtendTso { upper_ms }, Waiting::Tso));
            }
        }
        if !lead.reserving
            && let Some(count) = lead.wanted_ids(&self.config)
        {
            if self.config.bugs.has(SeededBug::IdsNotReserved) {
                let first = lead.ids.end().max(self.group.state().id_bound());
                lead.ids.refill(first, first + count);
            } else {
                lead.reserving = true;
                commands.push((Command::ReserveIds { count }, Waiting::Ids));
            }
        }
        for (command, waiting) in commands {
            self.propose(&command, waiting);
        }
    }

    fn schedule(&mut self) {
        if let Service::Leading(lead) = &mut self.service
            && self.now >= lead.next_plan
        {
            let ended = lead.schedule(self.group.state(), self.now, &self.config);
            let marks = lead.new_marks(self.group.state(), self.now, &self.config);
            let gc = lead.gc_is_due(self.group.state(), self.now, &self.config);
            for store_id in ended {
                self.propose(&Command::Retire { store_id }, Waiting::Nobody);
            }
            if !marks.is_empty() {
                self.propose(&Command::Marks { marks }, Waiting::Nobody);
            }
            if let Some(command) = gc {
                self.propose(&command, Waiting::Nobody);
            }
        }
    }

    /// Checks everything that must hold between turns. Walks all of it: for tests and simulation.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check_invariants(&self) {
        self.group.check_invariants();
        if let Service::Leading(lead) = &self.service {
            assert_eq!(
                Some(lead.term),
                self.group.leading_term(),
                "INV-PD-TSO: served by another than the leader"
            );
            lead.check_invariants(self.group.state());
        }
    }
}
