//! INV-RAFT-4: leaders have what was committed before them, and commit by counting only what is of their own term.

use super::{Broken, DurableLog, require};
use raft::EntryId;
use std::collections::BTreeMap;
use types::{PeerId, RegionId, Term};

/// Leader completeness: what was committed in a term is in the logs of the leaders of all later ones (Raft thesis,
/// Figure 3.2). Which term something was committed in is not told by what is applied; it is at most the highest in which
/// anybody was seen to lead by then.
#[derive(Clone, Default, Debug)]
pub struct Committed {
    /// By region and the highest term in which it had been led: the last entry that was applied.
    last: BTreeMap<(RegionId, Term), EntryId>,
}

impl Committed {
    /// Some peer of `region` has applied `entry`, when nobody had led in a term above `led_in`.
    pub fn applied(&mut self, region: RegionId, entry: EntryId, led_in: Term) {
        let last = self.last.entry((region, led_in)).or_insert(entry);
        if last.index < entry.index {
            *last = entry;
        }
    }

    /// The last entry that was committed for certain before `term`.
    #[must_use]
    pub fn before(&self, region: RegionId, term: Term) -> Option<EntryId> {
        let earlier = self.last.range((region, Term::ZERO)..(region, term));
        earlier.map(|(_, entry)| *entry).max_by_key(|entry| entry.index)
    }
}

/// The leader of `term` has `log` at the index of `wanted`, which was committed before.
///
/// # Errors
/// When that is another entry, or none.
pub fn leader_is_complete(
    region: RegionId,
    term: Term,
    wanted: EntryId,
    log: DurableLog,
) -> Result<(), Broken> {
    let holds = log.term.map_or(log.applied >= wanted.index, |term| term == wanted.term);
    require(holds, "INV-RAFT-4 (leader completeness)", || {
        format!(
            "region {region} is led in term {term} by a peer that has {log:?}, but {wanted:?} was committed"
        )
    })
}

/// The leader of `term` has committed `entry` as the last one, and that by counting (thesis §5.4.2, figure 3.7).
///
/// # Errors
/// When the entry is of an earlier term: a later leader may lack it though a quorum has it.
pub fn commits_in_its_own_term(
    region: RegionId,
    peer: PeerId,
    term: Term,
    entry: EntryId,
) -> Result<(), Broken> {
    require(entry.term >= term, "INV-RAFT-4 (commit by counting)", || {
        format!("peer {peer} of region {region} has committed {entry:?} in term {term}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;
    use types::LogIndex;

    #[test]
    fn a_leader_holds_what_was_committed_before() {
        let mut committed = Committed::default();
        committed.applied(R, EntryId::new(Term(1), LogIndex(6)), Term(1));
        committed.applied(R, EntryId::new(Term(1), LogIndex(7)), Term(3));
        committed.applied(R, EntryId::new(Term(1), LogIndex(5)), Term(3));
        assert_eq!(committed.before(R, Term(1)), None);
        // The leader of term 2 was elected late: it need not have what the one of term 3 has committed meanwhile.
        assert_eq!(committed.before(R, Term(2)), Some(EntryId::new(Term(1), LogIndex(6))));
        assert_eq!(committed.before(R, Term(4)), Some(EntryId::new(Term(1), LogIndex(7))));
        let wanted = EntryId::new(Term(1), LogIndex(7));
        let log = |term: Option<u64>, applied| DurableLog {
            peer: P1,
            term: term.map(Term),
            applied: LogIndex(applied),
        };
        leader_is_complete(R, Term(4), wanted, log(Some(1), 0)).unwrap();
        leader_is_complete(R, Term(4), wanted, log(None, 7)).unwrap();
        broken(leader_is_complete(R, Term(4), wanted, log(Some(2), 0)), "INV-RAFT-4 (leader completeness)");
        broken(leader_is_complete(R, Term(4), wanted, log(None, 6)), "INV-RAFT-4 (leader completeness)");
    }

    #[test]
    fn what_a_leader_counts_is_of_its_own_term() {
        let entry = |term| EntryId::new(Term(term), LogIndex(7));
        commits_in_its_own_term(R, P1, Term(4), entry(4)).unwrap();
        broken(commits_in_its_own_term(R, P1, Term(4), entry(3)), "INV-RAFT-4 (commit by counting)");
    }
}
