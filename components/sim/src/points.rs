//! The points in the product's logic at which a run may take a rare branch; see `env::sim_point!`.

use env::{Dice, SplitMix};
use std::collections::BTreeMap;

/// A place in the logic that is armed in some runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// Its room, and what happens when it fires.
    pub name: &'static str,
    /// The same in words. Each is something that the product may do, or meet, at any time.
    pub what: &'static str,
}

const fn point(name: &'static str, what: &'static str) -> Point {
    Point { name, what }
}

/// All there are, by room.
pub const POINTS: &[Point] = &[
    point("client_core.doubt_address", "the address of a store is asked for again before it is used"),
    point("client_core.ignore_leader_hint", "who leads a region is not believed, and the next peer is asked"),
    point("client_core.miss_region", "a region that is known is looked up again"),
    point("pd.extend_window_early", "the window of timestamps is extended as soon as it can be"),
    point("pd.refuse_request", "a request is refused as if too many waited"),
    point("pd.say_nothing", "a region's leader is told nothing of what it is to do next"),
    point("pd.waste_ids", "ids that were reserved are not handed out"),
    point("raft.lone_entry", "an append takes one entry, however many would fit"),
    point("raft.refuse_proposal", "a leader takes no proposal, as if its quorum were silent"),
    point("raft_log.drop_cache", "entries leave the cache as soon as the engine has them"),
    point("raft_log.short_page", "one entry is read where more were asked for"),
    point("raftstore.compact_early", "a log is cut although hardly anything in it can go"),
    point("raftstore.forget_leader_hint", "a refused client is not told who leads"),
    point("raftstore.hand_over", "a leader that has measured its region hands it to another"),
    point("raftstore.let_lease_run_out", "a lease is not renewed at this occasion"),
    point("raftstore.lone_write", "a proposal takes one write, however many wait"),
    point("raftstore.stay_awake", "a region that was about to sleep does not"),
    point("store.apply_one", "an applier takes one task of those that wait"),
    point("store.commit_in_two_phases", "a transaction that could commit without a second phase is not let"),
    point("store.lose_view", "the view for a region snapshot is gone when it is to be sent"),
    point("store.measure_later", "a region's size is looked at after the other work that is done aside"),
    point("store.read_by_turn", "a read goes through its region's worker although a lease covers it"),
    point("store.refuse_snapshot", "a region snapshot is refused as if too many were arriving"),
    point("store.refuse_write", "a write is refused as if too many were under way"),
    point("store.short_turn", "a worker takes up half of what has arrived"),
    point("store.sync_needlessly", "a write of the log is synced that need not be"),
];

/// Which are armed in a run: in half of all runs none, so that some get far; in the others each as a coin decides.
pub(crate) fn draw(dice: &SplitMix) -> Vec<&'static str> {
    if dice.fork("any").chance(1, 2) {
        return Vec::new();
    }
    let armed = POINTS.iter().filter(|point| dice.fork(point.name).chance(1, 2));
    armed.map(|point| point.name).collect()
}

/// The point of this name.
pub(crate) fn named(name: &str) -> Option<&'static str> {
    POINTS.iter().find(|point| point.name == name).map(|point| point.name)
}

/// How often each point of a run has fired; those that were armed and did not are there with zero.
pub type PointCounts = BTreeMap<&'static str, u64>;
