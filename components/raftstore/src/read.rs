//! Reads that a lease does not cover: one round of the leader with its quorum, then the data.

use crate::effects::{ReadRequest, ReadyRead};
use crate::peer::{PeerState, Turn};
use crate::seeded_bug::SeededBug;
use crate::write::busy;
use engine::Engine;
use raft::{ReadError, ReadState};
use std::sync::Arc;
use wire::kv::{BusyReason, KvError};

impl<E: Engine> PeerState<E> {
    /// Starts a read, or joins the round that is about to leave.
    pub(crate) fn read(&mut self, turn: &mut Turn<E>, request: ReadRequest) {
        match self.admit_read(turn, &request) {
            Ok(token) => {
                self.stir(turn.ticks);
                self.reads.asked.insert(token, (self.raft.status().term, request));
            }
            Err(error) => turn.answer(request.token, Err(error)),
        }
    }

    fn admit_read(&mut self, turn: &Turn<E>, request: &ReadRequest) -> Result<u64, KvError> {
        if !self.is_leader() || !self.is_normal() {
            return Err(self.not_leader());
        }
        if turn.stalled {
            return Err(busy(BusyReason::SlowDisk));
        }
        if request.epoch.version != self.region.epoch.version {
            return Err(self.epoch_not_match(&turn.shared));
        }
        if request.deadline <= turn.now {
            return Err(KvError::DeadlineExceeded);
        }
        self.reads.next_token += 1;
        let token = self.reads.next_token;
        match self.raft.read_index(token) {
            Ok(()) => Ok(token),
            // The leader's first entry commits within a round trip.
            Err(ReadError::NotCommittedInTerm | ReadError::TooManyReads) => {
                Err(busy(BusyReason::ProposalQueue))
            }
            Err(ReadError::NoLeader | ReadError::Poisoned { .. }) => Err(self.not_leader()),
        }
    }

    /// Takes Raft's answers: the reads now wait for an index to be applied.
    pub(crate) fn on_read_states(&mut self, turn: &mut Turn<E>, states: &mut Vec<ReadState>) {
        for state in states.drain(..) {
            let Some((term, request)) = self.reads.asked.remove(&state.token) else { continue };
            match state.index {
                Some(index) => self.reads.waiting.push_back((index, term, request)),
                None => {
                    let error = self.not_leader();
                    turn.answer(request.token, Err(error));
                }
            }
        }
    }

    /// Hands out the reads whose index is applied.
    ///
    /// The engine's snapshot is taken in this turn, while the region is known to be here and uncut: what makes a piece
    /// of it go away begins with the worker that owns the region, after it has learned of the split.
    pub(crate) fn release_reads(&mut self, turn: &mut Turn<E>, snapshot: &mut Option<Arc<E::Snapshot>>) {
        let bugs = turn.shared.config.bugs;
        let split = !bugs.has(SeededBug::ReadOverSplit) && self.awaits_split();
        if self.reads.waiting.is_empty() || split || !self.is_normal() {
            return;
        }
        let applied = self.applying.applied.index;
        let mut later = std::collections::VecDeque::new();
        for (index, term, request) in std::mem::take(&mut self.reads.waiting) {
            if index > applied && !bugs.has(SeededBug::ReadBeforeApplied) {
                later.push_back((index, term, request));
            } else if request.epoch.version != self.region.epoch.version {
                let error = self.epoch_not_match(&turn.shared);
                turn.answer(request.token, Err(error));
            } else {
                let snapshot = snapshot.get_or_insert_with(|| Arc::new(turn.shared.engine.snapshot()));
                let (region, snapshot) = (self.region.clone(), snapshot.clone());
                turn.out.reads.push(ReadyRead { request, region, snapshot, term, now: turn.now });
            }
        }
        self.reads.waiting = later;
    }

    /// Gives up reads beyond their deadline.
    pub(crate) fn expire_reads(&mut self, turn: &mut Turn<E>) {
        let now = turn.now;
        self.reads.asked.retain(|_, (_, request)| {
            let alive = request.deadline > now;
            if !alive {
                turn.out.replies.push((request.token, Err(KvError::DeadlineExceeded)));
            }
            alive
        });
        self.reads.waiting.retain(|(_, _, request)| {
            let alive = request.deadline > now;
            if !alive {
                turn.out.replies.push((request.token, Err(KvError::DeadlineExceeded)));
            }
            alive
        });
    }
}
