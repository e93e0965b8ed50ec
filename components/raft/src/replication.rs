//! The log's way from the leader to everybody (thesis §3.5 to §3.6, §10.2.1).
//!
//! Appends are built late, when the effects are collected: whatever was proposed since then leaves as one message per
//! peer. The commit index rides on appends and heartbeats and never travels alone, unless somebody waits for it, or
//! [`Config::lazy_commit`](crate::Config::lazy_commit) is off.

use crate::bugs::SeededBug;
use crate::error::Poison;
use crate::line::Line;
use crate::log::Appended;
use crate::read::Rounds;
use crate::slice::LogSlice;
use crate::step::{Refused, invalid};
use crate::tracker::{Peers, Progress, ProgressState, quorum};
use crate::transfer::Transfer;
use crate::{
    Body, Dropped, Entry, EntryId, EntryKind, FetchContext, Message, RawNode, Reject, Snapshot, StepError,
    Storage, StorageError,
};
use bytes::Bytes;
use env::sim_point;
use std::ops::Range;
use types::{LogIndex, PeerId};

/// How many election timeouts a snapshot may take without a word. If it is merely slow, storage is asked for another
/// and can say that it is not available yet.
const SNAPSHOT_TIMEOUT_ELECTIONS: u64 = 30;

/// No tick that comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// What only a leader needs.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct LeaderState {
    pub(crate) peers: Peers,
    /// The first entry of our term. What is committed from here on is known to be.
    pub(crate) term_start: LogIndex,
    /// The last entry that may hold a change of members. None is proposed before it is applied.
    pub(crate) pending_conf_index: LogIndex,
    pub(crate) uncommitted: Uncommitted,
    /// What is proposed next is counted with what was proposed last: nothing has been sent in between.
    pub(crate) batch_open: bool,
    pub(crate) transfer: Option<Transfer>,
    /// The tick of the next heartbeat.
    pub(crate) heartbeat_tick: u64,
    /// The tick in which a quorum was last found to be heard; [`NEVER`] when its members have changed since.
    pub(crate) fresh_tick: u64,
    /// Send heartbeats now, whatever the tick.
    pub(crate) ping: bool,
    pub(crate) rounds: Rounds,
}

impl LeaderState {
    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.peers.shrink();
        self.uncommitted.batches.shrink_to_fit();
        self.rounds.shrink();
    }
}

/// The bytes that were proposed and are not committed. Counted in batches: what was proposed between two commits.
#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Uncommitted {
    /// The last index of each batch and its bytes.
    batches: Line<(LogIndex, u64), 1>,
    /// Invariant: the sum over `batches`.
    bytes: u64,
}

impl Uncommitted {
    /// Whether `bytes` more fit. Something always fits when there is nothing, and nothing always fits.
    #[inline]
    fn accepts(&self, bytes: u64, bytes_max: u64) -> bool {
        self.bytes == 0 || bytes == 0 || self.bytes + bytes <= bytes_max
    }

    #[inline]
    /// What ends at `index` weighs `bytes`, and is counted with what came before it, if it `joins` that.
    fn add(&mut self, index: LogIndex, bytes: u64, joins: bool) {
        match self.batches.back_mut() {
            Some(batch) if joins => *batch = (index, batch.1 + bytes),
            _ => self.batches.push_back((index, bytes)),
        }
        self.bytes += bytes;
    }

    #[inline]
    fn release_to(&mut self, committed: LogIndex) {
        while let Some(&(last, bytes)) = self.batches.front()
            && last <= committed
        {
            self.batches.pop_front();
            self.bytes -= bytes;
        }
        self.batches.forget_burst(16);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Pushes a message that is written where it stays: to write it down and then move it would wait for what was just
/// written, which takes longer than all that is written.
#[inline]
fn push_in_place(outbox: &mut Vec<Message>, message: impl FnOnce() -> Message) {
    outbox.extend(std::iter::once_with(message));
}

impl<S: Storage> RawNode<S> {
    // ---- proposing ----

    pub(crate) fn may_propose(&mut self) -> Result<(), Dropped> {
        self.alive()?;
        let Some(leader) = &self.leader else { return Err(Dropped::NotLeader { lead: self.lead }) };
        if let Some(transfer) = &leader.transfer {
            return Err(Dropped::Transferring { to: transfer.to });
        }
        // Within a tick a quorum does not become stale, so one question serves all proposals of a turn.
        if leader.fresh_tick != self.tick {
            if self.is_quorum_stale() || sim_point!("raft.refuse_proposal") {
                return Err(Dropped::QuorumStale);
            }
            let tick = self.tick;
            self.leader.as_mut().expect("leads").fresh_tick = tick;
        }
        Ok(())
    }

    pub(crate) fn propose_entry(&mut self, kind: EntryKind, data: Bytes) -> Result<EntryId, Dropped> {
        let leader = self.leader.as_ref().expect("only a leader may propose");
        if !leader.uncommitted.accepts(data.len() as u64, self.config.max_uncommitted_bytes()) {
            return Err(Dropped::TooManyUncommitted);
        }
        Ok(self.append_as_leader(kind, data))
    }

    /// Appends an entry of this term to our own log. It leaves with the next effects.
    pub(crate) fn append_as_leader(&mut self, kind: EntryKind, data: Bytes) -> EntryId {
        let id = EntryId::new(self.term, self.log.last().index.next());
        let leader = self.leader.as_mut().expect("only a leader appends");
        leader.uncommitted.add(id.index, data.len() as u64, std::mem::replace(&mut leader.batch_open, true));
        self.log.append_own(Entry { term: id.term, index: id.index, kind, data });
        if self.bugs.has(SeededBug::OwnEntryBeforeSync)
            && let Some(own) = leader.peers.get_mut(self.config.id)
        {
            own.advance(id.index, self.tick);
        }
        self.dirty = true;
        id
    }

    // ---- sending ----

    pub(crate) fn send(&mut self, to: PeerId, body: Body) {
        self.outbox.push(Message { from: self.config.id, to, term: self.term, body });
    }

    /// As [`RawNode::send`], for what is said all the time.
    #[inline]
    pub(crate) fn send_often(&mut self, to: PeerId, body: impl FnOnce() -> Body) {
        let (from, term) = (self.config.id, self.term);
        push_in_place(&mut self.outbox, || Message { from, to, term, body: body() });
    }

    /// Whoever has not been sent our commit index is sent an append, even an empty one.
    pub(crate) fn poke_all(&mut self) {
        let committed = self.log.committed();
        let Some(leader) = &mut self.leader else { return };
        for (_, progress) in leader.peers.iter_mut() {
            progress.poked |= progress.sent_commit < committed;
        }
        self.dirty = true;
    }

    /// Sends everybody what they lack, as far as their windows allow.
    #[inline]
    pub(crate) fn send_appends(&mut self) -> Result<(), Poison> {
        let Some(leader) = &mut self.leader else { return Ok(()) };
        leader.batch_open = false;
        self.log.seal();
        let bytes_max = if sim_point!("raft.lone_entry") { 0 } else { self.config.max_size_per_message() };
        if self.send_last_run(bytes_max) { Ok(()) } else { self.send_to_all(bytes_max) }
    }

    /// Sends what has just been proposed to all who lack that and nothing else, as it mostly is, if it weighs `bytes_max` at
    /// most. False when that was not all there is to send.
    #[inline]
    fn send_last_run(&mut self, bytes_max: u64) -> bool {
        let Self { leader: Some(leader), log, outbox, config, counters, term, .. } = self else {
            return true;
        };
        let run = log.last_run(bytes_max);
        let (last, commit) = (log.last().index, log.committed());
        for (to, progress) in leader.peers.iter_mut().filter(|(to, _)| *to != config.id) {
            if !progress.lacks(last, commit, config.lazy_commit) {
                continue;
            }
            let Some((prev, entries)) =
                run.filter(|(prev, _)| progress.is_streaming_from(prev.index, config))
            else {
                return false;
            };
            progress.next = last.next();
            progress.inflights.add(last, entries.size_bytes());
            progress.poked = false;
            progress.sent_commit = progress.sent_commit.max(commit);
            if let Some(counters) = counters {
                counters.appends_sent += 1;
                counters.entries_sent += entries.len() as u64;
            }
            push_in_place(outbox, || Message {
                from: config.id,
                to,
                term: *term,
                body: Body::Append { prev, entries: entries.clone(), commit },
            });
        }
        true
    }

    /// Sends everybody what they lack, in appends of about `bytes_max` at most.
    fn send_to_all(&mut self, bytes_max: u64) -> Result<(), Poison> {
        let Some(mut leader) = self.leader.take() else { return Ok(()) };
        let mut result = Ok(());
        let round = leader.rounds.latest();
        // Mostly all followers lack the same.
        let mut built = None;
        let id = self.config.id;
        for (to, progress) in leader.peers.iter_mut().filter(|(to, _)| *to != id) {
            while result.is_ok() && self.is_sending(progress) {
                result = self.send_append_to(to, progress, round, bytes_max, &mut built);
            }
        }
        self.leader = Some(leader);
        result
    }

    /// There is something to send to this peer, and it may be sent now.
    fn is_sending(&self, progress: &Progress) -> bool {
        let lacks = progress.lacks(self.log.last().index, self.log.committed(), self.config.lazy_commit);
        let blocked = match progress.state {
            ProgressState::Probe => progress.paused,
            // With a full window only an empty append may pass: it finds out whether the window was lost.
            ProgressState::Replicate => !progress.poked && progress.is_window_full(&self.config),
            ProgressState::Snapshot { .. } => true,
        };
        lacks && !progress.fetching && !blocked
    }

    /// Sends one peer an append of what it lacks, or whatever else it needs. The last append that was `built` may serve it,
    /// too.
    fn send_append_to(
        &mut self,
        to: PeerId,
        progress: &mut Progress,
        round: u64,
        bytes_max: u64,
        built: &mut Option<LogSlice>,
    ) -> Result<(), Poison> {
        // An append of nothing is no use to the others.
        let nothing = progress.state == ProgressState::Replicate && progress.is_window_full(&self.config);
        let shared = built.as_ref().filter(|slice| !nothing && slice.prev().index == progress.next.prev());
        let slice = match shared {
            Some(slice) => Ok(slice.clone()),
            None => {
                let high = if nothing { progress.next } else { self.log.last().index.next() };
                self.build_append(to, progress.next..high, bytes_max)
            }
        };
        match slice {
            Ok(slice) => {
                if !nothing && shared.is_none() {
                    *built = Some(slice.clone());
                }
                self.send_append(to, progress, slice, round);
                Ok(())
            }
            Err(StorageError::LogTemporarilyUnavailable) => {
                progress.fetching = true;
                Ok(())
            }
            // What the peer needs next is compacted away, or about to be.
            Err(StorageError::Compacted | StorageError::Unavailable) => self.send_snapshot(to, progress),
            Err(error) => Err(Poison::storage("entries to send", progress.next, &error)),
        }
    }

    /// An append of the entries in `range`, as many as weigh about `bytes_max`.
    fn build_append(
        &self,
        to: PeerId,
        range: Range<LogIndex>,
        bytes_max: u64,
    ) -> Result<LogSlice, StorageError> {
        let (prev, context) = (range.start.prev(), FetchContext { to, term: self.term });
        let prev = EntryId::new(self.log.term(prev)?, prev);
        let entries = self.log.entries(range.start, range.end, bytes_max, context)?;
        LogSlice::new(self.term, prev, entries)
            .map_err(|what| StorageError::Other(format!("a log that {what}")))
    }

    fn send_append(&mut self, to: PeerId, progress: &mut Progress, slice: LogSlice, round: u64) {
        let commit = self.log.committed();
        if progress.state != ProgressState::Replicate {
            // It leaves together with the heartbeats of the latest round: their answer says nothing of it.
            progress.pause(round);
        } else if !slice.entries().is_empty() {
            let last = slice.last().index;
            progress.next = last.next();
            progress.inflights.add(last, slice.entries().size_bytes());
        }
        progress.poked = false;
        progress.sent_commit = progress.sent_commit.max(commit);
        self.count(|counters| {
            counters.appends_sent += 1;
            counters.entries_sent += slice.entries().len() as u64;
        });
        self.send(to, Body::Append { prev: slice.prev(), entries: slice.into_entries(), commit });
    }

    fn send_snapshot(&mut self, to: PeerId, progress: &mut Progress) -> Result<(), Poison> {
        // Until it succeeds, the peer's next answer (to a heartbeat, say) makes us try again.
        progress.state = ProgressState::Probe;
        progress.inflights.clear();
        progress.pause(0);
        progress.poked = false;
        // Building snapshots over and over for a peer that is gone costs everybody (etcd#3778).
        if !progress.is_active(self.tick, self.config.election_tick) {
            return Ok(());
        }
        self.count(|counters| counters.snapshots_asked += 1);
        let mut at_least = self.log.first_index().prev();
        let mut snapshot = self.log.storage().snapshot(at_least, to);
        if snapshot.as_ref().is_ok_and(|snapshot| !snapshot.meta.conf_state.contains(to)) {
            // It is older than the peer's membership, and so the peer would ignore it.
            at_least = self.log.applied();
            snapshot = self.log.storage().snapshot(at_least, to);
        }
        match snapshot {
            Ok(snapshot) => {
                let (meta, committed) = (&snapshot.meta, self.log.committed());
                if meta.index < at_least || meta.index > committed {
                    return Err(Poison::new(format!(
                        "storage gave {meta:?} for peer {to}, asked for {at_least} at least, committed is {committed}"
                    )));
                }
                if !meta.conf_state.contains(to) {
                    return Ok(());
                }
                progress.become_snapshot(meta.index, self.tick);
                self.count(|counters| counters.snapshots_sent += 1);
                self.send(to, Body::Snapshot { snapshot: Box::new(snapshot) });
                Ok(())
            }
            Err(StorageError::Other(what)) => {
                Err(Poison::new(format!("storage, snapshot at {at_least}: {what}")))
            }
            Err(_) => Ok(()),
        }
    }

    /// Gives up on snapshots of which nothing was heard for very long: whoever was to report them has forgotten.
    pub(crate) fn expire_snapshots(&mut self) {
        let (tick, timeout) = (self.tick, SNAPSHOT_TIMEOUT_ELECTIONS * u64::from(self.config.election_tick));
        let Some(leader) = &mut self.leader else { return };
        for (_, progress) in leader.peers.iter_mut() {
            if tick - progress.moved_tick >= timeout {
                progress.abort_snapshot();
            }
        }
    }

    /// Sends a heartbeat of the latest round to everybody that `wanted` names.
    pub(crate) fn send_heartbeats(&mut self, wanted: impl Fn(&Self, PeerId) -> bool) {
        let Some(mut leader) = self.leader.take() else { return };
        let round = leader.rounds.latest();
        for (to, progress) in leader.peers.iter_mut() {
            if to != self.config.id && wanted(self, to) {
                // Beyond what the peer is known to hold, the index might stand for other entries there.
                let unmatched = self.bugs.has(SeededBug::HeartbeatCommitsUnmatched);
                let matched = if unmatched { LogIndex(u64::MAX) } else { progress.matched };
                let commit = matched.min(self.log.committed());
                progress.sent_commit = progress.sent_commit.max(commit);
                self.count(|counters| counters.heartbeats_sent += 1);
                self.send_often(to, || Body::Heartbeat { commit, round });
            }
        }
        self.leader = Some(leader);
    }

    // ---- the follower's side ----

    pub(crate) fn on_append(
        &mut self,
        from: PeerId,
        slice: LogSlice,
        commit: LogIndex,
    ) -> Result<(), Poison> {
        assert!(self.leader.is_none(), "INV-RAFT-2: a leader of term {} takes entries of {from}", self.term);
        let rejected = slice.prev().index;
        match self.log.append_from_leader(slice)? {
            Appended::Agrees(index) => {
                // Only what this append has proved to agree may be committed by it (scylladb#9965).
                let unproven = self.bugs.has(SeededBug::CommitBeyondProven);
                let proven = if unproven { self.log.last().index } else { index };
                self.log.commit_to(commit.min(proven))?;
                let commit = self.log.committed();
                self.send_often(from, || Body::AppendResp { index, commit, reject: None });
            }
            Appended::Conflict(hint) => {
                let (index, commit) = (LogIndex::ZERO, self.log.committed());
                self.send(from, Body::AppendResp { index, commit, reject: Some(Reject { rejected, hint }) });
            }
        }
        Ok(())
    }

    pub(crate) fn on_heartbeat(&mut self, from: PeerId, commit: LogIndex, round: u64) -> Result<(), Poison> {
        self.log.commit_to(commit)?;
        let commit = self.log.committed();
        self.send_often(from, || Body::HeartbeatResp { commit, round });
        Ok(())
    }

    pub(crate) fn on_snapshot(&mut self, from: PeerId, snapshot: Snapshot) -> Result<(), Poison> {
        let meta = &snapshot.meta;
        let at = EntryId::new(meta.term, meta.index);
        if at.index <= self.log.committed() {
            // A snapshot stands for what is committed, so ours can differ only if one of us is damaged.
            if let Ok(ours) = self.log.term(at.index)
                && ours != at.term
            {
                return Err(Poison::conflict(
                    "snapshot differs from what is committed",
                    at.index,
                    ours,
                    at.term,
                ));
            }
        } else if self.log.holds(at)? {
            self.log.commit_to(at.index)?;
        } else if meta.conf_state.contains(self.config.id) {
            // Its members become ours when it is installed. Until then entries before it may still be applied, on the
            // members that we had (tikv#6344).
            self.rare().installing_conf = Some(meta.conf_state.clone());
            self.log.restore(self.term, snapshot);
        } else {
            // We were removed: whatever this is, it is not for us (thesis §4.2.3).
            return Ok(());
        }
        let committed = self.log.committed();
        self.send(from, Body::AppendResp { index: committed, commit: committed, reject: None });
        Ok(())
    }

    // ---- the leader's side ----

    pub(crate) fn on_append_resp(
        &mut self,
        from: PeerId,
        index: LogIndex,
        reject: Option<Reject>,
    ) -> Result<(), Refused> {
        let tick = self.tick;
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let Some(progress) = leader.peers.get_mut(from) else {
            return Err(Box::new(StepError::UnknownSender { from }));
        };
        if index > self.log.last().index {
            return Err(invalid("acknowledges entries that do not exist"));
        }
        progress.hear(tick);
        if let Some(reject) = reject {
            // Where our own log has an older term than the hint's, the logs cannot agree before that either, so whole
            // terms are skipped instead of single entries (thesis §3.5, end).
            let mut hint = reject.hint;
            if !hint.term.is_zero() {
                hint = self.log.agreement_hint(hint.index, hint.term)?;
            }
            self.dirty |= progress.retreat(reject.rejected, hint);
            self.count(|counters| counters.appends_refused += 1);
            return Ok(());
        }
        let moved = progress.advance(index, tick);
        match progress.state {
            // Nothing at all is no match: so speaks a peer that only tells us its term.
            ProgressState::Probe if moved || (index == progress.matched && !index.is_zero()) => {
                progress.become_replicate();
            }
            // Any snapshot that reconnects will do, also one that we did not send (etcd-io/raft#110).
            ProgressState::Snapshot { .. } if progress.matched.next() >= self.log.first_index() => {
                progress.become_replicate();
            }
            // It has arrived, but our log has been compacted beyond it meanwhile.
            ProgressState::Snapshot { index } if progress.matched >= index => progress.become_probe(),
            ProgressState::Replicate => progress.inflights.free_to(index),
            _ => {}
        }
        self.dirty = true;
        // Whoever holds no more than what is committed adds nothing to it.
        if moved && index > self.log.committed() {
            self.commit_if_reached()?;
        }
        Ok(())
    }

    pub(crate) fn on_heartbeat_resp(
        &mut self,
        from: PeerId,
        commit: LogIndex,
        round: u64,
    ) -> Result<(), Refused> {
        let tick = self.tick;
        let last = self.log.last().index;
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let Some(progress) = leader.peers.get_mut(from) else {
            return Err(Box::new(StepError::UnknownSender { from }));
        };
        if round > leader.rounds.latest() {
            return Err(invalid("answers a round that was never sent"));
        }
        progress.hear(tick);
        progress.acked_round = progress.acked_round.max(round);
        match progress.state {
            ProgressState::Probe => {
                if round > progress.paused_round {
                    progress.paused = false;
                    progress.poked = true;
                    self.dirty = true;
                }
            }
            // Appends may be lost, and then nothing but this tells us. While answers come in, nothing is asked.
            ProgressState::Replicate => {
                let quiet = tick - progress.moved_tick >= u64::from(self.config.heartbeat_tick);
                if quiet && progress.matched < last {
                    progress.poked = true;
                    self.dirty = true;
                }
            }
            // It has taken the snapshot, or another, and only its word was lost.
            ProgressState::Snapshot { index } => {
                if commit >= index {
                    progress.become_probe();
                    self.dirty = true;
                }
            }
        }
        self.settle_rounds();
        Ok(())
    }

    /// Commits what a quorum holds durably, if it reaches into our own term: what an earlier leader left is committed
    /// with it and never by counting (thesis §3.6.2, figure 3.7).
    pub(crate) fn commit_if_reached(&mut self) -> Result<(), Poison> {
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let matched = |place, id| leader.peers.get_near(place, id).map_or(0, |progress| progress.matched.0);
        let mut reached = LogIndex(quorum::reached(&self.conf, self.bugs, matched));
        if self.bugs.has(SeededBug::RemovedVoterCounts) {
            let mut all: Vec<u64> = self.conf.members().map(|id| matched(0, id)).collect();
            all.sort_unstable();
            let place = all.len().saturating_sub(quorum::majority(self.conf.voters.len(), self.bugs));
            reached = reached.max(LogIndex(all[place]));
        }
        let own_term = reached >= leader.term_start || self.bugs.has(SeededBug::CommitOlderTermByCounting);
        if reached > self.log.committed() && own_term {
            self.log.commit_to(reached)?;
            leader.uncommitted.release_to(reached);
            self.dirty = true;
        }
        Ok(())
    }

    /// Our own log is durable up to where it says.
    pub(crate) fn on_own_progress(&mut self) -> Result<(), Poison> {
        let (id, persisted, tick) = (self.config.id, self.log.persisted(), self.tick);
        let Some(leader) = &mut self.leader else { return Ok(()) };
        if let Some(progress) = leader.peers.get_mut(id)
            && progress.advance(persisted, tick)
        {
            return self.commit_if_reached();
        }
        Ok(())
    }
}
