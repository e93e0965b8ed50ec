//! The mistakes that most who write this protocol make once. Each is made here on purpose, and the checks that run in
//! every story and every simulation find it; without it the same story goes well.

use crate::kit::config;
use crate::story::{noticed, told};
use raft::{Config, ConfigError, Error, MemStorage, RawNode, SeededBug};

#[test]
fn appending_without_the_log_match_check_is_found() {
    // Whoever appends what comes, without asking whether it holds the entry before, has a log with a seam in it: what is
    // the same entry by index and term follows something else there than elsewhere (thesis §3.5, log matching).
    let story = "
        add-nodes voters=(1,2,3)
        put-state 1 3 log=(1,1,2) term=2 commit=1
        put-state 2 log=(1,1,1) term=2 commit=1
        elect 1
        log";
    assert!(told(story).ends_with("1 2 3: 0@0 1@1 2@1 3@2 4@3\n"));
    let found = noticed(SeededBug::AppendWithoutLogMatch, story);
    assert!(found.contains("INV-RAFT-3") && found.contains("4@3 after term 1"), "{found}");
}

#[test]
fn an_election_timeout_not_well_above_the_heartbeat_is_refused() {
    // With a timeout of one or two heartbeats, a lost one deposes a healthy leader; with less, nobody leads for long
    // (thesis §3.9). There is no rule to break at run time: a group does not start like this.
    let start = |election_tick, heartbeat_tick| {
        let config = Config { election_tick, heartbeat_tick, ..config(1) };
        RawNode::new(&config, MemStorage::with_voters(3)).map(|_| ())
    };
    for (election_tick, heartbeat_tick) in [(1, 1), (2, 2), (10, 10), (10, 3), (9, 2)] {
        let refused =
            Error::Config(ConfigError::ElectionTooShort { election_tick, at_least: 5 * heartbeat_tick });
        assert_eq!(start(election_tick, heartbeat_tick), Err(refused));
    }
    assert_eq!(start(10, 2), Ok(()));
}

#[test]
fn half_of_an_even_group_taken_for_a_majority_is_found() {
    // Two of four are half, and no majority: the other half may decide otherwise (thesis §2.1).
    let story = "
        add-nodes voters=(1,2,3,4)
        elect 1
        partition 1 2
        propose 1 data=x
        settle quietly
        status 1";
    assert!(told(story).contains("last 2@1, durable 2, committed 1"));
    let found = noticed(SeededBug::MajorityIsHalf, story);
    assert!(found.contains("INV-RAFT-4") && found.contains("no quorum"), "{found}");
    // And by its worst consequence: each half elects its own leader.
    let story = "
        add-nodes voters=(1,2,3,4) pre-vote=off
        partition 1 2
        campaign 1
        campaign 3
        deliver type=vote quietly
        deliver from=2 type=vote-resp
        deliver from=4 type=vote-resp
        status 1 3";
    assert!(told(story).contains("1: candidate t1") && told(story).contains("3: candidate t1"));
    let found = noticed(SeededBug::MajorityIsHalf, story);
    assert!(found.contains("INV-RAFT-1: term 1 has two leaders, 1 and 3"), "{found}");
}

#[test]
fn both_sides_of_a_partition_electing_a_leader_is_found() {
    // Peer 3 votes on one side; then the partition shifts, and it is asked on the other side in the same term. If it votes
    // again, each side has three of five (thesis §3.4: one vote in a term).
    let story = "
        add-nodes voters=(1,2,3,4,5) pre-vote=off
        partition 1 2 3
        campaign 1
        deliver type=vote quietly
        deliver from=(2,3) type=vote-resp quietly
        heal
        partition 1 2
        campaign 4
        deliver from=4 type=vote quietly
        deliver from=(3,5) to=4 type=vote-resp
        status 1 4";
    let went = told(story);
    assert!(went.contains("1: leader t1 vote 1") && went.contains("4: candidate t1 vote 4"), "{went}");
    let found = noticed(SeededBug::VoteTwiceInTerm, story);
    assert!(found.contains("INV-RAFT-11: voted for 1 in term 1, now for 4"), "{found}");
}

#[test]
fn compacting_entries_that_are_not_applied_is_found() {
    // What is dropped from the log before it was applied is in no state machine and in no log: after a restart this peer
    // can never apply it (thesis §5.1).
    let story = "
        add-nodes voters=(1,2,3)
        elect 1
        run n=2
        hold 2 applies
        propose 1 data=x
        settle quietly
        run n=2
        compact 2
        log 2
        crash 2
        restart 2";
    let went = told(story);
    assert!(went.contains("2: log begins after 1\n2: 1@1 2@1\n"), "{went}");
    let found = noticed(SeededBug::CompactUnapplied, story);
    assert!(found.contains("INV-LOG-2: the log begins at 3, applied 1"), "{found}");
}

#[test]
fn committing_an_older_terms_entry_by_counting_is_found() {
    // Figure 8 of the Raft paper (thesis figure 3.7): 2@2 is on three of five, and the leader of term 4 has nothing of its
    // own there. Counted as committed it would be overwritten by 5, whose log ends in a later term.
    let story = "
        add-nodes voters=(1,2,3,4,5) pre-vote=off check-quorum=off message-bytes=1
        put-state 1 2 log=(1,2) term=3 commit=1
        put-state 3 4 log=(1) term=3 commit=1
        put-state 5 log=(1,3) term=3 commit=1
        campaign 1
        deliver type=vote quietly
        deliver type=vote-resp quietly
        deliver from=1 to=(3,4) type=append
        deliver from=(3,4) type=append-resp
        deliver from=1 to=(3,4) type=append n=2
        deliver from=(3,4) type=append-resp
        log 1 3 4
        status 1";
    let went = told(story);
    assert!(went.contains("1: 0@0 1@1 2@2 3@4\n3 4: 0@0 1@1 2@2\n"), "{went}");
    assert!(went.ends_with("committed 1, applied 1\n"), "{went}");
    let found = noticed(SeededBug::CommitOlderTermByCounting, story);
    assert!(found.contains("INV-RAFT-4: 1 commits 2@2 in term 4 by counting"), "{found}");
}
