//! A simple model of the stores of a cluster: regions, peers and leaders that do as they are told, late, or not at all.
//!
//! It keeps the rules that real stores keep: an instruction with another epoch is refused, nothing commits without a
//! quorum, only learners are removed, and no peer id is ever used twice. It fails the test where the placement driver
//! would harm a region.

use crate::driver::Driver;
use env::{Dice as _, SplitMix};
use pd::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{Epoch, KeyRange, MonoTime, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term};
use wire::pd::{
    Instruction, PdReply, PdRequest, PdResponse, RegionHeartbeat, SplitIds, Step, StoreInfo, StoreStats,
};
use wire::store::DiskState;

const STORE_HEARTBEAT: Duration = Duration::from_secs(3);
const REGION_HEARTBEAT: Duration = Duration::from_secs(10);
/// How long after the loss of its leader a region has another one.
const ELECTION: Duration = Duration::from_secs(2);
/// When a leader counts a silent peer as down.
const PEER_DOWN: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Debug)]
pub(crate) struct ModelStore {
    pub(crate) is_running: bool,
    pub(crate) disk: DiskState,
    pub(crate) is_slow: bool,
    stopped_at: MonoTime,
    next_heartbeat: MonoTime,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelRegion {
    pub(crate) region: Region,
    pub(crate) leader: PeerId,
    term: Term,
    /// When a peer will have all data.
    ready_at: BTreeMap<PeerId, MonoTime>,
    /// When the joint configuration ends.
    joint_until: MonoTime,
    next_heartbeat: MonoTime,
    leaderless_since: Option<MonoTime>,
}

/// Stores and regions, and the placement driver that they report to.
pub(crate) struct Cluster {
    pub(crate) driver: Driver,
    pub(crate) stores: BTreeMap<StoreId, ModelStore>,
    pub(crate) regions: BTreeMap<RegionId, ModelRegion>,
    dice: SplitMix,
    peers_ever: BTreeSet<PeerId>,
    /// Requests whose answers matter: the heartbeats of a store, and splits.
    heartbeats: BTreeSet<u64>,
    splits: BTreeMap<u64, RegionId>,
    /// Instructions on their way to a leader.
    orders: Vec<(MonoTime, Instruction)>,
    /// One message in so many is lost, both ways; zero for none.
    pub(crate) loss: u64,
    /// How many instructions had an effect.
    pub(crate) steps_done: u64,
    /// How many learners were added, by region and store: the same store twice within an hour is a swing.
    moves: Vec<(MonoTime, RegionId, StoreId)>,
}

impl Cluster {
    /// One store with one region, as the bootstrap leaves it.
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let driver = Driver::new(config, 1, seed);
        let mut cluster = Self {
            dice: SplitMix::new(seed).fork("model"),
            driver,
            stores: BTreeMap::new(),
            regions: BTreeMap::new(),
            peers_ever: BTreeSet::new(),
            heartbeats: BTreeSet::new(),
            splits: BTreeMap::new(),
            orders: Vec::new(),
            loss: 0,
            steps_done: 0,
            moves: Vec::new(),
        };
        let first = cluster.ids(3);
        let peer = Peer::voter(PeerId(first + 2), StoreId(first));
        let region = Region {
            id: RegionId(first + 1),
            range: KeyRange::full(),
            epoch: Epoch { conf_ver: 1, version: 1 },
            peers: vec![peer],
        };
        let store = info(StoreId(first));
        let bootstrap = PdRequest::Bootstrap { store, region: region.clone() };
        assert_eq!(cluster.driver.ask(bootstrap), Ok(PdReply::Done));
        cluster.peers_ever.insert(peer.id);
        cluster.add_store(StoreId(first));
        cluster.add_region(region, peer.id, Term(6));
        cluster
    }

    fn ids(&mut self, count: u32) -> u64 {
        match self.driver.ask(PdRequest::AllocateIds { count }) {
            Ok(PdReply::Ids { first }) => first,
            other => panic!("{other:?}"),
        }
    }

    /// Another store joins, empty.
    pub(crate) fn join(&mut self) -> StoreId {
        let id = StoreId(self.ids(1));
        assert_eq!(self.driver.ask(PdRequest::PutStore { store: info(id) }), Ok(PdReply::Done));
        self.add_store(id);
        id
    }

    fn add_store(&mut self, id: StoreId) {
        let store = ModelStore {
            is_running: true,
            disk: DiskState::Ok,
            is_slow: false,
            stopped_at: MonoTime::ZERO,
            next_heartbeat: self.driver.now,
        };
        self.stores.insert(id, store);
    }

    fn add_region(&mut self, region: Region, leader: PeerId, term: Term) {
        let model = ModelRegion {
            leader,
            term,
            ready_at: BTreeMap::new(),
            joint_until: MonoTime::ZERO,
            next_heartbeat: self.driver.now,
            leaderless_since: None,
            region,
        };
        self.regions.insert(model.region.id, model);
    }

    pub(crate) fn stop(&mut self, id: StoreId) {
        let now = self.driver.now;
        let store = self.stores.get_mut(&id).unwrap();
        store.is_running = false;
        store.stopped_at = now;
    }

    pub(crate) fn restart(&mut self, id: StoreId) {
        let now = self.driver.now;
        let store = self.stores.get_mut(&id).unwrap();
        store.is_running = true;
        store.next_heartbeat = now;
    }

    fn runs(&self, id: StoreId) -> bool {
        self.stores.get(&id).is_some_and(|store| store.is_running)
    }

    /// Splits regions in the middle until there are so many.
    pub(crate) fn split_to(&mut self, count: usize) {
        while self.regions.len() < count {
            let widest = self.regions.values().max_by_key(|model| width(&model.region.range)).unwrap();
            let region = widest.region.clone();
            match self.driver.ask(PdRequest::AskSplit { region: region.clone(), count: 1 }) {
                Ok(PdReply::SplitIds(ids)) => self.split(region.id, &ids[0]),
                other => panic!("{other:?}"),
            }
            self.pass(Duration::from_millis(100));
        }
    }

    /// A random region asks for a split; it happens when the answer is there, if nothing has changed since.
    pub(crate) fn ask_split(&mut self) {
        let index = self.dice.below(self.regions.len() as u64) as usize;
        let region = self.regions.values().nth(index).unwrap().region.clone();
        if self.driver.is_running(0) {
            let token = self.driver.send(0, PdRequest::AskSplit { region: region.clone(), count: 1 });
            self.splits.insert(token, region.id);
        }
    }

    fn split(&mut self, id: RegionId, ids: &SplitIds) {
        let now = self.driver.now;
        let parent = self.regions.get_mut(&id).unwrap();
        let middle = middle(&parent.region.range);
        if ids.peer_ids.len() != parent.region.peers.len() || parent.region.is_joint() {
            return;
        }
        parent.region.epoch.version += 1;
        let mut child = parent.region.clone();
        child.id = ids.region_id;
        child.range.start = middle.clone().into();
        parent.region.range.end = middle.into();
        parent.next_heartbeat = now;
        let mut ready_at = BTreeMap::new();
        for (peer, new) in child.peers.iter_mut().zip(&ids.peer_ids) {
            assert!(self.peers_ever.insert(*new), "INV-PD-IDS: peer {new} was there before");
            if let Some(ready) = parent.ready_at.get(&peer.id) {
                ready_at.insert(*new, *ready);
            }
            peer.id = *new;
        }
        let at = parent.region.peers.iter().position(|peer| peer.id == parent.leader).unwrap();
        let leader = child.peers[at].id;
        self.add_region(child, leader, Term(6));
        self.regions.get_mut(&ids.region_id).unwrap().ready_at = ready_at;
    }

    /// Lets time pass for everybody.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.driver.pass(time);
        self.take_answers();
        self.elect();
        self.obey();
        self.report();
        if self.driver.is_running(0) {
            self.driver.turn(0);
        }
        self.take_answers();
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.driver.now + time;
        while self.driver.now < end {
            self.pass(Duration::from_millis(500));
        }
    }

    fn lost(&mut self) -> bool {
        self.loss > 0 && self.dice.chance(1, self.loss)
    }

    fn take_answers(&mut self) {
        for token in std::mem::take(&mut self.heartbeats) {
            match self.driver.answer(token) {
                None => {
                    self.heartbeats.insert(token);
                }
                Some(PdResponse::Ok(PdReply::Instructions(instructions))) => {
                    for instruction in instructions {
                        if !self.lost() {
                            let delay = self.dice.duration(Duration::from_millis(10), Duration::from_secs(3));
                            self.orders.push((self.driver.now + delay, instruction));
                        }
                    }
                }
                Some(_) => {}
            }
        }
        for (token, region) in std::mem::take(&mut self.splits) {
            match self.driver.answer(token) {
                None => {
                    self.splits.insert(token, region);
                }
                Some(PdResponse::Ok(PdReply::SplitIds(ids))) => self.split(region, &ids[0]),
                Some(_) => {}
            }
        }
    }

    /// After a crash of the placement driver nobody answers what was asked before.
    pub(crate) fn forget_requests(&mut self) {
        self.heartbeats.clear();
        self.splits.clear();
    }

    /// Regions whose leader is gone get another one, if a quorum is left; joint configurations end.
    fn elect(&mut self) {
        let now = self.driver.now;
        for id in self.regions.keys().copied().collect::<Vec<_>>() {
            let model = &self.regions[&id];
            let has_quorum = self.has_quorum(&model.region);
            let leader = *model.region.peer(model.leader).expect("the leader is a peer");
            let leads = self.runs(leader.store_id) && has_quorum;
            let successor = model
                .region
                .peers
                .iter()
                .find(|peer| {
                    matches!(peer.role, PeerRole::Voter | PeerRole::IncomingVoter) && self.runs(peer.store_id)
                })
                .map(|peer| peer.id);
            let model = self.regions.get_mut(&id).unwrap();
            if leads {
                model.leaderless_since = None;
                if model.region.is_joint() && now >= model.joint_until {
                    leave_joint(&mut model.region);
                    model.next_heartbeat = now;
                }
                // A leader that has become a learner steps down.
                if model.region.peer(model.leader).unwrap().role != PeerRole::Learner {
                    continue;
                }
            }
            let since = *model.leaderless_since.get_or_insert(now);
            if let Some(successor) = successor.filter(|_| has_quorum && now.since(since) >= ELECTION) {
                model.leader = successor;
                model.term = model.term.next();
                model.next_heartbeat = now;
                model.leaderless_since = None;
            }
        }
    }

    fn has_quorum(&self, region: &Region) -> bool {
        let majority = |roles: [PeerRole; 2]| {
            let voters: Vec<&Peer> = region.peers.iter().filter(|peer| roles.contains(&peer.role)).collect();
            voters.iter().filter(|peer| self.runs(peer.store_id)).count() * 2 > voters.len()
        };
        majority([PeerRole::Voter, PeerRole::IncomingVoter])
            && majority([PeerRole::Voter, PeerRole::DemotingVoter])
    }

    fn report(&mut self) {
        let now = self.driver.now;
        if !self.driver.is_running(0) {
            return;
        }
        let mut due: BTreeMap<StoreId, Vec<RegionHeartbeat>> = BTreeMap::new();
        for model in self.regions.values_mut() {
            let leader = *model.region.peer(model.leader).unwrap();
            let runs = self.stores[&leader.store_id].is_running;
            if !runs || model.leaderless_since.is_some() || now < model.next_heartbeat {
                continue;
            }
            model.next_heartbeat = now + REGION_HEARTBEAT;
            let silent = |peer: &&Peer| !self.stores[&peer.store_id].is_running;
            let down = |peer: &&Peer| now.since(self.stores[&peer.store_id].stopped_at) >= PEER_DOWN;
            let pending = |peer: &&Peer| model.ready_at.get(&peer.id).is_some_and(|ready| *ready > now);
            let ids = |peers: Vec<&Peer>| peers.iter().map(|peer| peer.id).collect::<Vec<PeerId>>();
            let heartbeat = RegionHeartbeat {
                leader,
                term: model.term,
                pending_peers: ids(model.region.peers.iter().filter(|p| pending(p) || silent(p)).collect()),
                down_peers: ids(model.region.peers.iter().filter(|p| silent(p) && down(p)).collect()),
                size_bytes: 64 << 20,
                keys: 1000,
                region: model.region.clone(),
            };
            due.entry(leader.store_id).or_default().push(heartbeat);
        }
        for id in self.stores.keys().copied().collect::<Vec<_>>() {
            let store = self.stores.get_mut(&id).unwrap();
            if store.is_running && now >= store.next_heartbeat {
                store.next_heartbeat = now + STORE_HEARTBEAT;
                let stats = StoreStats {
                    store_id: id,
                    capacity_bytes: 1 << 40,
                    available_bytes: 1 << 39,
                    disk: store.disk,
                    is_slow: store.is_slow,
                    ..StoreStats::default()
                };
                if !self.lost() {
                    self.driver.send(0, PdRequest::StoreHeartbeat { stats });
                }
            }
        }
        for (store_id, regions) in due {
            if !self.lost() {
                let token = self.driver.send(0, PdRequest::RegionHeartbeats { store_id, regions });
                self.heartbeats.insert(token);
            }
        }
    }

    fn obey(&mut self) {
        let now = self.driver.now;
        let (due, later) = self.orders.drain(..).partition(|(at, _)| *at <= now);
        self.orders = later;
        let due: Vec<(MonoTime, Instruction)> = due;
        for (_, instruction) in due {
            self.execute(&instruction);
        }
    }

    fn execute(&mut self, instruction: &Instruction) {
        let now = self.driver.now;
        let Some(model) = self.regions.get(&instruction.region_id) else { return };
        let leader = *model.region.peer(model.leader).unwrap();
        if model.region.epoch != instruction.epoch
            || !self.runs(leader.store_id)
            || model.leaderless_since.is_some()
            || !self.has_quorum(&model.region)
            || model.region.is_joint()
        {
            return;
        }
        let mut changed = model.clone();
        match &instruction.step {
            Step::TransferLeader { to } => {
                let target = changed.region.peer(to.id).expect("the target is a peer at this epoch");
                assert_eq!(target.role, PeerRole::Voter, "leadership goes to a voter");
                if self.runs(target.store_id) && changed.leader != to.id {
                    changed.leader = to.id;
                    changed.term = changed.term.next();
                }
            }
            Step::AddLearner { peer } => {
                if changed.region.peer(peer.id).is_some() {
                    return;
                }
                assert_eq!(peer.role, PeerRole::Learner);
                assert!(
                    changed.region.peer_on(peer.store_id).is_none(),
                    "two peers on one store: {instruction:?}"
                );
                assert!(self.peers_ever.insert(peer.id), "INV-PD-IDS: peer {} was there before", peer.id);
                changed.region.peers.push(*peer);
                changed.region.epoch.conf_ver += 1;
                let copying = self.dice.duration(Duration::from_secs(1), Duration::from_secs(40));
                changed.ready_at.insert(peer.id, now + copying);
                self.moves.push((now, changed.region.id, peer.store_id));
            }
            Step::ChangeRoles { promote, demote } => {
                for id in promote {
                    assert_eq!(changed.region.peer(*id).map(|peer| peer.role), Some(PeerRole::Learner));
                    assert!(
                        changed.ready_at.get(id).is_none_or(|ready| *ready <= now),
                        "{id} has no data yet"
                    );
                }
                for id in demote {
                    assert_eq!(changed.region.peer(*id).map(|peer| peer.role), Some(PeerRole::Voter));
                    if *id == changed.leader {
                        // Leadership came here since the heartbeat; a real leader refuses too.
                        return;
                    }
                }
                let joint = promote.len() + demote.len() > 1;
                for peer in &mut changed.region.peers {
                    if promote.contains(&peer.id) {
                        peer.role = if joint { PeerRole::IncomingVoter } else { PeerRole::Voter };
                    } else if demote.contains(&peer.id) {
                        peer.role = if joint { PeerRole::DemotingVoter } else { PeerRole::Learner };
                    }
                }
                changed.region.epoch.conf_ver += (promote.len() + demote.len()) as u64;
                changed.joint_until =
                    now + self.dice.duration(Duration::from_millis(50), Duration::from_secs(5));
                assert!(
                    self.is_safe(&model.region, &changed.region),
                    "INV-PD-QUORUM: {instruction:?} on {model:?}"
                );
                if !self.has_quorum(&changed.region) {
                    // A store stopped meanwhile; the leader's own check refuses.
                    return;
                }
            }
            Step::RemoveLearner { peer_id } => {
                let Some(peer) = changed.region.peer(*peer_id) else { return };
                assert_eq!(peer.role, PeerRole::Learner, "a voter is removed as a learner: {instruction:?}");
                changed.region.peers.retain(|peer| peer.id != *peer_id);
                changed.region.epoch.conf_ver += 1;
            }
        }
        changed.next_heartbeat = now;
        self.steps_done += 1;
        self.regions.insert(changed.region.id, changed);
    }

    /// No change takes a quorum away. What stopped less than the disconnect time ago the driver cannot know yet.
    fn is_safe(&self, before: &Region, after: &Region) -> bool {
        let seen_running = |peer: &&Peer| {
            let store = &self.stores[&peer.store_id];
            store.is_running || self.driver.now.since(store.stopped_at) < Duration::from_secs(60)
        };
        let lives = |region: &Region, roles: [PeerRole; 2]| {
            let voters: Vec<&Peer> = region.peers.iter().filter(|peer| roles.contains(&peer.role)).collect();
            voters.iter().filter(|peer| seen_running(peer)).count() * 2 > voters.len()
        };
        let had = lives(before, [PeerRole::Voter; 2]);
        !had || (lives(after, [PeerRole::Voter, PeerRole::IncomingVoter])
            && lives(after, [PeerRole::Voter, PeerRole::DemotingVoter]))
    }

    /// Peers and leaders by store.
    pub(crate) fn counts(&self) -> BTreeMap<StoreId, (usize, usize)> {
        let mut counts: BTreeMap<StoreId, (usize, usize)> =
            self.stores.keys().map(|id| (*id, (0, 0))).collect();
        for model in self.regions.values() {
            for peer in &model.region.peers {
                let count = counts.get_mut(&peer.store_id).unwrap();
                count.0 += 1;
                count.1 += usize::from(peer.id == model.leader);
            }
        }
        counts
    }

    /// Every region has so many voters, all on running stores, and no other peers.
    pub(crate) fn is_replicated(&self, copies: usize) -> bool {
        self.regions.values().all(|model| {
            let peers = &model.region.peers;
            peers.len() == copies
                && peers.iter().all(|peer| peer.role == PeerRole::Voter && self.runs(peer.store_id))
        })
    }

    /// How many of the regions put somewhere came back to a store where they had been put less than an hour before.
    pub(crate) fn swings(&self) -> usize {
        let is_swing = |(index, (at, region, store)): (usize, &(MonoTime, RegionId, StoreId))| {
            self.moves[..index].iter().any(|(before, other, there)| {
                other == region && there == store && at.since(*before) < Duration::from_secs(3600)
            })
        };
        self.moves.iter().enumerate().filter(|entry| is_swing(*entry)).count()
    }

    /// How often a region was put somewhere.
    pub(crate) fn moves(&self) -> usize {
        self.moves.len()
    }
}

fn info(id: StoreId) -> StoreInfo {
    StoreInfo { id, address: format!("store-{id}"), ..StoreInfo::default() }
}

fn leave_joint(region: &mut Region) {
    for peer in &mut region.peers {
        match peer.role {
            PeerRole::IncomingVoter => peer.role = PeerRole::Voter,
            PeerRole::DemotingVoter => peer.role = PeerRole::Learner,
            PeerRole::Voter | PeerRole::Learner => {}
        }
    }
    region.epoch.conf_ver += 1;
}

/// Keys are taken as fractions of eight bytes.
fn number(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(bytes)
}

fn ends(range: &KeyRange) -> (u64, u64) {
    (number(&range.start), if range.end.is_empty() { u64::MAX } else { number(&range.end) })
}

fn width(range: &KeyRange) -> u64 {
    let (start, end) = ends(range);
    end - start
}

fn middle(range: &KeyRange) -> Vec<u8> {
    let (start, end) = ends(range);
    (start + (end - start) / 2).to_be_bytes().to_vec()
}
