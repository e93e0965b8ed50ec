//! Sees every node, as no node can, and remembers what must not be contradicted later.

use crate::check::{
    Acknowledged, AcknowledgedLog, AppliedChains, AppliedStates, Committed, Coverage, DurableLogs,
    ElectionSafety, Epochs, HardStates, Leases, Lives, LogMatching, Retired, Transactions, WrittenOnce,
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
    /// Regions' ranges, in their newest versions.
    pub coverage: Coverage,
    /// Writes that leaders have acknowledged.
    pub acknowledged: Acknowledged,
    /// How far logs were acknowledged.
    pub acknowledged_log: AcknowledgedLog,
    /// Where each value was written.
    pub writes: WrittenOnce,
    /// What transactions have done.
    pub transactions: Transactions,
    /// Peers, from their making to their end.
    pub lives: Lives,
    /// Durable terms and votes.
    pub hard_states: HardStates,
    /// Reads by lease.
    pub leases: Leases,
    /// Stores that were taken out of service.
    pub stores: Retired,
    /// Some node holds a lease that it did not hold when it was seen last: time to compare those of all.
    pub lease_gained: bool,
    /// What the stores themselves have told of what they got to.
    pub told: Told,
}

/// What only the stores know to have happened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Told {
    /// Region snapshots that took the place of what a peer held.
    pub snapshots: u64,
    /// Leases that ran out while their holder went on leading.
    pub leases_expired: u64,
    /// Times that a log was cut at its beginning.
    pub compactions: u64,
    /// Times that peers fell asleep.
    pub sleeps: u64,
    /// Times that they woke because a store that they relied on was lost.
    pub sleeps_lost: u64,
}

/// What a run got to: the deeper, the more it can show.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Depths {
    /// Leaders, each counted once for each term in which it led; those of the placement driver included.
    pub elections: u64,
    /// Regions that there ever were.
    pub regions: u64,
    /// Changes of the members of regions.
    pub member_changes: u64,
    /// Entries that were applied, each counted once.
    pub entries: u64,
    /// Transactions that have committed.
    pub transactions: u64,
    /// Transactions that were rolled back.
    pub rollbacks: u64,
    /// Records of old versions that were removed, each counted once.
    pub collected: u64,
    /// Stores that were taken out of service for good.
    pub stores_retired: u64,
    /// What the stores told.
    pub told: Told,
}

impl Observer {
    /// What the run got to by now.
    #[must_use]
    pub fn depths(&self) -> Depths {
        Depths {
            elections: self.elections.count(),
            regions: self.epochs.regions(),
            member_changes: self.epochs.member_changes(),
            entries: self.applied.count(),
            transactions: self.transactions.committed(),
            rollbacks: self.transactions.rolled_back(),
            collected: self.transactions.collected(),
            stores_retired: self.stores.count(),
            told: self.told,
        }
    }
}
