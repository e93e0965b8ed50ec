//! Reads without a log entry (thesis §6.4), and the lease.
//!
//! A heartbeat round is answered by a quorum only if no later leader had been elected when the round was sent. Rounds are
//! numbered by the leader within its term, and a read joins only a round that has not been sent yet: what callers name
//! their reads plays no part in it. Followers forward their reads in batches under a name of their own.

use crate::bugs::{Bugs, SeededBug};
use crate::line::Line;
use crate::replication::NEVER;
use crate::tracker::quorum;
use crate::{Body, Lease, Message, RawNode, ReadError, ReadState, Role, Storage};
use std::collections::VecDeque;
use types::{LogIndex, PeerId, Term};

/// How many reads may wait in one group. Beyond that the caller is better served by an error.
const READS_MAX: usize = 1 << 16;

/// A read that waits for a round.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Hash))]
struct Read {
    /// Who asks: we, or a follower.
    from: PeerId,
    token: u64,
    /// What was committed when it was asked.
    index: LogIndex,
}

#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
struct Round {
    id: u64,
    /// When it was sent, by tick count.
    start_tick: u64,
    reads: Vec<Read>,
}

/// The heartbeat rounds of one term.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Rounds {
    latest: u64,
    /// Sent, and not yet answered by a quorum; oldest first.
    open: Line<Round, 1>,
    /// Reads for the next round.
    waiting: Vec<Read>,
    /// How many reads there are in all.
    reads: usize,
    /// When the latest round that a quorum answered was sent; [`NEVER`] when there is no lease.
    lease_start: u64,
    /// Rounds up to this one earn no lease.
    no_lease_to: u64,
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            latest: 0,
            open: Line::new(),
            waiting: Vec::new(),
            reads: 0,
            lease_start: NEVER,
            no_lease_to: 0,
        }
    }
}

impl Rounds {
    /// The round that was sent last.
    pub(crate) fn latest(&self) -> u64 {
        self.latest
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many reads there are, waiting and under way.
    pub(crate) fn reads(&self) -> usize {
        self.reads
    }

    /// Begins a round with all reads that wait.
    #[inline]
    fn begin(&mut self, tick: u64, bugs: Bugs) {
        self.latest += 1;
        let mut reads = std::mem::take(&mut self.waiting);
        if let (true, Some(sent)) = (bugs.has(SeededBug::ReadJoinsSentRound), self.open.front_mut()) {
            sent.reads.append(&mut reads);
        }
        match self.open.back_mut() {
            // Of rounds without reads, those of one tick earn the same lease, so one entry stands for all of them.
            Some(round) if reads.is_empty() && round.reads.is_empty() && round.start_tick == tick => {
                round.id = self.latest;
            }
            _ => self.open.push_back(Round { id: self.latest, start_tick: tick, reads }),
        }
    }

    /// A quorum has answered all rounds up to `id`; returns the reads of these. The lease starts where a round was sent,
    /// or (a [`SeededBug`]) at `lease_from`.
    #[inline]
    fn settle(&mut self, id: u64, lease_from: Option<u64>) -> Vec<Read> {
        let mut reads = Vec::new();
        while let Some(round) = self.open.front()
            && round.id <= id
        {
            if round.id > self.no_lease_to {
                self.lease_start = lease_from.unwrap_or(round.start_tick);
            }
            let round = self.open.pop_front().expect("there is a first one");
            if !round.reads.is_empty() {
                reads.extend(round.reads);
            }
        }
        self.reads -= reads.len();
        reads
    }

    /// Gives up the rounds that were sent `timeout` ticks ago or earlier; returns their reads.
    fn expire(&mut self, tick: u64, timeout: u64) -> Vec<Read> {
        let mut reads = Vec::new();
        while self.open.front().is_some_and(|round| round.start_tick + timeout <= tick) {
            reads.extend(self.open.pop_front().expect("there is a first one").reads);
        }
        self.reads -= reads.len();
        reads
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.open.shrink_to_fit();
        self.waiting.shrink_to_fit();
    }

    /// No lease is held, nor earned by a round that has been sent already.
    pub(crate) fn void_lease(&mut self) {
        self.lease_start = NEVER;
        self.no_lease_to = self.latest;
    }
}

/// A batch of reads that was forwarded.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
struct Batch {
    /// What the leader knows it by.
    seq: u64,
    sent_tick: u64,
    tokens: Vec<u64>,
}

/// The reads of a follower.
#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Forwards {
    next_seq: u64,
    waiting: Vec<u64>,
    sent: VecDeque<Batch>,
    /// How many reads there are in all.
    reads: usize,
}

impl Forwards {
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many reads there are, waiting and under way.
    pub(crate) fn reads(&self) -> usize {
        self.reads
    }

    /// When the oldest batch was sent.
    pub(crate) fn oldest_tick(&self) -> Option<u64> {
        self.sent.front().map(|batch| batch.sent_tick)
    }
}

impl<S: Storage> RawNode<S> {
    pub(crate) fn begin_read(&mut self, token: u64) -> Result<(), ReadError> {
        self.alive()?;
        if self.leader.is_some() {
            let id = self.config.id;
            return self.add_read(id, token);
        }
        if self.lead.is_zero() {
            return Err(ReadError::NoLeader);
        }
        // The first name differs from life to life, so that an answer to an earlier one is not taken for ours.
        let first = self.draw(0x7265_6164);
        let forwards =
            self.rare().forwards.get_or_insert_with(|| Forwards { next_seq: first, ..Forwards::default() });
        if forwards.reads >= READS_MAX {
            return Err(ReadError::TooManyReads);
        }
        forwards.reads += 1;
        forwards.waiting.push(token);
        Ok(())
    }

    fn add_read(&mut self, from: PeerId, token: u64) -> Result<(), ReadError> {
        let leader = self.leader.as_mut().expect("only a leader keeps rounds");
        // Before that, an earlier leader may have committed more than we know of (thesis §6.4, step 1).
        let known = self.log.committed() >= leader.term_start;
        if !known && !self.bugs.has(SeededBug::ReadIndexBeforeOwnTermCommit) {
            return Err(ReadError::NotCommittedInTerm);
        }
        if leader.rounds.reads >= READS_MAX {
            return Err(ReadError::TooManyReads);
        }
        leader.rounds.reads += 1;
        leader.rounds.waiting.push(Read { from, token, index: self.log.committed() });
        self.count(|counters| counters.reads += 1);
        self.dirty = true;
        Ok(())
    }

    /// Begins a round: to everybody when `all`, else to those whose answers count.
    pub(crate) fn begin_round(&mut self, all: bool) {
        let tick = self.tick;
        let Some(leader) = &mut self.leader else { return };
        let asked = leader.rounds.has_waiting();
        leader.rounds.begin(tick, self.bugs);
        self.count(|counters| counters.read_rounds += u64::from(asked));
        self.send_heartbeats(|node, to| all || node.conf.is_voter(to));
        if self.conf.voters.len() == 1 {
            // Alone, we are the quorum.
            self.settle_rounds();
        }
    }

    /// Answers the reads whose round a quorum has answered.
    #[inline]
    pub(crate) fn settle_rounds(&mut self) {
        let id = self.config.id;
        let Some(leader) = self.leader.as_mut().filter(|leader| !leader.rounds.open.is_empty()) else {
            return;
        };
        let latest = leader.rounds.latest;
        let answered = |place, peer| match leader.peers.get_near(place, peer) {
            _ if peer == id => latest,
            Some(progress) => progress.acked_round,
            None => 0,
        };
        let reached = quorum::reached(&self.conf, self.bugs, answered).min(latest);
        let answered_tick = self.bugs.has(SeededBug::LeaseFromAnswer).then_some(self.tick);
        let reads = leader.rounds.settle(reached, answered_tick);
        if !reads.is_empty() {
            self.answer_reads(reads);
        }
    }

    fn answer_reads(&mut self, reads: Vec<Read>) {
        let id = self.config.id;
        for read in reads {
            if read.from == id {
                self.rare().read_states.push(ReadState { token: read.token, index: Some(read.index) });
                continue;
            }
            self.send(read.from, Body::ReadIndexResp { index: read.index, token: read.token, reject: false });
            // It cannot serve the read before it knows that much to be committed.
            let leader = self.leader.as_mut().expect("leads");
            if let Some(progress) = leader.peers.get_mut(read.from)
                && progress.sent_commit < read.index
            {
                progress.poked = true;
                self.dirty = true;
            }
        }
    }

    /// Refuses the reads that have waited for an election timeout.
    pub(crate) fn expire_rounds(&mut self) {
        let (tick, timeout) = (self.tick, u64::from(self.config.election_tick));
        if let Some(leader) = self.leader.as_mut().filter(|leader| !leader.rounds.open.is_empty()) {
            let reads = leader.rounds.expire(tick, timeout);
            self.refuse(reads);
        }
    }

    /// Refuses all reads of our leadership, which is over.
    pub(crate) fn refuse_rounds(&mut self, mut rounds: Rounds) {
        let waiting = std::mem::take(&mut rounds.waiting);
        let open = rounds.open.into_iter().flat_map(|round| round.reads);
        self.refuse(open.chain(waiting).collect());
    }

    fn refuse(&mut self, reads: Vec<Read>) {
        for read in reads {
            if read.from == self.config.id {
                self.rare().read_states.push(ReadState { token: read.token, index: None });
            } else {
                let body = Body::ReadIndexResp { index: LogIndex::ZERO, token: read.token, reject: true };
                self.send(read.from, body);
            }
        }
    }

    /// A follower asks.
    pub(crate) fn on_read_index(&mut self, from: PeerId, token: u64) {
        if self.leader.is_none() || !self.conf.contains(from) || self.add_read(from, token).is_err() {
            let body = Body::ReadIndexResp { index: LogIndex::ZERO, token, reject: true };
            self.send(from, body);
        }
    }

    /// Sends the reads that wait to the leader, as one.
    #[inline]
    pub(crate) fn forward_reads(&mut self) {
        let (from, to, tick) = (self.config.id, self.lead, self.tick);
        let Some(rare) = &mut self.rare else { return };
        let Some(forwards) = &mut rare.forwards else { return };
        if forwards.waiting.is_empty() {
            return;
        }
        forwards.next_seq = forwards.next_seq.wrapping_add(1);
        let seq = forwards.next_seq;
        let tokens = std::mem::take(&mut forwards.waiting);
        forwards.sent.push_back(Batch { seq, sent_tick: tick, tokens });
        self.outbox.push(Message { from, to, term: Term::ZERO, body: Body::ReadIndex { token: seq } });
    }

    /// The leader answers.
    pub(crate) fn on_read_index_resp(&mut self, index: LogIndex, token: u64, reject: bool) {
        let Some(rare) = &mut self.rare else { return };
        let Some(forwards) = &mut rare.forwards else { return };
        let Some(at) = forwards.sent.iter().position(|batch| batch.seq == token) else { return };
        let batch = forwards.sent.remove(at).expect("found at this position");
        forwards.reads -= batch.tokens.len();
        let index = (!reject).then_some(index);
        rare.read_states.extend(batch.tokens.into_iter().map(|token| ReadState { token, index }));
    }

    /// Refuses forwarded reads that were not answered for an election timeout: question or answer was lost.
    pub(crate) fn expire_forwards(&mut self) {
        let (tick, timeout) = (self.tick, u64::from(self.config.election_tick));
        let Some(rare) = &mut self.rare else { return };
        let Some(forwards) = &mut rare.forwards else { return };
        while forwards.sent.front().is_some_and(|batch| batch.sent_tick + timeout <= tick) {
            let batch = forwards.sent.pop_front().expect("there is a first one");
            forwards.reads -= batch.tokens.len();
            let refused = batch.tokens.into_iter().map(|token| ReadState { token, index: None });
            rare.read_states.extend(refused);
        }
    }

    /// Refuses all forwarded reads: the leader they were sent to leads no longer, as far as we know.
    pub(crate) fn refuse_forwards(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        let Some(forwards) = &mut rare.forwards else { return };
        let sent = std::mem::take(&mut forwards.sent).into_iter().flat_map(|batch| batch.tokens);
        let tokens = sent.chain(std::mem::take(&mut forwards.waiting));
        rare.read_states.extend(tokens.map(|token| ReadState { token, index: None }));
        forwards.reads = 0;
    }

    pub(crate) fn current_lease(&self) -> Option<Lease> {
        let leader = self.leader.as_ref()?;
        debug_assert_eq!(self.role, Role::Leader, "leader state belongs to the role");
        let transferring = leader.transfer.is_some() && !self.bugs.has(SeededBug::LeaseDuringTransfer);
        if !self.config.check_quorum || transferring || self.log.committed() < leader.term_start {
            return None;
        }
        // Others may have applied a change that we have only committed. If it makes one of them the sole voter, that
        // one owes nobody silence after a restart, and leads while we still count on what it said before.
        if self.log.has_unapplied_conf_change() && !self.bugs.has(SeededBug::LeaseAcrossConfChange) {
            return None;
        }
        // Whoever needs nobody else's word holds it at any time.
        let others = |_, peer| u64::from(peer == self.config.id);
        let alone = quorum::reached(&self.conf, self.bugs, others) >= 1;
        let start_tick = if alone { self.tick } else { leader.rounds.lease_start };
        (start_tick != NEVER).then_some(Lease { term: self.term, start_tick })
    }
}
