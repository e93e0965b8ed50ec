//! Which peers a tick concerns.
//!
//! Most regions have nothing to do at most ticks. So a tick only counts, and visits those peers of which something is due:
//! a timer of Raft's, a deadline of somebody who waits, a report. A peer's group is told of the ticks that it was not
//! visited at before anything else happens to it ([`PeerState::catch_up`]): to it they have passed one by one, each before
//! what arrived after it.

use crate::peer::{PeerState, Turn};
use crate::worker::WorkerStats;
use engine::Engine;
use std::collections::BTreeSet;
use types::{MonoTime, RegionId};

/// How often stores of removed peers are asked whether they are gone, in ticks.
const ASK_REMOVED_TICKS: u64 = 10;

/// When which peer is due. Entries agree with [`PeerState::due_at`].
#[derive(Default, Debug)]
pub(crate) struct Schedule {
    due: BTreeSet<(u64, RegionId)>,
}

impl Schedule {
    /// Takes out a peer that is due at this tick, if there is one.
    pub(crate) fn pop(&mut self, tick: u64) -> Option<RegionId> {
        let (at, _) = self.due.first()?;
        (*at <= tick).then(|| self.due.pop_first().expect("just seen").1)
    }

    /// Makes a peer due when it has to be, unless it is earlier already: then that visit will look again.
    pub(crate) fn set<E: Engine>(&mut self, peer: &mut PeerState<E>, due: Option<u64>) {
        let Some(due) = due.filter(|due| peer.due_at.is_none_or(|at| *due < at)) else { return };
        self.clear(peer);
        peer.due_at = Some(due);
        self.due.insert((due, peer.region.id));
    }

    /// Whether exactly these peers are due, each when it says so.
    pub(crate) fn agrees_with<'a, E: Engine + 'a>(
        &self,
        peers: impl Iterator<Item = &'a PeerState<E>>,
    ) -> bool {
        let due = peers.filter_map(|peer| Some((peer.due_at?, peer.region.id)));
        due.collect::<BTreeSet<_>>() == self.due
    }

    /// The peer is not due any more: it is being visited, or goes.
    pub(crate) fn clear<E: Engine>(&mut self, peer: &mut PeerState<E>) {
        if let Some(at) = peer.due_at.take() {
            self.due.remove(&(at, peer.region.id));
        }
    }
}

/// How a peer stands in its worker's counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counted {
    leader: bool,
    leaderless: bool,
    poisoned: bool,
    hibernated: bool,
}

impl Counted {
    /// Corrects the counts by what has changed.
    pub(crate) fn replace(&mut self, new: Self, stats: &mut WorkerStats) {
        let pairs = [
            (&mut stats.leaders, self.leader, new.leader),
            (&mut stats.leaderless, self.leaderless, new.leaderless),
            (&mut stats.poisoned, self.poisoned, new.poisoned),
            (&mut stats.hibernated, self.hibernated, new.hibernated),
        ];
        for (count, before, now) in pairs {
            *count = *count + u64::from(now) - u64::from(before);
        }
        *self = new;
    }
}

impl<E: Engine> PeerState<E> {
    /// Lets something happen to the group: it wakes and is told of the ticks so far first, and what it does is counted.
    pub(crate) fn drive<T>(
        &mut self,
        turn: &mut Turn<E>,
        act: impl FnOnce(&mut Self, &mut Turn<E>) -> T,
    ) -> T {
        self.wake_and_tell(turn);
        self.catch_up(turn.ticks);
        if let Some(counters) = turn.counters.take() {
            self.raft.count_into(counters);
        }
        let done = act(self, turn);
        turn.counters = self.raft.take_counters().or(turn.counters.take());
        done
    }

    /// Looks for what has become due of what does not come from the group itself.
    pub(crate) fn on_tick(&mut self, turn: &mut Turn<E>) {
        self.expire_writes(turn);
        self.expire_reads(turn);
        self.expire_split(turn);
        self.check_split(turn);
        self.report(turn);
        if turn.ticks.is_multiple_of(ASK_REMOVED_TICKS) {
            self.ask_removed(turn);
        }
        self.shrink_if_quiet(turn);
    }

    /// Somebody waits for an answer, or for ids.
    pub(crate) fn somebody_waits(&self) -> bool {
        !self.queued.is_empty()
            || !self.proposals.is_empty()
            || !self.reads.asked.is_empty()
            || !self.reads.waiting.is_empty()
            || self.split.is_some()
    }

    /// Tells the group of the ticks that have passed since the last visit; to be called before anything else of the turn.
    pub(crate) fn catch_up(&mut self, ticks: u64) {
        let missed = ticks - self.tick_offset - self.raft.tick_count();
        if missed > 0 {
            self.raft.tick_n(missed);
        }
    }

    /// How it stands in its worker's counts.
    pub(crate) fn counted(&self) -> Counted {
        Counted {
            leader: self.is_leader(),
            leaderless: self.raft.status().lead.is_zero(),
            poisoned: self.raft.poisoned().is_some(),
            hibernated: self.is_asleep(),
        }
    }

    /// The first tick after `turn`'s at which something may have to happen though nothing arrives.
    pub(crate) fn next_due(&self, turn: &Turn<E>) -> Option<u64> {
        if !self.is_normal() {
            // It waits for the log, for apply or for files, and is looked at when they report.
            return None;
        }
        let next = turn.ticks + 1;
        let tick = turn.shared.config.tick;
        let ticks_to = |at: MonoTime| {
            let ticks = at.since(turn.now).as_nanos().div_ceil(tick.as_nanos());
            turn.ticks + u64::try_from(ticks).unwrap_or(u64::MAX >> 1).max(1)
        };
        let interval = turn.shared.config.region_heartbeat_interval;
        let report = self.report.last.map(|last| ticks_to(last + interval)).filter(|_| self.is_leader());
        if self.is_asleep() {
            return report;
        }
        if self.somebody_waits() {
            return Some(next);
        }
        let raft = self.raft.next_deadline().map(|ticks| turn.ticks + ticks.max(1));
        if !self.is_leader() {
            return raft;
        }
        if self.report.due || self.wants_measuring(&turn.shared.config, turn.now) {
            return Some(next);
        }
        let removed = (!self.removed.is_empty()).then(|| next.next_multiple_of(ASK_REMOVED_TICKS));
        let measure = self.size.measure_at.map(ticks_to);
        // A sole voter needs no heartbeat, but its lease has to be renewed and its region to be reported.
        let heartbeat = turn.ticks + u64::from(turn.shared.config.heartbeat_ticks);
        [raft, removed, measure, report, Some(heartbeat)].into_iter().flatten().min()
    }
}
