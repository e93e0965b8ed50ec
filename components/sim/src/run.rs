//! One run: a cluster, a workload and a fault plan from one seed; first safety, then liveness, then the checkers.

use crate::check::{
    Broken, DEFAULT_STEPS_MAX, Operation, Verdict, Violation, WrittenOnce, has_converged, linearizable,
};
use crate::client::ClientNode;
use crate::client_process::RUN;
use crate::cluster::{Cluster, Node};
use crate::kernel::{Kernel, MachineConfig, NodeId};
use crate::nemesis::{FaultCount, Nemesis};
use crate::network::NetworkCounts;
use crate::nodes::{AddressBook, PdNode, SeededBug, StoreNode};
use crate::observer::Depths;
use crate::plan::{Targets, draw_drift};
use crate::points::PointCounts;
use crate::reference::{Flaw, ReferencePd, ReferenceStore};
use crate::schedule::Schedule;
#[cfg(feature = "seeded_bugs")]
use crate::setup::plant;
use crate::time::SimTime;
use crate::trace::{Trace, TraceHash, TraceMode};
use crate::workload::{Session, Tally};
use env::SplitMix;
use env::points::{Armed, arm};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use types::StoreId;
use wire::pd::StoreMode;

/// Which system is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// The [reference](crate::reference), whole or with a flaw.
    Reference(Option<Flaw>),
    /// The product's stores and placement driver, as they are or with a bug that was planted.
    Cluster(Option<SeededBug>),
}

/// What kind of cluster is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Anything.
    Usual,
    /// Small and busy, for rare states in little time.
    Short,
    /// Five stores, more than twenty regions and some two thousand operations a minute: to measure the simulator by.
    Large,
}

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What is tried.
    pub system: System,
    /// What kind of cluster is drawn.
    pub scale: Scale,
    /// Whether clients also keep a bank, in transactions.
    pub transactions: bool,
    /// How long faults may begin.
    pub safety: Duration,
    /// How long the cluster then has to serve every key to every client.
    pub liveness: Duration,
    /// What becomes of the trace.
    pub trace: TraceMode,
    /// Only lines of the trace with this text.
    pub filter: Option<String>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            system: System::Cluster(None),
            scale: Scale::Usual,
            transactions: false,
            safety: Duration::from_secs(30),
            liveness: Duration::from_secs(60),
            trace: TraceMode::Off,
            filter: None,
        }
    }
}

impl RunOptions {
    /// A minute of a large cluster.
    #[must_use]
    pub fn large() -> Self {
        Self { scale: Scale::Large, safety: Duration::from_secs(60), ..Self::default() }
    }

    /// A short run of a small and busy cluster.
    #[must_use]
    pub fn short() -> Self {
        Self { scale: Scale::Short, safety: Duration::from_secs(20), ..Self::default() }
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
    /// How many stores there were at the end.
    pub stores: u32,
    /// How requests ended.
    pub tally: Tally,
    /// What went wrong, by kind of fault.
    pub faults: BTreeMap<&'static str, FaultCount>,
    /// How often the network misbehaved by itself.
    pub network: NetworkCounts,
    /// How often the points have fired that were armed.
    pub points: PointCounts,
    /// What the cluster got to.
    pub depths: Depths,
    /// What clients did.
    pub history: Vec<Operation>,
    /// What authors of lists did.
    pub lists: isolation::History,
}

/// Operations that a run must have done to count.
const OPERATIONS_MIN: u64 = 10;

impl Report {
    /// Why the run proves nothing: too little happened in it. `None` if enough did.
    #[must_use]
    pub fn is_void(&self) -> Option<&'static str> {
        let NetworkCounts { lost, doubled, old, of_earlier_lives, stragglers, garbled, cut_off: _, broken } =
            self.network;
        let of_network = lost + doubled + old + of_earlier_lives + stragglers + garbled + broken;
        let of_plan: u64 = self.faults.values().map(|count| count.took_effect).sum();
        if self.tally.done < OPERATIONS_MIN {
            Some("hardly any operation was done")
        } else if of_network + of_plan == 0 {
            Some("nothing went wrong")
        } else {
            None
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, hash, events, simulated, history, tally, .. } = self;
        let operations = history.len();
        let faults = |count: fn(&FaultCount) -> u64| self.faults.values().map(count).sum::<u64>();
        let (begun, took_effect) = (faults(|count| count.begun), faults(|count| count.took_effect));
        writeln!(
            f,
            "seed {seed}: {events} events in {simulated}, {operations} operations ({} done, {} refused, {} unknown), \
             {begun} faults ({took_effect} took effect)",
            tally.done, tally.refused, tally.unknown
        )?;
        if let Some(why) = self.is_void() {
            writeln!(f, "void: {why}")?;
        }
        write!(f, "trace {hash}")
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

impl Fail {
    /// What found it, the same for every failure of one kind: of an invariant its name, of a panic its words without
    /// the numbers in them.
    #[must_use]
    pub fn checker(&self) -> String {
        match self {
            Self::Invariant(broken) => broken.invariant.to_owned(),
            Self::NotLinearizable(_) => "linearizability".to_owned(),
            Self::Undecided { .. } => "linearizability, undecided".to_owned(),
            Self::NotLive { served, of, .. } if served < of => "liveness (clients are served)".to_owned(),
            Self::NotLive { .. } => "liveness (peers agree)".to_owned(),
            Self::Panicked(message) if message.contains("INV-") => {
                let name = message.split_once("INV-").map_or("", |(_, name)| name);
                let is_end = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-');
                format!("assertion of INV-{}", name.split(is_end).next().unwrap_or_default())
            }
            Self::Panicked(message) => {
                let line = message.lines().next().unwrap_or_default();
                let words =
                    line.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
                format!("panic: {}", words.take(12).collect::<Vec<_>>().join(" "))
            }
        }
    }
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
    /// All that decided the run.
    pub schedule: Schedule,
    /// The last lines of the trace, if it was kept.
    pub tail: Vec<String>,
    /// What clients did up to then.
    pub history: Vec<Operation>,
    /// What authors of lists did up to then.
    pub lists: isolation::History,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        write!(f, "{}", self.schedule)?;
        writeln!(f, "seed {} failed at {} after {} events: {}", self.seed, self.at, self.events, self.fail)
    }
}

/// The safety phase is over.
const HEAL: u64 = 1 << 33;
/// Look whether the liveness phase is over.
const LOOK: u64 = HEAL + 1;

/// Everything is checked once in so many events; in between, what something has happened to.
const CHECK_ALL_EVERY: u64 = 1_000;

struct Run {
    cluster: Cluster,
    session: Arc<Mutex<Session>>,
    nemesis: Nemesis,
    clients: Vec<NodeId>,
    liveness: Duration,
    /// The system has regions.
    is_replicated: bool,
    /// The points that may fire.
    armed: Armed,
    points: PointCounts,
    /// How many voters each region is to have.
    replicas: usize,
}

/// Runs a seed.
///
/// # Errors
/// What went wrong, first of all.
pub fn run(seed: u64, options: &RunOptions) -> Result<Report, Box<Failure>> {
    let trace = Trace::new(options.trace, options.filter.clone());
    run_schedule(&Schedule::draw(seed, options), trace)
}

/// Runs a schedule.
///
/// # Errors
/// What went wrong, first of all.
pub fn run_schedule(schedule: &Schedule, trace: Trace) -> Result<Report, Box<Failure>> {
    run_and_tell(schedule, trace, &mut |_| ())
}

/// The same; whoever wants to see the trace of a run that went well is shown it.
pub(crate) fn run_and_tell(
    schedule: &Schedule,
    trace: Trace,
    tell: &mut dyn FnMut(&Trace),
) -> Result<Report, Box<Failure>> {
    let mut run = Run::new(schedule, trace);
    let result = catch_unwind(AssertUnwindSafe(|| run.phases()))
        .unwrap_or_else(|payload| Err(Fail::Panicked(message_of(payload.as_ref()))));
    let faults = run.nemesis.counts();
    let kernel = run.cluster.kernel();
    tell(kernel.trace());
    let session = run.session.lock();
    let history = session.recorder.operations();
    let result = result.and_then(|()| match linearizable(history, DEFAULT_STEPS_MAX) {
        Verdict::Linearizable => Ok(()),
        Verdict::Violation(violation) => Err(Fail::NotLinearizable(violation)),
        Verdict::Undecided { key } => Err(Fail::Undecided { key }),
    });
    let writes = &run.cluster.observer().writes;
    let result = result.and_then(|()| writes.refused_are_not_applied(history).map_err(Fail::Invariant));
    let transactions = &run.cluster.observer().transactions;
    let result = result.and_then(|()| {
        let right = transactions.outcomes_are_right(&session.books.outcomes);
        right.and_then(|()| transactions.reads_are_right(&session.books.reads)).map_err(Fail::Invariant)
    });
    let result = result.and_then(|()| {
        let verdict = isolation::judge(&session.lists);
        let skew = verdict.write_skew.filter(|_| session.config.lists.serializable);
        let broken =
            |invariant, anomaly: isolation::Anomaly| Broken { invariant, facts: anomaly.to_string() };
        let anomaly = verdict.anomalies.into_iter().next();
        let found = anomaly.map(|anomaly| broken("INV-TXN-12 (snapshot isolation)", anomaly));
        let found = found.or_else(|| Some(broken("INV-TXN-17 (serializable)", skew?)));
        found.map_or(Ok(()), |found| Err(Fail::Invariant(found)))
    });
    let seed = schedule.seed;
    match result {
        Ok(()) => Ok(Report {
            seed,
            hash: kernel.trace().hash(),
            events: kernel.trace().events(),
            simulated: kernel.now(),
            stores: schedule.setup.stores,
            tally: session.tally,
            faults,
            network: kernel.network_counts(),
            points: run.points.clone(),
            depths: run.cluster.observer().depths(),
            history: history.to_vec(),
            lists: session.lists.clone(),
        }),
        Err(fail) => Err(Box::new(Failure {
            seed,
            at: kernel.now(),
            events: kernel.trace().events(),
            schedule: Schedule { fails: Some(fail.checker()), ..schedule.clone() },
            fail,
            tail: kernel.trace().tail().map(str::to_owned).collect(),
            history: history.to_vec(),
            lists: session.lists.clone(),
        })),
    }
}

pub(crate) fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

impl Run {
    fn new(schedule: &Schedule, trace: Trace) -> Self {
        let Schedule { seed, system, setup, plan, .. } = schedule;
        let root = SplitMix::new(*seed);
        // Before anything runs: nodes start as they are added.
        let armed = arm(&plan.points, &root.fork("points"));
        let session = Arc::new(Mutex::new(Session::new(schedule.workload.clone())));
        #[cfg_attr(not(feature = "seeded_bugs"), expect(unused_mut, reason = "bugs are planted in them"))]
        let (mut config, mut pd, mut client_bugs) =
            (setup.store.clone(), setup.pd.clone(), client_core::Bugs::default());
        #[cfg(feature = "seeded_bugs")]
        if let System::Cluster(Some(bug)) = system {
            plant(*bug, &mut config, &mut pd, &mut client_bugs);
        }
        let Targets { stores, late, members, clients } = schedule.targets();
        let mut cluster = Cluster::new(Kernel::new(*seed, plan.network.clone(), trace));
        let clocks = root.fork("clocks");
        let machine = |node: &NodeId| MachineConfig {
            drift_ppm: draw_drift(&mut clocks.fork(&node.to_string())),
            disk: plan.disk.clone(),
        };
        match system {
            System::Reference(flaw) => {
                let (store, pd) = (stores[0], members[0]);
                cluster.add(store, &machine(&store), Box::new(ReferenceStore::new(*flaw)));
                cluster.add(pd, &machine(&pd), Box::new(ReferencePd::new(store)));
            }
            System::Cluster(bug) => {
                for member in &members {
                    let node = PdNode::new(*member, members.clone(), pd.clone(), setup.links, *bug);
                    cluster.add(*member, &machine(member), Box::new(node));
                }
                let book = AddressBook::default();
                for store in &stores {
                    let (book, members) = (Arc::clone(&book), members.clone());
                    let node = Box::new(StoreNode::new(config.clone(), setup.links, book, members, *bug));
                    if late.contains(store) {
                        cluster.add_off(*store, &machine(store), node);
                    } else {
                        cluster.add(*store, &machine(store), node);
                    }
                }
            }
        }
        for client in &clients {
            let node: Box<dyn Node> =
                Box::new(ClientNode::new(Arc::clone(&session), members.clone(), client_bugs));
            cluster.add(*client, &machine(client), node);
        }
        cluster.observer_mut().writes = WrittenOnce::of_unique_values();
        let nemesis = Nemesis::new(plan.clone(), Arc::clone(&session), &mut cluster);
        cluster.kernel_mut().mark_at(SimTime::ZERO + schedule.safety, HEAL);
        let is_replicated = matches!(system, System::Cluster(_));
        let replicas = setup.pd.replicas;
        Self {
            cluster,
            session,
            nemesis,
            clients,
            liveness: schedule.liveness,
            is_replicated,
            replicas,
            armed,
            points: plan.points.iter().map(|name| (*name, 0)).collect(),
        }
    }

    fn phases(&mut self) -> Result<(), Fail> {
        let (mut deadline, mut check_at) = (SimTime::MAX, CHECK_ALL_EVERY);
        loop {
            let token = self.cluster.step();
            self.note_fired();
            let token = token.map_err(Fail::Invariant)?;
            if self.cluster.kernel().trace().events() >= check_at {
                check_at += CHECK_ALL_EVERY;
                self.cluster.check_all().map_err(Fail::Invariant)?;
            }
            let ended = self.cluster.ended();
            if !ended.is_empty() {
                self.nemesis.saw_ended(ended);
            }
            match token {
                None => {}
                Some(HEAL) => {
                    self.session.lock().is_over = true;
                    self.armed.disarm();
                    self.nemesis.heal(&mut self.cluster).map_err(Fail::Invariant)?;
                    for client in &self.clients {
                        // One that has nothing left to do looks up.
                        self.cluster.kernel_mut().wake_after(*client, Duration::from_micros(1), RUN);
                    }
                    deadline = self.cluster.kernel().now() + self.liveness;
                    self.look_later();
                }
                Some(LOOK) => {
                    let session = self.session.lock();
                    let is_served = session.probes_done == self.clients.len();
                    let mut missing = session.probe_failure.clone();
                    if is_served {
                        match self.has_converged(&session) {
                            Ok(()) => return self.cluster.check_all().map_err(Fail::Invariant),
                            Err(broken) => missing = Some(broken.to_string()),
                        }
                    }
                    if self.cluster.kernel().now() >= deadline {
                        let of = self.clients.len();
                        return Err(Fail::NotLive { served: session.probes_done, of, missing });
                    }
                    drop(session);
                    self.look_later();
                }
                Some(token) => {
                    self.nemesis.on_moment(&mut self.cluster, token).map_err(Fail::Invariant)?;
                }
            }
        }
    }

    /// Points that have fired are part of what happened.
    fn note_fired(&mut self) {
        for name in self.armed.take_fired() {
            *self.points.get_mut(name).expect("only what is armed fires") += 1;
            let kernel = self.cluster.kernel_mut();
            kernel.trace_mut().hash_mut().fold_bytes(name.as_bytes());
            kernel.note(|| format!("{name} fires"));
        }
    }

    fn has_converged(&self, session: &Session) -> Result<(), Broken> {
        self.cluster.all_answered()?;
        if !self.is_replicated {
            return Ok(());
        }
        has_converged(&self.cluster.regions())?;
        self.has_drained(session)
    }

    /// Stores that were to give everything away have done so, as long as there are enough others.
    fn has_drained(&self, session: &Session) -> Result<(), Broken> {
        let stores = self.cluster.stores_ever();
        let running: BTreeSet<StoreId> =
            self.cluster.stocks().values().filter_map(|stock| stock.serves_as).collect();
        let others = stores.iter().filter(|(id, store)| {
            !store.is_retired && store.mode != StoreMode::Draining && running.contains(id)
        });
        if others.count() < self.replicas {
            return Ok(());
        }
        for id in session.draining.difference(&session.undrained) {
            if !stores.get(id).is_some_and(|store| store.is_retired) {
                let facts = format!("store {id} was to drain, and is {:?}", stores.get(id));
                return Err(Broken { invariant: "drained stores end", facts });
            }
        }
        Ok(())
    }

    fn look_later(&mut self) {
        let kernel = self.cluster.kernel_mut();
        kernel.mark_at(kernel.now() + Duration::from_millis(250), LOOK);
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
