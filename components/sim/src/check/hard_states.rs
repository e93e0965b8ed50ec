//! INV-RAFT-10, INV-RAFT-11: terms do not fall, and a vote is given once in a term, across restarts too.

use super::{Broken, require};
use std::collections::BTreeMap;
use types::{PeerId, Term};

/// Durable terms and votes of a peer: the term never falls, and in one term it votes for one candidate.
#[derive(Clone, Default, Debug)]
pub struct HardStates {
    latest: BTreeMap<PeerId, (Term, Option<PeerId>)>,
}

impl HardStates {
    /// `peer` has this term and vote on its disk. To be called for what is durable alone.
    ///
    /// # Errors
    /// When it had a higher term, or another vote in this one.
    pub fn durable(&mut self, peer: PeerId, term: Term, vote: Option<PeerId>) -> Result<(), Broken> {
        if let Some((term_before, vote_before)) = self.latest.insert(peer, (term, vote)) {
            let facts = || {
                format!(
                    "peer {peer} goes from term {term_before} vote {vote_before:?} to term {term} vote {vote:?}"
                )
            };
            require(term >= term_before, "INV-RAFT-10 (terms grow)", facts)?;
            let kept = term > term_before || vote_before.is_none() || vote == vote_before;
            require(kept, "INV-RAFT-11 (one vote in a term)", facts)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;

    #[test]
    fn a_vote_is_kept() {
        let mut states = HardStates::default();
        states.durable(P1, Term(1), None).unwrap();
        states.durable(P1, Term(1), Some(P2)).unwrap();
        states.durable(P1, Term(2), None).unwrap();
        states.durable(P1, Term(2), Some(P1)).unwrap();
        broken(states.clone().durable(P1, Term(2), Some(P2)), "INV-RAFT-11 (one vote in a term)");
        broken(states.clone().durable(P1, Term(2), None), "INV-RAFT-11 (one vote in a term)");
        broken(states.durable(P1, Term(1), Some(P1)), "INV-RAFT-10 (terms grow)");
    }
}
