//! INV-STORE-13: peers that have applied the same hold the same, compared by checksum during the whole run.

use super::{Broken, require};
use std::collections::BTreeMap;
use types::{LogIndex, PeerId, RegionId, Term};

/// What a peer applied at an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The term of the entry.
    pub term: Term,
    /// A checksum of the entry and, where the observer has it, of its effects.
    pub checksum: u64,
}

/// Applying depends on the log and the data alone: where peers of a region have applied the same entry last, they hold
/// the same, descriptor included.
#[derive(Clone, Default, Debug)]
pub struct AppliedStates {
    states: BTreeMap<(RegionId, LogIndex), (Applied, PeerId)>,
}

impl AppliedStates {
    /// `peer` of `region` has applied the entry at `index` last; `applied` holds its term and a checksum of all that the
    /// peer holds of the region.
    ///
    /// # Errors
    /// When another peer held something else there.
    pub fn state(
        &mut self,
        region: RegionId,
        peer: PeerId,
        index: LogIndex,
        applied: Applied,
    ) -> Result<(), Broken> {
        let (first, by) = *self.states.entry((region, index)).or_insert((applied, peer));
        require(first == applied, "INV-STORE-13 (equal entries, equal states)", || {
            format!("region {region} after {index}: peer {by} held {first:?}, peer {peer} holds {applied:?}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;

    #[test]
    fn peers_that_have_applied_the_same_hold_the_same() {
        let mut states = AppliedStates::default();
        let held = |checksum| Applied { term: Term(1), checksum };
        states.state(R, P1, LogIndex(6), held(1)).unwrap();
        states.state(R, P2, LogIndex(6), held(1)).unwrap();
        states.state(R, P1, LogIndex(8), held(2)).unwrap();
        broken(states.state(R, P2, LogIndex(8), held(3)), "INV-STORE-13 (equal entries, equal states)");
    }
}
