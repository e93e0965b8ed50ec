//! The effects that a group asks for.

use crate::{Entries, EntryId, HardState, LogMark, Message, Snapshot};
use types::{LogIndex, PeerId, Term};

/// The role of a peer in its group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether a campaign could succeed.
    PreCandidate,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
}

/// What observers of a group care about and nobody persists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SoftState {
    /// Whom we take for the leader; zero for nobody.
    pub lead: PeerId,
    /// Our role.
    pub role: Role,
}

/// Names one [`Append`]. Tokens of a group are handed out with `seq` growing by one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct PersistToken {
    /// Position in the order in which appends must become durable.
    pub seq: u64,
    /// What the log is once it is durable.
    pub mark: LogMark,
}

/// One atomic write to the group's log, to be made durable. Entries at index `i` discard everything at and after `i`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Append {
    /// The new hard state, if it changed. That the commit index has moved makes no write of its own: it is noted with the next.
    pub hard_state: Option<HardState>,
    /// Contiguous entries; possibly none.
    pub entries: Entries,
    /// Replaces log and data; the entries (if any) follow it.
    pub snapshot: Option<Box<Snapshot>>,
    /// To be handed back when it is durable.
    pub token: PersistToken,
}

/// A read that may now be served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReadState {
    /// The token that was given to `read_index`.
    pub token: u64,
    /// Serve it once this index is applied; `None`: the read was refused (leadership was lost on the way), ask again.
    pub index: Option<LogIndex>,
}

/// The effects of everything that was stepped since the last one. Order is in the fields: `messages` leave at once,
/// `messages_after` once the token of `append` (or, without one, the last token handed out) is durable.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ready {
    /// Role or leader changed.
    pub soft: Option<SoftState>,
    /// What to write to the log.
    pub append: Option<Append>,
    /// Send now.
    pub messages: Vec<Message>,
    /// Send when durable.
    pub messages_after: Vec<Message>,
    /// The next entries to apply; handed out once each, in order.
    pub committed: Entries,
    /// Reads that may now be served, or were refused.
    pub read_states: Vec<ReadState>,
}

impl Ready {
    /// Says nothing any more, but keeps the room of its lists.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.soft = None;
        self.append = None;
        self.messages.clear();
        self.messages_after.clear();
        self.committed = Entries::default();
        self.read_states.clear();
    }
}

/// A group at a glance.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Status {
    /// Our id.
    pub id: PeerId,
    /// Our role.
    pub role: Role,
    /// Our term.
    pub term: Term,
    /// Whom we voted for in it.
    pub vote: PeerId,
    /// Whom we take for the leader.
    pub lead: PeerId,
    /// Committed up to here.
    pub committed: LogIndex,
    /// Applied up to here, as far as we were told.
    pub applied: LogIndex,
    /// Durable up to here.
    pub persisted: LogIndex,
    /// Our last entry.
    pub last: EntryId,
}

/// Since when (by tick count) a quorum has been known to follow the leader of `term`.
///
/// A quorum acknowledged a round that was sent at or after `start_tick`, so none of its members votes before a minimum
/// election timeout has passed since, on its own clock. The caller maps ticks to its clock: a reading taken no later
/// than the first message of that tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The leader's term.
    pub term: Term,
    /// The tick count ([`RawNode::tick_count`](crate::RawNode::tick_count)) at which the round was sent.
    pub start_tick: u64,
}
