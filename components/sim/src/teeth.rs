//! Whether the simulator bites: rules of the product that are broken on purpose, each to be found within a few seeds.
//!
//! Not the count of green seeds says what a simulator is worth, but what it would have found. So every rule that has a
//! [`SeededBug`] is broken in turn, and seed after seed is run until one fails ([`bite`]); and the whole product runs the
//! same seeds, in which nothing may be found.

use crate::nodes::SeededBug;
use crate::run::{Failure, RunOptions, System, run};

/// What it took to find a bug.
#[derive(Clone, Debug)]
pub struct Bite {
    /// The bug; `None` for the whole product.
    pub bug: Option<SeededBug>,
    /// How many seeds were run.
    pub seeds: u64,
    /// How many events these had, but for the one that failed.
    pub events: u64,
    /// The first failure.
    pub failure: Option<Box<Failure>>,
}

impl Bite {
    /// Whether it is as it should be: a bug was found, or there was none to be seen and none was found.
    #[must_use]
    pub fn is_right(&self) -> bool {
        match self.bug {
            None => self.failure.is_none(),
            Some(bug) => self.failure.is_some() || covered(bug).is_some() || is_gap(bug),
        }
    }

    /// The checker that found it, in a few words.
    #[must_use]
    pub fn checker(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| failure.fail.checker())
    }
}

/// Why nobody outside can see that this rule is broken as long as the others hold; `None` for all that must be found.
#[must_use]
pub fn covered(bug: SeededBug) -> Option<&'static str> {
    use crate::nodes::SeededBug::{Client, Raft, Regions};
    match bug {
        Client(client_core::SeededBug::BelievesOlderRegion) => Some(
            "stores refuse what is asked under an older epoch, so that it costs a round trip and no more",
        ),
        Raft(raft::SeededBug::CommitBeyondProven) => Some(
            "an append reaches into what is shared or replaces what is not, so what it proves is all there is",
        ),
        Raft(raft::SeededBug::CompactUnapplied) | Regions(raftstore::SeededBug::CompactionUnbounded) => {
            Some("Raft refuses to compact what is not applied, and regions never ask; see both together")
        }
        Raft(raft::SeededBug::TransferVoteOfAnyTerm) => {
            Some("a transfer's campaign is one attempt, so no late vote is asked for; see both together")
        }
        _ => None,
    }
}

/// What short runs do not find reliably yet, though it could be seen: a known gap.
#[must_use]
pub fn is_gap(bug: SeededBug) -> bool {
    const GAPS: &[SeededBug] = &[SeededBug::Regions(raftstore::SeededBug::JumpedProposalRefused)];
    GAPS.contains(&bug)
}

/// Runs short seeds with a bug until one fails, `seeds_max` at most.
#[must_use]
pub fn bite(bug: Option<SeededBug>, seeds_first: u64, seeds_max: u64) -> Bite {
    let options = RunOptions { system: System::Cluster(bug), ..RunOptions::short() };
    let mut bite = Bite { bug, seeds: 0, events: 0, failure: None };
    while bite.seeds < seeds_max && bite.failure.is_none() {
        match run(seeds_first + bite.seeds, &options) {
            Ok(report) => bite.events += report.events,
            Err(failure) => bite.failure = Some(failure),
        }
        bite.seeds += 1;
    }
    bite
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Fail;

    #[test]
    fn an_assertion_is_told_by_its_invariant_or_its_first_words() {
        let checker = |message: &str| Fail::Panicked(message.to_owned()).checker();
        let named = "assertion `left == right` failed: INV-STORE-3: region 2 applies entries in order";
        assert_eq!(checker(named), "assertion of INV-STORE-3");
        assert_eq!(checker("3 things\nhappened"), "panic: things");
    }

    #[test]
    fn what_is_found_and_what_is_not_is_told_apart() {
        let found = bite(Some(SeededBug::StoreReleasesEarly), 0, 20);
        assert!(found.is_right() && found.checker().is_some(), "{found:?}");
        let whole = bite(None, 0, 2);
        assert!(whole.is_right() && whole.seeds == 2 && whole.checker().is_none(), "{whole:?}");
    }
}
