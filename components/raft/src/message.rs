//! What peers of a group say to each other.

use crate::{Entries, EntryId, Snapshot};
use types::{LogIndex, PeerId, Term};

/// A message from one peer to another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Message {
    /// The sender.
    pub from: PeerId,
    /// The receiver.
    pub to: PeerId,
    /// The sender's term (for a pre-vote the term it would campaign in); zero for what is merely forwarded.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// A vote that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum VoteKind {
    /// Would you vote for me? Changes no state (thesis §9.6).
    #[default]
    Pre,
    /// Vote for me.
    Real,
    /// Vote for me: the leader of this term handed over to me (thesis §3.10). Granted only by voters that last heard
    /// that leader.
    Transfer {
        /// The term of the `TimeoutNow` that caused the campaign.
        leader_term: Term,
    },
}

/// Why an append was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Reject {
    /// The `prev.index` of the append that was refused.
    pub rejected: LogIndex,
    /// The follower's best guess of where the logs agree: its last entry at or before `rejected` whose term does not
    /// exceed that of the refused `prev`.
    pub hint: EntryId,
}

/// What is said.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
// Left alone, the compiler packs the tag and the flags of some variants into single bytes, and then moves all of them in
// pieces that straddle what was just written, which costs more than the message's whole way through the core.
#[repr(u64)]
pub enum Body {
    /// Entries to append after `prev`.
    Append {
        /// What must stand right before them.
        prev: EntryId,
        /// Contiguous from `prev.index + 1`; may be empty.
        entries: Entries,
        /// How far the leader knows the log to be committed.
        commit: LogIndex,
    },
    /// An append was stored durably, or refused.
    AppendResp {
        /// Stored: the last index that is durable and known to agree with the leader. Refused: unused.
        index: LogIndex,
        /// How far the follower knows the log to be committed.
        commit: LogIndex,
        /// Set when refused.
        reject: Option<Reject>,
    },
    /// A vote is asked for.
    Vote {
        /// Which kind.
        kind: VoteKind,
        /// The candidate's last entry.
        last: EntryId,
        /// The candidate's last committed entry, for the sake of voters that lag behind.
        commit: EntryId,
    },
    /// A vote is granted or refused.
    VoteResp {
        /// The answer to a pre-vote.
        pre: bool,
        /// True if refused.
        reject: bool,
        /// The voter's last committed entry, for the sake of candidates that lag behind.
        commit: EntryId,
    },
    /// I am still your leader.
    Heartbeat {
        /// How far the follower may commit: never beyond what it is known to hold.
        commit: LogIndex,
        /// The round, for reads and leases; counted by the leader within its term.
        round: u64,
    },
    /// You are still my leader.
    HeartbeatResp {
        /// How far the follower knows the log to be committed.
        commit: LogIndex,
        /// The round that is answered.
        round: u64,
    },
    /// The log that you need is gone; take this instead.
    Snapshot {
        /// Where it stands.
        snapshot: Box<Snapshot>,
    },
    /// Campaign at once: I hand over to you.
    TimeoutNow,
    /// A follower asks for a read index on behalf of its caller.
    ReadIndex {
        /// Names the asker's batch of reads; opaque to the leader. Drawn by the asker's group for each batch, never the
        /// caller's own token: a delayed answer must not serve a later read that happens to reuse it (etcd#20418).
        token: u64,
    },
    /// The answer.
    ReadIndexResp {
        /// Reads at or after this applied index are linearizable; zero if refused.
        index: LogIndex,
        /// The asker's token.
        token: u64,
        /// True if the leader cannot answer.
        reject: bool,
    },
}
