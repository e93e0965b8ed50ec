//! INV-READ-2, INV-RAFT-14: nobody leases, reads or campaigns over what is committed and not applied.

use super::{Broken, require};
use raft::EntryId;
use types::{LogIndex, PeerId, RegionId, Term};

/// What changes who serves which keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Members come or go.
    Members,
    /// The region is cut.
    Split,
}

/// A leader renews its lease while these changes are committed and not applied.
///
/// # Errors
/// When there is one: others may elect a leader by members, or of a piece, that it does not know.
pub fn no_lease_over_a_change(
    region: RegionId,
    peer: PeerId,
    unapplied: &[(LogIndex, Change)],
) -> Result<(), Broken> {
    require(unapplied.is_empty(), "INV-READ-2 (no lease over a change)", || {
        format!("peer {peer} of region {region} renews its lease over {unapplied:?}")
    })
}

/// A leader has a lease of `term`, and has applied this.
///
/// # Errors
/// When nothing of its term is applied: what earlier leaders have acknowledged may be missing.
pub fn no_lease_before_own_term(
    region: RegionId,
    peer: PeerId,
    applied: EntryId,
    term: Term,
) -> Result<(), Broken> {
    require(applied.term >= term, "INV-READ-2 (no lease before an entry of its term)", || {
        format!("peer {peer} of region {region} has a lease of {term} and applied {applied:?}")
    })
}

/// A worker's turn answers a read while these changes are committed and not applied.
///
/// # Errors
/// When one is a split: the key may be in a piece that takes writes elsewhere.
pub fn no_read_over_a_split(
    region: RegionId,
    peer: PeerId,
    unapplied: &[(LogIndex, Change)],
) -> Result<(), Broken> {
    let split = unapplied.iter().find(|(_, change)| *change == Change::Split);
    require(split.is_none(), "INV-READ-2 (no read over a split)", || {
        format!("peer {peer} of region {region} reads over {split:?}")
    })
}

/// A peer campaigns while these changes are committed and not applied.
///
/// # Errors
/// When one is of the members: its quorum need not meet that of those who have applied it.
pub fn no_campaign_over_a_change(
    region: RegionId,
    peer: PeerId,
    unapplied: &[(LogIndex, Change)],
) -> Result<(), Broken> {
    let members = unapplied.iter().find(|(_, change)| *change == Change::Members);
    require(members.is_none(), "INV-RAFT-14 (no campaign over a change)", || {
        format!("peer {peer} of region {region} campaigns over {members:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{P1, R, broken};

    #[test]
    fn a_lease_begins_with_an_entry_of_its_term() {
        let applied = EntryId::new(Term(6), LogIndex(9));
        no_lease_before_own_term(R, P1, applied, Term(6)).unwrap();
        broken(
            no_lease_before_own_term(R, P1, applied, Term(7)),
            "INV-READ-2 (no lease before an entry of its term)",
        );
    }

    #[test]
    fn each_change_forbids_what_depends_on_it() {
        let split = [(LogIndex(7), Change::Split)];
        let members = [(LogIndex(8), Change::Members)];
        for unapplied in [&[][..], &split, &members] {
            assert_eq!(no_lease_over_a_change(R, P1, unapplied).is_ok(), unapplied.is_empty());
        }
        broken(no_lease_over_a_change(R, P1, &split), "INV-READ-2 (no lease over a change)");
        no_read_over_a_split(R, P1, &members).unwrap();
        broken(no_read_over_a_split(R, P1, &split), "INV-READ-2 (no read over a split)");
        no_campaign_over_a_change(R, P1, &split).unwrap();
        broken(no_campaign_over_a_change(R, P1, &members), "INV-RAFT-14 (no campaign over a change)");
    }
}
