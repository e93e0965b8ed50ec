//! The queue of things to come, on virtual time.
//!
//! The kernel owns true time, the nodes' clocks and disks, the network and the trace. [`Kernel::advance`] moves time to
//! the next thing that concerns a node and says what it is; whoever drives the nodes handles it and tells the kernel
//! what to send and when to wake whom. Things due at the same instant come in an order drawn from the seed.

use crate::clock::NodeClock;
use crate::disk::{Disk, DiskConfig};
use crate::gate::{GateId, Gates, Held, Passage};
use crate::network::{Breach, ConnectionId, Lane, Network, NetworkConfig, NetworkCounts, Pumped};
use crate::queue::{Pending, Queue, Scheduled};
use crate::time::SimTime;
use crate::trace::{Trace, TraceHash};
use env::{Dice, SplitMix};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;
use types::MonoTime;

/// A message that took this long is called old.
const OLD: Duration = Duration::from_secs(60);

/// A process with its machine: it crashes, freezes and restarts as one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// What travels between nodes.
pub trait Packet: Clone {
    /// Folds into the hash what tells this packet from others.
    fn fold(&self, hash: &mut TraceHash);

    /// One line for a reader of the trace.
    fn summary(&self) -> String;

    /// The packet is damaged on its way. Returns why its receiver does not take it.
    fn garble(&self, dice: &mut SplitMix) -> String;
}

/// Something that a node, or the one who plans the run, has to deal with now.
#[derive(Debug)]
pub enum Occurrence<P> {
    /// A packet has arrived.
    Arrived {
        /// At this node.
        to: NodeId,
        /// From that one.
        from: NodeId,
        /// The connection it came on; `None`: a datagram. Answers go back on it ([`Kernel::reply`]).
        connection: Option<ConnectionId>,
        /// The packet.
        packet: P,
    },
    /// The node learns that a connection is broken: what it has sent on it may have arrived or not, and no more comes.
    Disconnected {
        /// The node.
        node: NodeId,
        /// The other end.
        peer: NodeId,
        /// The connection.
        connection: ConnectionId,
        /// False if nothing has ever come out of it, so that what was sent on it has not arrived for certain.
        carried: bool,
    },
    /// A wake-up that the node has asked for.
    Woken {
        /// The node.
        node: NodeId,
        /// What it said when it asked.
        token: u64,
    },
    /// A moment that the plan has set.
    Marked {
        /// What was said when it was set.
        token: u64,
    },
}

impl<P> Occurrence<P> {
    const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Arrived { to: node, .. } | Self::Disconnected { node, .. } | Self::Woken { node, .. } => {
                Some(*node)
            }
            Self::Marked { .. } => None,
        }
    }
}

/// How the processes of a machine end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CrashKind {
    /// The process dies: what it has not synced may be gone, its machine's clock goes on.
    Process,
    /// The machine loses its power: the same, and its clock begins anew.
    Power,
}

struct Machine<P> {
    clock: NodeClock,
    disk: Disk,
    dice: SplitMix,
    up: bool,
    /// Grows with each crash: what an earlier life has asked for does not come.
    incarnation: u64,
    frozen_until: SimTime,
    /// A moment of the plan that comes during the next sync.
    during_sync: Option<u64>,
    /// What came while it was frozen.
    backlog: VecDeque<Occurrence<P>>,
}

/// What a node is made of.
#[derive(Clone, Default, Debug)]
pub struct MachineConfig {
    /// How much its monotonic clock drifts, in parts per million.
    pub drift_ppm: i64,
    /// Its disk.
    pub disk: DiskConfig,
}

/// Time, queue, network and machines of one run.
pub struct Kernel<P> {
    now: SimTime,
    queue: Queue<P>,
    root: SplitMix,
    network: Network<P>,
    machines: BTreeMap<NodeId, Machine<P>>,
    gates: Gates<P>,
    /// Nothing goes wrong any more.
    is_healed: bool,
    trace: Trace,
}

impl<P: Packet> Kernel<P> {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, network: NetworkConfig, trace: Trace) -> Self {
        let root = SplitMix::new(seed);
        Self {
            now: SimTime::ZERO,
            queue: Queue::new(root.fork("ties")),
            network: Network::new(network, root.fork("network")),
            machines: BTreeMap::new(),
            gates: Gates::default(),
            is_healed: false,
            trace,
            root,
        }
    }

    /// A stream of random numbers for the purpose named by `label`, the same whatever else was drawn.
    #[must_use]
    pub fn fork(&self, label: &str) -> SplitMix {
        self.root.fork(label)
    }

    /// Adds a machine, switched on.
    ///
    /// # Panics
    /// When the id is taken.
    pub fn add(&mut self, node: NodeId, config: &MachineConfig) {
        let mut dice = self.root.fork(&format!("node {node}"));
        // Clocks of different machines have nothing in common.
        let reading = MonoTime(dice.below(1 << 40));
        let machine = Machine {
            clock: NodeClock::new(self.now, reading, config.drift_ppm),
            disk: Disk::new(config.disk.clone(), self.root.fork(&format!("disk {node}"))),
            dice,
            up: true,
            incarnation: 0,
            frozen_until: SimTime::ZERO,
            during_sync: None,
            backlog: VecDeque::new(),
        };
        assert!(self.machines.insert(node, machine).is_none(), "{node} exists already");
    }

    fn machine(&self, node: NodeId) -> &Machine<P> {
        self.machines.get(&node).unwrap_or_else(|| panic!("no machine {node}"))
    }

    fn machine_mut(&mut self, node: NodeId) -> &mut Machine<P> {
        self.machines.get_mut(&node).unwrap_or_else(|| panic!("no machine {node}"))
    }

    /// True time.
    #[must_use]
    pub const fn now(&self) -> SimTime {
        self.now
    }

    /// What the node's monotonic clock shows.
    #[must_use]
    pub fn mono(&self, node: NodeId) -> MonoTime {
        self.machine(node).clock.mono(self.now)
    }

    /// What the node's wall clock shows, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall_ms(&self, node: NodeId) -> u64 {
        self.machine(node).clock.wall_ms(self.now)
    }

    /// The node's clock, for faults.
    pub fn clock_mut(&mut self, node: NodeId) -> &mut NodeClock {
        &mut self.machine_mut(node).clock
    }

    /// The node's disk.
    pub fn disk_mut(&mut self, node: NodeId) -> &mut Disk {
        &mut self.machine_mut(node).disk
    }

    /// The node's own random numbers.
    pub fn dice_mut(&mut self, node: NodeId) -> &mut SplitMix {
        &mut self.machine_mut(node).dice
    }

    /// True if the node is not crashed.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.machine(node).up
    }

    /// How often the node has ended.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> u64 {
        self.machine(node).incarnation
    }

    /// True if the node is up but does not run.
    #[must_use]
    pub fn is_frozen(&self, node: NodeId) -> bool {
        let machine = self.machine(node);
        machine.up && (machine.frozen_until > self.now || !machine.backlog.is_empty())
    }

    /// How often the network has misbehaved.
    #[must_use]
    pub const fn network_counts(&self) -> NetworkCounts {
        self.network.counts
    }

    /// All machines.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.machines.keys().copied()
    }

    /// The record of the run.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The record of the run, to add to.
    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// A line for readers of the trace.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.now, text);
    }

    fn schedule(&mut self, at: SimTime, pending: Pending<P>) {
        assert!(at >= self.now, "nothing is scheduled for the past: {at} at {}", self.now);
        self.queue.push(at, pending);
    }

    /// Sends a packet. On a stream, the connection is opened if the sender knows of none, and returned, so that the
    /// sender can tell by [`Occurrence::Disconnected`] what may be lost.
    pub fn send(&mut self, from: NodeId, to: NodeId, lane: Lane, packet: P) -> Option<ConnectionId> {
        assert_ne!(from, to, "a node does not send to itself");
        match lane {
            Lane::Datagram => {
                let copies = self.network.datagram(self.now, from, to);
                if copies.is_empty() {
                    self.trace.line(self.now, || format!("{from} -> {to} lost {}", packet.summary()));
                }
                let (sent, incarnation) = (self.now, self.machine(from).incarnation);
                for at in copies {
                    let packet = packet.clone();
                    self.schedule(at, Pending::Datagram { from, to, packet, sent, incarnation });
                }
                None
            }
            Lane::Stream(stream) => {
                let connection = self.network.connect(self.now, from, to, stream);
                self.reply(connection, from, packet);
                Some(connection)
            }
        }
    }

    /// Sends a packet on a connection that was opened before. If it is broken the packet is lost.
    pub fn reply(&mut self, connection: ConnectionId, from: NodeId, packet: P) {
        let (pump, breaks) = self.network.put(self.now, connection, from, packet);
        if let Some(at) = pump {
            self.schedule(at, Pending::Pump { connection, from });
        }
        if breaks {
            self.break_connection(connection);
        }
    }

    /// Wakes a node once its own clock has advanced by `local`. Forgotten if it crashes before.
    pub fn wake_after(&mut self, node: NodeId, local: Duration, token: u64) {
        let machine = self.machine(node);
        let (incarnation, due) = (machine.incarnation, machine.clock.mono(self.now) + local);
        let at = self.now + machine.clock.true_duration(local);
        self.schedule(at, Pending::Wake { node, incarnation, token, due });
    }

    /// Wakes a node after a span of true time: for what its hardware does. Forgotten if it crashes before.
    pub fn wake_after_true(&mut self, node: NodeId, duration: Duration, token: u64) {
        let incarnation = self.machine(node).incarnation;
        self.schedule(self.now + duration, Pending::Wake { node, incarnation, token, due: MonoTime::ZERO });
    }

    /// Wakes a node when a sync of its disk that begins now has ended. Forgotten if it crashes before.
    pub fn wake_after_sync(&mut self, node: NodeId, token: u64) {
        let machine = self.machine_mut(node);
        let duration = machine.disk.sync_duration();
        let moment = machine
            .during_sync
            .take()
            .map(|moment| (moment, machine.dice.duration(Duration::ZERO, duration)));
        if let Some((moment, delay)) = moment {
            self.mark_at(self.now + delay, moment);
        }
        self.wake_after_true(node, duration, token);
    }

    /// Sets a moment of the plan that comes while the node's disk is in its next sync: what is lost and what is kept
    /// is decided there.
    pub fn mark_during_sync(&mut self, node: NodeId, token: u64) {
        self.machine_mut(node).during_sync = Some(token);
    }

    /// Sets a moment of the plan.
    pub fn mark_at(&mut self, at: SimTime, token: u64) {
        self.schedule(at.max(self.now), Pending::Mark { token });
    }

    /// Moves on to the next thing that concerns somebody. `None`: nothing will ever happen again.
    pub fn advance(&mut self) -> Option<Occurrence<P>> {
        loop {
            let Scheduled { at, pending, .. } = self.queue.pop()?;
            debug_assert!(at >= self.now);
            self.now = at;
            if let Some(occurrence) = self.resolve(pending) {
                self.record(&occurrence);
                return Some(occurrence);
            }
        }
    }

    /// When the next entry of the queue is due.
    #[must_use]
    pub fn next_at(&self) -> Option<SimTime> {
        self.queue.next_at()
    }

    fn resolve(&mut self, pending: Pending<P>) -> Option<Occurrence<P>> {
        match pending {
            Pending::Mark { token } => Some(Occurrence::Marked { token }),
            Pending::Datagram { from, to, packet, sent, incarnation } => {
                if self.network.stops(from, to) || !self.machine(to).up {
                    self.trace.line(self.now, || format!("{from} -> {to} unreachable {}", packet.summary()));
                    return None;
                }
                let is_of_earlier_life = incarnation != self.machine(from).incarnation;
                self.network.counts.old += u64::from(self.now.since(sent) >= OLD);
                self.network.counts.of_earlier_lives += u64::from(is_of_earlier_life);
                self.arrive(Held { from, to, connection: None, packet })
            }
            Pending::Straggler { message, incarnation } => {
                let machine = self.machine(message.to);
                if !machine.up || machine.incarnation != incarnation {
                    return None;
                }
                self.network.counts.stragglers += 1;
                self.network.counts.of_earlier_lives += u64::from(!self.machine(message.from).up);
                self.arrive(message)
            }
            Pending::Pump { connection, from } => self.pump(connection, from),
            Pending::Released(Held { from, to, connection, packet }) => {
                let is_open = match connection {
                    Some(connection) => self.network.is_open(connection),
                    None => !self.network.is_cut(from, to),
                };
                if !is_open || !self.machine(to).up {
                    self.trace.line(self.now, || format!("{from} -> {to} too late {}", packet.summary()));
                    return None;
                }
                self.offer(Occurrence::Arrived { to, from, connection, packet })
            }
            Pending::Notice { connection, end, incarnation, carried } => {
                let machine = self.machine(end);
                if !machine.up || machine.incarnation != incarnation {
                    return None;
                }
                let peer = connection.pair.other(end);
                self.offer(Occurrence::Disconnected { node: end, peer, connection, carried })
            }
            Pending::Wake { node, incarnation, token, due } => {
                let machine = self.machine(node);
                if !machine.up || machine.incarnation != incarnation {
                    return None;
                }
                let left = due.since(machine.clock.mono(self.now));
                if !left.is_zero() {
                    let at = self.now + machine.clock.true_duration(left);
                    self.schedule(at, Pending::Wake { node, incarnation, token, due });
                    return None;
                }
                self.offer(Occurrence::Woken { node, token })
            }
            Pending::Drain { node, incarnation } => {
                let now = self.now;
                let machine = self.machine_mut(node);
                if machine.incarnation != incarnation {
                    return None;
                }
                if machine.frozen_until > now {
                    // Frozen again while it caught up.
                    let until = machine.frozen_until;
                    self.schedule(until, Pending::Drain { node, incarnation });
                    return None;
                }
                let first = machine.backlog.pop_front()?;
                if !machine.backlog.is_empty() {
                    self.schedule(now, Pending::Drain { node, incarnation });
                }
                Some(first)
            }
        }
    }

    fn pump(&mut self, connection: ConnectionId, from: NodeId) -> Option<Occurrence<P>> {
        let to = connection.pair.other(from);
        match self.network.pump(self.now, connection, from) {
            Pumped::Idle => None,
            Pumped::Blocked(again) => {
                self.schedule(again, Pending::Pump { connection, from });
                None
            }
            Pumped::Exhausted => {
                self.break_connection(connection);
                None
            }
            Pumped::Message(packet, next) => {
                if !self.machine(to).up {
                    // Refused by a machine that runs no such process, or never answered: the sender finds out.
                    self.trace.line(self.now, || format!("{from} -> {to} refused {}", packet.summary()));
                    self.break_connection(connection);
                    return None;
                }
                if let Some(at) = next {
                    self.schedule(at, Pending::Pump { connection, from });
                }
                self.arrive(Held { from, to, connection: Some(connection), packet })
            }
        }
    }

    /// A message is there, unless a gate stops it.
    fn arrive(&mut self, message: Held<P>) -> Option<Occurrence<P>> {
        let Held { from, to, connection, packet } = message;
        if self.network.garbles(from, to) {
            self.network.counts.garbled += 1;
            let why = packet.garble(self.network.dice(from, to));
            self.trace.line(self.now, || format!("{from} -> {to} damaged ({why}) {}", packet.summary()));
            if let Some(connection) = connection {
                self.break_connection(connection);
            }
            return None;
        }
        if !self.gates.lets_pass(from, to, connection, &packet) {
            self.trace.line(self.now, || format!("{from} -> {to} stopped {}", packet.summary()));
            return None;
        }
        self.offer(Occurrence::Arrived { to, from, connection, packet })
    }

    /// Lets the occurrence happen, unless its node is frozen: then it has to wait.
    fn offer(&mut self, occurrence: Occurrence<P>) -> Option<Occurrence<P>> {
        let node = occurrence.node().expect("only what concerns a node is offered");
        let now = self.now;
        let machine = self.machine_mut(node);
        let incarnation = machine.incarnation;
        if machine.frozen_until <= now && machine.backlog.is_empty() {
            return Some(occurrence);
        }
        let first = machine.backlog.is_empty();
        let thaw = machine.frozen_until.max(now);
        machine.backlog.push_back(occurrence);
        if first {
            self.schedule(thaw, Pending::Drain { node, incarnation });
        }
        None
    }

    fn record(&mut self, occurrence: &Occurrence<P>) {
        let now = self.now;
        match occurrence {
            Occurrence::Arrived { to, from, connection, packet } => {
                let lane = connection.map_or(0, |connection| connection.epoch);
                self.trace.event(now, &[1, u64::from(to.0), u64::from(from.0), lane]);
                packet.fold(self.trace.hash_mut());
                self.trace.line(now, || format!("{from} -> {to} {}", packet.summary()));
            }
            Occurrence::Disconnected { node, peer, connection, carried } => {
                self.network.notice(*connection, *node);
                let pair = connection.pair.number();
                self.trace.event(now, &[2, u64::from(node.0), pair, connection.epoch, u64::from(*carried)]);
                self.trace.line(now, || format!("{node} lost its connection to {peer}"));
            }
            Occurrence::Woken { node, token } => {
                self.trace.event(now, &[3, u64::from(node.0), *token]);
            }
            Occurrence::Marked { token } => self.trace.event(now, &[4, *token]),
        }
    }

    fn break_connection(&mut self, connection: ConnectionId) {
        let Some(breach) = self.network.break_connection(connection) else { return };
        let Breach { carried, delays, under_way: [from_low, from_high] } = breach;
        let pair = connection.pair;
        self.trace.line(self.now, || format!("connection between {} and {} breaks", pair.low, pair.high));
        let ends = [(pair.low, from_high), (pair.high, from_low)];
        for ((end, under_way), delay) in ends.into_iter().zip(delays) {
            let machine = self.machine(end);
            let incarnation = machine.incarnation;
            if !machine.up {
                // The process that starts there next has never heard of it.
                self.network.notice(connection, end);
                continue;
            }
            let from = pair.other(end);
            // What nothing has come out of before has carried nothing, for certain.
            let count = if carried { self.network.straggling(from, end, under_way.len()) } else { 0 };
            let step = delay / u32::try_from(count + 1).expect("connections hold fewer");
            let mut at = self.now;
            for packet in under_way.into_iter().take(count) {
                at = at + step;
                let message = Held { from, to: end, connection: Some(connection), packet };
                self.schedule(at, Pending::Straggler { message, incarnation });
            }
            // A nanosecond later than the last of them, for what is due at one instant comes in any order.
            let at = self.now + delay + Duration::from_nanos(1);
            self.schedule(at, Pending::Notice { connection, end, incarnation, carried });
        }
    }

    /// Breaks every connection of the node. Returns how many there were.
    pub fn reset_connections(&mut self, node: NodeId) -> usize {
        let open = self.network.open_connections(node);
        open.iter().for_each(|connection| self.break_connection(*connection));
        open.len()
    }

    /// The node is gone: nothing reaches it, and nothing that it waited for comes.
    ///
    /// # Panics
    /// When it is down already.
    pub fn crash(&mut self, node: NodeId, kind: CrashKind) {
        self.note(|| format!("{node} crashes ({kind:?})"));
        let now = self.now;
        let machine = self.machine_mut(node);
        assert!(machine.up, "{node} is down already");
        machine.up = false;
        machine.incarnation += 1;
        machine.frozen_until = SimTime::ZERO;
        machine.backlog.clear();
        if kind == CrashKind::Power {
            let reading = MonoTime(machine.dice.below(60_000_000_000));
            machine.clock.restart(now, reading);
        }
        self.reset_connections(node);
        self.network.forget(node);
    }

    /// The node is there again.
    ///
    /// # Panics
    /// When it is up already.
    pub fn restart(&mut self, node: NodeId) {
        self.note(|| format!("{node} restarts"));
        let machine = self.machine_mut(node);
        assert!(!machine.up, "{node} is up already");
        machine.up = true;
    }

    /// Nothing runs on the node for a span of true time; its clocks go on, and what arrives waits.
    pub fn freeze(&mut self, node: NodeId, duration: Duration) {
        self.note(|| format!("{node} freezes for {duration:?}"));
        let until = self.now + duration;
        let machine = self.machine_mut(node);
        machine.frozen_until = machine.frozen_until.max(until);
    }

    /// Lets nothing pass from `from` to `to`, or lets it pass again once this was called as often as it was cut.
    pub fn set_cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        self.network.set_cut(from, to, cut);
    }

    /// How often a cut has stopped something in one of these directions.
    #[must_use]
    pub fn stopped(&self, directions: &[(NodeId, NodeId)]) -> u64 {
        self.network.stopped(directions)
    }

    /// Makes everything from `from` to `to` take that much longer.
    pub fn set_slow(&mut self, from: NodeId, to: NodeId, by: Duration) {
        self.network.set_slow(from, to, by);
    }

    /// All links are whole and quick again, and the network behaves as `config` says.
    pub fn heal_network(&mut self, config: NetworkConfig) {
        self.note(|| "the network is healed".to_owned());
        self.network.heal();
        self.network.config = config;
        self.is_healed = true;
    }

    /// True from when the network was healed on: no thread is to stall by chance any more either.
    #[must_use]
    pub const fn is_healed(&self) -> bool {
        self.is_healed
    }

    /// Ends a freeze.
    pub fn thaw(&mut self, node: NodeId) {
        let now = self.now;
        let machine = self.machine_mut(node);
        if machine.frozen_until > now {
            machine.frozen_until = now;
            if !machine.backlog.is_empty() {
                // A drain at the planned thaw is in the queue as well: it will find the backlog empty, or help to empty
                // it.
                let incarnation = machine.incarnation;
                self.schedule(now, Pending::Drain { node, incarnation });
            }
        }
    }

    /// Ends all freezes.
    pub fn thaw_all(&mut self) {
        for node in self.nodes().collect::<Vec<_>>() {
            self.thaw(node);
        }
    }

    /// From now on `judge` is asked (from, to, packet) what becomes of each message that is about to arrive, after the
    /// gates that were set before. The first that says neither [`Passage::Ignore`] nor [`Passage::Watch`] decides.
    pub fn set_gate(&mut self, judge: impl FnMut(NodeId, NodeId, &P) -> Passage + 'static) -> GateId {
        self.gates.set(Box::new(judge))
    }

    /// How many messages the gate did not ignore.
    ///
    /// # Panics
    /// When the gate was opened.
    #[must_use]
    pub fn seen_at(&self, gate: GateId) -> u64 {
        self.gates.seen(gate)
    }

    /// The packets that wait at the gate, oldest first.
    ///
    /// # Panics
    /// When the gate was opened.
    pub fn held_at(&self, gate: GateId) -> impl Iterator<Item = &P> {
        self.gates.held(gate)
    }

    /// Takes the gate away. What waits there arrives now, in order; or never, if it is to be `lost`.
    ///
    /// # Panics
    /// When the gate was opened before.
    pub fn open_gate(&mut self, gate: GateId, lost: bool) {
        let held = self.gates.remove(gate);
        if lost {
            return;
        }
        for (number, message) in held.into_iter().enumerate() {
            // A nanosecond apart, for what is due at one instant comes in any order.
            self.schedule(self.now + Duration::from_nanos(number as u64), Pending::Released(message));
        }
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
