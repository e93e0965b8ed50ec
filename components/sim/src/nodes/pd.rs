//! A placement driver member's process.

use crate::check::{Broken, ends_with_its_disk};
use crate::client::address_of;
use crate::cluster::{Node, StoresEver, World};
use crate::disk::DiskHurt;
use crate::frame::{frame, kind_of, payload_of};
use crate::kernel::{CrashKind, NodeId};
use crate::network::ConnectionId;
use crate::nodes::alarm::Alarm;
use crate::nodes::{SeededBug, StoreLinks, crash_engine};
use crate::observer::Observer;
use crate::time::SimTime;
use codec::frame::Frame;
use engine::{Engine, MemEngine, SyncTicket};
use env::{Dice, SplitMix};
use pd::{Config, Member, Pd, PdEffects, PdInput, WriteToken};
use raft::{Message, Role};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use types::{Epoch, KeyRange, LogIndex, MonoTime, Peer, PeerId, RegionId, StoreId, Term};
use wire::FrameKind;
use wire::pd::{PdReply, PdResponse, Step, StoreMode};
use wire::store::{DiskState, RaftMessage, StoreBatch, StoreMessage};

/// Wake-up: take a turn.
const RUN: u64 = 0;
/// Wake-up: a deadline.
const TIMER: u64 = 1;
/// Wake-up: a sync has ended.
const SYNC: u64 = 2;

/// The group of the placement driver, where groups are told apart by a region's id.
const PD_GROUP: RegionId = RegionId::ZERO;

/// What a turn has come to. Its next step is what leads to the one below, or ends it.
enum Midway {
    /// The inbox is drained, and the clocks are to be read.
    Drained(Vec<PdInput>),
    /// They are read, and the turn is to be taken.
    Timed(Vec<PdInput>, MonoTime, u64),
    /// It was taken, and its effects are to be let go.
    Stepped(PdEffects),
}

struct Process {
    pd: Pd<MemEngine>,
    inputs: Vec<PdInput>,
    midway: Option<Midway>,
    /// The clocks were read since the member was looked at, for a turn that is taken later.
    is_timed: bool,
    /// The newest term of the group when they were.
    timed_in: Option<Term>,
    tokens: BTreeMap<u64, (ConnectionId, u64)>,
    tokens_made: u64,
    /// Written, in order; with whether a sync must come before the token is handed back.
    written: VecDeque<(WriteToken, bool)>,
    /// The sync under way, and how many of `written` it covers.
    syncing: Option<(SyncTicket, usize)>,
    run: Alarm,
    timer: Alarm,
}

/// A member of the placement driver with its disk.
pub struct PdNode {
    id: PeerId,
    members: Vec<NodeId>,
    config: Config,
    links: StoreLinks,
    bug: Option<SeededBug>,
    engine: MemEngine,
    process: Option<Process>,
    /// Why the process ends by itself.
    stops: Option<String>,
    /// It has handed out timestamps since it was looked at last.
    has_told_time: bool,
    /// How far its state was looked at, and what stores there were.
    seen: (LogIndex, StoresEver),
    /// What was seen broken in what it says.
    broken: Option<Broken>,
}

/// A member's id in its group is that of its node.
fn member_id(node: NodeId) -> PeerId {
    PeerId(u64::from(node.0))
}

fn node_of(id: PeerId) -> NodeId {
    NodeId(u32::try_from(id.get()).expect("members are named by their nodes"))
}

impl PdNode {
    /// The member on `node`, with an empty disk. Members talk to each other as stores do.
    #[must_use]
    pub fn new(
        node: NodeId,
        members: Vec<NodeId>,
        config: Config,
        links: StoreLinks,
        bug: Option<SeededBug>,
    ) -> Self {
        let engine = MemEngine::new();
        Self {
            id: member_id(node),
            members,
            config,
            links,
            bug,
            engine,
            process: None,
            stops: None,
            has_told_time: false,
            seen: (LogIndex::ZERO, StoresEver::new()),
            broken: None,
        }
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it is up")
    }

    /// After a failure of its disk a member's process ends, before anything else leaves it.
    fn survive<T, E: Display>(&mut self, result: Result<T, E>) -> Option<T> {
        let failed = |error: E| {
            self.stops.get_or_insert_with(|| error.to_string());
        };
        result.map_err(failed).ok()
    }

    fn carry_on(&mut self, world: &mut World<'_>) {
        if self.stops.is_some() {
            return;
        }
        let hand_over_max = self.links.hand_over_max;
        let process = self.process();
        // Writes that wait for nothing before them are done.
        while process.syncing.is_none()
            && let Some((token, false)) = process.written.front().copied()
        {
            process.written.pop_front();
            process.inputs.push(PdInput::Persisted(token));
        }
        if process.midway.is_some() || !process.inputs.is_empty() {
            process.run.soon(world, hand_over_max, RUN);
        }
        process.timer.set(world, process.pd.next_deadline(), TIMER);
        if process.syncing.is_none() && !process.written.is_empty() {
            let covered = process.written.len();
            let ticket = self.engine.begin_sync();
            self.process().syncing = Some((ticket, covered));
            world.wake_after_sync(SYNC);
        }
    }

    /// Goes on with the turn, or begins one, until something else may come first or the turn has ended.
    fn run(&mut self, world: &mut World<'_>) {
        loop {
            let process = self.process();
            let next = match process.midway.take() {
                None => Midway::Drained(std::mem::take(&mut process.inputs)),
                Some(Midway::Drained(inputs)) => {
                    process.is_timed = true;
                    Midway::Timed(inputs, world.mono(), world.wall_ms())
                }
                Some(Midway::Timed(inputs, now, wall_ms)) => match self.step(inputs, now, wall_ms) {
                    Some(effects) => Midway::Stepped(effects),
                    None => return,
                },
                Some(Midway::Stepped(effects)) => return self.release(world, effects),
            };
            self.process().midway = Some(next);
            if self.links.pauses(world) {
                return;
            }
        }
    }

    fn step(&mut self, mut inputs: Vec<PdInput>, now: MonoTime, wall_ms: u64) -> Option<PdEffects> {
        let stepped = self.process().pd.step(now, wall_ms, &mut inputs);
        let effects = self.survive(stepped)?;
        self.process().pd.check_invariants();
        for (_, response) in &effects.replies {
            self.look_at(response);
            self.has_told_time |= matches!(response, PdResponse::Ok(PdReply::Timestamp(_)));
        }
        Some(effects)
    }

    fn release(&mut self, world: &mut World<'_>, effects: PdEffects) {
        if let Some(append) = effects.append {
            let written = self.engine.write(&append.batch);
            if self.survive(written).is_none() {
                return;
            }
            let early = self.bug.is_some_and(|bug| bug.has(SeededBug::PdReleasesEarly));
            let must_sync = append.must_sync && !early;
            self.process().written.push_back((append.token, must_sync));
        }
        for message in effects.messages {
            let to = node_of(message.to);
            world.send(to, self.links.lane, self.envelope(message));
        }
        for (token, response) in effects.replies {
            let asked = self.process().tokens.remove(&token);
            let (connection, request_id) = asked.expect("each request is answered once");
            world.reply(connection, frame(FrameKind::PdResponse, request_id, None, &response));
        }
    }

    /// No instruction puts a peer on a store that is to give its peers away.
    fn look_at(&mut self, response: &PdResponse) {
        let PdResponse::Ok(PdReply::Instructions(instructions)) = response else { return };
        for instruction in instructions {
            let Step::AddLearner { peer } = &instruction.step else { continue };
            // What this turn has learned it could not heed.
            let told = self.seen.1.get(&peer.store_id);
            if told.is_some_and(|store| store.is_retired || store.mode == StoreMode::Draining) {
                let facts = format!("{instruction:?}, and its store is {told:?}");
                self.broken =
                    Some(Broken { invariant: "INV-PD-DRAIN (nothing comes where all goes)", facts });
            }
        }
    }

    fn envelope(&self, message: Message) -> Frame {
        let peer = |id: PeerId| Peer::voter(id, StoreId::ZERO);
        let message = RaftMessage {
            region_id: PD_GROUP,
            from: peer(self.id),
            to: peer(message.to),
            epoch: Epoch::default(),
            range: KeyRange::full(),
            message,
        };
        let messages = vec![StoreMessage::Raft(message)];
        let batch = StoreBatch { from_store: StoreId::ZERO, disk: DiskState::Ok, messages };
        frame(FrameKind::StoreBatch, 0, None, &batch)
    }
}

impl Node for PdNode {
    fn start(&mut self, world: &mut World<'_>) {
        let members: Vec<Member> = self
            .members
            .iter()
            .map(|node| Member { id: member_id(*node), address: address_of(*node) })
            .collect();
        let seed = world.dice().next_u64();
        let pd = Pd::open(self.config.clone(), self.engine.clone(), &members, self.id, seed);
        let pd = match pd {
            Ok(pd) => pd,
            Err(error) => {
                assert!(self.engine.poisoned().is_some(), "member {} cannot open: {error}", self.id);
                self.stops.get_or_insert_with(|| error.to_string());
                return;
            }
        };
        self.process = Some(Process {
            pd,
            inputs: Vec::new(),
            midway: None,
            is_timed: false,
            timed_in: None,
            tokens: BTreeMap::new(),
            tokens_made: 0,
            written: VecDeque::new(),
            syncing: None,
            run: Alarm::default(),
            timer: Alarm::default(),
        });
        self.run(world);
        self.carry_on(world);
    }

    fn arrived(
        &mut self,
        world: &mut World<'_>,
        _from: NodeId,
        connection: Option<ConnectionId>,
        frame: Frame,
    ) {
        let process = self.process();
        match kind_of(&frame) {
            FrameKind::PdRequest => {
                process.tokens_made += 1;
                let token = process.tokens_made;
                let connection = connection.expect("requests come on streams");
                process.tokens.insert(token, (connection, frame.head.request_id));
                process.inputs.push(PdInput::Request { token, request: payload_of(&frame) });
            }
            FrameKind::StoreBatch => {
                for message in payload_of::<StoreBatch>(&frame).messages {
                    match message {
                        StoreMessage::Raft(envelope) if envelope.region_id == PD_GROUP => {
                            process.inputs.push(PdInput::Message(envelope.message));
                        }
                        other => panic!("members say nothing but Raft messages of their group: {other:?}"),
                    }
                }
            }
            kind => panic!("no member takes {kind:?}"),
        }
        self.carry_on(world);
    }

    fn disconnected(
        &mut self,
        _world: &mut World<'_>,
        _peer: NodeId,
        _connection: ConnectionId,
        _carried: bool,
    ) {
    }

    fn woken(&mut self, world: &mut World<'_>, token: u64) {
        let now = world.mono();
        match token {
            RUN if !self.process().run.rings(now) => return,
            TIMER if !self.process().timer.rings(now) => return,
            RUN | TIMER => {}
            _ => {
                let (ticket, covered) = self.process().syncing.take().expect("a sync is under way");
                let synced = self.engine.finish_sync(ticket);
                if self.survive(synced).is_none() {
                    return;
                }
                let process = self.process();
                let durable: Vec<_> = process.written.drain(..covered).collect();
                process.inputs.extend(durable.into_iter().map(|(token, _)| PdInput::Persisted(token)));
            }
        }
        if token != SYNC {
            self.run(world);
        }
        self.carry_on(world);
    }

    fn crash(&mut self, _: CrashKind, dice: &mut SplitMix) {
        self.process = None;
        self.engine = crash_engine(&self.engine, dice);
        self.stops = None;
        // What a turn had to say never left, if the turn's write failed.
        (self.has_told_time, self.broken) = (false, None);
    }

    fn stops(&mut self) -> Option<String> {
        self.stops.take()
    }

    fn hurt_disk(&mut self, _world: &mut World<'_>, hurt: DiskHurt) -> bool {
        match hurt {
            DiskHurt::FailOnce(fault) => self.engine.fail_next(fault),
            DiskHurt::Full(full) => self.engine.set_disk_full(full),
            // A member watches no space, and with its disk it would lose its vote: no plan takes it away.
            DiskHurt::Space(_)
            | DiskHurt::Lost
            | DiskHurt::Returned
            | DiskHurt::Imaged
            | DiskHurt::Restored => {
                return false;
            }
        }
        true
    }

    fn audit(&self, observer: &mut Observer) -> Result<(), Broken> {
        let Some(directory) = self.process.as_ref().and_then(|process| process.pd.directory()) else {
            return Ok(());
        };
        directory.check_invariants();
        for info in directory.from_id(RegionId::ZERO) {
            if !observer.epochs.knows(&info.region) {
                let facts = format!("the directory has {:?}, which no store has ever applied", info.region);
                return Err(Broken { invariant: "INV-PD-DIRECTORY (told by stores)", facts });
            }
        }
        Ok(())
    }

    fn stores_ever(&self) -> Option<(LogIndex, StoresEver)> {
        let pd = &self.process.as_ref()?.pd;
        Some((pd.status().applied, pd.stores_ever()))
    }

    fn observe(&mut self, _now: SimTime, _clock: MonoTime, observer: &mut Observer) -> Result<(), Broken> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        ends_with_its_disk(self.engine.poisoned().as_deref())?;
        let status = process.pd.status();
        if std::mem::take(&mut process.is_timed) {
            process.timed_in = Some(observer.elections.newest_term(PD_GROUP));
        }
        // Whoever became leader between the reading of the clock and the turn hands out larger ones.
        let newest = process.timed_in.unwrap_or_default();
        if std::mem::take(&mut self.has_told_time) && newest > status.term {
            let facts =
                format!("member {} hands out timestamps in term {}, after {newest}", status.id, status.term);
            return Err(Broken { invariant: "INV-PD-TSO (told by the newest leader)", facts });
        }
        if status.applied != self.seen.0 {
            self.seen = (status.applied, process.pd.stores_ever());
            observer.stores.saw(status.applied, &self.seen.1)?;
        }
        if status.role == Role::Leader {
            observer.elections.leader(PD_GROUP, status.term, status.id)?;
        }
        Ok(())
    }
}
