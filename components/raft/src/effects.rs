//! Collecting what is to be done: timers first, so that messages of the same turn come before them, then what a leader
//! builds late, then the write, the messages in their two classes, and what may be applied.

use crate::bugs::SeededBug;
use crate::error::Poison;
use crate::raw_node::Handed;
use crate::{Append, Body, HardState, Message, RawNode, Ready, SoftState, Storage, VoteKind};

/// For how many messages a group keeps room.
const OUTBOX_ROOM: usize = 8;

/// Hands `said` out in `list`, which is empty. Both keep room: a driver's list as much as it ever needed, a group little.
fn hand_over(said: &mut Vec<Message>, list: &mut Vec<Message>) {
    if list.capacity() <= OUTBOX_ROOM {
        std::mem::swap(said, list);
        return;
    }
    list.append(said);
    if said.capacity() > OUTBOX_ROOM {
        *said = Vec::new();
    }
}

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

    /// There is something that must not be forgotten. What is committed is not of it: the others know, too.
    #[inline]
    fn has_promised(&self) -> bool {
        (self.term, self.vote) != (self.handed_state.term, self.handed_state.vote)
    }

    /// The tick at which a timer is due; `None` when none runs, as in a poisoned group.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<u64> {
        if let Some(leader) = &self.leader {
            return (leader.peers.len() > 1).then_some(leader.heartbeat_tick);
        }
        let election = self.promotable().then(|| self.election_deadline());
        if self.rare.is_none() { election } else { self.rare_deadline(election) }
    }

    fn rare_deadline(&self, election: Option<u64>) -> Option<u64> {
        if self.poisoned().is_some() {
            return None;
        }
        let oldest = self.forwards().and_then(|forwards| forwards.oldest_tick());
        let forwards = oldest.map(|tick| tick + u64::from(self.config.election_tick));
        forwards.into_iter().chain(election).min()
    }

    pub(crate) fn timer_is_due(&self) -> bool {
        self.deadline().is_some_and(|deadline| self.tick >= deadline)
    }

    /// There is something to say, whatever the time.
    pub(crate) fn has_news(&self) -> bool {
        if self.rare.is_some() { self.has_rare_news() } else { self.has_common_news() }
    }

    #[inline]
    fn has_common_news(&self) -> bool {
        self.dirty
            || !self.outbox.is_empty()
            || self.log.has_unwritten()
            || self.log.has_page(self.config.max_committed_bytes_per_ready())
            || self.has_promised()
            || self.soft_state() != self.handed_soft
    }

    fn has_rare_news(&self) -> bool {
        if self.poisoned().is_some() {
            return self.has_last_words();
        }
        self.has_common_news()
            || self.has_read_states()
            || self.forwards().is_some_and(|forwards| forwards.has_waiting())
    }

    #[inline]
    fn run_timers(&mut self) {
        match &self.leader {
            Some(leader) if self.tick >= leader.heartbeat_tick => self.run_leader_timers(),
            Some(_) => {}
            // Whoever has heard its leader in this tick, as most that are asked have, waits for a tick at least.
            None if self.rare.is_none() && self.tick == self.timer.start_tick => {}
            None => self.run_follower_timers(),
        }
    }

    fn run_follower_timers(&mut self) {
        self.expire_forwards();
        if self.promotable() && self.tick >= self.election_deadline() && self.begin_campaign().is_err() {
            // What stands in the way may be gone by the next timeout.
            self.restart_timer();
        }
    }

    fn run_leader_timers(&mut self) {
        if !self.timer_is_due() {
            // There is nobody to be sent a heartbeat.
            return;
        }
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

    pub(crate) fn has_last_words(&self) -> bool {
        self.has_read_states() || self.soft_state() != self.handed_soft
    }

    /// What a poisoned group still says: those who wait for it must not wait for ever.
    pub(crate) fn say_last_words(&mut self, ready: &mut Ready) {
        let soft = self.soft_state();
        ready.soft = (soft != self.handed_soft).then_some(soft);
        self.handed_soft = soft;
        ready.read_states = std::mem::take(&mut self.rare().read_states);
    }

    fn has_read_states(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.read_states.is_empty())
    }

    /// Says what is said late: timeouts first, then what a leader builds from all that came in, then reads for the leader.
    pub(crate) fn say_everything(&mut self) -> Result<(), Poison> {
        self.run_timers();
        self.run_leader()?;
        self.forward_reads();
        Ok(())
    }

    /// Fills `ready`, which is clear, but may have room from its last use.
    pub(crate) fn collect(&mut self, ready: &mut Ready) -> Result<(), Poison> {
        if self.outbox.is_empty() {
            // What is said from here on, which is all that most leaders say, needs no room of our own.
            std::mem::swap(&mut self.outbox, &mut ready.messages);
        }
        self.say_everything()?;
        self.dirty = false;
        let soft = self.soft_state();
        if soft != self.handed_soft {
            ready.soft = Some(soft);
            self.handed_soft = soft;
        }
        self.collect_write(ready);
        if let Some(rare) = self.rare.as_mut().filter(|rare| !rare.read_states.is_empty()) {
            ready.read_states = std::mem::take(&mut rare.read_states);
        }
        self.sort_messages(ready);
        let bytes_max = self.config.max_committed_bytes_per_ready();
        if self.log.has_page(bytes_max) {
            ready.committed = self.log.next_page(bytes_max, self.term)?;
        }
        Ok(())
    }

    /// Messages go to their two classes; mostly they are all of one, and then they need not move.
    fn sort_messages(&mut self, ready: &mut Ready) {
        let waiting = self.outbox.iter().filter(|message| self.waits(message)).count();
        if waiting == 0 {
            hand_over(&mut self.outbox, &mut ready.messages);
        } else if waiting == self.outbox.len() {
            hand_over(&mut self.outbox, &mut ready.messages_after);
        } else {
            for message in std::mem::take(&mut self.outbox) {
                let class =
                    if self.waits(&message) { &mut ready.messages_after } else { &mut ready.messages };
                class.push(message);
            }
        }
    }

    /// Whether `message` leaves only when all that was handed out for writing is durable (INV-RAFT-12).
    fn waits(&self, message: &Message) -> bool {
        let (promises, early) = match &message.body {
            Body::AppendResp { .. } => (true, self.bugs.has(SeededBug::AppendAckBeforeSync)),
            Body::VoteResp { .. } => (true, self.bugs.has(SeededBug::VoteNotDurable)),
            Body::Vote { kind, .. } => (*kind != VoteKind::Pre, false),
            _ => (false, self.bugs.has(SeededBug::SendBeforeTermDurable)),
        };
        // A term that could still be forgotten must not be heard of: after a crash we would live it a second time.
        (promises || self.durable_term < self.term) && !early
    }

    /// Puts what is to be written into `ready`.
    fn collect_write(&mut self, ready: &mut Ready) {
        if !self.has_promised() && !self.log.has_unwritten() {
            return;
        }
        let (state, handed) = (self.hard_state(), self.handed_state);
        let snapshot = self.log.hand_out_snapshot();
        let snapshot_index = snapshot.as_ref().map(|snapshot| snapshot.meta.index);
        let (entries, token) = self.log.hand_out_write(state.term, snapshot_index);
        self.handed_state = Handed::of(&state);
        let hard_state = (handed != self.handed_state).then_some(state);
        ready.append = Some(Append { hard_state, entries, snapshot: snapshot.map(Box::new), token });
    }
}
