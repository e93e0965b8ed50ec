//! What goes wrong, and when: drawn for each seed before it begins, as a list that can be shown and cut down.
//!
//! Each seed draws which kinds of faults it has at all (a swarm): rare mixtures then occur, and some runs have so few
//! that they get far. Faults last for a while, so that the cluster has time to do the wrong thing.

use crate::disk::DiskConfig;
use crate::kernel::{CrashKind, NodeId};
use crate::network::NetworkConfig;
use crate::time::SimTime;
use env::{Dice, SplitMix};
use std::fmt;
use std::time::Duration;

/// Something that goes wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A process ends, and starts again after a while.
    Crash {
        /// Whose.
        node: NodeId,
        /// How.
        kind: CrashKind,
        /// Not at once, but in the middle of its next sync.
        in_sync: bool,
        /// For how long it is down.
        down: Duration,
    },
    /// A process does not run for a while.
    Freeze {
        /// Whose.
        node: NodeId,
        /// For how long.
        duration: Duration,
    },
    /// Nothing passes in some directions for a while.
    Cut {
        /// From the first to the second of each.
        directions: Vec<(NodeId, NodeId)>,
        /// For how long.
        duration: Duration,
    },
    /// Some directions are slow for a while.
    Slow {
        /// From the first to the second of each.
        directions: Vec<(NodeId, NodeId)>,
        /// By how much.
        by: Duration,
        /// For how long.
        duration: Duration,
    },
    /// All connections of a node break.
    Reset {
        /// Which.
        node: NodeId,
    },
    /// A disk is slow for a while.
    SlowDisk {
        /// Whose.
        node: NodeId,
        /// How slow.
        disk: DiskConfig,
        /// For how long.
        duration: Duration,
    },
    /// A wall clock jumps.
    WallJump {
        /// Whose.
        node: NodeId,
        /// How far.
        by_ms: i64,
    },
    /// A monotonic clock begins to drift otherwise.
    Drift {
        /// Whose.
        node: NodeId,
        /// In parts per million.
        drift_ppm: i64,
    },
}

/// The most that any clock drifts. Leases allow for a tenth between any two clocks; two that drift apart by this much
/// each stay within it.
pub const DRIFT_PPM_MAX: i64 = 40_000;

/// Which nodes a plan may hurt.
#[derive(Clone, Default, Debug)]
pub struct Targets {
    /// Nodes with a disk: they crash, and their disks get slow.
    pub servers: Vec<NodeId>,
    /// Nodes without: they crash by ending.
    pub clients: Vec<NodeId>,
}

impl Targets {
    fn all(&self) -> Vec<NodeId> {
        self.servers.iter().chain(&self.clients).copied().collect()
    }
}

/// All faults of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultPlan {
    /// How the network behaves until the end of the safety phase.
    pub network: NetworkConfig,
    /// How the disks do.
    pub disk: DiskConfig,
    /// When what begins, in order of time.
    pub faults: Vec<(SimTime, Fault)>,
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "network {:?}", self.network)?;
        writeln!(f, "disk {:?}", self.disk)?;
        for (number, (at, fault)) in self.faults.iter().enumerate() {
            writeln!(f, "fault {number} at {at}: {fault:?}")?;
        }
        Ok(())
    }
}

impl FaultPlan {
    /// A plan in which nothing goes wrong.
    #[must_use]
    pub fn calm() -> Self {
        Self { network: NetworkConfig::default(), disk: DiskConfig::default(), faults: Vec::new() }
    }

    /// A plan for one seed, whose last fault begins before `until`.
    #[must_use]
    pub fn draw(dice: &SplitMix, targets: &Targets, until: SimTime) -> Self {
        let mut swarm = dice.fork("swarm");
        let network = draw_network(&mut swarm);
        let disk = draw_disk(&mut swarm);
        let mut faults = Vec::new();
        for kind in 0..KINDS {
            let mut dice = dice.fork(&format!("fault kind {kind}"));
            if !dice.chance(2, 5) {
                continue;
            }
            // From one in half a second to one in eight.
            let interval = Duration::from_millis(500 << dice.below(5));
            let mut at = SimTime::ZERO + Duration::from_millis(500);
            loop {
                at = at + dice.duration(interval / 4, interval * 2);
                if at >= until {
                    break;
                }
                if kind == PINCH {
                    faults.extend(pinch(&mut dice, targets).map(|fault| (at, fault)));
                } else {
                    faults.push((at, draw_fault(kind, &mut dice, targets)));
                }
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        Self { network, disk, faults }
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
        late_max: Duration::from_millis(100 << dice.below(9)),
        break_per_100k: sometimes(dice, 300),
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

/// How many kinds [`draw_fault`] knows, and [`PINCH`].
const KINDS: u64 = 13;
/// The kind that [`pinch`] draws.
const PINCH: u64 = 12;

fn draw_fault(kind: u64, dice: &mut SplitMix, targets: &Targets) -> Fault {
    let all = targets.all();
    let any = |dice: &mut SplitMix, from: &[NodeId]| {
        from[usize::try_from(dice.below(from.len() as u64)).expect("an index")]
    };
    // Mostly a moment, sometimes longer than any election.
    let span = |dice: &mut SplitMix| {
        let most = if dice.chance(1, 3) { 6_000 } else { 700 };
        dice.duration(Duration::from_millis(1), Duration::from_millis(most))
    };
    match kind {
        0 | 1 => Fault::Crash {
            node: any(dice, &targets.servers),
            kind: if kind == 0 { CrashKind::Power } else { CrashKind::Process },
            in_sync: dice.chance(1, 2),
            down: span(dice),
        },
        2 => {
            Fault::Crash { node: any(dice, &all), kind: CrashKind::Process, in_sync: false, down: span(dice) }
        }
        3 => Fault::Freeze { node: any(dice, &all), duration: span(dice) },
        4 => Fault::Freeze { node: any(dice, &targets.servers), duration: span(dice) },
        5 | 6 => {
            // Often clients still reach everybody, the deposed leader as well as the new one.
            let apart = if kind == 5 && targets.servers.len() > 1 { &targets.servers } else { &all };
            let (low, high) = split(dice, apart);
            let mut directions = pairs(&low, &high);
            match dice.below(4) {
                0 => {}
                // One node on the bridge is reached by both sides.
                1 => {
                    let bridge = any(dice, &all);
                    directions.extend(pairs(&high, &low));
                    directions.retain(|(from, to)| *from != bridge && *to != bridge);
                }
                _ => directions.extend(pairs(&high, &low)),
            }
            Fault::Cut { directions, duration: span(dice) }
        }
        7 => {
            let alone = any(dice, &targets.servers);
            let others: Vec<_> = all.iter().copied().filter(|node| *node != alone).collect();
            let mut directions = pairs(&[alone], &others);
            if dice.chance(1, 2) {
                directions.extend(pairs(&others, &[alone]));
            }
            Fault::Cut { directions, duration: span(dice) }
        }
        8 => {
            let (low, high) = split(dice, &all);
            let by = dice.duration(Duration::from_millis(1), Duration::from_millis(800));
            Fault::Slow { directions: pairs(&low, &high), by, duration: span(dice) }
        }
        9 => Fault::Reset { node: any(dice, &all) },
        10 => {
            let disk = DiskConfig {
                sync_min: Duration::from_millis(1 + dice.below(300)),
                sync_spread: Duration::from_millis(1 + dice.below(1_500)),
                stall_per_mille: 0,
                stall_max: Duration::ZERO,
            };
            Fault::SlowDisk { node: any(dice, &targets.servers), disk, duration: span(dice) }
        }
        _ if dice.chance(1, 2) => {
            let by_ms = i64::try_from(dice.below(7_200_000)).expect("small") - 3_600_000;
            Fault::WallJump { node: any(dice, &all), by_ms }
        }
        _ => {
            let drift = dice.below(2 * DRIFT_PPM_MAX.unsigned_abs() + 1);
            let drift_ppm = i64::try_from(drift).expect("small") - DRIFT_PPM_MAX;
            Fault::Drift { node: any(dice, &all), drift_ppm }
        }
    }
}

/// Two servers cannot reach each other, while one that both can reach does not run for a part of that time: it then
/// finds the words of both at once.
fn pinch(dice: &mut SplitMix, targets: &Targets) -> impl Iterator<Item = Fault> + use<> {
    let mut servers = targets.servers.clone();
    let mut take = || {
        let index = usize::try_from(dice.below(servers.len().max(1) as u64)).expect("an index");
        (!servers.is_empty()).then(|| servers.swap_remove(index))
    };
    let (one, other, between) = (take(), take(), take());
    let cut = one.zip(other).map(|(one, other)| Fault::Cut {
        directions: vec![(one, other), (other, one)],
        duration: dice.duration(Duration::from_millis(1_000), Duration::from_millis(6_000)),
    });
    let freeze = between.map(|node| Fault::Freeze {
        node,
        duration: dice.duration(Duration::from_millis(200), Duration::from_millis(4_000)),
    });
    cut.into_iter().chain(freeze)
}

/// Two parts of the nodes, neither empty.
fn split(dice: &mut SplitMix, nodes: &[NodeId]) -> (Vec<NodeId>, Vec<NodeId>) {
    assert!(nodes.len() >= 2, "one node cannot be parted from itself");
    loop {
        let (low, high): (Vec<_>, Vec<_>) = nodes.iter().partition(|_| dice.chance(1, 2));
        if !low.is_empty() && !high.is_empty() {
            return (low, high);
        }
    }
}

fn pairs(from: &[NodeId], to: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_its_seeds_and_seeds_differ_in_what_they_have() {
        let targets = Targets { servers: vec![NodeId(1), NodeId(2), NodeId(3)], clients: vec![NodeId(9)] };
        let plan = |seed| FaultPlan::draw(&SplitMix::new(seed), &targets, SimTime::from_millis(20_000));
        assert_eq!(plan(1), plan(1));
        let mut with_power_loss = 0;
        let mut calm = 0;
        for seed in 0..100 {
            let plan = plan(seed);
            assert!(plan.faults.is_sorted_by_key(|(at, _)| *at));
            let is_power_loss = |fault: &Fault| matches!(fault, Fault::Crash { kind: CrashKind::Power, .. });
            with_power_loss += usize::from(plan.faults.iter().any(|(_, fault)| is_power_loss(fault)));
            calm += usize::from(plan.faults.len() < 30);
        }
        assert!((20..60).contains(&with_power_loss), "{with_power_loss}");
        assert!(calm > 0);
    }
}
