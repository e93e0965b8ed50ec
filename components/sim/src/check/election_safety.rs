//! INV-RAFT-1: at most one leader in a term.

use super::{Broken, require};
use std::collections::BTreeMap;
use types::{PeerId, RegionId, Term};

/// Election safety: a region has at most one leader in a term (Raft thesis, Figure 3.2).
#[derive(Clone, Default, Debug)]
pub struct ElectionSafety {
    leaders: BTreeMap<(RegionId, Term), PeerId>,
}

impl ElectionSafety {
    /// `peer` is, or believes to be, leader of `region` in `term`. Returns whether that is news.
    ///
    /// # Errors
    /// When another peer was.
    pub fn leader(&mut self, region: RegionId, term: Term, peer: PeerId) -> Result<bool, Broken> {
        let is_new = !self.leaders.contains_key(&(region, term));
        let first = *self.leaders.entry((region, term)).or_insert(peer);
        require(first == peer, "INV-RAFT-1 (election safety)", || {
            format!("peers {first} and {peer} both lead region {region} in term {term}")
        })?;
        Ok(is_new)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// The highest term in which a region was led; zero if it was not.
    #[must_use]
    pub fn newest_term(&self, region: RegionId) -> Term {
        let terms = self.leaders.range((region, Term::ZERO)..=(region, Term(u64::MAX)));
        terms.last().map_or(Term::ZERO, |((_, term), _)| *term)
    }

    /// The leader seen last in each region.
    pub fn latest(&self) -> impl Iterator<Item = (RegionId, Term, PeerId)> + '_ {
        let mut latest = BTreeMap::new();
        for ((region, term), peer) in &self.leaders {
            latest.insert(*region, (*term, *peer));
        }
        latest.into_iter().map(|(region, (term, peer))| (region, term, peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;

    #[test]
    fn a_term_has_one_leader() {
        let mut elections = ElectionSafety::default();
        assert!(elections.leader(R, Term(1), P1).unwrap());
        assert!(!elections.leader(R, Term(1), P1).unwrap());
        elections.leader(R, Term(2), P2).unwrap();
        elections.leader(RegionId(2), Term(1), P2).unwrap();
        assert!(elections.latest().eq([(R, Term(2), P2), (RegionId(2), Term(1), P2)]));
        broken(elections.leader(R, Term(1), P2).map(|_| ()), "INV-RAFT-1 (election safety)");
    }
}
