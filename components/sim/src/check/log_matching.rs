//! INV-RAFT-3: logs that agree on an entry agree on what is before it.

use super::{Broken, require};
use raft::EntryId;
use std::collections::BTreeMap;
use types::{LogIndex, PeerId, RegionId, Term};

/// Log matching: an entry's index and term tell what it is, and what is before it (Raft thesis, Figure 3.2).
#[derive(Clone, Default, Debug)]
pub struct LogMatching {
    /// By region, index and term.
    entries: BTreeMap<(RegionId, LogIndex, Term), FirstSeen>,
}

/// An entry as it was first seen.
#[derive(Clone, Copy, Debug)]
struct FirstSeen {
    /// The term of the entry before, if it was known.
    before: Option<Term>,
    checksum: u64,
    /// Who had it.
    peer: PeerId,
}

impl LogMatching {
    /// `peer` of `region` has an entry `id` with this checksum in its log, after one of the term `before`, if that is
    /// known.
    ///
    /// # Errors
    /// When another peer has another one there, or another one before it.
    pub fn entry(
        &mut self,
        region: RegionId,
        peer: PeerId,
        id: EntryId,
        before: Option<Term>,
        checksum: u64,
    ) -> Result<(), Broken> {
        let seen = FirstSeen { before, checksum, peer };
        let first = self.entries.entry((region, id.index, id.term)).or_insert(seen);
        first.before = first.before.or(before);
        let matches = first.checksum == checksum && (before.is_none() || first.before == before);
        require(matches, "INV-RAFT-3 (log matching)", || {
            let told = |seen: &FirstSeen| {
                let FirstSeen { before, checksum, peer } = seen;
                format!("peer {peer} has {checksum:x} after term {before:?}")
            };
            format!("region {region}, entry {id:?}: {}, {}", told(first), told(&seen))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;

    #[test]
    fn logs_that_agree_on_an_entry_agree_on_what_is_before_it() {
        let mut logs = LogMatching::default();
        let at = |term, index| EntryId::new(Term(term), LogIndex(index));
        logs.entry(R, P1, at(1, 6), None, 60).unwrap();
        logs.entry(R, P1, at(2, 7), Some(Term(1)), 70).unwrap();
        // Another term at one index: not committed yet, so that may be.
        logs.entry(R, P2, at(3, 7), Some(Term(1)), 71).unwrap();
        logs.entry(R, P2, at(2, 7), Some(Term(1)), 70).unwrap();
        broken(logs.entry(R, P2, at(2, 7), Some(Term(1)), 72), "INV-RAFT-3 (log matching)");
        broken(logs.entry(R, P2, at(2, 7), Some(Term(2)), 70), "INV-RAFT-3 (log matching)");
    }
}
