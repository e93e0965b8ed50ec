//! INV-RAFT-17: a read sees what newer leaders had acknowledged before it began.

use super::{Broken, require};
use std::collections::BTreeMap;
use types::{RegionId, Term};

/// What a leader of a higher term has acknowledged, no older one may leave out: a read that begins after a newer leader
/// has acknowledged a write is not answered by an older leader, by whatever right (thesis §6.4).
#[derive(Clone, Default, Debug)]
pub struct Acknowledged {
    /// By region and term: when the first write was, at the latest.
    first: BTreeMap<(RegionId, Term), u64>,
}

impl Acknowledged {
    /// At the true time `now` a leader of `region` has applied a write that was proposed in its `term`.
    pub fn write(&mut self, region: RegionId, term: Term, now: u64) {
        self.first.entry((region, term)).or_insert(now);
    }

    /// The leader of `term` answers a read of `region` that has arrived at the true time `arrived`.
    ///
    /// # Errors
    /// When a newer leader had acknowledged a write by then.
    pub fn read(&self, region: RegionId, term: Term, arrived: u64) -> Result<(), Broken> {
        let mut newer = self.first.range((region, Term(term.get() + 1))..=(region, Term(u64::MAX)));
        let before = newer.rfind(|(_, since)| **since < arrived);
        require(before.is_none(), "INV-RAFT-17 (reads see what newer leaders wrote)", || {
            format!(
                "region {region}: the leader of term {term} answers a read of {arrived}, {before:?} was before"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{R, broken};

    #[test]
    fn an_older_leader_does_not_answer_what_began_after_a_newer_one_wrote() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.write(R, Term(2), 20);
        acknowledged.write(R, Term(2), 30);
        acknowledged.read(R, Term(2), 40).unwrap();
        // It began before: either order will do.
        acknowledged.read(R, Term(1), 20).unwrap();
        acknowledged.read(RegionId(2), Term(1), 40).unwrap();
        broken(acknowledged.read(R, Term(1), 21), "INV-RAFT-17 (reads see what newer leaders wrote)");
    }
}
