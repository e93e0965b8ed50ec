//! A split ends what the old leader may answer, before it has applied it.

use crate::support::{KEY, OPERATOR, Shown, ms, seen_cluster, write_then_read};
use raftstore::SeededBug as Regions;
use sim::nodes::{SeededBug, Thread};
use sim::script::ScriptConfig;
use std::time::Duration;
use store::Actor;

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
        assert!(shown.is_right(), "after {wait} ms: {shown:?}");
        let shown = split_unapplied(&[SeededBug::Regions(Regions::LeaseOverSplit)], ms(wait));
        assert!(shown.is_stale_by("INV-READ-6"), "after {wait} ms: {shown:?}");
    }
}
