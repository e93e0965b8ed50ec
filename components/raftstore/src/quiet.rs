//! A region that has gone quiet gives back what it occupied while it was busy.
//!
//! Most regions of a store are quiet at most times, and what each of them keeps is multiplied by their number: entries in
//! the cache that nobody asks for, lists that were long once. What comes next asks for room again.

use crate::peer::{PeerState, Turn};
use engine::Engine;
use types::LogIndex;

/// A region whose log has not grown for so many ticks is quiet. Longer than the pauses of most who write now and then.
const QUIET_AFTER_TICKS: u64 = 50;

/// Since when nobody has wanted anything of a region.
#[derive(Default, Debug)]
pub(crate) struct Quiet {
    /// Its end, when it was looked at last.
    last: LogIndex,
    /// The tick at which that end was first seen, or a read was last asked for.
    since: u64,
    /// Everything was given back since.
    done: bool,
}

impl<E: Engine> PeerState<E> {
    /// Looks whether the log has grown.
    pub(crate) fn note_growth(&mut self, ticks: u64) {
        let last = self.raft.status().last.index;
        if last != self.quiet.last {
            self.quiet = Quiet { last, since: ticks, done: false };
        }
    }

    /// Somebody wants something of the region.
    pub(crate) fn stir(&mut self, ticks: u64) {
        self.quiet.since = ticks;
    }

    /// For how many ticks nobody has wanted anything of the region, as of the last look.
    pub(crate) fn quiet_ticks(&self, ticks: u64) -> u64 {
        ticks - self.quiet.since
    }

    /// Looks whether the region has gone quiet, and then gives back what it does not need.
    pub(crate) fn shrink_if_quiet(&mut self, turn: &Turn<E>) {
        self.note_growth(turn.ticks);
        let unapplied = self.applying.applied.index < self.quiet.last;
        let waited = self.quiet_ticks(turn.ticks) >= QUIET_AFTER_TICKS;
        if waited && !self.quiet.done && !unapplied && self.unpersisted == 0 && !self.somebody_waits() {
            self.give_back();
        }
    }

    /// Gives back what is not needed while nothing happens.
    pub(crate) fn give_back(&mut self) {
        self.raft.shrink();
        self.raft.storage_mut().shrink(self.applying.applied.index);
        self.queued.shrink_to_fit();
        self.reads.waiting.shrink_to_fit();
        self.applying.splits.shrink_to_fit();
        self.quiet.done = true;
    }
}
