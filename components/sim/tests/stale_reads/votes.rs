//! What a voter has promised to the leader it heard, and since when that counts.

use crate::support::{KEY, Shown, ms, seen_cluster, wait_for_another, write_then_read};
use raft::SeededBug as Raft;
use sim::nodes::SeededBug;
use sim::script::{Script, ScriptConfig, Topic};
use sim::{CrashKind, GateId, NodeId, Passage};
use std::time::Duration;

/// A cluster in which one follower hears the leader and another does not, and would like to lead: what it asks the first
/// for waits at the gate.
struct Divided {
    script: Script,
    old: NodeId,
    voter: NodeId,
    asked: GateId,
}

fn divided(seed: u64, bug: Option<Raft>) -> Divided {
    let bugs = bug.into_iter().map(SeededBug::Raft).collect();
    let (mut script, old) = seen_cluster(&ScriptConfig { seed, bugs, ..ScriptConfig::default() });
    let [voter, candidate] = script.others(&[old])[..] else { panic!("three stores") };
    script.part(old, candidate);
    let asked = script.gate(Some(candidate), Some(voter), &[Topic::PreVote, Topic::Vote], Passage::Hold);
    script.wait_for("the candidate would like to lead", |script| script.held_at(asked) > 0);
    Divided { script, old, voter, asked }
}

/// A voter that has just heard its leader is asked for its vote.
fn vote_within_the_lease(bug: Option<Raft>, restarts: bool) -> Shown {
    let Divided { mut script, old, voter, asked } = divided(0, bug);
    script.part(old, voter);
    if restarts {
        script.crash(voter, CrashKind::Process);
        script.restart(voter);
        script.wait_for("the voter is there again", |script| !script.regions_of(voter).is_empty());
    }
    assert!(script.lease_on(old, KEY).is_some(), "the vote is asked for within the lease");
    script.open(asked);
    wait_for_another(&mut script, old);
    write_then_read(&mut script, old, |_| {})
}

#[test]
fn a_voter_that_hears_its_leader_is_asked_for_its_vote() {
    let shown = vote_within_the_lease(None, false);
    assert!(shown.is_right(), "{shown:?}");
    let shown = vote_within_the_lease(Some(Raft::VoteDuringLease), false);
    assert!(shown.is_stale_by("INV-READ-6"), "{shown:?}");
}

#[test]
fn a_voter_that_has_restarted_is_asked_for_its_vote() {
    // It does not know any more whom it has heard, and a leader may still count on it.
    let shown = vote_within_the_lease(None, true);
    assert!(shown.is_right(), "{shown:?}");
    let shown = vote_within_the_lease(Some(Raft::VoteRightAfterRestart), true);
    assert!(shown.is_stale_by("INV-READ-6"), "{shown:?}");
}

/// The last heartbeat that a voter hears is answered `delay` late.
fn answer_late(seed: u64, bug: Option<Raft>, delay: Duration) -> Shown {
    let Divided { mut script, old, voter, asked } = divided(seed, bug);
    let answers = script.gate(Some(voter), Some(old), &[Topic::HeartbeatAnswer], Passage::Hold);
    script.wait_for("the voter answers", |script| script.held_at(answers) > 0);
    script.cut(old, voter);
    script.run_for(delay);
    script.open(answers);
    // Its promise is over a minimum election timeout after what it heard, whenever the answer came.
    script.run_for(ms(1_150) - delay);
    script.cut(voter, old);
    script.open(asked);
    wait_for_another(&mut script, old);
    write_then_read(&mut script, old, |_| {})
}

#[test]
fn the_answer_to_a_heartbeat_comes_late() {
    for delay in (0..950).step_by(50) {
        let shown = answer_late(0, None, ms(delay));
        assert!(shown.is_right(), "{delay} ms: {shown:?}");
    }
    // Late enough to outlive the promise, and soon enough for the leader to be one still: a narrow time, and where it
    // lies depends on when the heartbeats were sent.
    let bug = Some(Raft::LeaseFromAnswer);
    let is_stale = |seed| {
        (600..800).step_by(25).any(|delay| answer_late(seed, bug, ms(delay)).is_stale_by("INV-READ-6"))
    };
    assert!((0..8).any(is_stale));
}
