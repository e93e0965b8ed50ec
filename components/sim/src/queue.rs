//! What is to come, in the order of time; what is due at the same instant in an order that is drawn.

use crate::gate::Held;
use crate::kernel::NodeId;
use crate::network::ConnectionId;
use crate::time::SimTime;
use env::{Dice, SplitMix};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use types::MonoTime;

/// What waits in the queue.
pub(crate) enum Pending<P> {
    Datagram {
        from: NodeId,
        to: NodeId,
        packet: P,
        sent: SimTime,
        /// The sender's life.
        incarnation: u64,
    },
    Pump {
        connection: ConnectionId,
        from: NodeId,
    },
    /// It has waited at a gate.
    Released(Held<P>),
    /// It comes out of a connection that has broken, for a process in this life.
    Straggler {
        message: Held<P>,
        incarnation: u64,
    },
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

impl<P> Pending<P> {
    /// Between which nodes it happens; zero stands for the one who plans the run.
    fn ends(&self) -> (NodeId, NodeId) {
        match self {
            Self::Datagram { from, to, .. } => (*from, *to),
            Self::Pump { connection, from } => (*from, connection.pair.other(*from)),
            Self::Released(message) | Self::Straggler { message, .. } => (message.from, message.to),
            Self::Notice { connection, end, .. } => (connection.pair.other(*end), *end),
            Self::Wake { node, .. } | Self::Drain { node, .. } => (*node, *node),
            Self::Mark { .. } => (NodeId(0), NodeId(0)),
        }
    }
}

/// What is to come, and when.
pub(crate) struct Scheduled<P> {
    pub(crate) at: SimTime,
    /// Drawn, so that equal times come in any order.
    tie: u64,
    /// Counts up, so that the order is total.
    number: u64,
    pub(crate) pending: Pending<P>,
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

/// All that is to come.
pub(crate) struct Queue<P> {
    heap: BinaryHeap<Scheduled<P>>,
    numbers: u64,
    root: SplitMix,
    /// Each pair of nodes draws for itself: one event more on one changes no order on another.
    ties: BTreeMap<(NodeId, NodeId), SplitMix>,
}

impl<P> Queue<P> {
    pub(crate) const fn new(root: SplitMix) -> Self {
        Self { heap: BinaryHeap::new(), numbers: 0, root, ties: BTreeMap::new() }
    }

    pub(crate) fn push(&mut self, at: SimTime, pending: Pending<P>) {
        self.numbers += 1;
        let (root, ends) = (&self.root, pending.ends());
        let dice = self.ties.entry(ends).or_insert_with(|| root.fork(&format!("{} to {}", ends.0, ends.1)));
        self.heap.push(Scheduled { at, tie: dice.next_u64(), number: self.numbers, pending });
    }

    pub(crate) fn pop(&mut self) -> Option<Scheduled<P>> {
        self.heap.pop()
    }

    pub(crate) fn next_at(&self) -> Option<SimTime> {
        self.heap.peek().map(|scheduled| scheduled.at)
    }
}
