//! Which workers of other stores are at work: what regions that sleep rely on.
//!
//! A region that sleeps hears nothing of its leader. So one word per pair of stores and heartbeat interval stands in for
//! the heartbeats of all of them: [`StoreMessage::Alive`], said by each worker for the regions that it owns. It is said to
//! stores on which regions here rely (or would like to), and to those that rely on us; where nobody sleeps, nobody speaks.
//! A worker that has not been heard for a minimum election timeout is lost, and one that was started anew has forgotten
//! who slept: either wakes every region that relied on it. Time is counted in ticks of our own worker, of which none
//! passes while our process stands still, and what has arrived meanwhile is heard before anybody is missed.

use crate::worker::worker_of;
use std::collections::BTreeMap;
use types::{RegionId, StoreId};

/// Workers that a store may claim to have; more are taken for damage.
const WORKERS_MAX: u32 = 1 << 10;
/// Stores that are remembered; of more, those that were silent for long are forgotten first.
const STORES_MAX: usize = 1 << 12;

/// What is known of other stores' workers, and who relies on whom.
#[derive(Default, Debug)]
pub(crate) struct Liveness {
    stores: BTreeMap<StoreId, Heard>,
    /// How many peers that sleep here rely on each store. No zeroes.
    relied_on: BTreeMap<StoreId, usize>,
    /// Stores on which peers here would like to rely, until this tick.
    wanted: BTreeMap<StoreId, u64>,
    /// Nobody here falls asleep any more.
    pub(crate) sleepless: bool,
    /// Times that peers fell asleep, ever.
    pub(crate) sleeps: u64,
    /// Times that they woke because a store was lost, ever.
    pub(crate) losses: u64,
}

/// One store, as it was heard.
#[derive(Default, Debug)]
struct Heard {
    workers: Vec<Option<HeardWorker>>,
    /// When it said last that it relies on us.
    relies_at: Option<u64>,
    /// A worker of it was found lost, and has not been heard since.
    lost: bool,
}

#[derive(Clone, Copy, Debug)]
struct HeardWorker {
    incarnation: u64,
    /// When this incarnation was heard first.
    since: u64,
    /// When it was heard last.
    last: u64,
}

/// What a worker says of itself; see [`wire::store::StoreMessage::Alive`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaidAlive {
    pub(crate) from_store: StoreId,
    pub(crate) worker: u32,
    pub(crate) workers: u32,
    pub(crate) incarnation: u64,
    pub(crate) relies: bool,
}

impl Liveness {
    /// A worker was heard. True if what it knew before is forgotten: whoever relied on it must not go on.
    pub(crate) fn on_alive(&mut self, said: SaidAlive, tick: u64, timeout: u64) -> bool {
        if said.workers > WORKERS_MAX || said.worker >= said.workers {
            return false;
        }
        if self.stores.len() >= STORES_MAX && !self.stores.contains_key(&said.from_store) {
            self.stores.retain(|_, heard| heard.is_heard(tick, timeout));
            if self.stores.len() >= STORES_MAX {
                return false;
            }
        }
        let heard = self.stores.entry(said.from_store).or_default();
        let mut forgotten = false;
        if heard.workers.len() != said.workers as usize {
            forgotten = !heard.workers.is_empty();
            heard.workers = vec![None; said.workers as usize];
        }
        let slot = &mut heard.workers[said.worker as usize];
        let since = match *slot {
            Some(before) if before.incarnation == said.incarnation => before.since,
            before => {
                forgotten |= before.is_some();
                tick
            }
        };
        *slot = Some(HeardWorker { incarnation: said.incarnation, since, last: tick });
        heard.lost = false;
        if said.relies {
            heard.relies_at = Some(tick);
        }
        forgotten
    }

    /// Whether the worker of `store` that owns a region is at work and, if a peer here has relied on it since a tick, has
    /// been the same all the time.
    pub(crate) fn is_live(
        &self,
        store: StoreId,
        region_id: RegionId,
        since: Option<u64>,
        (tick, timeout): (u64, u64),
    ) -> bool {
        let Some(heard) = self.stores.get(&store).filter(|heard| !heard.workers.is_empty()) else {
            return false;
        };
        heard.workers[worker_of(region_id, heard.workers.len())].is_some_and(|worker| {
            tick - worker.last <= timeout && since.is_none_or(|since| worker.since <= since)
        })
    }

    /// A peer that is about to sleep will rely on these stores.
    pub(crate) fn rely_on(&mut self, stores: &[StoreId]) {
        for store in stores {
            *self.relied_on.entry(*store).or_default() += 1;
        }
    }

    /// It does not any more.
    pub(crate) fn release(&mut self, stores: &[StoreId]) {
        for store in stores {
            let count = self.relied_on.get_mut(store).expect("relied on until now");
            *count -= 1;
            if *count == 0 {
                self.relied_on.remove(store);
            }
        }
    }

    /// A peer would like to rely on these stores, and so would like to hear of them.
    pub(crate) fn want(&mut self, stores: &[StoreId], until: u64) {
        self.wanted.extend(stores.iter().map(|store| (*store, until)));
    }

    /// To whom to say that we are at work, and whether we rely on them.
    pub(crate) fn audience(&mut self, tick: u64, timeout: u64) -> BTreeMap<StoreId, bool> {
        self.wanted.retain(|_, until| *until > tick);
        let asked = |heard: &Heard| heard.relies_at.is_some_and(|at| tick - at <= timeout);
        let asking = self.stores.iter().filter(|(_, heard)| asked(heard)).map(|(store, _)| (*store, false));
        let mut audience: BTreeMap<StoreId, bool> = asking.collect();
        audience.extend(self.relied_on.keys().chain(self.wanted.keys()).map(|store| (*store, true)));
        audience
    }

    /// The stores relied on of which a worker has fallen silent, each once.
    pub(crate) fn newly_lost(&mut self, tick: u64, timeout: u64) -> Vec<StoreId> {
        let mut lost = Vec::new();
        for store in self.relied_on.keys() {
            let heard = self.stores.get_mut(store).expect("a store is relied on after it was heard");
            let silent = |worker: &HeardWorker| tick - worker.last > timeout;
            if !heard.lost && heard.workers.iter().flatten().any(silent) {
                heard.lost = true;
                lost.push(*store);
            }
        }
        lost
    }

    /// How many peers rely on each store.
    pub(crate) fn relied_on(&self) -> &BTreeMap<StoreId, usize> {
        &self.relied_on
    }
}

impl Heard {
    fn is_heard(&self, tick: u64, timeout: u64) -> bool {
        self.workers.iter().flatten().any(|worker| tick - worker.last <= timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: StoreId = StoreId(7);
    const TIMEOUT: u64 = 10;

    fn said(worker: u32, workers: u32, incarnation: u64) -> SaidAlive {
        SaidAlive { from_store: OTHER, worker, workers, incarnation, relies: false }
    }

    fn live(liveness: &Liveness, region: u64, since: Option<u64>, tick: u64) -> bool {
        liveness.is_live(OTHER, RegionId(region), since, (tick, TIMEOUT))
    }

    #[test]
    fn a_worker_stands_for_its_own_regions_alone_and_no_longer_than_a_timeout() {
        let mut liveness = Liveness::default();
        assert!(!live(&liveness, 4, None, 0), "nobody has heard of it");
        assert!(!liveness.on_alive(said(0, 2, 1), 5, TIMEOUT));
        assert!(live(&liveness, 4, None, 15) && !live(&liveness, 4, None, 16));
        assert!(!live(&liveness, 5, None, 5), "the other worker is silent");
    }

    #[test]
    fn whoever_was_started_anew_cannot_be_relied_on_for_what_was_before() {
        let mut liveness = Liveness::default();
        liveness.on_alive(said(0, 1, 1), 5, TIMEOUT);
        assert!(live(&liveness, 4, Some(6), 8));
        assert!(liveness.on_alive(said(0, 1, 2), 8, TIMEOUT));
        assert!(!live(&liveness, 4, Some(6), 8) && live(&liveness, 4, Some(8), 8));
        // With another number of workers nobody owns what it did.
        assert!(liveness.on_alive(said(0, 2, 2), 9, TIMEOUT));
        assert!(!live(&liveness, 4, Some(8), 9) && live(&liveness, 4, Some(9), 9));
    }

    #[test]
    fn a_store_that_is_relied_on_is_lost_once_and_may_come_back() {
        let mut liveness = Liveness::default();
        liveness.on_alive(said(0, 1, 1), 5, TIMEOUT);
        assert!(liveness.newly_lost(50, TIMEOUT).is_empty(), "nobody relies on it");
        liveness.rely_on(&[OTHER]);
        liveness.rely_on(&[OTHER]);
        assert!(liveness.newly_lost(15, TIMEOUT).is_empty());
        assert_eq!(liveness.newly_lost(16, TIMEOUT), [OTHER]);
        assert!(liveness.newly_lost(17, TIMEOUT).is_empty());
        liveness.on_alive(said(0, 1, 1), 20, TIMEOUT);
        liveness.release(&[OTHER]);
        assert_eq!(liveness.newly_lost(31, TIMEOUT), [OTHER], "one still relies on it");
        liveness.release(&[OTHER]);
        assert!(liveness.relied_on().is_empty());
    }

    #[test]
    fn where_nobody_sleeps_nobody_speaks() {
        let mut liveness = Liveness::default();
        liveness.on_alive(said(0, 1, 1), 5, TIMEOUT);
        assert!(liveness.audience(5, TIMEOUT).is_empty());
        liveness.on_alive(SaidAlive { relies: true, ..said(0, 1, 1) }, 6, TIMEOUT);
        assert_eq!(liveness.audience(16, TIMEOUT), BTreeMap::from([(OTHER, false)]));
        assert!(liveness.audience(17, TIMEOUT).is_empty());
        liveness.want(&[OTHER], 20);
        assert_eq!(liveness.audience(19, TIMEOUT), BTreeMap::from([(OTHER, true)]));
        assert!(liveness.audience(20, TIMEOUT).is_empty());
        liveness.rely_on(&[OTHER]);
        assert_eq!(liveness.audience(90, TIMEOUT), BTreeMap::from([(OTHER, true)]));
    }

    #[test]
    fn what_cannot_be_is_not_heard() {
        let mut liveness = Liveness::default();
        for (worker, workers) in [(0, 0), (2, 2), (0, u32::MAX)] {
            assert!(!liveness.on_alive(said(worker, workers, 1), 5, TIMEOUT));
        }
        assert!(liveness.stores.is_empty());
    }
}
