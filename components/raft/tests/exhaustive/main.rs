//! Everything that can happen to a small group within bounds, tried on the real core: every order of messages, losses,
//! repetitions, timeouts, crashes before and after a write. After each step the rules are checked (`search.rs`): one vote
//! and one leader a term, matching logs, complete leaders, one history.
//!
//! Each search says what it went through; none may run into its bound on worlds. With a rule broken on purpose the same
//! search finds the shortest way to the damage, and shows it. The widest search takes minutes and has a name of its own:
//! `make exhaustive`.

mod peer;
mod search;

use raft::SeededBug;
use search::{Bounds, Closed, Search};

/// The narrowest: one term, and nothing happens but messages, of which two are on their way at most.
const NARROW: Bounds = Bounds {
    voters: 3,
    candidates: 3,
    terms: 1,
    proposals: 0,
    crashes: 0,
    repeats: 0,
    heartbeats: 0,
    flying: Some(2),
    pre_vote: false,
    broken: None,
    states_max: 1_000_000,
};

/// Searches, and finds nothing.
fn closes(bounds: Bounds) -> Closed {
    match Search::new(bounds).run() {
        Ok(closed) => {
            println!("{bounds:?}\n  {closed}");
            closed
        }
        Err(found) => panic!("{bounds:?}: {}\n{}", found.what, found.trace.join("\n")),
    }
}

/// Searches with a broken rule, and finds by a shortest way of `steps` what comes of it.
fn finds(bug: SeededBug, steps: usize, what: &str, bounds: Bounds) {
    let bounds = Bounds { broken: Some(bug), ..bounds };
    match Search::new(bounds).run() {
        Ok(closed) => panic!("{bug:?} goes unnoticed within {bounds:?}: {closed:?}"),
        Err(found) => {
            println!("{bug:?}, after {} worlds: {}", found.states, found.what);
            found.trace.iter().for_each(|line| println!("  {line}"));
            assert!(found.what.contains(what), "{} is not for want of {what:?}", found.what);
            assert_eq!(found.trace.len(), steps, "the shortest way");
        }
    }
}

// ---- nothing is found ----

#[test]
fn three_peers_and_two_terms() {
    let closed = closes(Bounds { terms: 2, ..NARROW });
    assert!(closed.states > 150_000 && closed.depth > 20, "{closed:?}");
}

#[test]
fn a_proposal_while_nothing_is_ever_lost() {
    // Every message stays on its way until it arrives, so all orders of all messages are tried.
    closes(Bounds { proposals: 1, flying: None, ..NARROW });
}

#[test]
fn a_process_ends_and_a_message_comes_twice() {
    closes(Bounds { terms: 2, proposals: 1, crashes: 1, repeats: 1, flying: Some(1), ..NARROW });
}

#[test]
fn three_terms_and_a_proposal_one_message_at_a_time() {
    closes(Bounds { terms: 3, proposals: 1, flying: Some(1), ..NARROW });
}

#[test]
fn a_vote_is_asked_about_before_the_term_is_raised() {
    closes(Bounds { terms: 2, pre_vote: true, crashes: 1, flying: Some(1), ..NARROW });
}

#[test]
fn an_even_group_needs_more_than_half() {
    closes(Bounds { voters: 4, candidates: 4, ..NARROW });
    closes(Bounds { voters: 2, candidates: 2, terms: 2, proposals: 1, crashes: 1, heartbeats: 1, ..NARROW });
}

/// More than a million worlds each, in a few minutes: `make exhaustive`.
#[test]
fn wide() {
    if std::env::var_os("RAFT_EXHAUSTIVE").is_none() {
        return;
    }
    let wide = Bounds { states_max: 10_000_000, ..NARROW };
    let searches = [
        Bounds { terms: 2, proposals: 1, ..wide },
        Bounds { terms: 4, candidates: 2, heartbeats: 1, flying: Some(1), ..wide },
        Bounds { voters: 2, candidates: 2, terms: 3, proposals: 1, crashes: 1, heartbeats: 1, ..wide },
        Bounds { terms: 2, pre_vote: true, ..wide },
        Bounds { terms: 2, heartbeats: 1, ..wide },
        Bounds { terms: 2, crashes: 1, candidates: 2, ..wide },
    ];
    let states: usize = searches.into_iter().map(|bounds| closes(bounds).states).sum();
    println!("{states} worlds in all");
    assert!(states > 11_500_000, "{states}");
}

// ---- what is broken is found ----

#[test]
fn a_second_vote_in_a_term_is_found() {
    finds(SeededBug::VoteTwiceInTerm, 3, "votes twice", NARROW);
}

#[test]
fn a_vote_that_is_not_durable_when_it_is_answered_is_found() {
    // camunda#5356.
    finds(SeededBug::VoteNotDurable, 6, "term 1 has two leaders", Bounds { crashes: 1, ..NARROW });
}

#[test]
fn a_majority_that_is_half_is_found() {
    let four = Bounds { voters: 4, candidates: 4, ..NARROW };
    finds(SeededBug::MajorityIsHalf, 6, "term 1 has two leaders", four);
}

#[test]
fn a_vote_for_a_shorter_log_is_found() {
    finds(SeededBug::VoteForShorterLog, 8, "leads term 2 without entry 1", Bounds { terms: 2, ..NARROW });
}

#[test]
fn entries_that_are_taken_without_a_look_at_what_stands_before_are_found() {
    let bounds = Bounds { terms: 3, flying: Some(1), ..NARROW };
    finds(SeededBug::AppendWithoutLogMatch, 11, "logs of 2 and 1 differ", bounds);
}

#[test]
fn committing_an_older_term_by_counting_is_found() {
    // Thesis figure 3.7, with three servers instead of five.
    let bounds =
        Bounds { terms: 4, candidates: 2, heartbeats: 1, flying: Some(1), states_max: 3_000_000, ..NARROW };
    finds(SeededBug::CommitOlderTermByCounting, 19, "leads term 4 without entry 1", bounds);
}

#[test]
fn an_append_that_is_acknowledged_before_it_is_durable_is_found() {
    let bounds = Bounds { terms: 2, candidates: 2, crashes: 1, ..NARROW };
    finds(SeededBug::AppendAckBeforeSync, 8, "leads term 2 without entry 1", bounds);
}

#[test]
fn a_heartbeat_that_commits_what_is_not_there_is_found() {
    let bounds = Bounds { heartbeats: 1, ..NARROW };
    finds(SeededBug::HeartbeatCommitsUnmatched, 7, "our log ends at 0", bounds);
}

#[test]
fn counting_an_entry_of_our_own_that_is_not_durable_is_found() {
    // openraft a9f696a9.
    finds(SeededBug::OwnEntryBeforeSync, 3, "of its own", Bounds { crashes: 1, ..NARROW });
}
