//! A few stores and a pretended PD on a perfect network: each protocol of the store once, from end to end.
//!
//! Faults and interleavings are the simulator's; this shows that the parts fit.

use bytes::Bytes;
use engine::{Cf, Engine, MemEngine, Snapshot as _};
use env::Clock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::{Actor, Config, Effect, Event, FORMAT_VERSION, Join, JoinStep, Store, StoreIdent};
use types::{ClusterId, KeyRange, LogIndex, MonoTime, Peer, PeerId, Region, RegionId, StoreId, Timestamp};
use wire::kv::{KvCommand, KvError, KvReply, KvRequest, Scan, WriteOp};
use wire::pd::{Instruction, PdReply, PdRequest, RegionHeartbeat, SplitIds, Step, StoreInfo};
use wire::store::{SnapshotPiece, SnapshotVerdict, StoreMessage};

#[path = "small_cluster/crash_points.rs"]
mod crash_points;
#[path = "small_cluster/held_locks.rs"]
mod held_locks;
#[path = "small_cluster/lock_waits.rs"]
mod lock_waits;
#[path = "small_cluster/pipelined_locks.rs"]
mod pipelined_locks;
#[path = "small_cluster/races.rs"]
mod races;
#[path = "small_cluster/sleep.rs"]
mod sleep;
#[path = "small_cluster/txn.rs"]
mod txn;
#[path = "small_cluster/txn_at_once.rs"]
mod txn_at_once;
#[path = "small_cluster/uninitialized.rs"]
mod uninitialized;

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> MonoTime {
        MonoTime(self.0.load(Ordering::Relaxed))
    }
}

struct Cluster {
    clock: TestClock,
    config: Config,
    engines: BTreeMap<StoreId, MemEngine>,
    stores: BTreeMap<StoreId, Store<MemEngine>>,
    answers: BTreeMap<u64, Result<KvReply, KvError>>,
    next_token: u64,
    next_id: u64,
    regions: BTreeMap<RegionId, RegionHeartbeat>,
    instructions: Vec<Instruction>,
    bootstrapped: bool,
    snapshots: usize,
    /// Messages to and from these stores are lost.
    cut: Vec<StoreId>,
    /// Actors that do not run, whatever they have to do.
    held: Vec<(StoreId, Actor)>,
    /// Logs that write nothing for now.
    held_logs: Vec<StoreId>,
    /// Nobody hears that a removed peer is gone.
    confirmations_lost: bool,
    /// PD does not answer questions about splits, and says so.
    split_ids_refused: bool,
    /// The last timestamp that PD has given; it gives none while this is so.
    last_timestamp: u64,
    timestamps_refused: bool,
    /// Messages to other stores, by their sender.
    sent: BTreeMap<StoreId, usize>,
    /// Stores that have told PD that they are slow.
    slow: Vec<StoreId>,
    /// The pieces of the last snapshot that was sent.
    pieces: Vec<SnapshotPiece>,
    crash: Option<CrashPoint>,
    /// What PD was told of who waits for locks, and the deadlock that it finds in the next report.
    lock_reports: Vec<PdRequest>,
    deadlock: Option<Vec<wire::txn::WaitEdge>>,
}

/// Where a store loses its power, and starts again at once.
struct CrashPoint {
    store_id: StoreId,
    /// After so many of its steps from now on.
    steps_left: usize,
    /// How much of what was not synced survives, in tenths.
    tenths_kept: u64,
}

impl Cluster {
    fn new(stores: usize, config: Config) -> Self {
        let mut cluster = Self {
            clock: TestClock(AtomicU64::new(1)),
            config,
            engines: BTreeMap::new(),
            stores: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_token: 0,
            next_id: 1,
            regions: BTreeMap::new(),
            instructions: Vec::new(),
            bootstrapped: false,
            snapshots: 0,
            cut: Vec::new(),
            held: Vec::new(),
            held_logs: Vec::new(),
            confirmations_lost: false,
            split_ids_refused: false,
            last_timestamp: 1_000,
            timestamps_refused: false,
            sent: BTreeMap::new(),
            slow: Vec::new(),
            pieces: Vec::new(),
            crash: None,
            lock_reports: Vec::new(),
            deadlock: None,
        };
        for _ in 0..stores {
            let engine = MemEngine::new();
            let (mut join, mut step) =
                Join::new(engine.clone(), StoreInfo::default()).expect("an empty disk");
            let ident: StoreIdent = loop {
                match step {
                    JoinStep::Ask(request) => {
                        let answer = cluster.pd(request);
                        step = join.on_answer(Ok(answer)).expect("the disk works");
                    }
                    JoinStep::Joined(ident) => break ident,
                    JoinStep::Refused(why) => panic!("refused: {why}"),
                }
            };
            cluster.engines.insert(ident.store_id, engine);
            cluster.start(ident.store_id);
        }
        cluster
    }

    fn start(&mut self, id: StoreId) {
        let ident = StoreIdent { format_version: FORMAT_VERSION, cluster_id: ClusterId(9), store_id: id };
        let engine = self.engines[&id].clone();
        let seed = self.clock.now().0;
        let store = Store::open(engine, self.config.clone(), ident, seed, self.clock.now()).expect("opens");
        self.stores.insert(id, store);
    }

    /// The store's process ends at once, and so does its machine's power.
    fn crash(&mut self, id: StoreId) {
        self.stores.remove(&id);
        let engine = self.engines[&id].crash(|survivors| *survivors.start());
        self.engines.insert(id, engine);
    }

    /// Counts a step of the store. True if it was the one to crash after; then it has crashed and started again.
    fn crashes_now(&mut self, id: StoreId) -> bool {
        let Some(crash) = self.crash.as_mut().filter(|crash| crash.store_id == id) else { return false };
        if crash.steps_left > 0 {
            crash.steps_left -= 1;
            return false;
        }
        let tenths = crash.tenths_kept;
        self.crash = None;
        self.stores.remove(&id);
        let engine = self.engines[&id]
            .crash(|survivors| survivors.start() + (survivors.end() - survivors.start()) * tenths / 10);
        self.engines.insert(id, engine);
        self.start(id);
        true
    }

    fn pd(&mut self, request: PdRequest) -> PdReply {
        match request {
            PdRequest::GetCluster => {
                PdReply::Cluster { cluster_id: ClusterId(9), bootstrapped: self.bootstrapped }
            }
            PdRequest::AllocateIds { count } => {
                let first = self.next_id;
                self.next_id += u64::from(count);
                PdReply::Ids { first }
            }
            PdRequest::Bootstrap { .. } => {
                self.bootstrapped = true;
                PdReply::Done
            }
            PdRequest::AskSplit { region, count } => {
                let mut ids = Vec::new();
                for _ in 0..count {
                    let region_id = RegionId(self.next_id);
                    self.next_id += 1;
                    let peer_ids = region.peers.iter().map(|_| {
                        self.next_id += 1;
                        PeerId(self.next_id - 1)
                    });
                    ids.push(SplitIds { region_id, peer_ids: peer_ids.collect() });
                }
                PdReply::SplitIds(ids)
            }
            PdRequest::RegionHeartbeats { regions, .. } => {
                for heartbeat in regions {
                    self.regions.insert(heartbeat.region.id, heartbeat);
                }
                PdReply::Instructions(std::mem::take(&mut self.instructions))
            }
            PdRequest::StoreHeartbeat { stats } => {
                self.slow.extend(stats.is_slow.then_some(stats.store_id));
                PdReply::Done
            }
            PdRequest::GetTimestamps { count } => {
                self.last_timestamp += u64::from(count);
                PdReply::Timestamp(Timestamp(self.last_timestamp))
            }
            request @ PdRequest::ReportLockWaits { .. } => self.on_lock_waits(request),
            _ => PdReply::Done,
        }
    }

    /// Runs everything that has something to do until nothing has.
    fn settle(&mut self) {
        loop {
            let now = self.clock.now();
            let mut busy = false;
            let ids: Vec<StoreId> = self.stores.keys().copied().collect();
            for id in ids {
                let store = &self.stores[&id];
                for actor in store.runnable(now) {
                    if self.held.contains(&(id, actor)) {
                        continue;
                    }
                    busy = true;
                    self.stores.get_mut(&id).expect("listed").run(actor, now).expect("the disk works");
                    if self.crashes_now(id) {
                        break;
                    }
                }
                while !self.held_logs.contains(&id)
                    && let Some(merged) = self.stores.get_mut(&id).expect("listed").begin_log()
                {
                    busy = true;
                    self.engines[&id].write(&merged.batch).expect("the disk works");
                    if self.crashes_now(id) {
                        break;
                    }
                    self.engines[&id].sync().expect("the disk works");
                    if self.crashes_now(id) {
                        break;
                    }
                    self.stores.get_mut(&id).expect("listed").finish_log(merged);
                }
                let store = self.stores.get_mut(&id).expect("listed");
                for worker in store.workers() {
                    worker.check_invariants().expect("invariants hold");
                }
                for effect in store.take_effects() {
                    busy = true;
                    self.carry_out(id, effect);
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn carry_out(&mut self, from: StoreId, effect: Effect<MemEngine>) {
        match effect {
            Effect::Reply { token, answer } => {
                assert!(self.answers.insert(token, answer).is_none(), "one answer for each request");
            }
            Effect::Send { to, mut messages } => {
                assert_ne!(from, to, "a store is not asked to send to itself");
                *self.sent.entry(from).or_default() += messages.len();
                let is_confirmation =
                    |message: &StoreMessage| matches!(message, StoreMessage::RemovedConfirmed { .. });
                messages.retain(|message| !(self.confirmations_lost && is_confirmation(message)));
                if self.cut.contains(&from) || self.cut.contains(&to) {
                    return;
                }
                let disk = wire::store::DiskState::Ok;
                self.event(to, Event::Messages { from, disk, messages });
            }
            Effect::SendSnapshot { to, mut source } => {
                self.snapshots += 1;
                self.pieces.clear();
                let key = source.key();
                let mut ok = true;
                while let Some(piece) = source.next_piece().expect("the disk works") {
                    let awaited = !matches!(piece, SnapshotPiece::Chunk { .. });
                    self.pieces.push(piece.clone());
                    self.event(to, Event::Piece { reply_to: 0, piece });
                    if awaited {
                        let effects = self.stores.get_mut(&to).expect("up").take_effects();
                        for effect in effects {
                            match effect {
                                Effect::Verdict { verdict: SnapshotVerdict::Accepted(_), .. } => {}
                                Effect::Verdict { .. } => ok = false,
                                other => self.carry_out(to, other),
                            }
                        }
                    }
                    if !ok {
                        break;
                    }
                }
                self.event(from, Event::SnapshotSent { key, ok });
            }
            Effect::Verdict { .. } => {}
            Effect::AskPd(call) => {
                let refused = match call.request {
                    PdRequest::AskSplit { .. } => self.split_ids_refused,
                    PdRequest::GetTimestamps { .. } => self.timestamps_refused,
                    _ => false,
                };
                let answer = (!refused).then(|| Ok(self.pd(call.request.clone())));
                self.event(from, Event::PdAnswer { call, answer });
            }
        }
    }

    fn event(&mut self, to: StoreId, event: Event) {
        if let Some(store) = self.stores.get_mut(&to) {
            store.on_event(&self.clock, event).expect("the disk works");
        }
    }

    fn clock_now(&self) -> MonoTime {
        self.clock.now()
    }

    fn advance(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            self.settle();
            let step = Duration::from_millis(20);
            self.clock.0.store((self.clock.now() + step).0, Ordering::Relaxed);
        }
        self.settle();
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..600 {
            if done(self) {
                return;
            }
            self.advance(Duration::from_millis(50));
        }
        panic!("never happened: {what}; regions: {:#?}", self.regions);
    }

    /// After a split PD may hear of one piece before it hears of the others.
    fn until_known(&mut self, key: &[u8]) {
        let key = key.to_vec();
        self.until("PD knows the key's region", |c| {
            c.regions.values().any(|h| h.region.range.contains(&key))
        });
    }

    fn region_of(&self, key: &[u8]) -> (Region, Peer) {
        let heartbeat = self.regions.values().filter(|h| h.region.range.contains(key));
        let newest = heartbeat.max_by_key(|h| (h.region.epoch.version, h.term)).expect("PD knows a region");
        (newest.region.clone(), newest.leader)
    }

    /// Asks whoever PD says leads the key's region, following redirections.
    fn call(&mut self, key: &[u8], command: KvCommand) -> Result<KvReply, KvError> {
        self.until_known(key);
        let (mut region, mut leader) = self.region_of(key);
        for _ in 0..100 {
            self.next_token += 1;
            let token = self.next_token;
            let request = KvRequest { region_id: region.id, epoch: region.epoch, command: command.clone() };
            let deadline = self.clock.now() + Duration::from_secs(5);
            self.event(leader.store_id, Event::Request { token, request, deadline });
            self.settle();
            for _ in 0..40 {
                if self.answers.contains_key(&token) {
                    break;
                }
                self.advance(Duration::from_millis(50));
            }
            match self.answers.remove(&token) {
                Some(Err(KvError::NotLeader { leader: Some(other), .. })) => leader = other,
                Some(Err(
                    KvError::NotLeader { .. }
                    | KvError::ServerIsBusy { .. }
                    | KvError::EpochNotMatch { .. }
                    | KvError::RegionNotFound { .. },
                ))
                | None => {
                    self.advance(Duration::from_millis(100));
                    self.until_known(key);
                    (region, leader) = self.region_of(key);
                }
                Some(answer) => return answer,
            }
        }
        panic!("no store answers");
    }

    fn put(&mut self, key: &str, value: &str) {
        let op = WriteOp::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.to_owned().into() };
        assert_eq!(self.call(key.as_bytes(), KvCommand::Write { ops: vec![op] }), Ok(KvReply::Written));
    }

    fn get(&mut self, key: &str) -> Option<String> {
        let command = KvCommand::Get { key: Bytes::copy_from_slice(key.as_bytes()) };
        match self.call(key.as_bytes(), command) {
            Ok(KvReply::Value(value)) => value.map(|v| String::from_utf8(v.to_vec()).expect("text")),
            other => panic!("{other:?}"),
        }
    }

    fn leader_of(&self, key: &[u8]) -> Peer {
        self.region_of(key).1
    }

    /// Adds voters until every store has one, as PD would order it.
    fn replicate(&mut self) {
        let stores: Vec<StoreId> = self.stores.keys().copied().collect();
        self.until("a first leader", |c| !c.regions.is_empty());
        for store_id in stores {
            self.replicate_to(store_id);
        }
    }

    fn replicate_to(&mut self, store_id: StoreId) {
        let (region, _) = self.region_of(b"");
        if region.peer_on(store_id).is_none() {
            let peer = Peer::learner(PeerId(self.next_id), store_id);
            self.next_id += 1;
            self.order(Step::AddLearner { peer });
            self.until("the learner is a member", |c| c.region_of(b"").0.peer(peer.id).is_some());
            self.until("the learner has the data", |c| {
                c.regions[&region.id].pending_peers.is_empty()
                    && c.stores[&store_id].meta().region_count() == 1
            });
            self.order(Step::ChangeRoles { promote: vec![peer.id], demote: Vec::new() });
            self.until("the learner votes", |c| {
                c.region_of(b"").0.peer(peer.id).is_some_and(|p| p.role == types::PeerRole::Voter)
            });
        }
    }

    fn order(&mut self, step: Step) {
        let (region, _) = self.region_of(b"");
        self.instructions.push(Instruction { region_id: region.id, epoch: region.epoch, step });
    }
}

fn config() -> Config {
    let mut config = Config::default();
    // Heartbeats at every tick, so that orders of the pretended PD arrive at once.
    config.raftstore.region_heartbeat_interval = Duration::from_millis(100);
    config
}

#[test]
fn one_store_serves_and_remembers_over_a_power_loss() {
    let mut cluster = Cluster::new(1, config());
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.put("a", "1");
    cluster.put("b", "2");
    assert_eq!(cluster.get("a").as_deref(), Some("1"));
    let id = StoreId(1);
    cluster.crash(id);
    cluster.start(id);
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.get("a").as_deref(), Some("1"));
    assert_eq!(cluster.get("b").as_deref(), Some("2"));
}

#[test]
fn a_second_and_third_store_get_the_data_by_snapshot_and_vote() {
    let mut cluster = Cluster::new(3, config());
    cluster.until("a leader", |c| !c.regions.is_empty());
    cluster.put("a", "1");
    cluster.replicate();
    assert!(cluster.snapshots >= 2);
    cluster.put("b", "2");
    cluster.advance(Duration::from_secs(1));
    for engine in cluster.engines.values() {
        assert_eq!(engine.get(Cf::Default, b"a").expect("readable").as_deref(), Some(&b"1"[..]));
        assert_eq!(engine.get(Cf::Default, b"b").expect("readable").as_deref(), Some(&b"2"[..]));
    }
}

#[test]
fn a_crashed_leader_is_replaced_and_catches_up() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.put("a", "1");
    let old = cluster.leader_of(b"a").store_id;
    cluster.crash(old);
    cluster.until("another leader", |c| c.leader_of(b"a").store_id != old);
    cluster.put("a", "2");
    assert_eq!(cluster.get("a").as_deref(), Some("2"));
    cluster.start(old);
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.engines[&old].get(Cf::Default, b"a").expect("readable").as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_region_splits_and_its_pieces_serve_at_once() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    for key in ["a", "h", "p"] {
        cluster.put(key, key);
    }
    let split = cluster.call(b"a", KvCommand::Split { keys: vec!["g".into(), "n".into()] });
    match split {
        Ok(KvReply::Regions(regions)) => assert_eq!(regions.len(), 3),
        other => panic!("{other:?}"),
    }
    cluster.until("PD knows three regions", |c| c.regions.len() == 3);
    for key in ["a", "h", "p"] {
        assert_eq!(cluster.get(key).as_deref(), Some(key));
        cluster.put(key, "new");
        assert_eq!(cluster.get(key).as_deref(), Some("new"));
    }
    cluster.crash(StoreId(1));
    cluster.start(StoreId(1));
    cluster.advance(Duration::from_secs(4));
    for key in ["a", "h", "p"] {
        assert_eq!(cluster.get(key).as_deref(), Some("new"));
    }
}

#[test]
fn a_region_that_grows_is_cut_by_its_size() {
    let mut config = config();
    config.raftstore.region_split_bytes = 1000;
    let mut cluster = Cluster::new(1, config);
    cluster.until("a leader", |c| !c.regions.is_empty());
    for number in 0..40 {
        cluster.put(&format!("k{number:03}"), &"x".repeat(100));
        cluster.advance(Duration::from_millis(100));
    }
    cluster.until("several regions", |c| c.regions.len() >= 3);
    for number in 0..40 {
        assert_eq!(cluster.get(&format!("k{number:03}")), Some("x".repeat(100)));
    }
}

#[test]
fn leadership_moves_and_the_old_leader_serves_nothing() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.put("a", "1");
    let old = cluster.leader_of(b"a");
    let to = *cluster.stores.keys().find(|id| **id != old.store_id).expect("three stores");
    assert_eq!(cluster.call(b"a", KvCommand::TransferLeader { to_store: to }), Ok(KvReply::Started));
    cluster.until("the other store leads", |c| c.leader_of(b"a").store_id == to);
    assert!(cluster.stores[&old.store_id].meta().delegate(RegionId(2)).is_none());
    cluster.put("a", "2");
    assert_eq!(cluster.get("a").as_deref(), Some("2"));
}

#[test]
fn a_follower_that_missed_a_compacted_log_takes_a_snapshot() {
    let mut config = config();
    config.raftstore.log_gc_entries_max = 20;
    config.raftstore.log_gc_interval = Duration::from_millis(200);
    let mut cluster = Cluster::new(3, config);
    cluster.replicate();
    let leader = cluster.leader_of(b"a").store_id;
    let cut = *cluster.stores.keys().find(|id| **id != leader).expect("three stores");
    cluster.cut = vec![cut];
    for number in 0..60 {
        cluster.put(&format!("k{number}"), "v");
    }
    cluster.advance(Duration::from_secs(1));
    let before = cluster.snapshots;
    cluster.cut.clear();
    let engine = cluster.engines[&cut].clone();
    cluster.until("the follower has the last key", |_| {
        engine.get(Cf::Default, b"k59").expect("readable").is_some()
    });
    assert!(cluster.snapshots > before);
}

/// A log that grows fast is cut as it grows, long before it is looked at by time: what is cut before memtables are flushed
/// costs no files. Only what everybody has goes, so nobody needs a snapshot for it.
#[test]
fn a_busy_log_is_cut_as_it_grows_but_for_what_somebody_lacks() {
    let mut config = config();
    config.raftstore.log_gc_interval = Duration::from_secs(3600);
    config.raftstore.log_gc_bytes_min = 8 << 10;
    let mut cluster = Cluster::new(3, config);
    cluster.replicate();
    let leader = cluster.leader_of(b"a").store_id;
    let held = |cluster: &Cluster| -> usize {
        let (first, end) =
            (raft_log::keys::entry(RegionId(2), LogIndex::ZERO), raft_log::keys::state(RegionId(2)));
        let snapshot = cluster.engines[&leader].snapshot();
        let mut entries = snapshot.iter(Cf::Raft, &KeyRange::new(first.to_vec(), end.to_vec()));
        std::iter::successors(entries.seek_to_first().then_some(()), |()| entries.next().then_some(()))
            .count()
    };
    let value = "v".repeat(1 << 10);
    for number in 0..100 {
        cluster.put(&format!("k{number}"), &value);
    }
    assert!(held(&cluster) < 20, "a hundred were written, {} are held", held(&cluster));
    let cut = *cluster.stores.keys().find(|id| **id != leader).expect("three stores");
    cluster.cut = vec![cut];
    for number in 100..200 {
        cluster.put(&format!("k{number}"), &value);
    }
    assert!(held(&cluster) >= 100, "one lacks a hundred, {} are held", held(&cluster));
    let before = cluster.snapshots;
    cluster.cut.clear();
    let engine = cluster.engines[&cut].clone();
    cluster.until("the follower has the last key", |_| {
        engine.get(Cf::Default, b"k199").expect("readable").is_some()
    });
    assert_eq!(cluster.snapshots, before);
}

/// Logs are never cut by themselves here; one is because somebody wants it, and a follower that was away needs a snapshot.
#[test]
fn a_log_is_cut_on_demand_whoever_lacks_some_of_it() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    let leader = cluster.leader_of(b"a").store_id;
    let cut = *cluster.stores.keys().find(|id| **id != leader).expect("three stores");
    cluster.cut = vec![cut];
    for number in 0..10 {
        cluster.put(&format!("k{number}"), "v");
    }
    let compacted = |cluster: &mut Cluster| match cluster.call(b"a", KvCommand::CompactLog) {
        Ok(KvReply::Compacted { to }) => to,
        other => panic!("{other:?}"),
    };
    let first = compacted(&mut cluster);
    let second = compacted(&mut cluster);
    assert!(first.get() > 15, "all ten writes but the last were forgotten: {first}");
    assert!(second > first, "the compaction before is an entry of its own: {second}");
    let before = cluster.snapshots;
    cluster.cut.clear();
    let engine = cluster.engines[&cut].clone();
    cluster.until("the follower has the last key", |_| {
        engine.get(Cf::Default, b"k9").expect("readable").is_some()
    });
    assert!(cluster.snapshots > before);
    // A follower is not the one to ask.
    let (region, _) = cluster.region_of(b"a");
    let request = KvRequest { region_id: region.id, epoch: region.epoch, command: KvCommand::CompactLog };
    let deadline = cluster.clock.now() + Duration::from_secs(5);
    cluster.event(cut, Event::Request { token: 900, request, deadline });
    cluster.settle();
    assert!(matches!(cluster.answers[&900], Err(KvError::NotLeader { .. })), "{:?}", cluster.answers[&900]);
}

#[test]
fn a_peer_moves_to_another_store_and_is_cleared_away_on_the_old_one() {
    let mut cluster = Cluster::new(4, config());
    cluster.stores.remove(&StoreId(4));
    cluster.replicate();
    cluster.start(StoreId(4));
    cluster.put("a", "1");
    let leader = cluster.leader_of(b"a").store_id;
    let (region, _) = cluster.region_of(b"a");
    let leaving = *region.peers.iter().find(|p| p.store_id != leader).expect("three peers");
    let coming = Peer::learner(PeerId(900), StoreId(4));
    cluster.order(Step::AddLearner { peer: coming });
    cluster.until("the learner is in", |c| c.region_of(b"a").0.peer(coming.id).is_some());
    cluster.until("the learner has the data", |c| c.regions[&region.id].pending_peers.is_empty());
    cluster.order(Step::ChangeRoles { promote: vec![coming.id], demote: vec![leaving.id] });
    cluster.until("roles have changed", |c| {
        let (region, _) = c.region_of(b"a");
        !region.is_joint() && region.peer(leaving.id).is_some_and(|p| p.role == types::PeerRole::Learner)
    });
    cluster.order(Step::RemoveLearner { peer_id: leaving.id });
    cluster.until("the peer is gone", |c| c.stores[&leaving.store_id].meta().region_count() == 0);
    assert_eq!(cluster.engines[&leaving.store_id].get(Cf::Default, b"a").expect("readable"), None);
    cluster.put("a", "2");
    assert_eq!(cluster.get("a").as_deref(), Some("2"));
}

#[test]
fn compare_and_swap_sees_the_writes_before_it_in_the_same_batch() {
    let mut cluster = Cluster::new(1, config());
    cluster.until("a leader", |c| !c.regions.is_empty());
    let (region, leader) = cluster.region_of(b"k");
    let deadline = cluster.clock.now() + Duration::from_secs(5);
    let key = Bytes::from_static(b"k");
    let put = KvCommand::Write { ops: vec![WriteOp::Put { key: key.clone(), value: "1".into() }] };
    let swap =
        KvCommand::CompareAndSwap { key: key.clone(), expected: Some("1".into()), new: Some("2".into()) };
    let late = KvCommand::CompareAndSwap { key, expected: None, new: Some("3".into()) };
    for (token, command) in [(901, put), (902, swap), (903, late)] {
        let request = KvRequest { region_id: region.id, epoch: region.epoch, command };
        cluster.event(leader.store_id, Event::Request { token, request, deadline });
    }
    cluster.settle();
    assert_eq!(cluster.answers[&902], Ok(KvReply::Swapped { succeeded: true, previous: Some("1".into()) }));
    assert_eq!(cluster.answers[&903], Ok(KvReply::Swapped { succeeded: false, previous: Some("2".into()) }));
    assert_eq!(cluster.get("k").as_deref(), Some("2"));
}

#[test]
fn a_scan_is_bounded_and_goes_on_where_it_stopped_in_both_directions() {
    let mut cluster = Cluster::new(1, config());
    cluster.until("a leader", |c| !c.regions.is_empty());
    let keys: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    for key in &keys {
        cluster.put(key, "v");
    }
    for reverse in [false, true] {
        let mut seen = Vec::new();
        let mut range = types::KeyRange::prefix("k");
        loop {
            let scan = Scan { range: range.clone(), limit: 3, reverse, ..Scan::default() };
            let Ok(KvReply::Page { pairs, resume }) = cluster.call(b"k", KvCommand::Scan(scan)) else {
                panic!("a page")
            };
            assert!(pairs.len() <= 3);
            seen.extend(pairs.iter().map(|pair| String::from_utf8(pair.key.to_vec()).expect("text")));
            match resume {
                Some(key) if reverse => range.end = key,
                Some(key) => range.start = key,
                None => break,
            }
        }
        if reverse {
            seen.reverse();
        }
        assert_eq!(seen, keys);
    }
}
