//! A store's process.

mod joining;
mod log;
mod reader;
mod threads;

use crate::check::{Broken, ends_with_its_disk};
use crate::cluster::{DiskStock, LeaseView, Node, RegionView, World};
use crate::disk::DiskHurt;
use crate::frame::{frame, kind_of, payload_of};
use crate::kernel::{CrashKind, NodeId};
use crate::network::ConnectionId;
use crate::nodes::alarm::Alarm;
use crate::nodes::audit::audit;
use crate::nodes::pd_calls::PdCalls;
use crate::nodes::sight::{Sight, leases};
use crate::nodes::snapshots::{Sent, Transfers};
use crate::nodes::{Moment, SeededBug, StoreLinks, Thread, crash_engine};
use crate::observer::Observer;
use crate::time::SimTime;
use ::store::{Actor, Config, DiskAge, Effect, Event, Join, Merged, PdCall, Store, read_age, read_ident};
use codec::frame::Frame;
use engine::{MemEngine, WriteBatch};
use env::{Dice, SplitMix};
use log::LogStep;
use parking_lot::Mutex;
use raft::Role;
use raftstore::{PeerState, Token, all_regions};
use reader::{Reader, Waiting};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use threads::Threads;
use types::{MonoTime, RegionId, StoreId};
use wire::FrameKind;
use wire::kv::{KvError, KvReply, KvResponse};
use wire::store::{DiskState, SnapshotPiece, SnapshotVerdict, StoreBatch, StoreMessage};

/// Where stores are: what each of them learns from the placement driver in the product.
pub type AddressBook = Arc<Mutex<BTreeMap<StoreId, NodeId>>>;

/// Wake-up: an actor may run, or go on.
const RUN: u64 = 0;
/// Wake-up: a deadline of the store, of a call to the placement driver, or of the next attempt to join.
const TIMER: u64 = 1;
/// Wake-up: the log writer looks for work.
const LOG_BEGIN: u64 = 2;
/// Wake-up: the log writer's sync has ended.
const LOG_END: u64 = 3;
/// Wake-up: pieces of snapshots may leave.
const PIECES: u64 = 4;

/// How long after a request's deadline its answer may take: workers look for what has expired at every tick, and a
/// thread that stalls may keep one from it.
const ANSWER_DELAY_MAX: Duration = Duration::from_secs(5);

/// What the placement driver is asked for.
enum Purpose {
    Join,
    Call(Box<PdCall>),
}

#[expect(clippy::large_enum_variant, reason = "one of each store, which is mostly running")]
enum Phase {
    /// Between two attempts, or at one.
    Joining(Option<Join<MemEngine>>),
    Running(Store<MemEngine>),
}

/// A request that is not answered.
struct Asked {
    connection: ConnectionId,
    request_id: u64,
    /// If it reads: which region, and when it arrived in true time, for checkers.
    read: Option<(RegionId, (SimTime, MonoTime))>,
}

/// What lives as long as the process.
struct Process {
    phase: Phase,
    join_at: MonoTime,
    calls: PdCalls<Purpose>,
    /// Something ran that may have handed work to the log writer.
    log_may_have_work: bool,
    reader: Reader,
    /// A thread that does not run, until when.
    stalled: Option<(Thread, MonoTime)>,
    /// Its appliers are among those that are behind now and then.
    lags: bool,
    /// Those that are, until when.
    behind: BTreeMap<Thread, MonoTime>,
    /// Threads that do not run until somebody says so.
    held: BTreeSet<Thread>,
    /// What the actors are at.
    threads: Threads,
    /// What the log writer is at.
    log: Option<LogStep>,
    /// What was written since that began, if the log writer takes it for a part of that.
    log_joined: Vec<Merged>,
    transfers: Transfers,
    run: Alarm,
    timer: Alarm,
    log_begin: Alarm,
    pieces: Alarm,
    /// Peers last seen on the connections that messages leave on.
    links: BTreeMap<ConnectionId, StoreId>,
}

impl Process {
    /// True if the thread does not run.
    fn is_still(&self, thread: Thread, now: MonoTime) -> bool {
        self.held.contains(&thread)
            || self.behind.get(&thread).is_some_and(|until| *until > now)
            || (self.stalled.is_some_and(|(_, until)| until > now) && self.is_hit(thread))
    }

    /// True if it is the thread that stalls.
    fn is_hit(&self, thread: Thread) -> bool {
        match (self.stalled, thread) {
            (Some((Thread::Runs(one), _)), Thread::Runs(other)) => self.threads.is_shared(one, other),
            (Some((hit, _)), thread) => hit == thread,
            (None, _) => false,
        }
    }

    /// Now and then a thread is the last to run for a while.
    fn may_stall(&mut self, world: &mut World<'_>, thread: Thread, (one_in, most): (u64, Duration)) {
        if one_in > 0 && self.stalled.is_none() && !world.is_healed() && world.dice().chance(1, one_in) {
            let duration = world.dice().duration(Duration::ZERO, most);
            world.note(|| format!("{thread:?} stalls for {duration:?}"));
            self.stalled = Some((thread, world.mono() + duration));
            self.on_still(world, thread);
        }
    }

    /// Now and then an applier of a process that lags is behind for a while.
    fn may_lag(&mut self, world: &mut World<'_>, thread: Thread, links: &StoreLinks) {
        if self.lags && !world.is_healed() && world.dice().chance(1, links.lag_one_in) {
            let duration = world.dice().duration(Duration::ZERO, links.lag_max);
            world.note(|| format!("{thread:?} is behind for {duration:?}"));
            self.behind.insert(thread, world.mono() + duration);
        }
    }

    /// When a thread that has work and stands still goes on by itself.
    fn goes_on_at(&self, wanted: &[Thread]) -> Option<MonoTime> {
        let stalled = self.stalled.filter(|_| wanted.iter().any(|thread| self.is_hit(*thread)));
        let behind = wanted.iter().filter_map(|thread| self.behind.get(thread).copied());
        stalled.map(|(_, until)| until).into_iter().chain(behind).min()
    }

    fn on_still(&mut self, world: &World<'_>, thread: Thread) {
        if thread == Thread::Reader {
            self.reader.stops(world.mono());
        }
    }
}

/// A store's process with its disk.
pub struct StoreNode {
    engine: MemEngine,
    config: Config,
    links: StoreLinks,
    book: AddressBook,
    pd_members: Vec<NodeId>,
    bug: Option<SeededBug>,
    process: Option<Process>,
    sight: Sight,
    /// Why the process ends by itself.
    stops: Option<String>,
    /// How it judges the space on its disk.
    space: DiskState,
    /// Disks that were taken away from it, the latest one last.
    shelf: Vec<MemEngine>,
    /// It was told to begin with an empty disk.
    is_to_be_wiped: bool,
    /// What its disk held at some time, and how far it was.
    image: Option<(MemEngine, DiskAge)>,
    /// Its disk is such an image, of a time before something that the store has said.
    is_restored: bool,
}

impl StoreNode {
    /// A store with an empty disk.
    #[must_use]
    pub fn new(
        config: Config,
        links: StoreLinks,
        book: AddressBook,
        pd_members: Vec<NodeId>,
        bug: Option<SeededBug>,
    ) -> Self {
        let sight = Sight::new(config.raftstore.lease);
        Self {
            engine: MemEngine::new(),
            config,
            links,
            book,
            pd_members,
            bug,
            process: None,
            sight,
            stops: None,
            space: DiskState::Ok,
            shelf: Vec::new(),
            is_to_be_wiped: false,
            image: None,
            is_restored: false,
        }
    }

    /// After a failure of its disk a store's process ends, before anything else leaves it.
    fn survive<T, E: Display>(&mut self, result: Result<T, E>) -> Option<T> {
        let runs_on = self.has_bug(SeededBug::RunsOnAfterFailure);
        let failed = |error: E| {
            if !runs_on {
                self.stops.get_or_insert_with(|| error.to_string());
            }
        };
        result.map_err(failed).ok()
    }

    /// Puts the disk away and another one in its place. An image of an earlier time is of no use to anybody.
    fn change_disk(&mut self, other: MemEngine) {
        let old = std::mem::replace(&mut self.engine, other);
        if !std::mem::take(&mut self.is_restored) {
            self.shelf.push(old);
        }
    }

    /// Its disk.
    #[must_use]
    pub const fn engine(&self) -> &MemEngine {
        &self.engine
    }

    /// How often a thread stalls, and for how long at most: through several elections.
    fn stalls(&self) -> (u64, Duration) {
        (self.links.stall_one_in, self.config.raftstore.tick * 30)
    }

    fn has_bug(&self, bug: SeededBug) -> bool {
        self.bug.is_some_and(|planted| planted.has(bug))
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it is up")
    }

    fn event(&mut self, world: &mut World<'_>, event: Event) {
        self.event_at(world.mono(), event);
    }

    fn event_at(&mut self, now: MonoTime, event: Event) {
        if let Phase::Running(store) = &mut self.process().phase {
            let result = store.on_event(&Moment(now), event);
            self.survive(result);
        }
    }

    fn on_sent(&mut self, world: &mut World<'_>, (key, ok): Sent) {
        self.event(world, Event::SnapshotSent { key, ok });
    }

    /// Does what the store asks for, and sees to it that whatever has work runs.
    fn carry_on(&mut self, world: &mut World<'_>) {
        if self.stops.is_some() {
            return;
        }
        let hand_over_max = self.links.hand_over_max;
        let store_id = match &mut self.process().phase {
            Phase::Running(store) => store.store_id(),
            Phase::Joining(join) => {
                let is_idle = join.is_none();
                let join_at = self.process().join_at;
                if is_idle && world.mono() >= join_at {
                    self.begin_join(world);
                }
                let process = self.process();
                let idle_until = if is_idle { join_at } else { MonoTime::MAX };
                let deadline = process.calls.next_deadline().min(idle_until);
                process.timer.set(world, deadline, TIMER);
                return;
            }
        };
        loop {
            let Phase::Running(store) = &mut self.process().phase else { unreachable!("a store runs on") };
            let effects = store.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(world, store_id, effect);
                if self.stops.is_some() {
                    return;
                }
            }
        }
        let process = self.process.as_mut().expect("it is up");
        process.transfers.forget_replies();
        if process.transfers.wants_to_send() {
            process.pieces.soon(world, hand_over_max, PIECES);
        }
        let now = world.mono();
        let wanted = self.wanted(world);
        let process = self.process.as_mut().expect("it is up");
        if wanted.iter().any(|thread| !process.is_still(*thread, now)) {
            process.run.soon(world, hand_over_max, RUN);
        } else if let Some(until) = process.goes_on_at(&wanted) {
            process.run.set(world, until, RUN);
        }
        self.wake_log(world, hand_over_max, LOG_BEGIN);
        let process = self.process.as_mut().expect("it is up");
        let Phase::Running(store) = &process.phase else { unreachable!("a store runs on") };
        // An actor whose time has come is runnable, and was seen to above.
        let deadline =
            if store.next_deadline() > world.mono() { store.next_deadline() } else { MonoTime::MAX };
        process.timer.set(world, deadline.min(process.calls.next_deadline()), TIMER);
    }

    fn carry_out(&mut self, world: &mut World<'_>, store_id: StoreId, effect: Effect<MemEngine>) {
        match effect {
            Effect::Reply { token, answer } => self.answer(world, token, answer),
            Effect::Send { to, messages } => self.send(world, store_id, to, messages),
            Effect::SendSnapshot { to, source } => {
                let to_node = self.book.lock().get(&to).copied();
                match to_node {
                    Some(node) => self.process().transfers.begin(node, source),
                    None => self.on_sent(world, (source.key(), false)),
                }
            }
            Effect::Verdict { reply_to, verdict } => {
                self.process().transfers.send_verdict(world, reply_to, &verdict);
            }
            Effect::AskPd(call) => {
                let request = call.request.clone();
                self.process().calls.ask(world, Purpose::Call(Box::new(call)), request);
            }
        }
    }

    fn answer(&mut self, world: &mut World<'_>, token: Token, answer: Result<KvReply, KvError>) {
        let asked = self.process().reader.tokens.answered(token);
        let Asked { connection, request_id, read } = match asked {
            Ok(asked) => asked,
            Err(broken) => return self.sight.saw(Err(broken)),
        };
        if let (Some((region_id, arrived)), Ok(_)) = (read, &answer) {
            self.sight.answers(region_id, arrived);
        }
        reply(world, connection, request_id, &KvResponse::from(answer));
    }

    fn send(&mut self, world: &mut World<'_>, from_store: StoreId, to: StoreId, messages: Vec<StoreMessage>) {
        if to == from_store {
            // A peer that has replaced another one on its store tells that one to go.
            self.event(world, Event::Messages { from: from_store, disk: self.space, messages });
            return;
        }
        let Some(node) = self.book.lock().get(&to).copied() else { return };
        let batches: Vec<Vec<StoreMessage>> = if self.links.one_by_one {
            messages.into_iter().map(|message| vec![message]).collect()
        } else {
            vec![messages]
        };
        let clock = world.mono();
        for message in batches.iter().flatten() {
            match message {
                StoreMessage::Raft(message) => self.sight.sends(message.region_id, &message.message, clock),
                StoreMessage::RemovedConfirmed { region_id, peer, .. } => {
                    self.sight.confirms(*region_id, peer.id);
                }
                _ => {}
            }
        }
        for messages in batches {
            let batch = StoreBatch { from_store, disk: self.space, messages };
            let frame = frame(FrameKind::StoreBatch, 0, None, &batch);
            if let Some(connection) = world.send(node, self.links.lane, frame) {
                self.process().links.insert(connection, to);
            }
        }
    }

    /// The threads that have something to do.
    fn wanted(&mut self, world: &mut World<'_>) -> Vec<Thread> {
        let Process { phase, threads, reader, .. } = self.process.as_mut().expect("it is up");
        let Phase::Running(store) = phase else { return Vec::new() };
        let actors = threads.runnable(world, store, self.links.threads);
        let reader = reader.has_work().then_some(Thread::Reader);
        actors.into_iter().map(Thread::Runs).chain(reader).collect()
    }

    /// One of the threads that have something to do takes its next step.
    fn run(&mut self, world: &mut World<'_>) {
        let (now, stalls, links) = (world.mono(), self.stalls(), self.links);
        let mut wanted = self.wanted(world);
        let process = self.process.as_mut().expect("it is up");
        process.stalled = process.stalled.filter(|(_, until)| *until > now);
        process.behind.retain(|_, until| *until > now);
        wanted.retain(|thread| !process.is_still(*thread, now));
        if wanted.is_empty() {
            return;
        }
        let thread = wanted[usize::try_from(world.dice().below(wanted.len() as u64)).expect("an index")];
        let Thread::Runs(actor) = thread else { return self.serve_requests(world) };
        world.note(|| format!("runs {actor:?}"));
        let Phase::Running(store) = &mut process.phase else { unreachable!("it was a moment ago") };
        let (engine, sight) = (&self.engine, &mut self.sight);
        let mut applies = |batch: &WriteBatch| sight.applies(batch, engine);
        let mut pauses = || links.pauses(world);
        let result = process.threads.run(store, actor, now, &mut pauses, &mut applies);
        process.log_may_have_work = true;
        process.may_stall(world, thread, stalls);
        if matches!(actor, Actor::Applier(_)) {
            process.may_lag(world, thread, &links);
        }
        self.sight.in_turn = matches!(actor, Actor::Worker(_));
        let has_changed = self.survive(result);
        self.sight.has_changed |= has_changed.unwrap_or(true);
    }
}

fn reply(world: &mut World<'_>, connection: ConnectionId, request_id: u64, response: &KvResponse) {
    world.reply(connection, frame(FrameKind::KvResponse, request_id, None, response));
}

impl Node for StoreNode {
    fn start(&mut self, world: &mut World<'_>) {
        self.process = Some(Process {
            phase: Phase::Joining(None),
            join_at: world.mono(),
            calls: PdCalls::new(self.pd_members.clone()),
            log_may_have_work: true,
            reader: Reader::new(),
            stalled: None,
            lags: self.links.lag_one_in > 0 && world.dice().chance(1, 2),
            behind: BTreeMap::new(),
            held: BTreeSet::new(),
            threads: Threads::default(),
            log: None,
            log_joined: Vec::new(),
            transfers: Transfers::default(),
            run: Alarm::default(),
            timer: Alarm::default(),
            log_begin: Alarm::default(),
            pieces: Alarm::default(),
            links: BTreeMap::new(),
        });
        self.carry_on(world);
    }

    fn arrived(
        &mut self,
        world: &mut World<'_>,
        _from: NodeId,
        connection: Option<ConnectionId>,
        frame: Frame,
    ) {
        match kind_of(&frame) {
            FrameKind::KvRequest => {
                let connection = connection.expect("clients use streams");
                let (arrived, arrived_true) = (world.mono(), world.true_now());
                self.process().reader.arrived(Waiting { connection, frame, arrived, arrived_true });
                if matches!(self.process().phase, Phase::Joining(_)) || !self.links.pauses(world) {
                    self.serve_requests(world);
                }
            }
            FrameKind::StoreBatch => {
                let StoreBatch { from_store, disk, messages } = payload_of(&frame);
                let clock = world.mono();
                for message in &messages {
                    if let StoreMessage::Raft(message) = message {
                        self.sight.hears(message.region_id, &message.message, clock);
                    }
                }
                self.event(world, Event::Messages { from: from_store, disk, messages });
            }
            FrameKind::SnapshotPiece => {
                let piece: SnapshotPiece = payload_of(&frame);
                let connection = connection.expect("snapshots use streams");
                if matches!(self.process().phase, Phase::Running(_)) {
                    let reply_to = self.process().transfers.on_piece(connection, &piece);
                    self.event(world, Event::Piece { reply_to, piece });
                }
            }
            FrameKind::SnapshotVerdict => {
                let verdict: SnapshotVerdict = payload_of(&frame);
                if let Some(sent) = self.process().transfers.on_verdict(&verdict) {
                    self.on_sent(world, sent);
                }
            }
            FrameKind::PdResponse => {
                if let Some(ended) = self.process().calls.on_answer(world, &frame) {
                    self.on_pd_answer(world, ended);
                }
            }
            kind => panic!("no store takes {kind:?}"),
        }
        self.carry_on(world);
    }

    fn disconnected(
        &mut self,
        world: &mut World<'_>,
        _peer: NodeId,
        connection: ConnectionId,
        carried: bool,
    ) {
        for ended in self.process().calls.on_disconnected(world, connection, carried) {
            self.on_pd_answer(world, ended);
        }
        let (sent, arriving) = self.process().transfers.on_disconnected(connection);
        for sent in sent {
            self.on_sent(world, sent);
        }
        for key in arriving {
            self.event(world, Event::PieceLost(key));
        }
        if let Some(store_id) = self.process().links.remove(&connection) {
            self.event(world, Event::Unreachable(store_id));
        }
        self.carry_on(world);
    }

    fn woken(&mut self, world: &mut World<'_>, token: u64) {
        let (now, process) = (world.mono(), self.process());
        let is_due = match token {
            RUN => process.run.rings(now),
            LOG_BEGIN => process.log_begin.rings(now),
            PIECES => process.pieces.rings(now),
            TIMER => process.timer.rings(now),
            _ => true,
        };
        if !is_due {
            return;
        }
        match token {
            RUN => self.run(world),
            LOG_BEGIN => self.run_log(world),
            LOG_END => self.end_sync(world),
            PIECES => {
                let damage_one_in = self.links.damage_one_in;
                let sent = self.process().transfers.send_piece(world, damage_one_in);
                self.survive(sent);
            }
            _ => {
                for ended in self.process().calls.expire(world.mono()) {
                    self.on_pd_answer(world, ended);
                }
            }
        }
        self.carry_on(world);
    }

    fn hold(&mut self, world: &mut World<'_>, thread: Thread, still: bool) {
        world.note(|| format!("{thread:?} {}", if still { "stands still" } else { "goes on" }));
        let process = self.process();
        if still {
            process.held.insert(thread);
            process.on_still(world, thread);
        } else {
            process.held.remove(&thread);
            self.serve_requests(world);
        }
        self.carry_on(world);
    }

    fn lag(&mut self, world: &mut World<'_>, duration: Duration) -> bool {
        let until = world.mono() + duration;
        let appliers = (0..self.config.appliers).map(|number| Thread::Runs(Actor::Applier(number)));
        self.process().behind.extend(appliers.map(|thread| (thread, until)));
        self.carry_on(world);
        true
    }

    fn crash(&mut self, _: CrashKind, dice: &mut SplitMix) {
        self.process = None;
        self.engine = crash_engine(&self.engine, dice);
        self.sight.crashed();
        self.stops = None;
        if std::mem::take(&mut self.is_to_be_wiped) {
            self.change_disk(MemEngine::new());
        }
    }

    fn stops(&mut self) -> Option<String> {
        self.stops.take()
    }

    fn hurt_disk(&mut self, world: &mut World<'_>, hurt: DiskHurt) -> bool {
        match hurt {
            DiskHurt::FailOnce(fault) => self.engine.fail_next(fault),
            DiskHurt::Full(full) => self.engine.set_disk_full(full),
            DiskHurt::Space(state) => {
                self.space = state;
                if self.process.is_some() {
                    self.tell_space(world);
                    self.carry_on(world);
                }
            }
            DiskHurt::Lost => {
                assert!(self.process.is_none(), "a disk is taken away from a machine that is off");
                self.change_disk(MemEngine::new());
            }
            DiskHurt::Imaged => {
                // As a power loss would leave it, but for the loss.
                let image = self.engine.copy_disk(|choices| *choices.start());
                let Ok(age) = read_age(&image) else { return false };
                self.image = Some((image, age));
            }
            DiskHurt::Restored => {
                assert!(self.process.is_none(), "a disk is written over in a machine that is off");
                let Some((image, _)) = self.image.take() else { return false };
                self.change_disk(image);
                self.is_restored = true;
            }
            DiskHurt::Returned => {
                assert!(self.process.is_none(), "a disk is put into a machine that is off");
                let Some(earlier) = self.shelf.pop() else { return false };
                self.change_disk(earlier);
            }
        }
        true
    }

    fn stock(&self) -> DiskStock {
        let ident = |engine| read_ident(engine).expect("no fault was injected").map(|ident| ident.store_id);
        let regions = all_regions(&self.engine).expect("no fault was injected");
        let normal = regions.into_iter().filter(|(record, _)| record.state != PeerState::Tombstone);
        DiskStock {
            store_id: ident(&self.engine),
            regions: normal.map(|(record, _)| record.region).collect(),
            shelved: self.shelf.iter().filter_map(ident).collect(),
            image: self.image.as_ref().and_then(|(image, age)| Some((ident(image)?, *age))),
            serves_as: match &self.process {
                Some(Process { phase: Phase::Running(store), .. }) => Some(store.store_id()),
                _ => None,
            },
        }
    }

    fn regions(&self) -> Vec<RegionView> {
        let Some(Process { phase: Phase::Running(store), .. }) = &self.process else { return Vec::new() };
        let mut leading = BTreeMap::new();
        for worker in store.workers() {
            worker.visit(&mut |region, status, _| {
                leading.insert(region.id, (status.role == Role::Leader).then_some(status.term));
            });
        }
        let regions = all_regions(&self.engine).expect("no fault was injected");
        let normal = regions.into_iter().filter(|(record, _)| record.state == PeerState::Normal);
        normal
            .filter_map(|(record, apply)| {
                Some(RegionView {
                    store_id: store.store_id(),
                    peer_id: record.peer_id,
                    applied: apply?.applied.index,
                    leads_in: leading.get(&record.region.id).copied().flatten(),
                    region: record.region,
                })
            })
            .collect()
    }

    fn all_answered(&self, clock: MonoTime) -> Result<(), Broken> {
        self.process.as_ref().map_or(Ok(()), |process| process.reader.tokens.all_answered(clock))
    }

    fn leases(&self, clock: MonoTime) -> Vec<LeaseView> {
        match &self.process {
            Some(Process { phase: Phase::Running(store), .. }) => leases(store, clock),
            _ => Vec::new(),
        }
    }

    fn audit(&self, observer: &mut Observer) -> Result<(), Broken> {
        match &self.process {
            Some(Process { phase: Phase::Running(store), .. }) => {
                audit(&self.sight, store, &self.engine, observer)
            }
            _ => Ok(()),
        }
    }

    fn observe(&mut self, now: SimTime, clock: MonoTime, observer: &mut Observer) -> Result<(), Broken> {
        ends_with_its_disk(self.engine.poisoned().as_deref())?;
        match &self.process {
            Some(Process { phase: Phase::Running(store), .. }) => {
                self.sight.show(store, &self.engine, (now, clock), observer)
            }
            _ => Ok(()),
        }
    }
}
