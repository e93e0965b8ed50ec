//! One run: a cluster, a workload and a fault plan from one seed; first safety, then liveness, then the checkers.

use crate::check::invariants::{Broken, has_converged};
use crate::check::{DEFAULT_STEPS_MAX, Operation, Verdict, Violation, linearizable};
use crate::client::ClientNode;
use crate::cluster::{Cluster, Node};
use crate::disk::DiskConfig;
use crate::faults::{DRIFT_PPM_MAX, Fault, FaultPlan, Targets};
use crate::kernel::{Kernel, MachineConfig, NodeId};
use crate::network::NetworkConfig;
use crate::nodes::{AddressBook, PdNode, SeededBug, StoreNode};
use crate::reference::{Flaw, ReferencePd, ReferenceStore};
use crate::setup::Setup;
#[cfg(feature = "seeded_bugs")]
use crate::setup::plant;
use crate::time::SimTime;
use crate::trace::{Trace, TraceHash, TraceMode};
use crate::workload::{Session, Tally, WorkloadConfig};
use env::{Dice, SplitMix};
use parking_lot::Mutex;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Which system is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// The [reference](crate::reference), whole or with a flaw.
    Reference(Option<Flaw>),
    /// The product's stores and placement driver, as they are or with a bug that was planted.
    Cluster(Option<SeededBug>),
}

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What is tried.
    pub system: System,
    /// How long faults may begin.
    pub safety: Duration,
    /// How long the cluster then has to serve every key to every client.
    pub liveness: Duration,
    /// What becomes of the trace.
    pub trace: TraceMode,
    /// Only lines of the trace with this text.
    pub filter: Option<String>,
    /// Faults to leave out, by their number in the plan: for finding out which ones matter.
    pub without_faults: Vec<usize>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            system: System::Cluster(None),
            safety: Duration::from_secs(30),
            liveness: Duration::from_secs(60),
            trace: TraceMode::Off,
            filter: None,
            without_faults: Vec::new(),
        }
    }
}

/// What a run was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The fold of all its events.
    pub hash: TraceHash,
    /// How many events there were.
    pub events: u64,
    /// How long it took, in its own time.
    pub simulated: SimTime,
    /// How many operations were recorded, and how requests ended.
    pub operations: usize,
    /// How requests ended.
    pub tally: Tally,
    /// How many faults there were.
    pub faults: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, hash, events, simulated, operations, tally, faults } = self;
        write!(
            f,
            "seed {seed}: {events} events in {simulated}, {operations} operations ({} done, {} refused, {} unknown), \
             {faults} faults, hash {hash}",
            tally.done, tally.refused, tally.unknown
        )
    }
}

/// What was wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fail {
    /// An invariant did not hold.
    Invariant(Broken),
    /// What clients saw has no explanation.
    NotLinearizable(Box<Violation>),
    /// The checker gave up on a key.
    Undecided {
        /// The key.
        key: bytes::Bytes,
    },
    /// Long after the last fault some client was still not served.
    NotLive {
        /// How many of how many clients were.
        served: usize,
        /// Of how many.
        of: usize,
        /// What the last request failed of, or what was missing when all were served.
        missing: Option<String>,
    },
    /// Something panicked: an assertion, most likely.
    Panicked(String),
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invariant(broken) => broken.fmt(f),
            Self::NotLinearizable(violation) => violation.fmt(f),
            Self::Undecided { key } => write!(f, "key {} could not be checked", types::escape_key(key)),
            Self::NotLive { served, of, missing } => {
                let missing = missing.as_deref().unwrap_or("no request failed");
                write!(f, "{served} of {of} clients were served after the faults had ended; {missing}")
            }
            Self::Panicked(message) => write!(f, "panic: {message}"),
        }
    }
}

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// When, in its own time.
    pub at: SimTime,
    /// After how many events.
    pub events: u64,
    /// What was wrong.
    pub fail: Fail,
    /// What was planned to go wrong.
    pub plan: FaultPlan,
    /// The last lines of the trace, if it was kept.
    pub tail: Vec<String>,
    /// What clients did up to then.
    pub history: Vec<Operation>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        write!(f, "{}", self.plan)?;
        writeln!(f, "seed {} failed at {} after {} events: {}", self.seed, self.at, self.events, self.fail)
    }
}

/// Tokens of the plan: beginnings of faults from zero, crashes that waited for a sync from here.
const CRASHES: u64 = 1 << 31;
/// Ends of faults from here.
const FAULT_ENDS: u64 = 1 << 32;
/// The safety phase is over.
const HEAL: u64 = 1 << 33;
/// Look whether the liveness phase is over.
const LOOK: u64 = HEAL + 1;

struct Run {
    cluster: Cluster,
    session: Arc<Mutex<Session>>,
    plan: FaultPlan,
    targets: Targets,
    liveness: Duration,
    faults_done: usize,
    /// The system has regions.
    is_replicated: bool,
}

/// Runs a seed.
///
/// # Errors
/// What went wrong, first of all.
pub fn run(seed: u64, options: &RunOptions) -> Result<Report, Box<Failure>> {
    let mut run = Run::new(seed, options);
    let result = catch_unwind(AssertUnwindSafe(|| run.phases()))
        .unwrap_or_else(|payload| Err(Fail::Panicked(message_of(payload.as_ref()))));
    let kernel = run.cluster.kernel();
    let session = run.session.lock();
    let history = session.recorder.operations();
    let result = result.and_then(|()| match linearizable(history, DEFAULT_STEPS_MAX) {
        Verdict::Linearizable => Ok(()),
        Verdict::Violation(violation) => Err(Fail::NotLinearizable(violation)),
        Verdict::Undecided { key } => Err(Fail::Undecided { key }),
    });
    match result {
        Ok(()) => Ok(Report {
            seed,
            hash: kernel.trace().hash(),
            events: kernel.trace().events(),
            simulated: kernel.now(),
            operations: history.len(),
            tally: session.tally,
            faults: run.faults_done,
        }),
        Err(fail) => Err(Box::new(Failure {
            seed,
            at: kernel.now(),
            events: kernel.trace().events(),
            fail,
            plan: run.plan.clone(),
            tail: kernel.trace().tail().map(str::to_owned).collect(),
            history: history.to_vec(),
        })),
    }
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

impl Run {
    fn new(seed: u64, options: &RunOptions) -> Self {
        let root = SplitMix::new(seed);
        let session = Arc::new(Mutex::new(Session::new(WorkloadConfig::draw(&mut root.fork("workload")))));
        let mut topology = root.fork("topology");
        let client_count = 1 + u32::try_from(topology.below(4)).expect("small");
        let clients: Vec<NodeId> = (0..client_count).map(|number| NodeId(101 + number)).collect();
        let setup = Setup::draw(&mut root.fork("setup"));
        #[cfg(feature = "seeded_bugs")]
        let setup = {
            let mut setup = setup;
            if let System::Cluster(Some(bug)) = options.system {
                plant(&mut setup.store, bug);
            }
            setup
        };
        let (stores, members) = match options.system {
            System::Reference(_) => (1, 1),
            System::Cluster(_) => (setup.stores, setup.pd_members),
        };
        let stores: Vec<NodeId> = (0..stores).map(|number| NodeId(1 + number)).collect();
        let pd_members: Vec<NodeId> = (0..members).map(|number| NodeId(51 + number)).collect();
        let targets = Targets {
            servers: stores.iter().chain(&pd_members).copied().collect(),
            clients: clients.clone(),
        };
        let safety_end = SimTime::ZERO + options.safety;
        let mut plan = FaultPlan::draw(&root.fork("faults"), &targets, safety_end);
        let mut number = 0;
        plan.faults.retain(|_| {
            number += 1;
            !options.without_faults.contains(&(number - 1))
        });

        let trace = Trace::new(options.trace, options.filter.clone());
        let mut cluster = Cluster::new(Kernel::new(seed, plan.network.clone(), trace));
        let mut clocks = root.fork("clocks");
        let mut machine = || {
            let drift = clocks.below(2 * DRIFT_PPM_MAX.unsigned_abs() + 1);
            MachineConfig {
                drift_ppm: i64::try_from(drift).expect("small") - DRIFT_PPM_MAX,
                disk: plan.disk.clone(),
            }
        };
        match options.system {
            System::Reference(flaw) => {
                cluster.add(stores[0], &machine(), Box::new(ReferenceStore::new(flaw)));
                cluster.add(pd_members[0], &machine(), Box::new(ReferencePd::new(stores[0])));
            }
            System::Cluster(bug) => {
                for member in &pd_members {
                    let (members, config) = (pd_members.clone(), setup.pd.clone());
                    let node = PdNode::new(*member, members, config, setup.links, bug);
                    cluster.add(*member, &machine(), Box::new(node));
                }
                let book = AddressBook::default();
                for store in &stores {
                    let (config, members) = (setup.store.clone(), pd_members.clone());
                    let node = StoreNode::new(config, setup.links, Arc::clone(&book), members, bug);
                    cluster.add(*store, &machine(), Box::new(node));
                }
            }
        }
        for client in &clients {
            let node: Box<dyn Node> = Box::new(ClientNode::new(Arc::clone(&session), pd_members.clone()));
            cluster.add(*client, &machine(), node);
        }
        for (number, (at, _)) in plan.faults.iter().enumerate() {
            cluster.kernel_mut().mark_at(*at, number as u64);
        }
        cluster.kernel_mut().mark_at(safety_end, HEAL);
        let is_replicated = matches!(options.system, System::Cluster(_));
        Self { cluster, session, plan, targets, liveness: options.liveness, faults_done: 0, is_replicated }
    }

    fn phases(&mut self) -> Result<(), Fail> {
        let clients = self.targets.clients.len();
        let mut deadline = SimTime::MAX;
        loop {
            let Some(token) = self.cluster.step().map_err(Fail::Invariant)? else { continue };
            match token {
                HEAL => {
                    self.heal()?;
                    deadline = self.cluster.kernel().now() + self.liveness;
                    self.look_later();
                }
                LOOK => {
                    let session = self.session.lock();
                    let is_served = session.probes_done == clients;
                    let mut missing = session.probe_failure.clone();
                    if is_served {
                        match self.has_converged() {
                            Ok(()) => return Ok(()),
                            Err(broken) => missing = Some(broken.to_string()),
                        }
                    }
                    if self.cluster.kernel().now() >= deadline {
                        return Err(Fail::NotLive { served: session.probes_done, of: clients, missing });
                    }
                    drop(session);
                    self.look_later();
                }
                _ if token >= FAULT_ENDS => self.end_fault(token - FAULT_ENDS)?,
                _ if token >= CRASHES => self.crash(token - CRASHES),
                _ => self.begin_fault(token),
            }
        }
    }

    fn has_converged(&self) -> Result<(), Broken> {
        self.cluster.all_answered()?;
        if self.is_replicated { has_converged(&self.cluster.regions()) } else { Ok(()) }
    }

    fn look_later(&mut self) {
        let kernel = self.cluster.kernel_mut();
        kernel.mark_at(kernel.now() + Duration::from_millis(250), LOOK);
    }

    fn fault(&self, number: u64) -> Fault {
        self.plan.faults[usize::try_from(number).expect("an index")].1.clone()
    }

    /// True once nothing may go wrong any more.
    fn is_healed(&self) -> bool {
        self.session.lock().is_over
    }

    fn begin_fault(&mut self, number: u64) {
        let fault = self.fault(number);
        self.cluster.kernel_mut().note(|| format!("fault {number}: {fault:?}"));
        self.faults_done += 1;
        let kernel = self.cluster.kernel_mut();
        let lasts = match fault {
            Fault::Crash { node, in_sync: true, .. } => {
                kernel.mark_during_sync(node, CRASHES + number);
                None
            }
            Fault::Crash { .. } => {
                self.crash(number);
                None
            }
            Fault::Freeze { node, duration } => {
                if kernel.is_up(node) {
                    kernel.freeze(node, duration);
                }
                None
            }
            Fault::Cut { directions, duration } => {
                directions.iter().for_each(|(from, to)| kernel.set_cut(*from, *to, true));
                Some(duration)
            }
            Fault::Slow { directions, by, duration } => {
                directions.iter().for_each(|(from, to)| kernel.set_slow(*from, *to, by));
                Some(duration)
            }
            Fault::Reset { node } => {
                kernel.reset_connections(node);
                None
            }
            Fault::SlowDisk { node, disk, duration } => {
                kernel.disk_mut(node).config = disk;
                Some(duration)
            }
            Fault::WallJump { node, by_ms } => {
                kernel.clock_mut(node).jump_wall(by_ms);
                None
            }
            Fault::Drift { node, drift_ppm } => {
                let now = kernel.now();
                kernel.clock_mut(node).set_drift(now, drift_ppm);
                None
            }
        };
        if let Some(duration) = lasts {
            let kernel = self.cluster.kernel_mut();
            kernel.mark_at(kernel.now() + duration, FAULT_ENDS + number);
        }
    }

    fn crash(&mut self, number: u64) {
        let Fault::Crash { node, kind, down, .. } = self.fault(number) else {
            unreachable!("fault {number} is a crash");
        };
        if !self.is_healed() && self.cluster.crash(node, kind) {
            let kernel = self.cluster.kernel_mut();
            kernel.mark_at(kernel.now() + down, FAULT_ENDS + number);
        }
    }

    fn end_fault(&mut self, number: u64) -> Result<(), Fail> {
        if self.is_healed() {
            return Ok(());
        }
        self.cluster.kernel_mut().note(|| format!("fault {number} ends"));
        let kernel = self.cluster.kernel_mut();
        match self.plan.faults[usize::try_from(number).expect("an index")].1.clone() {
            Fault::Crash { node, .. } => self.cluster.restart(node).map_err(Fail::Invariant)?,
            Fault::Cut { directions, .. } => {
                directions.iter().for_each(|(from, to)| kernel.set_cut(*from, *to, false));
            }
            Fault::Slow { directions, .. } => {
                directions.iter().for_each(|(from, to)| kernel.set_slow(*from, *to, Duration::ZERO));
            }
            Fault::SlowDisk { node, .. } => kernel.disk_mut(node).config = self.plan.disk.clone(),
            Fault::Freeze { .. } | Fault::Reset { .. } | Fault::WallJump { .. } | Fault::Drift { .. } => {}
        }
        Ok(())
    }

    /// Nothing goes wrong from now on, and everybody is there.
    fn heal(&mut self) -> Result<(), Fail> {
        self.session.lock().is_over = true;
        let kernel = self.cluster.kernel_mut();
        kernel.note(|| "the safety phase is over".to_owned());
        kernel.heal_network(NetworkConfig::default());
        kernel.thaw_all();
        let nodes: Vec<NodeId> = kernel.nodes().collect();
        for node in &nodes {
            kernel.disk_mut(*node).config = DiskConfig::default();
        }
        for node in nodes {
            self.cluster.restart(node).map_err(Fail::Invariant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
