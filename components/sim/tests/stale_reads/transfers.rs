//! What the vote for a transfer may override: the lease of the leader that has handed over, and no other.

use crate::support::{
    KEY, OPERATOR, READER, Shown, ms, seen_cluster, value, wait_for_another, write_then_read,
};
use raft::SeededBug as Raft;
use sim::Passage;
use sim::nodes::SeededBug;
use sim::script::{ScriptConfig, Topic};
use std::time::Duration;

/// The leader hands over, but the one that it has told is heard late. Tells whether the leader has a lease then.
fn late_transfer_vote(bugs: &[SeededBug], delay: Duration) -> (bool, Shown) {
    let (mut script, old) = seen_cluster(&ScriptConfig { bugs: bugs.to_vec(), ..ScriptConfig::default() });
    let [target, voter] = script.others(&[old])[..] else { panic!("three stores") };
    let told = script.gate(Some(old), Some(target), &[Topic::TimeoutNow], Passage::Watch);
    let votes = script.gate(Some(target), None, &[Topic::TransferVote], Passage::Hold);
    let region = script.leader_of(KEY).expect("somebody leads").1.region.id;
    script.transfer(OPERATOR, region, target);
    script.wait_for("the target is told", |script| script.seen_at(told) > 0);
    // Whatever it answers from now on would tell the leader of the new term.
    script.part(old, target);
    script.wait_for("the target campaigns", |script| script.held_at(votes) == 1);
    script.run_for(delay);
    let has_lease = script.lease_on(old, KEY).is_some();
    script.part(old, voter);
    script.open(votes);
    wait_for_another(&mut script, old);
    (has_lease, write_then_read(&mut script, old, |_| {}))
}

#[test]
fn c_a_transfer_vote_comes_late() {
    // Up to half a minute after the leader has given up: whatever it meets then, no lease is broken.
    for delay in (0..3_000).step_by(100).chain([5_000, 30_000]) {
        let (_, shown) = late_transfer_vote(&[], ms(delay));
        assert!(shown.is_right(), "{delay} ms: {shown:?}");
    }
    // A leader that goes on after it has handed over: the vote that it has asked for ends nothing of its lease. Now and
    // then the new leader is known too late for the read to be stale.
    let stale = (0..900).step_by(100).filter(|delay| {
        let (has_lease, shown) =
            late_transfer_vote(&[SeededBug::Raft(Raft::LeaseDuringTransfer)], ms(*delay));
        assert!(has_lease, "{delay} ms: the leader goes on");
        shown.is_stale_by("INV-READ-6")
    });
    assert!(stale.count() >= 3);
}

/// The one that was handed over to has failed to be elected, and tries again when somebody else leads.
fn repeated_transfer_vote(bugs: &[SeededBug], seed: u64) -> Shown {
    let config = ScriptConfig { seed, bugs: bugs.to_vec(), ..ScriptConfig::default() };
    let (mut script, first) = seen_cluster(&config);
    let [target, third] = script.others(&[first])[..] else { panic!("three stores") };
    let votes = [Topic::PreVote, Topic::Vote, Topic::TransferVote];
    let votes = script.gate(Some(target), None, &votes, Passage::Hold);
    let region = script.leader_of(KEY).expect("somebody leads").1.region.id;
    script.transfer(OPERATOR, region, target);
    script.wait_for("the target campaigns", |script| script.held_at(votes) == 2);
    // Nobody heard it, so another one is elected, whom it follows.
    script.wait_for("another leader has its lease, and is followed", |script| {
        let Some((leader, view)) = script.leader_of(KEY) else { return false };
        let followed = script.regions_of(target).iter().any(|copy| copy.applied == view.applied);
        leader != target && followed && script.lease_on(leader, KEY).is_some()
    });
    let (old, _) = script.leader_of(KEY).expect("it has a lease");
    let voter = if old == first { third } else { first };
    script.part(old, target);
    let campaigns = script.held_at(votes);
    script.wait_for("the target campaigns again", |script| script.held_at(votes) >= campaigns + 2);
    let get = script.get(READER, KEY);
    assert_eq!(script.wait(get), Ok(value("old")), "the reader knows who leads");
    script.part(old, voter);
    assert!(script.lease_on(old, KEY).is_some(), "the lease is there when the vote arrives");
    script.open(votes);
    wait_for_another(&mut script, old);
    write_then_read(&mut script, old, |_| {})
}

#[test]
fn c_a_transfer_vote_is_repeated() {
    let keeps_mark = SeededBug::Raft(Raft::TransferRetryKeepsMark);
    let any_term = SeededBug::Raft(Raft::TransferVoteOfAnyTerm);
    for seed in 0..10 {
        // Each rule alone is enough: the candidate says no more that it was told to campaign, and a voter would not
        // believe it, since its leader is another one.
        for bugs in [&[][..], &[keeps_mark], &[any_term]] {
            let shown = repeated_transfer_vote(bugs, seed);
            assert!(shown.is_right(), "seed {seed}, {bugs:?}: {shown:?}");
        }
        let shown = repeated_transfer_vote(&[keeps_mark, any_term], seed);
        assert!(shown.is_stale_by("INV-READ-6"), "seed {seed}: {shown:?}");
    }
}
