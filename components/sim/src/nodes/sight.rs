//! What the observers are shown of a store, after each thing that happened to it.
//!
//! Only what the event can have changed is looked at: logs when a sync has ended, data when something was applied,
//! leases always, for they change with time alone.

use crate::check::{
    Applied, Broken, Change, DurableLog, DurableLogs, LeaseRounds, LogChanges, Promise,
    acknowledged_is_durable, applied_grows, commits_in_its_own_term, gone_as_written, leader_is_complete,
    no_campaign_over_a_change, no_lease_before_own_term, no_lease_over_a_change, no_read_over_a_split,
    ranges_are_disjoint,
};
use crate::cluster::LeaseView;
use crate::observer::Observer;
use crate::time::SimTime;
use crate::trace::TraceHash;
use ::store::Store;
use bytes::Bytes;
use codec::{Decode, Encode};
use engine::{Cf, Engine, MemEngine, Op, Snapshot, WriteBatch};
use mvcc::Lock;
use raft::{Body, Entry, EntryId, EntryKind, Message, Role, Status};
use raft_log::keys;
use raftstore::{
    ApplyRecord, Command, Delegate, GcRecord, LOG_START, PeerState, RegionRecord, Worker, WorkerStats,
    WriteItem, all_regions, gc_record_of, guarded_to, put_region, region_record,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::{
    Key, KeyRange, LogIndex, MonoTime, Peer, PeerId, PeerRole, Region, RegionId, Term, Timestamp, escape_key,
};
use wire::kv::WriteOp;

/// What the keys of locks and of newest versions that a batch changes held before.
type Before = BTreeMap<(Cf, Key), Bytes>;

/// What was seen of one store, and what has happened since.
#[derive(Default)]
pub(super) struct Sight {
    /// How long a lease may be.
    lease_max: Duration,
    /// The store has been seen since it started.
    is_known: bool,
    /// Something may have been applied.
    pub(super) has_changed: bool,
    /// It has started, and what it has applied was not looked at yet.
    has_started: bool,
    /// Where the logs begin, by region and peer.
    truncated: BTreeMap<(RegionId, PeerId), LogIndex>,
    /// What was applied, by region and peer, and the region's version then.
    applied: BTreeMap<(RegionId, PeerId), (EntryId, u64)>,
    /// What it leads, as of the last time that an actor ran.
    leaders_now: Vec<(RegionId, Status)>,
    /// The last write of the engine after which what is on the disk was looked at.
    sequence_shown: Option<u64>,
    /// The version of the store-wide table at which its ranges were looked at.
    version_shown: Option<u64>,
    /// Leases that it held, and until when.
    leases: BTreeMap<(RegionId, Term), MonoTime>,
    /// Peers that were here.
    peers: BTreeMap<RegionId, PeerId>,
    /// Peers of which it was just said that they are gone.
    confirmed: Vec<(RegionId, PeerId)>,
    /// What messages have promised that have just left.
    promises: Vec<(RegionId, PeerId, Promise)>,
    /// Reads that have just been answered, with when they arrived, in true time and by the store's clock.
    reads: Vec<(RegionId, SimTime, MonoTime)>,
    /// They were answered by a worker's turn, not by a lease.
    pub(super) in_turn: bool,
    /// Leaders, with what was committed when they were first seen, or has been since and was not looked at: until they
    /// have committed something of their own term.
    leaders: BTreeMap<RegionId, (Term, LogIndex)>,
    /// Batches of the log writer that a power loss may take back.
    unsynced: Vec<WriteBatch>,
    /// Batches that have become durable.
    durable: Vec<WriteBatch>,
    /// Leaders whose logs were to be looked at once they are durable: the term, and what must be there.
    elected: BTreeMap<RegionId, (Term, EntryId)>,
    /// The members that each group counts by, and what was committed when that was first seen: perhaps by others.
    members: BTreeMap<RegionId, (Vec<Peer>, LogIndex)>,
    /// How often its peers fell asleep, and how often that ended by a loss.
    sleeps: (u64, u64),
    /// What its leaders have sent to earn leases, and who has answered.
    rounds: LeaseRounds,
    /// What appliers have written of transactions.
    transactions: Vec<(WriteBatch, Before)>,
    /// How often locks in memory had changed when they were looked at.
    held_changes: u64,
    /// A rule that the store's driver found broken.
    broken: Option<Broken>,
}

impl Sight {
    /// Of a store that has not started.
    pub(super) fn new(lease_max: Duration) -> Self {
        Self { lease_max, has_changed: true, has_started: true, ..Self::default() }
    }

    /// The log writer has written a batch.
    pub(super) fn wrote(&mut self, batch: &WriteBatch) {
        self.unsynced.push(batch.clone());
    }

    /// A sync has ended that began when all batches but the last `later` were written.
    pub(super) fn synced(&mut self, later: usize) {
        let covered = self.unsynced.len() - later;
        self.durable.extend(self.unsynced.drain(..covered));
    }

    /// What was written and not synced, in order.
    pub(super) fn unsynced(&self) -> &[WriteBatch] {
        &self.unsynced
    }

    /// An applier is about to write a batch.
    pub(super) fn applies(&mut self, batch: &WriteBatch, engine: &MemEngine) {
        let (mut is_of_transactions, mut before) = (false, BTreeMap::new());
        let mut records = Vec::new();
        for op in batch.ops() {
            if let Op::Put { cf: Cf::Raft, key, value } = op
                && let Some(region_id) = gc_record_of(key)
            {
                let record = GcRecord::from_bytes(&Bytes::copy_from_slice(value));
                records.push((region_id, record.expect("written by this build")));
            }
            let (Op::Put { cf, key, .. } | Op::Delete { cf, key }) = op else { continue };
            is_of_transactions |= matches!(cf, Cf::Lock | Cf::Write | Cf::Newest);
            if matches!(cf, Cf::Lock | Cf::Newest)
                && let Some(held) = engine.get(cf, key).expect("no fault was injected")
            {
                before.insert((cf, Key::copy_from_slice(key)), held);
            }
        }
        if is_of_transactions || records.iter().any(|(_, record)| record.removed.common > Timestamp(0)) {
            self.transactions.push((batch.clone(), before));
        }
        for (region_id, record) in records {
            self.saw(no_old_locks(batch, engine, region_id, &record));
        }
    }

    /// The store's driver has looked at a rule.
    pub(super) fn saw(&mut self, result: Result<(), Broken>) {
        if let Err(broken) = result {
            self.broken.get_or_insert(broken);
        }
    }

    /// A message of a group leaves, when the store's clock shows `clock`.
    pub(super) fn sends(&mut self, region: RegionId, message: &Message, clock: MonoTime) {
        if let Body::Heartbeat { round, .. } = message.body {
            self.rounds.sends(region, message.term, round, clock);
        }
        self.promises.extend(Promise::of(message).map(|promise| (region, message.from, promise)));
    }

    /// A message of a group has arrived.
    pub(super) fn hears(&mut self, region: RegionId, message: &Message, clock: MonoTime) {
        if let Body::HeartbeatResp { round, .. } = message.body {
            self.rounds.answers(region, message.term, (message.from, round), clock);
        }
    }

    /// Others are told that a peer is gone.
    pub(super) fn confirms(&mut self, region: RegionId, peer: PeerId) {
        self.confirmed.push((region, peer));
    }

    /// A read is answered that has arrived at this time.
    pub(super) fn answers(&mut self, region: RegionId, arrived: (SimTime, MonoTime)) {
        self.reads.push((region, arrived.0, arrived.1));
    }

    /// The process has ended, with or without what was not synced.
    pub(super) fn crashed(&mut self) {
        *self = Self::new(self.lease_max);
    }

    /// Shows a store that runs.
    pub(super) fn show(
        &mut self,
        store: &Store<MemEngine>,
        engine: &MemEngine,
        (now, clock): (SimTime, MonoTime),
        observer: &mut Observer,
    ) -> Result<(), Broken> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let held_changes = store.held().stats().absorbed;
        if std::mem::replace(&mut self.held_changes, held_changes) != held_changes {
            for now in store.held().all() {
                observer.transactions.held(now.key, &now.lock.value);
            }
        }
        for (batch, before) in std::mem::take(&mut self.transactions) {
            let before = |cf, key: &[u8]| before.get(&(cf, Key::copy_from_slice(key))).cloned();
            observer.transactions.applied(&batch, before)?;
        }
        let store_id = store.store_id();
        // Peers change when an actor has run, and at no other time.
        let has_changed = self.has_changed || !self.is_known;
        let wants_all = !self.durable.is_empty() || !self.promises.is_empty() || has_changed;
        let (mut groups, mut candidates) = (BTreeMap::new(), Vec::new());
        if has_changed {
            self.leaders_now.clear();
            self.count_sleeps(store, observer);
        }
        for worker in store.workers().iter().filter(|_| wants_all) {
            if has_changed {
                let broken = |facts| Broken {
                    invariant: "an invariant of the store",
                    facts: format!("store {store_id}: {facts}"),
                };
                worker.check_invariants().map_err(broken)?;
            }
            worker.visit(&mut |region, status, _| {
                match status.role {
                    Role::Leader if has_changed => {
                        self.rounds.leads(region.id, status.term, (status.id, &region.peers), clock);
                        self.leaders_now.push((region.id, status));
                    }
                    Role::Candidate if has_changed => candidates.push((region.id, status)),
                    _ => {}
                }
                groups.insert(region.id, (region.clone(), status));
            });
        }
        let leaders = std::mem::take(&mut self.leaders_now);
        if !std::mem::replace(&mut self.is_known, true) {
            observer.epochs.restarted(store_id);
            observer.disks.insert(store_id, DurableLogs::scan(engine));
            for (region, (_, status)) in &groups {
                self.show_vote(*region, status.id, store, observer)?;
            }
        }
        for (region, status) in leaders.iter().filter(|_| wants_all) {
            self.show_leader(*region, status, (now, engine), observer)?;
        }
        for (region, status) in &candidates {
            no_campaign_over_a_change(*region, status.id, &changes_unapplied(*region, status, engine))?;
        }
        let in_turn = std::mem::take(&mut self.in_turn);
        for (region, arrived, clock) in std::mem::take(&mut self.reads) {
            let Some((_, status)) = leaders.iter().find(|(id, _)| *id == region) else { continue };
            observer.acknowledged.read(region, status.term, arrived.0)?;
            // What the engine holds: the group itself learns later what was applied.
            if let Some((applied, _)) = self.applied.get(&(region, status.id)) {
                observer.acknowledged_log.read(region, status.id, applied.index, arrived.0)?;
            }
            if in_turn {
                no_read_over_a_split(region, status.id, &changes_unapplied(region, status, engine))?;
                self.rounds.confirms(region, status.term, clock)?;
            }
        }
        for (region, peer) in &self.confirmed {
            let record = region_record(engine, *region).expect("no fault was injected");
            gone_as_written(*region, *peer, record.as_ref())?;
        }
        self.show_logs(&groups, store, observer)?;
        for (region, peer, promise) in std::mem::take(&mut self.promises) {
            // What is cleared away as it says its last words is a member of nothing.
            let is_here = groups.get(&region).is_some_and(|(_, status)| status.id == peer);
            let record = region_record(engine, region).expect("no fault was injected");
            if is_here
                && record.is_none_or(|record| record.state != PeerState::Tombstone || record.peer_id < peer)
            {
                promise.is_kept(region, peer, store_id, &observer.disks[&store_id])?;
            }
        }
        self.show_leases(store, engine, &leaders, (now, clock), observer)?;
        self.leaders_now = leaders;
        if wants_all {
            self.show_lives(&groups, store, observer)?;
        }
        if std::mem::take(&mut self.has_changed) {
            let version = store.meta().version();
            if self.version_shown.replace(version) != Some(version) {
                let regions = store.meta().regions();
                let ranges: Vec<_> = regions.into_iter().map(|region| (region.id, region.range)).collect();
                ranges_are_disjoint(store_id, &ranges)?;
            }
            self.show_applied(&groups, store, (now, engine), observer)?;
        }
        Ok(())
    }

    fn count_sleeps(&mut self, store: &Store<MemEngine>, observer: &mut Observer) {
        let add = |sum: (u64, u64), stats: WorkerStats| (sum.0 + stats.sleeps, sum.1 + stats.sleeps_lost);
        let sleeps = store.workers().iter().map(Worker::stats).fold((0, 0), add);
        let before = std::mem::replace(&mut self.sleeps, sleeps);
        observer.told.sleeps += sleeps.0 - before.0;
        observer.told.sleeps_lost += sleeps.1 - before.1;
    }

    fn show_vote(
        &self,
        region: RegionId,
        peer: PeerId,
        store: &Store<MemEngine>,
        observer: &mut Observer,
    ) -> Result<(), Broken> {
        match observer.disks[&store.store_id()].vote(region) {
            Some((term, vote)) => observer.hard_states.durable(peer, term, vote),
            None => Ok(()),
        }
    }

    fn show_leader(
        &mut self,
        region: RegionId,
        status: &Status,
        (now, engine): (SimTime, &MemEngine),
        observer: &mut Observer,
    ) -> Result<(), Broken> {
        self.show_commit(region, status, engine)?;
        if !observer.elections.leader(region, status.term, status.id)? {
            return Ok(());
        }
        // Those who have elected it had promised the lease of no other: there is none any more.
        observer.leases.acknowledges(region, status.term, status.id, now.0);
        let Some(wanted) = observer.committed.before(region, status.term) else { return Ok(()) };
        self.elected.insert(region, (status.term, wanted));
        if status.last.index >= wanted.index {
            // Whether it is the right entry can be seen once it is on the disk.
            return Ok(());
        }
        let log = DurableLog { peer: status.id, term: None, applied: status.last.index };
        leader_is_complete(region, status.term, wanted, log)
    }

    /// A leader commits by counting only what is of its own term (thesis §5.4.2, figure 3.7); what is before that comes
    /// along.
    fn show_commit(&mut self, region: RegionId, status: &Status, engine: &MemEngine) -> Result<(), Broken> {
        let (term, seen) = self.leaders.entry(region).or_insert((status.term, status.committed));
        if *term != status.term {
            (*term, *seen) = (status.term, status.committed);
        }
        if *seen == status.committed {
            return Ok(());
        }
        let entry =
            engine.get(Cf::Raft, &keys::entry(region, status.committed)).expect("no fault was injected");
        // On its way to the log, perhaps: then it is looked at later, with what has come after it.
        let Some(entry) = entry.and_then(|bytes| Entry::from_bytes(&bytes).ok()) else { return Ok(()) };
        // Never equal again: it was looked at.
        *seen = LogIndex(u64::MAX);
        commits_in_its_own_term(region, status.id, status.term, entry.id())
    }

    /// Peers are here, or are here no more.
    fn show_lives(
        &mut self,
        groups: &BTreeMap<RegionId, (Region, Status)>,
        store: &Store<MemEngine>,
        observer: &mut Observer,
    ) -> Result<(), Broken> {
        let store_id = store.store_id();
        self.confirmed.drain(..).for_each(|(_, peer)| observer.lives.is_gone(peer, store_id));
        let peers: BTreeMap<_, _> = groups.iter().map(|(region, (_, status))| (*region, status.id)).collect();
        if peers == self.peers {
            return Ok(());
        }
        for (region, peer) in &self.peers {
            if peers.get(region) != Some(peer) {
                observer.lives.is_gone(*peer, store_id);
            }
        }
        // One that was here may be gone for others already and be cleared away in a moment.
        for (region, peer) in peers.iter().filter(|(region, peer)| self.peers.get(region) != Some(peer)) {
            observer.lives.lives(*region, *peer, store_id)?;
        }
        self.peers = peers;
        Ok(())
    }

    /// What the sync that has ended made durable.
    fn show_logs(
        &mut self,
        groups: &BTreeMap<RegionId, (Region, Status)>,
        store: &Store<MemEngine>,
        observer: &mut Observer,
    ) -> Result<(), Broken> {
        let store_id = store.store_id();
        for batch in std::mem::take(&mut self.durable) {
            let logs = observer.disks.get_mut(&store_id).expect("it was scanned when the store started");
            let LogChanges { states, entries } = logs.write(&batch);
            let peer_of = |region| groups.get(&region).map(|(_, status): &(Region, Status)| status.id);
            for (region, index) in entries {
                // Written and overwritten in one batch, or of a peer that is cleared away by now.
                let (Some(entry), Some(peer)) = (logs.entry(region, index), peer_of(region)) else {
                    continue;
                };
                let before = logs.entry(region, index.prev()).map(|entry| entry.term);
                observer.logs.entry(region, peer, entry.id(), before, checksum(&entry.to_bytes()))?;
            }
            for region in states {
                let Some(peer) = peer_of(region) else { continue };
                self.show_vote(region, peer, store, observer)?;
                let logs = &observer.disks[&store_id];
                if let Some((term, wanted)) = self.elected.get(&region).copied() {
                    let log = logs.log(region, peer, wanted.index);
                    if log.term.is_some() || log.applied >= wanted.index {
                        self.elected.remove(&region);
                        leader_is_complete(region, term, wanted, log)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn show_leases(
        &mut self,
        store: &Store<MemEngine>,
        engine: &MemEngine,
        leaders: &[(RegionId, Status)],
        (now, clock): (SimTime, MonoTime),
        observer: &mut Observer,
    ) -> Result<(), Broken> {
        let mut held = BTreeMap::new();
        for delegate in store.meta().delegates().iter().filter(|delegate| delegate.covers(clock)) {
            let (region, peer_id, term) = (&delegate.region, delegate.peer.id, delegate.term);
            let left = delegate.lease_until().since(clock);
            observer.leases.serves(region.id, term, peer_id, now.0)?;
            if let Some((applied, _)) = self.applied.get(&(region.id, peer_id)) {
                no_lease_before_own_term(region.id, peer_id, *applied, term)?;
            }
            let until = clock + left;
            let before = self.leases.get(&(region.id, term));
            observer.lease_gained |= before.is_none();
            if before.is_none_or(|before| *before < until) {
                self.rounds.extends(region.id, term, until, self.lease_max)?;
            }
            let leader = leaders.iter().find(|(id, status)| *id == region.id && status.term == term);
            if let Some((_, status)) = leader
                && before.is_some_and(|before| *before < until)
            {
                no_lease_over_a_change(region.id, status.id, &changes_unapplied(region.id, status, engine))?;
            }
            held.insert((region.id, term), until);
        }
        let is_leader =
            |(region, term)| leaders.iter().any(|(id, status)| *id == region && status.term == term);
        let expired =
            self.leases.keys().filter(|lease| !held.contains_key(lease) && is_leader(**lease)).count();
        observer.told.leases_expired += expired as u64;
        self.leases = held;
        Ok(())
    }

    /// Compares what was applied with what other stores have applied.
    fn show_applied(
        &mut self,
        groups: &BTreeMap<RegionId, (Region, Status)>,
        store: &Store<MemEngine>,
        (now, engine): (SimTime, &MemEngine),
        observer: &mut Observer,
    ) -> Result<(), Broken> {
        for (id, (region, status)) in groups {
            let known = self.members.get(id).is_some_and(|(peers, _)| *peers == region.peers);
            if !known {
                self.members.insert(*id, (region.peers.clone(), status.committed));
            }
        }
        let sequence = engine.durability().last_sequence;
        if self.sequence_shown.replace(sequence) == Some(sequence) {
            return Ok(());
        }
        readers_look(store, engine)?;
        let has_started = std::mem::take(&mut self.has_started);
        for (record, apply) in all_regions(engine).expect("no fault was injected") {
            let Some(apply) = apply else { continue };
            if record.state != PeerState::Normal || record.region.peers.is_empty() {
                continue;
            }
            let region = &record.region;
            observer.epochs.region(store.store_id(), region)?;
            observer.coverage.region(region);
            let version = region.epoch.version;
            let before = self.applied.insert((region.id, record.peer_id), (apply.applied, version));
            let uncut = before.is_some_and(|(_, before)| before == version);
            let before = before.map(|(applied, _)| applied);
            if before == Some(apply.applied) {
                continue;
            }
            before
                .map_or(Ok(()), |before| applied_grows(region.id, record.peer_id, before, apply.applied))?;
            let truncated = self.truncated.insert((region.id, record.peer_id), apply.truncated.index);
            let is_cut = truncated.is_some_and(|before| before < apply.truncated.index);
            let is_jump = match before {
                Some(before) => before.index < apply.truncated.index,
                // Peers that a split makes begin where every log does.
                None => !has_started && apply.applied.index > LOG_START.index,
            };
            observer.told.snapshots += u64::from(is_jump);
            observer.told.compactions += u64::from(is_cut && !is_jump);
            show_entries((&record, uncut), before, &apply, engine, observer)?;
            let led_in = observer.elections.newest_term(region.id);
            observer.committed.applied(region.id, apply.applied, led_in);
            if let Some((_, status)) = groups.get(&region.id) {
                self.show_acknowledged(region.id, apply.applied, status, now, observer)?;
            }
            let applied = applied_state(engine, region, &apply);
            observer.states.state(region.id, record.peer_id, apply.applied.index, applied)?;
        }
        observer.coverage.shown()
    }

    /// What a leader has applied it has acknowledged to whoever wrote it.
    fn show_acknowledged(
        &self,
        region: RegionId,
        entry: EntryId,
        status: &Status,
        now: SimTime,
        observer: &mut Observer,
    ) -> Result<(), Broken> {
        if status.role == Role::Leader && status.term == entry.term {
            observer.acknowledged.write(region, entry.term, now.0);
            observer.acknowledged_log.applied(region, entry.index, now.0);
        }
        // Another leader counted by other members, perhaps, and so did this one before they changed.
        let Some((members, counted_anew)) = self.members.get(&region) else { return Ok(()) };
        if status.role != Role::Leader || status.term != entry.term || entry.index <= *counted_anew {
            return Ok(());
        }
        for incoming in [true, false] {
            let votes = |role| match role {
                PeerRole::Voter => true,
                PeerRole::IncomingVoter => incoming,
                PeerRole::DemotingVoter => !incoming,
                PeerRole::Learner => false,
            };
            let voters: Vec<_> = members
                .iter()
                .filter(|peer| votes(peer.role))
                .map(|peer| match observer.disks.get(&peer.store_id) {
                    Some(logs) => logs.log(region, peer.id, entry.index),
                    None => DurableLogs::default().log(region, peer.id, entry.index),
                })
                .collect();
            acknowledged_is_durable(region, entry.index, entry.term, &voters)?;
        }
        Ok(())
    }
}

/// The changes that are committed and not applied.
fn changes_unapplied(region: RegionId, status: &Status, engine: &MemEngine) -> Vec<(LogIndex, Change)> {
    let mut changes = Vec::new();
    let mut next = status.applied.next();
    while next <= status.committed {
        let entry = engine.get(Cf::Raft, &keys::entry(region, next)).expect("no fault was injected");
        let entry = entry.and_then(|bytes| Entry::from_bytes(&bytes).ok());
        let change = entry.and_then(|entry| match entry.kind {
            EntryKind::ConfChange => Some(Change::Members),
            EntryKind::Normal => Command::is_split(&entry.data).then_some(Change::Split),
        });
        changes.extend(change.map(|change| (next, change)));
        next = next.next();
    }
    changes
}

/// The entries that were applied since `before`, one by one, as far as they are still there; and whether the region was
/// not cut meanwhile, so that it is known which writes of theirs took effect.
fn show_entries(
    (record, uncut): (&RegionRecord, bool),
    before: Option<EntryId>,
    apply: &ApplyRecord,
    engine: &MemEngine,
    observer: &mut Observer,
) -> Result<(), Broken> {
    let (region, peer) = (record.region.id, record.peer_id);
    let mut next = before.map_or(apply.applied.index, |before| before.index.next());
    if before.is_none() || next <= apply.truncated.index {
        // It was made, has restarted, or took a snapshot over.
        next = apply.applied.index.next();
        observer.applied.start_from(region, peer, apply.applied.index, apply.applied.term)?;
    }
    while next <= apply.applied.index {
        let entry = engine.get(Cf::Raft, &keys::entry(region, next)).expect("no fault was injected");
        let bytes = entry.expect("INV-RAFT-7: what is applied and not compacted is in the log");
        let entry = Entry::from_bytes(&bytes).expect("written by this build");
        let applied = Applied { term: entry.term, checksum: checksum(&bytes) };
        if observer.applied.apply(region, peer, next, applied)? && uncut && observer.writes.is_on() {
            show_writes(&record.region, &entry, observer)?;
        }
        next = next.next();
    }
    Ok(())
}

/// What the entry writes without a condition, if the region is the one that it was proposed for.
fn show_writes(region: &Region, entry: &Entry, observer: &mut Observer) -> Result<(), Broken> {
    if entry.kind != EntryKind::Normal || entry.data.is_empty() {
        return Ok(());
    }
    let items = match Command::from_bytes(&entry.data).expect("written by this build") {
        Command::Write { version, items } if version == region.epoch.version => items,
        _ => return Ok(()),
    };
    for item in items {
        let (WriteItem::Ops(ops) | WriteItem::OpsAt { ops, .. }) = item else { continue };
        for op in ops {
            if let WriteOp::Put { key, value } | WriteOp::PutFor { key, value, .. } = op {
                observer.writes.applied((region.id, entry.index), &key, &value)?;
            }
        }
    }
    Ok(())
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = TraceHash::default();
    hash.fold_bytes(bytes);
    hash.value()
}

/// All that a store holds of a region, as of the entries applied.
pub(super) fn applied_state(engine: &MemEngine, region: &Region, apply: &ApplyRecord) -> Applied {
    let mut hash = TraceHash::default();
    hash.fold_bytes(&region.to_bytes());
    fold_data(engine, &region.range, &mut hash);
    Applied { term: apply.applied.term, checksum: hash.value() }
}

/// Folds all data of a range.
fn fold_data(engine: &MemEngine, range: &KeyRange, hash: &mut TraceHash) {
    let snapshot = engine.snapshot();
    for cf in Cf::DATA {
        hash.fold(cf as u64);
        let mut iterator = snapshot.iter(cf, range);
        let mut found = iterator.seek_to_first();
        while found {
            hash.fold_bytes(iterator.key());
            hash.fold_bytes(iterator.value());
            found = iterator.next();
        }
        iterator.status().expect("no fault was injected");
    }
}

/// The leases by which a store would answer reads if its clock showed `clock`.
pub(super) fn leases(store: &Store<MemEngine>, clock: MonoTime) -> Vec<LeaseView> {
    let valid = store.meta().delegates().into_iter().filter(|delegate| delegate.covers(clock));
    let view = |delegate: Arc<Delegate>| LeaseView {
        store_id: store.store_id(),
        region: delegate.region.clone(),
        peer_id: delegate.peer.id,
        term: delegate.term,
        left: delegate.lease_until().since(clock),
    };
    valid.map(view).collect()
}

/// A region that is there, as it is when the batch has been written: a replica that lags may apply a cut of the region and what
/// came long after it in one batch.
fn region_after(batch: &WriteBatch, engine: &MemEngine, region_id: RegionId) -> Option<RegionRecord> {
    let before = region_record(engine, region_id).expect("no fault was injected")?;
    let mut named = WriteBatch::new();
    put_region(&mut named, &before);
    let Some(Op::Put { key: name, .. }) = named.ops().next() else { unreachable!("a record was put") };
    let written = batch.ops().filter_map(|op| match op {
        Op::Put { cf: Cf::Raft, key, value } if key == name => Some(Bytes::copy_from_slice(value)),
        _ => None,
    });
    let after = written.last().map(|bytes| RegionRecord::from_bytes(&bytes).expect("written by this build"));
    Some(after.unwrap_or(before))
}

/// Whoever reads what a region on the disk may lack looks for its record.
fn readers_look(store: &Store<MemEngine>, engine: &MemEngine) -> Result<(), Broken> {
    let (on_disk, told) = (guarded_to(engine).expect("no fault was injected"), store.meta().guarded_to());
    match on_disk <= told {
        true => Ok(()),
        false => Err(Broken {
            invariant: "INV-TXN-13 (readers look)",
            facts: format!(
                "a region refuses readers up to {on_disk:?}; who reads above {told:?} does not look"
            ),
        }),
    }
}

/// Where versions may go, no lock is left of a transaction that began by then: what became of it may be forgotten.
fn no_old_locks(
    batch: &WriteBatch,
    engine: &MemEngine,
    region_id: RegionId,
    gc: &GcRecord,
) -> Result<(), Broken> {
    let Some(record) = region_after(batch, engine, region_id) else { return Ok(()) };
    let snapshot = engine.snapshot();
    let mut locks: BTreeMap<Key, Bytes> = BTreeMap::new();
    let mut iter = snapshot.iter(Cf::Lock, &record.region.range);
    let mut valid = iter.seek_to_first();
    while valid {
        locks.insert(Key::copy_from_slice(iter.key()), Bytes::copy_from_slice(iter.value()));
        valid = iter.next();
    }
    for op in batch.ops() {
        match op {
            Op::Put { cf: Cf::Lock, key, value } if record.region.range.contains(key) => {
                drop(locks.insert(Key::copy_from_slice(key), Bytes::copy_from_slice(value)));
            }
            Op::Delete { cf: Cf::Lock, key } => drop(locks.remove(key)),
            _ => {}
        }
    }
    for (key, value) in locks {
        let lock = Lock::from_bytes(&value).expect("written by this build");
        let removed_to = gc.removed.of_key(&key);
        if lock.start_ts <= removed_to {
            let (key, start_ts) = (escape_key(&key), lock.start_ts);
            let facts = format!(
                "versions up to {removed_to:?} may go in region {region_id}, and {key} is locked by {start_ts:?}"
            );
            return Err(Broken { invariant: "INV-TXN-14 (no old lock)", facts });
        }
    }
    Ok(())
}
