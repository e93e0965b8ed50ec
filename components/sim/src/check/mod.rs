//! Checkers: they look at what was recorded and say whether a correct system could have done it.
//!
//! Each file is one checker; its first line names the rules of docs/INVARIANTS.md that it holds a run to, and its tests
//! show it a right history and the nearest wrong one. Observers are fed with plain facts about all nodes
//! ([`Observer`](crate::Observer)), which no node has together: that is what makes them strict. They return a [`Broken`] at
//! the first fact that contradicts what they have seen. Those of what clients saw know nothing of the simulator, so tests
//! of real processes use them as well.
//!
//! Not checked, since not promised: that a scan is one snapshot. It is a read of each key for itself, page by page.

mod acknowledged_log;
mod answers;
mod applied_chains;
mod applied_states;
mod broken;
mod changes;
mod clock_readings;
mod convergence;
mod coverage;
mod durability;
mod durable_logs;
mod election_safety;
mod epochs;
mod failed_disks;
mod hard_states;
mod history;
mod leader_completeness;
mod lease_rounds;
mod leases;
mod linearizable;
mod lines;
mod lives;
mod log_matching;
mod promises;
mod ranges;
mod reads;
mod stores;
#[cfg(test)]
mod testing;
mod timestamps;
mod tombstones;
mod transactions;
mod writes;

pub use acknowledged_log::AcknowledgedLog;
pub use answers::Answers;
pub use applied_chains::{AppliedChains, applied_grows};
pub use applied_states::{Applied, AppliedStates};
pub use broken::Broken;
pub(crate) use broken::require;
pub use changes::{
    Change, no_campaign_over_a_change, no_lease_before_own_term, no_lease_over_a_change, no_read_over_a_split,
};
pub use clock_readings::{answered_in_lease, read_after_arrival};
pub use convergence::has_converged;
pub use coverage::{Coverage, regions_cover_all_keys};
pub use durability::{DurableLog, acknowledged_is_durable};
pub use durable_logs::{DurableLogs, LogChanges};
pub use election_safety::ElectionSafety;
pub use epochs::Epochs;
pub use failed_disks::ends_with_its_disk;
pub use hard_states::HardStates;
pub use history::{Action, OpId, Operation, Outcome, Recorder};
pub use leader_completeness::{Committed, commits_in_its_own_term, leader_is_complete};
pub use lease_rounds::LeaseRounds;
pub use leases::{Leases, leases_are_disjoint};
pub use linearizable::{DEFAULT_STEPS_MAX, Verdict, Violation, linearizable};
pub use lines::{HistoryError, parse_history, write_history};
pub use lives::Lives;
pub use log_matching::LogMatching;
pub use promises::Promise;
pub use ranges::ranges_are_disjoint;
pub use reads::Acknowledged;
pub use stores::Retired;
pub use timestamps::Timestamps;
pub use tombstones::gone_as_written;
pub use transactions::{SnapshotRead, Transactions, TxnOutcome};
pub use writes::WrittenOnce;
