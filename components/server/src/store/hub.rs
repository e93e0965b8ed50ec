//! What all threads of a store share, and where the effects of a turn go.

use super::agent::Agent;
use super::answers::Answers;
use super::apply::Applying;
use super::counters::{Counters, Said};
use super::gather::Gather;
use super::log::Logged;
use super::pressure::PressureCache;
use super::scheduling::Scheduling;
use super::stages::Way;
use super::turns::Desk;
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::Mailbox;
use crate::measure::{add, get};
use crate::seat::{Next, Seat};
use engine_rocks::{RocksEngine, RocksSnapshot};
use env::Clock as _;
use parking_lot::Mutex;
use raftstore::{
    Applier, ApplyTask, Background, Input, ReadRequest, ReadyRead, StoreMeta, TurnEffects, WorkerStats,
    worker_of,
};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use store::{
    ReadLimits, SnapshotBuilder, TxnInput, TxnShared, is_waited_for, region_addressed, scheduler_of,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use transport::{Receipt, Responder, StoreLinks};
use types::{RegionId, StoreId};
use wire::kv::{KvCommand, KvError};
use wire::pd::StoreStats;
use wire::store::{DiskState, SnapshotKey, SnapshotPiece, StoreMessage};
use wire::txn::TxnRead;

/// Reads that hold more than this are not served on the threads of sockets and workers. To hand a read to another thread
/// and its answer back takes about as long as to read a hundred pairs.
const SHORT_READ: usize = 256;
/// Entries of so many bytes are applied by whoever takes the turn, if the applier is idle and the only one: where
/// processors are few, to wake its thread for a few of them takes longer. Many are applied while this thread goes on.
const APPLIED_AT_ONCE_BYTES: usize = 4 << 10;
/// Inputs of one turn, at most: a turn must be short against a tick.
pub(crate) const TURN_INPUTS_MAX: usize = 4096;
/// How often a scheduler looks whether a client's time is over.
pub(crate) const SCHEDULER_TICK: std::time::Duration = std::time::Duration::from_millis(100);
/// Tasks of one batch of an applier, at most: answers wait for all of it.
const APPLY_TASKS_MAX: usize = 1024;

/// The workers, as seen from other threads.
pub(crate) struct Workers {
    pub(crate) inboxes: Vec<Mailbox<Input>>,
    stats: Vec<Mutex<WorkerStats>>,
    stalled: Vec<AtomicBool>,
}

impl Workers {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            inboxes: (0..count).map(|_| Mailbox::default()).collect(),
            stats: (0..count).map(|_| Mutex::default()).collect(),
            stalled: (0..count).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Which one owns a region.
    pub(crate) fn of(&self, region_id: RegionId) -> usize {
        worker_of(region_id, self.inboxes.len())
    }

    pub(crate) fn input(&self, region_id: RegionId, input: Input) {
        self.inboxes[self.of(region_id)].push(input);
    }

    pub(crate) fn tell_all(&self, input: impl Fn() -> Input) {
        for inbox in &self.inboxes {
            inbox.push(input());
        }
    }

    pub(crate) fn publish(&self, index: usize, stats: WorkerStats, stalled: bool) {
        *self.stats[index].lock() = stats;
        self.stalled[index].store(stalled, Ordering::Relaxed);
    }

    /// What they have counted, together.
    pub(crate) fn stats(&self) -> WorkerStats {
        let mut sum = WorkerStats::default();
        for stats in &self.stats {
            sum.add(&stats.lock());
        }
        sum
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.iter().any(|stalled| stalled.load(Ordering::Relaxed))
    }
}

/// A read that is served aside.
pub(crate) enum PendingRead {
    /// Perhaps a lease allows it.
    Local(ReadRequest),
    /// It may be served from this snapshot.
    Ready(ReadyRead<RocksSnapshot>),
}

/// A snapshot that arrives.
pub(crate) enum Arriving {
    Piece(SnapshotPiece, Receipt),
    Lost(SnapshotKey),
}

/// How this store's disk is.
#[derive(Default, Debug)]
pub(crate) struct Disk {
    state: AtomicU8,
    pub(crate) capacity_bytes: AtomicU64,
    pub(crate) available_bytes: AtomicU64,
    pub(crate) used_bytes: AtomicU64,
}

impl Disk {
    pub(crate) fn state(&self) -> DiskState {
        match self.state.load(Ordering::Relaxed) {
            0 => DiskState::Ok,
            1 => DiskState::Low,
            _ => DiskState::Full,
        }
    }

    pub(crate) fn set_state(&self, state: DiskState) {
        let number = match state {
            DiskState::Ok => 0,
            DiskState::Low => 1,
            DiskState::Full => 2,
        };
        self.state.store(number, Ordering::Relaxed);
    }
}

/// What all threads of a store share.
pub(crate) struct Hub {
    pub(crate) store_id: StoreId,
    /// How often the store has begun to take part.
    pub(crate) starts: u64,
    pub(crate) config: Arc<store::Config>,
    pub(crate) engine: RocksEngine,
    pub(crate) meta: Arc<StoreMeta>,
    pub(crate) limits: ReadLimits,
    pub(crate) workers: Arc<Workers>,
    pub(crate) log: Mailbox<Logged>,
    /// What readers and transactions know of each other.
    pub(crate) txn_shared: TxnShared,
    pub(crate) scheduling: Scheduling<RocksEngine>,
    /// What the workers' turns are taken with; there once the regions were taken up.
    pub(crate) desks: OnceLock<Vec<Seat<Desk<RocksEngine>>>>,
    /// When turns are taken for what arrives, by worker.
    pub(crate) gather: Vec<Gather>,
    pub(crate) appliers: Vec<Mailbox<ApplyTask>>,
    pub(crate) apply_seats: Vec<Seat<Applier<RocksEngine>>>,
    /// Work that takes long: measuring, ingesting, removing files.
    pub(crate) slow: Mailbox<Background>,
    /// Work that somebody waits for: views for snapshots, log entries.
    pub(crate) quick: Mailbox<Background>,
    pub(crate) arriving: Mailbox<Arriving>,
    pub(crate) reads: Mailbox<PendingRead>,
    pub(crate) answers: Answers<Responder>,
    pub(crate) links: Arc<StoreLinks>,
    pub(crate) agent: Agent,
    pub(crate) builder: Mutex<SnapshotBuilder<RocksEngine>>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) pressure: PressureCache,
    pub(crate) counters: Arc<Counters>,
    pub(crate) runtime: Handle,
    /// Snapshots sent at once.
    pub(crate) sending: Arc<Semaphore>,
    /// Those that wait included.
    pub(crate) to_send: AtomicUsize,
    pub(crate) sender: super::snapshots::SendOptions,
}

impl Hub {
    /// Sends messages, those to one store as one frame. What this store tells itself goes to its worker: a peer that
    /// came back here may lead, and asks whether the one before it is gone.
    pub(crate) fn send(&self, messages: Vec<(StoreId, StoreMessage)>) {
        let mut by_store: Vec<(StoreId, Vec<StoreMessage>)> = Vec::new();
        for (to, message) in messages {
            if to == self.store_id {
                if let Some(region_id) = region_addressed(&message) {
                    self.workers.input(region_id, Input::Message(message));
                }
                continue;
            }
            add(&self.counters.messages_sent[Said::of(&message) as usize], 1);
            match by_store.iter_mut().find(|(store, _)| *store == to) {
                Some((_, batch)) => batch.push(message),
                None => by_store.push((to, vec![message])),
            }
        }
        let disk = self.disk.state();
        for (to, batch) in by_store {
            self.links.send(to, disk, batch);
        }
    }

    /// What a worker's turns are taken with.
    pub(crate) fn desk(&self, worker: usize) -> &Seat<Desk<RocksEngine>> {
        &self.desks.get().expect("workers are there before anything comes for them")[worker]
    }

    /// Brings inputs to a worker, and takes its turn if nobody else does; `applies` as in [`Hub::route`].
    pub(crate) fn bring(self: &Arc<Self>, worker: usize, applies: bool, inputs: &mut Vec<Input>) {
        self.workers.inboxes[worker].put_all(inputs);
        self.help(worker, applies);
    }

    /// Takes a worker's turn if nobody else does; `applies` as in [`Hub::route`].
    pub(crate) fn help(self: &Arc<Self>, worker: usize, applies: bool) {
        self.desk(worker).help(&self.workers.inboxes[worker], |desk| self.turn(worker, applies, desk));
    }

    /// Brings what has arrived over a connection to a worker, and takes its turn, if nobody else does, now or once others
    /// that are ready have brought theirs.
    pub(crate) fn bring_arrived(self: &Arc<Self>, worker: usize, inputs: &mut Vec<Input>) {
        if inputs.is_empty() {
            return;
        }
        self.workers.inboxes[worker].put_all(inputs);
        if self.gather[worker].is_now() {
            self.help(worker, true);
        }
    }

    /// A worker's turn, by whoever has its desk.
    pub(crate) fn turn(self: &Arc<Self>, worker: usize, applies: bool, desk: &mut Desk<RocksEngine>) -> Next {
        let route = |effects| self.route(worker, applies, effects);
        let publish = |stats, stalled| self.workers.publish(worker, stats, stalled);
        desk.turn(&self.workers.inboxes[worker], &self.counters, TURN_INPUTS_MAX, route, publish)
    }

    /// Applies what waits for an applier, by whoever has its seat.
    pub(crate) fn apply_some(
        &self,
        index: usize,
        applier: &mut Applier<RocksEngine>,
        tell: impl Fn(usize, &mut Vec<Input>),
    ) -> Next {
        let applying = Applying {
            tasks: &self.appliers[index],
            engine: &self.engine,
            answers: &self.answers,
            counters: &self.counters,
            workers: self.workers.inboxes.len(),
            tasks_max: APPLY_TASKS_MAX,
        };
        applying.round(|tasks| applier.apply(tasks), tell)
    }

    /// Brings commands of transactions to the scheduler of a worker, and takes them as far as they get at once.
    pub(crate) fn bring_txns(self: &Arc<Self>, worker: usize, inputs: &mut Vec<TxnInput<RocksSnapshot>>) {
        if inputs.is_empty() {
            return;
        }
        self.scheduling.inboxes[worker].put_all(inputs);
        self.scheduling.help(worker, &self.answers, &self.workers.inboxes[worker]);
        if !self.workers.inboxes[worker].is_empty() && self.gather[worker].is_now() {
            self.help(worker, true);
        }
    }

    /// Takes the turns of the schedulers for which something waits, if nobody else does, and what they bring to their
    /// workers; `applies` as in [`Hub::route`].
    pub(crate) fn schedule_waiting(self: &Arc<Self>, applies: bool) {
        self.scheduling
            .help_waiting(&self.answers, &self.workers.inboxes, |worker| self.help(worker, applies));
    }

    /// Hands a turn's effects to those whom they concern. The log comes first, since it takes longest. A little that is
    /// to be applied may be applied here, if whoever takes the turn `applies`: the log writer does not, for which others
    /// wait.
    pub(crate) fn route(self: &Arc<Self>, worker: usize, applies: bool, effects: TurnEffects<RocksEngine>) {
        let TurnEffects {
            log,
            messages,
            mut apply,
            replies,
            proposed,
            reads,
            background,
            snapshots,
            pd,
            create,
        } = effects;
        if !log.is_empty() {
            if let [applier] = self.appliers.as_slice()
                && is_little(&apply)
                && !is_awaited(&apply)
            {
                // The log writer sees to it when it has written. Now it would only get into its way.
                applier.put_all(&mut apply);
            }
            self.log.push(Logged { worker, task: log, since: BootClock.now() });
        }
        // Before anything of it is applied. A worker is asked for this by its own scheduler alone.
        self.scheduling.tell_proposed(worker, proposed);
        // Others need not wait for what is applied here.
        transport::hold_wakes(|| self.send(messages));
        transport::hold_wakes(|| {
            self.apply(worker, applies, apply);
            self.answers.answer_all(replies);
        });
        for ready in reads {
            match scheduler_of(ready.request.token) {
                Some(scheduler) => {
                    self.scheduling.inboxes[scheduler].put_all(&mut vec![TxnInput::View(ready)])
                }
                None if is_short(&ready.request.command) => self.serve(ready),
                None => self.reads.push(PendingRead::Ready(ready)),
            }
        }
        for task in background {
            match is_waited_for(&task) {
                true => self.quick.push(task),
                false => self.slow.push(task),
            }
        }
        for wanted in snapshots {
            super::snapshots::send(self, wanted);
        }
        if !pd.is_empty() {
            self.counters.look_at(&pd);
            self.agent.push_all(pd);
        }
        for peer in create {
            self.workers.input(peer.record.region.id, Input::CreatePeer(Box::new(peer)));
        }
        self.schedule_waiting(applies);
    }

    fn apply(&self, worker: usize, applies: bool, mut tasks: Vec<ApplyTask>) {
        if tasks.is_empty() {
            return;
        }
        let first = tasks.iter().find_map(|task| match task {
            ApplyTask::Entries { proposals, .. } => proposals.first()?.tokens.first(),
            _ => None,
        });
        if let Some(since) = first.and_then(|token| self.answers.since(*token)) {
            self.counters.commit.span(since, BootClock.now());
        }
        let [applier] = self.appliers.as_slice() else {
            for task in tasks {
                self.appliers[worker_of(region_of(&task), self.appliers.len())].push(task);
            }
            return;
        };
        if !applies || !is_little(&tasks) {
            return applier.push_all(&mut tasks);
        }
        applier.put_all(&mut tasks);
        // The worker whose turn it is looks into its inbox when the turn is over.
        let tell = |to: usize, inputs: &mut Vec<Input>| match to == worker {
            true => self.workers.inboxes[to].put_all(inputs),
            false => self.workers.inboxes[to].push_all(inputs),
        };
        self.apply_seats[0].help(applier, |seat| self.apply_some(0, seat, tell));
    }

    /// Applies what was left to the log writer, see [`Hub::route`].
    pub(crate) fn apply_left(self: &Arc<Self>) {
        if let [applier] = self.appliers.as_slice()
            && !applier.is_empty()
        {
            let tell = |to: usize, inputs: &mut Vec<Input>| self.bring(to, false, inputs);
            self.apply_seats[0].help(applier, |seat| self.apply_some(0, seat, tell));
            self.schedule_waiting(false);
        }
    }

    /// Serves a read that may be served.
    pub(crate) fn serve(&self, ready: ReadyRead<RocksSnapshot>) {
        let (token, begun) = (ready.request.token, BootClock.now());
        let served = store::serve(ready, self.limits, self.meta.guarded_to(), &self.txn_shared.oracle);
        let answer = served.unwrap_or_else(|error| fatal("reading", &error));
        self.answers.answer_each([(token, answer, Way::Read { by_lease: false, begun })]);
    }

    /// How the store is, for PD.
    pub(crate) fn stats(&self) -> StoreStats {
        let workers = self.workers.stats();
        let count = |counter| u32::try_from(get(counter)).unwrap_or(u32::MAX);
        StoreStats {
            store_id: self.store_id,
            capacity_bytes: get(&self.disk.capacity_bytes),
            available_bytes: get(&self.disk.available_bytes),
            used_bytes: get(&self.disk.used_bytes),
            region_count: workers.regions,
            leader_count: workers.leaders,
            disk: self.disk.state(),
            is_slow: self.workers.is_stalled(),
            snapshots_receiving: count(&self.counters.snapshots_arriving),
            snapshots_sending: count(&self.counters.snapshots_sending),
            starts: self.starts,
            log_mark: get(&self.counters.log_mark),
        }
    }

    /// Takes no more work from anywhere but the workers.
    pub(crate) fn close_aside(&self) {
        self.log.close();
        self.scheduling.inboxes.iter().for_each(Mailbox::close);
        self.appliers.iter().for_each(Mailbox::close);
        self.slow.close();
        self.quick.close();
        self.arriving.close();
        self.reads.close();
    }
}

/// True for a read that takes less than handing it to another thread.
pub(crate) fn is_short(command: &KvCommand) -> bool {
    match command {
        KvCommand::BatchGet { keys } => keys.len() <= SHORT_READ,
        KvCommand::Scan(scan) => scan.limit > 0 && scan.limit as usize <= SHORT_READ,
        KvCommand::TxnRead(read) => match &**read {
            TxnRead::Get { .. } => true,
            TxnRead::BatchGet { keys, .. } | TxnRead::KeyChanges { keys, .. } => keys.len() <= SHORT_READ,
            TxnRead::Scan { scan, .. } => scan.limit > 0 && scan.limit as usize <= SHORT_READ,
            TxnRead::Locks { .. } | TxnRead::History { .. } | TxnRead::RangeChanges { .. } => false,
        },
        _ => true,
    }
}

/// What a request is told that could not be taken on.
pub(crate) fn too_many() -> KvError {
    KvError::ServerIsBusy { reason: wire::kv::BusyReason::Memory, backoff_ms: 50 }
}

/// True for what is not worth waking an applier's thread for.
fn is_little(tasks: &[ApplyTask]) -> bool {
    let size_bytes = |task: &ApplyTask| match task {
        ApplyTask::Entries { entries, .. } => entries.iter().map(|entry| entry.data.len()).sum(),
        _ => 0,
    };
    tasks.iter().map(size_bytes).sum::<usize>() <= APPLIED_AT_ONCE_BYTES
}

/// True if a client waits for some of it.
fn is_awaited(tasks: &[ApplyTask]) -> bool {
    tasks.iter().any(|task| match task {
        ApplyTask::Entries { proposals, .. } => !proposals.is_empty(),
        _ => false,
    })
}

fn region_of(task: &ApplyTask) -> RegionId {
    match task {
        ApplyTask::Register { record, .. } => record.region.id,
        ApplyTask::Entries { region_id, .. }
        | ApplyTask::Confirmed { region_id, .. }
        | ApplyTask::Stop { region_id } => *region_id,
    }
}
