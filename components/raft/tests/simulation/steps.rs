//! What one message may do to one peer, whatever everybody else does.

use raft::{Body, Message, Status, VoteKind};
use types::{LogIndex, Term};

/// What must be known of a message once it has been stepped.
pub(crate) struct Claim {
    /// It is a vote, of a log that ends where it says.
    vote: Option<(VoteKind, raft::EntryId)>,
    /// It speaks for a leader.
    of_leader: bool,
    /// Up to where it proves the log to agree with the leader's, and so may commit.
    proves: LogIndex,
    from: types::PeerId,
    term: Term,
}

impl Claim {
    pub(crate) fn of(message: &Message) -> Self {
        let (vote, proves) = match &message.body {
            Body::Vote { kind, last, commit } => (Some((*kind, *last)), commit.index),
            Body::VoteResp { commit, .. } => (None, commit.index),
            Body::Append { prev, entries, .. } => (None, prev.index + entries.len() as u64),
            Body::Heartbeat { commit, .. } => (None, *commit),
            Body::Snapshot { snapshot } => (None, snapshot.meta.index),
            _ => (None, LogIndex(u64::MAX)),
        };
        let of_leader =
            matches!(message.body, Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. });
        Self { vote, of_leader, proves, from: message.from, term: message.term }
    }

    /// The peer was in `before` and has become `after`. `heard` is the term of the leader that it last heard in this life,
    /// zero for none.
    pub(crate) fn check(&self, before: &Status, after: &Status, heard: &mut Term) -> Result<(), String> {
        let what = || format!("{before:?} becomes {after:?}");
        if after.term < before.term || after.committed < before.committed {
            return Err(format!("something falls: {}", what()));
        }
        let votes_before = if after.term == before.term { before.vote } else { types::PeerId::ZERO };
        if !votes_before.is_zero() && after.vote != votes_before {
            return Err(format!("a second vote in term {}: {}", after.term, what()));
        }
        if after.committed > before.committed.max(self.proves) {
            return Err(format!("commits beyond {}, which is proved: {}", self.proves, what()));
        }
        let granted = votes_before.is_zero() && after.vote == self.from && after.term == self.term;
        if let (true, Some((kind, last))) = (granted, self.vote) {
            if last < before.last {
                return Err(format!("a vote for a log that ends at {last:?}: {}", what()));
            }
            let known = if heard.is_zero() { before.term } else { *heard };
            if let VoteKind::Transfer { leader_term } = kind
                && leader_term != known
            {
                return Err(format!(
                    "a vote for a transfer of term {leader_term}, heard {known}: {}",
                    what()
                ));
            }
        }
        if self.of_leader && after.term == self.term && after.lead == self.from {
            *heard = self.term;
        }
        Ok(())
    }
}
