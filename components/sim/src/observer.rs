//! Sees every node, as no node can, and remembers what must not be contradicted later.

use crate::check::invariants::{AppliedChains, ElectionSafety, Epochs, HardStates, Leases, Timestamps};

/// All observers of one run. Nodes feed them from [`Node::observe`](crate::Node::observe).
#[derive(Clone, Default, Debug)]
pub struct Observer {
    /// Leaders by term.
    pub elections: ElectionSafety,
    /// What was applied where.
    pub applied: AppliedChains,
    /// Regions and their epochs.
    pub epochs: Epochs,
    /// Durable terms and votes.
    pub hard_states: HardStates,
    /// Reads by lease.
    pub leases: Leases,
    /// Timestamps handed out.
    pub timestamps: Timestamps,
}
