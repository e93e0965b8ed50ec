//! Handing leadership over (thesis §3.10).
//!
//! The leader takes no more proposals, waits until the target holds all of its log, and sends `TimeoutNow`. With that it
//! has stepped down, whatever becomes of the message: from then on the target may lead, against the lease that everybody
//! else still grants, so this term is over.

use crate::bugs::SeededBug;
use crate::tracker::Progress;
use crate::{Body, RawNode, Role, Storage, TransferError};
use types::PeerId;

/// A transfer that waits for its target to catch up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Hash))]
pub(crate) struct Transfer {
    pub(crate) to: PeerId,
    /// When it began, by tick count.
    pub(crate) since_tick: u64,
}

impl<S: Storage> RawNode<S> {
    pub(crate) fn begin_transfer(&mut self, to: PeerId) -> Result<(), TransferError> {
        self.alive()?;
        let Some(leader) = &mut self.leader else { return Err(TransferError::NotLeader { lead: self.lead }) };
        if to == self.config.id || !self.conf.is_voter(to) {
            return Err(TransferError::NotVoter);
        }
        match &leader.transfer {
            Some(transfer) if transfer.to != to => return Err(TransferError::InProgress { to: transfer.to }),
            Some(_) => return Ok(()),
            None => {}
        }
        leader.transfer = Some(Transfer { to, since_tick: self.tick });
        if !self.bugs.has(SeededBug::LeaseDuringTransfer) {
            leader.rounds.void_lease();
        }
        if let Some(progress) = leader.peers.get_mut(to) {
            // It may sit idle with everything it needs but unknown to us.
            progress.poked = true;
        }
        self.dirty = true;
        Ok(())
    }

    /// Gives up waiting. `TimeoutNow` was not sent, so we lead on; a lease needs a round that begins after this.
    pub(crate) fn abort_transfer(&mut self) {
        let Some(leader) = &mut self.leader else { return };
        if leader.transfer.take().is_some() {
            leader.rounds.void_lease();
            self.dirty = true;
        }
    }

    /// Hands over if the target holds all we have.
    pub(crate) fn complete_transfer(&mut self) {
        let Some(leader) = &self.leader else { return };
        let Some(Transfer { to, .. }) = leader.transfer else { return };
        let (last, tick, timeout) = (self.log.last().index, self.tick, self.config.election_tick);
        let ready = |progress: &Progress| progress.matched == last && progress.is_active(tick, timeout);
        if leader.peers.get(to).is_some_and(ready) {
            self.send(to, Body::TimeoutNow);
            if self.bugs.has(SeededBug::LeaseDuringTransfer) {
                self.leader.as_mut().expect("leads").transfer = None;
                return;
            }
            // INV-RAFT-18: this term is over for us, whatever becomes of the message.
            self.become_follower(self.term, PeerId::ZERO);
        }
    }

    /// The leader of our term hands over to us.
    pub(crate) fn on_timeout_now(&mut self, from: PeerId) {
        let ours = self.lead == from || self.lead.is_zero();
        if ours && matches!(self.role, Role::Follower | Role::PreCandidate) && self.may_stand().is_ok() {
            self.campaign_for_transfer();
        }
    }
}
