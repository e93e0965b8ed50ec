//! What all the scripts begin and end with.

use sim::check::Verdict;
use sim::nodes::Thread;
use sim::script::{Reply, Script, ScriptConfig, Topic};
use sim::{NodeId, Passage};
use std::time::Duration;
use store::Actor;

/// Reads the key, and knows where it is from then on.
pub(crate) const READER: NodeId = NodeId(101);
/// Writes the newer value; knows nothing before, so it finds the new leader at once.
pub(crate) const WRITER: NodeId = NodeId(102);
/// Asks for splits and transfers.
pub(crate) const OPERATOR: NodeId = NodeId(103);
pub(crate) const KEY: &str = "a";

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn value(text: &'static str) -> Reply {
    Reply::Value(Some(text.into()))
}

/// A cluster whose first value the reader has seen, and the node that leads.
pub(crate) fn seen_cluster(config: &ScriptConfig) -> (Script, NodeId) {
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
pub(crate) struct Shown {
    /// The reader got the old value after the new one was acknowledged.
    pub(crate) is_stale: bool,
    /// Invariants that broke on the way.
    pub(crate) broken: Vec<&'static str>,
}

/// The newer value is acknowledged, and then the reader asks; first of all, as is checked, the old leader.
pub(crate) fn write_then_read(
    script: &mut Script,
    old: NodeId,
    before_reading: impl FnOnce(&mut Script),
) -> Shown {
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

impl Shown {
    /// The reader got what was so, and nothing was broken.
    pub(crate) fn is_right(&self) -> bool {
        !self.is_stale && self.broken.is_empty()
    }

    /// The reader got what was no longer so, and this invariant was seen to be broken.
    pub(crate) fn is_stale_by(&self, invariant: &str) -> bool {
        self.is_stale && self.broken.iter().any(|broken| broken.starts_with(invariant))
    }
}

/// Some store other than `old` leads.
pub(crate) fn wait_for_another(script: &mut Script, old: NodeId) {
    script
        .wait_for("another store leads", |script| script.leader_of(KEY).is_some_and(|(node, _)| node != old));
}
