//! What takes several things to go wrong in turn, which others at the same time would spoil: it is all that happens in its
//! seeds, again and again.
//!
//! Every fourth seed tells a story, one story after the other, so that of any few dozen seeds each has some.

use super::{at_once, compact, cut_off, later, millis, some, split, transfer};
use crate::faults::{Fault, Shape};
use crate::kernel::CrashKind;
use crate::plan::Targets;
use crate::setup::Setup;
use crate::workload::{Change, WorkloadConfig};
use env::{Dice, SplitMix};
use std::time::Duration;

/// What goes wrong in one telling, and in what kind of cluster.
#[derive(Clone, Copy)]
pub(super) struct Story {
    pub(super) kind: super::Kind,
    /// About so many of the least election timeout are from one telling to the next.
    pub(super) timeouts: u32,
    /// In a cluster of so many stores: three, for everybody to have a part in it, or more, for something to be moved.
    stores: u32,
    /// With so many copies of each region.
    copies: usize,
    /// With so many keys: many where regions are cut again and again, else few, which many want.
    keys: u64,
}

const STORIES: &[Story] = &[
    Story { kind: usurper, timeouts: 5, stores: 3, copies: 3, keys: 4 },
    Story { kind: jumped_over, timeouts: 8, stores: 3, copies: 3, keys: 4 },
    Story { kind: pieces_moved, timeouts: 5, stores: 4, copies: 3, keys: 12 },
    Story { kind: woken, timeouts: 9, stores: 3, copies: 3, keys: 12 },
    Story { kind: cut_while_copied, timeouts: 6, stores: 4, copies: 1, keys: 12 },
    Story { kind: piece_unknown, timeouts: 12, stores: 3, copies: 3, keys: 12 },
    Story { kind: late_copy, timeouts: 8, stores: 3, copies: 3, keys: 4 },
    Story { kind: two_drivers, timeouts: 6, stores: 3, copies: 3, keys: 4 },
];

/// Of so many seeds, one tells a story.
const SEEDS_PER_STORY: u64 = 4;

impl Story {
    /// What alone is told in a seed, if it is one of those.
    pub(super) fn of(seed: u64) -> Option<Self> {
        let number = seed / SEEDS_PER_STORY;
        let index = usize::try_from(number % STORIES.len() as u64).expect("an index");
        (seed % SEEDS_PER_STORY == SEEDS_PER_STORY - 1).then(|| STORIES[index])
    }

    /// The cluster that it is told of: quick, with nothing that stalls by itself, so that what happens is the story; and
    /// with clients who wait until they know.
    pub(super) fn sharpen(self, setup: &mut Setup, workload: &mut WorkloadConfig) {
        (setup.stores, setup.late_stores, setup.pd_members) = (self.stores, 0, 3);
        (setup.links.stall_one_in, setup.links.lag_one_in) = (0, 0);
        let regions = &mut setup.store.raftstore;
        regions.tick = regions.tick.min(Duration::from_millis(50));
        regions.lease = regions.tick * 8;
        regions.region_heartbeat_interval = regions.tick * 2;
        // Whoever sleeps has no lease and no part in this.
        regions.hibernate_after = Duration::ZERO;
        // Whoever does not answer is soon replaced, where there is room.
        regions.down_after = Duration::from_millis(1_200);
        setup.pd.tick = regions.tick;
        setup.pd.replicas = self.copies;
        setup.pd.disconnected_after = Duration::from_millis(800);
        setup.pd.down_after = regions.down_after;
        setup.store.snapshots_receiving_max = setup.store.snapshots_receiving_max.max(2);
        workload.keys = self.keys;
        workload.deadline = workload.deadline.max(Duration::from_secs(5));
        workload.timestamps = true;
    }
}

/// Leadership goes round; then two do not hear each other, and both reach a third one, whose answers take long to one of
/// them: whoever else it elects leads while that one does not know yet.
fn usurper(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let [one, other, between] = some(dice, &targets.stores, 3)[..] else { return Vec::new() };
    let mut faults = Vec::new();
    for _ in 0..8 {
        let at = dice.duration(Duration::ZERO, timeout * 2);
        faults.extend(later(at, transfer(dice, targets, timeout)));
    }
    let (begins, duration) = (timeout * 2, timeout * 3);
    let slow = Fault::Slow { directions: vec![(between, one)], by: timeout / 3, duration };
    let directions = vec![(one, other), (other, one)];
    faults.extend(later(begins, at_once([slow, Fault::Cut { shape: Shape::Pair, directions, duration }])));
    faults
}

/// Regions are cut while the appliers of a store are far behind, and the pieces that it does not know of move away from
/// there.
fn pieces_moved(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let Some(node) = some(dice, &targets.stores, 1).first().copied() else { return Vec::new() };
    let duration = millis(dice, 4_000, 8_000);
    let mut faults = at_once([Fault::Lag { node, duration }]);
    for _ in 0..3 {
        faults.extend(later(millis(dice, 0, 1_000), split(dice, targets, timeout)));
    }
    for _ in 0..4 {
        let at = dice.duration(timeout, duration);
        faults.extend(later(at, at_once(crate::plan::change_members(dice, targets))));
    }
    faults
}

/// A store hears nobody and is heard, so that what it proposes is done and it does not know; perhaps its appliers are far
/// behind too. It gives up; whoever leads next has logs cut; and it is sent snapshots of what it has not come to yet.
fn jumped_over(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let Some(node) = some(dice, &targets.stores, 1).first().copied() else { return Vec::new() };
    // It gives up after one or two timeouts, and another leads after as much again.
    let (begins, moment) = (timeout / 2, dice.duration(timeout * 2, timeout * 5));
    let mut faults = Vec::new();
    if dice.chance(1, 2) {
        let duration = begins + moment + millis(dice, 200, 1_000);
        faults.push((Duration::ZERO, Fault::Lag { node, duration }));
    }
    faults.extend(cut_off(node, &targets.stores, false, true, moment).map(|cut| (begins, cut)));
    for _ in 0..16 {
        let at = begins + dice.duration(moment / 3, moment);
        faults.extend(later(at, compact(dice, targets, timeout)));
    }
    faults
}

/// Two do not hear each other; again and again a third one does not hear one of them any more, and restarts: whom it votes
/// for then, it votes for within the lease that its own last answers have given. Of regions that nobody writes to, for
/// whoever has not heard of writes does not win.
fn woken(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let [one, other, between] = some(dice, &targets.stores, 3)[..] else { return Vec::new() };
    let cut = |shape, directions, duration| Fault::Cut { shape, directions, duration };
    let mut faults = at_once([cut(Shape::Pair, vec![(one, other), (other, one)], timeout * 8)]);
    for _ in 0..2 {
        faults.extend(split(dice, targets, timeout));
        faults.extend(transfer(dice, targets, timeout));
    }
    for (number, unheard) in (0..).zip([one, other, one]) {
        let at = timeout * (3 + number * 5) / 2 + dice.duration(Duration::ZERO, timeout);
        faults.push((at, cut(Shape::OneWay, vec![(unheard, between)], timeout)));
        let (kind, down) = (CrashKind::Process, Duration::from_millis(1));
        faults.push((at, Fault::Crash { node: between, kind, in_sync: false, down }));
    }
    faults
}

/// Regions of one copy are moved to stores that hear others late and whose appliers are behind, and are cut meanwhile: the
/// new copy is of the region before it was cut, and that of the piece arrives beside it.
fn cut_while_copied(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    // Once for the store to hear of the copy, once for the beginning of the snapshot, and once for the rest.
    let by = dice.duration(timeout * 3 / 4, timeout * 5 / 4);
    let mut faults = Vec::new();
    for node in some(dice, &targets.stores, 2) {
        let others = targets.stores.iter().copied().filter(|other| *other != node);
        let directions = others.map(|other| (other, node)).collect();
        let slow = Fault::Slow { directions, by, duration: by * 4 };
        faults.extend(at_once([slow, Fault::Lag { node, duration: by * 5 }]));
    }
    for _ in 0..4 {
        let (region, peer, store) = (dice.below(4), dice.below(1 << 16), 8 * dice.below(1 << 13) + 1);
        let order = |client| Fault::Members { change: Change::Move, client, region, peer, store };
        let at = dice.duration(Duration::ZERO, timeout / 4);
        faults.extend(later(at, at_once(some(dice, &targets.clients, 1).into_iter().map(order))));
    }
    for _ in 0..5 {
        faults.extend(later(dice.duration(by, by * 2), split(dice, targets, timeout)));
    }
    faults
}

/// A store is away while regions are cut and logs are forgotten, so that it jumps over that; meanwhile another one loses
/// its disk. The third one needs the vote of a peer that has nothing.
fn piece_unknown(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let [away, lost] = some(dice, &targets.stores, 2)[..] else { return Vec::new() };
    let duration = timeout * 7;
    let mut faults = at_once(cut_off(away, &targets.stores, false, false, duration));
    for _ in 0..3 {
        let at = dice.duration(timeout * 2, timeout * 3);
        faults.extend(later(at, split(dice, targets, timeout)));
    }
    for _ in 0..12 {
        let at = dice.duration(timeout * 7 / 2, timeout * 5);
        faults.extend(later(at, compact(dice, targets, timeout)));
    }
    faults.push((timeout * 11 / 2, Fault::LoseDisk { node: lost, down: timeout * 3 }));
    faults
}

/// A store was away while logs were forgotten. One of the others is slow to reach it, with a snapshot if it leads; then
/// another one leads, is quicker, and goes on from there before that snapshot has come.
fn late_copy(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let [away, slow] = some(dice, &targets.stores, 2)[..] else { return Vec::new() };
    let moment = timeout * 5 / 2;
    let mut faults = at_once(cut_off(away, &targets.stores, false, false, moment));
    for _ in 0..10 {
        let at = dice.duration(moment / 3, moment);
        faults.extend(later(at, compact(dice, targets, timeout)));
    }
    // Once for it to hear that it is behind, once for the beginning of the snapshot, and once for the rest.
    let by = dice.duration(timeout / 2, timeout * 5 / 4);
    faults.push((moment, Fault::Slow { directions: vec![(slow, away)], by, duration: by * 5 }));
    for _ in 0..8 {
        let at = moment + dice.duration(by, by * 2);
        faults.extend(later(at, transfer(dice, targets, timeout)));
    }
    faults
}

/// What a member of the placement driver is told takes long, and after a while none of the others hears it: it believes
/// them to follow while they go on without it. Clients reach them all.
fn two_drivers(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let Some(one) = some(dice, &targets.members, 1).first().copied() else { return Vec::new() };
    let others = targets.members.iter().copied().filter(|other| *other != one);
    let directions = others.map(|other| (other, one)).collect();
    let slow = Fault::Slow { directions, by: timeout * 4 / 5, duration: timeout * 5 };
    let mut faults = at_once([slow]);
    let cut = cut_off(one, &targets.members, true, false, timeout * 3);
    faults.extend(cut.map(|cut| (timeout * 2, cut)));
    faults
}
