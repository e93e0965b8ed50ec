//! How far one peer has come, and how to send to it (thesis §3.5, §10.2.1).

use super::Inflights;
use crate::EntryId;
use crate::config::Settings;
use types::LogIndex;

/// How a leader sends to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProgressState {
    /// One append at a time, to find out where the logs agree.
    Probe,
    /// Appends follow each other without waiting for answers.
    Replicate,
    /// The peer needs a snapshot, which is on its way; nothing else is sent.
    Snapshot {
        /// Where the snapshot stands.
        index: LogIndex,
    },
}

/// What a leader knows of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgressView {
    /// Durable there and known to agree with us up to here.
    pub matched: LogIndex,
    /// The next entry to send.
    pub next: LogIndex,
    /// The highest commit index that was sent.
    pub sent_commit: LogIndex,
    /// How we send.
    pub state: ProgressState,
    /// Nothing is sent before the peer is heard again.
    pub paused: bool,
    /// The peer was heard within the minimum election timeout.
    pub active: bool,
    /// The peer does not vote.
    pub learner: bool,
    /// Appends on the way.
    pub inflight_messages: usize,
    /// Bytes of entries on the way.
    pub inflight_bytes: u64,
}

/// What a leader keeps of one peer.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Progress {
    /// Durable there and known to agree with us up to here. Of ourselves: what is durable here.
    ///
    /// Invariant: `matched < next`.
    pub(crate) matched: LogIndex,
    /// The next entry to send. While probing, where the logs may agree right before.
    pub(crate) next: LogIndex,
    pub(crate) state: ProgressState,
    /// A probe is on its way, or nothing can be sent before the peer is heard again.
    pub(crate) paused: bool,
    /// Send an append even if there is no entry for it.
    pub(crate) poked: bool,
    /// Entries for this peer are being fetched.
    pub(crate) fetching: bool,
    /// While paused: only the answer to a later heartbeat round says that what we wait for may never come.
    pub(crate) paused_round: u64,
    /// The highest commit index that was sent.
    pub(crate) sent_commit: LogIndex,
    /// The peer has answered since we keep its progress.
    pub(crate) answered: bool,
    /// When it was last heard, by tick count; until then, since when we keep its progress.
    pub(crate) heard_tick: u64,
    /// When `matched` last moved, or a snapshot was sent, by tick count.
    pub(crate) moved_tick: u64,
    /// The latest heartbeat round that it answered.
    pub(crate) acked_round: u64,
    pub(crate) inflights: Inflights,
}

impl Progress {
    /// Of a peer whose log we know nothing about: a probe at `next` will tell.
    pub(crate) fn unknown(next: LogIndex, tick: u64) -> Self {
        Self {
            matched: LogIndex::ZERO,
            next,
            state: ProgressState::Probe,
            paused: false,
            poked: true,
            fetching: false,
            paused_round: 0,
            sent_commit: LogIndex::ZERO,
            answered: false,
            heard_tick: tick,
            moved_tick: tick,
            acked_round: 0,
            inflights: Inflights::default(),
        }
    }

    /// The peer has answered, and lately.
    #[inline]
    pub(crate) fn is_active(&self, tick: u64, election_tick: u32) -> bool {
        self.answered && tick - self.heard_tick < u64::from(election_tick)
    }

    /// There is something to tell the peer, in the log of a leader that ends with `last` and is committed up to `committed`.
    #[inline]
    pub(crate) fn lacks(&self, last: LogIndex, committed: LogIndex, lazy_commit: bool) -> bool {
        // A peer whose window is full is told with the next append, which its answer makes room for.
        let untold = !lazy_commit && self.state == ProgressState::Replicate && self.sent_commit < committed;
        self.poked || self.next <= last || untold
    }

    /// What stands after `prev` is what comes next for the peer, and it may be sent now.
    #[inline]
    pub(crate) fn is_streaming_from(&self, prev: LogIndex, config: &Settings) -> bool {
        self.next == prev.next()
            && self.state == ProgressState::Replicate
            && !self.fetching
            && !self.is_window_full(config)
    }

    /// No more may be on the way.
    #[inline]
    pub(crate) fn is_window_full(&self, config: &Settings) -> bool {
        self.inflights.is_full(config.max_inflight_messages(), config.max_inflight_bytes())
    }

    #[inline]
    pub(crate) fn hear(&mut self, tick: u64) {
        self.answered = true;
        self.heard_tick = tick;
    }

    /// Nothing is sent before the peer has answered, were it only a heartbeat of a round after `round`.
    pub(crate) fn pause(&mut self, round: u64) {
        self.paused = true;
        self.paused_round = round;
    }

    /// Starts over from what is known to agree, or from behind the snapshot that was sent.
    pub(crate) fn become_probe(&mut self) {
        self.next = match self.state {
            ProgressState::Snapshot { index } => index.max(self.matched).next(),
            _ => self.matched.next(),
        };
        self.state = ProgressState::Probe;
        self.paused = false;
        self.poked = true;
        self.inflights.clear();
    }

    pub(crate) fn become_replicate(&mut self) {
        self.next = self.matched.next();
        self.state = ProgressState::Replicate;
        self.paused = false;
        self.inflights.clear();
    }

    pub(crate) fn become_snapshot(&mut self, index: LogIndex, tick: u64) {
        self.state = ProgressState::Snapshot { index };
        self.moved_tick = tick;
        self.paused = false;
        self.poked = false;
        self.inflights.clear();
    }

    /// The snapshot did not arrive: forget it.
    pub(crate) fn abort_snapshot(&mut self) {
        if let ProgressState::Snapshot { .. } = self.state {
            self.state = ProgressState::Probe;
            self.become_probe();
        }
    }

    /// Everything up to `index` is durable there. True if that is news.
    #[inline]
    pub(crate) fn advance(&mut self, index: LogIndex, tick: u64) -> bool {
        self.next = self.next.max(index.next());
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.moved_tick = tick;
        true
    }

    /// The peer does not hold the entry at `rejected`; the logs agree at `hint` at the latest. True if that is news,
    /// and `next` has moved back.
    pub(crate) fn retreat(&mut self, rejected: LogIndex, hint: EntryId) -> bool {
        match self.state {
            // The peer holds `matched` durably: whoever rejects that, or less, is overtaken by an acknowledgement.
            ProgressState::Replicate if rejected > self.matched => {
                self.become_probe();
                true
            }
            // Only the probe that is on its way can be refused.
            ProgressState::Probe if self.next.prev() == rejected && rejected > self.matched => {
                self.next = rejected.min(hint.index.next()).max(self.matched.next());
                self.paused = false;
                self.poked = true;
                true
            }
            _ => false,
        }
    }
}
