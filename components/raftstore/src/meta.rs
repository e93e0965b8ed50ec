//! The facts that all of a store must agree on.

use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use types::{Key, KeyRange, MonoTime, Peer, PeerId, Region, RegionId, Term, Timestamp};

/// What lets any thread answer reads of a region alone: made by the peer's worker when it leads and has applied an
/// entry of its term, revoked before anything could make it wrong.
#[derive(Debug)]
pub struct Delegate {
    /// The region as of the delegate's making; a change of it makes another delegate.
    pub region: Region,
    /// The peer that leads.
    pub peer: Peer,
    /// The term in which it leads.
    pub term: Term,
    /// When the lease ends, in nanoseconds of the store's clock; zero once revoked.
    lease_until: AtomicU64,
    /// A read was served since this was looked at.
    used: AtomicBool,
}

impl Delegate {
    pub(crate) fn new(region: Region, peer: Peer, term: Term) -> Self {
        Self { region, peer, term, lease_until: AtomicU64::new(0), used: AtomicBool::new(false) }
    }

    /// A read is served: the region is not idle.
    pub fn note_use(&self) {
        // Looked at first, so that threads that read much do not fight for the line.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a read was served since the last time that this was asked.
    pub(crate) fn take_use(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// True if the lease covers this moment. Read the clock after the engine snapshot was taken, and look at
    /// [`StoreMeta::version`] after that.
    #[must_use]
    pub fn covers(&self, now: MonoTime) -> bool {
        now.0 < self.lease_until.load(Ordering::Acquire)
    }

    /// When the lease ends.
    #[must_use]
    pub fn lease_until(&self) -> MonoTime {
        MonoTime(self.lease_until.load(Ordering::Acquire))
    }

    pub(crate) fn renew(&self, until: MonoTime) {
        self.lease_until.fetch_max(until.0, Ordering::AcqRel);
    }

    pub(crate) fn revoke(&self) {
        self.lease_until.store(0, Ordering::Release);
    }
}

#[derive(Default, Debug)]
struct Inner {
    regions: BTreeMap<RegionId, Region>,
    /// Start key → region, of the regions in `regions`. Invariant INV-STORE-1: ranges do not overlap.
    ranges: BTreeMap<Key, RegionId>,
    /// Ranges that a snapshot being installed will own.
    reserved: BTreeMap<RegionId, KeyRange>,
    delegates: BTreeMap<RegionId, Arc<Delegate>>,
    /// Regions that a split here makes, from before their records are looked for until their peers live.
    births: BTreeSet<RegionId>,
    /// Peers that have got nothing and never will, until the tombstones that say so are durable.
    removals: BTreeMap<RegionId, PeerId>,
    /// Peers that have got nothing yet.
    uninitialized: BTreeMap<RegionId, PeerId>,
}

impl Inner {
    fn overlapping<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Region> + 'a {
        let before = self.ranges.range(..=range.start.clone()).next_back();
        let within = self
            .ranges
            .range::<Key, _>((std::ops::Bound::Excluded(range.start.clone()), std::ops::Bound::Unbounded));
        before
            .into_iter()
            .chain(within.take_while(|(start, _)| range.end.is_empty() || **start < range.end))
            .map(|(_, id)| &self.regions[id])
            .filter(|region| region.range.overlaps(range))
    }

    fn remove(&mut self, region_id: RegionId) -> Option<Region> {
        let region = self.regions.remove(&region_id)?;
        self.ranges.remove(&region.range.start);
        Some(region)
    }
}

/// Which region owns which keys on this store, and who may read alone.
///
/// One lock, taken on change and by readers whose copies are out of date; never held over I/O or another lock.
/// `version` tells readers whether their copies are current.
#[derive(Default, Debug)]
pub struct StoreMeta {
    inner: Mutex<Inner>,
    version: AtomicU64,
    guarded: AtomicU64,
}

impl StoreMeta {
    /// Without regions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Grows whenever a delegate is made or revoked.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// No [`GcRecord`](crate::GcRecord) that stands in a view of the engine is later than this, if the view was taken before
    /// this is asked: whoever reads above it need not look for one (INV-TXN-13).
    #[must_use]
    pub fn guarded_to(&self) -> Timestamp {
        Timestamp(self.guarded.load(Ordering::Acquire))
    }

    /// A [`GcRecord`](crate::GcRecord) that is as late as this is about to be written, or stands on the disk at the start.
    /// To be called before anybody can see it.
    pub(crate) fn guard(&self, to: Timestamp) {
        self.guarded.fetch_max(to.0, Ordering::AcqRel);
    }

    /// The region's delegate.
    #[must_use]
    pub fn delegate(&self, region_id: RegionId) -> Option<Arc<Delegate>> {
        self.inner.lock().delegates.get(&region_id).cloned()
    }

    /// All delegates.
    #[must_use]
    pub fn delegates(&self) -> Vec<Arc<Delegate>> {
        self.inner.lock().delegates.values().cloned().collect()
    }

    /// The region with this id.
    #[must_use]
    pub fn region(&self, region_id: RegionId) -> Option<Region> {
        self.inner.lock().regions.get(&region_id).cloned()
    }

    /// All regions, in key order.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        let inner = self.inner.lock();
        inner.ranges.values().map(|id| inner.regions[id].clone()).collect()
    }

    /// How many regions there are.
    #[must_use]
    pub fn region_count(&self) -> usize {
        self.inner.lock().regions.len()
    }

    /// The regions that overlap a range, in key order.
    #[must_use]
    pub fn overlapping(&self, range: &KeyRange) -> Vec<Region> {
        self.inner.lock().overlapping(range).cloned().collect()
    }

    /// Replaces `old` (if there is one) by `new` regions at once, so that no reader sees a gap or an overlap. Delegates
    /// of the replaced region and of the new ones end.
    ///
    /// # Panics
    /// When a new region overlaps one that stays (INV-STORE-1).
    pub(crate) fn replace(&self, old: Option<RegionId>, new: &[Region]) {
        let mut inner = self.inner.lock();
        for id in old.into_iter().chain(new.iter().map(|region| region.id)) {
            inner.remove(id);
            if let Some(delegate) = inner.delegates.remove(&id) {
                delegate.revoke();
            }
        }
        for region in new {
            let clash = inner.overlapping(&region.range).next().map(|other| other.id);
            assert!(clash.is_none(), "INV-STORE-1: region {} would overlap region {clash:?}", region.id);
            inner.ranges.insert(region.range.start.clone(), region.id);
            inner.regions.insert(region.id, region.clone());
        }
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Removes a region and its delegate.
    pub(crate) fn remove(&self, region_id: RegionId) {
        self.replace(Some(region_id), &[]);
    }

    /// Keeps a range for a snapshot that is being installed. False if a region other than `region_id`, or another
    /// reservation, overlaps it, or a split is just making the region.
    pub(crate) fn reserve(&self, region_id: RegionId, range: &KeyRange) -> bool {
        let mut inner = self.inner.lock();
        let taken = inner.births.contains(&region_id)
            || inner.overlapping(range).any(|region| region.id != region_id)
            || inner.reserved.iter().any(|(id, other)| *id != region_id && other.overlaps(range));
        if !taken {
            inner.reserved.insert(region_id, range.clone());
        }
        !taken
    }

    /// Gives a reservation up.
    pub(crate) fn release(&self, region_id: RegionId) {
        self.inner.lock().reserved.remove(&region_id);
    }

    /// A split is about to make a peer of this region, if the disk knows nothing of the region. False if a tombstone for
    /// it is on its way, or a later peer of the region waits here for its snapshot: then it must not.
    ///
    /// Whoever applies and whoever owns the region both look at the disk for its record and then write one, each through
    /// a queue of its own. The claims keep the one from being decided while the other's record is still on its way.
    pub(crate) fn claim_birth(&self, region_id: RegionId, peer_id: PeerId) -> bool {
        let mut inner = self.inner.lock();
        let later = inner.uninitialized.get(&region_id).is_some_and(|waits| *waits > peer_id);
        let free = !inner.removals.contains_key(&region_id) && !later;
        if free {
            inner.births.insert(region_id);
        }
        free
    }

    /// The peer lives, or is not to be made.
    pub(crate) fn end_birth(&self, region_id: RegionId) {
        self.inner.lock().births.remove(&region_id);
    }

    /// A peer that has got nothing is about to begin its life. False if a split is just making one, or a tombstone is on its
    /// way: whoever wants something of it asks again.
    pub(crate) fn claim_uninitialized(&self, region_id: RegionId, peer_id: PeerId) -> bool {
        let mut inner = self.inner.lock();
        let free = !inner.removals.contains_key(&region_id) && !inner.births.contains(&region_id);
        if free {
            inner.uninitialized.insert(region_id, peer_id);
        }
        free
    }

    /// The peer has got its region, or is gone.
    pub(crate) fn end_uninitialized(&self, region_id: RegionId) {
        self.inner.lock().uninitialized.remove(&region_id);
    }

    /// A tombstone up to this peer is about to be written for a region that has nothing here. False if a split is just
    /// making a peer of it: it has to be asked for again.
    pub(crate) fn claim_removal(&self, region_id: RegionId, peer_id: PeerId) -> bool {
        let mut inner = self.inner.lock();
        if inner.births.contains(&region_id) {
            return false;
        }
        let claimed = inner.removals.entry(region_id).or_insert(peer_id);
        *claimed = peer_id.max(*claimed);
        true
    }

    /// The tombstone is durable, or was not needed.
    pub(crate) fn end_removal(&self, region_id: RegionId, peer_id: PeerId) {
        let mut inner = self.inner.lock();
        if inner.removals.get(&region_id).is_some_and(|claimed| *claimed <= peer_id) {
            inner.removals.remove(&region_id);
        }
    }

    /// The last peer of the region of which a tombstone that is on its way says that it is gone.
    pub(crate) fn removal_claimed(&self, region_id: RegionId) -> Option<PeerId> {
        self.inner.lock().removals.get(&region_id).copied()
    }

    /// Makes, or (with `None`) revokes, the delegate of a region.
    pub(crate) fn set_delegate(&self, region_id: RegionId, delegate: Option<Arc<Delegate>>) {
        let mut inner = self.inner.lock();
        let before = match delegate {
            Some(delegate) => inner.delegates.insert(region_id, delegate),
            None => inner.delegates.remove(&region_id),
        };
        if let Some(before) = before {
            before.revoke();
        }
        // Counted while the lock is held: who sees the new count finds the new delegates.
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}
