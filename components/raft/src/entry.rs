//! Log entries, their positions, and the durable state beside them.

use bytes::Bytes;
use types::{LogIndex, PeerId, Term};

/// A position in a log together with the term of the entry there. Ordered by term, then index: the order in which
/// Raft compares how up to date two logs are (thesis §3.6.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct EntryId {
    /// The term in which a leader created the entry.
    pub term: Term,
    /// Where it stands.
    pub index: LogIndex,
}

impl EntryId {
    /// The position `index` with the entry of `term`.
    #[must_use]
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

/// A log as one write leaves it. Two writes may leave the same entry at the same place and yet not the same log, when it
/// was overwritten in between; the terms of the leaders they came from then tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogMark {
    /// The term of the last leader whose entries were taken. Never falls.
    pub accepted_term: Term,
    /// Where the log ends.
    pub index: LogIndex,
}

/// What an entry's data is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum EntryKind {
    /// The application's; empty for the entry with which a new leader begins its term.
    #[default]
    Normal,
    /// A [`ConfChange`](crate::ConfChange).
    ConfChange,
}

/// One entry of a log.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Entry {
    /// The term in which a leader created it.
    pub term: Term,
    /// Where it stands.
    pub index: LogIndex,
    /// What `data` is.
    pub kind: EntryKind,
    /// Shared, never copied between log, message and apply.
    pub data: Bytes,
}

impl Entry {
    /// Where it stands and whose it is.
    #[must_use]
    #[inline]
    pub const fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }

    /// What it weighs against limits, in bytes: its data and a share for its envelope.
    #[must_use]
    #[inline]
    pub fn size_bytes(&self) -> u64 {
        // Term, index, kind and lengths take up to 24 bytes on the wire.
        self.data.len() as u64 + 24
    }
}

/// What a group must not forget across a restart, beside its log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// Whom we voted for in `term`; zero for nobody.
    pub vote: PeerId,
    /// The highest index known to be committed. May lag behind after a crash; term and vote never do.
    pub commit: LogIndex,
    /// The leader of `term` that we last heard; zero for none. Kept for fortified leadership.
    pub lead: PeerId,
    /// Reserved for fortified leadership; zero.
    pub lead_epoch: u64,
}
