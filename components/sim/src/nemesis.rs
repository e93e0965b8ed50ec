//! Carries out a plan: begins its faults, ends them, and sees whether they did anything.
//!
//! A fault that hits nothing proves nothing: a crash of what is down, a cut of links that nobody uses. So each counts
//! twice: that it was begun, and that it took effect.

use crate::check::Broken;
use crate::cluster::Cluster;
use crate::disk::{DiskConfig, DiskHurt};
use crate::faults::{Action, DiskFailure, Fault};
use crate::kernel::{CrashKind, NodeId};
use crate::network::NetworkConfig;
use crate::plan::Plan;
use crate::time::SimTime;
use crate::workload::{Change, Operation, Session};
use client_core::Keyspace;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use types::{PeerRole, Region, StoreId};
use wire::store::DiskState;

/// How often faults of a kind were begun, and how often they did something.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FaultCount {
    /// Begun.
    pub begun: u64,
    /// Of these, those that took effect.
    pub took_effect: u64,
}

/// Tokens of the plan: beginnings of faults from zero, crashes that waited for a sync from here.
const CRASHES: u64 = 1 << 31;
/// Ends of faults from here.
const ENDS: u64 = 1 << 32;

/// For how long a peer may be on its way out after that was asked for: as long as it takes to ask, and to give up each step.
const REMOVAL_MAX: Duration = Duration::from_secs(240);

/// The one who carries out a plan.
pub(crate) struct Nemesis {
    plan: Plan,
    session: Arc<Mutex<Session>>,
    counts: BTreeMap<&'static str, FaultCount>,
    /// Cuts that last: how often something had been stopped there before.
    cuts: BTreeMap<u64, u64>,
    /// When a peer was last asked to be removed.
    removal: Option<SimTime>,
    /// Failures of disks that nobody has met with yet.
    disks: BTreeMap<NodeId, Vec<u64>>,
    is_over: bool,
}

impl Nemesis {
    /// Sets all moments of the plan.
    pub(crate) fn new(plan: Plan, session: Arc<Mutex<Session>>, cluster: &mut Cluster) -> Self {
        for (number, action) in plan.actions.iter().enumerate() {
            cluster.kernel_mut().mark_at(action.at, number as u64);
        }
        let (counts, cuts, disks) = Default::default();
        Self { plan, session, counts, cuts, removal: None, disks, is_over: false }
    }

    /// What was done, by kind.
    pub(crate) fn counts(&mut self) -> BTreeMap<&'static str, FaultCount> {
        let done = std::mem::take(&mut self.session.lock().ordered_done);
        for number in done {
            self.took_effect(number);
        }
        self.counts.clone()
    }

    fn action(&self, number: u64) -> &Action {
        &self.plan.actions[usize::try_from(number).expect("an index")]
    }

    fn took_effect(&mut self, number: u64) {
        let name = self.action(number).fault.name();
        self.counts.entry(name).or_default().took_effect += 1;
    }

    /// Processes have ended by themselves, perhaps of a failure of their disks.
    pub(crate) fn saw_ended(&mut self, ended: Vec<(NodeId, String)>) {
        for (node, _) in ended {
            let pending = self.disks.get_mut(&node).filter(|pending| !pending.is_empty());
            if let Some(number) = pending.map(|pending| pending.remove(0)) {
                self.took_effect(number);
            }
        }
    }

    /// A moment of the plan has come.
    pub(crate) fn on_moment(&mut self, cluster: &mut Cluster, token: u64) -> Result<(), Broken> {
        match token {
            _ if self.is_over => Ok(()),
            _ if token >= ENDS => self.end(cluster, token - ENDS),
            _ if token >= CRASHES => {
                self.crash(cluster, token - CRASHES);
                Ok(())
            }
            _ => self.begin(cluster, token),
        }
    }

    fn begin(&mut self, cluster: &mut Cluster, number: u64) -> Result<(), Broken> {
        let fault = self.action(number).fault.clone();
        self.counts.entry(fault.name()).or_default().begun += 1;
        let kernel = cluster.kernel_mut();
        kernel.note(|| format!("fault {number}: {fault}"));
        let mut lasts = None;
        let took_effect = match fault {
            Fault::Crash { node, in_sync: true, .. } => {
                kernel.mark_during_sync(node, CRASHES + number);
                false
            }
            Fault::Crash { .. } => {
                self.crash(cluster, number);
                false
            }
            Fault::Freeze { node, duration } => {
                let is_up = kernel.is_up(node);
                if is_up {
                    kernel.freeze(node, duration);
                }
                is_up
            }
            Fault::Cut { directions, duration, .. } => {
                directions.iter().for_each(|(from, to)| kernel.set_cut(*from, *to, true));
                self.cuts.insert(number, kernel.stopped(&directions));
                lasts = Some(duration);
                false
            }
            Fault::Slow { directions, by, duration } => {
                directions.iter().for_each(|(from, to)| kernel.set_slow(*from, *to, by));
                lasts = Some(duration);
                true
            }
            Fault::Reset { node } => kernel.reset_connections(node) > 0,
            Fault::SlowDisk { node, disk, duration } => {
                kernel.disk_mut(node).config = disk;
                lasts = Some(duration);
                kernel.is_up(node)
            }
            Fault::FailDisk { node, what } => {
                let fault = match what {
                    DiskFailure::Write => engine::Fault::Write,
                    DiskFailure::Sync => engine::Fault::Sync,
                    DiskFailure::Ingest => engine::Fault::Ingest,
                };
                if kernel.is_up(node) && cluster.hurt_disk(node, DiskHurt::FailOnce(fault))? {
                    self.disks.entry(node).or_default().push(number);
                }
                false
            }
            Fault::FullDisk { node, duration } => {
                if cluster.hurt_disk(node, DiskHurt::Full(true))? {
                    self.disks.entry(node).or_default().push(number);
                    lasts = Some(duration);
                }
                false
            }
            Fault::LowDisk { node, state, duration } => {
                lasts = Some(duration);
                let is_up = kernel.is_up(node);
                cluster.hurt_disk(node, DiskHurt::Space(state))? && is_up
            }
            Fault::LoseDisk { node, down } => {
                lasts = Some(down);
                self.change_disk(cluster, node, DiskHurt::Lost)?
            }
            Fault::OldDisk { node, down } => {
                lasts = Some(down);
                self.change_disk(cluster, node, DiskHurt::Returned)?
            }
            Fault::Lag { node, duration } => kernel.is_up(node) && cluster.lag(node, duration)?,
            Fault::Image { node } => cluster.hurt_disk(node, DiskHurt::Imaged)?,
            Fault::RestoreDisk { node, down } => {
                lasts = Some(down);
                must_be_refused(cluster, node) && self.change_disk(cluster, node, DiskHurt::Restored)?
            }
            Fault::WallJump { node, by_ms } => {
                kernel.clock_mut(node).jump_wall(by_ms);
                true
            }
            Fault::Drift { node, drift_ppm } => {
                let now = kernel.now();
                kernel.clock_mut(node).set_drift(now, drift_ppm);
                true
            }
            Fault::Start { node } => {
                let is_down = !kernel.is_up(node);
                cluster.restart(node)?;
                is_down
            }
            Fault::Split { client, key } => {
                let mut at = self.session.lock().config.key(key).to_vec();
                // Mostly between two keys, so that some regions hold nothing.
                at.extend([&b""[..], b"a", b"b", b"c"][usize::try_from((key >> 8) % 4).expect("below four")]);
                let bank = self.session.lock().config.bank;
                let key = match bank.accounts > 0 && (key >> 16) % 2 == 0 {
                    true => Keyspace::TXN.encode(&bank.account(key)),
                    false => Keyspace::RAW.encode(&at),
                };
                self.order(cluster, client, number, Operation::Split(key));
                false
            }
            Fault::Transfer { client, region, peer } => {
                self.order(cluster, client, number, Operation::Transfer(region, peer));
                false
            }
            // The placement driver does not know at once that a disk is lost, and would let a voter go that is counted on.
            Fault::Members { change: Change::Remove, .. } if some_disk_is_missed(cluster) => false,
            Fault::Members { change, client, region, peer, store } => {
                if change == Change::Remove {
                    self.removal = Some(cluster.kernel().now());
                }
                self.order(cluster, client, number, Operation::Members(change, region, peer, store));
                false
            }
            Fault::Cancel { client, region } => {
                self.order(cluster, client, number, Operation::Cancel(region));
                false
            }
            Fault::Mode { mode, client, store } => {
                self.order(cluster, client, number, Operation::Mode(store, mode));
                false
            }
            Fault::CompactLog { client, region } => {
                self.order(cluster, client, number, Operation::CompactLog(region));
                false
            }
        };
        if took_effect {
            self.took_effect(number);
        }
        if let Some(duration) = lasts {
            let kernel = cluster.kernel_mut();
            kernel.mark_at(kernel.now() + duration, ENDS + number);
        }
        Ok(())
    }

    fn order(&self, cluster: &mut Cluster, client: NodeId, number: u64, operation: Operation) {
        self.session.lock().orders.entry(client).or_default().push((number, operation));
        // It looks for orders whenever it runs; a client that is down finds them when it is back.
        if cluster.kernel().is_up(client) {
            cluster.kernel_mut().wake_after(client, Duration::from_micros(1), crate::client_process::RUN);
        }
    }

    fn crash(&mut self, cluster: &mut Cluster, number: u64) {
        let Fault::Crash { node, kind, down, .. } = self.action(number).fault.clone() else {
            unreachable!("fault {number} is a crash");
        };
        if cluster.crash(node, kind) {
            self.took_effect(number);
            let kernel = cluster.kernel_mut();
            kernel.mark_at(kernel.now() + down, ENDS + number);
        }
    }

    /// Takes a disk away, or puts an earlier one back, if what is promised allows for it.
    fn change_disk(&self, cluster: &mut Cluster, node: NodeId, hurt: DiskHurt) -> Result<bool, Broken> {
        let has_other = hurt != DiskHurt::Returned || !cluster.stocks()[&node].shelved.is_empty();
        let removes = self.removal.is_some_and(|at| cluster.kernel().now().since(at) < REMOVAL_MAX);
        if !has_other || !may_lose(cluster, node, usize::from(removes)) {
            return Ok(false);
        }
        cluster.crash(node, CrashKind::Power);
        cluster.hurt_disk(node, hurt)
    }

    fn end(&mut self, cluster: &mut Cluster, number: u64) -> Result<(), Broken> {
        let fault = self.action(number).fault.clone();
        let kernel = cluster.kernel_mut();
        kernel.note(|| format!("fault {number} ends"));
        match fault {
            Fault::Crash { node, .. }
            | Fault::LoseDisk { node, .. }
            | Fault::OldDisk { node, .. }
            | Fault::RestoreDisk { node, .. } => {
                cluster.restart(node)?;
            }
            Fault::Cut { directions, .. } => {
                directions.iter().for_each(|(from, to)| kernel.set_cut(*from, *to, false));
                let before = self.cuts.remove(&number).unwrap_or_default();
                if kernel.stopped(&directions) > before {
                    self.took_effect(number);
                }
            }
            Fault::Slow { directions, .. } => {
                directions.iter().for_each(|(from, to)| kernel.set_slow(*from, *to, Duration::ZERO));
            }
            Fault::SlowDisk { node, .. } => kernel.disk_mut(node).config = self.plan.disk.clone(),
            Fault::FullDisk { node, .. } => {
                cluster.hurt_disk(node, DiskHurt::Full(false))?;
                if let Some(pending) = self.disks.get_mut(&node) {
                    pending.retain(|pending| *pending != number);
                }
            }
            Fault::LowDisk { node, .. } => {
                cluster.hurt_disk(node, DiskHurt::Space(DiskState::Ok))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Nothing goes wrong from now on, and everybody is there.
    pub(crate) fn heal(&mut self, cluster: &mut Cluster) -> Result<(), Broken> {
        let lasting: Vec<u64> = self.cuts.keys().copied().collect();
        for number in lasting {
            self.end(cluster, number)?;
        }
        self.is_over = true;
        let kernel = cluster.kernel_mut();
        kernel.note(|| "the safety phase is over".to_owned());
        kernel.heal_network(NetworkConfig::default());
        kernel.thaw_all();
        let nodes: Vec<NodeId> = kernel.nodes().collect();
        for node in &nodes {
            kernel.disk_mut(*node).config = DiskConfig::default();
        }
        for node in nodes {
            cluster.hurt_disk(node, DiskHurt::Full(false))?;
            cluster.hurt_disk(node, DiskHurt::Space(DiskState::Ok))?;
            if cluster.kernel().is_up(node) {
                cluster.lag(node, Duration::ZERO)?;
            }
            cluster.restart(node)?;
        }
        Ok(())
    }
}

/// Whether the placement driver knows that a store has said something since the image of its disk was taken.
fn must_be_refused(cluster: &Cluster, node: NodeId) -> bool {
    let Some((store, image)) = cluster.stocks()[&node].image else { return false };
    let known = cluster.stores_ever().get(&store).copied().unwrap_or_default();
    // The start that follows is counted on top of the image.
    image.starts + 1 < known.starts || image.log_mark < known.log_mark
}

/// Whether each region would keep the disks of a majority of its voters if this node lost its own, all that were lost
/// before and not given up by their regions counted as well.
/// `less` voters of each region may go meanwhile.
fn may_lose(cluster: &Cluster, node: NodeId, less: usize) -> bool {
    let stocks = cluster.stocks();
    let Some(own) = stocks[&node].store_id else { return true };
    let mut lost: BTreeSet<StoreId> =
        stocks.values().flat_map(|stock| stock.shelved.iter().copied()).collect();
    lost.insert(own);
    stocks.values().flat_map(|stock| &stock.regions).all(|region| keeps_majority(region, &lost, less))
}

/// Whether a region counts on a disk that is not there.
fn some_disk_is_missed(cluster: &Cluster) -> bool {
    let stocks = cluster.stocks();
    let lost: BTreeSet<StoreId> = stocks.values().flat_map(|stock| stock.shelved.iter().copied()).collect();
    let mut peers = stocks.values().flat_map(|stock| &stock.regions).flat_map(|region| &region.peers);
    peers.any(|peer| lost.contains(&peer.store_id))
}

fn keeps_majority(region: &Region, lost: &BTreeSet<StoreId>, less: usize) -> bool {
    [true, false].into_iter().all(|incoming| {
        let votes = |role| match role {
            PeerRole::Voter => true,
            PeerRole::IncomingVoter => incoming,
            PeerRole::DemotingVoter => !incoming,
            PeerRole::Learner => false,
        };
        let voters = region.peers.iter().filter(|peer| votes(peer.role)).count();
        // A learner may take a voter's place before anybody knows that its disk is lost.
        let counted = region.peers.iter().filter(|peer| votes(peer.role) || peer.role == PeerRole::Learner);
        let gone = counted.filter(|peer| lost.contains(&peer.store_id)).count();
        // A region without members here is a remainder of one that went elsewhere.
        voters == 0 || gone == 0 || 2 * gone + less < voters
    })
}

#[cfg(test)]
#[path = "nemesis_tests.rs"]
mod tests;
