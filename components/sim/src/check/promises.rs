//! INV-RAFT-12: what the messages of a group promise is on the sender's disk when they leave.

use super::{Broken, DurableLogs};
use raft::{Body, Message, VoteKind};
use raftstore::LOG_START;
use types::{LogIndex, PeerId, RegionId, StoreId, Term};

/// What must be durable when a message leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// The sender has come to this term.
    Term(Term),
    /// It votes for that peer in this term.
    Vote(Term, PeerId),
    /// It has come to this term, and holds the log up to this index.
    Log(Term, LogIndex),
}

impl Promise {
    /// What a message promises; `None` for what changes nothing, whoever forgets it.
    #[must_use]
    pub const fn of(message: &Message) -> Option<Self> {
        match &message.body {
            Body::VoteResp { pre: true, .. } | Body::Vote { kind: VoteKind::Pre, .. } => None,
            Body::VoteResp { reject: false, .. } => Some(Self::Vote(message.term, message.to)),
            Body::Vote { .. } => Some(Self::Vote(message.term, message.from)),
            Body::AppendResp { index, reject: None, .. } => Some(Self::Log(message.term, *index)),
            _ if message.term.is_zero() => None,
            _ => Some(Self::Term(message.term)),
        }
    }

    /// Whether the promise is kept by what a store's disk holds for certain.
    ///
    /// # Errors
    /// When a power loss could make the peer forget it.
    pub fn is_kept(
        self,
        region: RegionId,
        peer: PeerId,
        store: StoreId,
        disk: &DurableLogs,
    ) -> Result<(), Broken> {
        let (term, vote) = disk.vote(region).unwrap_or((LOG_START.term, None));
        let holds = match self {
            Self::Term(promised) => term >= promised,
            Self::Vote(promised, to) => term > promised || (term == promised && vote == Some(to)),
            Self::Log(promised, index) => {
                let log = disk.log(region, peer, index);
                term >= promised && (log.term.is_some() || log.applied >= index || index <= LOG_START.index)
            }
        };
        if holds {
            return Ok(());
        }
        let facts = format!(
            "peer {peer} of region {region} on store {store} promises {self:?}, but its disk has term {term} and vote \
             {vote:?}"
        );
        Err(Broken { invariant: "INV-RAFT-12 (durable when promised)", facts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::log_batch;
    use raft::{EntryId, HardState};

    #[test]
    fn what_is_not_on_the_disk_is_not_promised() {
        let message = |body| Message { from: PeerId(1), to: PeerId(2), term: Term(9), body };
        let grant = |pre, reject| message(Body::VoteResp { pre, reject, commit: EntryId::default() });
        assert_eq!(Promise::of(&grant(true, false)), None);
        assert_eq!(Promise::of(&grant(false, true)), Some(Promise::Term(Term(9))));
        assert_eq!(Promise::of(&grant(false, false)), Some(Promise::Vote(Term(9), PeerId(2))));
        let disk = DurableLogs::default();
        let kept = |promise: Promise| promise.is_kept(RegionId(1), PeerId(1), StoreId(1), &disk).is_ok();
        assert!(kept(Promise::Term(LOG_START.term)) && kept(Promise::Log(LOG_START.term, LOG_START.index)));
        assert!(!kept(Promise::Term(Term(9))) && !kept(Promise::Vote(LOG_START.term, PeerId(2))));
        assert!(!kept(Promise::Log(LOG_START.term, LOG_START.index.next())));
    }

    #[test]
    fn what_is_on_the_disk_may_be_promised_and_nothing_beyond_it() {
        let mut disk = DurableLogs::default();
        let hard_state = HardState { term: Term(9), vote: PeerId(2), ..HardState::default() };
        disk.write(&log_batch(RegionId(1), &[7, 9], hard_state));
        let kept = |promise: Promise| promise.is_kept(RegionId(1), PeerId(1), StoreId(1), &disk).is_ok();
        for promise in [
            Promise::Term(Term(9)),
            Promise::Vote(Term(9), PeerId(2)),
            // In an earlier term it may have voted for anybody.
            Promise::Vote(Term(8), PeerId(3)),
            Promise::Log(Term(9), LogIndex(7)),
        ] {
            assert!(kept(promise), "{promise:?}");
        }
        for promise in [
            Promise::Term(Term(10)),
            Promise::Vote(Term(9), PeerId(3)),
            Promise::Log(Term(9), LogIndex(8)),
            Promise::Log(Term(10), LogIndex(7)),
        ] {
            assert!(!kept(promise), "{promise:?}");
        }
    }
}
