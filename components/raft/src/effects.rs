//! Collecting what is to be done: timers first, so that messages of the same turn come before them, then what a leader
//! builds late, then the write, the messages in their two classes, and what may be applied.

use crate::error::Poison;
use crate::{Append, Body, HardState, RawNode, Ready, SoftState, Storage};

impl<S: Storage> RawNode<S> {
    pub(crate) fn hard_state(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.log.committed(),
            lead: self.lead,
            lead_epoch: 0,
        }
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState { lead: self.lead, role: self.role }
    }

    /// What of the hard state makes a write: who leads is noted along with it, and never alone.
    fn hard_state_differs(&self) -> bool {
        let old = &self.handed_state;
        (old.term, old.vote, old.commit) != (self.term, self.vote, self.log.committed())
    }

    /// The tick at which a timer is due; `None` when none runs.
    pub(crate) fn deadline(&self) -> Option<u64> {
        if let Some(leader) = &self.leader {
            return (leader.peers.len() > 1).then_some(leader.heartbeat_tick);
        }
        let forwards = self.forwards.as_ref().and_then(|forwards| forwards.oldest_tick());
        let forwards = forwards.map(|tick| tick + u64::from(self.config.election_tick));
        let election = self.promotable().then(|| self.election_deadline());
        match (forwards, election) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn timer_is_due(&self) -> bool {
        self.deadline().is_some_and(|deadline| self.tick >= deadline)
    }

    pub(crate) fn has_effects(&self) -> bool {
        self.dirty
            || !self.outbox.is_empty()
            || !self.read_states.is_empty()
            || self.log.has_unwritten()
            || self.log.has_page(self.config.max_committed_bytes_per_ready)
            || self.hard_state_differs()
            || self.soft_state() != self.handed_soft
            || self.forwards.as_ref().is_some_and(|forwards| forwards.has_waiting())
            || self.timer_is_due()
    }

    fn run_timers(&mut self) {
        if self.leader.is_none() {
            self.expire_forwards();
            if self.promotable() && self.tick >= self.election_deadline() && self.begin_campaign().is_err() {
                // What stands in the way may be gone by the next timeout.
                self.restart_timer();
            }
            return;
        }
        if self.timer_is_due() {
            self.run_leader_timers();
        }
    }

    fn run_leader_timers(&mut self) {
        if self.is_quorum_stale() {
            self.become_follower(self.term, types::PeerId::ZERO);
            return;
        }
        let (tick, timeout) = (self.tick, u64::from(self.config.election_tick));
        let leader = self.leader.as_mut().expect("leads");
        leader.heartbeat_tick = tick + u64::from(self.config.heartbeat_tick);
        leader.ping = true;
        if leader.transfer.is_some_and(|transfer| tick - transfer.since_tick >= timeout) {
            self.abort_transfer();
        }
        self.expire_rounds();
        self.expire_snapshots();
    }

    /// What a leader says is built now, from all that came in.
    fn run_leader(&mut self) -> Result<(), Poison> {
        self.leave_joint_if_due()?;
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let ping = std::mem::take(&mut leader.ping);
        if ping || leader.rounds.has_waiting() {
            self.begin_round(ping);
        }
        self.complete_transfer();
        self.send_appends()
    }

    pub(crate) fn collect(&mut self) -> Result<Ready, Poison> {
        self.run_timers();
        self.run_leader()?;
        self.forward_reads();
        self.dirty = false;

        let soft = self.soft_state();
        let mut ready = Ready {
            soft: (soft != self.handed_soft).then_some(soft),
            append: self.collect_write(),
            read_states: std::mem::take(&mut self.read_states),
            ..Ready::default()
        };
        self.handed_soft = soft;
        // A term that could still be forgotten must not be heard of: after a crash we would live it a second time.
        let durable = self.durable_term >= self.term;
        for message in self.outbox.drain(..) {
            let promises = match &message.body {
                Body::AppendResp { .. } | Body::VoteResp { .. } => true,
                Body::Vote { kind, .. } => *kind != crate::VoteKind::Pre,
                _ => false,
            };
            let class = if durable && !promises { &mut ready.messages } else { &mut ready.messages_after };
            class.push(message);
        }
        if self.outbox.capacity() > 16 {
            self.outbox = Vec::new();
        }
        ready.committed = self.log.next_page(self.config.max_committed_bytes_per_ready, self.term)?;
        Ok(ready)
    }

    fn collect_write(&mut self) -> Option<Append> {
        let differs = self.hard_state_differs();
        if !differs && !self.log.has_unwritten() {
            return None;
        }
        let state = self.hard_state();
        let promised = (state.term, state.vote) != (self.handed_state.term, self.handed_state.vote);
        let (snapshot, entries, token) = self.log.hand_out_write(state.term);
        self.handed_state = state;
        Some(Append {
            hard_state: differs.then_some(state),
            must_sync: promised || !entries.is_empty() || snapshot.is_some(),
            entries,
            snapshot,
            token,
        })
    }
}
