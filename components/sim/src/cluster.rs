//! Nodes on a kernel: who gets what the kernel says has happened.

use crate::check::{Broken, leases_are_disjoint, regions_cover_all_keys};
use crate::disk::DiskHurt;
use crate::kernel::{CrashKind, Kernel, MachineConfig, NodeId, Occurrence};
use crate::network::{ConnectionId, Lane};
use crate::nodes::Thread;
use crate::observer::Observer;
use crate::time::SimTime;
use codec::frame::Frame;
use env::{Dice, SplitMix};
use pd::StoreEver;
use std::collections::BTreeMap;
use std::time::Duration;
use store::DiskAge;
use types::{LogIndex, MonoTime, PeerId, Region, StoreId, Term};

/// A process of the cluster, together with its disk. It is told what happens to it, and acts through its [`World`].
///
/// A call does no more than one process could do at an instant. Work that takes time, or that another thread of the
/// process would do, is put off by [`World::wake_after`], so that other things can happen first.
pub trait Node {
    /// The process starts: at the beginning, and after each crash.
    fn start(&mut self, world: &mut World<'_>);

    /// A frame has arrived; on a `connection`, or alone.
    fn arrived(
        &mut self,
        world: &mut World<'_>,
        from: NodeId,
        connection: Option<ConnectionId>,
        frame: Frame,
    );

    /// A connection is gone, and with it what was under way. Unless it has `carried` something, nothing that was sent on
    /// it has arrived.
    fn disconnected(&mut self, world: &mut World<'_>, peer: NodeId, connection: ConnectionId, carried: bool);

    /// A wake-up that it has asked for.
    fn woken(&mut self, world: &mut World<'_>, token: u64);

    /// The process ends now. What is kept is the disk: after a power loss as far as it was synced, and more if the dice
    /// say so.
    fn crash(&mut self, kind: CrashKind, dice: &mut SplitMix);

    /// Lets a thread of the process stand still, or go on.
    fn hold(&mut self, world: &mut World<'_>, thread: Thread, still: bool) {
        panic!("{} has no thread {thread:?}, to be held or not ({still})", world.node());
    }

    /// Its appliers stand still for so long from now on, and all else goes on. Returns false if it has none.
    fn lag(&mut self, _world: &mut World<'_>, _duration: Duration) -> bool {
        false
    }

    /// The regions it holds, applied, as of now; nothing for nodes that are no stores.
    fn regions(&self) -> Vec<RegionView> {
        Vec::new()
    }

    /// Whether every request was answered that is long due when its monotonic clock shows `clock`.
    ///
    /// # Errors
    /// When one was not.
    fn all_answered(&self, _clock: MonoTime) -> Result<(), Broken> {
        Ok(())
    }

    /// The leases by which it would answer reads if its monotonic clock showed `clock`.
    fn leases(&self, _clock: MonoTime) -> Vec<LeaseView> {
        Vec::new()
    }

    /// Something happens to its disk. Returns false if that means nothing to it.
    fn hurt_disk(&mut self, _world: &mut World<'_>, _hurt: DiskHurt) -> bool {
        false
    }

    /// What its disks hold; nothing for nodes that are no stores. It may be down.
    fn stock(&self) -> DiskStock {
        DiskStock::default()
    }

    /// What it remembers of all stores that there ever were, and as of which command of its log; `None` for all but members
    /// of the placement driver.
    fn stores_ever(&self) -> Option<(LogIndex, StoresEver)> {
        None
    }

    /// Why its process ends now, by itself; told once.
    fn stops(&mut self) -> Option<String> {
        None
    }

    /// Looks at all that it has and holds, whatever has happened since it was looked at last; it is up.
    ///
    /// # Errors
    /// What does not hold.
    fn audit(&self, _observer: &mut Observer) -> Result<(), Broken> {
        Ok(())
    }

    /// Shows what must hold, after each thing that happened to the node while it is up. `now` is true time, `clock` what
    /// the node's monotonic clock shows.
    ///
    /// # Errors
    /// What does not hold.
    fn observe(&mut self, now: SimTime, clock: MonoTime, observer: &mut Observer) -> Result<(), Broken>;
}

/// A region as a store holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionView {
    /// The store.
    pub store_id: StoreId,
    /// The region, as of the entries applied.
    pub region: Region,
    /// The store's peer.
    pub peer_id: PeerId,
    /// How far it has applied.
    pub applied: LogIndex,
    /// The term in which it leads, if it does.
    pub leads_in: Option<Term>,
}

/// Every store that there ever was.
pub type StoresEver = BTreeMap<StoreId, StoreEver>;

/// What lies on the disks of a store.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DiskStock {
    /// Whose disk it has; `None` if nobody's yet.
    pub store_id: Option<StoreId>,
    /// The regions on it.
    pub regions: Vec<Region>,
    /// Whose disks were taken away from it.
    pub shelved: Vec<StoreId>,
    /// How far the image of its disk is that was taken last, and whose it is.
    pub image: Option<(StoreId, DiskAge)>,
    /// As which store it runs now, if it does.
    pub serves_as: Option<StoreId>,
}

/// A lease that a store holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseView {
    /// The store.
    pub store_id: StoreId,
    /// The region, as it is served.
    pub region: Region,
    /// The peer that leads.
    pub peer_id: PeerId,
    /// The term in which it does.
    pub term: Term,
    /// For how long, by the store's clock.
    pub left: Duration,
}

/// One node's view of the kernel.
pub struct World<'a> {
    kernel: &'a mut Kernel<Frame>,
    node: NodeId,
}

impl World<'_> {
    /// The node itself.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Its monotonic clock.
    #[must_use]
    pub fn mono(&self) -> MonoTime {
        self.kernel.mono(self.node)
    }

    /// Its wall clock, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.kernel.wall_ms(self.node)
    }

    /// True time: for recorders and checkers alone.
    #[must_use]
    pub const fn true_now(&self) -> SimTime {
        self.kernel.now()
    }

    /// Sends a frame; see [`Kernel::send`].
    pub fn send(&mut self, to: NodeId, lane: Lane, frame: Frame) -> Option<ConnectionId> {
        self.kernel.send(self.node, to, lane, frame)
    }

    /// Sends a frame back on the connection that another one came on. Lost if that is gone.
    pub fn reply(&mut self, connection: ConnectionId, frame: Frame) {
        self.kernel.reply(connection, self.node, frame);
    }

    /// Asks to be woken once its clock has advanced by this much.
    pub fn wake_after(&mut self, local: Duration, token: u64) {
        self.kernel.wake_after(self.node, local, token);
    }

    /// Asks to be woken when a sync that begins now has ended.
    pub fn wake_after_sync(&mut self, token: u64) {
        self.kernel.wake_after_sync(self.node, token);
    }

    /// A moment of up to `most`, as a thread takes to do a little or to notice that there is something to do. Mostly
    /// much shorter.
    pub fn delay(&mut self, most: Duration) -> Duration {
        let drawn = self.dice().duration(Duration::ZERO, most);
        if self.dice().chance(7, 8) { drawn / 64 } else { drawn }
    }

    /// Its own random numbers.
    pub fn dice(&mut self) -> &mut SplitMix {
        self.kernel.dice_mut(self.node)
    }

    /// True once nothing goes wrong any more.
    #[must_use]
    pub const fn is_healed(&self) -> bool {
        self.kernel.is_healed()
    }

    /// A line for readers of the trace.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        let node = self.node;
        self.kernel.note(|| format!("{node} {}", text()));
    }
}

/// All nodes of a run.
pub struct Cluster {
    kernel: Kernel<Frame>,
    nodes: BTreeMap<NodeId, Box<dyn Node>>,
    observer: Observer,
    /// Processes that have ended by themselves: in which life, to be started again if it was the last.
    ended: BTreeMap<NodeId, u64>,
    /// The same, with the reasons, until somebody asks.
    news: Vec<(NodeId, String)>,
}

/// Moments at which a process that has ended by itself is started again, from here.
const RESTARTS: u64 = 1 << 48;
/// How long it takes until then, at least.
const RESTART_MIN: Duration = Duration::from_millis(100);
/// How long at most.
const RESTART_MAX: Duration = Duration::from_secs(3);

impl Cluster {
    /// A cluster without nodes.
    #[must_use]
    pub fn new(kernel: Kernel<Frame>) -> Self {
        Self {
            kernel,
            nodes: BTreeMap::new(),
            observer: Observer::default(),
            ended: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Adds a node and starts it.
    pub fn add(&mut self, id: NodeId, machine: &MachineConfig, mut node: Box<dyn Node>) {
        self.kernel.add(id, machine);
        node.start(&mut World { kernel: &mut self.kernel, node: id });
        self.nodes.insert(id, node);
    }

    /// Adds a node that is switched off.
    pub fn add_off(&mut self, id: NodeId, machine: &MachineConfig, node: Box<dyn Node>) {
        self.kernel.add(id, machine);
        self.kernel.crash(id, CrashKind::Power);
        self.nodes.insert(id, node);
    }

    /// Time, network and machines.
    #[must_use]
    pub const fn kernel(&self) -> &Kernel<Frame> {
        &self.kernel
    }

    /// Time, network and machines, for faults.
    pub fn kernel_mut(&mut self) -> &mut Kernel<Frame> {
        &mut self.kernel
    }

    /// What was observed.
    #[must_use]
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The same, to be told something.
    pub const fn observer_mut(&mut self) -> &mut Observer {
        &mut self.observer
    }

    /// All regions on all stores that are up.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionView> {
        self.nodes.values().flat_map(|node| node.regions()).collect()
    }

    /// Lets the next thing happen. Returns the token of a moment of the plan, if it was one.
    ///
    /// # Errors
    /// An invariant that does not hold afterwards.
    ///
    /// # Panics
    /// When nothing is left to happen: clusters tick for ever.
    pub fn step(&mut self) -> Result<Option<u64>, Broken> {
        let occurrence = self.kernel.advance().expect("clusters tick for ever");
        let id = match occurrence {
            Occurrence::Marked { token } if token >= RESTARTS => {
                let id = NodeId(u32::try_from(token - RESTARTS).expect("made from an id"));
                let is_last_life = self.ended.get(&id) == Some(&self.kernel.incarnation(id));
                return if is_last_life { self.restart(id).map(|()| None) } else { Ok(None) };
            }
            Occurrence::Marked { token } => return Ok(Some(token)),
            Occurrence::Arrived { to, from, connection, packet } => {
                let (node, mut world) = self.node(to);
                node.arrived(&mut world, from, connection, packet);
                to
            }
            Occurrence::Disconnected { node: id, peer, connection, carried } => {
                let (node, mut world) = self.node(id);
                node.disconnected(&mut world, peer, connection, carried);
                id
            }
            Occurrence::Woken { node: id, token } => {
                let (node, mut world) = self.node(id);
                node.woken(&mut world, token);
                id
            }
        };
        self.settle(id).map(|()| None)
    }

    /// After something has happened to a node.
    fn settle(&mut self, id: NodeId) -> Result<(), Broken> {
        let Some(why) = self.nodes.get_mut(&id).expect("every machine has a node").stops() else {
            return self.observe(id);
        };
        self.kernel.note(|| format!("{id} stops: {why}"));
        self.crash(id, CrashKind::Process);
        // Whoever looks after processes starts it again before long.
        let pause = self.kernel.dice_mut(id).duration(RESTART_MIN, RESTART_MAX);
        self.kernel.mark_at(self.kernel.now() + pause, RESTARTS + u64::from(id.0));
        self.ended.insert(id, self.kernel.incarnation(id));
        self.news.push((id, why));
        Ok(())
    }

    /// Processes that have ended by themselves since this was asked last, with their reasons.
    pub fn ended(&mut self) -> Vec<(NodeId, String)> {
        std::mem::take(&mut self.news)
    }

    /// Something happens to a node's disk. Returns false if that means nothing to it.
    ///
    /// # Errors
    /// An invariant that does not hold afterwards.
    pub fn hurt_disk(&mut self, id: NodeId, hurt: DiskHurt) -> Result<bool, Broken> {
        let (node, mut world) = self.node(id);
        let is_hurt = node.hurt_disk(&mut world, hurt);
        if self.kernel.is_up(id) {
            self.settle(id)?;
        }
        Ok(is_hurt)
    }

    /// What lies on the disks of all nodes.
    #[must_use]
    pub fn stocks(&self) -> BTreeMap<NodeId, DiskStock> {
        self.nodes.iter().map(|(id, node)| (*id, node.stock())).collect()
    }

    /// What the placement driver's member that is furthest remembers of stores; nothing, if all members are down.
    #[must_use]
    pub fn stores_ever(&self) -> StoresEver {
        let told = self.nodes.values().filter_map(|node| node.stores_ever());
        told.max_by_key(|(applied, _)| *applied).map(|(_, stores)| stores).unwrap_or_default()
    }

    fn observe(&mut self, id: NodeId) -> Result<(), Broken> {
        let (now, clock) = (self.kernel.now(), self.kernel.mono(id));
        self.nodes.get_mut(&id).expect("every machine has a node").observe(now, clock, &mut self.observer)?;
        if std::mem::take(&mut self.observer.lease_gained) {
            let all: Vec<LeaseView> = self.nodes.keys().flat_map(|id| self.leases(*id)).collect();
            leases_are_disjoint(&all)?;
        }
        Ok(())
    }

    /// Checks everything, not only what something has just happened to.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn check_all(&mut self) -> Result<(), Broken> {
        for (id, node) in &self.nodes {
            if self.kernel.is_up(*id) {
                node.audit(&mut self.observer)?;
            }
        }
        // A split is applied in one batch, so of whatever was seen the newest leaves nothing out.
        let newest = self.observer.epochs.newest();
        if !newest.is_empty() {
            regions_cover_all_keys(&newest)?;
        }
        let leases: Vec<LeaseView> = self.nodes.keys().flat_map(|id| self.leases(*id)).collect();
        leases_are_disjoint(&leases)
    }

    /// The leases by which a node would answer reads now; none if it is down.
    #[must_use]
    pub fn leases(&self, id: NodeId) -> Vec<LeaseView> {
        self.nodes[&id].leases(self.kernel.mono(id))
    }

    /// Whether every request was answered, at the latest soon after its deadline.
    ///
    /// # Errors
    /// A node that owes an answer.
    pub fn all_answered(&self) -> Result<(), Broken> {
        let mut nodes = self.nodes.iter();
        nodes.try_for_each(|(id, node)| node.all_answered(self.kernel.mono(*id)))
    }

    /// The regions that a node holds; none if it is down.
    #[must_use]
    pub fn regions_of(&self, id: NodeId) -> Vec<RegionView> {
        self.nodes[&id].regions()
    }

    /// Lets a thread of a node stand still, or go on.
    ///
    /// # Errors
    /// An invariant that does not hold afterwards.
    ///
    /// # Panics
    /// When the node is down, or has no such thread.
    pub fn hold(&mut self, id: NodeId, thread: Thread, still: bool) -> Result<(), Broken> {
        assert!(self.kernel.is_up(id), "{id} is down: nothing of it runs");
        let (node, mut world) = self.node(id);
        node.hold(&mut world, thread, still);
        self.settle(id)
    }

    /// Lets the appliers of a node that is up stand still for a while. Returns false if it has none.
    ///
    /// # Errors
    /// An invariant that does not hold afterwards.
    pub fn lag(&mut self, id: NodeId, duration: Duration) -> Result<bool, Broken> {
        let (node, mut world) = self.node(id);
        let has_appliers = node.lag(&mut world, duration);
        self.settle(id)?;
        Ok(has_appliers)
    }

    fn node(&mut self, id: NodeId) -> (&mut Box<dyn Node>, World<'_>) {
        let node = self.nodes.get_mut(&id).expect("every machine has a node");
        (node, World { kernel: &mut self.kernel, node: id })
    }

    /// Ends a node's process, if it is up. Returns whether it was.
    pub fn crash(&mut self, id: NodeId, kind: CrashKind) -> bool {
        if !self.kernel.is_up(id) {
            return false;
        }
        self.kernel.crash(id, kind);
        let mut dice = self.kernel.dice_mut(id).clone();
        self.nodes.get_mut(&id).expect("every machine has a node").crash(kind, &mut dice);
        *self.kernel.dice_mut(id) = dice;
        true
    }

    /// Starts a node's process again, if it is down.
    ///
    /// # Errors
    /// An invariant that does not hold afterwards.
    pub fn restart(&mut self, id: NodeId) -> Result<(), Broken> {
        if self.kernel.is_up(id) {
            return Ok(());
        }
        self.kernel.restart(id);
        let (node, mut world) = self.node(id);
        node.start(&mut world);
        self.settle(id)
    }
}
