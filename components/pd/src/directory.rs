//! Which regions there are, as their leaders tell: soft state, rebuilt from heartbeats after every start.
//!
//! Invariant (INV-PD-DIRECTORY): the regions held do not overlap, and a key is never answered with a region whose
//! version is lower than one answered before. Regions are found by id, by key and by store, never by a walk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use types::{Epoch, Key, KeyRange, MonoTime, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term};
use wire::pd::{RegionHeartbeat, RegionRoute};

/// A region as its leader described it last.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RegionInfo {
    /// The region.
    pub region: Region,
    /// Its leader.
    pub leader: Peer,
    /// The leader's term.
    pub term: Term,
    /// Peers that lag behind.
    pub pending_peers: Vec<PeerId>,
    /// Peers that do not answer.
    pub down_peers: Vec<PeerId>,
    /// The size of its data, in bytes, about.
    pub size_bytes: u64,
    /// How many keys it holds, about.
    pub keys: u64,
    /// When the leader said so.
    pub heard: MonoTime,
}

impl RegionInfo {
    /// How clients are told of it.
    #[must_use]
    pub fn route(&self) -> RegionRoute {
        RegionRoute {
            region: self.region.clone(),
            leader: Some(self.leader).filter(|leader| !leader.id.is_zero()),
            size_bytes: self.size_bytes,
            pending_peers: self.pending_peers.clone(),
            down_peers: self.down_peers.clone(),
        }
    }

    /// True if the leader counts this peer as lagging or silent.
    #[must_use]
    pub fn is_behind(&self, peer: PeerId) -> bool {
        self.pending_peers.contains(&peer) || self.down_peers.contains(&peer)
    }
}

/// What became of a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing but the time is new.
    Unchanged,
    /// The directory follows it.
    Updated,
    /// Something newer is known, with this epoch. The heartbeat has no effect.
    Stale(Epoch),
    /// It contradicts itself: the range is empty, the leader no peer, or two peers share a store or an id.
    Invalid,
}

/// The regions of one store.
#[derive(Clone, Default, Debug)]
pub struct StoreRegions {
    /// Those with a peer there.
    pub peers: BTreeSet<RegionId>,
    /// Those that it leads.
    pub leaders: BTreeSet<RegionId>,
}

/// How many regions are how well, as their leaders tell.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Health {
    /// Those with a peer that does not answer.
    pub with_down_peers: usize,
    /// Those with a peer that lags behind.
    pub with_pending_peers: usize,
    /// How many there are with so many peers.
    by_peers: BTreeMap<usize, usize>,
}

impl Health {
    /// How many regions have fewer than `replicas` peers, and how many have more.
    #[must_use]
    pub fn off_target(&self, replicas: usize) -> (usize, usize) {
        let more = (Bound::Excluded(replicas), Bound::Unbounded);
        (
            self.by_peers.range(..replicas).map(|(_, count)| count).sum(),
            self.by_peers.range(more).map(|(_, count)| count).sum(),
        )
    }

    fn add(&mut self, info: &RegionInfo) {
        self.with_down_peers += usize::from(!info.down_peers.is_empty());
        self.with_pending_peers += usize::from(!info.pending_peers.is_empty());
        *self.by_peers.entry(info.region.peers.len()).or_default() += 1;
    }

    fn subtract(&mut self, info: &RegionInfo) {
        self.with_down_peers -= usize::from(!info.down_peers.is_empty());
        self.with_pending_peers -= usize::from(!info.pending_peers.is_empty());
        let peers = info.region.peers.len();
        let count = self.by_peers.get_mut(&peers).expect("counted when it came");
        *count -= 1;
        if *count == 0 {
            self.by_peers.remove(&peers);
        }
    }
}

/// All regions known.
#[derive(Clone, Default, Debug)]
pub struct Directory {
    by_id: BTreeMap<RegionId, RegionInfo>,
    by_start: BTreeMap<Key, RegionId>,
    by_store: BTreeMap<StoreId, StoreRegions>,
    /// Invariant: of those in `by_id`.
    health: Health,
}

impl Directory {
    /// Takes a heartbeat in: a newer region replaces the older ones that it overlaps; an older one is refused.
    pub fn heartbeat(&mut self, heartbeat: RegionHeartbeat, now: MonoTime) -> Verdict {
        if !is_valid(&heartbeat) {
            return Verdict::Invalid;
        }
        let mut info = RegionInfo {
            region: heartbeat.region,
            leader: heartbeat.leader,
            term: heartbeat.term,
            pending_peers: heartbeat.pending_peers,
            down_peers: heartbeat.down_peers,
            size_bytes: heartbeat.size_bytes,
            keys: heartbeat.keys,
            heard: now,
        };
        let (id, epoch) = (info.region.id, info.region.epoch);
        if let Some(known) = self.by_id.get_mut(&id) {
            let known_epoch = known.region.epoch;
            if epoch.is_older_than(known_epoch) || (epoch == known_epoch && info.term < known.term) {
                return Verdict::Stale(known_epoch);
            }
            if epoch == known_epoch && info.region != known.region {
                // One epoch, two descriptors: one of them is damaged, and nobody can tell which.
                return Verdict::Invalid;
            }
            if info.term < known.term && info.region.peer(known.leader.id).is_some() {
                // A deposed leader that has applied more than its successor: its description is newer, its claim to
                // lead is not.
                info.leader = known.leader;
                info.term = known.term;
            }
            known.heard = now;
            if *known == info {
                return Verdict::Unchanged;
            }
            if epoch == known_epoch && info.leader == known.leader {
                self.health.subtract(known);
                self.health.add(&info);
                *known = info;
                return Verdict::Updated;
            }
        }
        let overlapped: Vec<RegionId> = self
            .overlapping(&info.region.range)
            .map(|other| other.region.id)
            .filter(|other| *other != id)
            .collect();
        for other in &overlapped {
            let other = self.by_id[other].region.epoch;
            if other.version >= epoch.version {
                return Verdict::Stale(other);
            }
        }
        for other in overlapped {
            self.remove(other);
        }
        self.remove(id);
        self.insert(info);
        Verdict::Updated
    }

    /// The region with this id.
    #[must_use]
    pub fn get(&self, id: RegionId) -> Option<&RegionInfo> {
        self.by_id.get(&id)
    }

    /// The region that holds `key`.
    #[must_use]
    pub fn at(&self, key: &[u8]) -> Option<&RegionInfo> {
        let (_, id) = self.by_start.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        Some(&self.by_id[id]).filter(|info| info.region.range.contains(key))
    }

    /// The region that holds the keys right below `key`; an empty key stands for the end of all keys.
    #[must_use]
    pub fn before(&self, key: &[u8]) -> Option<&RegionInfo> {
        let upper = if key.is_empty() { Bound::Unbounded } else { Bound::Excluded(key) };
        let (_, id) = self.by_start.range::<[u8], _>((Bound::Unbounded, upper)).next_back()?;
        let info = &self.by_id[id];
        let end = &info.region.range.end;
        (end.is_empty() || (!key.is_empty() && &end[..] >= key)).then_some(info)
    }

    /// The regions that overlap `range`, in key order.
    pub fn overlapping<'a>(&'a self, range: &KeyRange) -> impl Iterator<Item = &'a RegionInfo> + use<'a> {
        let range = range.clone();
        // The first candidate may begin before the range.
        let first = self.at(&range.start).map(|info| info.region.range.start.clone());
        let start = first.unwrap_or_else(|| range.start.clone());
        self.by_start
            .range((Bound::Included(start), Bound::Unbounded))
            .map(|(_, id)| &self.by_id[id])
            .take_while(move |info| range.end.is_empty() || info.region.range.start < range.end)
    }

    /// The regions with ids from `id` on, in order of their ids.
    pub fn from_id(&self, id: RegionId) -> impl Iterator<Item = &RegionInfo> {
        self.by_id.range(id..).map(|(_, info)| info)
    }

    /// The regions of a store.
    #[must_use]
    pub fn store(&self, id: StoreId) -> Option<&StoreRegions> {
        self.by_store.get(&id)
    }

    /// How many regions have a peer on a store.
    #[must_use]
    pub fn region_count(&self, id: StoreId) -> usize {
        self.by_store.get(&id).map_or(0, |store| store.peers.len())
    }

    /// How many regions a store leads.
    #[must_use]
    pub fn leader_count(&self, id: StoreId) -> usize {
        self.by_store.get(&id).map_or(0, |store| store.leaders.len())
    }

    /// How many regions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How well they are.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// True before the first heartbeat.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// True if every key lies in some region. Walks all of them: for the time until that was true once.
    #[must_use]
    pub fn covers_all_keys(&self) -> bool {
        let mut next = Key::new();
        for (position, id) in self.by_start.values().enumerate() {
            let range = &self.by_id[id].region.range;
            if range.start != next || (position > 0 && next.is_empty()) {
                return false;
            }
            next = range.end.clone();
        }
        !self.is_empty() && next.is_empty()
    }

    fn insert(&mut self, info: RegionInfo) {
        let id = info.region.id;
        for peer in &info.region.peers {
            self.by_store.entry(peer.store_id).or_default().peers.insert(id);
        }
        self.by_store.entry(info.leader.store_id).or_default().leaders.insert(id);
        self.by_start.insert(info.region.range.start.clone(), id);
        self.health.add(&info);
        self.by_id.insert(id, info);
    }

    fn remove(&mut self, id: RegionId) {
        let Some(info) = self.by_id.remove(&id) else { return };
        self.by_start.remove(&info.region.range.start);
        self.health.subtract(&info);
        for store_id in info.region.peers.iter().map(|peer| peer.store_id) {
            let store = self.by_store.get_mut(&store_id).expect("a region is entered at each of its stores");
            store.peers.remove(&id);
            store.leaders.remove(&id);
            if store.peers.is_empty() {
                self.by_store.remove(&store_id);
            }
        }
    }

    /// Checks INV-PD-DIRECTORY and that the indexes agree. Walks everything.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check_invariants(&self) {
        assert_eq!(self.by_id.len(), self.by_start.len(), "INV-PD-DIRECTORY: one start for each region");
        let lowest = Key::new();
        let mut end = Some(&lowest);
        for (start, id) in &self.by_start {
            let range = &self.by_id[id].region.range;
            assert_eq!(start, &range.start, "INV-PD-DIRECTORY: region {id} is found by its start");
            assert!(
                end.is_some_and(|end| end <= start),
                "INV-PD-DIRECTORY: region {id} overlaps the one before"
            );
            end = Some(&range.end).filter(|end| !end.is_empty());
        }
        let mut by_store: BTreeMap<StoreId, (usize, usize)> = BTreeMap::new();
        for info in self.by_id.values() {
            for peer in &info.region.peers {
                let regions = &self.by_store[&peer.store_id];
                let leads = peer.id == info.leader.id;
                assert!(
                    regions.peers.contains(&info.region.id),
                    "INV-PD-DIRECTORY: a peer is missing at its store"
                );
                assert_eq!(
                    regions.leaders.contains(&info.region.id),
                    leads,
                    "INV-PD-DIRECTORY: leaders by store"
                );
                let counts = by_store.entry(peer.store_id).or_default();
                counts.0 += 1;
                counts.1 += usize::from(leads);
            }
        }
        let indexed = self.by_store.iter().map(|(id, store)| (*id, (store.peers.len(), store.leaders.len())));
        assert_eq!(by_store, indexed.collect(), "INV-PD-DIRECTORY: counts by store");
        let mut health = Health::default();
        self.by_id.values().for_each(|info| health.add(info));
        assert_eq!(health, self.health, "INV-PD-DIRECTORY: counts by health");
    }
}

fn is_valid(heartbeat: &RegionHeartbeat) -> bool {
    let region = &heartbeat.region;
    let distinct = |mut ids: Vec<u64>| {
        ids.sort_unstable();
        ids.windows(2).all(|pair| pair[0] != pair[1]) && ids.first() != Some(&0)
    };
    !region.id.is_zero()
        && !region.range.is_empty()
        && distinct(region.peers.iter().map(|peer| peer.id.get()).collect())
        && distinct(region.peers.iter().map(|peer| peer.store_id.get()).collect())
        && region.peers.contains(&heartbeat.leader)
        && heartbeat.leader.role != PeerRole::Learner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(id: u64, start: &str, end: &str, version: u64) -> RegionHeartbeat {
        let peer = |index: u64| Peer::voter(PeerId(id * 10 + index), StoreId(index));
        RegionHeartbeat {
            region: Region {
                id: RegionId(id),
                range: KeyRange::new(start.to_owned(), end.to_owned()),
                epoch: Epoch { conf_ver: 1, version },
                peers: vec![peer(1), peer(2), peer(3)],
            },
            leader: peer(1),
            term: Term(5),
            ..RegionHeartbeat::default()
        }
    }

    fn told(directory: &mut Directory, heartbeat: RegionHeartbeat) -> Verdict {
        let verdict = directory.heartbeat(heartbeat, MonoTime::ZERO);
        directory.check_invariants();
        verdict
    }

    fn id_of(info: Option<&RegionInfo>) -> Option<u64> {
        info.map(|info| info.region.id.get())
    }

    #[test]
    fn a_split_and_a_merge_replace_what_they_overlap_and_the_past_is_refused() {
        let mut directory = Directory::default();
        assert_eq!(told(&mut directory, heartbeat(1, "", "", 1)), Verdict::Updated);
        assert!(directory.covers_all_keys());
        // The child of the split is heard first: the parent goes, and leaves a hole until it is heard.
        assert_eq!(told(&mut directory, heartbeat(2, "m", "", 2)), Verdict::Updated);
        assert!(!directory.covers_all_keys());
        assert_eq!(id_of(directory.at(b"a")), None);
        assert_eq!(
            told(&mut directory, heartbeat(1, "", "", 1)),
            Verdict::Stale(Epoch { conf_ver: 1, version: 2 })
        );
        assert_eq!(told(&mut directory, heartbeat(1, "", "m", 2)), Verdict::Updated);
        assert!(directory.covers_all_keys());
        // The merge of both.
        assert_eq!(told(&mut directory, heartbeat(2, "", "", 3)), Verdict::Updated);
        assert_eq!(directory.len(), 1);
        assert!(matches!(told(&mut directory, heartbeat(1, "", "m", 2)), Verdict::Stale(_)));
    }

    #[test]
    fn a_deposed_leader_is_refused_unless_it_knows_a_newer_epoch() {
        let mut directory = Directory::default();
        told(&mut directory, heartbeat(1, "", "", 1));
        let mut newer = heartbeat(1, "", "", 1);
        newer.leader = newer.region.peers[1];
        newer.term = Term(6);
        assert_eq!(told(&mut directory, newer.clone()), Verdict::Updated);
        assert_eq!((directory.leader_count(StoreId(1)), directory.leader_count(StoreId(2))), (0, 1));
        assert!(matches!(told(&mut directory, heartbeat(1, "", "", 1)), Verdict::Stale(_)));
        let mut ahead = heartbeat(1, "", "", 1);
        ahead.region.epoch.conf_ver = 2;
        ahead.region.peers.truncate(2);
        assert_eq!(told(&mut directory, ahead), Verdict::Updated);
        let info = directory.get(RegionId(1)).unwrap();
        assert_eq!((info.leader, info.term, info.region.peers.len()), (newer.leader, Term(6), 2));
        assert_eq!(directory.region_count(StoreId(3)), 0);
    }

    #[test]
    fn lookups_by_key_go_up_and_down() {
        let mut directory = Directory::default();
        for (id, start, end) in [(1, "", "b"), (2, "b", "d"), (3, "f", "")] {
            told(&mut directory, heartbeat(id, start, end, 1));
        }
        assert_eq!(id_of(directory.at(b"")), Some(1));
        assert_eq!(id_of(directory.at(b"b")), Some(2));
        assert_eq!(id_of(directory.at(b"e")), None);
        assert_eq!(id_of(directory.before(b"b")), Some(1));
        assert_eq!(id_of(directory.before(b"d")), Some(2));
        assert_eq!(id_of(directory.before(b"f")), None, "the keys right below f are in a hole");
        assert_eq!(id_of(directory.before(b"")), Some(3));
        let ids = |start: &str, end: &str| -> Vec<u64> {
            directory
                .overlapping(&KeyRange::new(start.to_owned(), end.to_owned()))
                .map(|info| info.region.id.get())
                .collect()
        };
        assert_eq!(ids("", ""), [1, 2, 3]);
        assert_eq!(ids("c", "f"), [2]);
        assert_eq!(ids("a", "ba"), [1, 2]);
        assert_eq!(ids("d", ""), [3]);
    }

    #[test]
    fn a_heartbeat_that_contradicts_itself_has_no_effect() {
        let mut directory = Directory::default();
        let mut stranger = heartbeat(1, "", "", 1);
        stranger.leader.id = PeerId(99);
        let mut twice = heartbeat(1, "", "", 1);
        twice.region.peers[2].store_id = StoreId(1);
        let mut learner = heartbeat(1, "", "", 1);
        learner.region.peers[0].role = PeerRole::Learner;
        learner.leader.role = PeerRole::Learner;
        for broken in [stranger, twice, learner, heartbeat(1, "b", "a", 1)] {
            assert_eq!(told(&mut directory, broken), Verdict::Invalid);
        }
        told(&mut directory, heartbeat(1, "", "", 1));
        let mut other = heartbeat(1, "", "m", 1);
        other.term = Term(7);
        assert_eq!(told(&mut directory, other), Verdict::Invalid, "one epoch, two descriptors");
        assert!(directory.covers_all_keys());
    }
}
