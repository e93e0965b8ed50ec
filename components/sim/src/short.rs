//! Short runs: small clusters in which rare states come often.
//!
//! Few keys that many want, quick elections, tiny logs, threads that stall; and of all that can go wrong one or two kinds
//! alone, but those again and again, timed by the election timeout, for that is what the dangerous moments are measured
//! in. Most seeds of this kind have hardly anything of what a longer run has, and get far in the little that they have.
//! One in four tells a single [`Story`], again and again.

mod stories;

use crate::disk::DiskConfig;
use crate::faults::{Action, Fault, Shape};
use crate::kernel::{CrashKind, NodeId};
use crate::network::NetworkConfig;
use crate::plan::{Plan, Targets};
use crate::setup::Setup;
use crate::time::SimTime;
use crate::workload::WorkloadConfig;
use env::{Dice, SplitMix};
use std::time::Duration;
use stories::Story;
use wire::pd::StoreMode;

/// What is drawn otherwise than for a longer run.
pub(crate) fn sharpen(seed: u64, root: &SplitMix, setup: &mut Setup, workload: &mut WorkloadConfig) {
    sharpen_setup(&mut root.fork("short setup"), setup);
    sharpen_workload(&mut root.fork("short workload"), workload);
    if let Some(story) = Story::of(seed) {
        story.sharpen(setup, workload);
    }
    // A copy on a store that is gone could never be replaced where each store is to have one.
    setup.pd.replicas = setup.pd.replicas.min(usize::try_from(setup.stores).expect("small"));
}

fn pick<T: Copy>(dice: &mut SplitMix, from: &[T]) -> T {
    from[usize::try_from(dice.below(from.len() as u64)).expect("an index")]
}

fn millis(dice: &mut SplitMix, low: u64, high: u64) -> Duration {
    dice.duration(Duration::from_millis(low), Duration::from_millis(high))
}

fn sharpen_setup(dice: &mut SplitMix, setup: &mut Setup) {
    setup.stores = pick(dice, &[3, 3, 4, 4, 5]);
    setup.late_stores = pick(dice, &[0, 0, 1]);
    setup.stores += setup.late_stores;
    let tick = Duration::from_millis(pick(dice, &[100, 50, 50, 25]));
    setup.pd.tick = tick;
    setup.pd_members = pick(dice, &[1, 3, 3]);
    setup.links.damage_one_in = pick(dice, &[0, 0, 3, 20]);
    let regions = &mut setup.store.raftstore;
    regions.tick = tick;
    regions.lease = tick * pick(dice, &[1, 7, 8, 8]);
    regions.log_gc_entries_max = 3 + dice.below(30);
    regions.log_gc_entries_min = 1 + dice.below(5);
    regions.log_gc_interval = millis(dice, 100, 600);
    regions.region_heartbeat_interval = millis(dice, 100, 500);
    setup.store.store_heartbeat_interval = millis(dice, 100, 500);
    setup.links.stall_one_in = pick(dice, &[0, 0, 500, 1_000]);
    if dice.chance(1, 3) {
        setup.links.hand_over_max = dice.duration(tick / 50, tick / 3);
    }
    // Appliers that are behind, a little and often or for long: what is committed and what is applied drift apart.
    let (lag_one_in, lag_ticks) = pick(dice, &[(0, 0), (0, 0), (3, 8), (3, 30), (40, 60), (200, 160)]);
    (setup.links.lag_one_in, setup.links.lag_max) = (lag_one_in, tick * lag_ticks);
    setup.pd.tso_window = millis(dice, 100, 400);
    setup.pd.plan_interval = millis(dice, 50, 200);
    setup.pd.retry_after = millis(dice, 50, 300);
    setup.pd.prepare_timeout = millis(dice, 100, 500);
    if dice.chance(2, 3) {
        // Whoever is away for a moment is replaced, and comes back to a cluster without it. Threads that stall would be
        // taken for it, again and again.
        setup.links.stall_one_in = 0;
        setup.pd.disconnected_after = millis(dice, 700, 1_000);
        setup.pd.down_after = millis(dice, 1_000, 2_000);
        setup.store.raftstore.down_after = setup.pd.down_after;
    }
}

fn sharpen_workload(dice: &mut SplitMix, workload: &mut WorkloadConfig) {
    workload.keys = pick(dice, &[1, 2, 4, 12]);
    workload.processes = 2 + usize::try_from(dice.below(4)).expect("small");
    workload.rest_max = millis(dice, 4, 60);
    workload.forgets_one_in = pick(dice, &[0, 2, 2, 5]);
    workload.timestamps = dice.chance(1, 2);
    if dice.chance(1, 2) {
        workload.deadline = millis(dice, 100, 2_000);
    }
}

/// A kind of trouble, as what begins how much later; `timeout` is the least election timeout.
type Kind = fn(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)>;

const KINDS: &[Kind] = &[
    alone, alone, alone, pinch, pinch, pinch, restart, power, fading, fading, freeze, away, away, clocks,
    handover, handover, deaf, deaf, deaf, unseen, unseen, unseen,
];

/// What goes wrong in a short run.
pub(crate) fn plan(seed: u64, targets: &Targets, until: SimTime, timeout: Duration) -> Plan {
    let root = SplitMix::new(seed);
    let mut dice = root.fork("short plan");
    let Plan { mut network, mut disk, mut points, mut actions } =
        Plan::draw(&root.fork("faults"), targets, until);
    if dice.chance(1, 2) {
        network = NetworkConfig::default();
    }
    if !dice.chance(1, 4) {
        // Stores that come later come all the same.
        actions.retain(|action| matches!(action.fault, Fault::Start { .. }));
    }
    let story = Story::of(seed);
    if story.is_some() {
        (network, disk, points) = (NetworkConfig::default(), DiskConfig::default(), Vec::new());
        actions.retain(|action| matches!(action.fault, Fault::Start { .. }));
    }
    let mut often = |label: &str, kind: Kind, interval: Duration| {
        let mut dice = root.fork(label);
        let mut at = SimTime::ZERO + Duration::from_millis(500);
        loop {
            at = at + dice.duration(interval / 4, interval * 2);
            if at >= until {
                break;
            }
            let faults = kind(&mut dice, targets, timeout);
            actions.extend(faults.into_iter().map(|(later, fault)| Action { at: at + later, fault }));
        }
    };
    if let Some(story) = story {
        often("short telling", story.kind, timeout * story.timeouts);
        actions.retain(|action| action.at < until);
        actions.sort_by_key(|action| action.at);
        return Plan { network, disk, points, actions };
    }
    for number in 0..1 + dice.below(3) {
        let kind = pick(&mut dice, KINDS);
        often(
            &format!("short kind {number}"),
            kind,
            timeout * u32::try_from(1 + dice.below(6)).expect("small") / 2,
        );
    }
    if dice.chance(3, 4) {
        often("short transfer", transfer, Duration::from_millis(100 << dice.below(4)));
    }
    if dice.chance(3, 4) {
        often("short split", split, Duration::from_millis(100 << dice.below(4)));
    }
    if dice.chance(1, 2) {
        often("short compact", compact, Duration::from_millis(50 << dice.below(4)));
    }
    if dice.chance(1, 4) {
        often("short members", members, Duration::from_millis(200 << dice.below(4)));
    }
    if dice.chance(1, 5) {
        often("short image", image, Duration::from_millis(1_500 << dice.below(3)));
    }
    if dice.chance(1, 4) {
        often("short drain", drain, Duration::from_millis(1_000 << dice.below(3)));
    }
    actions.retain(|action| action.at < until);
    actions.sort_by_key(|action| action.at);
    Plan { network, disk, points, actions }
}

/// Some of them, in any order.
fn some(dice: &mut SplitMix, from: &[NodeId], count: usize) -> Vec<NodeId> {
    let mut left = from.to_vec();
    let mut taken = Vec::new();
    while taken.len() < count && !left.is_empty() {
        taken.push(left.swap_remove(usize::try_from(dice.below(left.len() as u64)).expect("an index")));
    }
    taken
}

/// The stores, or now and then the members of the placement driver.
fn group<'a>(dice: &mut SplitMix, targets: &'a Targets) -> &'a [NodeId] {
    if dice.chance(1, 3) { &targets.members } else { &targets.stores }
}

fn at_once(faults: impl IntoIterator<Item = Fault>) -> Vec<(Duration, Fault)> {
    faults.into_iter().map(|fault| (Duration::ZERO, fault)).collect()
}

/// Cuts `one` off from the others of its group: it hears them no more, or they do not hear it, or both.
fn cut_off(one: NodeId, group: &[NodeId], hears: bool, is_heard: bool, duration: Duration) -> Option<Fault> {
    let others = || group.iter().copied().filter(move |other| *other != one);
    let mut directions = Vec::new();
    if !hears {
        directions.extend(others().map(|other| (other, one)));
    }
    if !is_heard {
        directions.extend(others().map(|other| (one, other)));
    }
    (!directions.is_empty()).then_some(Fault::Cut { shape: Shape::Alone, directions, duration })
}

/// One of a group is cut off from its like, in one direction or both; most clients reach it.
fn alone(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let group = group(dice, targets);
    let (hears, is_heard) = pick(dice, &[(true, false), (false, true), (false, false)]);
    let duration = dice.duration(timeout / 3, timeout * 3);
    // Some clients perhaps do not, and go to whoever takes its place.
    let mut near = group.to_vec();
    let away = usize::try_from(dice.below(targets.clients.len() as u64)).expect("small");
    near.extend(some(dice, &targets.clients, away));
    at_once(some(dice, group, 1).into_iter().filter_map(|one| cut_off(one, &near, hears, is_heard, duration)))
}

/// A store hears no other, and all hear it: what it says is done and it does not know, until it gives up and others go
/// on without it; it comes back to logs that do not reach as far back as its own.
fn deaf(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    if dice.chance(1, 2) {
        // It lasts, and all of them deaf would be no cluster.
        return Vec::new();
    }
    let duration = dice.duration(timeout * 2, timeout * 8);
    let one = some(dice, &targets.stores, 1);
    at_once(one.into_iter().filter_map(|one| cut_off(one, &targets.stores, false, true, duration)))
}

/// Two do not hear each other, while a third one, which both reach, is out for moments.
fn pinch(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let group = group(dice, targets);
    let [one, other, between] = some(dice, group, 3)[..] else { return Vec::new() };
    let mut directions = vec![(one, other)];
    directions.extend(dice.chance(2, 3).then_some((other, one)));
    let duration = dice.duration(timeout, timeout * 8);
    let mut faults = at_once([Fault::Cut { shape: Shape::Pair, directions, duration }]);
    let kind = dice.below(3);
    for _ in 0..dice.below(6) {
        let later = dice.duration(Duration::ZERO, duration);
        let moment = dice.duration(timeout / 20, timeout * 2);
        let fault = match kind {
            0 => Fault::Freeze { node: between, duration: moment },
            1 => Fault::Crash { node: between, kind: CrashKind::Process, in_sync: false, down: moment / 10 },
            _ => Fault::Crash { node: between, kind: CrashKind::Power, in_sync: true, down: moment / 10 },
        };
        faults.push((later, fault));
    }
    faults
}

/// A process ends and is there again before anybody has given it up.
fn restart(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let group = group(dice, targets);
    let kind = if dice.chance(2, 3) { CrashKind::Power } else { CrashKind::Process };
    let (in_sync, down) = (dice.chance(1, 2), dice.duration(Duration::from_millis(1), timeout / 2));
    at_once(some(dice, group, 1).into_iter().map(|node| Fault::Crash { node, kind, in_sync, down }))
}

/// Several machines lose their power at about the same time.
fn power(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let group = group(dice, targets);
    let (in_sync, down) = (dice.chance(1, 2), dice.duration(Duration::from_millis(1), timeout));
    let crash = |node| Fault::Crash { node, kind: CrashKind::Power, in_sync, down };
    at_once(some(dice, group, group.len().div_ceil(2)).into_iter().map(crash))
}

/// What one store is told takes long, and after a while nobody hears it any more: the answers to what it said before
/// still come.
fn fading(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let Some(one) = some(dice, &targets.stores, 1).first().copied() else { return Vec::new() };
    let others = targets.stores.iter().copied().filter(|other| *other != one);
    let directions = others.map(|other| (other, one)).collect();
    let by = dice.duration(timeout / 5, timeout * 5 / 2);
    let slow = Fault::Slow { directions, by, duration: timeout * 6 };
    let later = dice.duration(Duration::ZERO, timeout * 3);
    let cut = cut_off(one, &targets.stores, true, false, dice.duration(timeout, timeout * 3));
    let mut faults = at_once([slow]);
    faults.extend(cut.map(|cut| (later, cut)));
    faults
}

/// Leadership is handed over, again and again, while one store is not heard: whoever is told to campaign there finds no
/// voter before another one leads.
fn handover(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let Some(one) = some(dice, &targets.stores, 1).first().copied() else { return Vec::new() };
    let mut faults: Vec<_> = (0..4 + dice.below(8))
        .flat_map(|_| {
            let later = dice.duration(Duration::ZERO, timeout * 2);
            transfer(dice, targets, timeout).into_iter().map(move |(_, fault)| (later, fault))
        })
        .collect();
    let duration = dice.duration(timeout, timeout * 5 / 2);
    faults.extend(at_once(cut_off(one, &targets.stores, true, false, duration)));
    // And then it does not hear, so that it campaigns again.
    let later = duration + dice.duration(timeout / 4, timeout * 2);
    let deaf = cut_off(one, &targets.stores, false, true, dice.duration(timeout, timeout * 3));
    faults.extend(deaf.map(|cut| (later, cut)));
    faults
}

fn later(by: Duration, faults: Vec<(Duration, Fault)>) -> impl Iterator<Item = (Duration, Fault)> {
    faults.into_iter().map(move |(at, fault)| (by + at, fault))
}

fn freeze(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let (group, duration) = (group(dice, targets), dice.duration(timeout / 3, timeout * 5 / 2));
    at_once(some(dice, group, 1).into_iter().map(|node| Fault::Freeze { node, duration }))
}

/// A store is away until it is given up, and longer.
fn away(dice: &mut SplitMix, targets: &Targets, _: Duration) -> Vec<(Duration, Fault)> {
    let (down, power) = (millis(dice, 500, 5_000), dice.chance(1, 2));
    let away = |node| match power {
        true => Fault::Crash { node, kind: CrashKind::Power, in_sync: false, down },
        false => Fault::Freeze { node, duration: down },
    };
    at_once(some(dice, &targets.stores, 1).into_iter().map(away))
}

/// The placement driver does not hear a store and gives it up, which goes on all the while.
fn unseen(dice: &mut SplitMix, targets: &Targets, _: Duration) -> Vec<(Duration, Fault)> {
    if dice.chance(1, 2) {
        return Vec::new();
    }
    let duration = millis(dice, 1_000, 6_000);
    let one = some(dice, &targets.stores, 1);
    at_once(one.into_iter().filter_map(|one| cut_off(one, &targets.members, false, false, duration)))
}

/// A wall clock of the placement driver jumps, and its leader perhaps changes.
fn clocks(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let by_ms = i64::try_from(dice.below(20_000)).expect("small") - 10_000;
    let mut faults =
        at_once(some(dice, &targets.members, 1).into_iter().map(|node| Fault::WallJump { node, by_ms }));
    let moment = dice.duration(timeout, timeout * 2);
    let one = some(dice, &targets.members, 1);
    faults.extend(at_once(
        one.into_iter().filter_map(|one| cut_off(one, &targets.members, false, false, moment)),
    ));
    faults
}

fn transfer(dice: &mut SplitMix, targets: &Targets, _: Duration) -> Vec<(Duration, Fault)> {
    let (region, peer) = (dice.below(1 << 16), dice.below(1 << 16));
    let transfer = |client| Fault::Transfer { client, region, peer };
    at_once(some(dice, &targets.clients, 1).into_iter().map(transfer))
}

fn compact(dice: &mut SplitMix, targets: &Targets, _: Duration) -> Vec<(Duration, Fault)> {
    let region = dice.below(1 << 16);
    at_once(some(dice, &targets.clients, 1).into_iter().map(|client| Fault::CompactLog { client, region }))
}

fn split(dice: &mut SplitMix, targets: &Targets, _: Duration) -> Vec<(Duration, Fault)> {
    let key = dice.below(1 << 16);
    at_once(some(dice, &targets.clients, 1).into_iter().map(|client| Fault::Split { client, key }))
}

/// Peers come and go because people want that.
fn members(dice: &mut SplitMix, targets: &Targets, _: Duration) -> Vec<(Duration, Fault)> {
    at_once(crate::plan::change_members(dice, targets))
}

/// A disk is written over with what it held a while ago.
fn image(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let (later, down) = (millis(dice, 500, 6_000), dice.duration(Duration::from_millis(1), timeout));
    let Some(node) = some(dice, &targets.stores, 1).first().copied() else { return Vec::new() };
    vec![(Duration::ZERO, Fault::Image { node }), (later, Fault::RestoreDisk { node, down })]
}

/// A store is drained; and some store is restarted later, perhaps the one that holds nothing any more.
fn drain(dice: &mut SplitMix, targets: &Targets, timeout: Duration) -> Vec<(Duration, Fault)> {
    let store = dice.below(1 << 16);
    let drain = |client| Fault::Mode { mode: StoreMode::Draining, client, store };
    let mut faults = at_once(some(dice, &targets.clients, 1).into_iter().map(drain));
    let later = dice.duration(Duration::ZERO, Duration::from_secs(6));
    let again = restart(dice, &Targets { members: Vec::new(), ..targets.clone() }, timeout);
    faults.extend(again.into_iter().map(|(at, fault)| (later + at, fault)));
    faults
}

#[cfg(test)]
mod tests {
    use crate::run::RunOptions;
    use crate::schedule::Schedule;

    #[test]
    fn every_short_schedule_is_valid_and_has_something_in_it() {
        let mut empty = 0;
        for seed in 0..300 {
            let schedule = Schedule::draw(seed, &RunOptions::short());
            let text = schedule.to_string();
            assert_eq!(Schedule::parse(&text).as_ref(), Ok(&schedule), "seed {seed}");
            schedule.setup.store.validate().unwrap();
            schedule.setup.pd.validate().unwrap();
            empty += usize::from(schedule.plan.actions.is_empty());
        }
        assert!(empty < 10, "{empty} short runs in which nothing goes wrong");
    }
}
