//! Who leads: timeouts, votes and changes of role (thesis §3.4, §9.6).
//!
//! A vote promises two things: no second one in its term, kept by being durable before it is answered; and none at all
//! while a leader may count on our silence, that is within the minimum election timeout after we heard one. The second
//! is what leases rest on. It holds for our vote for ourselves, after `forget_leader`, and across a restart, where we do
//! not know whom we heard and so wait out the timeout. Only a transfer overrides it: that leader has given its lease up.

use crate::bugs::SeededBug;
use crate::config::mix;
use crate::error::Poison;
use crate::read::Rounds;
use crate::replication::{LeaderState, NEVER, Uncommitted};
use crate::tracker::quorum::{self, VoteResult};
use crate::tracker::{Peers, Progress};
use crate::{Body, CampaignError, EntryId, EntryKind, Message, RawNode, Role, Storage, VoteKind};
use bytes::Bytes;
use types::{PeerId, Term};

/// What a peer knows of time and of leaders it heard. All times are tick counts.
#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Timer {
    /// Since when the election timeout runs.
    pub(crate) start_tick: u64,
    /// The timeout that was drawn.
    pub(crate) timeout: u32,
    /// How often one was drawn; part of the next draw.
    pub(crate) draws: u16,
    /// When it was last heard; unless `heard`, it means nothing.
    pub(crate) heard_tick: u64,
    /// The term of that leader; zero for none.
    pub(crate) heard_term: Term,
    /// For the first election timeout of this life a leader may count on a promise that we made before it.
    pub(crate) quiet: bool,
    /// A leader was heard in this life.
    pub(crate) heard: bool,
}

impl Timer {
    /// When a leader was last heard, in this life.
    pub(crate) fn heard_tick(&self) -> Option<u64> {
        self.heard.then_some(self.heard_tick)
    }

    pub(crate) fn hear(&mut self, tick: u64, term: Term) {
        (self.heard, self.heard_tick, self.heard_term) = (true, tick, term);
    }
}

impl<S: Storage> RawNode<S> {
    // ---- time ----

    /// A number that depends on nothing but the seed and what happened.
    pub(crate) fn draw(&self, salt: u64) -> u64 {
        let inputs = [self.term.0, u64::from(self.timer.draws), salt];
        inputs.into_iter().fold(self.config.draw_seed, mix)
    }

    /// Starts the election timeout anew, with a new length.
    pub(crate) fn restart_timer(&mut self) {
        self.timer.draws = self.timer.draws.wrapping_add(1);
        let base = self.config.election_tick;
        self.timer.timeout = base + (self.draw(0) % u64::from(base)) as u32;
        self.timer.start_tick = self.tick;
    }

    /// When we campaign unless somebody is heard.
    #[inline]
    pub(crate) fn election_deadline(&self) -> u64 {
        if self.is_sole_voter() {
            // There is nobody to wait for.
            return self.timer.start_tick + 1;
        }
        (self.timer.start_tick + u64::from(self.timer.timeout)).max(self.quiet_until_tick())
    }

    /// Until then a leader may count on our silence whatever we remember. A tick is added for the one that had begun.
    #[inline]
    fn quiet_until_tick(&self) -> u64 {
        if self.timer.quiet { u64::from(self.config.election_tick) + 1 } else { 0 }
    }

    /// No other vote counts, nor can one by any change that we know of.
    #[inline]
    pub(crate) fn is_sole_voter(&self) -> bool {
        self.conf.voters == [self.config.id]
            && !self.conf.is_joint()
            && !self.log.has_conf_entry()
            && !self.log.is_installing()
    }

    /// A leader may count on our silence.
    fn owes_silence(&self) -> bool {
        if !self.config.check_quorum || self.bugs.has(SeededBug::VoteDuringLease) {
            return false;
        }
        let heard = |tick: u64| self.tick - tick < u64::from(self.config.election_tick);
        self.role == Role::Leader
            || self.timer.heard_tick().is_some_and(heard)
            || (self.tick < self.quiet_until_tick()
                && !self.is_sole_voter()
                && !self.bugs.has(SeededBug::VoteRightAfterRestart))
    }

    /// The leader of our term has spoken.
    #[inline]
    pub(crate) fn hear_leader(&mut self, from: PeerId) {
        if self.role != Role::Follower || self.lead != from {
            self.become_follower(self.term, from);
        }
        self.timer.start_tick = self.tick;
        self.timer.hear(self.tick, self.term);
    }

    /// No quorum was heard for an election timeout.
    #[inline]
    pub(crate) fn is_quorum_stale(&self) -> bool {
        let Some(leader) = self.leader.as_ref().filter(|_| self.config.check_quorum) else { return false };
        let heard = |place, id| match leader.peers.get_near(place, id) {
            _ if id == self.config.id => self.tick,
            Some(progress) => progress.heard_tick,
            None => 0,
        };
        let heard = quorum::reached(&self.conf, self.bugs, heard).min(self.tick);
        self.tick - heard >= u64::from(self.config.election_tick)
    }

    // ---- campaigns ----

    /// Whether we could win at all.
    pub(crate) fn may_stand(&self) -> Result<(), CampaignError> {
        self.alive()?;
        if !self.promotable() {
            return Err(CampaignError::NotPromotable);
        }
        if self.log.has_unapplied_conf_change() && !self.bugs.has(SeededBug::CampaignOverConfChange) {
            return Err(CampaignError::ConfChangeUnapplied);
        }
        Ok(())
    }

    /// Campaigns now, unless a leader may count on our silence.
    pub(crate) fn begin_campaign(&mut self) -> Result<(), CampaignError> {
        self.may_stand()?;
        if self.owes_silence() {
            return Err(CampaignError::LeaderHeard);
        }
        if self.bugs.has(SeededBug::TransferRetryKeepsMark)
            && let Some(leader_term) = self.bugs.transfer_term()
        {
            self.become_candidate(VoteKind::Transfer { leader_term });
            return Ok(());
        }
        if self.config.pre_vote {
            self.become_pre_candidate();
        } else {
            self.become_candidate(VoteKind::Real);
        }
        Ok(())
    }

    /// The leader of our term has handed over to us.
    pub(crate) fn campaign_for_transfer(&mut self) {
        self.bugs.note_transfer(self.term);
        self.become_candidate(VoteKind::Transfer { leader_term: self.term });
    }

    fn become_pre_candidate(&mut self) {
        self.count(|counters| counters.pre_campaigns += 1);
        self.role = Role::PreCandidate;
        self.set_lead(PeerId::ZERO);
        self.restart_timer();
        self.rare().votes.clear();
        self.request_votes(VoteKind::Pre);
    }

    fn become_candidate(&mut self, kind: VoteKind) {
        assert_ne!(self.role, Role::Leader, "a leader of term {} campaigns", self.term);
        self.count(|counters| counters.campaigns += 1);
        self.raise_term(self.term.next());
        self.vote = self.config.id;
        self.role = Role::Candidate;
        self.set_lead(PeerId::ZERO);
        self.restart_timer();
        self.rare().votes.clear();
        self.request_votes(kind);
    }

    fn request_votes(&mut self, kind: VoteKind) {
        let (id, last, commit) = (self.config.id, self.log.last(), self.log.committed_id());
        // A pre-vote asks about the term that would come.
        let term = if kind == VoteKind::Pre { self.term.next() } else { self.term };
        for to in self.conf.members().filter(|&to| to != id && self.conf.is_voter(to)) {
            self.outbox.push(Message { from: id, to, term, body: Body::Vote { kind, last, commit } });
        }
        if kind == VoteKind::Pre {
            self.count_vote(id, true);
        }
        // A vote of ours that counts does so when it is durable, as anybody else's: who needs no other would lead a term
        // that it may live a second time.
    }

    /// What we promised up to now is durable.
    #[inline]
    pub(crate) fn on_own_vote(&mut self) {
        if self.role == Role::Candidate && self.durable_term == self.term {
            self.count_vote(self.config.id, true);
        }
    }

    fn count_vote(&mut self, from: PeerId, granted: bool) {
        let votes = &mut self.rare.get_or_insert_default().votes;
        if votes.iter().any(|&(voter, _)| voter == from) {
            return;
        }
        votes.push((from, granted));
        let answer = |id| votes.iter().find(|&&(voter, _)| voter == id).map(|&(_, granted)| granted);
        match (quorum::tally(&self.conf, self.bugs, answer), self.role) {
            (VoteResult::Won, Role::PreCandidate) => self.become_candidate(VoteKind::Real),
            (VoteResult::Won, _) => self.become_leader(),
            (VoteResult::Lost, _) => self.become_follower(self.term, PeerId::ZERO),
            (VoteResult::Pending, _) => {}
        }
    }

    fn forget_votes(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        rare.votes = Vec::new();
        // Forwarded reads go on being named where they left off.
        if rare.forwards.is_none() && rare.is_empty() {
            self.rare = None;
        }
    }

    pub(crate) fn is_campaigning(&self) -> bool {
        matches!(self.role, Role::PreCandidate | Role::Candidate)
    }

    // ---- roles ----

    pub(crate) fn set_lead(&mut self, lead: PeerId) {
        if self.lead != lead {
            self.lead = lead;
            self.refuse_forwards();
        }
    }

    /// Enters a new term, in which we have voted for nobody.
    fn raise_term(&mut self, term: Term) {
        assert!(term > self.term, "INV-RAFT-10: term {} does not follow {}", term, self.term);
        self.term = term;
        self.vote = PeerId::ZERO;
        // Whatever we were about to say was said in an earlier term; nobody needs it now. (A granted pre-vote speaks of
        // a later one.)
        self.outbox.retain(|message| message.term >= term);
        self.refuse_forwards();
    }

    pub(crate) fn become_follower(&mut self, term: Term, lead: PeerId) {
        if term > self.term {
            self.raise_term(term);
        }
        self.role = Role::Follower;
        self.forget_votes();
        self.set_lead(lead);
        self.restart_timer();
        if let Some(leader) = self.leader.take() {
            self.count(|counters| counters.leaders_stepped_down += 1);
            self.refuse_rounds(leader.rounds);
        }
        self.dirty = true;
    }

    fn become_leader(&mut self) {
        assert_eq!(self.role, Role::Candidate, "leader of term {} without having campaigned", self.term);
        let (id, tick, last) = (self.config.id, self.tick, self.log.last().index);
        let mut peers = Peers::default();
        for peer in self.conf.members() {
            peers.insert(peer, Progress::unknown(last.next(), tick));
        }
        if let Some(own) = peers.get_mut(id) {
            own.become_replicate();
            own.next = last.next();
            own.matched = self.log.persisted();
        }
        self.count(|counters| counters.elections_won += 1);
        self.role = Role::Leader;
        self.forget_votes();
        self.timer.heard_term = self.term;
        self.leader = Some(Box::new(LeaderState {
            peers,
            term_start: last.next(),
            // There may be a change of members anywhere up to here (etcd#7625).
            pending_conf_index: last,
            uncommitted: Uncommitted::default(),
            batch_open: false,
            transfer: None,
            heartbeat_tick: tick,
            fresh_tick: NEVER,
            ping: false,
            rounds: Rounds::default(),
        }));
        self.set_lead(id);
        // Only an entry of our own term tells what is committed.
        self.append_as_leader(EntryKind::Normal, Bytes::new());
    }

    // ---- votes ----

    /// Somebody asks for our vote.
    pub(crate) fn on_vote(
        &mut self,
        from: PeerId,
        term: Term,
        kind: VoteKind,
        last: EntryId,
        commit: EntryId,
    ) -> Result<(), Poison> {
        let pre = kind == VoteKind::Pre;
        if term < self.term {
            // The answer carries our term, so that whoever lags behind catches up (etcd#8501).
            self.answer_vote(from, self.term, pre, true);
            return Ok(());
        }
        self.learn_commit(commit)?;
        // The leader of that term gave its lease up for this campaign, if it is the one that we know of.
        let known_term = if self.timer.heard_term.is_zero() { self.term } else { self.timer.heard_term };
        let (transfer, authorised) = match kind {
            VoteKind::Transfer { leader_term } => {
                (true, leader_term == known_term || self.bugs.has(SeededBug::TransferVoteOfAnyTerm))
            }
            VoteKind::Pre | VoteKind::Real => (false, true),
        };
        let repeated = !pre && term == self.term && self.vote == from;
        if self.owes_silence() && !(transfer && authorised) && !repeated {
            return Ok(());
        }
        if !pre && term > self.term {
            self.become_follower(term, PeerId::ZERO);
        }
        let free =
            (pre && term > self.term) || self.vote == from || (self.vote.is_zero() && self.lead.is_zero());
        let free = free || (term == self.term && self.bugs.has(SeededBug::VoteTwiceInTerm));
        let complete = last >= self.log.last() || self.bugs.has(SeededBug::VoteForShorterLog);
        let granted = free && (authorised || repeated) && complete;
        if granted && !pre {
            self.vote = from;
            self.timer.start_tick = self.tick;
        }
        // A granted pre-vote speaks of the term it was asked for, or a candidate whose term is behind would take it for
        // an old answer (etcd#8243).
        let answer_term = if granted { term } else { self.term };
        self.answer_vote(from, answer_term, pre, !granted);
        Ok(())
    }

    fn answer_vote(&mut self, to: PeerId, term: Term, pre: bool, reject: bool) {
        self.count(|counters| {
            *if reject { &mut counters.votes_refused } else { &mut counters.votes_granted } += 1;
        });
        let body = Body::VoteResp { pre, reject, commit: self.log.committed_id() };
        self.outbox.push(Message { from: self.config.id, to, term, body });
    }

    /// Somebody answers, in the term that we campaign for.
    pub(crate) fn on_vote_resp(
        &mut self,
        from: PeerId,
        pre: bool,
        granted: bool,
        commit: EntryId,
    ) -> Result<(), Poison> {
        self.learn_commit(commit)?;
        let expected = if pre { Role::PreCandidate } else { Role::Candidate };
        // A learner may grant a vote that does not count, and answers to earlier campaigns come late.
        if self.role == expected && self.conf.is_voter(from) {
            self.count_vote(from, granted);
        }
        Ok(())
    }

    /// Somebody knows `commit` to be committed. If that is an entry of ours, we know it now, too. A peer that has not
    /// learned of a committed change of members campaigns by members that are no longer, and may never win; here it
    /// finds out (etcd#12359).
    fn learn_commit(&mut self, commit: EntryId) -> Result<(), Poison> {
        if self.role == Role::Leader || commit.index <= self.log.committed() || !self.log.holds(commit)? {
            return Ok(());
        }
        self.log.commit_to(commit.index)?;
        if self.is_campaigning() && self.log.has_unapplied_conf_change() {
            self.become_follower(self.term, PeerId::ZERO);
        }
        Ok(())
    }
}
