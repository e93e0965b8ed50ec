//! When clocks are read, and how missed time is counted.

use crate::support::{KEY, Shown, ms, seen_cluster, wait_for_another, write_then_read};
use raftstore::SeededBug as Regions;
use sim::nodes::{SeededBug, Thread};
use sim::script::{ScriptConfig, Topic};
use sim::{DRIFT_PPM_MAX, Passage};
use std::time::Duration;
use store::Actor;

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
    wait_for_another(&mut script, old);
    write_then_read(&mut script, old, |script| script.run_for(wait))
}

#[test]
fn a_the_clock_is_read_before_the_requests_are_drained() {
    for age in (0..300).step_by(60) {
        for wait in (0..800).step_by(200) {
            let shown = clock_before_drain(&[], ms(age), ms(wait));
            assert!(shown.is_right(), "{age} ms, {wait} ms: {shown:?}");
            let shown = clock_before_drain(&[SeededBug::ClockBeforeDrain], ms(age), ms(wait));
            assert!(shown.is_stale_by("INV-READ-4"), "{age} ms, {wait} ms: {shown:?}");
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
    wait_for_another(&mut script, old);
    Some(write_then_read(&mut script, old, |script| script.run_for(wait)))
}

#[test]
fn b_ticks_that_were_missed_count_after_a_pause() {
    let (mut dangers, mut stale) = (0, 0);
    for pause in (800..1_200).step_by(20) {
        for wait in [0, 100] {
            let on = missed_ticks(&[], ms(pause), ms(wait));
            let off = missed_ticks(&[SeededBug::Regions(Regions::MissedTicksCount)], ms(pause), ms(wait));
            assert_eq!(on.is_some(), off.is_some(), "up to the danger all is the same");
            let (Some(on), Some(off)) = (on, off) else { continue };
            dangers += 1;
            assert!(on.is_right(), "{pause} ms, {wait} ms: {on:?}");
            stale += u32::from(off.is_stale_by("INV-READ-6"));
        }
    }
    assert!(dangers >= 20, "the leader's lease was there in {dangers} scripts only");
    // Not all: a short pause misses too few ticks, and now and then the new leader is known too late.
    assert!(stale >= 10, "{stale} of {dangers} scripts noticed that missed ticks count");
}
