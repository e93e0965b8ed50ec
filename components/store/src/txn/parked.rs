//! Commands of one scheduler that wait for locks: in which region, led by whom, and what the placement driver knows of it.

use crate::concurrency::Owner;
use crate::oracle::Oracle;
use crate::seeded_bug::{Bugs, SeededBug};
use crate::wait_book::WaitBook;
use raftstore::StoreMeta;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use txn::{CommandId, Due, Waiter, Waits};
use types::{Key, MonoTime, RegionId, Term, Timestamp};
use wire::txn::{LockInfo, WaitEdge};

/// How many may wait for locks, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitLimits {
    /// How long one request waits at most. Its client asks again.
    pub time_max: Duration,
    /// Requests that wait at the store.
    pub count_max: usize,
    /// Of these, for one key.
    pub count_per_key_max: usize,
    /// When a lock goes, whoever is first has so much time to take it before the next one is taken up.
    pub wake_delay: Duration,
}

impl Default for WaitLimits {
    fn default() -> Self {
        Self {
            time_max: Duration::from_secs(1),
            count_max: 10_000,
            count_per_key_max: 1_000,
            wake_delay: Duration::from_millis(20),
        }
    }
}

/// By whom, and under which version, a region was led when a command met a lock there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Led {
    pub(crate) term: Term,
    pub(crate) version: u64,
}

/// A lock that a command has met.
pub(crate) struct Met<'a> {
    pub(crate) lock: &'a LockInfo,
    /// When its own transaction began.
    pub(crate) start_ts: Timestamp,
    pub(crate) until: MonoTime,
    pub(crate) region_id: RegionId,
    pub(crate) led: Led,
}

/// Those that wait.
pub(crate) struct Parked {
    waits: Waits,
    regions: BTreeMap<RegionId, BTreeMap<CommandId, Led>>,
    region_of: BTreeMap<CommandId, RegionId>,
    /// The store's version when it was last looked whether regions are led as before.
    seen: u64,
    /// What the scheduler's tokens begin with.
    base: Owner,
    book: Arc<WaitBook>,
    oracle: Arc<Oracle>,
    pub(crate) limits: WaitLimits,
    pub(crate) bugs: Bugs,
}

impl Parked {
    pub(crate) fn new(base: Owner, book: Arc<WaitBook>, oracle: Arc<Oracle>, limits: WaitLimits) -> Self {
        Self {
            waits: Waits::new(limits.wake_delay),
            regions: BTreeMap::new(),
            region_of: BTreeMap::new(),
            seen: 0,
            base,
            book,
            oracle,
            limits,
            bugs: Bugs::default(),
        }
    }

    /// Nobody waits yet: from now on within these limits.
    pub(crate) fn set_limits(&mut self, limits: WaitLimits) {
        assert!(self.waits.is_empty(), "limits are set before anybody waits");
        (self.waits, self.limits) = (Waits::new(limits.wake_delay), limits);
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.region_of.len()
    }

    /// True if there is no use in waiting: as far as the store can tell, the lock's transaction is abandoned, and goes when
    /// somebody asks what became of it.
    pub(crate) fn is_abandoned(&self, lock: &LockInfo, now: MonoTime) -> bool {
        lock.start_ts.physical_ms().saturating_add(lock.ttl_ms) < self.oracle.about(now).physical_ms()
    }

    /// True if a command more may wait for this key.
    pub(crate) fn has_room(&self, key: &Key) -> bool {
        self.book.waiting() < self.limits.count_max
            && self.waits.count_at(key) < self.limits.count_per_key_max
    }

    /// A command waits from now on.
    pub(crate) fn park(&mut self, id: CommandId, met: &Met<'_>) {
        let Met { lock, start_ts, until, region_id, led } = *met;
        self.locked(&lock.key, lock.start_ts);
        self.regions.entry(region_id).or_default().insert(id, led);
        self.region_of.insert(id, region_id);
        self.waits.park(id, Waiter { key: lock.key.clone(), start_ts, lock_ts: lock.start_ts, until });
        self.tell(id);
    }

    /// A key is not locked any more. Gives back who is taken up.
    pub(crate) fn released(&mut self, key: &Key, now: MonoTime) -> Option<CommandId> {
        if self.bugs.has(SeededBug::WaiterForgotten) {
            return None;
        }
        if self.bugs.has(SeededBug::WokenWaitsOn) {
            let first = self.waits.iter().filter(|(_, waiter)| waiter.key == *key);
            return first.min_by_key(|(id, waiter)| (waiter.start_ts, *id)).map(|(id, _)| id);
        }
        let id = self.waits.released(key, now)?;
        self.forget(id);
        Some(id)
    }

    /// A key is locked by this transaction.
    pub(crate) fn locked(&mut self, key: &Key, by: Timestamp) {
        for id in self.waits.locked(key, by) {
            self.tell(id);
        }
    }

    /// A command does not wait any more.
    pub(crate) fn leave(&mut self, id: CommandId) {
        if self.waits.leave(id).is_some() {
            self.forget(id);
        }
    }

    /// Who does not wait any more because of the time.
    pub(crate) fn due(&mut self, now: MonoTime) -> Vec<(CommandId, Due)> {
        let due = self.waits.due(now);
        due.iter().for_each(|(id, _)| self.forget(*id));
        due
    }

    /// True if it is to be looked who leads the regions where somebody waits.
    pub(crate) fn must_look(&self, meta: &StoreMeta) -> bool {
        !self.waits.is_empty() && meta.version() != self.seen
    }

    /// Who waits in a region that is led otherwise than when it began to wait, or has changed: the lock may go unnoticed.
    /// They do not wait any more.
    pub(crate) fn moved(&mut self, meta: &StoreMeta) -> Vec<CommandId> {
        if !self.must_look(meta) || self.bugs.has(SeededBug::WaiterForgotten) {
            return Vec::new();
        }
        self.seen = meta.version();
        let mut moved = Vec::new();
        for (region_id, waiting) in &self.regions {
            let delegate = meta.delegate(*region_id);
            let led = delegate.map(|it| Led { term: it.term, version: it.region.epoch.version });
            moved.extend(waiting.iter().filter(|(_, then)| led != Some(**then)).map(|(id, _)| *id));
        }
        moved.iter().for_each(|id| self.leave(*id));
        moved
    }

    /// The commands of a transaction that wait for a key.
    pub(crate) fn of_transaction(&self, key: &Key, start_ts: Timestamp) -> Vec<CommandId> {
        self.waits.of_transaction(key, start_ts)
    }

    /// The command, if it waits.
    pub(crate) fn get(&self, id: CommandId) -> Option<&Waiter> {
        self.waits.get(id)
    }

    /// True if somebody waits for a key.
    pub(crate) fn is_awaited(&self, key: &Key) -> bool {
        self.waits.count_at(key) > 0
    }

    pub(crate) fn next_deadline(&self) -> MonoTime {
        self.waits.next_deadline()
    }

    /// Keys that are taken to be locked, in regions that are led as when somebody began to wait there.
    pub(crate) fn keys_locked(&self, meta: &StoreMeta) -> Vec<Key> {
        let is_led = |id: CommandId| {
            let region_id = self.region_of[&id];
            meta.delegate(region_id).is_some_and(|it| {
                Led { term: it.term, version: it.region.epoch.version } == self.regions[&region_id][&id]
            })
        };
        let waiting =
            self.waits.iter().filter(|(id, waiter)| self.waits.awaits_release(&waiter.key) && is_led(*id));
        waiting.map(|(_, waiter)| waiter.key.clone()).collect()
    }

    pub(crate) fn check_invariants(&self) {
        self.waits.check_invariants();
        let noted: usize = self.regions.values().map(BTreeMap::len).sum();
        assert_eq!(
            (noted, self.region_of.len()),
            (self.waits.iter().count(), self.waits.iter().count()),
            "INV-TXN-15: whoever waits is noted with its region"
        );
    }

    fn tell(&self, id: CommandId) {
        let waiter = self.waits.get(id).expect("whoever is told of waits");
        let Waiter { key, start_ts, lock_ts, until } = waiter;
        let edge = WaitEdge { waiter_ts: *start_ts, lock_ts: *lock_ts, key: key.clone() };
        self.book.waits(self.base | id, edge, *until);
    }

    fn forget(&mut self, id: CommandId) {
        self.book.ended(self.base | id);
        let Some(region_id) = self.region_of.remove(&id) else { return };
        let waiting = self.regions.get_mut(&region_id).expect("whoever waits is noted with its region");
        waiting.remove(&id);
        if waiting.is_empty() {
            self.regions.remove(&region_id);
        }
    }
}
