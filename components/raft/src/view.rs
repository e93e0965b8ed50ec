//! A group laid open: for checkers, for operators, for tests.

use crate::{ConfState, EntryId, Lease, ProgressView, RawNode, Role, Storage};
use types::{LogIndex, PeerId, Term};

/// All that is worth seeing of a group, as plain data. Costs a few allocations; [`RawNode::status`] costs none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Our id.
    pub id: PeerId,
    /// Our role.
    pub role: Role,
    /// Our term.
    pub term: Term,
    /// The highest term that is durable.
    pub durable_term: Term,
    /// Whom we voted for in our term; zero for nobody.
    pub vote: PeerId,
    /// Whom we take for the leader; zero for nobody.
    pub lead: PeerId,
    /// The members, as of what is applied.
    pub conf_state: ConfState,
    /// The first index that is held.
    pub first: LogIndex,
    /// Our last entry.
    pub last: EntryId,
    /// Durable up to here.
    pub persisted: LogIndex,
    /// Committed up to here.
    pub committed: LogIndex,
    /// Handed out for applying up to here.
    pub applying: LogIndex,
    /// Applied up to here, as far as we were told.
    pub applied: LogIndex,
    /// A snapshot at this index is accepted and not yet installed.
    pub installing: Option<LogIndex>,
    /// Changes of members after what is applied.
    pub conf_entries: Vec<LogIndex>,
    /// Writes that were handed out and are not known to be durable.
    pub writes_outstanding: usize,
    /// Bytes of entries that were handed out and are not known to be applied.
    pub applying_bytes: u64,
    /// How many ticks have passed in this life.
    pub tick: u64,
    /// How many ticks from now a timer is due; see [`RawNode::next_deadline`].
    pub deadline_ticks: Option<u64>,
    /// How many ticks ago a leader was heard, if one was in this life.
    pub heard_ticks: Option<u64>,
    /// The votes that were counted in our campaign.
    pub votes: Vec<(PeerId, bool)>,
    /// Reads that were forwarded, or wait to be.
    pub reads_forwarded: usize,
    /// What only a leader knows.
    pub leader: Option<LeaderView>,
    /// Why the group does not go on, if it does not.
    pub poisoned: Option<String>,
}

/// What only a leader knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderView {
    /// Each member, ourselves included, by id.
    pub peers: Vec<(PeerId, ProgressView)>,
    /// The first entry of our term.
    pub term_start: LogIndex,
    /// The last entry that may hold a change of members.
    pub pending_conf_index: LogIndex,
    /// Bytes that were proposed and are not committed.
    pub uncommitted_bytes: u64,
    /// Whom we are handing over to.
    pub transfer: Option<PeerId>,
    /// Reads that wait for their round, or for its answers.
    pub reads: usize,
    /// The heartbeat round that was sent last.
    pub round: u64,
    /// The lease, if we hold one.
    pub lease: Option<Lease>,
}

impl<S: Storage> RawNode<S> {
    /// The group laid open.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            id: self.config.id,
            role: self.role,
            term: self.term,
            durable_term: self.durable_term,
            vote: self.vote,
            lead: self.lead,
            conf_state: self.conf.clone(),
            first: self.log.first_index(),
            last: self.log.last(),
            persisted: self.log.persisted(),
            committed: self.log.committed(),
            applying: self.log.applying(),
            applied: self.log.applied(),
            installing: self.log.installing(),
            conf_entries: self.log.conf_entries().to_vec(),
            writes_outstanding: self.log.writes_outstanding(),
            applying_bytes: self.log.applying_bytes(),
            tick: self.tick,
            deadline_ticks: self.next_deadline(),
            heard_ticks: self.timer.heard_tick().map(|heard| self.tick - heard),
            votes: self.rare.as_ref().map_or_else(Vec::new, |rare| rare.votes.clone()),
            reads_forwarded: self.forwards().map_or(0, |forwards| forwards.reads()),
            leader: self.leader_view(),
            poisoned: self.poisoned().map(str::to_owned),
        }
    }

    fn leader_view(&self) -> Option<LeaderView> {
        let leader = self.leader.as_ref()?;
        let mut peers = Vec::with_capacity(leader.peers.len());
        self.with_progress(&mut |id, view| peers.push((id, view)));
        Some(LeaderView {
            peers,
            term_start: leader.term_start,
            pending_conf_index: leader.pending_conf_index,
            uncommitted_bytes: leader.uncommitted.bytes(),
            transfer: leader.transfer.map(|transfer| transfer.to),
            reads: leader.rounds.reads(),
            round: leader.rounds.latest(),
            lease: self.lease(),
        })
    }
}
