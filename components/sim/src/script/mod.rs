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

pub use client::{Answer, CallError, CallId, Reply};
pub use topic::Topic;

use crate::check::{Broken, DEFAULT_STEPS_MAX, Operation, Verdict, linearizable};
use crate::client_process::RUN;
use crate::cluster::{Cluster, LeaseView, RegionView};
use crate::disk::DiskHurt;
use crate::executor::Handle;
use crate::gate::{GateId, Passage};
use crate::kernel::{CrashKind, Kernel, MachineConfig, NodeId};
use crate::network::{Lane, NetworkConfig};
use crate::nodes::{AddressBook, PdNode, SeededBug, StoreLinks, StoreNode, Thread};
#[cfg(feature = "seeded_bugs")]
use crate::setup::plant;
use crate::time::SimTime;
use crate::trace::{Trace, TraceMode};
use bytes::Bytes;
use client::{Desk, Order, ScriptClient, Work};
use client_core::{Core, Error, Keyspace};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use types::{Key, PeerRole, RegionId, StoreId};
use wire::pd::Order as Change;

/// The placement driver's members begin here, and the clients.
const MEMBERS: u32 = 51;
const CLIENTS: u32 = 101;

/// What a script is played on.
#[derive(Clone, Debug)]
pub struct ScriptConfig {
    /// Draws everything that the script does not say.
    pub seed: u64,
    /// How many stores there are: nodes 1, 2 and so on.
    pub stores: u32,
    /// How many of them, the last, are off until [`Script::restart`].
    pub late: u32,
    /// How many members the placement driver has: nodes 51, 52 and so on.
    pub members: u32,
    /// How many clients: nodes 101, 102 and so on. Each knows nothing until its first call, and keeps what it learns.
    pub clients: u32,
    /// How long a call of a client may take.
    pub deadline: Duration,
    /// How stores behave.
    pub store: store::Config,
    /// How the placement driver does.
    pub pd: pd::Config,
    /// How they talk to each other.
    pub links: StoreLinks,
    /// Rules that all stores break.
    pub bugs: Vec<SeededBug>,
    /// What becomes of the trace.
    pub trace: TraceMode,
    /// Only lines of the trace with this text.
    pub filter: Option<String>,
}

impl Default for ScriptConfig {
    /// Three stores and a placement driver as the product sets them up, with three clients. Messages between stores travel
    /// one by one as datagrams, so that each can be stopped alone; none is lost unless the script says so.
    fn default() -> Self {
        let hand_over_max = Duration::from_micros(50);
        let (lane, one_by_one) = (Lane::Datagram, true);
        Self {
            seed: 0,
            stores: 3,
            late: 0,
            members: 1,
            clients: 3,
            deadline: Duration::from_secs(20),
            store: store::Config { workers: 1, appliers: 1, ..store::Config::default() },
            pd: pd::Config::default(),
            links: StoreLinks { one_by_one, hand_over_max, ..StoreLinks::calm(lane) },
            bugs: Vec::new(),
            trace: TraceMode::Off,
            filter: None,
        }
    }
}

/// A cluster that does what it is told.
pub struct Script {
    cluster: Cluster,
    stores: Vec<NodeId>,
    members: Vec<NodeId>,
    clients: Vec<NodeId>,
    /// How many copies a region is to have.
    copies: usize,
    book: AddressBook,
    desk: Arc<Mutex<Desk>>,
    broken: Vec<Broken>,
    /// Processes that have ended by themselves, with the reasons.
    ended: Vec<(NodeId, String)>,
    marks: u64,
}

impl Script {
    /// A cluster that has just been switched on.
    #[must_use]
    pub fn new(config: &ScriptConfig) -> Self {
        let trace = Trace::new(config.trace, config.filter.clone());
        let mut cluster = Cluster::new(Kernel::new(config.seed, NetworkConfig::default(), trace));
        let machine = MachineConfig::default();
        #[cfg_attr(not(feature = "seeded_bugs"), expect(unused_mut, reason = "bugs are planted in them"))]
        let (mut store, mut pd, mut client_bugs) =
            (config.store.clone(), config.pd.clone(), client_core::Bugs::default());
        #[cfg(feature = "seeded_bugs")]
        for bug in &config.bugs {
            plant(*bug, &mut store, &mut pd, &mut client_bugs);
        }
        // Those that the drivers of stores and members are asked for; of each there is room for one.
        let of_driver = [
            SeededBug::StoreReleasesEarly,
            SeededBug::ClockBeforeDrain,
            SeededBug::SyncBegunBeforeWrite,
            SeededBug::PdReleasesEarly,
            SeededBug::RunsOnAfterFailure,
        ];
        let of_driver = config.bugs.iter().copied().find(|bug| of_driver.contains(bug));
        let nodes = |first: u32, count: u32| (first..first + count).map(NodeId).collect::<Vec<_>>();
        let (stores, members) = (nodes(1, config.stores), nodes(MEMBERS, config.members));
        let copies = config.pd.replicas;
        for id in &members {
            let node = PdNode::new(*id, members.clone(), pd.clone(), config.links, of_driver);
            cluster.add(*id, &machine, Box::new(node));
        }
        let book = AddressBook::default();
        let late = stores.len() - stores.len().min(config.late as usize);
        for (number, id) in stores.iter().enumerate() {
            let (book, members) = (Arc::clone(&book), members.clone());
            let node = Box::new(StoreNode::new(store.clone(), config.links, book, members, of_driver));
            if number < late {
                cluster.add(*id, &machine, node);
            } else {
                cluster.add_off(*id, &machine, node);
            }
        }
        let desk = Arc::new(Mutex::new(Desk::default()));
        let clients = nodes(CLIENTS, config.clients);
        for id in &clients {
            let (desk, members) = (Arc::clone(&desk), members.clone());
            let node = ScriptClient::new(desk, members, config.deadline, client_bugs);
            cluster.add(*id, &machine, Box::new(node));
        }
        let (broken, ended, marks) = Default::default();
        Self { cluster, stores, members, clients, copies, book, desk, broken, ended, marks }
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
            let step = self.cluster.step();
            self.ended.extend(self.cluster.ended());
            match step {
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

    /// Lets time pass until the first region is led, and has as many voters as it is to have, or as there are stores.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn boot(&mut self) {
        let up = self.stores.iter().filter(|node| self.cluster.kernel().is_up(**node)).count();
        let copies = up.min(self.copies);
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

    /// The nodes of the placement driver's members.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// The clients' nodes.
    #[must_use]
    pub fn clients(&self) -> &[NodeId] {
        &self.clients
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
        self.leader_at(&encoded(key))
    }

    /// The same of a key as stores see it, of whatever key space.
    #[must_use]
    pub fn leader_at(&self, key: &Key) -> Option<(NodeId, RegionView)> {
        let views = self.stores.iter().flat_map(|node| {
            let leads = self.regions_of(*node).into_iter().filter(|view| view.leads_in.is_some());
            leads.map(|view| (*node, view))
        });
        views
            .filter(|(_, view)| view.region.range.contains(key))
            .max_by_key(|(_, view)| (view.region.epoch.version, view.leads_in))
    }

    /// A node's copy of the region of this key, as of what it has applied.
    #[must_use]
    pub fn copy_on(&self, node: NodeId, key: &str) -> Option<RegionView> {
        let key = encoded(key);
        self.regions_of(node).into_iter().find(|view| view.region.range.contains(&key))
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

    /// Processes that have ended by themselves so far, with the reasons. They are started again before long.
    #[must_use]
    pub fn ended(&self) -> &[(NodeId, String)] {
        &self.ended
    }

    /// The member of the placement driver that was elected last.
    #[must_use]
    pub fn pd_leader(&self) -> Option<NodeId> {
        let mut latest = self.cluster.observer().elections.latest();
        let (_, _, peer) = latest.find(|(group, ..)| *group == RegionId::ZERO)?;
        u32::try_from(peer.get()).ok().map(NodeId)
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

    /// Something happens to a node's disk.
    pub fn hurt_disk(&mut self, node: NodeId, hurt: DiskHurt) {
        let result = self.cluster.hurt_disk(node, hurt);
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
        self.gate_by(from, to, topics, move |_| passage)
    }

    /// From now on the message about one of `topics` that comes as number `number` (the first is 0) is held; the others
    /// pass.
    pub fn hold_one(
        &mut self,
        from: Option<NodeId>,
        to: Option<NodeId>,
        topics: &[Topic],
        number: u64,
    ) -> GateId {
        self.gate_by(from, to, topics, move |at| if at == number { Passage::Hold } else { Passage::Watch })
    }

    /// A gate at which `passage` says what becomes of each message, by its number.
    fn gate_by(
        &mut self,
        from: Option<NodeId>,
        to: Option<NodeId>,
        topics: &[Topic],
        passage: impl Fn(u64) -> Passage + 'static,
    ) -> GateId {
        let (topics, mut number) = (topics.to_vec(), 0);
        self.cluster.kernel_mut().set_gate(move |sender, receiver, frame| {
            let ends = from.is_none_or(|from| from == sender) && to.is_none_or(|to| to == receiver);
            let meant = ends && topic::topics_of(frame).iter().any(|topic| topics.contains(topic));
            if !meant {
                return Passage::Ignore;
            }
            number += 1;
            passage(number - 1)
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

    /// A client begins to remove a key.
    pub fn delete(&mut self, client: NodeId, key: &str) -> CallId {
        self.call(client, Order::Delete(Bytes::copy_from_slice(key.as_bytes())))
    }

    /// A client begins to set a key to `new` if it holds `expected`; `None` is nothing.
    pub fn swap(&mut self, client: NodeId, key: &str, expected: Option<&str>, new: Option<&str>) -> CallId {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        self.call(client, Order::Swap(bytes(key), expected.map(bytes), new.map(bytes)))
    }

    /// A client begins to read all keys, in order or in reverse.
    pub fn scan(&mut self, client: NodeId, reverse: bool) -> CallId {
        self.call(client, Order::Scan(reverse))
    }

    /// A client asks for a timestamp.
    pub fn timestamp(&mut self, client: NodeId) -> CallId {
        self.call(client, Order::Timestamp)
    }

    /// A client begins to write and read these keys in turn, resting so long between two; until [`Script::end_load`].
    pub fn load(&mut self, client: NodeId, keys: &[String], rest: Duration) -> CallId {
        self.desk.lock().load_is_over = false;
        let keys = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
        self.call(client, Order::Load(keys, rest))
    }

    /// Whoever writes and reads until told otherwise stops after what is under way.
    pub fn end_load(&mut self) {
        self.desk.lock().load_is_over = true;
    }

    /// How many operations of clients were done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.desk.lock().done()
    }

    /// A client asks the placement driver who leads the region of a key.
    pub fn locate(&mut self, client: NodeId, key: &str) -> CallId {
        self.call(client, Order::Locate(encoded(key)))
    }

    /// Lets time pass until the placement driver tells `client` that the region of a key is led by `leader`; so a client
    /// that knows nothing finds it at once.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn wait_until_known(&mut self, client: NodeId, key: &str, leader: NodeId) {
        let store = self.store_of(leader);
        for _ in 0..1_000 {
            let call = self.locate(client, key);
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

    /// A client has the placement driver change the members of a region.
    pub fn change_members(&mut self, client: NodeId, region: RegionId, change: Change) -> CallId {
        self.call(client, Order::Members(region, change))
    }

    /// A client has the placement driver give up what it is about to do to a region.
    pub fn cancel_operator(&mut self, client: NodeId, region: RegionId) -> CallId {
        self.call(client, Order::CancelOperator(region))
    }

    /// A client has a region's log cut as far as its leader has applied it.
    pub fn compact_log(&mut self, client: NodeId, region: RegionId) -> CallId {
        self.call(client, Order::CompactLog(region))
    }

    /// A client begins to do anything that is written down for it, resting on its own time where it rests. It ends with the
    /// client's process, and then it is never answered.
    pub fn work<F>(&mut self, client: NodeId, work: impl FnOnce(Core, Handle) -> F + Send + 'static) -> CallId
    where
        F: Future<Output = Result<Reply, Error>> + Send + 'static,
    {
        let work = Work(Box::new(move |core, handle| Box::pin(work(core, handle))));
        self.call(client, Order::Work(work))
    }

    /// The store that a node is; `None` before it has joined.
    #[must_use]
    pub fn store_of(&self, node: NodeId) -> Option<StoreId> {
        self.book.lock().iter().find(|(_, at)| **at == node).map(|(store, _)| *store)
    }

    /// The node that is this store, if any is.
    #[must_use]
    pub fn node_of(&self, store: StoreId) -> Option<NodeId> {
        self.book.lock().get(&store).copied()
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
