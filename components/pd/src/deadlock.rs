//! Who waits for whose locks, and whether anybody would wait for itself.
//!
//! Stores report who waits there. Each wait is an edge from the transaction that waits to the one that holds the lock; an
//! edge that closes a cycle is not added, and the request that it stands for is told to give up. One detector knows all
//! edges of the cluster: that of the placement driver's leader, as long as it holds its lease. It is in memory alone: a new
//! leader knows nothing, refuses the next report of each store, and is then told all. Until then a deadlock may be
//! overlooked; nobody waits longer than its store allows, and whoever waits again is reported again.
//!
//! An edge goes when its store says so, and by itself once the wait must have ended. Between the end of a wait and the
//! store's word of it an edge is stale: a transaction that goes on after it gave up waiting for one key can be told of a
//! deadlock that has just dissolved (INV-TXN-16).

use crate::seeded_bug::{Bugs, SeededBug};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{MonoTime, StoreId, Timestamp};
use wire::pd::{FoundDeadlock, LockWait, SeenWait};
use wire::txn::WaitEdge;

/// Edges that are known at once; more are passed over, and deadlocks among them end when somebody waits no longer.
const EDGES_MAX: usize = 100_000;
/// The longest wait that is believed.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// An edge lives so much longer than its wait: the word of the wait's end is on its way.
const SLACK: Duration = Duration::from_secs(1);

/// Waits that people are told of at once.
const SEEN_MAX: usize = 1_000;

/// Names a wait in the cluster.
type WaitId = (StoreId, u64);

struct Wait {
    edge: WaitEdge,
    since: MonoTime,
    expires: MonoTime,
}

/// The graph of waits.
#[derive(Default)]
pub(crate) struct Detector {
    waits: BTreeMap<WaitId, Wait>,
    /// The waits of each transaction that waits; none is empty.
    by_waiter: BTreeMap<Timestamp, BTreeSet<WaitId>>,
    by_expiry: BTreeSet<(MonoTime, WaitId)>,
    /// The last report of each store that was taken.
    reports: BTreeMap<StoreId, u64>,
    found: u64,
    bugs: Bugs,
}

impl Detector {
    pub(crate) fn new(bugs: Bugs) -> Self {
        Self { bugs, ..Self::default() }
    }

    /// Takes what a store reports; `None` if a report before it is not known.
    pub(crate) fn report(
        &mut self,
        now: MonoTime,
        store_id: StoreId,
        (report, after): (u64, u64),
        added: Vec<LockWait>,
        removed: &[u64],
    ) -> Option<Vec<FoundDeadlock>> {
        match after {
            0 => self.forget_store(store_id),
            after if self.reports.get(&store_id) != Some(&after) => return None,
            _ => {}
        }
        self.reports.insert(store_id, report);
        self.expire(now);
        if !self.bugs.has(SeededBug::LockWaitsNotRemoved) {
            removed.iter().for_each(|id| self.remove((store_id, *id)));
        }
        let mut found = Vec::new();
        for wait in added {
            let (id, LockWait { edge, left_ms, .. }) = (wait.id, wait);
            // It may have waited for somebody else before.
            self.remove((store_id, id));
            if let Some(wait_chain) = self.cycle(&edge) {
                self.found += 1;
                found.push(FoundDeadlock { id, wait_chain });
            } else if self.waits.len() < EDGES_MAX {
                let expires = now + Duration::from_millis(left_ms).min(WAIT_MAX) + SLACK;
                self.by_waiter.entry(edge.waiter_ts).or_default().insert((store_id, id));
                self.by_expiry.insert((expires, (store_id, id)));
                self.waits.insert((store_id, id), Wait { edge, since: now, expires });
            }
        }
        Some(found)
    }

    /// Who waits, for people.
    pub(crate) fn waits(&mut self, now: MonoTime) -> Vec<SeenWait> {
        self.expire(now);
        let seen = |(&(store_id, _), wait): (&WaitId, &Wait)| {
            let age_ms = u64::try_from(now.since(wait.since).as_millis()).unwrap_or(u64::MAX);
            SeenWait { store_id, edge: wait.edge.clone(), age_ms }
        };
        self.waits.iter().take(SEEN_MAX).map(seen).collect()
    }

    /// How many wait, as far as is known.
    pub(crate) fn waiting(&self) -> usize {
        self.waits.len()
    }

    /// How many deadlocks were found.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// The shortest cycle that this edge would close, from its waiter back to it.
    fn cycle(&self, edge: &WaitEdge) -> Option<Vec<WaitEdge>> {
        let mut reached: BTreeMap<Timestamp, &WaitEdge> = BTreeMap::new();
        let mut next = vec![edge.lock_ts];
        let closing = 'search: loop {
            let mut further = Vec::new();
            for txn in next {
                for id in self.by_waiter.get(&txn).into_iter().flatten() {
                    let step = &self.waits[id].edge;
                    if step.lock_ts == edge.waiter_ts {
                        break 'search Some(step);
                    }
                    if step.lock_ts != edge.lock_ts && !reached.contains_key(&step.lock_ts) {
                        reached.insert(step.lock_ts, step);
                        further.push(step.lock_ts);
                    }
                }
            }
            if further.is_empty() {
                break None;
            }
            next = further;
        };
        let mut chain = vec![closing?.clone()];
        while let Some(first) = chain.last().filter(|first| first.waiter_ts != edge.lock_ts) {
            let before = reached[&first.waiter_ts].clone();
            chain.push(before);
        }
        chain.push(edge.clone());
        chain.reverse();
        Some(chain)
    }

    fn expire(&mut self, now: MonoTime) {
        while let Some((expires, id)) = self.by_expiry.first().copied()
            && expires <= now
        {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: WaitId) {
        let Some(Wait { edge, expires, .. }) = self.waits.remove(&id) else { return };
        self.by_expiry.remove(&(expires, id));
        let others = self.by_waiter.get_mut(&edge.waiter_ts).expect("each wait is listed by its waiter");
        others.remove(&id);
        if others.is_empty() {
            self.by_waiter.remove(&edge.waiter_ts);
        }
    }

    fn forget_store(&mut self, store_id: StoreId) {
        let ids: Vec<WaitId> =
            self.waits.range((store_id, 0)..=(store_id, u64::MAX)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.remove(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Key;

    const ONE: StoreId = StoreId(1);
    const TWO: StoreId = StoreId(2);

    fn wait(id: u64, waiter: u64, holder: u64, key: &'static str) -> LockWait {
        let edge = WaitEdge {
            waiter_ts: Timestamp(waiter),
            lock_ts: Timestamp(holder),
            key: Key::from_static(key.as_bytes()),
        };
        LockWait { id, edge, left_ms: 500 }
    }

    fn at(ms: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_millis(ms)
    }

    fn words(found: &[FoundDeadlock]) -> Vec<String> {
        let edge = |edge: &WaitEdge| {
            let key = String::from_utf8_lossy(&edge.key);
            format!("{}-{key}->{}", edge.waiter_ts.0, edge.lock_ts.0)
        };
        let chain = |found: &FoundDeadlock| {
            let edges: Vec<String> = found.wait_chain.iter().map(edge).collect();
            format!("{}: {}", found.id, edges.join(" "))
        };
        found.iter().map(chain).collect()
    }

    /// Two wait for each other at two stores. The one that was last to wait is told, and the other goes on waiting.
    #[test]
    fn whoever_closes_a_cycle_is_told_who_waits_for_whom() {
        let mut detector = Detector::default();
        assert_eq!(detector.report(at(0), ONE, (1, 0), vec![wait(7, 10, 20, "a")], &[]), Some(vec![]));
        let found = detector.report(at(1), TWO, (1, 0), vec![wait(3, 20, 10, "b")], &[]).expect("taken");
        assert_eq!(words(&found), ["3: 20-b->10 10-a->20"]);
        assert_eq!((detector.waiting(), detector.found()), (1, 1));
    }

    /// A transaction waits for several others at once, one of which leads back to it, the shorter way of two.
    #[test]
    fn a_cycle_is_found_over_many_and_told_by_its_shortest_way() {
        let mut detector = Detector::default();
        let waits = vec![
            wait(1, 20, 30, "a"),
            wait(2, 20, 40, "b"),
            wait(3, 40, 50, "c"),
            wait(4, 50, 10, "d"),
            wait(5, 30, 10, "e"),
            wait(6, 30, 60, "f"),
        ];
        assert_eq!(detector.report(at(0), ONE, (1, 0), waits, &[]), Some(vec![]));
        let found = detector.report(at(0), TWO, (1, 0), vec![wait(1, 10, 20, "g")], &[]).expect("taken");
        assert_eq!(words(&found), ["1: 10-g->20 20-a->30 30-e->10"]);
    }

    /// The first of two gives up before the second begins to wait, or the store of the first is lost: nobody is told of a
    /// deadlock that is none.
    #[test]
    fn a_wait_that_has_ended_closes_no_cycle() {
        let mut detector = Detector::default();
        detector.report(at(0), ONE, (1, 0), vec![wait(7, 10, 20, "a")], &[]).expect("taken");
        detector.report(at(1), ONE, (2, 1), vec![], &[7]).expect("taken");
        assert_eq!(detector.report(at(2), TWO, (1, 0), vec![wait(3, 20, 10, "b")], &[]), Some(vec![]));
        detector.report(at(3), TWO, (2, 1), vec![], &[3]).expect("taken");
        // The holder changes: whoever waits, waits for somebody else.
        detector.report(at(3), ONE, (3, 2), vec![wait(8, 10, 20, "a")], &[]).expect("taken");
        detector.report(at(4), ONE, (4, 3), vec![wait(8, 10, 30, "a")], &[]).expect("taken");
        assert_eq!(detector.report(at(5), TWO, (3, 2), vec![wait(4, 20, 10, "b")], &[]), Some(vec![]));
        // The second store is never heard of again.
        assert_eq!(detector.waiting(), 2);
        assert_eq!(detector.report(at(1_505), ONE, (5, 4), vec![wait(9, 10, 20, "a")], &[]), Some(vec![]));
        assert_eq!(detector.waiting(), 1);
    }

    /// Another member leads: it knows of no report, so each store is asked for all that wait there.
    #[test]
    fn a_report_that_follows_an_unknown_one_is_not_taken() {
        let mut detector = Detector::default();
        assert_eq!(detector.report(at(0), ONE, (5, 4), vec![wait(7, 10, 20, "a")], &[]), None);
        assert_eq!(detector.waiting(), 0);
        let all = vec![wait(7, 10, 20, "a"), wait(8, 11, 20, "a")];
        assert_eq!(detector.report(at(0), ONE, (6, 0), all, &[]), Some(vec![]));
        assert_eq!(detector.report(at(0), ONE, (7, 0), vec![wait(8, 11, 20, "a")], &[]), Some(vec![]));
        assert_eq!(detector.waiting(), 1, "what all there is does not name waits no more");
    }
}
