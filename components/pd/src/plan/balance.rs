//! Leaders and regions spread evenly over the stores.

use super::{Planner, demote, promote, replace, voters};
use crate::operator::OperatorKind;
use crate::{RegionInfo, StoreView};
use env::Dice;
use types::{Peer, PeerId, PeerRole, Region, RegionId, StoreId};
use wire::pd::Step;

/// How many regions of a store are looked at for one that can move.
const REGIONS_TRIED: usize = 64;
/// How many of the fullest stores, and of the emptiest, are tried against each other. Bounds the work of one plan.
const STORES_TRIED: usize = 16;

/// Whether a move ends where it should.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Straight,
    Detour,
}

/// Stores with their count, and what lies too far off.
struct Spread {
    /// Ascending by count.
    targets: Vec<(i64, StoreId)>,
    /// Descending by count.
    sources: Vec<(i64, StoreId)>,
    total: i64,
    stores: i64,
}

impl Spread {
    /// `takers` can take more; `givers` cannot, and count only where they hold more than their share: what they lack
    /// nobody can give them.
    fn new(takers: Vec<(i64, StoreId)>, givers: Vec<(i64, StoreId)>) -> Self {
        let sum = |stores: &[(i64, StoreId)]| stores.iter().map(|(count, _)| *count).sum::<i64>();
        let (total, stores) = (sum(&takers), takers.len() as i64);
        let givers = givers.into_iter().filter(|(count, _)| count * stores > total);
        let mut sources: Vec<_> = takers.iter().copied().chain(givers).collect();
        let mut targets = takers;
        sources.sort_unstable_by(|a, b| b.cmp(a));
        targets.sort_unstable();
        Self { total: sum(&sources), stores: sources.len() as i64, sources, targets }
    }

    /// The pairs between which a move evens things out, where one of the two is off the mean by more than the
    /// tolerance: one, or 5 % of the mean. The gap of two makes every move an improvement, so moves end.
    ///
    /// A straight move goes from above the mean to below it, so that no store gets what it will have to give away
    /// again. A detour over a store in between is for when nothing that the one holds may go to the other.
    fn pairs(&self, way: Way) -> impl Iterator<Item = (StoreId, StoreId)> {
        // All in units of one part in `stores`, so that the mean is a whole number.
        let tolerance = self.stores.max(self.total / 20);
        let sources = self.sources.iter().take(STORES_TRIED);
        sources.flat_map(move |(source, from)| {
            let targets = self.targets.iter().take(STORES_TRIED);
            targets.filter_map(move |(target, to)| {
                let above = source * self.stores - self.total;
                let below = self.total - target * self.stores;
                let is_off = above > tolerance || below > tolerance;
                let is_straight = above > 0 && below > 0;
                let goes = is_off && source - target >= 2 && is_straight == (way == Way::Straight);
                goes.then_some((*from, *to))
            })
        })
    }

    fn explain(&self, what: &str, from: StoreId, to: StoreId) -> String {
        let count = |id: StoreId| {
            let found = self.sources.iter().chain(&self.targets).find(|(_, store)| *store == id);
            found.map_or(0, |(count, _)| *count)
        };
        let mean = self.total as f64 / self.stores.max(1) as f64;
        let tolerance = (mean * 0.05).max(1.0);
        format!(
            "store {from} has {} {what}, store {to} has {}; mean {mean:.1} over {} stores, tolerance {tolerance:.1}",
            count(from),
            count(to),
            self.stores
        )
    }
}

impl<'a> Planner<'a> {
    /// Leaders leave stores that are slow or short of disk, where another voter can lead.
    pub(super) fn evict_leaders(&mut self, dice: &mut dyn Dice) {
        let burdened = self.view.stores.values().filter(|store| store.is_up() && !store.takes_leaders());
        for store in burdened.collect::<Vec<_>>() {
            for info in self.leaders_of(store.id, dice) {
                if !self.has_room(OperatorKind::EvictLeader) {
                    return;
                }
                let Some(to) = self.best_leader(info, store.id).filter(|_| self.can_move(info)) else {
                    continue;
                };
                let why = format!(
                    "store {} should not lead ({}, slow: {}, disk: {:?}); store {} leads least of the others ({})",
                    store.id,
                    store.mode.name(),
                    store.stats.is_slow,
                    store.stats.disk,
                    to.store_id,
                    self.load(to.store_id).leaders
                );
                self.draft(OperatorKind::EvictLeader, info, vec![Step::TransferLeader { to }], why);
            }
        }
    }

    pub(super) fn balance_leaders(&mut self, dice: &mut dyn Dice) {
        while self.has_room(OperatorKind::BalanceLeader) && self.balance_one_leader(dice) {}
    }

    fn balance_one_leader(&mut self, dice: &mut dyn Dice) -> bool {
        let able = self.view.stores.values().filter(|store| store.takes_leaders());
        let counts: Vec<_> = able.map(|store| (self.load(store.id).leaders, store.id)).collect();
        let spread = Spread::new(counts, Vec::new());
        for (from, to) in spread.pairs(Way::Straight).chain(spread.pairs(Way::Detour)) {
            for info in self.leaders_of(from, dice) {
                let target = info.region.peer_on(to).copied();
                let target = target.filter(|peer| peer.role == PeerRole::Voter && self.is_well(peer, info));
                if let Some(target) = target.filter(|_| self.can_move(info)) {
                    let why = spread.explain("leaders", from, to);
                    self.draft(
                        OperatorKind::BalanceLeader,
                        info,
                        vec![Step::TransferLeader { to: target }],
                        why,
                    );
                    return true;
                }
            }
        }
        false
    }

    pub(super) fn balance_regions(&mut self, dice: &mut dyn Dice) {
        while self.has_room(OperatorKind::BalanceRegion) && self.balance_one_region(dice) {}
    }

    fn balance_one_region(&mut self, dice: &mut dyn Dice) -> bool {
        let up = self.view.stores.values().filter(|store| store.is_up());
        let (takers, givers): (Vec<_>, Vec<_>) =
            up.partition(|store| store.refuses_peer(0, self.view.config).is_none());
        let counts = |stores: Vec<&StoreView>| -> Vec<_> {
            stores.into_iter().map(|store| (self.load(store.id).regions, store.id)).collect()
        };
        let spread = Spread::new(counts(takers), counts(givers));
        let limit = self.view.config.store_limit;
        let is_busy = |(from, to)| self.load(from).removing >= limit || self.load(to).adding >= limit;
        // While stores are busy with straight moves, a detour would only add to their work.
        let detours = match spread.pairs(Way::Straight).any(is_busy) {
            true => None,
            false => Some(spread.pairs(Way::Detour)),
        };
        for (from, to) in spread.pairs(Way::Straight).chain(detours.into_iter().flatten()) {
            if is_busy((from, to)) {
                continue;
            }
            let target = &self.view.stores[&to];
            let movable = self.regions_of(from, dice);
            let movable =
                movable.into_iter().filter(|info| self.accepts_peer(target, info) && self.is_whole(info));
            // Moving a follower spares a change of leader.
            let chosen = movable.min_by_key(|info| info.leader.store_id == from);
            if let Some((info, steps)) =
                chosen.and_then(|info| Some((info, self.move_steps(info, from, to)?)))
            {
                let why = spread.explain("regions", from, to);
                self.draft(OperatorKind::BalanceRegion, info, steps, why);
                return true;
            }
        }
        false
    }

    pub(super) fn move_steps(&self, info: &RegionInfo, from: StoreId, to: StoreId) -> Option<Vec<Step>> {
        let old = info.region.peer_on(from)?.id;
        let add = Step::AddLearner { peer: Peer::learner(PeerId::ZERO, to) };
        let remove = Step::RemoveLearner { peer_id: old };
        if info.leader.id != old {
            return Some(vec![add, replace(PeerId::ZERO, old), remove]);
        }
        if voters(info).count() == 1 {
            // There is nobody to hand leadership to until the newcomer votes.
            let hand_over = Step::TransferLeader { to: Peer::voter(PeerId::ZERO, to) };
            return Some(vec![add, promote(PeerId::ZERO), hand_over, demote(old), remove]);
        }
        let hand_over = Step::TransferLeader { to: self.heir(info, from)? };
        Some(vec![hand_over, add, replace(PeerId::ZERO, old), remove])
    }

    /// True if all of its voters are well and as many as wanted, and nothing else is to be done for it.
    fn is_whole(&self, info: &RegionInfo) -> bool {
        self.can_move(info)
            && info.region.peers.len() == self.view.config.replicas
            && info.region.peers.iter().all(|peer| peer.role == PeerRole::Voter && self.is_well(peer, info))
    }

    fn can_move(&self, info: &RegionInfo) -> bool {
        self.is_free(info.region.id) && !Region::is_joint(&info.region) && self.is_up(info.leader.store_id)
    }

    fn leaders_of(&self, store: StoreId, dice: &mut dyn Dice) -> Vec<&'a RegionInfo> {
        let Some(regions) = self.view.directory.store(store) else { return Vec::new() };
        self.sample(&regions.leaders, dice)
    }

    fn regions_of(&self, store: StoreId, dice: &mut dyn Dice) -> Vec<&'a RegionInfo> {
        let Some(regions) = self.view.directory.store(store) else { return Vec::new() };
        self.sample(&regions.peers, dice)
    }

    /// Some regions of a set from a random one on.
    fn sample(&self, set: &std::collections::BTreeSet<RegionId>, dice: &mut dyn Dice) -> Vec<&'a RegionInfo> {
        let (Some(first), Some(last)) = (set.first(), set.last()) else { return Vec::new() };
        let start = RegionId(first.get() + dice.below(last.get() - first.get() + 1));
        let ids = set.range(start..).chain(set.range(..start)).take(REGIONS_TRIED);
        ids.filter_map(|id| self.view.directory.get(*id)).collect()
    }
}
