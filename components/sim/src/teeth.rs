//! Whether the simulator bites: rules of the product that are broken on purpose, each to be found within a few seeds.
//!
//! Not the count of green seeds says what a simulator is worth, but what it would have found. So every rule that has a
//! [`SeededBug`] is broken in turn, and seed after seed is run until one fails ([`bite`]); and the whole product runs the
//! same seeds, in which nothing may be found.

use crate::nodes::SeededBug;
use crate::run::{Failure, RunOptions, System, run};

/// What is tried: the product, or one of its rules broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trial {
    /// The bug; `None` for the whole product.
    pub bug: Option<SeededBug>,
    /// Whether clients also make transactions.
    pub transactions: bool,
}

/// What it took to find a bug.
#[derive(Clone, Debug)]
pub struct Bite {
    /// What was tried.
    pub trial: Trial,
    /// How many seeds were run.
    pub seeds: u64,
    /// How many events these had, but for the one that failed.
    pub events: u64,
    /// The first failure.
    pub failure: Option<Box<Failure>>,
}

impl Bite {
    /// Whether it is as it should be: a bug was found, or there was none and none was found.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.trial.bug.is_some() == self.failure.is_some()
    }

    /// The checker that found it, in a few words.
    #[must_use]
    pub fn checker(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| failure.fail.checker())
    }
}

/// Rules that are not broken alone, and why nobody outside could see it as long as the others hold.
pub const NOT_ALONE: &[(SeededBug, &str)] = &[
    (
        SeededBug::Raft(raft::SeededBug::CompactUnapplied),
        "Nobody asks Raft how far to compact: a region's compaction is an entry of its log, which comes after all that it \
         names, and PD's is done where it applies. The Raft room's own tests ask.",
    ),
    (
        SeededBug::Raft(raft::SeededBug::TransferVoteOfAnyTerm),
        "A transfer's campaign is one attempt, so no late vote is asked for: broken together with that.",
    ),
    (
        SeededBug::Raft(raft::SeededBug::CommitBeyondProven),
        "Said of messages that no leader of ours sends: an append reaches into what is shared or replaces what is not, \
         so what it proves is all there is. The Raft room's own tests send them.",
    ),
    (
        SeededBug::Regions(raftstore::SeededBug::EndedValueCompared),
        "No random run has values that end. `raw_ttl`, a script, does.",
    ),
    (
        SeededBug::Regions(raftstore::SeededBug::RemovesWhatIsThere),
        "No random run has values that end. `raw_ttl`, a script, does.",
    ),
    (
        SeededBug::Regions(raftstore::SeededBug::RemovesWhatIsNew),
        "A key that was deleted long ago would have to be written between a collection's look at it and the entry that removes \
         what it saw: seldom here. `garbage_collection`, a script, shows it.",
    ),
    (
        SeededBug::Store(store::SeededBug::DecidedInAnyTerm),
        "A scheduler would have to stand still between its view and what it proposes while leadership goes elsewhere, is used \
         there, and comes back: that is one turn here, and long only where threads are.",
    ),
    (
        SeededBug::Regions(raftstore::SeededBug::LocksNotHandedOver),
        "Locks in memory may be lost, so nobody is told anything wrong when one is. `held_locks`, a script, knows that none need \
         be lost here.",
    ),
    (SeededBug::Regions(raftstore::SeededBug::SplitForgetsLocks), "The same."),
    (
        SeededBug::Regions(raftstore::SeededBug::InheritedInAnyTerm),
        "A piece would have to be led elsewhere first, a key of it be written there, and then its parent's leader lead it, all \
         while a transaction has the key: seldom here. `held_locks` shows it.",
    ),
    (
        SeededBug::Pd(pd::SeededBug::LockWaitsNotRemoved),
        "Who was waited for is over when the wait ends, and waits for nobody: only a transaction that goes on after it gave up \
         waiting could be told of a deadlock that is none. The Placement room's own tests show it.",
    ),
    (
        SeededBug::Store(store::SeededBug::WokenBeforeApplied),
        "Whoever is taken up too early waits for a latch of the command whose end it waits for, and so sees what that did.",
    ),
    (
        SeededBug::Store(store::SeededBug::ReadsElsewhereForgotten),
        "A leader would have to hear nothing from the placement driver between somebody's read elsewhere and a commit that was \
         begun before: seldom here, where stores ask with every heartbeat. `commit_steps`, a script, shows it.",
    ),
    (
        SeededBug::Store(store::SeededBug::ViewBeforeAnnouncement),
        "Of two reads that share a view the second would have to be announced after a whole transaction has come and gone \
         since the first: seldom here, and the Store room's `handoffs` show it.",
    ),
];

/// All that is broken in turn: every rule that can be seen alone, and those that cover for each other together.
#[must_use]
pub fn bugs() -> Vec<SeededBug> {
    let is_alone = |bug: &SeededBug| NOT_ALONE.iter().all(|(other, _)| other != bug);
    SeededBug::all().into_iter().filter(is_alone).collect()
}

/// The whole product, without transactions and with them, and then each of [`bugs`] where it can be seen.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let whole = [false, true].map(|transactions| Trial { bug: None, transactions });
    let broken =
        bugs().into_iter().map(|bug| Trial { bug: Some(bug), transactions: bug.is_of_transactions() });
    whole.into_iter().chain(broken).collect()
}

/// Runs short seeds until one fails, `seeds_max` at most.
#[must_use]
pub fn bite(trial: Trial, seeds_first: u64, seeds_max: u64) -> Bite {
    let Trial { bug, transactions } = trial;
    let options = RunOptions { system: System::Cluster(bug), transactions, ..RunOptions::short() };
    let mut bite = Bite { trial, seeds: 0, events: 0, failure: None };
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
    fn every_rule_is_broken_alone_or_with_those_that_cover_for_it_or_is_said_to_be_out_of_reach() {
        let bugs = bugs();
        let is_broken = |rule: SeededBug| bugs.iter().any(|bug| *bug == rule || bug.has(rule));
        let left: Vec<_> = SeededBug::all().into_iter().filter(|bug| !is_broken(*bug)).collect();
        let raft =
            [raft::SeededBug::CommitBeyondProven, raft::SeededBug::CompactUnapplied].map(SeededBug::Raft);
        let stores = [
            store::SeededBug::DecidedInAnyTerm,
            store::SeededBug::ViewBeforeAnnouncement,
            store::SeededBug::ReadsElsewhereForgotten,
            store::SeededBug::WokenBeforeApplied,
        ];
        let stores = stores.map(SeededBug::Store);
        let pd = SeededBug::Pd(pd::SeededBug::LockWaitsNotRemoved);
        let regions = [
            raftstore::SeededBug::LocksNotHandedOver,
            raftstore::SeededBug::SplitForgetsLocks,
            raftstore::SeededBug::InheritedInAnyTerm,
            raftstore::SeededBug::EndedValueCompared,
            raftstore::SeededBug::RemovesWhatIsThere,
            raftstore::SeededBug::RemovesWhatIsNew,
        ];
        let regions = regions.map(SeededBug::Regions);
        let expected: Vec<_> = std::iter::once(pd).chain(stores).chain(regions).chain(raft).collect();
        assert_eq!(left, expected);
        assert!(bugs.len() >= 25);
    }

    /// Who is not told in time that a region refuses old readers does not look for it, and may be shown what is incomplete.
    #[test]
    fn a_guard_that_readers_hear_of_too_late_is_found() {
        let bug = SeededBug::Regions(raftstore::SeededBug::GuardToldLate);
        let found = bite(Trial { bug: Some(bug), transactions: bug.is_of_transactions() }, 0, 40);
        assert_eq!(found.checker().as_deref(), Some("INV-TXN-13 (readers look)"), "{found:?}");
    }

    #[test]
    fn what_is_found_and_what_is_not_is_told_apart() {
        let trial = |bug| Trial { bug, transactions: false };
        let found = bite(trial(Some(SeededBug::StoreReleasesEarly)), 0, 20);
        assert!(found.is_right() && found.checker().is_some(), "{found:?}");
        let whole = bite(trial(None), 0, 2);
        assert!(whole.is_right() && whole.seeds == 2 && whole.checker().is_none(), "{whole:?}");
    }
}
