//! INV-RAFT-12: what is acknowledged is on the disks of a majority at that moment.

use super::{Broken, require};
use types::{LogIndex, PeerId, RegionId, Term};

/// What one voter's disk would still hold after a power loss now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurableLog {
    /// The voter.
    pub peer: PeerId,
    /// The term of its durable entry at the index asked about; `None` if it has none there.
    pub term: Option<Term>,
    /// The index up to which its durable state has the log applied, or a snapshot of it.
    pub applied: LogIndex,
}

/// Durability: when a write is acknowledged, its entry is on the disks of a majority of the voters.
///
/// `voters` are those of the configuration under which it was committed (of each half of a joint one in turn).
///
/// # Errors
/// When fewer have it.
pub fn acknowledged_is_durable(
    region: RegionId,
    index: LogIndex,
    term: Term,
    voters: &[DurableLog],
) -> Result<(), Broken> {
    let holding = voters.iter().filter(|log| log.term == Some(term) || log.applied >= index).count();
    require(holding > voters.len() / 2, "INV-RAFT-12 (durable when acknowledged)", || {
        format!(
            "region {region}: the entry at {index} of term {term} was acknowledged, but the disks hold {voters:?}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;

    #[test]
    fn an_acknowledged_entry_is_on_a_majority_of_disks() {
        let log = |peer: u64, term: Option<u64>, applied: u64| DurableLog {
            peer: PeerId(peer),
            term: term.map(Term),
            applied: LogIndex(applied),
        };
        let ok = [log(1, Some(2), 0), log(2, None, 9), log(3, None, 4)];
        acknowledged_is_durable(R, LogIndex(5), Term(2), &ok).unwrap();
        let other_term = [log(1, Some(2), 0), log(2, Some(1), 0), log(3, None, 4)];
        broken(
            acknowledged_is_durable(R, LogIndex(5), Term(2), &other_term),
            "INV-RAFT-12 (durable when acknowledged)",
        );
        broken(
            acknowledged_is_durable(R, LogIndex(5), Term(2), &[]),
            "INV-RAFT-12 (durable when acknowledged)",
        );
    }
}
