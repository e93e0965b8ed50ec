//! Scripts: chosen interleavings on the same stores, placement driver, clients and disks that random runs drive.
//!
//! A random run finds what is likely. Some interleavings are not: a thread that stops between two given steps, one
//! message that comes a second late. A [`Script`] brings them about: it lets threads of a store stand still and go on
//! ([`Script::hold`]), stops, repeats and watches chosen messages ([`Script::gate`]), cuts links, freezes machines, and
//! sends the requests of its clients when it wants ([`Script::get`], [`Script::put`]). Between two such commands time
//! passes ([`Script::run_for`], [`Script::run_until`]) as in every run. What clients see goes into one history, for
//! [`Script::verdict`]; an invariant that breaks does not end the script but is kept in [`Script::broken`], so that a
//! script can show what clients would have seen.
//!
//! All of it is decided by the seed and the commands: the same script is the same run.

mod client;
mod topic;

pub use client::{Answer, CallId, Reply};
pub use topic::Topic;

use crate::check::invariants::Broken;
use crate::check::{DEFAULT_STEPS_MAX, Operation, Verdict, linearizable};
use crate::client_process::RUN;
use crate::cluster::{Cluster, LeaseView, RegionView};
use crate::gate::{GateId, Passage};
use crate::kernel::{CrashKind, Kernel, MachineConfig, NodeId};
use crate::network::{Lane, NetworkConfig};
use crate::nodes::{AddressBook, PdNode, SeededBug, StoreLinks, StoreNode, Thread};
#[cfg(feature = "seeded_bugs")]
use crate::setup::plant;
use crate::time::SimTime;
use crate::trace::{Trace, TraceMode};
use bytes::Bytes;
use client::{Desk, Order, ScriptClient};
use client_core::Keyspace;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use types::{Key, PeerRole, RegionId, StoreId};

/// The placement driver's only member.
const PD: NodeId = NodeId(51);

/// What a script is played on.
#[derive(Clone, Debug)]
pub struct ScriptConfig {
    /// Draws everything that the script does not say.
    pub seed: u64,
    /// How many stores there are: nodes 1, 2 and so on.
    pub stores: u32,
    /// How many clients: nodes 101, 102 and so on. Each knows nothing until its first call, and keeps what it learns.
    pub clients: u32,
    /// How stores behave.
    pub store: store::Config,
    /// Rules that all stores break.
    pub bugs: Vec<SeededBug>,
    /// What becomes of the trace.
    pub trace: TraceMode,
}

impl Default for ScriptConfig {
    /// Three stores as the product sets them up, with three clients.
    fn default() -> Self {
        Self {
            seed: 0,
            stores: 3,
            clients: 3,
            store: store::Config { workers: 1, appliers: 1, ..store::Config::default() },
            bugs: Vec::new(),
            trace: TraceMode::Off,
        }
    }
}

/// A cluster that does what it is told.
pub struct Script {
    cluster: Cluster,
    stores: Vec<NodeId>,
    book: AddressBook,
    desk: Arc<Mutex<Desk>>,
    broken: Vec<Broken>,
    marks: u64,
}

impl Script {
    /// A cluster that has just been switched on. Messages travel one by one as datagrams, so that each can be stopped
    /// alone; none is lost unless the script says so.
    #[must_use]
    pub fn new(config: &ScriptConfig) -> Self {
        let trace = Trace::new(config.trace, None);
        let mut cluster = Cluster::new(Kernel::new(config.seed, NetworkConfig::default(), trace));
        let links = StoreLinks {
            lane: Lane::Datagram,
            one_by_one: true,
            hand_over_max: Duration::from_micros(50),
            stall_one_in: 0,
            damage_one_in: 0,
        };
        let machine = MachineConfig::default();
        #[cfg_attr(not(feature = "seeded_bugs"), expect(unused_mut, reason = "bugs are planted in them"))]
        let (mut store, mut pd) = (config.store.clone(), pd::Config::default());
        #[cfg(feature = "seeded_bugs")]
        for bug in &config.bugs {
            // Scripts say themselves what their clients do.
            plant(*bug, &mut store, &mut pd, &mut client_core::Bugs::default());
        }
        let of_driver = [SeededBug::StoreReleasesEarly, SeededBug::ClockBeforeDrain];
        let of_driver = config.bugs.iter().copied().find(|bug| of_driver.contains(bug));
        cluster.add(PD, &machine, Box::new(PdNode::new(PD, vec![PD], pd, links, None)));
        let stores: Vec<NodeId> = (1..=config.stores).map(NodeId).collect();
        let book = AddressBook::default();
        for id in &stores {
            let node = StoreNode::new(store.clone(), links, Arc::clone(&book), vec![PD], of_driver);
            cluster.add(*id, &machine, Box::new(node));
        }
        let desk = Arc::new(Mutex::new(Desk::default()));
        for id in (101..101 + config.clients).map(NodeId) {
            cluster.add(id, &machine, Box::new(ScriptClient::new(Arc::clone(&desk), vec![PD])));
        }
        Self { cluster, stores, book, desk, broken: Vec::new(), marks: 0 }
    }

    // ---- time ----

    /// True time.
    #[must_use]
    pub const fn now(&self) -> SimTime {
        self.cluster.kernel().now()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Lets time pass until `holds`, at most `limit`. Returns whether it does.
    pub fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        self.marks += 1;
        let mark = self.marks;
        let kernel = self.cluster.kernel_mut();
        kernel.mark_at(kernel.now() + limit, mark);
        while !holds(self) {
            match self.cluster.step() {
                Ok(Some(token)) if token == mark => return holds(self),
                Ok(_) => {}
                Err(broken) => self.broken.push(broken),
            }
        }
        true
    }

    /// Lets time pass until `holds`.
    ///
    /// # Panics
    /// When it does not within a simulated minute; `what` is what was waited for.
    pub fn wait_for(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let came = self.run_until(Duration::from_mins(1), holds);
        assert!(came, "{}: waited in vain until {what}; {:?}", self.now(), self.cluster.regions());
    }

    /// Lets time pass until the first region is led, and has voters on every store (or on three, if there are more).
    ///
    /// # Panics
    /// When that does not come about.
    pub fn boot(&mut self) {
        let copies = self.stores.len().min(3);
        self.wait_for("the first region has its copies", |script| {
            let views = script.cluster.regions();
            let leader = views.iter().find(|view| view.leads_in.is_some());
            leader.is_some_and(|leader| {
                let alike = views.iter().filter(|view| view.region == leader.region).count();
                let mut roles = leader.region.peers.iter().map(|peer| peer.role);
                alike == copies && roles.len() == copies && roles.all(|role| role == PeerRole::Voter)
            })
        });
    }

    // ---- what is there ----

    /// The cluster itself.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The kernel, for faults that have no command of their own.
    pub fn kernel_mut(&mut self) -> &mut Kernel<codec::frame::Frame> {
        self.cluster.kernel_mut()
    }

    /// The stores' nodes.
    #[must_use]
    pub fn stores(&self) -> &[NodeId] {
        &self.stores
    }

    /// The other stores' nodes.
    #[must_use]
    pub fn others(&self, than: &[NodeId]) -> Vec<NodeId> {
        self.stores.iter().copied().filter(|node| !than.contains(node)).collect()
    }

    /// The regions that a node holds, as of what it has applied.
    #[must_use]
    pub fn regions_of(&self, node: NodeId) -> Vec<RegionView> {
        self.cluster.regions_of(node)
    }

    /// Who leads the region of this key: of those that believe to, the one in the highest term of the newest region.
    #[must_use]
    pub fn leader_of(&self, key: &str) -> Option<(NodeId, RegionView)> {
        let key = encoded(key);
        let views = self.stores.iter().flat_map(|node| {
            let leads = self.regions_of(*node).into_iter().filter(|view| view.leads_in.is_some());
            leads.map(|view| (*node, view))
        });
        views
            .filter(|(_, view)| view.region.range.contains(&key))
            .max_by_key(|(_, view)| (view.region.epoch.version, view.leads_in))
    }

    /// The lease by which a node would answer a read of this key now.
    #[must_use]
    pub fn lease_on(&self, node: NodeId, key: &str) -> Option<LeaseView> {
        let key = encoded(key);
        self.cluster.leases(node).into_iter().find(|lease| lease.region.range.contains(&key))
    }

    /// Invariants that did not hold, in the order in which that was seen.
    #[must_use]
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    // ---- faults ----

    /// Nothing passes from `from` to `to`, until [`Script::mend`].
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cluster.kernel_mut().set_cut(from, to, true);
    }

    /// Takes back a [`Script::cut`].
    pub fn mend(&mut self, from: NodeId, to: NodeId) {
        self.cluster.kernel_mut().set_cut(from, to, false);
    }

    /// Nothing passes between two nodes.
    pub fn part(&mut self, one: NodeId, other: NodeId) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Nothing runs on the node until [`Script::thaw`]; its clock goes on and what arrives waits.
    pub fn freeze(&mut self, node: NodeId) {
        self.cluster.kernel_mut().freeze(node, Duration::from_hours(1));
    }

    /// Ends a [`Script::freeze`].
    pub fn thaw(&mut self, node: NodeId) {
        self.cluster.kernel_mut().thaw(node);
    }

    /// From now on a node's clock drifts by so many parts per million; before that, it is exact.
    pub fn set_drift(&mut self, node: NodeId, drift_ppm: i64) {
        let kernel = self.cluster.kernel_mut();
        let now = kernel.now();
        kernel.clock_mut(node).set_drift(now, drift_ppm);
    }

    /// A thread of a store does not run until [`Script::go_on`]; the others do.
    pub fn hold(&mut self, node: NodeId, thread: Thread) {
        let result = self.cluster.hold(node, thread, true);
        self.broken.extend(result.err());
    }

    /// Ends a [`Script::hold`].
    pub fn go_on(&mut self, node: NodeId, thread: Thread) {
        let result = self.cluster.hold(node, thread, false);
        self.broken.extend(result.err());
    }

    /// Ends a node's process.
    pub fn crash(&mut self, node: NodeId, kind: CrashKind) {
        self.cluster.crash(node, kind);
    }

    /// Starts a node's process again.
    pub fn restart(&mut self, node: NodeId) {
        let result = self.cluster.restart(node);
        self.broken.extend(result.err());
    }

    /// From now on this becomes of each message about one of `topics` from `from` to `to` (`None`: any node) that is
    /// about to arrive.
    pub fn gate(
        &mut self,
        from: Option<NodeId>,
        to: Option<NodeId>,
        topics: &[Topic],
        passage: Passage,
    ) -> GateId {
        let topics = topics.to_vec();
        self.cluster.kernel_mut().set_gate(move |sender, receiver, frame| {
            let ends = from.is_none_or(|from| from == sender) && to.is_none_or(|to| to == receiver);
            let meant = ends && topic::topics_of(frame).iter().any(|topic| topics.contains(topic));
            if meant { passage } else { Passage::Ignore }
        })
    }

    /// How many messages have come to a gate.
    #[must_use]
    pub fn seen_at(&self, gate: GateId) -> u64 {
        self.cluster.kernel().seen_at(gate)
    }

    /// How many messages wait at a gate.
    #[must_use]
    pub fn held_at(&self, gate: GateId) -> usize {
        self.cluster.kernel().held_at(gate).count()
    }

    /// Takes a gate away; what waits there arrives now.
    pub fn open(&mut self, gate: GateId) {
        self.cluster.kernel_mut().open_gate(gate, false);
    }

    /// Takes a gate away; what waits there is lost.
    pub fn forget(&mut self, gate: GateId) {
        self.cluster.kernel_mut().open_gate(gate, true);
    }

    // ---- clients ----

    fn call(&mut self, client: NodeId, order: Order) -> CallId {
        let call = self.desk.lock().order(client, order);
        // A moment later, so that what was answered by now was answered before.
        self.cluster.kernel_mut().wake_after(client, Duration::from_micros(1), RUN);
        call
    }

    /// A client begins to read a key.
    pub fn get(&mut self, client: NodeId, key: &str) -> CallId {
        self.call(client, Order::Get(Bytes::copy_from_slice(key.as_bytes())))
    }

    /// A client begins to write a key. In one script no value is written twice.
    pub fn put(&mut self, client: NodeId, key: &str, value: &str) -> CallId {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        self.call(client, Order::Put(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
    }

    /// Lets time pass until the placement driver tells `client` that the region of a key is led by `leader`; so a client
    /// that knows nothing finds it at once.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn wait_until_known(&mut self, client: NodeId, key: &str, leader: NodeId) {
        let store = self.store_of(leader);
        for _ in 0..1_000 {
            let call = self.call(client, Order::Locate(encoded(key)));
            if self.wait(call) == Ok(Reply::Leader(store)) {
                return;
            }
            self.run_for(Duration::from_millis(5));
        }
        panic!("{}: the placement driver does not learn that {leader} leads", self.now());
    }

    /// A client begins to split the region of a key there.
    pub fn split(&mut self, client: NodeId, key: &str) -> CallId {
        self.call(client, Order::Split(encoded(key)))
    }

    /// A client begins to hand the leadership of a region to another store.
    ///
    /// # Panics
    /// When the node has not joined as a store.
    pub fn transfer(&mut self, client: NodeId, region: RegionId, to: NodeId) -> CallId {
        let store = self.store_of(to).expect("it has joined");
        self.call(client, Order::Transfer(region, store))
    }

    /// The store that a node is; `None` before it has joined.
    #[must_use]
    pub fn store_of(&self, node: NodeId) -> Option<StoreId> {
        self.book.lock().iter().find(|(_, at)| **at == node).map(|(store, _)| *store)
    }

    /// What came of a call; `None` while it is under way.
    #[must_use]
    pub fn answer(&self, call: CallId) -> Option<Answer> {
        self.desk.lock().answer(call)
    }

    /// Lets time pass until the call has ended, and tells how.
    ///
    /// # Panics
    /// When that takes longer than a simulated minute.
    pub fn wait(&mut self, call: CallId) -> Answer {
        self.wait_for("a call ends", |script| script.answer(call).is_some());
        self.answer(call).expect("waited for it")
    }

    // ---- the end ----

    /// What clients asked and saw so far.
    #[must_use]
    pub fn history(&self) -> Vec<Operation> {
        self.desk.lock().recorder.operations().to_vec()
    }

    /// Whether a correct system could have shown that.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        linearizable(&self.history(), DEFAULT_STEPS_MAX)
    }
}

/// A client's key as regions know it.
fn encoded(key: &str) -> Key {
    Keyspace::RAW.encode(key.as_bytes())
}
