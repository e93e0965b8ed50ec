//! A region that has gone quiet gives back what it occupied while it was busy.
//!
//! Most regions of a store are quiet at most times, and what each of them keeps is multiplied by their number: entries in
//! the cache that nobody asks for, lists that were long once. What comes next asks for room again.

use crate::peer::{PeerState, Turn};
use engine::Engine;
use types::LogIndex;

/// A region whose log has not grown for so many ticks is quiet. Longer than the pauses of most who write now and then.
const QUIET_AFTER_TICKS: u64 = 50;

/// Since when a region's log has not grown.
#[derive(Default, Debug)]
pub(crate) struct Quiet {
    /// Its end, when it was looked at last.
    last: LogIndex,
    /// The tick at which that end was first seen.
    since: u64,
    /// Everything was given back since.
    done: bool,
}

impl<E: Engine> PeerState<E> {
    /// Looks whether the region has gone quiet, and then gives back what it does not need.
    pub(crate) fn shrink_if_quiet(&mut self, turn: &Turn<E>) {
        let last = self.raft.status().last.index;
        if last != self.quiet.last {
            self.quiet = Quiet { last, since: turn.ticks, done: false };
        }
        let applied = self.applying.applied.index;
        let waited = turn.ticks - self.quiet.since >= QUIET_AFTER_TICKS;
        if !waited || self.quiet.done || applied < last || self.unpersisted > 0 || self.somebody_waits() {
            return;
        }
        self.raft.shrink();
        self.raft.storage_mut().shrink(applied);
        self.queued.shrink_to_fit();
        self.reads.waiting.shrink_to_fit();
        self.applying.splits.shrink_to_fit();
        self.quiet.done = true;
    }
}
