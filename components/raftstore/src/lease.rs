//! The leader's lease: for how long reads need no round with the quorum.
//!
//! Raft tells at which tick the round began that a quorum has acknowledged; the worker knows when that tick began.
//! Voters that acknowledged it vote for nobody within a minimum election timeout, on their own clocks (Raft thesis
//! §6.4.1); the lease is shorter than that by a tick and by the clocks' drift, as `Config::validate` checks.

use crate::meta::Delegate;
use crate::peer::{PeerState, Turn};
use crate::seeded_bug::SeededBug;
use engine::Engine;
use env::sim_point;
use std::collections::VecDeque;
use std::sync::Arc;
use types::MonoTime;

/// When the latest ticks began.
#[derive(Default, Debug)]
pub(crate) struct TickTimes {
    /// The count of the first one in `times`.
    first: u64,
    times: VecDeque<MonoTime>,
}

impl TickTimes {
    /// As many as a lease can look back on; older ones are over anyway.
    const KEPT: usize = 64;

    pub(crate) fn push(&mut self, count: u64, now: MonoTime) {
        if self.times.is_empty() {
            self.first = count;
        }
        debug_assert_eq!(self.first + self.times.len() as u64, count, "ticks are counted one by one");
        self.times.push_back(now);
        if self.times.len() > Self::KEPT {
            self.times.pop_front();
            self.first += 1;
        }
    }

    /// When the tick began; `None` if that is too long ago to matter.
    pub(crate) fn began(&self, count: u64) -> Option<MonoTime> {
        self.times.get(usize::try_from(count.checked_sub(self.first)?).ok()?).copied()
    }
}

impl<E: Engine> PeerState<E> {
    /// Extends the lease as far as the quorum's acknowledgements reach, making the delegate if there is none.
    pub(crate) fn renew_lease(&mut self, turn: &Turn<E>, ticks: &TickTimes) {
        let over_split = turn.shared.config.bugs.has(SeededBug::LeaseOverSplit);
        let split = !over_split && self.awaits_split();
        if !self.is_leader() || !self.is_normal() || split || turn.stalled {
            return;
        }
        let Some(lease) = self.raft.lease() else { return };
        self.hold_on(turn);
        if sim_point!("raftstore.let_lease_run_out") {
            return;
        }
        // Until an entry of this term is applied, writes that earlier leaders acknowledged may be missing here.
        let unapplied = turn.shared.config.bugs.has(SeededBug::LeaseBeforeOwnTermApplied);
        if self.applying.applied.term != lease.term && !unapplied {
            return;
        }
        let Some(start) = ticks.began(lease.start_tick + self.tick_offset) else { return };
        let start = if turn.shared.config.bugs.has(SeededBug::LeaseFromNow) { turn.now } else { start };
        let until = start + turn.shared.config.lease;
        if until <= turn.now {
            return;
        }
        let delegate = self.delegate.get_or_insert_with(|| {
            let delegate = Arc::new(Delegate::new(self.region.clone(), self.me, lease.term));
            turn.shared.meta.set_delegate(self.region.id, Some(delegate.clone()));
            delegate
        });
        delegate.renew(until);
    }

    /// Ends the lease at once: no read that begins after this is served by it.
    pub(crate) fn revoke_lease(&mut self, turn: &Turn<E>) {
        if let Some(delegate) = self.delegate.take() {
            delegate.revoke();
            turn.shared.meta.set_delegate(self.region.id, None);
        }
    }
}
