//! The queue of things to come, on virtual time.
//!
//! The kernel owns true time, the nodes' clocks and disks, the network and the trace. [`Kernel::advance`] moves time to
//! the next thing that concerns a node and says what it is; whoever drives the nodes handles it and tells the kernel
//! what to send and when to wake whom. Things due at the same instant come in an order drawn from the seed.

use crate::clock::NodeClock;
use crate::disk::{Disk, DiskConfig};
use crate::gate::{GateId, Gates, Held, Passage};
use crate::network::{ConnectionId, Lane, Network, NetworkConfig, Pumped};
use crate::time::SimTime;
use crate::trace::{Trace, TraceHash};
use env::{Dice, SplitMix};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::time::Duration;
use types::MonoTime;

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

/// What waits in the queue.
enum Pending<P> {
    Datagram {
        from: NodeId,
        to: NodeId,
        packet: P,
    },
    Pump {
        connection: ConnectionId,
        from: NodeId,
    },
    /// It has waited at a gate.
    Released(Held<P>),
    Notice {
        connection: ConnectionId,
        end: NodeId,
        incarnation: u64,
        carried: bool,
    },
    Wake {
        node: NodeId,
        incarnation: u64,
        token: u64,
        /// Not before the node's clock shows this: its drift may change meanwhile.
        due: MonoTime,
    },
    /// Next of what has piled up at a node while it was frozen.
    Drain {
        node: NodeId,
        incarnation: u64,
    },
    Mark {
        token: u64,
    },
}

struct Scheduled<P> {
    at: SimTime,
    /// Drawn, so that equal times come in any order.
    tie: u64,
    /// Counts up, so that the order is total.
    number: u64,
    pending: Pending<P>,
}

impl<P> Scheduled<P> {
    const fn key(&self) -> (SimTime, u64, u64) {
        (self.at, self.tie, self.number)
    }
}

impl<P> PartialEq for Scheduled<P> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl<P> Eq for Scheduled<P> {}
impl<P> PartialOrd for Scheduled<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<P> Ord for Scheduled<P> {
    /// Reversed: a binary heap gives its greatest first, and the earliest is wanted.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// How the processes of a machine end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CrashKind {
    /// The process dies; what it has written stays, its machine's clock goes on.
    Process,
    /// The machine loses its power: what was not synced may be gone, its clock begins anew.
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
    queue: BinaryHeap<Scheduled<P>>,
    numbers: u64,
    root: SplitMix,
    ties: SplitMix,
    network: Network<P>,
    machines: BTreeMap<NodeId, Machine<P>>,
    gates: Gates<P>,
    trace: Trace,
}

impl<P: Packet> Kernel<P> {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, network: NetworkConfig, trace: Trace) -> Self {
        let root = SplitMix::new(seed);
        Self {
            now: SimTime::ZERO,
            queue: BinaryHeap::new(),
            numbers: 0,
            ties: root.fork("ties"),
            network: Network::new(network, root.fork("network")),
            machines: BTreeMap::new(),
            gates: Gates::default(),
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

    /// True if the node is up but does not run.
    #[must_use]
    pub fn is_frozen(&self, node: NodeId) -> bool {
        let machine = self.machine(node);
        machine.up && (machine.frozen_until > self.now || !machine.backlog.is_empty())
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
        self.numbers += 1;
        let tie = self.ties.next_u64();
        self.queue.push(Scheduled { at, tie, number: self.numbers, pending });
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
                for at in copies {
                    self.schedule(at, Pending::Datagram { from, to, packet: packet.clone() });
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
        self.queue.peek().map(|scheduled| scheduled.at)
    }

    fn resolve(&mut self, pending: Pending<P>) -> Option<Occurrence<P>> {
        match pending {
            Pending::Mark { token } => Some(Occurrence::Marked { token }),
            Pending::Datagram { from, to, packet } => {
                if self.network.is_cut(from, to) || !self.machine(to).up {
                    self.trace.line(self.now, || format!("{from} -> {to} unreachable {}", packet.summary()));
                    return None;
                }
                self.arrive(Held { from, to, connection: None, packet })
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
        let Some((carried, delays)) = self.network.break_connection(connection) else { return };
        let pair = connection.pair;
        self.trace.line(self.now, || format!("connection between {} and {} breaks", pair.low, pair.high));
        for (end, delay) in [pair.low, pair.high].into_iter().zip(delays) {
            let incarnation = self.machine(end).incarnation;
            if self.machine(end).up {
                self.schedule(self.now + delay, Pending::Notice { connection, end, incarnation, carried });
            } else {
                // The process that starts there next has never heard of it.
                self.network.notice(connection, end);
            }
        }
    }

    /// Breaks every connection of the node.
    pub fn reset_connections(&mut self, node: NodeId) {
        for connection in self.network.open_connections(node) {
            self.break_connection(connection);
        }
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

    /// Makes everything from `from` to `to` take that much longer.
    pub fn set_slow(&mut self, from: NodeId, to: NodeId, by: Duration) {
        self.network.set_slow(from, to, by);
    }

    /// All links are whole and quick again, and the network behaves as `config` says.
    pub fn heal_network(&mut self, config: NetworkConfig) {
        self.note(|| "the network is healed".to_owned());
        self.network.heal();
        self.network.config = config;
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
