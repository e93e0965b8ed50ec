//! Gates: where a script stops chosen messages, or watches them pass.
//!
//! A gate is asked about each message that is about to arrive at a machine that is up. What it holds is as a message
//! that is still under way: it arrives when it is released, unless its receiver is down, its connection broken or, for a
//! datagram, the link cut by then. Without gates nothing is asked, so a run that sets none is what it was.

use crate::kernel::NodeId;
use crate::network::ConnectionId;
use std::collections::VecDeque;
use std::fmt;

/// Names a gate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GateId(u64);

/// What becomes of a message at a gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passage {
    /// This gate is not meant for it.
    Ignore,
    /// It is counted, and the next gate is asked.
    Watch,
    /// It waits until it is released.
    Hold,
    /// It arrives, and a copy waits until it is released.
    Repeat,
    /// It is lost.
    Lose,
}

/// A message that waits at a gate.
pub(crate) struct Held<P> {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) packet: P,
}

type Judge<P> = Box<dyn FnMut(NodeId, NodeId, &P) -> Passage>;

struct Gate<P> {
    id: GateId,
    judge: Judge<P>,
    seen: u64,
    held: VecDeque<Held<P>>,
}

/// All gates of a run, in the order in which they are asked.
pub(crate) struct Gates<P> {
    gates: Vec<Gate<P>>,
    made: u64,
}

impl<P> Default for Gates<P> {
    fn default() -> Self {
        Self { gates: Vec::new(), made: 0 }
    }
}

impl<P> fmt::Debug for Gates<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.gates.iter().map(|gate| (gate.id, gate.seen, gate.held.len()));
        f.debug_list().entries(counts).finish()
    }
}

impl<P: Clone> Gates<P> {
    pub(crate) fn set(&mut self, judge: Judge<P>) -> GateId {
        self.made += 1;
        let id = GateId(self.made);
        self.gates.push(Gate { id, judge, seen: 0, held: VecDeque::new() });
        id
    }

    /// Whether the message arrives now. The first gate that neither ignores nor only watches it decides.
    pub(crate) fn lets_pass(
        &mut self,
        from: NodeId,
        to: NodeId,
        connection: Option<ConnectionId>,
        packet: &P,
    ) -> bool {
        for gate in &mut self.gates {
            let passage = (gate.judge)(from, to, packet);
            if passage == Passage::Ignore {
                continue;
            }
            gate.seen += 1;
            if passage == Passage::Watch {
                continue;
            }
            if matches!(passage, Passage::Hold | Passage::Repeat) {
                gate.held.push_back(Held { from, to, connection, packet: packet.clone() });
            }
            return passage == Passage::Repeat;
        }
        true
    }

    fn gate(&self, id: GateId) -> &Gate<P> {
        self.gates.iter().find(|gate| gate.id == id).unwrap_or_else(|| panic!("no gate {id:?}"))
    }

    /// How many messages the gate did not ignore.
    pub(crate) fn seen(&self, id: GateId) -> u64 {
        self.gate(id).seen
    }

    /// The packets that wait, oldest first.
    pub(crate) fn held(&self, id: GateId) -> impl Iterator<Item = &P> {
        self.gate(id).held.iter().map(|held| &held.packet)
    }

    /// Takes the gate away, with what waits at it.
    pub(crate) fn remove(&mut self, id: GateId) -> VecDeque<Held<P>> {
        let at = self.gates.iter().position(|gate| gate.id == id).unwrap_or_else(|| panic!("no gate {id:?}"));
        self.gates.remove(at).held
    }
}
