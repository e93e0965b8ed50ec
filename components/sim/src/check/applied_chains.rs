//! INV-RAFT-5, INV-STORE-3: peers apply the same entries, one after another.

use super::{Applied, Broken, require};
use raft::EntryId;
use std::collections::BTreeMap;
use types::{LogIndex, PeerId, RegionId, Term};

/// State-machine safety: what is applied at an index of a region is the same on every peer, and each
/// peer applies index after index (Raft thesis, Figure 3.2).
#[derive(Clone, Default, Debug)]
pub struct AppliedChains {
    /// By region and index: what the first to apply it had there, and who that was.
    applied: BTreeMap<(RegionId, LogIndex), (Applied, PeerId)>,
    progress: BTreeMap<PeerId, (LogIndex, Term)>,
}

impl AppliedChains {
    /// How many entries were applied by anybody.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.applied.len() as u64
    }

    /// `peer` of `region` applies the entry at `index`. Returns whether it is the first to do so.
    ///
    /// # Errors
    /// When another peer has applied something else there, or this one was not at the index before.
    pub fn apply(
        &mut self,
        region: RegionId,
        peer: PeerId,
        index: LogIndex,
        applied: Applied,
    ) -> Result<bool, Broken> {
        if let Some((at, term)) = self.progress.get(&peer) {
            require(index == at.next(), "INV-STORE-3 (applying in order)", || {
                format!("peer {peer} of region {region} applies {index} after {at}")
            })?;
            require(applied.term >= *term, "INV-STORE-3 (terms in order)", || {
                format!(
                    "peer {peer} of region {region} applies term {} at {index} after term {term}",
                    applied.term
                )
            })?;
        }
        let known = self.applied.len();
        let (first, by) = *self.applied.entry((region, index)).or_insert((applied, peer));
        let is_first = self.applied.len() > known;
        require(first == applied, "INV-RAFT-5 (state-machine safety)", || {
            format!(
                "region {region} at {index}: peer {by} applied {first:?}, peer {peer} applies {applied:?}"
            )
        })?;
        self.progress.insert(peer, (index, applied.term));
        Ok(is_first)
    }

    /// `peer` starts from here: it was made, has restarted (its applied index may have gone back), or has taken over a
    /// region snapshot.
    ///
    /// # Errors
    /// When the region has applied an entry of another term there.
    pub fn start_from(
        &mut self,
        region: RegionId,
        peer: PeerId,
        index: LogIndex,
        term: Term,
    ) -> Result<(), Broken> {
        if let Some((first, by)) = self.applied.get(&(region, index)) {
            require(first.term == term, "INV-RAFT-5 (state-machine safety)", || {
                format!(
                    "region {region} at {index}: peer {by} applied term {}, peer {peer} starts at term {term}",
                    first.term
                )
            })?;
        }
        self.progress.insert(peer, (index, term));
        Ok(())
    }
}

/// `peer` of `region` had applied `before` when it was seen last, in one life of its process.
///
/// # Errors
/// When it has applied less by now.
pub fn applied_grows(region: RegionId, peer: PeerId, before: EntryId, now: EntryId) -> Result<(), Broken> {
    require(now.index >= before.index, "INV-STORE-3 (what is applied grows)", || {
        format!("peer {peer} of region {region} had applied {before:?}, and now has {now:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;

    #[test]
    fn peers_apply_the_same_in_order() {
        let entry = |term, checksum| Applied { term: Term(term), checksum };
        let mut chains = AppliedChains::default();
        chains.start_from(R, P1, LogIndex(5), Term(1)).unwrap();
        assert_eq!(chains.apply(R, P1, LogIndex(6), entry(1, 60)), Ok(true));
        assert_eq!(chains.apply(R, P1, LogIndex(7), entry(2, 70)), Ok(true));
        broken(chains.apply(R, P1, LogIndex(9), entry(2, 90)), "INV-STORE-3 (applying in order)");
        broken(chains.apply(R, P1, LogIndex(8), entry(1, 80)), "INV-STORE-3 (terms in order)");
        chains.start_from(R, P2, LogIndex(6), Term(1)).unwrap();
        broken(chains.apply(R, P2, LogIndex(7), entry(2, 71)), "INV-RAFT-5 (state-machine safety)");
        broken(chains.start_from(R, P2, LogIndex(7), Term(1)), "INV-RAFT-5 (state-machine safety)");
        // After a restart it applies again, the same.
        chains.start_from(R, P1, LogIndex(6), Term(1)).unwrap();
        assert_eq!(chains.apply(R, P1, LogIndex(7), entry(2, 70)), Ok(false));
    }

    #[test]
    fn what_was_applied_stays_so() {
        let at = |term, index| EntryId::new(Term(term), LogIndex(index));
        applied_grows(R, P1, at(1, 6), at(1, 6)).unwrap();
        applied_grows(R, P1, at(1, 6), at(2, 9)).unwrap();
        broken(applied_grows(R, P1, at(2, 9), at(2, 8)), "INV-STORE-3 (what is applied grows)");
    }
}
