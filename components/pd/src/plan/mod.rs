//! What should change: a pure function of a view of the cluster.
//!
//! Repair comes first, the regions with the fewest healthy voters before all others; then leaders leave stores that
//! cannot lead; then leaders and regions are spread. All counts include what running operators will have changed, and
//! nothing moves for balance unless a store is off the mean by more than the tolerance, so a balanced cluster is quiet.
//! Every planned operator is counted at once, so that one plan does not pile its moves onto one store.

mod balance;
mod order;
mod repair;

use crate::operator::{Operator, OperatorKind};
use crate::operators::{Influence, add_influence};
use crate::{ClusterView, RegionInfo, StoreView};
use env::Dice;
use std::collections::{BTreeMap, BTreeSet};
use types::{MonoTime, Peer, PeerId, PeerRole, RegionId, StoreId};
use wire::pd::{Step, StoreState};

pub(crate) use order::order;

/// How many stores that were not chosen an operator's reason names.
const ALTERNATIVES_SHOWN: usize = 5;

/// The operators that should be started now, at most one per region, within all limits. New peers in them have no ids
/// yet (see [`Operator::assign_peer_id`]).
pub fn plan(view: &ClusterView<'_>, now: MonoTime, dice: &mut dyn Dice) -> Vec<Operator> {
    let mut planner = Planner::new(view, now);
    planner.repair();
    planner.evict_leaders(dice);
    planner.balance_leaders(dice);
    planner.balance_regions(dice);
    planner.drafts
}

/// What a store holds once everything under way is done.
#[derive(Clone, Copy, Default, Debug)]
struct Load {
    regions: i64,
    leaders: i64,
    adding: usize,
    removing: usize,
}

struct Planner<'a> {
    view: ClusterView<'a>,
    now: MonoTime,
    loads: BTreeMap<StoreId, Load>,
    /// How many operators of each class run or are planned.
    counts: BTreeMap<OperatorKind, usize>,
    taken: BTreeSet<RegionId>,
    drafts: Vec<Operator>,
}

impl<'a> Planner<'a> {
    fn new(view: &ClusterView<'a>, now: MonoTime) -> Self {
        let influence = view.operators.influence(|id| view.directory.get(id));
        let mut loads = BTreeMap::new();
        for id in view.stores.keys() {
            let Influence { regions, leaders, adding, removing } =
                influence.get(id).copied().unwrap_or_default();
            let load = Load {
                regions: view.directory.region_count(*id) as i64 + regions,
                leaders: view.directory.leader_count(*id) as i64 + leaders,
                adding,
                removing,
            };
            loads.insert(*id, load);
        }
        let mut counts = BTreeMap::new();
        for operator in view.operators.running() {
            *counts.entry(operator.kind.class()).or_insert(0) += 1;
        }
        Self { view: *view, now, loads, counts, taken: BTreeSet::new(), drafts: Vec::new() }
    }

    fn has_room(&self, kind: OperatorKind) -> bool {
        self.counts.get(&kind.class()).copied().unwrap_or(0) < kind.limit(self.view.config)
    }

    fn is_free(&self, region_id: RegionId) -> bool {
        !self.taken.contains(&region_id) && self.view.operators.is_free(region_id, self.now)
    }

    fn draft(&mut self, kind: OperatorKind, info: &RegionInfo, steps: Vec<Step>, why: String) {
        let operator = Operator::new(kind, info, steps, why, self.now);
        let mut influence = BTreeMap::new();
        add_influence(&operator, info, &mut influence);
        for (id, change) in influence {
            let load = self.loads.entry(id).or_default();
            load.regions += change.regions;
            load.leaders += change.leaders;
            load.adding += change.adding;
            load.removing += change.removing;
        }
        *self.counts.entry(kind.class()).or_insert(0) += 1;
        self.taken.insert(operator.region_id);
        self.drafts.push(operator);
    }

    fn load(&self, id: StoreId) -> Load {
        self.loads.get(&id).copied().unwrap_or_default()
    }

    fn store(&self, id: StoreId) -> Option<&'a StoreView> {
        self.view.stores.get(&id)
    }

    fn is_up(&self, id: StoreId) -> bool {
        self.store(id).is_some_and(StoreView::is_up)
    }

    fn takes_leaders(&self, id: StoreId) -> bool {
        self.store(id).is_some_and(StoreView::takes_leaders)
    }

    /// True if the copy is given up: its store is Down or gone for good, or its leader has counted it as down.
    fn is_down(&self, peer: &Peer, info: &RegionInfo) -> bool {
        self.store(peer.store_id).is_none_or(|store| store.state == StoreState::Down)
            || info.down_peers.contains(&peer.id)
    }

    /// True if the copy is to be made elsewhere because its store drains.
    fn is_leaving(&self, peer: &Peer) -> bool {
        self.store(peer.store_id).is_some_and(StoreView::is_draining)
    }

    /// True if the peer answers and is not behind.
    fn is_well(&self, peer: &Peer, info: &RegionInfo) -> bool {
        self.is_up(peer.store_id) && !info.is_behind(peer.id)
    }

    /// True if a copy of the region may be put on the store.
    fn accepts_peer(&self, store: &StoreView, info: &RegionInfo) -> bool {
        store.refuses_peer(info.size_bytes, self.view.config).is_none()
            && info.region.peer_on(store.id).is_none()
            && self.load(store.id).adding < self.view.config.store_limit
    }

    /// The best store for another copy, and why.
    fn best_target(&self, info: &RegionInfo) -> Option<(StoreId, String)> {
        let mut candidates: Vec<(i64, StoreId)> = self
            .view
            .stores
            .values()
            .filter(|store| self.accepts_peer(store, info))
            .map(|store| (self.load(store.id).regions, store.id))
            .collect();
        candidates.sort_unstable();
        let (regions, best) = *candidates.first()?;
        let mut why = format!("store {best} has the fewest regions ({regions})");
        if candidates.len() > 1 {
            let others = candidates[1..].iter().take(ALTERNATIVES_SHOWN);
            let others: Vec<String> = others.map(|(regions, id)| format!("store {id} ({regions})")).collect();
            why += &format!("; alternatives: {}", others.join(", "));
        }
        Some((best, why))
    }

    /// The voter that takes over so that a peer on `avoid` can go: one that should lead, or else one that could.
    fn heir(&self, info: &RegionInfo, avoid: StoreId) -> Option<Peer> {
        let could = |peer: &&Peer| {
            peer.store_id != avoid
                && self.store(peer.store_id).is_some_and(StoreView::could_lead)
                && self.is_well(peer, info)
        };
        self.best_leader(info, avoid).or_else(|| voters(info).find(could).copied())
    }

    /// The voter to which leadership may move, other than those on `avoid`: on the store that leads least.
    fn best_leader(&self, info: &RegionInfo, avoid: StoreId) -> Option<Peer> {
        let voters = info.region.peers.iter().filter(|peer| {
            peer.role == PeerRole::Voter
                && peer.store_id != avoid
                && self.takes_leaders(peer.store_id)
                && self.is_well(peer, info)
        });
        voters.min_by_key(|peer| (self.load(peer.store_id).leaders, peer.store_id)).copied()
    }
}

fn voters(info: &RegionInfo) -> impl Iterator<Item = &Peer> {
    info.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter)
}

fn learners(info: &RegionInfo) -> impl Iterator<Item = &Peer> {
    info.region.peers.iter().filter(|peer| peer.role == PeerRole::Learner)
}

fn promote(id: PeerId) -> Step {
    Step::ChangeRoles { promote: vec![id], demote: Vec::new() }
}

fn demote(id: PeerId) -> Step {
    Step::ChangeRoles { promote: Vec::new(), demote: vec![id] }
}

fn replace(new: PeerId, old: PeerId) -> Step {
    Step::ChangeRoles { promote: vec![new], demote: vec![old] }
}

#[cfg(test)]
mod tests;
