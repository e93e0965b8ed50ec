//! What we believe of the regions: a map by start key, never trusted, always cheap to correct.

use env::sim_point;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use types::{Epoch, Key, PeerRole, Region, RegionId, StoreId};

/// A region and the store to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    /// The region, as far as we know.
    pub(crate) region: Arc<Region>,
    /// Its leader's store if known, else one that may know better.
    pub(crate) store_id: StoreId,
}

impl Route {
    /// The other stores whose peers may lead, in the order in which they are asked.
    pub(crate) fn others(&self) -> impl Iterator<Item = StoreId> {
        let peers = &self.region.peers;
        let place = peers.iter().position(|peer| peer.store_id == self.store_id).unwrap_or_default();
        let in_turn = peers[place..].iter().chain(&peers[..place]);
        in_turn
            .filter(|peer| peer.role != PeerRole::Learner && peer.store_id != self.store_id)
            .map(|peer| peer.store_id)
    }
}

#[derive(Debug)]
struct Cached {
    region: Arc<Region>,
    leader: Option<StoreId>,
    /// While the leader is not known: which of the peers is asked, by its place.
    asking: usize,
    /// How often a peer was asked in vain since the region was looked up.
    failures: usize,
}

impl Cached {
    fn route(&self) -> Route {
        let store_id = self.leader.unwrap_or_else(|| self.region.peers[self.asking].store_id);
        Route { region: Arc::clone(&self.region), store_id }
    }
}

/// Regions by start key.
///
/// Invariant: they do not overlap, each has a peer that can lead, and `starts` names the start of each and nothing else.
#[derive(Debug)]
pub(crate) struct RegionCache {
    regions: BTreeMap<Key, Cached>,
    starts: BTreeMap<RegionId, Key>,
    regions_max: usize,
    /// Where the last region was forgotten for want of room; the next one is the one after it.
    hand: Key,
}

impl RegionCache {
    pub(crate) fn new(regions_max: usize) -> Self {
        let regions_max = regions_max.max(1);
        let (regions, starts) = (BTreeMap::new(), BTreeMap::new());
        Self { regions, starts, regions_max, hand: Key::new() }
    }

    /// The region that holds `key`.
    pub(crate) fn at(&self, key: &[u8]) -> Option<Route> {
        let (_, cached) = self.regions.range::<[u8], _>((Unbounded, Included(key))).next_back()?;
        let is_known = cached.region.range.contains(key) && !sim_point!("client_core.miss_region");
        is_known.then(|| cached.route())
    }

    /// The region that holds the keys just below `end`; an empty `end` is the end of all keys.
    pub(crate) fn before(&self, end: &[u8]) -> Option<Route> {
        let below = if end.is_empty() { Unbounded } else { Excluded(end) };
        let (_, cached) = self.regions.range::<[u8], _>((Unbounded, below)).next_back()?;
        let region_end = &cached.region.range.end;
        let reaches = region_end.is_empty() || (!end.is_empty() && region_end[..] >= *end);
        reaches.then(|| cached.route())
    }

    /// The region with this id.
    pub(crate) fn by_id(&self, id: RegionId) -> Option<Route> {
        self.starts.get(&id).map(|start| self.regions[start].route())
    }

    /// Believes in `region`, unless what we know over any of its keys is newer, and forgets what it overlaps. Of a
    /// region that is known with the same epoch only the leader is believed, if one is named.
    ///
    /// A descriptor that cannot be (no keys, no id, no peer that could lead) is left out.
    pub(crate) fn insert(&mut self, region: Region, leader: Option<StoreId>) {
        let asking = region.peers.iter().position(|peer| peer.role != PeerRole::Learner);
        let (Some(asking), false, false) = (asking, region.range.is_empty(), region.id.is_zero()) else {
            return;
        };
        let leader = leader.filter(|store_id| region.peer_on(*store_id).is_some());
        if let Some(start) = self.starts.get(&region.id) {
            let known = self.regions.get_mut(start).expect("`starts` names regions that are cached");
            if known.region.epoch == region.epoch {
                known.leader = leader.or(known.leader);
                return;
            }
            if region.epoch.is_older_than(known.region.epoch) {
                return;
            }
        }
        let overlapped: Vec<(RegionId, u64)> =
            self.overlapping(&region).map(|known| (known.id, known.epoch.version)).collect();
        let is_outdated =
            |(id, version): &(RegionId, u64)| *id != region.id && *version > region.epoch.version;
        if overlapped.iter().any(is_outdated) {
            return;
        }
        self.remove(region.id);
        for (id, _) in overlapped {
            self.remove(id);
        }
        if self.regions.len() >= self.regions_max {
            self.make_room();
        }
        let start = region.range.start.clone();
        self.starts.insert(region.id, start.clone());
        self.regions.insert(start, Cached { region: Arc::new(region), leader, asking, failures: 0 });
        debug_assert_eq!(self.regions.len(), self.starts.len());
    }

    /// The leader of the region is on this store, says one of its peers. False if that cannot be, as far as we know.
    pub(crate) fn set_leader(&mut self, id: RegionId, epoch: Epoch, store_id: StoreId) -> bool {
        match self.known_mut(id, epoch) {
            Some(known) if known.region.peer_on(store_id).is_some() => {
                known.leader = Some(store_id);
                true
            }
            Some(_) => false,
            // It has changed meanwhile: whoever asks is routed anew anyway.
            None => true,
        }
    }

    /// This store does not lead the region, or does not answer: the next peer is asked. After as many failures as there
    /// are peers that may lead the region is forgotten, so that the placement driver is asked.
    pub(crate) fn try_next(&mut self, id: RegionId, epoch: Epoch, failed: StoreId) {
        let Some(known) = self.known_mut(id, epoch) else { return };
        if known.route().store_id != failed {
            // Another call was first to find out.
            return;
        }
        known.leader = None;
        known.failures += 1;
        let peers = &known.region.peers;
        let may_lead = |place: &usize| peers[*place].role != PeerRole::Learner;
        if known.failures >= (0..peers.len()).filter(may_lead).count() {
            self.remove(id);
            return;
        }
        let place = peers.iter().position(|peer| peer.store_id == failed).unwrap_or_default();
        let in_turn = (place + 1..peers.len()).chain(0..=place);
        known.asking = in_turn.into_iter().find(may_lead).expect("a cached region has a peer that can lead");
    }

    /// Another peer than the one on `from` is asked from here on. No failure: `from` was not asked.
    pub(crate) fn turn(&mut self, id: RegionId, epoch: Epoch, from: StoreId, to: StoreId) {
        let Some(known) = self.known_mut(id, epoch) else { return };
        let place = known.region.peers.iter().position(|peer| peer.store_id == to);
        if let Some(place) = place
            && known.route().store_id == from
        {
            known.leader = None;
            known.asking = place;
        }
    }

    /// Forgets the region, if it is still the one with this epoch.
    pub(crate) fn forget(&mut self, id: RegionId, epoch: Epoch) {
        if self.known_mut(id, epoch).is_some() {
            self.remove(id);
        }
    }

    fn known_mut(&mut self, id: RegionId, epoch: Epoch) -> Option<&mut Cached> {
        let start = self.starts.get(&id)?;
        let known = self.regions.get_mut(start).expect("`starts` names regions that are cached");
        (known.region.epoch == epoch).then_some(known)
    }

    fn overlapping<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = &'a Region> {
        let before = self.regions.range::<Key, _>((Unbounded, Excluded(&region.range.start))).next_back();
        let from = self.regions.range::<Key, _>((Included(&region.range.start), Unbounded));
        let known = before.into_iter().chain(from).map(|(_, cached)| &*cached.region);
        // Only the first may end before the region starts.
        known
            .enumerate()
            .take_while(|(place, known)| *place == 0 || known.range.overlaps(&region.range))
            .filter(|(_, known)| known.range.overlaps(&region.range))
            .map(|(_, known)| known)
    }

    fn remove(&mut self, id: RegionId) {
        if let Some(start) = self.starts.remove(&id) {
            self.regions.remove(&start);
        }
    }

    fn make_room(&mut self) {
        let after = self.regions.range::<Key, _>((Excluded(&self.hand), Unbounded)).next();
        let Some((start, victim)) = after.or_else(|| self.regions.first_key_value()) else { return };
        let (start, id) = (start.clone(), victim.region.id);
        self.remove(id);
        self.hand = start;
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        let mut last_end: Option<&Key> = None;
        for (start, cached) in &self.regions {
            assert_eq!(*start, cached.region.range.start, "a region is not at its start key");
            assert_eq!(self.starts.get(&cached.region.id), Some(start), "a region is not found by its id");
            if let Some(end) = last_end {
                assert!(!end.is_empty() && end <= start, "regions overlap at {start:?}");
            }
            last_end = Some(&cached.region.range.end);
        }
        assert_eq!(self.regions.len(), self.starts.len());
        assert!(self.regions.len() <= self.regions_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::{Dice, SplitMix};
    use types::{KeyRange, Peer, PeerId};

    fn region(id: u64, start: &'static str, end: &'static str, version: u64) -> Region {
        Region {
            id: RegionId(id),
            range: KeyRange::new(start, end),
            epoch: Epoch { conf_ver: 1, version },
            peers: (1..=3).map(|store| Peer::voter(PeerId(id * 10 + store), StoreId(store))).collect(),
        }
    }

    fn id_at(cache: &RegionCache, key: &str) -> Option<u64> {
        cache.at(key.as_bytes()).map(|route| route.region.id.get())
    }

    #[test]
    fn the_region_before_a_key_is_the_one_that_holds_keys_just_below_it() {
        let mut cache = RegionCache::new(10);
        cache.insert(region(1, "", "m", 1), None);
        cache.insert(region(2, "m", "", 1), None);
        let before = |end: &str| cache.before(end.as_bytes()).map(|route| route.region.id.get());
        assert_eq!([before("m"), before("n"), before(""), before("a")], [Some(1), Some(2), Some(2), Some(1)]);
        assert_eq!([id_at(&cache, "m"), id_at(&cache, "l"), id_at(&cache, "")], [Some(2), Some(1), Some(1)]);
    }

    #[test]
    fn a_newer_region_replaces_what_it_overlaps_and_an_older_one_is_not_believed() {
        let mut cache = RegionCache::new(10);
        cache.insert(region(1, "", "", 1), None);
        cache.insert(region(1, "", "m", 2), None);
        cache.insert(region(2, "m", "", 2), None);
        cache.insert(region(1, "", "", 1), None);
        assert_eq!((id_at(&cache, "a"), id_at(&cache, "z")), (Some(1), Some(2)));
        // A child that another source still knows with more keys is not taken back in time by it.
        cache.insert(region(2, "g", "", 1), None);
        assert_eq!(id_at(&cache, "h"), Some(1));
        // What overlaps several is replaced as a whole, which leaves a hole.
        cache.insert(region(3, "k", "p", 3), None);
        assert_eq!((id_at(&cache, "a"), id_at(&cache, "k"), id_at(&cache, "q")), (None, Some(3), None));
        cache.check_invariants();
    }

    #[test]
    fn peers_are_asked_in_turn_until_the_region_is_forgotten() {
        let mut cache = RegionCache::new(10);
        let epoch = Epoch { conf_ver: 1, version: 1 };
        cache.insert(region(1, "", "", 1), Some(StoreId(2)));
        let mut asked = Vec::new();
        while let Some(route) = cache.at(b"k") {
            asked.push(route.store_id.get());
            // A second call that found out the same moves nothing.
            cache.try_next(RegionId(1), epoch, route.store_id);
            cache.try_next(RegionId(1), epoch, route.store_id);
        }
        assert_eq!(asked, [2, 3, 1], "leader first, then the others, then nobody");
        cache.insert(region(1, "", "", 1), None);
        assert!(cache.set_leader(RegionId(1), epoch, StoreId(3)));
        assert!(!cache.set_leader(RegionId(1), epoch, StoreId(9)), "not a member");
        assert_eq!(cache.at(b"k").map(|route| route.store_id), Some(StoreId(3)));
    }

    #[test]
    fn impossible_regions_are_left_out() {
        let mut cache = RegionCache::new(10);
        cache.insert(Region { peers: Vec::new(), ..region(1, "", "", 1) }, None);
        cache.insert(region(0, "", "", 1), None);
        cache.insert(region(1, "b", "a", 1), None);
        assert!(cache.regions.is_empty());
    }

    #[test]
    fn any_sequence_of_regions_keeps_the_cache_free_of_overlaps_and_within_its_bound() {
        const KEYS: [&str; 8] = ["", "b", "d", "f", "h", "j", "l", "n"];
        let mut dice = SplitMix::new(5);
        let mut cache = RegionCache::new(4);
        for _ in 0..20_000 {
            let start = KEYS[dice.below(8) as usize];
            let end = KEYS[dice.below(8) as usize];
            let id = dice.below(6);
            let epoch = Epoch { conf_ver: 1, version: dice.below(50) };
            match dice.below(6) {
                0 => cache.forget(RegionId(id), epoch),
                1 => cache.try_next(RegionId(id), epoch, StoreId(1 + dice.below(3))),
                _ => cache.insert(region(id, start, end, epoch.version), None),
            }
            cache.check_invariants();
        }
    }
}
