//! A whole store in one thread: the actors, a mailbox for each, and nothing that chooses who runs next.

use crate::aside::{Aside, AsideStep, is_waited_for};
use crate::config::Config;
use crate::dispatch::{Dispatcher, Routed, region_addressed};
use crate::execute::{ReadLimits, serve};
use crate::ident::{StoreIdent, read_age};
use crate::local_read::{LocalReader, ReadView};
use crate::log_writer::{LogWriter, Merged};
use crate::pd_agent::{PdAgent, PdCall};
use crate::seeded_bug::SeededBug;
use crate::snapshot_build::{SnapshotBuilder, SnapshotSource};
use crate::snapshot_receive::SnapshotReceiver;
use crate::txn::{TxnEffects, TxnInput, TxnScheduler, TxnShared, scheduler_of};
use engine::{Cf, Engine, EngineError, Op, WriteBatch};
use env::{Clock, sim_point};
use raftstore::{
    Applier, ApplyBatch, ApplyTask, HeldLocks, Input, Persisted, ReadRequest, StoreMeta, Token, TurnEffects,
    Worker, WorkerShare, recover, worker_of,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use types::{MonoTime, RegionId, StoreId};
use wire::kv::{KvError, KvReply, KvRequest};
use wire::pd::{PdError, PdReply, StoreStats};
use wire::store::{DiskState, SnapshotKey, SnapshotPiece, SnapshotVerdict, StoreMessage};

/// Something that happens to a store from outside.
#[expect(clippy::large_enum_variant, reason = "events are handled as they come, not kept in numbers")]
#[derive(Debug)]
pub enum Event {
    /// A client asks.
    Request {
        /// Comes back with the answer.
        token: Token,
        /// What is asked.
        request: KvRequest,
        /// When the client gives up.
        deadline: MonoTime,
    },
    /// Another store speaks.
    Messages {
        /// Which one.
        from: StoreId,
        /// How much space it has.
        disk: DiskState,
        /// What it says.
        messages: Vec<StoreMessage>,
    },
    /// A piece of a snapshot arrives. `reply_to` comes back with the verdict, if the sender is owed one.
    Piece {
        /// Names the connection.
        reply_to: u64,
        /// The piece.
        piece: SnapshotPiece,
    },
    /// The connection of a snapshot that was arriving is gone.
    PieceLost(SnapshotKey),
    /// A snapshot was sent (`ok`: its receiver has it), or was not.
    SnapshotSent {
        /// Which one.
        key: SnapshotKey,
        /// Whether it arrived.
        ok: bool,
    },
    /// The store is about to stop: its regions wake, and none falls asleep.
    StayAwake,
    /// PD has answered a call; `None`: it has not and will not.
    PdAnswer {
        /// The call.
        call: PdCall,
        /// Its answer.
        answer: Option<Result<PdReply, PdError>>,
    },
    /// A store cannot be reached; messages to it were lost.
    Unreachable(StoreId),
    /// How this store's own disk is.
    Disk {
        /// Its size, in bytes.
        capacity_bytes: u64,
        /// What is left of it.
        available_bytes: u64,
        /// How the store judges that.
        state: DiskState,
    },
}

/// Something that a store asks of the outside.
pub enum Effect<E: Engine> {
    /// Answer a client.
    Reply {
        /// Whom.
        token: Token,
        /// With what.
        answer: Result<KvReply, KvError>,
    },
    /// Tell another store; never itself.
    Send {
        /// Which one.
        to: StoreId,
        /// What, in order.
        messages: Vec<StoreMessage>,
    },
    /// Send a snapshot, piece by piece, and tell by [`Event::SnapshotSent`] what became of it.
    SendSnapshot {
        /// To which store.
        to: StoreId,
        /// Where the pieces come from.
        source: Box<SnapshotSource<E::Snapshot>>,
    },
    /// Answer the sender of a snapshot.
    Verdict {
        /// Names the connection.
        reply_to: u64,
        /// What to say.
        verdict: SnapshotVerdict,
    },
    /// Ask PD.
    AskPd(PdCall),
}

/// What can run next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Actor {
    /// A worker takes a turn.
    Worker(usize),
    /// An applier applies what it was handed.
    Applier(usize),
    /// The scheduler of a worker takes up commands of transactions.
    Scheduler(usize),
    /// What somebody waits for is read: the view for a region snapshot, or log entries for a follower.
    Lookup,
    /// Work that takes long goes on by one step: the files of a region snapshot, the size of a region.
    Background,
    /// PD is told what there is to tell.
    PdAgent,
}

/// A read that has its view of the engine, and no answer yet.
pub struct ReadBegun {
    view: ReadView,
    worker: usize,
    request: ReadRequest,
}

impl ReadBegun {
    /// The region that is read.
    #[must_use]
    pub const fn region_id(&self) -> RegionId {
        self.request.region_id
    }
}

/// One store without threads. Whoever drives it hands in [`Event`]s, runs its [`Actor`]s in any order it likes, does what
/// the [`Effect`]s say, and carries out the log's writes ([`Store::begin_log`]).
pub struct Store<E: Engine> {
    config: Arc<Config>,
    store_id: StoreId,
    engine: E,
    meta: Arc<StoreMeta>,
    dispatcher: Dispatcher,
    reader: LocalReader<E>,
    limits: ReadLimits,
    workers: Vec<Worker<E>>,
    inboxes: Vec<Vec<Input>>,
    /// One for each worker.
    schedulers: Vec<TxnScheduler<E>>,
    txn_inboxes: Vec<Vec<TxnInput<E::Snapshot>>>,
    appliers: Vec<Applier<E>>,
    apply_inboxes: Vec<Vec<ApplyTask>>,
    held: Arc<HeldLocks>,
    log: LogWriter,
    lookups: VecDeque<Aside<E>>,
    background: VecDeque<Aside<E>>,
    builder: SnapshotBuilder<E>,
    receiver: SnapshotReceiver<E>,
    agent: PdAgent,
    stats: StoreStats,
    /// Bytes in flight of requests that were admitted.
    admitted: BTreeMap<Token, usize>,
    out: Vec<Effect<E>>,
}

impl<E: Engine> Store<E> {
    /// Opens the store that an engine holds. `seed` should differ from start to start.
    ///
    /// # Errors
    /// What is wrong with the disk, in words that say what to do.
    pub fn open(
        engine: E,
        config: Config,
        ident: StoreIdent,
        seed: u64,
        now: MonoTime,
    ) -> Result<Self, String> {
        let store_id = ident.store_id;
        let meta = Arc::new(StoreMeta::new());
        // Whoever drives the store asks its agent each time.
        let txn = TxnShared::new(|| {})
            .collecting_within(config.gc_bytes_per_second)
            .breaking(config.raftstore.bugs);
        let limits = ReadLimits {
            bytes_max: config.read_bytes_max,
            pairs_max: config.scan_pairs_max,
            bugs: config.record_bugs,
        };
        let config = Arc::new(config);
        let recovered = recover(&engine).map_err(|error| error.to_string())?;
        let kept: BTreeSet<&str> = recovered.files().collect();
        let age = read_age(&engine).map_err(|error| error.to_string())?;
        for name in engine.list_sst().map_err(|error| error.to_string())? {
            if !kept.contains(&name[..]) {
                engine.remove_sst(&name).map_err(|error| error.to_string())?;
            }
        }
        let mut store = Self {
            store_id,
            meta: meta.clone(),
            dispatcher: Dispatcher::new(config.clone(), txn.clone()),
            reader: txn.local_reader(engine.clone(), meta.clone(), limits).breaking(config.bugs),
            limits,
            workers: (0..config.workers)
                .map(|index| {
                    let share = WorkerShare { index, count: config.workers };
                    let (config, engine) = (config.raftstore.clone(), engine.clone());
                    Worker::new(config, store_id, share, engine, meta.clone(), txn.held.clone(), seed)
                })
                .collect(),
            inboxes: (0..config.workers).map(|_| Vec::new()).collect(),
            schedulers: (0..config.workers)
                .map(|index| {
                    let (engine, meta, txn) = (engine.clone(), meta.clone(), txn.clone());
                    TxnScheduler::new(index, engine, meta, txn)
                        .breaking(config.bugs, config.record_bugs)
                        .waiting_within(config.lock_waits)
                        .reserving(config.reservations)
                })
                .collect(),
            txn_inboxes: (0..config.workers).map(|_| Vec::new()).collect(),
            appliers: (0..config.appliers)
                .map(|_| Applier::new(engine.clone(), meta.clone()).breaking(config.raftstore.bugs))
                .collect(),
            apply_inboxes: (0..config.appliers).map(|_| Vec::new()).collect(),
            held: txn.held.clone(),
            log: LogWriter::new(age.log_mark),
            lookups: VecDeque::new(),
            background: VecDeque::new(),
            builder: SnapshotBuilder::new(
                engine.clone(),
                config.snapshots_building_max,
                config.snapshot_piece_bytes,
            ),
            receiver: SnapshotReceiver::new(
                engine.clone(),
                meta,
                store_id,
                config.snapshots_receiving_max,
                config.snapshot_batch_bytes_max,
            )
            .breaking(config.bugs, config.raftstore.bugs),
            agent: PdAgent::new(store_id, config.store_heartbeat_interval, txn.clone()),
            // What a restart has found is durable.
            stats: StoreStats {
                store_id,
                starts: age.starts,
                log_mark: age.log_mark,
                ..StoreStats::default()
            },
            admitted: BTreeMap::new(),
            out: Vec::new(),
            engine,
            config,
        };
        for index in 0..store.workers.len() {
            let effects = store.workers[index].resume(now, &recovered).map_err(|error| error.to_string())?;
            store.release(index, effects);
        }
        Ok(store)
    }

    /// Which store this is.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// What all of the store agrees on.
    #[must_use]
    pub fn meta(&self) -> &StoreMeta {
        &self.meta
    }

    /// The locks that stand in memory alone, for checkers and status pages.
    #[must_use]
    pub fn held(&self) -> &HeldLocks {
        &self.held
    }

    /// The workers, for checkers and status pages.
    #[must_use]
    pub fn workers(&self) -> &[Worker<E>] {
        &self.workers
    }

    /// Takes an event. The clock is read after everything else that the event needs.
    ///
    /// # Errors
    /// [`EngineError`]: the store must stop.
    pub fn on_event(&mut self, clock: &dyn Clock, event: Event) -> Result<(), EngineError> {
        match event {
            Event::Request { token, request, deadline } => {
                self.begin_requests();
                if let Some(begun) = self.begin_request(clock, token, request, deadline) {
                    self.end_read(clock, begun)?;
                }
            }
            Event::Messages { from, disk, messages } => {
                for inbox in &mut self.inboxes {
                    inbox.push(Input::DiskOf(from, disk));
                }
                for message in messages {
                    self.deliver(message);
                }
            }
            Event::Piece { reply_to, piece } => {
                let received = self.receiver.on_piece(piece, clock.now())?;
                if let Some(verdict) = received.verdict {
                    self.out.push(Effect::Verdict { reply_to, verdict });
                }
                if let Some(snapshot) = received.snapshot {
                    self.input(snapshot.key.region_id, Input::SnapshotReceived(snapshot));
                }
            }
            Event::PieceLost(key) => self.receiver.abandon(key)?,
            Event::SnapshotSent { key, ok } => {
                self.input(
                    key.region_id,
                    Input::SnapshotSent { region_id: key.region_id, to: key.to_peer, ok },
                );
            }
            Event::PdAnswer { call, answer } => {
                for (region_id, input) in self.agent.on_answer(call, answer) {
                    self.input(region_id, input);
                }
                for (scheduler, found) in self.agent.take_deadlocks() {
                    self.txn_inboxes[scheduler].push(TxnInput::Deadlock(found));
                }
            }
            Event::Unreachable(store_id) => {
                for inbox in &mut self.inboxes {
                    inbox.push(Input::Unreachable(store_id));
                }
            }
            Event::StayAwake => {
                for inbox in &mut self.inboxes {
                    inbox.push(Input::StayAwake);
                }
            }
            Event::Disk { capacity_bytes, available_bytes, state } => {
                self.stats.capacity_bytes = capacity_bytes;
                self.stats.available_bytes = available_bytes;
                self.stats.disk = state;
                for inbox in &mut self.inboxes {
                    inbox.push(Input::DiskOf(self.store_id, state));
                }
            }
        }
        Ok(())
    }

    /// The actors that have something to do at `now`.
    #[must_use]
    pub fn runnable(&self, now: MonoTime) -> Vec<Actor> {
        let workers = (0..self.workers.len()).filter(|index| {
            let worker = &self.workers[*index];
            !self.inboxes[*index].is_empty() || worker.next_deadline() <= now || worker.wants_turn()
        });
        let appliers = (0..self.appliers.len()).filter(|index| !self.apply_inboxes[*index].is_empty());
        let schedulers = (0..self.schedulers.len())
            .filter(|index| {
                let scheduler = &self.schedulers[*index];
                !self.txn_inboxes[*index].is_empty()
                    || scheduler.next_deadline() <= now
                    || scheduler.wants_turn()
            })
            .map(Actor::Scheduler);
        let mut runnable: Vec<Actor> =
            workers.map(Actor::Worker).chain(appliers.map(Actor::Applier)).chain(schedulers).collect();
        if !self.lookups.is_empty() {
            runnable.push(Actor::Lookup);
        }
        if !self.background.is_empty() || self.receiver.next_deadline() <= now {
            runnable.push(Actor::Background);
        }
        if self.agent.has_calls(now) {
            runnable.push(Actor::PdAgent);
        }
        runnable
    }

    /// When something is due even if nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let workers = self.workers.iter().map(Worker::next_deadline);
        let others = [self.agent.next_deadline(), self.receiver.next_deadline()];
        let schedulers = self.schedulers.iter().map(TxnScheduler::next_deadline);
        workers.chain(schedulers).chain(others).min().unwrap_or(MonoTime::MAX)
    }

    /// Lets an actor take its turn. A driver with threads takes a worker's turn and an applier's batch in the steps that
    /// follow this, between which other threads run.
    ///
    /// # Errors
    /// [`EngineError`]: the store must stop.
    pub fn run(&mut self, actor: Actor, now: MonoTime) -> Result<(), EngineError> {
        match actor {
            Actor::Worker(index) => {
                let inputs = self.drain(index);
                let effects = self.step(index, now, inputs);
                self.release(index, effects);
            }
            Actor::Applier(index) => {
                let applied = self.apply(index)?;
                self.write_applied(&applied)?;
                self.release_applied(applied);
            }
            Actor::Scheduler(index) => self.schedule(index, now)?,
            Actor::Lookup => self.look_up(now)?,
            Actor::Background => self.work_aside(now)?,
            Actor::PdAgent => {
                let (workers, receiver) = (&self.workers, &self.receiver);
                let mut stats = self.stats.clone();
                for worker in workers {
                    let counted = worker.stats();
                    stats.region_count += counted.regions;
                    stats.leader_count += counted.leaders;
                    stats.is_slow |= worker.is_stalled(now);
                }
                stats.snapshots_receiving = u32::try_from(receiver.arriving()).unwrap_or(u32::MAX);
                for call in self.agent.calls(now, || stats) {
                    self.out.push(Effect::AskPd(call));
                }
            }
        }
        Ok(())
    }

    /// Requests are taken up that have all arrived by now: their reads may share a view. A driver with threads takes each of
    /// them in the steps that follow this, between which other threads run.
    pub fn begin_requests(&mut self) {
        self.reader.begin_batch();
    }

    /// Takes a client's request, and is done with it, unless that is a read which a lease may allow: then
    /// [`end_read`](Self::end_read) follows.
    pub fn begin_request(
        &mut self,
        clock: &dyn Clock,
        token: Token,
        request: KvRequest,
        deadline: MonoTime,
    ) -> Option<ReadBegun> {
        let pressure = self.engine.pressure();
        match self.dispatcher.route(clock.now(), &pressure, request, token, deadline) {
            Routed::Answer(answer) => self.out.push(Effect::Reply { token, answer }),
            Routed::Read { worker, request } => {
                match self.reader.look(clock, request.region_id, request.epoch, Some((&request).into())) {
                    Some(view) => return Some(ReadBegun { view, worker, request }),
                    None => self.inboxes[worker].push(Input::Read(request)),
                }
            }
            Routed::Worker { worker, input, bytes } => {
                self.admitted.insert(token, bytes);
                self.inboxes[worker].push(input);
            }
            Routed::Txn { worker, request, bytes } => {
                self.admitted.insert(token, bytes);
                self.txn_inboxes[worker].push(TxnInput::Command(request));
            }
        }
        None
    }

    /// Answers a read if its lease still allows that, at a reading of the clock that follows; else the worker is to. Returns
    /// whether it is answered.
    ///
    /// # Errors
    /// [`EngineError`]: the store must stop.
    pub fn end_read(&mut self, clock: &dyn Clock, begun: ReadBegun) -> Result<bool, EngineError> {
        let ReadBegun { view, worker, request } = begun;
        let answer = self.reader.answer(clock, view, (&request).into())?;
        let is_answered = answer.is_some();
        match answer {
            Some(answer) => self.out.push(Effect::Reply { token: request.token, answer }),
            None => self.inboxes[worker].push(Input::Read(request)),
        }
        Ok(is_answered)
    }

    /// A worker's turn begins: what it takes up. The clock is read after this.
    pub fn drain(&mut self, worker: usize) -> Vec<Input> {
        let inbox = &mut self.inboxes[worker];
        let taken = if sim_point!("store.short_turn") { inbox.len() / 2 } else { inbox.len() };
        let later = inbox.split_off(taken);
        std::mem::replace(inbox, later)
    }

    /// A worker steps what it has taken up, at a reading of the clock that follows.
    pub fn step(&mut self, worker: usize, now: MonoTime, mut inputs: Vec<Input>) -> TurnEffects<E> {
        self.workers[worker].turn(now, &mut inputs)
    }

    /// A worker's turn ends: its effects reach those whom they concern.
    pub fn release(&mut self, worker: usize, effects: TurnEffects<E>) {
        let TurnEffects { log, messages, apply, replies, proposed, reads, background, snapshots, pd, create } =
            effects;
        self.txn_inboxes[worker].extend(proposed.into_iter().map(|token| TxnInput::Proposed { token }));
        self.send(messages);
        if !log.is_empty() {
            self.log.push(worker, log);
        }
        for task in apply {
            let applier = worker_of(region_of(&task), self.config.appliers);
            self.apply_inboxes[applier].push(task);
        }
        for (token, answer) in replies {
            self.reply(token, answer);
        }
        for ready in reads {
            if let Some(scheduler) = scheduler_of(ready.request.token) {
                self.txn_inboxes[scheduler].push(TxnInput::View(ready));
                continue;
            }
            let (token, region_id) = (ready.request.token, ready.region.id);
            // A read that fails on the disk is the store's end at the next write; the client may ask elsewhere.
            let answer = serve(ready, self.limits, self.meta.guarded_to(), self.dispatcher.oracle());
            let answer = answer.unwrap_or(Err(KvError::RegionNotFound { region_id }));
            self.reply(token, answer);
        }
        for task in background {
            let queue = if is_waited_for(&task) { &mut self.lookups } else { &mut self.background };
            queue.push_back(Aside::new(task));
        }
        for wanted in snapshots {
            let (region_id, to) = (wanted.key.region_id, wanted.key.to_peer);
            match self.builder.take(wanted.key, wanted.message) {
                Some(source) => {
                    self.out.push(Effect::SendSnapshot { to: wanted.to_store, source: Box::new(source) });
                }
                None => self.input(region_id, Input::SnapshotSent { region_id, to, ok: false }),
            }
        }
        for task in pd {
            self.agent.push(task);
        }
        for peer in create {
            self.input(peer.record.region.id, Input::CreatePeer(Box::new(peer)));
        }
    }

    /// An applier applies what it was handed, to a batch.
    ///
    /// # Errors
    /// [`EngineError`]: the store must stop.
    pub fn apply(&mut self, applier: usize) -> Result<ApplyBatch, EngineError> {
        let inbox = &mut self.apply_inboxes[applier];
        let taken = if sim_point!("store.apply_one") { inbox.len().min(1) } else { inbox.len() };
        let later = inbox.split_off(taken);
        let tasks = std::mem::replace(inbox, later);
        self.appliers[applier].apply(tasks)
    }

    /// The batch is written.
    ///
    /// # Errors
    /// [`EngineError`]: the store must stop.
    pub fn write_applied(&mut self, applied: &ApplyBatch) -> Result<(), EngineError> {
        if self.config.bugs.has(SeededBug::ApplyIndexInAnotherBatch) {
            self.write_parted(&applied.batch, |_, cf| cf == Cf::Raft)
        } else if self.config.bugs.has(SeededBug::HalfABatch) {
            let half = applied.batch.len() / 2;
            self.write_parted(&applied.batch, |number, _| number < half)
        } else {
            self.engine.write(&applied.batch)
        }
    }

    /// Writes a batch as two, for a [`SeededBug`]: first what is `early`, told by its number and family.
    fn write_parted(&self, batch: &WriteBatch, early: impl Fn(usize, Cf) -> bool) -> Result<(), EngineError> {
        let (mut first, mut second) = (WriteBatch::new(), WriteBatch::new());
        for (number, op) in batch.ops().enumerate() {
            let (Op::Put { cf, .. } | Op::Delete { cf, .. } | Op::DeleteRange { cf, .. }) = op;
            let part = if early(number, cf) { &mut first } else { &mut second };
            match op {
                Op::Put { cf, key, value } => part.put(cf, key, value),
                Op::Delete { cf, key } => part.delete(cf, key),
                Op::DeleteRange { cf, start, end } => part.delete_range(cf, start, end),
            }
        }
        self.engine.write(&first)?;
        self.engine.write(&second)
    }

    /// Then the answers leave, and the workers learn of it.
    pub fn release_applied(&mut self, applied: ApplyBatch) {
        for (token, answer) in applied.replies {
            self.reply(token, answer);
        }
        for outcome in applied.outcomes {
            self.input(outcome.region_id, Input::Applied(vec![outcome]));
        }
    }

    /// What the store asks of the outside, in order.
    pub fn take_effects(&mut self) -> Vec<Effect<E>> {
        std::mem::take(&mut self.out)
    }

    /// What the log is to do next: write the batch, sync if it must be, and then call [`Store::finish_log`]. One at a
    /// time, in this order.
    pub fn begin_log(&mut self) -> Option<Merged> {
        let merged = self.log.has_work().then(|| self.log.take())?;
        if self.config.bugs.has(SeededBug::LogMarkBeforeSync) {
            self.stats.log_mark = merged.log_mark;
        }
        Some(merged)
    }

    /// The log has done it.
    pub fn finish_log(&mut self, merged: Merged) {
        if merged.must_sync {
            self.stats.log_mark = merged.log_mark;
        }
        for (worker, persisted) in merged.persisted {
            if persisted != Persisted::default() {
                self.inboxes[worker].push(Input::Persisted(persisted));
            }
        }
        self.send(merged.messages);
    }

    fn input(&mut self, region_id: RegionId, input: Input) {
        self.inboxes[worker_of(region_id, self.config.workers)].push(input);
    }

    /// Gives a message to the worker of its region, or to all if it is about none.
    fn deliver(&mut self, message: StoreMessage) {
        match region_addressed(&message) {
            Some(region_id) => self.input(region_id, Input::Message(message)),
            None => {
                for inbox in &mut self.inboxes {
                    inbox.push(Input::Message(message.clone()));
                }
            }
        }
    }

    /// The scheduler of a worker takes a turn.
    fn schedule(&mut self, index: usize, now: MonoTime) -> Result<(), EngineError> {
        let inputs = std::mem::take(&mut self.txn_inboxes[index]);
        let TxnEffects { replies, inputs, .. } = self.schedulers[index].turn(&At(now), inputs)?;
        self.schedulers[index].check_waits();
        self.schedulers[index].check_held();
        for (token, answer) in replies {
            self.reply(token, answer);
        }
        self.inboxes[index].extend(inputs);
        Ok(())
    }

    fn reply(&mut self, token: Token, answer: Result<KvReply, KvError>) {
        if let Some(scheduler) = scheduler_of(token) {
            return self.txn_inboxes[scheduler].push(TxnInput::Answer { token, answer });
        }
        if let Some(bytes) = self.admitted.remove(&token) {
            self.dispatcher.inflight().release(bytes);
        }
        self.out.push(Effect::Reply { token, answer });
    }

    fn send(&mut self, messages: Vec<(StoreId, StoreMessage)>) {
        let mut by_store: BTreeMap<StoreId, Vec<StoreMessage>> = BTreeMap::new();
        for (to, message) in messages {
            // A peer that came back to its store may lead there, and asks whether the one before it is gone.
            match to == self.store_id {
                true => self.deliver(message),
                false => by_store.entry(to).or_default().push(message),
            }
        }
        self.out.extend(by_store.into_iter().map(|(to, messages)| Effect::Send { to, messages }));
    }

    fn look_up(&mut self, now: MonoTime) -> Result<(), EngineError> {
        let task = self.lookups.pop_front();
        task.map_or(Ok(()), |task| self.work_on(task, now))
    }

    fn work_aside(&mut self, now: MonoTime) -> Result<(), EngineError> {
        self.receiver.expire(now)?;
        let task = self.background.pop_front();
        task.map_or(Ok(()), |task| self.work_on(task, now))
    }

    fn work_on(&mut self, task: Aside<E>, now: MonoTime) -> Result<(), EngineError> {
        let builder = &mut self.builder;
        match task.step(&self.engine, |region_id, to| builder.build(region_id, to, now))? {
            AsideStep::More(task) => self.background.push_back(task),
            AsideStep::Done(None) => {}
            AsideStep::Done(Some((region_id, input))) => self.input(region_id, input),
            AsideStep::FileLost { region_id, file: _ } => {
                self.input(region_id, Input::FilesLost { region_id });
            }
        }
        Ok(())
    }
}

/// The time of a turn, for those who ask a clock.
struct At(MonoTime);

impl Clock for At {
    fn now(&self) -> MonoTime {
        self.0
    }
}

fn region_of(task: &ApplyTask) -> RegionId {
    match task {
        ApplyTask::Register { record, .. } => record.region.id,
        ApplyTask::Entries { region_id, .. }
        | ApplyTask::Confirmed { region_id, .. }
        | ApplyTask::Stop { region_id } => *region_id,
    }
}
