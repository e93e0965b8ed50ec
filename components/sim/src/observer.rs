//! Sees every node, as no node can, and remembers what must not be contradicted later.

use crate::check::DurableLogs;
use crate::check::invariants::{
    AppliedChains, AppliedStates, Committed, ElectionSafety, Epochs, HardStates, Leases, LogMatching,
};
use std::collections::BTreeMap;
use types::StoreId;

/// All observers of one run. Nodes feed them from [`Node::observe`](crate::Node::observe).
#[derive(Clone, Default, Debug)]
pub struct Observer {
    /// Leaders by term.
    pub elections: ElectionSafety,
    /// What was committed before a leader was elected.
    pub committed: Committed,
    /// Entries, as they become durable.
    pub logs: LogMatching,
    /// What the stores' disks hold of logs.
    pub disks: BTreeMap<StoreId, DurableLogs>,
    /// Entries, as peers apply them one by one.
    pub applied: AppliedChains,
    /// Regions' data, as of the entries applied.
    pub states: AppliedStates,
    /// Regions and their epochs.
    pub epochs: Epochs,
    /// Durable terms and votes.
    pub hard_states: HardStates,
    /// Reads by lease.
    pub leases: Leases,
    /// Some node holds a lease that it did not hold when it was seen last: time to compare those of all.
    pub lease_gained: bool,
}
