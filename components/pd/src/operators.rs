//! The operators under way and those that ended lately.

use crate::operator::{Operator, OperatorKind, Progress};
use crate::seeded_bug::SeededBug;
use crate::{Config, RegionInfo, StoreView};
use std::collections::{BTreeMap, VecDeque};
use types::{MonoTime, Peer, RegionId, StoreId};
use wire::pd::{Instruction, OperatorStatus, Step};

/// What unfinished operators will have changed at a store once they are done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Influence {
    /// Regions that it gains, less those it loses.
    pub regions: i64,
    /// Leaders that it gains, less those it loses.
    pub leaders: i64,
    /// Peers being added.
    pub adding: usize,
    /// Peers being removed.
    pub removing: usize,
}

/// All operators: at most one per region.
#[derive(Clone, Default, Debug)]
pub struct Operators {
    running: BTreeMap<RegionId, Operator>,
    /// How each ended, when, and the operator itself; the latest last.
    ended: VecDeque<(MonoTime, String, Operator)>,
    /// Regions whose last operator failed, and until when they are left alone.
    resting: BTreeMap<RegionId, MonoTime>,
    started: u64,
    finished: u64,
}

impl Operators {
    /// True if a region may get an operator.
    #[must_use]
    pub fn is_free(&self, region_id: RegionId, now: MonoTime) -> bool {
        !self.running.contains_key(&region_id)
            && self.resting.get(&region_id).is_none_or(|until| *until <= now)
    }

    /// The operators under way.
    pub fn running(&self) -> impl Iterator<Item = &Operator> {
        self.running.values()
    }

    /// The operator of a region, if it has one.
    #[must_use]
    pub fn get(&self, region_id: RegionId) -> Option<&Operator> {
        self.running.get(&region_id)
    }

    /// Ends the operator of a region because people want that; returns whether there was one. The region then rests, so
    /// that the same is not planned again at once.
    pub fn cancel(&mut self, region_id: RegionId, now: MonoTime, config: &Config) -> bool {
        let runs = self.running.contains_key(&region_id);
        if runs {
            self.fail(region_id, "cancelled: as asked for".to_owned(), now, config);
        }
        runs
    }

    /// How many operators share the limit of this kind.
    #[must_use]
    pub fn count(&self, kind: OperatorKind) -> usize {
        self.running.values().filter(|operator| operator.kind.class() == kind.class()).count()
    }

    /// How many were ever started, and how many of them came to their end as planned.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.started, self.finished)
    }

    /// Begins an operator. Its region has none, and its new peer has an id.
    pub fn start(&mut self, operator: Operator) {
        assert!(!operator.needs_peer_id(), "region {}: ids come before the start", operator.region_id);
        self.started += 1;
        let region_id = operator.region_id;
        let old = self.running.insert(region_id, operator);
        assert!(old.is_none(), "region {region_id} has an operator already: {old:?}");
    }

    /// Takes in what a leader said and returns what it is to do next. `now` is when it said so.
    pub fn observe(
        &mut self,
        info: &RegionInfo,
        stores: &BTreeMap<StoreId, StoreView>,
        now: MonoTime,
        config: &Config,
    ) -> Option<Instruction> {
        let region_id = info.region.id;
        let operator = self.running.get_mut(&region_id)?;
        match operator.observe(info, stores, now) {
            // It may drain only since this was planned.
            Progress::Send(Step::AddLearner { peer })
                if stores.get(&peer.store_id).is_some_and(StoreView::is_draining)
                    && !config.bugs.has(SeededBug::DrainingStoreIsTarget) =>
            {
                self.fail(region_id, format!("cancelled: store {} drains", peer.store_id), now, config);
                None
            }
            Progress::Send(step) => Some(Instruction { region_id, epoch: info.region.epoch, step }),
            Progress::Wait => None,
            Progress::Finished => {
                self.finished += 1;
                self.end(region_id, "finished".to_owned(), now, config);
                None
            }
            Progress::Cancelled(why) => {
                self.fail(region_id, format!("cancelled: {why}"), now, config);
                None
            }
        }
    }

    /// Ends what takes too long, and forgets rests that are over.
    pub fn expire(&mut self, now: MonoTime, config: &Config) {
        let overdue = self.running.values().filter(|operator| operator.is_overdue(now, config));
        for region_id in overdue.map(|operator| operator.region_id).collect::<Vec<_>>() {
            self.fail(region_id, "timed out".to_owned(), now, config);
        }
        self.resting.retain(|_, until| *until > now);
    }

    fn fail(&mut self, region_id: RegionId, how: String, now: MonoTime, config: &Config) {
        self.resting.insert(region_id, now + config.retry_after);
        self.end(region_id, how, now, config);
    }

    fn end(&mut self, region_id: RegionId, how: String, now: MonoTime, config: &Config) {
        let operator = self.running.remove(&region_id).expect("only what runs can end");
        self.ended.push_back((now, how, operator));
        while self.ended.len() > config.history_max {
            self.ended.pop_front();
        }
    }

    /// What all that runs will have changed, by store. `region` finds the region as last heard.
    pub fn influence<'a>(
        &self,
        region: impl Fn(RegionId) -> Option<&'a RegionInfo>,
    ) -> BTreeMap<StoreId, Influence> {
        let mut by_store = BTreeMap::new();
        for operator in self.running.values() {
            if let Some(info) = region(operator.region_id) {
                add_influence(operator, info, &mut by_store);
            }
        }
        by_store
    }

    /// Running ones, then ended ones, the latest first; for people.
    #[must_use]
    pub fn statuses(&self, now: MonoTime) -> Vec<OperatorStatus> {
        let running =
            self.running.values().map(|operator| operator.status("running", now.since(operator.created)));
        let ended = self.ended.iter().rev().map(|(at, how, operator)| {
            // An ended operator's age is how long it ran, and how long ago that was stays visible in the order.
            operator.status(how, at.since(operator.created))
        });
        running.chain(ended).collect()
    }
}

/// Adds what the rest of an operator will change.
pub(crate) fn add_influence(
    operator: &Operator,
    info: &RegionInfo,
    by_store: &mut BTreeMap<StoreId, Influence>,
) {
    let mut leader_store = info.leader.store_id;
    let mut lead = |to: StoreId, by_store: &mut BTreeMap<StoreId, Influence>| {
        by_store.entry(leader_store).or_default().leaders -= 1;
        by_store.entry(to).or_default().leaders += 1;
        leader_store = to;
    };
    let store_of =
        |id| info.region.peer(id).map(|peer: &Peer| peer.store_id).or_else(|| operator.store_of(id));
    for step in operator.remaining() {
        match step {
            Step::AddLearner { peer } => {
                let store = by_store.entry(peer.store_id).or_default();
                store.adding += 1;
                store.regions += i64::from(info.region.peer(peer.id).is_none());
            }
            Step::RemoveLearner { peer_id } => {
                if let Some(store_id) = store_of(*peer_id) {
                    let store = by_store.entry(store_id).or_default();
                    store.removing += 1;
                    store.regions -= i64::from(info.region.peer(*peer_id).is_some());
                }
            }
            Step::TransferLeader { to } => lead(to.store_id, by_store),
            Step::ChangeRoles { .. } => {}
        }
    }
}
