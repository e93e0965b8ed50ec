//! A worker owns a share of the store's peers and takes a turn at a time.

use crate::apply::{ApplyOutcome, ApplyTask, RegionChange};
use crate::config::Config;
use crate::destroy::tombstone;
use crate::effects::{CreatePeer, Input, Persisted, TurnEffects};
use crate::held::HeldLocks;
use crate::lease::TickTimes;
use crate::liveness::Liveness;
use crate::meta::StoreMeta;
use crate::peer::{Birth, PeerState, Phase, QueuedWrite, Shared, Turn};
use crate::records::{ApplyRecord, LOG_START, PeerState as State, delete_uninitialized};
use crate::recover::{Recovered, RecoveredRegion};
use crate::schedule::{Counted, Schedule};
use crate::seeded_bug::SeededBug;
use engine::Engine;
use raft::{Counters, Ready};
use raft_log::LoadError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use types::{Epoch, MonoTime, Peer, PeerId, RegionId, StoreId};
use wire::kv::KvError;
use wire::store::{DiskState, RaftMessage, StoreMessage};

/// Which worker of `count` owns a region. Ids are handed out in sequence, so the remainder spreads them evenly.
#[must_use]
pub fn worker_of(region_id: RegionId, count: usize) -> usize {
    (region_id.get() % count as u64) as usize
}

/// Which of its store's workers one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerShare {
    /// From zero.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// What a worker counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WorkerStats {
    /// Peers.
    pub regions: u64,
    /// Those that lead.
    pub leaders: u64,
    /// Those that know no leader.
    pub leaderless: u64,
    /// Groups that have stopped because their state contradicts itself.
    pub poisoned: u64,
    /// Those that sleep.
    pub hibernated: u64,
    /// Times that they fell asleep, ever.
    pub sleeps: u64,
    /// Times that they woke because a store that they relied on was lost, ever.
    pub sleeps_lost: u64,
    /// What their groups did.
    pub raft: Counters,
    /// Snapshots put in place, ever.
    pub snapshots_installed: u64,
    /// Peers given up because files of their snapshots were lost, ever.
    pub peers_lost: u64,
    /// Peers that were visited because something of theirs was due, ever.
    pub visits: u64,
    /// Entries of clients proposed by this worker's leaders, ever: other proposals are their own.
    pub proposals: u64,
    /// Writes of clients in them, ever.
    pub writes: u64,
    /// Reads that took a round with the quorum, ever.
    pub read_index: u64,
    /// Splits applied, ever.
    pub splits: u64,
}

impl WorkerStats {
    /// Adds what another worker has counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            regions,
            leaders,
            leaderless,
            poisoned,
            hibernated,
            sleeps,
            sleeps_lost,
            raft,
            snapshots_installed,
            peers_lost,
            visits,
            proposals,
            writes,
            read_index,
            splits,
        } = other;
        self.regions += regions;
        self.leaders += leaders;
        self.leaderless += leaderless;
        self.poisoned += poisoned;
        self.hibernated += hibernated;
        self.sleeps += sleeps;
        self.sleeps_lost += sleeps_lost;
        self.raft.add(raft);
        self.snapshots_installed += snapshots_installed;
        self.peers_lost += peers_lost;
        self.visits += visits;
        self.proposals += proposals;
        self.writes += writes;
        self.read_index += read_index;
        self.splits += splits;
    }
}

/// A share of the store's peers. Owned by one thread at a time; all that happens to a peer happens in its turns.
pub struct Worker<E: Engine> {
    pub(crate) shared: Arc<Shared<E>>,
    share: WorkerShare,
    pub(crate) peers: BTreeMap<RegionId, Box<PeerState<E>>>,
    /// Votes for children whose split is not applied here yet.
    pub(crate) held_votes: BTreeMap<RegionId, RaftMessage>,
    /// Ticks since the start.
    pub(crate) ticks: u64,
    tick_times: TickTimes,
    next_tick: MonoTime,
    next_log_gc: MonoTime,
    turns: u64,
    schedule: Schedule,
    /// Regions whose effects are to be handed out.
    dirty: BTreeSet<RegionId>,
    /// Tombstones for peers that never came here, until they are durable: turn, region, peer.
    entombing: VecDeque<(u64, RegionId, PeerId)>,
    /// Log tasks that are not durable yet: turn, bytes, since when.
    unpersisted: VecDeque<(u64, usize, MonoTime)>,
    unpersisted_bytes: usize,
    unapplied_bytes: u64,
    disks: Arc<BTreeMap<StoreId, DiskState>>,
    /// Between turns; see [`Turn::ready`].
    ready: Ready,
    /// Between turns; see [`Turn::counters`].
    counters: Option<Box<Counters>>,
    /// Between turns; see [`Turn::liveness`].
    liveness: Liveness,
    stats: WorkerStats,
}

impl<E: Engine> Worker<E> {
    /// Without peers. `seed` must differ from start to start of the process: others tell lives apart by it.
    #[must_use]
    pub fn new(
        config: Config,
        store_id: StoreId,
        share: WorkerShare,
        engine: E,
        meta: Arc<StoreMeta>,
        held: Arc<HeldLocks>,
        seed: u64,
    ) -> Self {
        Self {
            share,
            shared: Arc::new(Shared { config, store_id, engine, meta, held, seed }),
            peers: BTreeMap::new(),
            held_votes: BTreeMap::new(),
            ticks: 0,
            tick_times: TickTimes::default(),
            next_tick: MonoTime::ZERO,
            next_log_gc: MonoTime::ZERO,
            turns: 0,
            schedule: Schedule::default(),
            dirty: BTreeSet::new(),
            entombing: VecDeque::new(),
            unpersisted: VecDeque::new(),
            unpersisted_bytes: 0,
            unapplied_bytes: 0,
            disks: Arc::default(),
            ready: Ready::default(),
            counters: Some(Box::default()),
            liveness: Liveness::default(),
            stats: WorkerStats::default(),
        }
    }

    /// Takes up its share of the peers that were found on disk, before the first turn. Returns what they ask for.
    ///
    /// # Errors
    /// [`LoadError`]: a group's log has lost durable state, or the engine cannot be read.
    pub fn resume(&mut self, now: MonoTime, recovered: &Recovered) -> Result<TurnEffects<E>, LoadError> {
        self.shared.meta.guard(recovered.guarded);
        let mut peers = Vec::new();
        let is_ours = |region_id| worker_of(region_id, self.share.count) == self.share.index;
        let regions = recovered.regions.iter().filter(|region| is_ours(region.record.region.id));
        for RecoveredRegion { record, apply } in regions {
            // A peer that has a log, however short, may have spoken to others before.
            let birth = match has_log(&self.shared.engine, record.region.id)? {
                true => Birth::Resumed,
                false => Birth::Newborn,
            };
            peers.push((record, PeerState::load(&self.shared, record, *apply, birth, self.ticks)?));
        }
        let mut waiting = Vec::new();
        for peer in recovered.uninitialized.iter().filter(|peer| is_ours(peer.region_id)) {
            let me = Peer::learner(peer.peer_id, self.shared.store_id);
            waiting.push(PeerState::uninitialized(&self.shared, peer.region_id, me, self.ticks)?);
        }
        let mut turn = self.begin(now);
        for peer in waiting {
            let claimed = self.shared.meta.claim_uninitialized(peer.region.id, peer.me.id);
            assert!(claimed, "region {}: nothing was applied yet that could make it", peer.region.id);
            self.insert_peer(&mut turn, peer);
        }
        for (record, mut peer) in peers {
            self.shared.meta.replace(None, std::slice::from_ref(&record.region));
            match &record.state {
                State::Applying { files } => peer.resume_install(&mut turn, files),
                // Its removal was applied, and then the process ended before the peer was cleared away.
                _ if record.region.peer(record.peer_id).is_none() => peer.begin_destroy(&mut turn, None),
                _ => turn.out.apply.push(peer.registration()),
            }
            self.insert_peer(&mut turn, peer);
        }
        self.dirty.extend(turn.dirty.drain(..));
        self.campaign_alone(&mut turn);
        Ok(self.finish(turn))
    }

    /// A group of one need not wait for anybody.
    fn campaign_alone(&mut self, turn: &mut Turn<E>) {
        for peer in self.peers.values_mut() {
            if peer.region.peers.len() == 1 && peer.votes() && peer.is_normal() {
                // Refused when a change of members is in the log: then the timeout decides.
                let _later = peer.drive(turn, |peer, _| peer.raft.campaign()).is_err();
            }
        }
    }

    /// Takes a turn: advances the clocks, steps what has arrived, hands out what follows. `now` must have been read
    /// after the last of the inputs arrived.
    pub fn turn(&mut self, now: MonoTime, inputs: &mut Vec<Input>) -> TurnEffects<E> {
        let mut turn = self.begin(now);
        let ticks_before = self.ticks;
        if now >= self.next_tick && !self.shared.config.bugs.has(SeededBug::MissedTicksCount) {
            self.tick(&mut turn);
        }
        for input in inputs.drain(..) {
            self.step(&mut turn, input);
        }
        if now >= self.next_tick && self.shared.config.bugs.has(SeededBug::MissedTicksCount) {
            let missed = now.since(self.next_tick).as_nanos() / self.shared.config.tick.as_nanos();
            for _ in 0..=missed {
                self.tick(&mut turn);
            }
        }
        if self.ticks != ticks_before {
            self.watch(&mut turn);
        }
        self.dirty.extend(turn.dirty.drain(..));
        self.hand_out(&mut turn);
        self.finish(turn)
    }

    /// When the next turn is due even if nothing arrives.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        self.next_tick
    }

    /// What the worker has counted.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        let raft = self.counters.as_deref().copied().unwrap_or_default();
        let Liveness { sleeps, losses: sleeps_lost, .. } = self.liveness;
        WorkerStats { regions: self.peers.len() as u64, sleeps, sleeps_lost, raft, ..self.stats }
    }

    /// True while the log has made no progress for a maximum election timeout.
    #[must_use]
    pub fn is_stalled(&self, now: MonoTime) -> bool {
        self.unpersisted
            .front()
            .is_some_and(|(_, _, since)| now.since(*since) > self.shared.config.election_timeout_max())
    }

    /// The groups that have stopped because their state contradicts itself, each with the reason.
    #[must_use]
    pub fn poisoned(&self) -> Vec<(RegionId, String)> {
        let reason = |peer: &PeerState<E>| peer.raft.poisoned().map(str::to_owned);
        self.peers.iter().filter_map(|(id, peer)| Some((*id, reason(peer)?))).collect()
    }

    /// How each group is, for people and checkers.
    pub fn visit(&self, visit: &mut dyn FnMut(&types::Region, raft::Status, types::LogIndex)) {
        for peer in self.peers.values() {
            visit(&peer.region, peer.raft.status(), peer.applying.applied.index);
        }
    }

    /// Bytes of log entries that its groups keep in memory.
    #[must_use]
    pub fn cached_bytes(&self) -> u64 {
        self.peers.values().map(|peer| peer.raft.storage().cache().size_bytes()).sum()
    }

    /// Checks what must always hold.
    ///
    /// # Errors
    /// What does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        if !self.schedule.agrees_with(self.peers.values().map(|peer| &**peer)) {
            return Err("the schedule and the peers disagree on what is due".to_owned());
        }
        let mut relied_on = BTreeMap::new();
        for (id, peer) in &self.peers {
            peer.check_sleep()?;
            for store in peer.relies_on() {
                *relied_on.entry(*store).or_insert(0) += 1;
            }
            peer.raft.check_invariants().map_err(|error| format!("region {id}: {error}"))?;
            let status = peer.raft.status();
            if peer.is_normal() && peer.applying.applied.index > status.persisted {
                return Err(format!(
                    "INV-RAFT-7: region {id} applied {} beyond what is durable, {}",
                    peer.applying.applied.index, status.persisted
                ));
            }
        }
        if relied_on != *self.liveness.relied_on() {
            let counted = self.liveness.relied_on();
            return Err(format!("peers rely on {relied_on:?}, but {counted:?} is counted"));
        }
        Ok(())
    }

    fn begin(&mut self, now: MonoTime) -> Turn<E> {
        Turn {
            now,
            ticks: self.ticks,
            shared: self.shared.clone(),
            out: TurnEffects::default(),
            stalled: self.is_stalled(now),
            disks: self.disks.clone(),
            dirty: Vec::new(),
            ready: std::mem::take(&mut self.ready),
            counters: self.counters.take(),
            liveness: std::mem::take(&mut self.liveness),
        }
    }

    fn step(&mut self, turn: &mut Turn<E>, input: Input) {
        match input {
            Input::Message(message) => self.on_message(turn, message),
            Input::Write { token, region_id, epoch, item, deadline, decided_in, tells_proposed } => {
                self.with_peer_or_refuse(turn, region_id, token, |peer, turn| {
                    let decided_in = decided_in.map(|term| (epoch.version, term));
                    let write = QueuedWrite { token, item, deadline, decided_in, tells_proposed };
                    peer.queue_write(turn, epoch, write);
                });
            }
            Input::Read(request) => {
                self.stats.read_index += 1;
                self.with_peer_or_refuse(turn, request.region_id, request.token, |peer, turn| {
                    peer.read(turn, request)
                });
            }
            Input::Split { token, region_id, epoch, keys, deadline } => {
                self.with_peer_or_refuse(turn, region_id, token, |peer, turn| {
                    peer.request_split(turn, epoch, keys, Some((token, deadline)));
                });
            }
            Input::TransferLeader { token, region_id, epoch, to_store } => {
                self.with_peer_or_refuse(turn, region_id, token, |peer, turn| {
                    peer.request_transfer(turn, epoch, to_store, token);
                });
            }
            Input::CompactLog { token, region_id, epoch, deadline } => {
                self.with_peer_or_refuse(turn, region_id, token, |peer, turn| {
                    peer.request_compaction(turn, epoch, token, deadline);
                });
            }
            Input::Persisted(persisted) => self.on_persisted(turn, persisted),
            Input::Applied(outcomes) => self.on_applied(turn, outcomes),
            Input::EntriesFetched { region_id, request, entries } => {
                self.with_peer(turn, region_id, |peer, _| peer.on_entries_fetched(&request, entries));
            }
            Input::SnapshotBuilt { region_id, to, snapshot } => self.with_peer(turn, region_id, |peer, _| {
                if let Some(snapshot) = snapshot {
                    peer.raft.storage_mut().offer_snapshot(to, snapshot);
                }
            }),
            Input::SnapshotSent { region_id, to, ok } => {
                self.with_peer(turn, region_id, |peer, _| peer.raft.report_snapshot(to, ok));
            }
            Input::SnapshotReceived(received) => self.on_snapshot_received(turn, *received),
            Input::Ingested { region_id } => {
                self.stats.snapshots_installed += 1;
                self.with_peer(turn, region_id, PeerState::finish_install);
            }
            Input::FilesLost { region_id } => {
                self.stats.peers_lost += 1;
                self.with_peer(turn, region_id, PeerState::fail_install);
            }
            Input::SplitChecked { region_id, epoch, size_bytes, keys, split_keys } => {
                self.with_peer(turn, region_id, |peer, turn| {
                    peer.on_split_checked(turn, epoch, (size_bytes, keys), split_keys);
                });
            }
            Input::SplitIds { region_id, ids } => {
                self.with_peer(turn, region_id, |peer, turn| peer.on_split_ids(turn, ids));
            }
            Input::Instruction(instruction) => self.with_peer(turn, instruction.region_id, |peer, turn| {
                peer.on_instruction(turn, &instruction);
            }),
            Input::Unreachable(store_id) => {
                // Of those that sleep, who relies on the store learns soon enough whether it is lost.
                for (id, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.is_asleep()) {
                    if peer.drive(turn, |peer, _| peer.on_unreachable(store_id)) {
                        turn.dirty.push(*id);
                    }
                }
            }
            Input::DiskOf(store_id, state) => {
                if turn.disk(store_id) != state {
                    Arc::make_mut(&mut self.disks).insert(store_id, state);
                    turn.disks = self.disks.clone();
                }
            }
            Input::StayAwake => {
                turn.liveness.sleepless = true;
                for peer in self.peers.values_mut() {
                    peer.wake_up(turn, raft::Wake::Local);
                }
            }
            Input::CreatePeer(create) => self.on_create(turn, *create),
        }
    }

    fn with_peer(
        &mut self,
        turn: &mut Turn<E>,
        id: RegionId,
        act: impl FnOnce(&mut PeerState<E>, &mut Turn<E>),
    ) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.drive(turn, act);
            turn.dirty.push(id);
        }
    }

    /// A peer begins its life here.
    pub(crate) fn insert_peer(&mut self, turn: &mut Turn<E>, peer: PeerState<E>) {
        let id = peer.region.id;
        turn.dirty.push(id);
        let before = self.peers.insert(id, Box::new(peer));
        assert!(before.is_none(), "INV-STORE-9: region {id} is here already");
    }

    fn with_peer_or_refuse(
        &mut self,
        turn: &mut Turn<E>,
        region_id: RegionId,
        token: u64,
        act: impl FnOnce(&mut PeerState<E>, &mut Turn<E>),
    ) {
        match self.peers.get_mut(&region_id).filter(|peer| peer.is_initialized()) {
            Some(peer) => {
                peer.drive(turn, act);
                turn.dirty.push(region_id);
            }
            None => turn.answer(token, Err(KvError::RegionNotFound { region_id })),
        }
    }

    fn on_persisted(&mut self, turn: &mut Turn<E>, persisted: Persisted) {
        while let Some((_, bytes, _)) =
            self.unpersisted.pop_front_if(|(number, ..)| *number <= persisted.turn)
        {
            self.unpersisted_bytes -= bytes;
        }
        while let Some((_, region_id, peer_id)) =
            self.entombing.pop_front_if(|(number, ..)| *number <= persisted.turn)
        {
            self.shared.meta.end_removal(region_id, peer_id);
        }
        for (id, token) in persisted.tokens {
            self.with_peer(turn, id, |peer, _| peer.on_persisted(token, persisted.times));
            if self.peers.get(&id).is_some_and(|peer| peer.can_give_way()) {
                self.give_way(turn, id);
            }
        }
        for id in persisted.installed {
            self.with_peer(turn, id, PeerState::on_installed);
            let done = self.peers.get(&id).is_some_and(|peer| !peer.is_installing());
            self.stats.snapshots_installed += u64::from(done);
        }
        for id in persisted.destroyed {
            if self.peers.get(&id).is_some_and(|peer| matches!(peer.phase, Phase::Destroying(_))) {
                let gone = self.take_out(id);
                self.held_votes.remove(&id);
                self.shared.meta.remove(id);
                self.shared.meta.end_uninitialized(id);
                self.shared.meta.end_removal(id, gone.me.id);
                // One whose snapshot could not be put in place kept the snapshot's range until now.
                self.shared.meta.release(id);
            }
        }
    }

    fn on_applied(&mut self, turn: &mut Turn<E>, outcomes: Vec<ApplyOutcome>) {
        for outcome in outcomes {
            self.unapplied_bytes = self.unapplied_bytes.saturating_sub(outcome.bytes_applied);
            let (stopped, splits) = (outcome.stopped, outcome.changes.iter().any(is_split));
            self.stats.splits += u64::from(splits);
            self.with_peer(turn, outcome.region_id, |peer, turn| {
                peer.on_applied(turn, outcome);
                match (&peer.phase, stopped) {
                    (Phase::Installing(_), true) => peer.write_install(turn),
                    (Phase::Destroying(_), true) => peer.write_destroy(turn),
                    _ => {}
                }
            });
        }
    }

    fn on_create(&mut self, turn: &mut Turn<E>, create: CreatePeer) {
        let region_id = create.record.region.id;
        let Some(before) = self.peers.get_mut(&region_id) else {
            return self.make_child(turn, create, Birth::Newborn);
        };
        assert!(
            before.is_normal() && !before.is_initialized() && before.me.id <= create.record.peer_id,
            "INV-STORE-1: region {region_id} exists before its split"
        );
        before.phase = Phase::GivesWay(Box::new(create));
        if before.can_give_way() {
            self.give_way(turn, region_id);
        }
    }

    /// A peer that had got nothing makes room for the one that a split has made in its region.
    fn give_way(&mut self, turn: &mut Turn<E>, region_id: RegionId) {
        let before = self.take_out(region_id);
        let Phase::GivesWay(create) = before.phase else { unreachable!("asked before") };
        self.shared.meta.end_uninitialized(region_id);
        delete_uninitialized(&mut turn.log().batch, region_id);
        // It may have answered others: so it owes them silence, as after a restart.
        self.make_child(turn, *create, Birth::Resumed);
    }

    /// Takes a peer out of all that the worker keeps about it.
    fn take_out(&mut self, region_id: RegionId) -> Box<PeerState<E>> {
        let mut gone = self.peers.remove(&region_id).expect("seen by whoever takes it out");
        self.schedule.clear(&mut gone);
        gone.counted.replace(Counted::default(), &mut self.stats);
        gone
    }

    fn make_child(&mut self, turn: &mut Turn<E>, create: CreatePeer, birth: Birth) {
        let CreatePeer { record, campaign, size_bytes, keys, locks } = create;
        let region_id = record.region.id;
        let apply = ApplyRecord { applied: LOG_START, truncated: LOG_START };
        let peer = PeerState::load(&self.shared, &record, apply, birth, self.ticks);
        let mut peer = peer.expect("a region that a split just made has no log that could be broken");
        (peer.size.bytes, peer.size.keys) = (size_bytes, keys);
        peer.holding.inherited = locks;
        // That is a guess: it is measured as soon as it leads.
        peer.size.measure_at = Some(turn.now);
        turn.out.apply.push(peer.registration());
        if campaign {
            // Refused only if it cannot win: then the timeout decides.
            let _later = peer.drive(turn, |peer, _| peer.raft.campaign()).is_err();
        }
        self.insert_peer(turn, peer);
        self.shared.meta.end_birth(region_id);
        if let Some(vote) = self.held_votes.remove(&region_id) {
            self.on_message(turn, StoreMessage::Raft(vote));
        }
    }

    /// Adds to the turn what its regions ask for, as far as there is room for it.
    fn hand_out(&mut self, turn: &mut Turn<E>) {
        let config = &self.shared.config;
        let has_credit = self.unpersisted_bytes < config.unpersisted_bytes_max
            && self.unapplied_bytes < config.unapplied_bytes_max;
        let mut snapshot = None;
        let mut later = BTreeSet::new();
        for id in std::mem::take(&mut self.dirty) {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let slept = peer.is_asleep();
            if !slept {
                peer.catch_up(self.ticks);
                if has_credit {
                    let before = peer.proposals.len();
                    self.stats.writes += peer.queued.len() as u64;
                    peer.drive(turn, PeerState::propose_writes);
                    self.stats.proposals += peer.proposals.len().saturating_sub(before) as u64;
                    peer.drive(turn, PeerState::hand_out);
                }
                peer.renew_lease(turn, &self.tick_times);
                peer.release_reads(turn, &mut snapshot);
            }
            if has_credit {
                peer.settle_down(turn);
            }
            if peer.is_asleep() && !slept {
                // Its timers stand still.
                self.schedule.clear(peer);
            }
            if !has_credit || (peer.is_normal() && peer.raft.has_ready()) {
                later.insert(id);
            }
            let counted = peer.counted();
            peer.counted.replace(counted, &mut self.stats);
            let due = peer.next_due(turn);
            self.schedule.set(peer, due);
        }
        // Who has just been woken is due again at once.
        later.extend(turn.dirty.drain(..));
        self.dirty = later;
    }

    fn finish(&mut self, mut turn: Turn<E>) -> TurnEffects<E> {
        let applied: u64 = turn.out.apply.iter().map(apply_bytes).sum();
        self.unapplied_bytes += applied;
        if !turn.out.log.is_empty() {
            self.turns += 1;
            turn.out.log.persisted.turn = self.turns;
            let bytes = turn.out.log.batch.size_bytes();
            self.unpersisted.push_back((self.turns, bytes, turn.now));
            self.unpersisted_bytes += bytes;
        }
        (self.ready, self.liveness) = (turn.ready, turn.liveness);
        self.counters = turn.counters;
        assert!(self.counters.is_some(), "whoever was lent the counters has given them back");
        turn.out
    }

    /// Adds a tombstone for a peer that never came here to the turn's writes. A later peer of the region may be here.
    pub(crate) fn entomb(&mut self, turn: &mut Turn<E>, region_id: RegionId, epoch: Epoch, peer_id: PeerId) {
        let bugs = self.shared.config.bugs;
        tombstone(&mut turn.log().batch, region_id, epoch, peer_id, bugs);
        turn.log().must_sync = true;
        // The turn's number, which it gets at its end because there is something to write.
        self.entombing.push_back((self.turns + 1, region_id, peer_id));
    }

    /// True if another turn would hand out more at once.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        let config = &self.shared.config;
        !self.dirty.is_empty()
            && self.unpersisted_bytes < config.unpersisted_bytes_max
            && self.unapplied_bytes < config.unapplied_bytes_max
    }

    fn tick(&mut self, turn: &mut Turn<E>) {
        // One tick a turn: time that was missed never counts against what has arrived meanwhile, and ticks never come
        // faster than the clock allows.
        self.next_tick = turn.now + self.shared.config.tick;
        self.ticks += 1;
        turn.ticks = self.ticks;
        self.tick_times.push(self.ticks, turn.now);
        while let Some(id) = self.schedule.pop(self.ticks) {
            let peer = self.peers.get_mut(&id).expect("a peer that goes is taken out of the schedule");
            peer.due_at = None;
            self.stats.visits += 1;
            if peer.is_asleep() {
                peer.look_up(turn);
                if peer.is_asleep() {
                    let due = peer.next_due(turn);
                    self.schedule.set(peer, due);
                    continue;
                }
            }
            peer.drive(turn, PeerState::on_tick);
            // Its effects are taken, and it is put down for its next visit, at the end of the turn.
            self.dirty.insert(id);
        }
        if self.ticks.is_multiple_of(u64::from(self.shared.config.heartbeat_ticks)) && !turn.stalled {
            self.say_alive(turn);
        }
        if turn.now >= self.next_log_gc {
            self.next_log_gc = turn.now + self.shared.config.log_gc_interval;
            let leaders = self.peers.iter_mut().filter(|(_, peer)| peer.is_leader() && !peer.is_asleep());
            for (id, peer) in leaders {
                peer.drive(turn, |peer, turn| peer.compact_log(turn));
                if peer.raft.has_ready() {
                    self.dirty.insert(*id);
                }
            }
        }
    }
}

impl<E: Engine> Worker<E> {
    /// Tells those who rely on this worker that it is at work. One whose log is stuck does not say so.
    fn say_alive(&self, turn: &mut Turn<E>) {
        let number = |number: usize| u32::try_from(number).expect("workers are few");
        let (worker, workers) = (number(self.share.index), number(self.share.count));
        let timeout = u64::from(self.shared.config.election_ticks);
        for (to, relies) in turn.liveness.audience(self.ticks, timeout) {
            let (from_store, incarnation) = (self.shared.store_id, self.shared.seed);
            let alive = StoreMessage::Alive { from_store, worker, workers, incarnation, relies };
            turn.out.messages.push((to, alive));
        }
    }

    /// Looks for stores that are lost, once all that has arrived was heard.
    fn watch(&mut self, turn: &mut Turn<E>) {
        let timeout = u64::from(self.shared.config.election_ticks);
        for store_id in turn.liveness.newly_lost(self.ticks, timeout) {
            self.rouse(turn, store_id);
        }
    }

    /// Regions that sleep in reliance on a store are looked at soon, though not all at once.
    pub(crate) fn rouse(&mut self, turn: &Turn<E>, store_id: StoreId) {
        for peer in self.peers.values_mut().filter(|peer| peer.relies_on().contains(&store_id)) {
            let at = peer.wake_tick(turn);
            self.schedule.set(peer, Some(at));
        }
    }
}

fn is_split(change: &RegionChange) -> bool {
    matches!(change, RegionChange::Split { .. })
}

pub(crate) fn apply_bytes(task: &ApplyTask) -> u64 {
    match task {
        ApplyTask::Entries { entries, .. } => entries.iter().map(raft::Entry::size_bytes).sum(),
        _ => 0,
    }
}

fn has_log<E: Engine>(engine: &E, region_id: RegionId) -> Result<bool, LoadError> {
    Ok(engine.get(engine::Cf::Raft, &raft_log::keys::state(region_id))?.is_some())
}
