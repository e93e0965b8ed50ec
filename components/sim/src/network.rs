//! What becomes of a message on its way.
//!
//! Two kinds of lanes join two nodes. A *stream* is what TCP gives: messages of one connection arrive in order and once,
//! or the connection breaks and everything still under way is lost; both ends learn of it, each in its own time. A
//! *datagram* is what an unreliable transport gives, and what Raft must survive: each message alone may be late, very
//! late, lost or doubled.
//!
//! This file decides and keeps the connections; the [kernel](crate::Kernel) keeps the time.

use crate::fields::{Fields, Unreadable, duration_text};
use crate::kernel::NodeId;
use crate::time::SimTime;
use env::{Dice, SplitMix};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
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
    /// Of the connections that break, per mille and direction: those of which something that was under way still comes
    /// out, until its end learns of the break. By then a new connection may have carried newer messages.
    pub straggle_per_mille: u64,
    /// Messages that are damaged on the way, per 100,000.
    pub garble_per_100k: u64,
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
            straggle_per_mille: 0,
            garble_per_100k: 0,
            notice_max: Duration::from_millis(50),
            unreachable_max: Duration::from_secs(3),
        }
    }
}

impl NetworkConfig {
    /// Reads what `Display` has written.
    pub(crate) fn parse(fields: &mut Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            latency_min: fields.duration("latency-min")?,
            latency_spread: fields.duration("latency-spread")?,
            loss_per_mille: fields.number("loss-per-mille")?,
            duplicate_per_mille: fields.number("duplicate-per-mille")?,
            late_per_mille: fields.number("late-per-mille")?,
            late_max: fields.duration("late-max")?,
            break_per_100k: fields.number("break-per-100k")?,
            straggle_per_mille: fields.number("straggle-per-mille")?,
            garble_per_100k: fields.number("garble-per-100k")?,
            notice_max: fields.duration("notice-max")?,
            unreachable_max: fields.duration("unreachable-max")?,
        })
    }
}

impl fmt::Display for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (latency_min, latency_spread) =
            (duration_text(self.latency_min), duration_text(self.latency_spread));
        write!(f, "latency-min={latency_min} latency-spread={latency_spread}")?;
        write!(f, " loss-per-mille={}", self.loss_per_mille)?;
        write!(f, " duplicate-per-mille={}", self.duplicate_per_mille)?;
        write!(f, " late-per-mille={} late-max={}", self.late_per_mille, duration_text(self.late_max))?;
        write!(f, " break-per-100k={}", self.break_per_100k)?;
        write!(f, " straggle-per-mille={}", self.straggle_per_mille)?;
        write!(f, " garble-per-100k={}", self.garble_per_100k)?;
        write!(f, " notice-max={}", duration_text(self.notice_max))?;
        write!(f, " unreachable-max={}", duration_text(self.unreachable_max))
    }
}

/// How often the network has misbehaved.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NetworkCounts {
    /// Datagrams that were lost.
    pub lost: u64,
    /// Datagrams that were sent twice.
    pub doubled: u64,
    /// Datagrams that arrived a minute after they were sent, or later.
    pub old: u64,
    /// Messages that arrived when the process that had sent them was gone.
    pub of_earlier_lives: u64,
    /// Messages that came out of a connection after it had broken.
    pub stragglers: u64,
    /// Messages that were damaged.
    pub garbled: u64,
    /// Messages that a cut stopped, or held up.
    pub cut_off: u64,
    /// Connections that broke.
    pub broken: u64,
}

/// A connection has been broken.
pub(crate) struct Breach<P> {
    /// Something has come out of it.
    pub(crate) carried: bool,
    /// How long each end (low, high) takes to learn of it.
    pub(crate) delays: [Duration; 2],
    /// What was under way, by sending end.
    pub(crate) under_way: [VecDeque<P>; 2],
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
    pub(crate) counts: NetworkCounts,
    root: SplitMix,
    /// Each direction draws for itself: what happens on one changes nothing on another.
    dice: BTreeMap<(NodeId, NodeId), SplitMix>,
    /// Directions in which nothing passes, with how many faults want it so.
    cut: BTreeMap<(NodeId, NodeId), u32>,
    /// How often a cut has stopped something, by direction.
    stopped: BTreeMap<(NodeId, NodeId), u64>,
    /// Directions that are slow: by how much longer a message takes.
    slow: BTreeMap<(NodeId, NodeId), Duration>,
    connections: BTreeMap<Pair, Connection<P>>,
    epochs: u64,
}

impl<P> Network<P> {
    pub(crate) fn new(config: NetworkConfig, root: SplitMix) -> Self {
        Self {
            config,
            counts: NetworkCounts::default(),
            root,
            dice: BTreeMap::new(),
            cut: BTreeMap::new(),
            stopped: BTreeMap::new(),
            slow: BTreeMap::new(),
            connections: BTreeMap::new(),
            epochs: 0,
        }
    }

    /// Random numbers of one direction.
    pub(crate) fn dice(&mut self, from: NodeId, to: NodeId) -> &mut SplitMix {
        let root = &self.root;
        self.dice.entry((from, to)).or_insert_with(|| root.fork(&format!("{from} to {to}")))
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

    /// As [`is_cut`](Self::is_cut), for a message that would pass there now.
    pub(crate) fn stops(&mut self, from: NodeId, to: NodeId) -> bool {
        let is_cut = self.is_cut(from, to);
        if is_cut {
            self.counts.cut_off += 1;
            *self.stopped.entry((from, to)).or_default() += 1;
        }
        is_cut
    }

    /// How often a cut has stopped something in one of these directions.
    pub(crate) fn stopped(&self, directions: &[(NodeId, NodeId)]) -> u64 {
        directions.iter().filter_map(|direction| self.stopped.get(direction)).sum()
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
        let least = self.config.latency_min + self.slow.get(&(from, to)).copied().unwrap_or_default();
        let dice = self.dice(from, to);
        // The smaller of two draws: most messages are quick and some are not.
        let drawn = dice.below(spread + 1).min(dice.below(spread + 1));
        least + Duration::from_nanos(drawn)
    }

    /// When copies of a datagram arrive: never, once, or twice.
    pub(crate) fn datagram(&mut self, now: SimTime, from: NodeId, to: NodeId) -> Vec<SimTime> {
        let NetworkConfig { loss_per_mille, duplicate_per_mille, late_per_mille, late_max, .. } = self.config;
        let dice = self.dice(from, to);
        // Drawn whatever the loss is: with less of it, all others fare as before.
        let (is_lost, is_doubled) =
            (dice.chance(loss_per_mille, 1000), dice.chance(duplicate_per_mille, 1000));
        self.counts.lost += u64::from(is_lost);
        self.counts.doubled += u64::from(is_doubled && !is_lost);
        let arrivals: Vec<SimTime> = (0..1 + usize::from(is_doubled))
            .map(|_| {
                let at = now + self.latency(from, to);
                let dice = self.dice(from, to);
                if dice.chance(late_per_mille, 1000) {
                    at + dice.duration(Duration::ZERO, late_max)
                } else {
                    at
                }
            })
            .collect();
        if is_lost { Vec::new() } else { arrivals }
    }

    /// Whether a message from `from` is damaged before it comes to `to`.
    pub(crate) fn garbles(&mut self, from: NodeId, to: NodeId) -> bool {
        let per_100k = self.config.garble_per_100k;
        per_100k > 0 && self.dice(from, to).chance(per_100k, 100_000)
    }

    /// How many of `count` messages that are under way from `from` to `to` on a connection that breaks come out of it
    /// nevertheless: the first of them.
    pub(crate) fn straggling(&mut self, from: NodeId, to: NodeId, count: usize) -> usize {
        let per_mille = self.config.straggle_per_mille;
        if count == 0 || !self.dice(from, to).chance(per_mille, 1000) {
            return 0;
        }
        1 + usize::try_from(self.dice(from, to).below(count as u64)).expect("below a length")
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
        let unreachable_max = self.config.unreachable_max;
        let patience = self.dice(from, to).duration(unreachable_max / 8, unreachable_max);
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
        let break_per_100k = self.config.break_per_100k;
        let breaks = self.dice(from, id.pair.other(from)).chance(break_per_100k, 100_000);
        let Some(connection) = self.get_open(id) else { return (None, false) };
        let flow = &mut connection.flows[id.pair.side(from)];
        flow.last_at = flow.last_at.max(now + travel);
        flow.under_way.push_back((flow.last_at, packet));
        let pump = (!flow.pump_set).then_some(flow.last_at);
        flow.pump_set = true;
        (pump, breaks)
    }

    pub(crate) fn pump(&mut self, now: SimTime, id: ConnectionId, from: NodeId) -> Pumped<P> {
        let to = id.pair.other(from);
        let retry = self.dice(from, to).duration(Duration::from_millis(20), Duration::from_millis(300));
        if self.get_open(id).is_none() {
            return Pumped::Idle;
        }
        let cut = self.stops(from, to);
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

    /// Breaks a connection; `None` if it was broken before.
    pub(crate) fn break_connection(&mut self, id: ConnectionId) -> Option<Breach<P>> {
        let notice_max = self.config.notice_max;
        let connection = self.get_open(id)?;
        connection.broken = true;
        let flows = std::mem::take(&mut connection.flows);
        let under_way = flows.map(|flow| flow.under_way.into_iter().map(|(_, packet)| packet).collect());
        let carried = connection.carried;
        self.counts.broken += 1;
        let Pair { low, high, .. } = id.pair;
        let delays = [(high, low), (low, high)]
            .map(|(from, to)| self.dice(from, to).duration(Duration::ZERO, notice_max));
        Some(Breach { carried, delays, under_way })
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
