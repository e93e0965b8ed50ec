//! Four ways to read what is no longer so, each played on purpose.
//!
//! A leader that others have replaced must not answer reads by its lease. What keeps it from that are rules about when
//! clocks are read, how missed time is counted, what a transfer may override, and what a split ends. Each script here
//! brings about the moment at which one rule matters: another store has acknowledged a newer value, and then a client
//! asks the old leader. With the rule the client gets the newer value; with the rule broken on purpose the history has
//! no explanation, and the script says so. A script whose moment does not come is a failure of the script.

use raft::SeededBug as Raft;
use raftstore::SeededBug as Regions;
use sim::check::Verdict;
use sim::nodes::{SeededBug, Thread};
use sim::script::{Reply, Script, ScriptConfig, Topic};
use sim::{DRIFT_PPM_MAX, NodeId, Passage};
use std::time::Duration;
use store::Actor;

/// Reads the key, and knows where it is from then on.
const READER: NodeId = NodeId(101);
/// Writes the newer value; knows nothing before, so it finds the new leader at once.
const WRITER: NodeId = NodeId(102);
/// Asks for splits and transfers.
const OPERATOR: NodeId = NodeId(103);
const KEY: &str = "a";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn value(text: &'static str) -> Reply {
    Reply::Value(Some(text.into()))
}

/// A cluster whose first value the reader has seen, and the node that leads.
fn seen_cluster(config: &ScriptConfig) -> (Script, NodeId) {
    let mut script = Script::new(config);
    script.boot();
    let put = script.put(OPERATOR, KEY, "old");
    script.wait(put).expect("nothing is wrong yet");
    let get = script.get(READER, KEY);
    let seen = script.wait(get).expect("nothing is wrong yet");
    assert_eq!(seen, value("old"));
    let (leader, _) = script.leader_of(KEY).expect("somebody has answered");
    script.wait_for("the leader has its lease", |script| script.lease_on(leader, KEY).is_some());
    (script, leader)
}

/// What a script has shown.
#[derive(Debug)]
struct Shown {
    /// The reader got the old value after the new one was acknowledged.
    is_stale: bool,
    /// Invariants that broke on the way.
    broken: Vec<&'static str>,
}

/// The newer value is acknowledged, and then the reader asks; first of all, as is checked, the old leader.
fn write_then_read(script: &mut Script, old: NodeId, before_reading: impl FnOnce(&mut Script)) -> Shown {
    let (new, _) = script.leader_of(KEY).expect("somebody else leads");
    assert_ne!(new, old, "somebody else leads");
    script.wait_until_known(OPERATOR, KEY, new);
    let put = script.put(WRITER, KEY, "new");
    script.wait(put).expect("there is a leader");
    before_reading(script);
    let asked = script.gate(Some(READER), Some(old), &[Topic::Read], Passage::Watch);
    let get = script.get(READER, KEY);
    script.wait_for("the old leader is asked", |script| script.seen_at(asked) > 0);
    // Whatever kept it from noticing ends in the end.
    script.run_until(ms(300), |script| script.answer(get).is_some());
    for thread in [Thread::Reader, Thread::Runs(Actor::Worker(0)), Thread::Runs(Actor::Applier(0))] {
        script.go_on(old, thread);
    }
    let seen = script.wait(get).expect("somebody can answer");
    let is_stale = seen == value("old");
    assert!(is_stale || seen == value("new"), "{seen:?}");
    let is_explained = matches!(script.verdict(), Verdict::Linearizable);
    assert_eq!(is_explained, !is_stale, "{:#?}", script.history());
    Shown { is_stale, broken: script.broken().iter().map(|broken| broken.invariant).collect() }
}

/// A split that the old leader has not applied: the piece is led elsewhere, and takes writes.
fn split_unapplied(bugs: &[SeededBug], wait: Duration) -> Shown {
    let (mut script, old) = seen_cluster(&ScriptConfig { bugs: bugs.to_vec(), ..ScriptConfig::default() });
    script.hold(old, Thread::Runs(Actor::Applier(0)));
    script.split(OPERATOR, "m");
    script.wait_for("another store leads the piece", |script| {
        script.leader_of(KEY).is_some_and(|(node, view)| node != old && view.region.epoch.version > 1)
    });
    assert_eq!(script.regions_of(old).len(), 1, "the old leader has not applied the split");
    let leads = script.regions_of(old)[0].leads_in.is_some();
    assert!(leads, "the old leader leads on");
    write_then_read(&mut script, old, |script| script.run_for(wait))
}

#[test]
fn d_a_split_that_the_old_leader_has_not_applied() {
    for wait in (0..1_000).step_by(50) {
        let shown = split_unapplied(&[], ms(wait));
        assert!(!shown.is_stale && shown.broken.is_empty(), "after {wait} ms: {shown:?}");
        let shown = split_unapplied(&[SeededBug::Regions(Regions::LeaseOverSplit)], ms(wait));
        assert!(shown.is_stale, "after {wait} ms: {shown:?}");
        assert!(shown.broken.iter().any(|broken| broken.starts_with("INV-READ-6")), "{shown:?}");
    }
}

/// The reader's thread stands between its reading of the clock and the requests that have arrived meanwhile.
fn clock_before_drain(bugs: &[SeededBug], age: Duration, wait: Duration) -> Shown {
    let (mut script, old) = seen_cluster(&ScriptConfig { bugs: bugs.to_vec(), ..ScriptConfig::default() });
    script.run_for(age);
    assert!(script.lease_on(old, KEY).is_some(), "the clock is read within the lease");
    script.hold(old, Thread::Reader);
    script.hold(old, Thread::Runs(Actor::Worker(0)));
    for other in script.others(&[old]) {
        script.part(old, other);
    }
    script
        .wait_for("another store leads", |script| script.leader_of(KEY).is_some_and(|(node, _)| node != old));
    write_then_read(&mut script, old, |script| script.run_for(wait))
}

#[test]
fn a_the_clock_is_read_before_the_requests_are_drained() {
    for age in (0..300).step_by(60) {
        for wait in (0..800).step_by(200) {
            let shown = clock_before_drain(&[], ms(age), ms(wait));
            assert!(!shown.is_stale && shown.broken.is_empty(), "{age} ms, {wait} ms: {shown:?}");
            let shown = clock_before_drain(&[SeededBug::ClockBeforeDrain], ms(age), ms(wait));
            assert!(shown.is_stale, "{age} ms, {wait} ms: {shown:?}");
            assert!(shown.broken.iter().any(|broken| broken.starts_with("INV-READ-4")), "{shown:?}");
        }
    }
}

/// A voter's thread does not run for `pause`, finds its leader's heartbeats when it does, and is asked for its vote.
/// `None` if the leader has stepped down by then, so that there is nothing to be broken.
fn missed_ticks(bugs: &[SeededBug], pause: Duration, wait: Duration) -> Option<Shown> {
    // The voters' clocks run fast and the leader's slow, as far as they may: so the leader leads on while a voter could
    // think that it was silent for long.
    let config = ScriptConfig { bugs: bugs.to_vec(), ..ScriptConfig::default() };
    let (mut script, old) = seen_cluster(&config);
    let [voter, candidate] = script.others(&[old])[..] else { panic!("three stores") };
    for (node, drift_ppm) in [(old, -DRIFT_PPM_MAX), (voter, DRIFT_PPM_MAX), (candidate, DRIFT_PPM_MAX)] {
        script.set_drift(node, drift_ppm);
    }
    script.part(old, candidate);
    let votes = [Topic::PreVote, Topic::Vote];
    let asked = script.gate(Some(candidate), Some(voter), &votes, Passage::Hold);
    script.wait_for("the candidate would like to lead", |script| script.held_at(asked) > 0);
    let beats = script.gate(Some(voter), Some(old), &[Topic::HeartbeatAnswer], Passage::Watch);
    script.wait_for("the voter has answered a heartbeat", |script| script.seen_at(beats) > 0);
    let heard = script.seen_at(beats);
    script.hold(voter, Thread::Runs(Actor::Worker(0)));
    script.run_for(pause);
    script.go_on(voter, Thread::Runs(Actor::Worker(0)));
    script.run_until(ms(20), |script| script.seen_at(beats) > heard);
    script.run_for(ms(1));
    script.lease_on(old, KEY)?;
    script.part(old, voter);
    script.open(asked);
    script.run_for(ms(1));
    script
        .wait_for("another store leads", |script| script.leader_of(KEY).is_some_and(|(node, _)| node != old));
    Some(write_then_read(&mut script, old, |script| script.run_for(wait)))
}

#[test]
fn b_ticks_that_were_missed_count_after_a_pause() {
    let mut dangers = 0;
    for pause in (800..1_200).step_by(20) {
        for wait in [0, 100] {
            let on = missed_ticks(&[], ms(pause), ms(wait));
            let off = missed_ticks(&[SeededBug::Regions(Regions::MissedTicksCount)], ms(pause), ms(wait));
            assert_eq!(on.is_some(), off.is_some(), "up to the danger all is the same");
            let (Some(on), Some(off)) = (on, off) else { continue };
            dangers += 1;
            assert!(!on.is_stale && on.broken.is_empty(), "{pause} ms, {wait} ms: {on:?}");
            assert!(off.is_stale, "{pause} ms, {wait} ms: {off:?}");
            assert!(off.broken.iter().any(|broken| broken.starts_with("INV-READ-6")), "{off:?}");
        }
    }
    assert!(dangers >= 20, "the leader's lease was there in {dangers} scripts only");
}

/// The leader hands over, but the one that it has told is heard late. Tells whether the leader has a lease then.
fn late_transfer_vote(bugs: &[SeededBug], delay: Duration) -> (bool, Shown) {
    let (mut script, old) = seen_cluster(&ScriptConfig { bugs: bugs.to_vec(), ..ScriptConfig::default() });
    let [target, voter] = script.others(&[old])[..] else { panic!("three stores") };
    let votes = script.gate(Some(target), None, &[Topic::TransferVote], Passage::Hold);
    let region = script.leader_of(KEY).expect("somebody leads").1.region.id;
    script.transfer(OPERATOR, region, target);
    script.wait_for("the target campaigns", |script| script.held_at(votes) == 2);
    script.part(old, target);
    script.run_for(delay);
    let has_lease = script.lease_on(old, KEY).is_some();
    script.part(old, voter);
    script.open(votes);
    script
        .wait_for("another store leads", |script| script.leader_of(KEY).is_some_and(|(node, _)| node != old));
    (has_lease, write_then_read(&mut script, old, |_| {}))
}

#[test]
fn c_a_transfer_vote_comes_late() {
    // Up to half a minute after the leader has given up: whatever it meets then, no lease is broken.
    for delay in (0..3_000).step_by(100).chain([5_000, 30_000]) {
        let (_, shown) = late_transfer_vote(&[], ms(delay));
        assert!(!shown.is_stale && shown.broken.is_empty(), "{delay} ms: {shown:?}");
    }
    for delay in (0..900).step_by(100) {
        // A leader that goes on after it has handed over: the vote that it has asked for ends nothing of its lease.
        let (has_lease, shown) = late_transfer_vote(&[SeededBug::Raft(Raft::LeaseDuringTransfer)], ms(delay));
        assert!(has_lease && shown.is_stale, "{delay} ms: {shown:?}");
        assert!(shown.broken.iter().any(|broken| broken.starts_with("INV-READ-6")), "{shown:?}");
    }
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
    script
        .wait_for("another store leads", |script| script.leader_of(KEY).is_some_and(|(node, _)| node != old));
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
            assert!(!shown.is_stale && shown.broken.is_empty(), "seed {seed}, {bugs:?}: {shown:?}");
        }
        let shown = repeated_transfer_vote(&[keeps_mark, any_term], seed);
        assert!(shown.is_stale, "seed {seed}: {shown:?}");
        assert!(shown.broken.iter().any(|broken| broken.starts_with("INV-READ-6")), "{shown:?}");
    }
}
