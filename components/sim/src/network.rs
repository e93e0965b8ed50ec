//! What becomes of a message on its way.
//!
//! Two kinds of lanes join two nodes. A *stream* is what TCP gives: messages of one connection arrive in order and once,
//! or the connection breaks and everything still under way is lost; both ends learn of it, each in its own time. A
//! *datagram* is what an unreliable transport gives, and what Raft must survive: each message alone may be late, very
//! late, lost or doubled.
//!
//! This file decides and keeps the connections; the [kernel](crate::Kernel) keeps the time.

use crate::kernel::NodeId;
use crate::time::SimTime;
use env::{Dice, SplitMix};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How a message travels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Alone.
    Datagram,
    /// On the connection with this number between the two nodes, opened when it is needed.
    Stream(u8),
}

/// One connection between two nodes, from its opening to its end; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    pub(crate) pair: Pair,
    pub(crate) epoch: u64,
}

/// Two nodes and a stream between them, whoever opened it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Pair {
    pub(crate) low: NodeId,
    pub(crate) high: NodeId,
    stream: u8,
}

impl Pair {
    fn new(a: NodeId, b: NodeId, stream: u8) -> Self {
        Self { low: a.min(b), high: a.max(b), stream }
    }

    pub(crate) fn other(self, end: NodeId) -> NodeId {
        if end == self.low { self.high } else { self.low }
    }

    pub(crate) const fn number(self) -> u64 {
        (self.low.0 as u64) << 32 | (self.high.0 as u64) << 8 | self.stream as u64
    }

    const fn side(self, end: NodeId) -> usize {
        (end.0 == self.high.0) as usize
    }
}

/// How the network behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkConfig {
    /// The shortest time a message takes.
    pub latency_min: Duration,
    /// A message takes up to this much longer; short times are likelier.
    pub latency_spread: Duration,
    /// Datagrams lost, per mille.
    pub loss_per_mille: u64,
    /// Datagrams that arrive twice, per mille.
    pub duplicate_per_mille: u64,
    /// Datagrams that arrive up to [`late_max`](Self::late_max) later, per mille.
    pub late_per_mille: u64,
    /// How late "late" can be.
    pub late_max: Duration,
    /// Messages on a stream at which its connection breaks, per 100,000.
    pub break_per_100k: u64,
    /// How long an end may take to learn that its connection broke.
    pub notice_max: Duration,
    /// How long a connection may last while the nodes cannot reach each other; drawn for each.
    pub unreachable_max: Duration,
}

impl Default for NetworkConfig {
    /// A good local network.
    fn default() -> Self {
        Self {
            latency_min: Duration::from_micros(50),
            latency_spread: Duration::from_micros(400),
            loss_per_mille: 0,
            duplicate_per_mille: 0,
            late_per_mille: 0,
            late_max: Duration::ZERO,
            break_per_100k: 0,
            notice_max: Duration::from_millis(50),
            unreachable_max: Duration::from_secs(3),
        }
    }
}

/// A direction of a connection: what is under way in it.
#[derive(Debug)]
struct Flow<P> {
    under_way: VecDeque<(SimTime, P)>,
    /// When the last message put in will be there, at the earliest.
    last_at: SimTime,
    /// A pump event for it is in the queue.
    pump_set: bool,
    /// Since when its front message should have been there but could not pass.
    blocked_since: Option<SimTime>,
}

impl<P> Default for Flow<P> {
    fn default() -> Self {
        Self { under_way: VecDeque::new(), last_at: SimTime::ZERO, pump_set: false, blocked_since: None }
    }
}

#[derive(Debug)]
struct Connection<P> {
    epoch: u64,
    broken: bool,
    /// Something has come out of it.
    carried: bool,
    /// Which of the ends (low, high) knows that it is broken.
    noticed: [bool; 2],
    /// By sending end.
    flows: [Flow<P>; 2],
    /// How long it survives without being able to pass anything.
    patience: Duration,
}

/// What to do with a stream whose pump was due.
#[derive(Debug)]
pub(crate) enum Pumped<P> {
    /// Hand this over; pump again at the time, if there is one.
    Message(P, Option<SimTime>),
    /// Nothing can pass; pump again at this time.
    Blocked(SimTime),
    /// The connection has lost its patience: break it.
    Exhausted,
    /// The connection is gone, or has nothing under way.
    Idle,
}

/// All lanes between all nodes.
#[derive(Debug)]
pub(crate) struct Network<P> {
    pub(crate) config: NetworkConfig,
    dice: SplitMix,
    /// Directions in which nothing passes, with how many faults want it so.
    cut: BTreeMap<(NodeId, NodeId), u32>,
    /// Directions that are slow: by how much longer a message takes.
    slow: BTreeMap<(NodeId, NodeId), Duration>,
    connections: BTreeMap<Pair, Connection<P>>,
    epochs: u64,
}

impl<P> Network<P> {
    pub(crate) fn new(config: NetworkConfig, dice: SplitMix) -> Self {
        Self {
            config,
            dice,
            cut: BTreeMap::new(),
            slow: BTreeMap::new(),
            connections: BTreeMap::new(),
            epochs: 0,
        }
    }

    pub(crate) fn set_cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        if cut {
            *self.cut.entry((from, to)).or_default() += 1;
        } else if let Some(count) = self.cut.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cut.remove(&(from, to));
            }
        }
    }

    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains_key(&(from, to))
    }

    pub(crate) fn set_slow(&mut self, from: NodeId, to: NodeId, by: Duration) {
        if by.is_zero() {
            self.slow.remove(&(from, to));
        } else {
            self.slow.insert((from, to), by);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }

    fn latency(&mut self, from: NodeId, to: NodeId) -> Duration {
        let spread = u64::try_from(self.config.latency_spread.as_nanos()).unwrap_or(u64::MAX);
        // The smaller of two draws: most messages are quick and some are not.
        let drawn = self.dice.below(spread + 1).min(self.dice.below(spread + 1));
        let slow = self.slow.get(&(from, to)).copied().unwrap_or_default();
        self.config.latency_min + Duration::from_nanos(drawn) + slow
    }

    /// When copies of a datagram arrive: never, once, or twice.
    pub(crate) fn datagram(&mut self, now: SimTime, from: NodeId, to: NodeId) -> Vec<SimTime> {
        let config = self.config.clone();
        let copies = if self.dice.chance(config.loss_per_mille, 1000) {
            0
        } else {
            1 + usize::from(self.dice.chance(config.duplicate_per_mille, 1000))
        };
        (0..copies)
            .map(|_| {
                let at = now + self.latency(from, to);
                if self.dice.chance(config.late_per_mille, 1000) {
                    at + self.dice.duration(Duration::ZERO, config.late_max)
                } else {
                    at
                }
            })
            .collect()
    }

    /// True if the connection was not broken.
    pub(crate) fn is_open(&self, id: ConnectionId) -> bool {
        self.connections
            .get(&id.pair)
            .is_some_and(|connection| connection.epoch == id.epoch && !connection.broken)
    }

    /// The connection on which `from` would send now, as far as it knows; opened if it knows of none.
    pub(crate) fn connect(&mut self, now: SimTime, from: NodeId, to: NodeId, stream: u8) -> ConnectionId {
        let pair = Pair::new(from, to, stream);
        if let Some(connection) = self.connections.get(&pair)
            && !(connection.broken && connection.noticed[pair.side(from)])
        {
            return ConnectionId { pair, epoch: connection.epoch };
        }
        self.epochs += 1;
        // The first message waits until hello and answer have travelled.
        let open_at = now + self.latency(from, to) + self.latency(to, from);
        let flow = || Flow { last_at: open_at, ..Flow::default() };
        let patience = self.dice.duration(self.config.unreachable_max / 8, self.config.unreachable_max);
        let epoch = self.epochs;
        let connection = Connection {
            epoch,
            broken: false,
            carried: false,
            noticed: [false; 2],
            flows: [flow(), flow()],
            patience,
        };
        self.connections.insert(pair, connection);
        ConnectionId { pair, epoch }
    }

    /// True if the connection was not broken and replaced.
    fn get_open(&mut self, id: ConnectionId) -> Option<&mut Connection<P>> {
        self.connections
            .get_mut(&id.pair)
            .filter(|connection| connection.epoch == id.epoch && !connection.broken)
    }

    /// Puts a message on a connection. Returns when to pump it, if that is not settled yet, and whether the connection
    /// breaks over it. A message on a connection that is gone is lost.
    pub(crate) fn put(
        &mut self,
        now: SimTime,
        id: ConnectionId,
        from: NodeId,
        packet: P,
    ) -> (Option<SimTime>, bool) {
        let travel = self.latency(from, id.pair.other(from));
        let breaks = self.dice.chance(self.config.break_per_100k, 100_000);
        let Some(connection) = self.get_open(id) else { return (None, false) };
        let flow = &mut connection.flows[id.pair.side(from)];
        flow.last_at = flow.last_at.max(now + travel);
        flow.under_way.push_back((flow.last_at, packet));
        let pump = (!flow.pump_set).then_some(flow.last_at);
        flow.pump_set = true;
        (pump, breaks)
    }

    pub(crate) fn pump(&mut self, now: SimTime, id: ConnectionId, from: NodeId) -> Pumped<P> {
        let cut = self.is_cut(from, id.pair.other(from));
        let retry = self.dice.duration(Duration::from_millis(20), Duration::from_millis(300));
        let Some(connection) = self.get_open(id) else { return Pumped::Idle };
        let patience = connection.patience;
        let flow = &mut connection.flows[id.pair.side(from)];
        if cut {
            let since = *flow.blocked_since.get_or_insert(now);
            if now.since(since) >= patience {
                return Pumped::Exhausted;
            }
            return Pumped::Blocked(now + retry);
        }
        flow.blocked_since = None;
        flow.pump_set = false;
        let Some((at, packet)) = flow.under_way.pop_front() else { return Pumped::Idle };
        assert!(at <= now, "a message due at {at} is pumped at {now}");
        let next = flow.under_way.front().map(|(at, _)| (*at).max(now));
        flow.pump_set = next.is_some();
        connection.carried = true;
        Pumped::Message(packet, next)
    }

    /// Breaks a connection: what is under way is lost. Returns whether anything has come out of it, and how long each
    /// end (low, high) takes to learn of it; `None` if it was broken before.
    pub(crate) fn break_connection(&mut self, id: ConnectionId) -> Option<(bool, [Duration; 2])> {
        let notice_max = self.config.notice_max;
        let connection = self.get_open(id)?;
        connection.broken = true;
        connection.flows = Default::default();
        let carried = connection.carried;
        Some((carried, [(); 2].map(|()| self.dice.duration(Duration::ZERO, notice_max))))
    }

    /// An end learns that a connection is broken.
    pub(crate) fn notice(&mut self, id: ConnectionId, end: NodeId) {
        if let Some(connection) = self.connections.get_mut(&id.pair)
            && connection.epoch == id.epoch
        {
            connection.noticed[id.pair.side(end)] = true;
        }
    }

    /// The process on `node` is gone: the next one knows of no connection.
    pub(crate) fn forget(&mut self, node: NodeId) {
        for (pair, connection) in &mut self.connections {
            if pair.low == node || pair.high == node {
                connection.noticed[pair.side(node)] = true;
            }
        }
    }

    /// The connections that `node` is an end of and that are not broken.
    pub(crate) fn open_connections(&self, node: NodeId) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .filter(|(pair, connection)| !connection.broken && (pair.low == node || pair.high == node))
            .map(|(pair, connection)| ConnectionId { pair: *pair, epoch: connection.epoch })
            .collect()
    }
}
