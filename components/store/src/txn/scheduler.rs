//! Commands of transactions, from their arrival to their answer.
//!
//! ```text
//! latches ──► view ──► decide ──► propose ──► applied ──► answer, latches go
//!                                        └──► answer, of what only reserves keys
//! ```
//!
//! A command holds the latches of its keys from before its view of the engine is taken until what it decided is applied,
//! or will never be: so of two commands on one key the second sees what the first did. A view is one that the region's
//! leader vouches for, by its lease or by a round with its quorum; what is decided on it is proposed in that term and
//! under that version of the region or not at all (INV-TXN-5), because latches keep apart the commands of one leader only.
//!
//! A transaction that commits without a second phase does so above all that was read of its keys, and from before that is
//! settled until the command is done its locks are shown to readers ([`super::floor`], INV-TXN-4).
//!
//! A command that reserves keys, meets another's lock and may wait gives its latches up and waits, holding nothing
//! ([`super::parked`]). When the lock has gone, from what is known to be applied, or its region is led otherwise or has
//! changed, it begins again as it came. Each gets one answer (INV-TXN-15).
//!
//! One that only reserves keys is answered once it is proposed ([`pipelined`], INV-TXN-21): a reservation may be lost anyway.
//!
//! A client that gives up is told so at its deadline; its command, once proposed, goes on and keeps its latches. The
//! scheduler belongs to a worker and sees the regions that the worker owns.

mod pipelined;
mod waiting;

use self::pipelined::Pipelined;
use super::TxnShared;
use super::evaluate::{Decision, Given, evaluate, keys_of};
use super::floor::{Floor, Floors};
use super::held::{Reservations, held_under};
use super::parked::{Led, Met, Parked, WaitLimits};
use crate::execute::ReadLimits;
use crate::gc_budget::GcBudget;
use crate::local_read::LocalReader;
use crate::seeded_bug::{Bugs, SeededBug};
use engine::{Engine, EngineError};
use env::Clock;
use raftstore::{
    Change, HeldLocks, HeldNow, HeldView, Input, ReadRequest, ReadyRead, StoreMeta, Token, WriteItem,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use txn::{Claim, CommandId, Due, Latches};
use types::{Epoch, Key, MonoTime, RegionId, Timestamp};
use wire::kv::{BusyReason, KvCommand, KvError, KvReply};
use wire::pd::FoundDeadlock;
use wire::txn::{LockInfo, TxnCommand, TxnFault};

/// Marks the tokens of what a scheduler asks of its worker, among those of clients. Below it stand which scheduler it is,
/// and the number of the command.
const SCHEDULED: Token = 1 << 63;
const SCHEDULER_SHIFT: u32 = 48;
const COMMAND_MASK: Token = (1 << SCHEDULER_SHIFT) - 1;
/// How long a client should stay away for which there is no room to wait.
const NO_ROOM_BACKOFF_MS: u32 = 50;

/// Which worker's scheduler the answer to this token is for; `None` if it is for a client.
#[must_use]
pub const fn scheduler_of(token: Token) -> Option<usize> {
    match token & SCHEDULED {
        0 => None,
        _ => Some(((token & !SCHEDULED) >> SCHEDULER_SHIFT) as usize),
    }
}

/// A command as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxnRequest {
    /// Who awaits it.
    pub token: Token,
    /// The region as the client knows it.
    pub region_id: RegionId,
    /// Its epoch.
    pub epoch: Epoch,
    /// What is to be done.
    pub command: Box<TxnCommand>,
    /// When the client gives up.
    pub deadline: MonoTime,
}

/// Everything that can happen to a scheduler.
#[expect(
    clippy::large_enum_variant,
    reason = "they are taken up in the next turn, and no box is to be made for a view"
)]
pub enum TxnInput<S> {
    /// A client asks.
    Command(TxnRequest),
    /// The region's leader vouches for a view that was asked for.
    View(ReadyRead<S>),
    /// What the worker answers to what was asked of it.
    Answer {
        /// Of the question.
        token: Token,
        /// The answer.
        answer: Result<KvReply, KvError>,
    },
    /// What was asked of the worker is proposed; the answer follows.
    Proposed {
        /// Of the question.
        token: Token,
    },
    /// A command that waits for a lock would wait for itself.
    Deadlock(FoundDeadlock),
}

/// What a turn of a scheduler asks for.
#[derive(Default, Debug)]
pub struct TxnEffects {
    /// Answers to clients.
    pub replies: Vec<(Token, Result<KvReply, KvError>)>,
    /// For the worker.
    pub inputs: Vec<Input>,
    /// How long commands have waited for locks that wait no more.
    pub waited: Vec<Duration>,
    /// How long commands have waited for latches that have them now; of those that had to.
    pub latched: Vec<Duration>,
    /// Commands that were answered once they were proposed.
    pub pipelined: u64,
    /// Those of them, and of earlier ones, that are not applied after all.
    pub pipelined_lost: u64,
}

/// How far a command has come.
enum Stage {
    /// It waits for latches, or holds them and is about to be given a view.
    Latching(Claim, Box<TxnCommand>),
    /// The worker has been asked for a view.
    Viewing(Claim),
    /// What it decided is on its way through the log, and this is what it answers then.
    Proposed(Claim, KvReply),
    /// It waits for a lock to go, without latches. This is what it answers if it waits for too long.
    Waiting(Box<TxnCommand>, KvError),
}

struct Running {
    /// `None` once the client has its answer.
    token: Option<Token>,
    region_id: RegionId,
    epoch: Epoch,
    deadline: MonoTime,
    stage: Stage,
    /// Keys whose locks readers are shown until the command is done.
    shown: Vec<Key>,
    /// When it began to wait for locks, and until when it may; once it has met one.
    waits: Option<(MonoTime, MonoTime)>,
    /// Of the keys that others wait for: which it unlocks (`None`), and which it locks for which transaction.
    touches: Vec<(Key, Option<Timestamp>)>,
    /// The keys whose locks in memory its write changes.
    held: Vec<Key>,
    /// Its client need not wait until it is applied.
    pipelined: Option<Pipelined>,
}

/// Runs the commands of the regions that one worker owns.
pub struct TxnScheduler<E: Engine> {
    /// What its tokens begin with.
    token_base: Token,
    reader: LocalReader<E>,
    floors: Floors,
    latches: Latches,
    running: BTreeMap<CommandId, Running>,
    /// Commands that hold all their latches and have no view yet.
    latched: VecDeque<CommandId>,
    /// Since when commands wait for latches that others hold.
    unlatched: BTreeMap<CommandId, MonoTime>,
    gc: Arc<GcBudget>,
    /// Of the commands whose clients wait for an answer that nobody else gives in time.
    deadlines: BTreeSet<(MonoTime, CommandId)>,
    next_id: CommandId,
    parked: Parked,
    /// What commands that are done have done to keys that others wait for.
    touched: VecDeque<(Key, Option<Timestamp>)>,
    meta: Arc<StoreMeta>,
    /// Locks that stand in memory.
    held: Arc<HeldLocks>,
    reservations: Reservations,
    /// Bytes of what is on its way through the log, and whose clients need not wait for that.
    pipelined_bytes: usize,
    engine: E,
    /// When the turn began.
    now: MonoTime,
    bugs: Bugs,
    record_bugs: mvcc::Bugs,
    out: TxnEffects,
}

impl<E: Engine> TxnScheduler<E> {
    /// The scheduler of the worker with this number; without commands.
    #[must_use]
    pub fn new(worker: usize, engine: E, meta: Arc<StoreMeta>, shared: TxnShared) -> Self {
        // It only takes views.
        let limits = ReadLimits { bytes_max: 0, pairs_max: 0, bugs: mvcc::Bugs::default() };
        let token_base = SCHEDULED | (worker as Token) << SCHEDULER_SHIFT;
        let (book, oracle, gc) = (shared.waits.clone(), shared.oracle.clone(), shared.gc.clone());
        Self {
            held: shared.held.clone(),
            reservations: Reservations::default(),
            pipelined_bytes: 0,
            token_base,
            parked: Parked::new(token_base, book, oracle, WaitLimits::default()),
            touched: VecDeque::new(),
            now: MonoTime::ZERO,
            reader: shared.local_reader(engine.clone(), meta.clone(), limits),
            engine,
            meta,
            floors: Floors::new(shared),
            latches: Latches::new(),
            running: BTreeMap::new(),
            latched: VecDeque::new(),
            unlatched: BTreeMap::new(),
            gc,
            deadlines: BTreeSet::new(),
            next_id: 0,
            bugs: Bugs::default(),
            record_bugs: mvcc::Bugs::default(),
            out: TxnEffects::default(),
        }
    }

    /// One that breaks rules on purpose.
    #[must_use]
    pub fn breaking(mut self, bugs: Bugs, record_bugs: mvcc::Bugs) -> Self {
        (self.floors.bugs, self.parked.bugs) = (bugs, bugs);
        Self { bugs, record_bugs, ..self }
    }

    /// One in which this many wait for locks, for so long.
    #[must_use]
    pub fn waiting_within(mut self, limits: WaitLimits) -> Self {
        self.parked.set_limits(limits);
        self
    }

    /// One that keeps reservations of keys so.
    #[must_use]
    pub fn reserving(self, reservations: Reservations) -> Self {
        Self { reservations, ..self }
    }

    /// When a client is to be told that its time is over, or a command that waits for a lock is to be taken up.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let deadline = self.deadlines.first().map_or(MonoTime::MAX, |(deadline, _)| *deadline);
        deadline.min(self.parked.next_deadline())
    }

    /// When a command that waits for a lock is to be looked at: no later, though nothing comes.
    #[must_use]
    pub fn next_wait(&self) -> MonoTime {
        self.parked.next_deadline()
    }

    /// True if a turn is to be taken though nothing has come: somebody waits for a lock, and regions are led otherwise.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        self.parked.must_look(&self.meta)
    }

    /// Checks that nobody waits for what has gone. Between turns, where nothing else runs.
    ///
    /// # Panics
    /// When somebody does (INV-TXN-15).
    pub fn check_waits(&self) {
        self.parked.check_invariants();
        let waiting = |running: &&Running| matches!(running.stage, Stage::Waiting(..));
        let count = self.running.values().filter(waiting).count();
        assert_eq!(count, self.parked.len(), "INV-TXN-15: whoever waits stands in a queue");
        let keys = self.parked.keys_locked(&self.meta);
        if keys.is_empty() {
            return;
        }
        let snapshot = self.engine.snapshot();
        let reader = mvcc::MvccReader::new(&snapshot);
        let held = self.held.all();
        for key in keys {
            let is_touched =
                self.running.values().flat_map(|it| &it.touches).any(|(touched, _)| *touched == key);
            let is_held = held.iter().any(|now| now.key == key);
            let Ok(lock) = reader.lock(&key) else { return };
            assert!(
                is_touched || is_held || lock.is_some(),
                "INV-TXN-15: somebody waits for a lock of {key:?} that has gone"
            );
        }
    }

    /// Checks that no key is locked twice. Between turns, where nothing else runs.
    ///
    /// # Panics
    /// When one is locked in memory and in the engine (INV-TXN-19).
    pub fn check_held(&self) {
        let held = self.held.all();
        if held.is_empty() {
            return;
        }
        let snapshot = self.engine.snapshot();
        let reader = mvcc::MvccReader::new(&snapshot);
        for HeldNow { region_id, key, .. } in held.into_iter().filter(|now| !now.is_moving) {
            let Ok(lock) = reader.lock(&key) else { return };
            assert!(
                lock.is_none(),
                "INV-TXN-19: region {region_id} holds a lock of {key:?}, of which the engine has {lock:?}"
            );
        }
    }

    /// Commands that are not done, those included whose clients have given up.
    #[must_use]
    pub fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Takes what has come, and brings every command as far as it gets. The clock is read after that.
    ///
    /// # Errors
    /// [`EngineError`] when the engine cannot be read: the store must stop.
    pub fn turn(
        &mut self,
        clock: &dyn Clock,
        inputs: impl IntoIterator<Item = TxnInput<E::Snapshot>>,
    ) -> Result<TxnEffects, EngineError> {
        self.now = clock.now();
        for input in inputs {
            match input {
                TxnInput::Command(request) => self.begin(request),
                TxnInput::View(ready) => self.on_view(clock, ready)?,
                TxnInput::Answer { token, answer } => self.on_answer(token & COMMAND_MASK, answer),
                TxnInput::Proposed { token } => self.on_proposed(token & COMMAND_MASK),
                TxnInput::Deadlock(found) => self.on_deadlock(found),
            }
        }
        let now = clock.now();
        self.take_up_waiting(now);
        self.expire(now);
        while !self.latched.is_empty() {
            self.view_latched(clock)?;
            // What was done at once may be what others wait for.
            self.take_up_waiting(now);
        }
        Ok(std::mem::take(&mut self.out))
    }

    fn begin(&mut self, request: TxnRequest) {
        let TxnRequest { token, region_id, epoch, command, deadline } = request;
        if let (true, Some(wait)) = (removes_what_is_over(&command), self.gc.wait(self.now)) {
            let backoff_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
            let busy = KvError::ServerIsBusy { reason: BusyReason::GarbageCollection, backoff_ms };
            return self.out.replies.push((token, Err(busy)));
        }
        self.give_up_waiting(&command);
        let id = self.next_id;
        self.next_id += 1;
        self.deadlines.insert((deadline, id));
        let stage = self.latch(id, command);
        let (shown, touches, held) = (Vec::new(), Vec::new(), Vec::new());
        let (token, waits, pipelined) = (Some(token), None, None);
        let running =
            Running { token, region_id, epoch, deadline, stage, shown, waits, touches, held, pipelined };
        self.running.insert(id, running);
    }

    /// A command claims its latches.
    fn latch(&mut self, id: CommandId, command: Box<TxnCommand>) -> Stage {
        let mut claim = Claim::new(id, keys_of(&command));
        let unlatched = self.bugs.has(SeededBug::CommandsUnlatched);
        if unlatched || self.latches.acquire(&mut claim) {
            self.latched.push_back(id);
        } else {
            self.unlatched.insert(id, self.now);
        }
        Stage::Latching(claim, command)
    }

    /// Gives views to all commands that have their latches: one of the engine for all of them, taken now. What is held in
    /// memory is looked at before, since a lock goes from there to the engine.
    fn view_latched(&mut self, clock: &dyn Clock) -> Result<(), EngineError> {
        self.reader.begin_batch();
        let latched: Vec<_> = std::mem::take(&mut self.latched)
            .into_iter()
            .filter_map(|id| Some((id, self.look_at_held(id)?)))
            .collect();
        for (id, held) in latched {
            let running = self.running.get_mut(&id).expect("a command that runs");
            let waited = self.unlatched.remove(&id).map(|since| clock.now().since(since));
            self.out.latched.extend(waited);
            let Running { stage: Stage::Latching(_, command), region_id, epoch, shown, .. } = running else {
                unreachable!("command {id} was to be given its first view")
            };
            let decided = match self.reader.view(clock, *region_id, *epoch) {
                Some((snapshot, delegate)) => {
                    let (region, term) = (&delegate.region, delegate.term);
                    let decision = match held_under(&held, term, region.epoch.version) {
                        Some(held) => {
                            let floor = self.floors.floor(self.token_base | id, region, term, command);
                            let given = Given {
                                floor: shown_by(floor, shown),
                                guarded: self.meta.guarded_to(),
                                time: &(self.floors.oracle(), clock),
                                held: &held,
                                bugs: self.record_bugs,
                            };
                            evaluate(snapshot, region, command, &given)?
                        }
                        None => Err(KvError::StaleCommand),
                    };
                    Some((decision, Led { term, version: region.epoch.version }))
                }
                None => None,
            };
            match decided {
                Some((decision, led)) => self.on_decision(id, None, decision, led, clock.now()),
                None => self.ask_for_view(id, held),
            }
        }
        Ok(())
    }

    /// The locks in memory of a command's keys. `None` if it is not about to be given a view.
    fn look_at_held(&self, id: CommandId) -> Option<HeldView> {
        let running = self.running.get(&id)?;
        let Stage::Latching(_, command) = &running.stage else {
            unreachable!("command {id} is about to be given its first view")
        };
        let keys = if self.bugs.has(SeededBug::HeldLocksUnseen) { Vec::new() } else { keys_of(command) };
        Some(self.held.view(running.region_id, &keys))
    }

    fn ask_for_view(&mut self, id: CommandId, held: HeldView) {
        let running = self.running.get_mut(&id).expect("a command that runs");
        let placeholder = Stage::Viewing(Claim::new(id, Vec::new()));
        let Stage::Latching(claim, command) = std::mem::replace(&mut running.stage, placeholder) else {
            unreachable!("command {id} asks for its first view")
        };
        running.stage = Stage::Viewing(claim);
        // The worker answers by then.
        self.deadlines.remove(&(running.deadline, id));
        self.out.inputs.push(Input::Read(ReadRequest {
            token: self.token_base | id,
            region_id: running.region_id,
            epoch: running.epoch,
            command: KvCommand::Txn(command),
            refusal: None,
            held: Some(Box::new(held)),
            deadline: running.deadline,
        }));
    }

    fn on_view(&mut self, clock: &dyn Clock, ready: ReadyRead<E::Snapshot>) -> Result<(), EngineError> {
        let ReadyRead { request, region, snapshot, term, now: _ } = ready;
        let (KvCommand::Txn(command), Some(held)) = (request.command, request.held) else {
            unreachable!("a scheduler asks for views for commands alone")
        };
        let id = request.token & COMMAND_MASK;
        let running = self.running.get_mut(&id).expect("the worker answers each question once");
        let decision = match held_under(&held, term, region.epoch.version) {
            Some(held) => {
                let floor = self.floors.floor(request.token, &region, term, &command);
                let given = Given {
                    floor: shown_by(floor, &mut running.shown),
                    guarded: self.meta.guarded_to(),
                    time: &(self.floors.oracle(), clock),
                    held: &held,
                    bugs: self.record_bugs,
                };
                evaluate(&*snapshot, &region, &command, &given)?
            }
            // The region is led otherwise than when it was asked for.
            None => Err(KvError::StaleCommand),
        };
        let led = Led { term, version: region.epoch.version };
        self.on_decision(id, Some(command), decision, led, clock.now());
        Ok(())
    }

    /// `command` is the command, if it is not with those that run.
    fn on_decision(
        &mut self,
        id: CommandId,
        command: Option<Box<TxnCommand>>,
        decision: Result<Decision, KvError>,
        led: Led,
        now: MonoTime,
    ) {
        let Decision { write, reply, held, only_reserves } = match decision {
            Ok(decision) => decision,
            Err(error) => return self.wait_or_end(id, command, error, led, now),
        };
        let Some(item) = write else { return self.end(id, Ok(reply)) };
        if matches!(item, WriteItem::Changes(_) | WriteItem::RemoveEnded { .. }) {
            self.gc.spend(now, item.size_bytes());
        }
        let touches = self.touches_of(&item);
        if held.is_all && self.absorbs(id, &item, &held.changed, led) {
            self.running.get_mut(&id).expect("a command that decides").touches = touches;
            return self.end(id, Ok(reply));
        }
        if self.bugs.has(SeededBug::WokenBeforeApplied) {
            self.touched.extend(touches.iter().cloned());
        }
        let pipelined = self.pipeline(&item, only_reserves);
        let running = self.running.get_mut(&id).expect("a command that decides");
        (running.touches, running.held, running.pipelined) = (touches, held.changed, pipelined);
        let placeholder = Stage::Viewing(Claim::new(id, Vec::new()));
        running.stage = match std::mem::replace(&mut running.stage, placeholder) {
            Stage::Latching(claim, _) | Stage::Viewing(claim) => Stage::Proposed(claim, reply),
            Stage::Proposed(..) | Stage::Waiting(..) => unreachable!("command {id} decides once"),
        };
        // What is proposed has no deadline: its latches are to be held until it is known what became of it.
        self.deadlines.insert((running.deadline, id));
        let any_term = self.bugs.has(SeededBug::DecidedInAnyTerm);
        self.out.inputs.push(Input::Write {
            token: self.token_base | id,
            region_id: running.region_id,
            epoch: running.epoch,
            item,
            deadline: MonoTime::MAX,
            decided_in: (!any_term).then_some(led.term),
            tells_proposed: running.pipelined.is_some(),
        });
    }

    /// Does what a command has decided in memory, where it has `seen` the locks of these keys, if there is room for it.
    fn absorbs(&self, id: CommandId, item: &WriteItem, seen: &[Key], led: Led) -> bool {
        let WriteItem::OfTxn { start_ts, changes, .. } = item else { return false };
        let (region_id, led) = (self.running[&id].region_id, (led.term, led.version));
        let Reservations { in_memory, limits, .. } = self.reservations;
        in_memory && self.held.absorb(region_id, led, *start_ts, changes, seen, limits).is_ok()
    }

    fn on_answer(&mut self, id: CommandId, answer: Result<KvReply, KvError>) {
        let running = self.running.get_mut(&id).expect("the worker answers each question once");
        let answer = match (&mut running.stage, answer) {
            (Stage::Proposed(_, reply), Ok(_)) => {
                // It is answered by what it decided.
                Ok(std::mem::replace(reply, KvReply::Written))
            }
            (_, answer) => answer,
        };
        self.end(id, answer);
    }

    /// A command is done: its client is answered, and those that wait for its keys go on.
    fn end(&mut self, id: CommandId, answer: Result<KvReply, KvError>) {
        let running = self.running.remove(&id).expect("a command ends once");
        self.deadlines.remove(&(running.deadline, id));
        self.unlatched.remove(&id);
        self.floors.withdraw(self.token_base | id, running.shown);
        let is_done = answer.is_ok();
        if let Some(pipelined) = &running.pipelined {
            self.end_pipelined(pipelined, is_done);
        }
        if !running.held.is_empty() {
            // Where nobody knows, nobody leads any more who holds locks.
            let is_applied = is_done || answer == Err(KvError::UndeterminedResult);
            self.held.settle(running.region_id, &running.held, is_applied);
        }
        if let Some(token) = running.token {
            self.out.replies.push((token, answer));
        }
        self.out.waited.extend(running.waits.map(|(since, _)| self.now.since(since)));
        match running.stage {
            Stage::Latching(claim, _) | Stage::Viewing(claim) | Stage::Proposed(claim, _) => {
                self.let_go(claim)
            }
            Stage::Waiting(..) => self.parked.leave(id),
        }
        if !self.bugs.has(SeededBug::WokenBeforeApplied) {
            // What was refused, or may have been, locks nothing: somebody looks.
            let touches = running.touches.into_iter().map(|(key, by)| (key, by.filter(|_| is_done)));
            self.touched.extend(touches);
        }
    }

    fn let_go(&mut self, claim: Claim) {
        if self.bugs.has(SeededBug::CommandsUnlatched) {
            return;
        }
        for woken in self.latches.release(claim) {
            let running = self.running.get_mut(&woken).expect("whoever waits for a latch runs");
            let Stage::Latching(claim, _) = &mut running.stage else {
                unreachable!("command {woken} waits for a latch")
            };
            if self.latches.acquire(claim) {
                self.latched.push_back(woken);
            }
        }
    }

    /// Tells clients that their time is over.
    fn expire(&mut self, now: MonoTime) {
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let running = self.running.get_mut(&id).expect("only of commands that run");
            match &mut running.stage {
                Stage::Latching(..) => self.end(id, Err(KvError::DeadlineExceeded)),
                Stage::Waiting(_, error) => {
                    let error = error.clone();
                    self.end(id, Err(error));
                }
                Stage::Proposed(claim, _) => {
                    if let Some(token) = running.token.take() {
                        self.out.replies.push((token, Err(KvError::UndeterminedResult)));
                    }
                    if self.bugs.has(SeededBug::LatchesExpire) {
                        let claim = std::mem::replace(claim, Claim::new(id, Vec::new()));
                        self.let_go(claim);
                    }
                }
                Stage::Viewing(_) => unreachable!("command {id} is answered by its worker"),
            }
        }
    }
}

/// True for a step of the removal of what is over, which may have to wait; nothing else does.
const fn removes_what_is_over(command: &TxnCommand) -> bool {
    matches!(command, TxnCommand::Collect { .. } | TxnCommand::CollectExpired { .. })
}

/// Notes what readers are shown, and gives back the floor itself.
fn shown_by(floor: Option<Floor>, shown: &mut Vec<Key>) -> Option<Timestamp> {
    let floor = floor?;
    *shown = floor.shown;
    Some(floor.at)
}
