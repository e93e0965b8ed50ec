//! The observers of real stores notice what they are there for: each rule here is broken on purpose.

use raft::SeededBug as Raft;
use sim::check::Verdict;
use sim::nodes::SeededBug;
use sim::script::{Reply, Script, ScriptConfig, Topic};
use sim::{Fail, NodeId, Passage, RunOptions, System, run};
use std::time::Duration;

const FIRST: NodeId = NodeId(101);
const SECOND: NodeId = NodeId(102);
const OPERATOR: NodeId = NodeId(103);

/// The invariants that random runs find broken first, of the first seeds that find one.
fn found(bug: SeededBug, seeds: u64, name: &str) -> bool {
    let options = RunOptions {
        system: System::Cluster(Some(bug)),
        safety: Duration::from_secs(15),
        ..RunOptions::default()
    };
    (0..seeds).any(|seed| match run(seed, &options).map_err(|failure| failure.fail) {
        Err(Fail::Invariant(broken)) => broken.invariant.starts_with(name),
        _ => false,
    })
}

fn cluster(bugs: &[SeededBug]) -> (Script, NodeId, NodeId, NodeId) {
    let mut script = Script::new(&ScriptConfig { bugs: bugs.to_vec(), ..ScriptConfig::default() });
    script.boot();
    let put = script.put(OPERATOR, "a", "zero");
    script.wait(put).expect("nothing is wrong yet");
    let (leader, _) = script.leader_of("a").expect("somebody has answered");
    let [one, other] = script.others(&[leader])[..] else { panic!("three stores") };
    (script, leader, one, other)
}

fn has_broken(script: &Script, name: &str) -> bool {
    script.broken().iter().any(|broken| broken.invariant.starts_with(name))
}

#[test]
fn a_second_vote_in_a_term_is_seen_on_the_disk() {
    assert!(found(SeededBug::Raft(Raft::VoteTwiceInTerm), 100, "INV-RAFT-11"));
}

#[test]
fn what_is_acknowledged_before_it_is_durable_is_seen_at_once() {
    assert!(found(SeededBug::StoreReleasesEarly, 3, "INV-RAFT-12"));
    assert!(found(SeededBug::Raft(Raft::AppendAckBeforeSync), 20, "INV-RAFT-12"));
}

/// An entry is committed by the leader and one follower, who does not learn so; then the leader is cut off, and the
/// other follower, who does not have it, would like to lead. Returns whether the write was lost.
fn shorter_log(bugs: &[SeededBug]) -> (Script, bool) {
    let (mut script, leader, holder, candidate) = cluster(bugs);
    script.part(leader, candidate);
    // Only the one whose log is shorter campaigns, until it has had its chance.
    let campaigns = script.gate(Some(holder), Some(candidate), &[Topic::PreVote, Topic::Vote], Passage::Lose);
    let answers = script.gate(Some(holder), Some(leader), &[Topic::AppendAnswer], Passage::Hold);
    let put = script.put(FIRST, "a", "one");
    // Long enough for the follower to hold the entry; without its answer the leader does not know, nor tell, that it is
    // committed.
    script.run_for(Duration::from_millis(50));
    assert!(script.held_at(answers) > 0, "it has answered");
    script.cut(leader, holder);
    script.open(answers);
    assert_eq!(script.wait(put), Ok(Reply::Done), "it is committed");
    script.cut(holder, leader);
    script.run_until(Duration::from_secs(10), |script| {
        script.leader_of("a").is_some_and(|(node, _)| node == candidate)
    });
    script.forget(campaigns);
    script.wait_for("another store leads", |script| {
        script.leader_of("a").is_some_and(|(node, _)| node != leader)
    });
    let (new, _) = script.leader_of("a").expect("waited for it");
    script.wait_until_known(OPERATOR, "a", new);
    let get = script.get(SECOND, "a");
    let seen = script.wait(get).expect("there is a leader");
    let is_lost = seen != Reply::Value(Some("one".into()));
    assert_eq!(matches!(script.verdict(), Verdict::Linearizable), !is_lost, "{:#?}", script.history());
    (script, is_lost)
}

#[test]
fn a_leader_without_a_committed_entry_is_seen_and_so_is_what_it_applies_instead() {
    let (script, is_lost) = shorter_log(&[]);
    assert!(!is_lost && script.broken().is_empty(), "{:?}", script.broken());
    let (script, is_lost) = shorter_log(&[SeededBug::Raft(Raft::VoteForShorterLog)]);
    assert!(is_lost);
    assert!(has_broken(&script, "INV-RAFT-4"), "{:?}", script.broken());
    assert!(has_broken(&script, "INV-RAFT-5"), "{:?}", script.broken());
}

/// A leader that is cut off has entries that nobody else has, more than others have written since; then it hears the
/// leader after the next.
fn diverged_log(bugs: &[SeededBug]) -> Script {
    let (mut script, old, one, other) = cluster(bugs);
    script.part(old, one);
    script.part(old, other);
    let mut puts = Vec::new();
    for number in 0..8 {
        // One by one, or they would be merged into one entry.
        puts.push(script.put(FIRST, "a", &format!("lost {number}")));
        script.run_for(Duration::from_millis(10));
    }
    assert!(puts.iter().all(|put| script.answer(*put).is_none()), "nobody hears of them");
    script
        .wait_for("another store leads", |script| script.leader_of("a").is_some_and(|(node, _)| node != old));
    let (new, view) = script.leader_of("a").expect("waited for it");
    script.wait_until_known(OPERATOR, "a", new);
    let put = script.put(SECOND, "a", "one");
    script.wait(put).expect("there is a leader");
    // The next leader takes it that everybody holds what it holds, until it hears otherwise.
    let next = if new == one { other } else { one };
    script.transfer(OPERATOR, view.region.id, next);
    script
        .wait_for("the next one leads", |script| script.leader_of("a").is_some_and(|(node, _)| node == next));
    for node in [one, other] {
        script.mend(old, node);
        script.mend(node, old);
    }
    script.run_for(Duration::from_secs(1));
    let put = script.put(SECOND, "a", "two");
    script.wait(put).expect("there is a leader");
    script.run_for(Duration::from_secs(5));
    script
}

#[test]
fn logs_that_differ_before_an_equal_entry_are_seen_on_the_disk() {
    let script = diverged_log(&[]);
    assert!(script.broken().is_empty(), "{:?}", script.broken());
    let script = diverged_log(&[SeededBug::Raft(Raft::AppendWithoutLogMatch)]);
    assert!(has_broken(&script, "INV-RAFT-3"), "{:?}", script.broken());
}
