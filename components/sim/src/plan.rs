//! What goes wrong, and when: drawn for each seed before it begins, as a list that can be shown and cut down.
//!
//! Each seed draws which kinds of faults it has at all, and how often each comes (a swarm): rare mixtures then occur, and
//! some runs have so few that they get far. Faults last for a while, and leave the cluster alone for a while, so that it
//! has time to do the wrong thing. Each kind draws from a stream of its own: one kind more changes no other.

use crate::disk::DiskConfig;
use crate::faults::{Action, DiskFailure, Fault, Shape};
use crate::kernel::{CrashKind, NodeId};
use crate::network::NetworkConfig;
use crate::points;
use crate::time::SimTime;
use crate::workload::Change;
use env::{Dice, SplitMix};
use std::time::Duration;
use wire::pd::StoreMode;
use wire::store::DiskState;

/// The most that any clock drifts. Leases allow for a tenth between any two clocks; two that drift apart by this much
/// each stay within it.
pub const DRIFT_PPM_MAX: i64 = 40_000;

/// Which nodes a plan may hurt.
#[derive(Clone, Default, Debug)]
pub struct Targets {
    /// Stores.
    pub stores: Vec<NodeId>,
    /// Of these, those that are not there from the beginning.
    pub late: Vec<NodeId>,
    /// Members of the placement driver.
    pub members: Vec<NodeId>,
    /// Clients.
    pub clients: Vec<NodeId>,
}

impl Targets {
    /// Nodes with a disk.
    fn servers(&self) -> Vec<NodeId> {
        self.stores.iter().chain(&self.members).copied().collect()
    }

    fn all(&self) -> Vec<NodeId> {
        self.servers().iter().chain(&self.clients).copied().collect()
    }
}

/// A kind of trouble that a seed has or has not.
struct Kind {
    name: &'static str,
    /// Of so many seeds out of a hundred.
    percent: u64,
    /// When it comes most often, there is about this long between two.
    often: Duration,
    /// Several that belong together begin at once.
    draw: fn(&mut SplitMix, &Targets) -> Vec<Fault>,
}

const fn kind(
    name: &'static str,
    percent: u64,
    often_ms: u64,
    draw: fn(&mut SplitMix, &Targets) -> Vec<Fault>,
) -> Kind {
    Kind { name, percent, often: Duration::from_millis(often_ms), draw }
}

const KINDS: &[Kind] = &[
    kind("power-loss", 40, 500, |dice, targets| crash(dice, &targets.servers(), CrashKind::Power)),
    kind("crash", 40, 500, |dice, targets| crash(dice, &targets.servers(), CrashKind::Process)),
    kind("crash-any", 40, 500, |dice, targets| crash(dice, &targets.all(), CrashKind::Process)),
    kind("freeze", 40, 500, |dice, targets| freeze(dice, &targets.servers())),
    kind("freeze-any", 40, 500, |dice, targets| freeze(dice, &targets.all())),
    // Often clients still reach everybody, the deposed leader as well as the new one.
    kind("parted-servers", 25, 500, |dice, targets| parted(dice, &targets.servers(), Shape::Parted)),
    kind("parted", 25, 500, |dice, targets| parted(dice, &targets.all(), Shape::Parted)),
    kind("one-way-servers", 20, 500, |dice, targets| parted(dice, &targets.servers(), Shape::OneWay)),
    kind("one-way", 20, 500, |dice, targets| parted(dice, &targets.all(), Shape::OneWay)),
    kind("bridge", 25, 500, |dice, targets| bridge(dice, &targets.servers())),
    kind("ring", 25, 500, |dice, targets| ring(dice, targets.servers())),
    kind("alone", 40, 500, alone),
    kind("pinch", 40, 500, pinch),
    kind("slow-links", 40, 500, slow),
    kind("reset", 40, 500, |dice, targets| {
        any(dice, &targets.all()).map(|node| Fault::Reset { node }).collect()
    }),
    kind("slow-disk", 40, 500, slow_disk),
    kind("slow-apply", 25, 1_000, |dice, targets| {
        let duration = span(dice);
        any(dice, &targets.stores).map(|node| Fault::Lag { node, duration }).collect()
    }),
    kind("failed-write", 20, 1_000, |dice, targets| fail_disk(dice, targets, DiskFailure::Write)),
    kind("failed-sync", 20, 1_000, |dice, targets| fail_disk(dice, targets, DiskFailure::Sync)),
    kind("failed-ingest", 20, 1_000, |dice, targets| fail_disk(dice, targets, DiskFailure::Ingest)),
    kind("full-disk", 15, 2_000, |dice, targets| {
        let duration = span(dice);
        any(dice, &targets.servers()).map(|node| Fault::FullDisk { node, duration }).collect()
    }),
    kind("low-disk", 20, 1_000, |dice, targets| {
        let (duration, is_full) = (span(dice), dice.chance(1, 2));
        let state = if is_full { DiskState::Full } else { DiskState::Low };
        any(dice, &targets.stores).map(|node| Fault::LowDisk { node, state, duration }).collect()
    }),
    kind("lost-disk", 15, 4_000, |dice, targets| {
        let (down, turns_up) = (span(dice), dice.chance(1, 3));
        let fault =
            |node| if turns_up { Fault::OldDisk { node, down } } else { Fault::LoseDisk { node, down } };
        any(dice, &targets.stores).map(fault).collect()
    }),
    kind("restored-disk", 20, 1_000, |dice, targets| {
        let (down, is_restored) = (span(dice), dice.chance(1, 3));
        let fault =
            |node| if is_restored { Fault::RestoreDisk { node, down } } else { Fault::Image { node } };
        any(dice, &targets.stores).map(fault).collect()
    }),
    kind("wall-jump", 30, 500, |dice, targets| {
        let by_ms = i64::try_from(dice.below(7_200_000)).expect("small") - 3_600_000;
        any(dice, &targets.all()).map(|node| Fault::WallJump { node, by_ms }).collect()
    }),
    kind("drift", 30, 500, |dice, targets| {
        let drift_ppm = draw_drift(dice);
        any(dice, &targets.all()).map(|node| Fault::Drift { node, drift_ppm }).collect()
    }),
    kind("operator", 70, 150, operate),
    kind("drain", 25, 2_000, |dice, targets| {
        let modes = [StoreMode::Draining, StoreMode::Draining, StoreMode::Serving, StoreMode::LeadingNone];
        let (drawn, store) = (dice.below(modes.len() as u64), dice.below(1 << 16));
        let mode = modes[usize::try_from(drawn).expect("an index")];
        any(dice, &targets.clients).map(|client| Fault::Mode { mode, client, store }).collect()
    }),
    kind("members", 30, 500, change_members),
    kind("compact-log", 30, 300, |dice, targets| {
        let region = dice.below(1 << 16);
        any(dice, &targets.clients).map(|client| Fault::CompactLog { client, region }).collect()
    }),
];

/// All that is drawn for a seed before it begins: how network and disks behave, and single faults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// How the network behaves until the end of the safety phase.
    pub network: NetworkConfig,
    /// How the disks do.
    pub disk: DiskConfig,
    /// Points in the product's logic that are armed until the end of the safety phase.
    pub points: Vec<&'static str>,
    /// When what begins, in order of time.
    pub actions: Vec<Action>,
}

impl Plan {
    /// A plan in which nothing goes wrong.
    #[must_use]
    pub fn calm() -> Self {
        let (network, disk) = (NetworkConfig::default(), DiskConfig::default());
        Self { network, disk, points: Vec::new(), actions: Vec::new() }
    }

    /// A plan for one seed, whose last fault begins before `until`.
    #[must_use]
    pub fn draw(dice: &SplitMix, targets: &Targets, until: SimTime) -> Self {
        let mut swarm = dice.fork("swarm");
        let network = draw_network(&mut swarm);
        let disk = draw_disk(&mut swarm);
        let begin = SimTime::ZERO + Duration::from_millis(500);
        let mut actions = Vec::new();
        for Kind { name, percent, often, draw } in KINDS {
            let mut dice = dice.fork(name);
            if !dice.chance(*percent, 100) {
                continue;
            }
            let interval = *often * (1 << dice.below(5));
            let mut at = begin;
            loop {
                at = at + dice.duration(interval / 4, interval * 2);
                if at >= until {
                    break;
                }
                actions.extend(draw(&mut dice, targets).into_iter().map(|fault| Action { at, fault }));
            }
        }
        let mut dice = dice.fork("start");
        for node in &targets.late {
            let at = begin + dice.duration(Duration::ZERO, until.since(begin));
            actions.push(Action { at, fault: Fault::Start { node: *node } });
        }
        actions.sort_by_key(|action| action.at);
        Self { network, disk, points: points::draw(&dice.fork("points")), actions }
    }
}

fn draw_network(dice: &mut SplitMix) -> NetworkConfig {
    let sometimes = |dice: &mut SplitMix, most: u64| if dice.chance(1, 2) { dice.below(most + 1) } else { 0 };
    NetworkConfig {
        latency_min: Duration::from_micros(20 + dice.below(300)),
        latency_spread: Duration::from_micros(100 << dice.below(9)),
        loss_per_mille: sometimes(dice, 200),
        duplicate_per_mille: sometimes(dice, 100),
        late_per_mille: sometimes(dice, 30),
        // Up to minutes: such a message finds processes and peers that its sender never knew.
        late_max: match dice.below(12) {
            power @ 0..9 => Duration::from_millis(100 << power),
            _ => Duration::from_secs(300),
        },
        break_per_100k: sometimes(dice, 300),
        straggle_per_mille: sometimes(dice, 1_000),
        garble_per_100k: sometimes(dice, 200),
        notice_max: Duration::from_millis(1 + dice.below(500)),
        unreachable_max: Duration::from_millis(500 + dice.below(5_000)),
    }
}

fn draw_disk(dice: &mut SplitMix) -> DiskConfig {
    DiskConfig {
        sync_min: Duration::from_micros(10 + dice.below(500)),
        sync_spread: Duration::from_micros(50 << dice.below(9)),
        stall_per_mille: if dice.chance(1, 3) { dice.below(10) } else { 0 },
        stall_max: Duration::from_millis(1 + dice.below(1_500)),
    }
}

/// A drift that leases allow for.
pub(crate) fn draw_drift(dice: &mut SplitMix) -> i64 {
    let drift = dice.below(2 * DRIFT_PPM_MAX.unsigned_abs() + 1);
    i64::try_from(drift).expect("small") - DRIFT_PPM_MAX
}

/// One of them; none, if there are none.
fn any(dice: &mut SplitMix, from: &[NodeId]) -> std::option::IntoIter<NodeId> {
    let drawn = usize::try_from(dice.below(from.len() as u64)).expect("an index");
    from.get(drawn).copied().into_iter()
}

/// Mostly a moment, sometimes longer than any election.
fn span(dice: &mut SplitMix) -> Duration {
    let most = if dice.chance(1, 3) { 6_000 } else { 700 };
    dice.duration(Duration::from_millis(1), Duration::from_millis(most))
}

fn crash(dice: &mut SplitMix, from: &[NodeId], kind: CrashKind) -> Vec<Fault> {
    let (in_sync, down) = (dice.chance(1, 2), span(dice));
    // Clients have no syncs to be hit in.
    let fault = |node: NodeId| Fault::Crash { node, kind, in_sync: in_sync && node.0 < 100, down };
    any(dice, from).map(fault).collect()
}

fn freeze(dice: &mut SplitMix, from: &[NodeId]) -> Vec<Fault> {
    let duration = span(dice);
    any(dice, from).map(|node| Fault::Freeze { node, duration }).collect()
}

fn parted(dice: &mut SplitMix, nodes: &[NodeId], shape: Shape) -> Vec<Fault> {
    let Some((low, high)) = split(dice, nodes) else { return Vec::new() };
    let mut directions = pairs(&low, &high);
    if shape == Shape::Parted {
        directions.extend(pairs(&high, &low));
    }
    vec![Fault::Cut { shape, directions, duration: span(dice) }]
}

fn bridge(dice: &mut SplitMix, nodes: &[NodeId]) -> Vec<Fault> {
    let Some((low, high)) = split(dice, nodes) else { return Vec::new() };
    let mut directions = pairs(&low, &high);
    directions.extend(pairs(&high, &low));
    any(dice, nodes).for_each(|bridge| directions.retain(|(from, to)| *from != bridge && *to != bridge));
    let duration = span(dice);
    if directions.is_empty() {
        Vec::new()
    } else {
        vec![Fault::Cut { shape: Shape::Bridge, directions, duration }]
    }
}

fn ring(dice: &mut SplitMix, mut nodes: Vec<NodeId>) -> Vec<Fault> {
    // Who sits beside whom is drawn.
    for index in (1..nodes.len()).rev() {
        nodes.swap(index, usize::try_from(dice.below(index as u64 + 1)).expect("an index"));
    }
    let count = nodes.len();
    let mut directions = Vec::new();
    for (at, from) in nodes.iter().enumerate() {
        let are_apart = |to: usize| to != at && to != (at + 1) % count && at != (to + 1) % count;
        directions.extend((0..count).filter(|to| are_apart(*to)).map(|to| (*from, nodes[to])));
    }
    let duration = span(dice);
    // Three sit beside each other anyway.
    if directions.is_empty() {
        Vec::new()
    } else {
        vec![Fault::Cut { shape: Shape::Ring, directions, duration }]
    }
}

fn alone(dice: &mut SplitMix, targets: &Targets) -> Vec<Fault> {
    let one: Vec<NodeId> = any(dice, &targets.servers()).collect();
    let others: Vec<NodeId> = targets.all().into_iter().filter(|node| !one.contains(node)).collect();
    let (hears, is_heard) =
        [(true, false), (false, true), (false, false)][usize::try_from(dice.below(3)).expect("an index")];
    let mut directions = Vec::new();
    if !hears {
        directions.extend(pairs(&others, &one));
    }
    if !is_heard {
        directions.extend(pairs(&one, &others));
    }
    vec![Fault::Cut { shape: Shape::Alone, directions, duration: span(dice) }]
}

fn slow(dice: &mut SplitMix, targets: &Targets) -> Vec<Fault> {
    let Some((low, high)) = split(dice, &targets.all()) else { return Vec::new() };
    let by = dice.duration(Duration::from_millis(1), Duration::from_millis(800));
    vec![Fault::Slow { directions: pairs(&low, &high), by, duration: span(dice) }]
}

fn slow_disk(dice: &mut SplitMix, targets: &Targets) -> Vec<Fault> {
    let disk = DiskConfig {
        sync_min: Duration::from_millis(1 + dice.below(300)),
        sync_spread: Duration::from_millis(1 + dice.below(1_500)),
        stall_per_mille: 0,
        stall_max: Duration::ZERO,
    };
    let duration = span(dice);
    any(dice, &targets.servers()).map(|node| Fault::SlowDisk { node, disk: disk.clone(), duration }).collect()
}

fn fail_disk(dice: &mut SplitMix, targets: &Targets, what: DiskFailure) -> Vec<Fault> {
    // Members of the placement driver ingest nothing.
    let from = if what == DiskFailure::Ingest { targets.stores.clone() } else { targets.servers() };
    any(dice, &from).map(|node| Fault::FailDisk { node, what }).collect()
}

/// What an operator does: nothing goes wrong, but everything moves.
fn operate(dice: &mut SplitMix, targets: &Targets) -> Vec<Fault> {
    let (is_split, key) = (dice.chance(1, 3), dice.below(1 << 16));
    let (region, peer) = (dice.below(1 << 16), dice.below(1 << 16));
    let fault = |client| {
        if is_split { Fault::Split { client, key } } else { Fault::Transfer { client, region, peer } }
    };
    any(dice, &targets.clients).map(fault).collect()
}

/// An operator changes the members of a region, and now and then thinks better of it.
pub(crate) fn change_members(dice: &mut SplitMix, targets: &Targets) -> Vec<Fault> {
    let (drawn, is_cancel) = (dice.below(3), dice.chance(1, 6));
    let change = Change::ALL[usize::try_from(drawn).expect("an index")];
    // Few regions, so that what is begun is sometimes what is cancelled.
    let (region, peer, store) =
        (dice.below(if is_cancel { 4 } else { 1 << 16 }), dice.below(1 << 16), dice.below(1 << 16));
    let fault = |client| {
        if is_cancel {
            Fault::Cancel { client, region }
        } else {
            Fault::Members { change, client, region, peer, store }
        }
    };
    any(dice, &targets.clients).map(fault).collect()
}

/// Two servers cannot reach each other, while one that both can reach does not run for a part of that time: it then
/// finds the words of both at once.
fn pinch(dice: &mut SplitMix, targets: &Targets) -> Vec<Fault> {
    let mut servers = targets.servers();
    let mut take = || {
        let index = usize::try_from(dice.below(servers.len().max(1) as u64)).expect("an index");
        (!servers.is_empty()).then(|| servers.swap_remove(index))
    };
    let (one, other, between) = (take(), take(), take());
    let cut = one.zip(other).map(|(one, other)| Fault::Cut {
        shape: Shape::Pair,
        directions: vec![(one, other), (other, one)],
        duration: dice.duration(Duration::from_millis(1_000), Duration::from_millis(6_000)),
    });
    let freeze = between.map(|node| Fault::Freeze {
        node,
        duration: dice.duration(Duration::from_millis(200), Duration::from_millis(4_000)),
    });
    cut.into_iter().chain(freeze).collect()
}

/// Two parts of the nodes, neither empty; `None` if there are too few.
fn split(dice: &mut SplitMix, nodes: &[NodeId]) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
    if nodes.len() < 2 {
        return None;
    }
    loop {
        let (low, high): (Vec<_>, Vec<_>) = nodes.iter().partition(|_| dice.chance(1, 2));
        if !low.is_empty() && !high.is_empty() {
            return Some((low, high));
        }
    }
}

fn pairs(from: &[NodeId], to: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn targets() -> Targets {
        let nodes = |ids: &[u32]| ids.iter().copied().map(NodeId).collect();
        Targets {
            stores: nodes(&[1, 2, 3, 4]),
            late: nodes(&[4]),
            members: nodes(&[51]),
            clients: nodes(&[101, 102]),
        }
    }

    fn plan(seed: u64) -> Plan {
        Plan::draw(&SplitMix::new(seed), &targets(), SimTime::from_millis(20_000))
    }

    #[test]
    fn a_plan_is_its_seeds_and_seeds_differ_in_what_they_have() {
        assert_eq!(plan(1), plan(1));
        let mut seeds_with: BTreeMap<&str, u64> = BTreeMap::new();
        let mut calm = 0;
        for seed in 0..200 {
            let plan = plan(seed);
            assert!(plan.actions.is_sorted_by_key(|action| action.at));
            let names: BTreeSet<_> = plan.actions.iter().map(|action| action.fault.name()).collect();
            names.into_iter().for_each(|name| *seeds_with.entry(name).or_default() += 1);
            calm += usize::from(plan.actions.len() < 60);
        }
        assert!(calm > 0);
        let all = [
            "power-loss",
            "crash",
            "freeze",
            "cut-parted",
            "cut-one-way",
            "cut-bridge",
            "cut-ring",
            "cut-alone",
            "cut-pair",
            "slow-links",
            "reset",
            "slow-disk",
            "slow-apply",
            "failed-write",
            "failed-sync",
            "failed-ingest",
            "full-disk",
            "low-disk",
            "lost-disk",
            "old-disk",
            "wall-jump",
            "drift",
            "start",
            "split",
            "transfer",
            "add-peer",
            "remove-peer",
            "transfer-peer",
            "cancel-operator",
            "compact-log",
            "disk-image",
            "restored-disk",
            "drain",
            "undrain",
            "drain-leaders",
        ];
        for name in all {
            let seeds = seeds_with.remove(name).unwrap_or_default();
            assert!(seeds > 10 && (seeds < 190 || name == "start"), "{name}: {seeds} of 200 seeds");
        }
        assert!(seeds_with.is_empty(), "{seeds_with:?}");
    }

    #[test]
    fn a_bridge_is_heard_by_all_and_in_a_ring_each_hears_two() {
        let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
        for seed in 0..100 {
            let mut dice = SplitMix::new(seed);
            for fault in bridge(&mut dice, &nodes) {
                let Fault::Cut { directions, .. } = fault else { panic!("a cut") };
                let reaches_all =
                    |node: &&NodeId| directions.iter().all(|(from, to)| from != *node && to != *node);
                assert!(nodes.iter().any(|node| reaches_all(&node)), "{directions:?}");
            }
            let faults = ring(&mut dice, nodes.clone());
            let [Fault::Cut { directions, .. }] = faults.as_slice() else { panic!("a cut") };
            for node in &nodes {
                let unheard = directions.iter().filter(|(_, to)| to == node).count();
                assert_eq!(unheard, 2, "of four others it hears two: {directions:?}");
            }
        }
    }
}
