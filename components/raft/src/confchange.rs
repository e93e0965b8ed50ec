//! Changes of members: what follows from one, and taking it over when it is applied (thesis §4.3).
//!
//! A change takes effect when it is applied, not when it is appended. That is safe because at most one change is
//! unapplied at a time, nobody campaigns over a committed change that it has not applied, a voter was a learner before
//! and becomes one again before it is removed.

use crate::bugs::SeededBug;
use crate::error::Poison;
use crate::replication::NEVER;
use crate::tracker::{Progress, quorum};
use crate::{
    ConfChange, ConfChangeError, ConfChangeKind, ConfState, Dropped, EntryId, EntryKind, Error, RawNode,
    Storage, Transition,
};
use codec::Encode;
use types::PeerId;

impl ConfState {
    /// A configuration of these voters alone.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = PeerId>) -> Self {
        let mut voters: Vec<PeerId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Self { voters, ..Self::default() }
    }

    /// Two configurations are in force at once.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// The peer votes, in either configuration.
    #[must_use]
    pub fn is_voter(&self, id: PeerId) -> bool {
        contains(&self.voters, id) || contains(&self.voters_outgoing, id)
    }

    /// The peer receives the log and votes in neither configuration.
    #[must_use]
    pub fn is_learner(&self, id: PeerId) -> bool {
        contains(&self.learners, id)
    }

    /// The peer receives the log.
    #[must_use]
    pub fn contains(&self, id: PeerId) -> bool {
        self.is_voter(id) || self.is_learner(id)
    }

    /// Everybody who receives the log, each once, by id.
    pub fn members(&self) -> impl Iterator<Item = PeerId> + use<> {
        let mut all: Vec<PeerId> =
            [&self.voters, &self.voters_outgoing, &self.learners].into_iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }

    /// Whether this is a configuration that a sequence of changes can lead to; if not, what is wrong with it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn validate(&self) -> Result<(), &'static str> {
        for list in [&self.voters, &self.voters_outgoing, &self.learners, &self.learners_next] {
            if list.windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err("a list of members is not sorted, or names one twice");
            }
            if list.first().is_some_and(|id| id.is_zero()) {
                return Err("a member has the id zero");
            }
        }
        if self.learners.iter().any(|&id| self.is_voter(id)) {
            return Err("a learner votes");
        }
        if self
            .learners_next
            .iter()
            .any(|&id| !contains(&self.voters_outgoing, id) || contains(&self.voters, id))
        {
            return Err("a next learner is not an outgoing voter alone");
        }
        if !self.is_joint() && self.auto_leave {
            return Err("what is not joint cannot be left");
        }
        if self.voters.is_empty() && (self.is_joint() || !self.learners.is_empty()) {
            return Err("there are members but no voters");
        }
        Ok(())
    }

    /// The configuration that `change` leads to from this one.
    ///
    /// # Errors
    /// The rule that it breaks. The same for all who apply it at the same index.
    pub fn changed(&self, change: &ConfChange) -> Result<Self, ConfChangeError> {
        if change.ops.is_empty() {
            return self.left();
        }
        if self.is_joint() {
            return Err(ConfChangeError::Joint);
        }
        let mut next = self.clone();
        let mut named = Vec::with_capacity(change.ops.len());
        let mut demoted = Vec::new();
        let mut voters_changed = 0;
        for op in &change.ops {
            if op.id.is_zero() {
                return Err(ConfChangeError::NoId);
            }
            if named.contains(&op.id) {
                return Err(ConfChangeError::NamedTwice(op.id));
            }
            named.push(op.id);
            let (voter, learner) = (contains(&self.voters, op.id), contains(&self.learners, op.id));
            match op.kind {
                ConfChangeKind::AddVoter if voter => return Err(ConfChangeError::AlreadyVoter(op.id)),
                // The first members of a group have no leader that they could have learned from.
                ConfChangeKind::AddVoter if learner || self.voters.is_empty() => {
                    voters_changed += 1;
                    remove(&mut next.learners, op.id);
                    insert(&mut next.voters, op.id);
                }
                ConfChangeKind::AddVoter => return Err(ConfChangeError::NotLearner(op.id)),
                ConfChangeKind::AddLearner if learner => return Err(ConfChangeError::AlreadyLearner(op.id)),
                ConfChangeKind::AddLearner if voter => {
                    voters_changed += 1;
                    remove(&mut next.voters, op.id);
                    insert(&mut demoted, op.id);
                }
                ConfChangeKind::AddLearner => insert(&mut next.learners, op.id),
                // INV-RAFT-16: its last vote is cast, and forgotten by none, before it is gone.
                ConfChangeKind::Remove if voter => return Err(ConfChangeError::RemovesVoter(op.id)),
                ConfChangeKind::Remove if learner => remove(&mut next.learners, op.id),
                ConfChangeKind::Remove => return Err(ConfChangeError::NotMember(op.id)),
            }
        }
        if next.voters.is_empty() {
            return Err(ConfChangeError::NoVoterLeft);
        }
        // With one voter more or less, any majority of one configuration meets any of the other (thesis §4.1).
        let joint = match change.transition {
            Transition::Auto => voters_changed > 1 && !self.voters.is_empty(),
            Transition::JointImplicit | Transition::JointExplicit => !self.voters.is_empty(),
        };
        if joint {
            next.voters_outgoing.clone_from(&self.voters);
            next.learners_next = demoted;
            next.auto_leave = change.transition != Transition::JointExplicit;
        } else {
            demoted.into_iter().for_each(|id| insert(&mut next.learners, id));
        }
        Ok(next)
    }

    fn left(&self) -> Result<Self, ConfChangeError> {
        if !self.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        let mut next =
            Self { voters: self.voters.clone(), learners: self.learners.clone(), ..Self::default() };
        self.learners_next.iter().for_each(|&id| insert(&mut next.learners, id));
        Ok(next)
    }
}

#[inline]
fn contains(list: &[PeerId], id: PeerId) -> bool {
    // They are few.
    list.contains(&id)
}

fn insert(list: &mut Vec<PeerId>, id: PeerId) {
    if let Err(at) = list.binary_search(&id) {
        list.insert(at, id);
    }
}

fn remove(list: &mut Vec<PeerId>, id: PeerId) {
    if let Ok(at) = list.binary_search(&id) {
        list.remove(at);
    }
}

impl<S: Storage> RawNode<S> {
    /// Proposes `change` after the checks that only a leader can make.
    pub(crate) fn propose_change(&mut self, change: &ConfChange) -> Result<EntryId, Dropped> {
        self.may_propose()?;
        let leader = self.leader.as_ref().expect("only a leader may propose");
        if self.log.committed() < leader.term_start {
            return Err(Dropped::ConfChange(ConfChangeError::NotCommittedInTerm));
        }
        let unapplied = self.log.applied() < leader.pending_conf_index;
        if unapplied && !self.bugs.has(SeededBug::ConfChangeWhileUnapplied) {
            let until = leader.pending_conf_index;
            return Err(Dropped::ConfChange(ConfChangeError::Pending { until }));
        }
        let next = self.conf.changed(change).map_err(Dropped::ConfChange)?;
        if !change.ops.is_empty() && !self.has_electable_quorum(&next) {
            return Err(Dropped::ConfChange(ConfChangeError::NoElectableQuorum));
        }
        let id = self.propose_entry(EntryKind::ConfChange, change.to_bytes())?;
        self.leader.as_mut().expect("still leads").pending_conf_index = id.index;
        Ok(id)
    }

    /// A quorum of `conf` was heard lately and can catch up without a snapshot. Otherwise the group would stall until
    /// somebody has been sent one, and for good if we were lost meanwhile.
    fn has_electable_quorum(&self, conf: &ConfState) -> bool {
        let Some(leader) = &self.leader else { return false };
        let first = self.log.first_index();
        let electable = |_, id: PeerId| {
            let near = |progress: &Progress| {
                progress.is_active(self.tick, self.config.election_tick) && progress.matched.next() >= first
            };
            u64::from(id == self.config.id || leader.peers.get(id).is_some_and(near))
        };
        quorum::reached(conf, self.bugs, electable) >= 1
    }

    /// Ends a joint configuration that ends by itself, once the entry that began it is applied. Derived from the
    /// configuration alone, so that whoever leads next does it too (etcd#12136).
    pub(crate) fn leave_joint_if_due(&mut self) -> Result<(), Poison> {
        let Some(leader) = &self.leader else { return Ok(()) };
        let due = self.conf.auto_leave
            && leader.transfer.is_none()
            && self.log.committed() >= leader.term_start
            && self.log.applied() >= leader.pending_conf_index;
        if due {
            let leave = ConfChange::default();
            let id = self.append_as_leader(EntryKind::ConfChange, leave.to_bytes());
            self.leader.as_mut().expect("still leads").pending_conf_index = id.index;
        }
        Ok(())
    }

    /// Takes `change` over: the entry that holds it is being applied.
    pub(crate) fn apply_change(&mut self, change: &ConfChange) -> Result<(), Error> {
        let next = self.conf.changed(change).map_err(Error::ConfChange)?;
        self.switch_conf(next).map_err(Error::from)
    }

    fn switch_conf(&mut self, next: ConfState) -> Result<(), Poison> {
        self.conf = next;
        self.dirty = true;
        let id = self.config.id;
        if self.leader.is_none() {
            if self.is_campaigning() && !self.conf.is_voter(id) {
                self.become_follower(self.term, PeerId::ZERO);
            }
            return Ok(());
        }
        // Those who are no longer members learn from a last message that they are not.
        self.poke_all();
        self.send_appends()?;
        let leader = self.leader.as_mut().expect("leads");
        leader.fresh_tick = NEVER;
        leader.peers.retain(|peer| self.conf.contains(peer));
        for peer in self.conf.members() {
            leader.peers.insert(peer, Progress::unknown(self.log.last().index.next(), self.tick));
        }
        if leader.transfer.as_ref().is_some_and(|transfer| !self.conf.is_voter(transfer.to)) {
            self.abort_transfer();
        }
        if !self.conf.is_voter(id) {
            // Applied, and not joint: whoever else counts knows or will learn from the vote that elects the next.
            self.become_follower(self.term, PeerId::ZERO);
            return Ok(());
        }
        // A smaller quorum may have been reached already.
        self.commit_if_reached()?;
        self.settle_rounds();
        Ok(())
    }
}
