//! The door: what callers may ask of a group.

use crate::bugs::{Bugs, SeededBug};
use crate::config::Settings;
use crate::election::Timer;
use crate::error::Poison;
use crate::log::RaftLog;
use crate::read::Forwards;
use crate::replication::{LeaderState, NEVER};
use crate::step::gate_conf;
use crate::{
    Body, CampaignError, ConfChange, ConfState, Config, Counters, Dropped, EntryId, EntryKind, Error,
    FetchContext, HardState, InitialState, Lease, LogMark, Message, PersistToken, ProgressState,
    ProgressView, ReadError, ReadState, Ready, Role, SoftState, Status, StepError, Storage, TransferError,
};
use bytes::Bytes;
use types::{LogIndex, PeerId, Term};

/// One Raft group as a state machine: inputs go in by its methods, effects come out of [`RawNode::ready`].
///
/// A turn is: [`tick`](Self::tick) for the time that has passed, then [`step`](Self::step) and the other inputs, then
/// [`ready`](Self::ready), and carry out what it says. Time is weighed only in `ready`, so a message of the same turn
/// always comes before a timeout, however many ticks were missed.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub struct RawNode<S: Storage> {
    pub(crate) config: Settings,
    pub(crate) log: RaftLog<S>,
    /// The members as of what is applied.
    pub(crate) conf: ConfState,
    pub(crate) term: Term,
    /// Whom we voted for in `term`; zero for nobody.
    ///
    /// Invariant: changes at most once in a term.
    pub(crate) vote: PeerId,
    pub(crate) lead: PeerId,
    pub(crate) role: Role,
    /// How many ticks have passed in this life.
    pub(crate) tick: u64,
    pub(crate) timer: Timer,
    /// Invariant: there if and only if we lead.
    pub(crate) leader: Option<Box<LeaderState>>,
    pub(crate) outbox: Vec<Message>,
    pub(crate) rare: Option<Box<Rare>>,
    /// As handed out for writing.
    pub(crate) handed_state: Handed,
    /// As handed out to observers.
    pub(crate) handed_soft: SoftState,
    /// The highest term that is durable.
    pub(crate) durable_term: Term,
    /// A leader may have something to say.
    pub(crate) dirty: bool,
    /// Unless something comes in, there is nothing to say before this tick: most groups are asked about at most times in
    /// vain, and that must cost next to nothing. Zero when it must be looked at.
    pub(crate) silent_until: u64,
    /// Where what we do is counted, while it is lent to us.
    pub(crate) counters: Option<Box<Counters>>,
    /// What is broken on purpose.
    pub(crate) bugs: Bugs,
}

/// The hard state as it was last written, but for who leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Hash))]
pub(crate) struct Handed {
    pub(crate) term: Term,
    pub(crate) vote: PeerId,
    pub(crate) commit: LogIndex,
}

impl Handed {
    pub(crate) fn of(state: &HardState) -> Self {
        Self { term: state.term, vote: state.vote, commit: state.commit }
    }
}

/// What a group has at times only: most groups, at most times, have nothing of it.
#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Rare {
    /// The answers to our campaign.
    pub(crate) votes: Vec<(PeerId, bool)>,
    /// The members as of the snapshot that is being installed.
    pub(crate) installing_conf: Option<ConfState>,
    /// Reads that were forwarded to the leader.
    pub(crate) forwards: Option<Forwards>,
    /// Reads that were answered or refused.
    pub(crate) read_states: Vec<ReadState>,
    /// Why the group does not go on.
    poison: Option<String>,
}

impl Rare {
    /// There is nothing that would be missed.
    pub(crate) fn is_empty(&self) -> bool {
        // Answers to what was forwarded are not waited for any more.
        let forwards = self.forwards.as_ref().map_or(0, Forwards::reads);
        let nothing = self.votes.is_empty() && self.read_states.is_empty() && forwards == 0;
        nothing && self.installing_conf.is_none() && self.poison.is_none()
    }
}

impl<S: Storage> RawNode<S> {
    /// The group as `storage` knows it, as a follower of nobody.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Storage`] as they say; [`Error::Poisoned`] when what the storage holds contradicts
    /// itself.
    pub fn new(config: &Config, storage: S) -> Result<Self, Error> {
        config.validate().map_err(Error::Config)?;
        let initial = storage.initial_state().map_err(Error::Storage)?;
        Self::open(config, storage, initial)
    }

    /// The group that `storage` holds, beginning with `initial`.
    pub(crate) fn open(config: &Config, storage: S, initial: InitialState) -> Result<Self, Error> {
        gate_conf(&initial.conf_state)?;
        let state = initial.hard_state;
        let log = RaftLog::open(storage, state.commit, config.applied, state.term)?;
        // Nobody can count on the silence of a peer that has never answered.
        let newborn = config.newborn || (state.term.is_zero() && log.last().index.is_zero());
        let quiet = config.check_quorum && !newborn;
        let mut node = Self {
            config: Settings::new(config),
            conf: initial.conf_state,
            term: state.term,
            vote: state.vote,
            lead: PeerId::ZERO,
            role: Role::Follower,
            tick: 0,
            timer: Timer { quiet, ..Timer::default() },
            leader: None,
            outbox: Vec::new(),
            rare: None,
            // The commit index may have been raised to what is applied. What is applied may be forgotten in a crash, so the
            // next write says it, were it a write of entries alone (INV-RAFT-19).
            handed_state: Handed::of(&state),
            handed_soft: SoftState::default(),
            durable_term: state.term,
            dirty: false,
            silent_until: 0,
            counters: None,
            bugs: Bugs::default(),
            log,
        };
        node.restart_timer();
        Ok(node)
    }

    /// Breaks a rule from now on, to see whether that is noticed.
    #[cfg(feature = "seeded_bugs")]
    pub fn plant(&mut self, bug: crate::SeededBug) {
        self.bugs.plant(bug);
        self.log.bugs.plant(bug);
    }

    // ---- time ----

    /// A tick has passed. Tick before stepping what came in meanwhile.
    pub fn tick(&mut self) {
        self.tick += 1;
    }

    /// `ticks` ticks have passed, of which nobody told us.
    pub fn tick_n(&mut self, ticks: u64) {
        self.tick += ticks;
    }

    /// How many ticks have passed since the group was started.
    #[must_use]
    pub fn tick_count(&self) -> u64 {
        self.tick
    }

    /// How many ticks from now a timer is due: until then, without input, there will be no effects, and the group need not
    /// be visited. Zero when one is due already, `None` when none runs. Contact with a leader moves it further away.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadline().map(|deadline| deadline.saturating_sub(self.tick))
    }

    // ---- input ----

    /// A message from another peer.
    ///
    /// # Errors
    /// It had no effect, for the reason given. Only [`StepError::Poisoned`] concerns the group itself.
    #[inline]
    pub fn step(&mut self, mut message: Message) -> Result<(), StepError> {
        self.alive()?;
        let silent_until = std::mem::replace(&mut self.silent_until, 0);
        let answers_heartbeat = matches!(message.body, Body::HeartbeatResp { .. });
        if let Err(refused) = self.step_message(&mut message) {
            self.note_refused(&refused);
            return Err(*refused);
        }
        if answers_heartbeat && !self.dirty && self.outbox.is_empty() && self.rare.is_none() {
            // The peer is there, as we thought. Nothing follows from that.
            self.silent_until = silent_until;
        }
        Ok(())
    }

    #[cold]
    fn note_refused(&mut self, refused: &StepError) {
        match refused {
            StepError::Invalid(_) => self.count(|counters| counters.messages_invalid += 1),
            StepError::Poisoned { reason } => self.poison(Poison::new(reason.as_str())),
            StepError::NotForUs { .. } | StepError::UnknownSender { .. } => {}
        }
    }

    /// Campaigns at once instead of waiting for the timeout. Nothing happens on a leader.
    ///
    /// # Errors
    /// Campaigning is not possible, or could break a promise; see [`CampaignError`].
    pub fn campaign(&mut self) -> Result<(), CampaignError> {
        self.alive()?;
        self.stir();
        if self.role == Role::Leader { Ok(()) } else { self.begin_campaign() }
    }

    /// Appends `data` to the group's log, which this peer must lead. If the position returned is committed with this
    /// term, it holds this proposal; with another, the proposal is lost.
    ///
    /// # Errors
    /// The proposal was not appended; see [`Dropped`].
    pub fn propose(&mut self, data: Bytes) -> Result<EntryId, Dropped> {
        self.stir();
        let proposed = self.may_propose().and_then(|()| self.propose_entry(EntryKind::Normal, data));
        self.count_proposal(proposed.is_ok());
        proposed
    }

    /// Appends a change of members. It takes effect on each peer when its entry is applied there, by
    /// [`RawNode::apply_conf_change`].
    ///
    /// # Errors
    /// As [`RawNode::propose`], and [`Dropped::ConfChange`] when the change is not possible now, or never.
    pub fn propose_conf_change(&mut self, change: ConfChange) -> Result<EntryId, Dropped> {
        self.stir();
        let proposed = self.propose_change(&change);
        self.count_proposal(proposed.is_ok());
        proposed
    }

    /// The entry that holds `change` is being applied: its members are now ours. Call before
    /// [`RawNode::on_applied`] for that entry; or do not call, when the application rejects the change (as all peers must
    /// then do alike).
    ///
    /// # Errors
    /// [`Error::ConfChange`]: the change breaks a rule, and the members stay as they are. All peers find the same.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> Result<ConfState, Error> {
        self.alive()?;
        self.stir();
        let result = self.apply_change(change);
        if let Err(Error::Poisoned { reason }) = &result {
            self.poison(Poison::new(reason.as_str()));
        }
        result.map(|()| self.conf.clone())
    }

    /// Asks from which applied index on reads are linearizable. The answer is a [`ReadState`] with `token`, which may
    /// also say that the read is refused; it comes within an election timeout or so. A follower asks its leader.
    ///
    /// # Errors
    /// There will be no answer; see [`ReadError`].
    pub fn read_index(&mut self, token: u64) -> Result<(), ReadError> {
        self.stir();
        self.begin_read(token)
    }

    /// The lease, if we hold one: we lead, an entry of our term is committed, no transfer is under way, no change of
    /// members is committed and unapplied, and a quorum has answered a heartbeat of ours. How long it lasts is the
    /// caller's to say: less than the minimum election timeout by a tick and the drift of clocks.
    ///
    /// Whoever keeps a copy must ask again after every [`RawNode::ready`], before what it says is carried out: its
    /// messages may tell others what ends the lease.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.current_lease().filter(|_| self.poisoned().is_none())
    }

    /// Hands leadership to `to` as soon as that peer holds the whole log; gives up after an election timeout. Proposals
    /// are refused meanwhile. Once `TimeoutNow` is sent we no longer lead.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn transfer_leader(&mut self, to: PeerId) -> Result<(), TransferError> {
        self.stir();
        self.begin_transfer(to)
    }

    /// The leader is known to be gone. Reads sent to it are refused. What we owe it we still keep: no vote within the
    /// minimum election timeout after it was heard. Nothing happens unless we follow.
    pub fn forget_leader(&mut self) {
        self.stir();
        if self.role == Role::Follower {
            self.set_lead(PeerId::ZERO);
        }
    }

    /// Sends heartbeats with the next effects, whatever the time: commit indexes reach everybody at once.
    pub fn ping(&mut self) {
        self.stir();
        if let Some(leader) = &mut self.leader {
            leader.ping = true;
            self.dirty = true;
        }
    }

    /// A message to `id` could not be delivered.
    pub fn report_unreachable(&mut self, id: PeerId) {
        self.stir();
        let Some(progress) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(id)) else { return };
        match progress.state {
            // Appends on the way are probably lost.
            ProgressState::Replicate => progress.become_probe(),
            ProgressState::Snapshot { .. } => {
                progress.abort_snapshot();
                progress.pause(0);
            }
            ProgressState::Probe => {}
        }
        self.dirty = true;
    }

    /// The snapshot to `id` has arrived as a whole, or has failed.
    pub fn report_snapshot(&mut self, id: PeerId, ok: bool) {
        self.stir();
        let Some(progress) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(id)) else { return };
        if let ProgressState::Snapshot { .. } = progress.state {
            if ok {
                progress.become_probe()
            } else {
                progress.abort_snapshot()
            }
            // Its acknowledgement, or the answer to a heartbeat, says when to go on.
            progress.pause(0);
            self.dirty = true;
        }
    }

    /// Entries that storage was asked for in `context` can be read now (or never: then storage says so).
    pub fn on_entries_fetched(&mut self, context: FetchContext) {
        self.stir();
        if context.to.is_zero() {
            self.log.on_page_fetched();
            return;
        }
        if context.term != self.term {
            return;
        }
        if let Some(progress) = self.leader.as_mut().and_then(|leader| leader.peers.get_mut(context.to)) {
            progress.fetching = false;
            self.dirty = true;
        }
    }

    // ---- output ----

    /// Whether [`RawNode::ready`] has something to say. It may turn out to be nothing.
    #[must_use]
    #[inline]
    pub fn has_ready(&self) -> bool {
        if self.tick < self.silent_until {
            return false;
        }
        // It was silent up to now, and now a timer is due; or something has come in, and we must look.
        self.silent_until > 0 || self.must_speak()
    }

    // Apart, so that the question above is two instructions wherever it is asked.
    #[inline(never)]
    pub(crate) fn must_speak(&self) -> bool {
        self.has_news() || self.timer_is_due()
    }

    /// The effects of everything since the last call. A group that is [poisoned](Self::poisoned) says once that it leads
    /// nobody and that its reads are refused, and then nothing any more.
    #[must_use = "what it says must be carried out"]
    pub fn ready(&mut self) -> Ready {
        let mut ready = Ready::default();
        self.ready_into(&mut ready);
        ready
    }

    /// As [`RawNode::ready`], into a value that was carried out and is used again: whatever is left in it is dropped, and
    /// its lists keep their room. A driver of many groups needs one.
    // Apart, so that whoever asks a silent group does not pay for it.
    #[inline(never)]
    pub fn ready_into(&mut self, ready: &mut Ready) {
        ready.clear();
        if self.poisoned().is_some() {
            self.say_last_words(ready);
        } else if let Err(poison) = self.collect(ready) {
            self.rare().read_states.append(&mut ready.read_states);
            ready.clear();
            self.poison(poison);
            self.say_last_words(ready);
        }
        if ready.append.is_some() || !ready.committed.is_empty() {
            // What was handed out comes back, and then we look.
            self.stir();
        } else {
            self.look_around();
        }
    }

    /// The write of `token`, and all before it, can be read from storage, though it may not be durable.
    ///
    /// # Panics
    /// When there was no such write.
    pub fn on_stable(&mut self, token: PersistToken) {
        self.log.on_stable(token);
    }

    /// The write of `token`, and all before it, are durable and can be read from storage. A token that was overtaken by
    /// a later one has no effect.
    ///
    /// # Panics
    /// When there was no such write.
    #[inline]
    pub fn on_persist(&mut self, token: PersistToken) {
        // In registers: the token was written a moment ago, and to move it as it is would wait for that.
        self.on_durable(token.seq, token.mark);
    }

    #[inline(never)]
    fn on_durable(&mut self, seq: u64, mark: LogMark) {
        if let Some(term) = self.log.on_persist(PersistToken { seq, mark }) {
            self.durable_term = term;
            self.on_own_vote();
        }
        if let Err(poison) = self.on_own_progress() {
            self.poison(poison);
        }
        if self.log.is_applying() {
            // That comes back next, and then we look.
            self.stir();
        } else {
            self.look_around();
        }
    }

    /// Everything up to `index` is applied; for a snapshot, its index, once it is durable and installed. Its members are
    /// ours from then on. Entries before it that are still out may be applied and reported first, or never.
    ///
    /// # Panics
    /// When that was not handed out for applying, or is not durable.
    pub fn on_applied(&mut self, index: LogIndex) {
        self.log.on_applied(index);
        if !self.log.is_installing()
            && let Some(conf) = self.rare.as_mut().and_then(|rare| rare.installing_conf.take())
            && !self.bugs.has(SeededBug::SnapshotKeepsOldMembers)
        {
            self.conf = conf;
        }
        // A leader may leave a joint configuration now.
        self.dirty |= self.leader.is_some() && self.conf.auto_leave;
        self.look_around();
    }

    // ---- views ----

    /// The group at a glance.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            id: self.config.id,
            role: self.role,
            term: self.term,
            vote: self.vote,
            lead: self.lead,
            committed: self.log.committed(),
            applied: self.log.applied(),
            persisted: self.log.persisted(),
            last: self.log.last(),
        }
    }

    /// Shows what we know of each member, ourselves included, by id; nothing unless we lead.
    pub fn with_progress(&self, visit: &mut dyn FnMut(PeerId, ProgressView)) {
        let Some(leader) = &self.leader else { return };
        for (id, progress) in leader.peers.iter() {
            let view = ProgressView {
                matched: progress.matched,
                next: progress.next,
                sent_commit: progress.sent_commit,
                paused: progress.paused,
                state: progress.state,
                active: id == self.config.id || progress.is_active(self.tick, self.config.election_tick),
                learner: self.conf.is_learner(id),
                inflight_messages: progress.inflights.messages(),
                inflight_bytes: progress.inflights.bytes(),
            };
            visit(id, view);
        }
    }

    /// Up to where the log may be compacted at no cost to anybody: it is applied here, and no member that is heard still
    /// needs what is before. Only a leader knows the members' needs; others name what they have applied. Compacting
    /// further, up to what is applied, is safe: whoever lags behind is sent a snapshot.
    #[must_use]
    pub fn compaction_hint(&self) -> LogIndex {
        if self.bugs.has(SeededBug::CompactUnapplied) {
            return self.log.last().index;
        }
        let applied = self.log.applied();
        let Some(leader) = &self.leader else { return applied };
        let needed = leader.peers.iter().filter(|(id, progress)| {
            *id != self.config.id && progress.is_active(self.tick, self.config.election_tick)
        });
        let held = needed.map(|(_, progress)| match progress.state {
            // It goes on from behind the snapshot that it is being sent.
            ProgressState::Snapshot { index } => index.max(progress.matched),
            ProgressState::Probe | ProgressState::Replicate => progress.matched,
        });
        held.min().unwrap_or(applied).min(applied)
    }

    /// The members, as of what is applied.
    #[must_use]
    pub fn conf_state(&self) -> &ConfState {
        &self.conf
    }

    /// We receive the log and do not vote.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.conf.is_learner(self.config.id)
    }

    /// We may campaign: we vote, and no snapshot is being installed.
    #[must_use]
    #[inline]
    pub fn promotable(&self) -> bool {
        self.conf.is_voter(self.config.id) && !self.log.is_installing()
    }

    /// Why the group does not go on, if it does not. Nothing has any effect from then on.
    #[must_use]
    #[inline]
    pub fn poisoned(&self) -> Option<&str> {
        self.rare.as_ref()?.poison.as_deref()
    }

    /// Where the log is kept.
    #[must_use]
    pub fn storage(&self) -> &S {
        self.log.storage()
    }

    /// Where the log is kept, to be changed as handed-out effects say, or compacted up to what is applied.
    pub fn storage_mut(&mut self) -> &mut S {
        self.log.storage_mut()
    }

    /// Something comes in: whether there is something to say must be looked at when that is asked.
    #[inline]
    pub(crate) fn stir(&mut self) {
        self.silent_until = 0;
    }

    /// Something was done with, after which there often is nothing more to say for long: that is found out now.
    #[inline]
    fn look_around(&mut self) {
        self.silent_until = match self.deadline() {
            _ if self.has_news() => 0,
            None => NEVER,
            Some(deadline) if deadline > self.tick => deadline,
            Some(_) => 0,
        };
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn forwards(&self) -> Option<&Forwards> {
        self.rare.as_ref()?.forwards.as_ref()
    }

    #[inline]
    pub(crate) fn alive(&self) -> Result<(), Poison> {
        match self.poisoned() {
            None => Ok(()),
            Some(reason) => Err(Poison::new(reason)),
        }
    }

    pub(crate) fn poison(&mut self, poison: Poison) {
        if self.poisoned().is_some() {
            return;
        }
        // Nobody waits for a read that is never answered, or goes on asking a leader that is none.
        self.become_follower(self.term, PeerId::ZERO);
        self.refuse_forwards();
        self.outbox = Vec::new();
        self.rare().poison = Some(poison.into_reason());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemStorage;

    #[test]
    fn an_idle_group_is_small() {
        // A store keeps 100,000 groups, most of them idle followers: 512 bytes each, with a handle to the log (8 bytes)
        // and three members (24 bytes).
        let inline = size_of::<RawNode<MemStorage>>() - size_of::<MemStorage>() - 2 * size_of::<Bugs>();
        assert!(inline + 8 + 24 <= 512, "{inline} bytes inline");
        let config = Config { id: PeerId(1), ..Config::default() };
        let mut node = RawNode::new(&config, MemStorage::with_voters(3)).expect("a fresh group starts");
        for round in 0..100 {
            let body = crate::Body::Heartbeat { commit: LogIndex(0), round };
            let message = Message { from: PeerId(2), to: PeerId(1), term: Term(1), body };
            node.step(message).expect("well-formed");
            if let Some(append) = node.ready().append {
                node.on_persist(append.token);
            }
        }
        assert!(node.outbox.capacity() <= 16 && node.rare.is_none() && node.leader.is_none());
        assert!(!node.has_ready());
    }
}
