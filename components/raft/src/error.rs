//! What can go wrong, by what the caller does next.

use crate::{ConfigError, StorageError};
use std::fmt;
use types::{LogIndex, PeerId, Term};

/// Why a group could not be started, or cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The configuration is unusable: correct it.
    Config(ConfigError),
    /// The storage did not answer when the group was started.
    Storage(StorageError),
    /// The change of members breaks a rule; the members stay as they are. All peers come to the same conclusion.
    ConfChange(ConfChangeError),
    /// The group's state contradicts itself or its storage. It takes no further part; repair or remove the peer.
    Poisoned {
        /// What was found.
        reason: String,
    },
}

/// Why a message had no effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepError {
    /// It is meant for another peer.
    NotForUs {
        /// Whom it is meant for.
        to: PeerId,
    },
    /// An answer from a peer that is no member, as far as we know.
    UnknownSender {
        /// Who sent it.
        from: PeerId,
    },
    /// It breaks a rule of the protocol: the sender is broken, or not what it claims to be.
    Invalid(&'static str),
    /// The group does not go on; see [`Error::Poisoned`].
    Poisoned {
        /// What was found.
        reason: String,
    },
}

/// Why a proposal was not accepted. It has not been appended and never will be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// We do not lead: ask `lead`, if it is not zero.
    NotLeader {
        /// Whom we take for the leader.
        lead: PeerId,
    },
    /// Leadership is being handed over: keep it until that is decided.
    Transferring {
        /// The next leader.
        to: PeerId,
    },
    /// No quorum has been heard for an election timeout, so the proposal would likely hang. Retry later, or elsewhere.
    QuorumStale,
    /// Too much is uncommitted already: retry later.
    TooManyUncommitted,
    /// The change of members is not possible now, or never.
    ConfChange(ConfChangeError),
    /// The group does not go on; see [`Error::Poisoned`].
    Poisoned {
        /// What was found.
        reason: String,
    },
}

/// Why a change of members is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfChangeError {
    /// An earlier change may not have been applied yet. Retry once the log is applied up to `until`.
    Pending {
        /// The position of the earlier change, at the latest.
        until: LogIndex,
    },
    /// The leader has not committed an entry of its own term yet. Retry soon.
    NotCommittedInTerm,
    /// A joint configuration must be left first.
    Joint,
    /// There is no joint configuration to leave.
    NotJoint,
    /// Zero stands for nobody.
    NoId,
    /// A peer is named twice.
    NamedTwice(PeerId),
    /// Only a learner becomes a voter: it must have heard the leader before its vote counts.
    NotLearner(PeerId),
    /// It is a voter already.
    AlreadyVoter(PeerId),
    /// It is a learner already.
    AlreadyLearner(PeerId),
    /// It is no member.
    NotMember(PeerId),
    /// A voter is made a learner, and that applied, before it is removed.
    RemovesVoter(PeerId),
    /// No voter would be left.
    NoVoterLeft,
    /// Those of the next voters that are heard and near the log make no quorum: the group would stall.
    NoElectableQuorum,
}

/// Why a read index cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// We do not lead and know nobody who does. Retry later.
    NoLeader,
    /// We lead but have not committed an entry of our term, so we do not know what is committed. Retry soon.
    NotCommittedInTerm,
    /// Too many reads are waiting. Retry later.
    TooManyReads,
    /// The group does not go on; see [`Error::Poisoned`].
    Poisoned {
        /// What was found.
        reason: String,
    },
}

/// Why leadership cannot be handed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransferError {
    /// We do not lead: ask `lead`, if it is not zero.
    NotLeader {
        /// Whom we take for the leader.
        lead: PeerId,
    },
    /// The target does not vote (or is us).
    NotVoter,
    /// A transfer to another peer is under way; it ends within an election timeout.
    InProgress {
        /// The target of that one.
        to: PeerId,
    },
    /// The group does not go on; see [`Error::Poisoned`].
    Poisoned {
        /// What was found.
        reason: String,
    },
}

/// Why a campaign was not begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CampaignError {
    /// We do not vote, or wait for a snapshot.
    NotPromotable,
    /// A change of members is committed but not applied here: apply it first.
    ConfChangeUnapplied,
    /// A leader was heard (or may have been, before a restart) within the minimum election timeout. It may hold a
    /// lease that counts on our silence.
    LeaderHeard,
    /// The group does not go on; see [`Error::Poisoned`].
    Poisoned {
        /// What was found.
        reason: String,
    },
}

/// An invariant that does not hold: a mistake of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvariantViolated(pub String);

macro_rules! from_poison {
    ($($ty:ident),*) => {$(
        impl From<Poison> for $ty {
            fn from(poison: Poison) -> Self {
                Self::Poisoned { reason: poison.into_reason() }
            }
        }
    )*};
}
from_poison!(Error, StepError, Dropped, ReadError, TransferError, CampaignError);

/// The group's state contradicts itself, its storage or a peer: what was found.
#[derive(Clone, PartialEq, Eq, Debug)]
// Boxed, so that all that could find something out, and does not, says so in a register.
pub(crate) struct Poison(Box<str>);

impl Poison {
    /// `reason` was found, possibly before.
    #[cold]
    pub(crate) fn new(reason: impl Into<Box<str>>) -> Self {
        Self(reason.into())
    }

    pub(crate) fn into_reason(self) -> String {
        self.0.into()
    }

    /// The storage failed where it must not.
    pub(crate) fn storage(what: &str, index: LogIndex, error: &StorageError) -> Self {
        Self::new(format!("storage, {what} at {index}: {error}"))
    }

    /// Two entries stand where only one can.
    pub(crate) fn conflict(what: &str, index: LogIndex, ours: Term, theirs: Term) -> Self {
        Self::new(format!("{what} at index {index}: ours is of term {ours}, theirs of term {theirs}"))
    }
}

const POISONED: &str = "the group does not go on";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "configuration: {error}"),
            Self::Storage(error) => write!(f, "storage: {error}"),
            Self::ConfChange(error) => write!(f, "change of members: {error}"),
            Self::Poisoned { reason } => write!(f, "{POISONED}: {reason}"),
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotForUs { to } => write!(f, "message is for peer {to}"),
            Self::UnknownSender { from } => write!(f, "answer from peer {from}, which is no member"),
            Self::Invalid(what) => write!(f, "message breaks the protocol: {what}"),
            Self::Poisoned { reason } => write!(f, "{POISONED}: {reason}"),
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { lead } => write!(f, "not leader; leader is {lead}"),
            Self::Transferring { to } => write!(f, "leadership is being handed to peer {to}"),
            Self::QuorumStale => write!(f, "no quorum has been heard lately"),
            Self::TooManyUncommitted => write!(f, "too much is uncommitted"),
            Self::ConfChange(error) => write!(f, "change of members: {error}"),
            Self::Poisoned { reason } => write!(f, "{POISONED}: {reason}"),
        }
    }
}

impl fmt::Display for ConfChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending { until } => write!(f, "an earlier change may be unapplied, up to index {until}"),
            Self::NotCommittedInTerm => write!(f, "nothing of this term is committed yet"),
            Self::Joint => write!(f, "the joint configuration must be left first"),
            Self::NotJoint => write!(f, "the configuration is not joint"),
            Self::NoId => write!(f, "id is zero"),
            Self::NamedTwice(id) => write!(f, "peer {id} is named twice"),
            Self::NotLearner(id) => write!(f, "peer {id} is not a learner yet"),
            Self::AlreadyVoter(id) => write!(f, "peer {id} is a voter already"),
            Self::AlreadyLearner(id) => write!(f, "peer {id} is a learner already"),
            Self::NotMember(id) => write!(f, "peer {id} is no member"),
            Self::RemovesVoter(id) => write!(f, "peer {id} is a voter and must be made a learner first"),
            Self::NoVoterLeft => write!(f, "no voter would be left"),
            Self::NoElectableQuorum => write!(f, "too few of the next voters are heard and near the log"),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => write!(f, "no leader is known"),
            Self::NotCommittedInTerm => write!(f, "nothing of this term is committed yet"),
            Self::TooManyReads => write!(f, "too many reads are waiting"),
            Self::Poisoned { reason } => write!(f, "{POISONED}: {reason}"),
        }
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { lead } => write!(f, "not leader; leader is {lead}"),
            Self::NotVoter => write!(f, "the target is no other voter"),
            Self::InProgress { to } => write!(f, "leadership is being handed to peer {to}"),
            Self::Poisoned { reason } => write!(f, "{POISONED}: {reason}"),
        }
    }
}

impl fmt::Display for CampaignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPromotable => write!(f, "not a voter, or waiting for a snapshot"),
            Self::ConfChangeUnapplied => write!(f, "a committed change of members is not applied yet"),
            Self::LeaderHeard => write!(f, "a leader was heard within the election timeout"),
            Self::Poisoned { reason } => write!(f, "{POISONED}: {reason}"),
        }
    }
}

impl fmt::Display for InvariantViolated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant violated: {}", self.0)
    }
}

impl std::error::Error for Error {}
impl std::error::Error for StepError {}
impl std::error::Error for Dropped {}
impl std::error::Error for ConfChangeError {}
impl std::error::Error for ReadError {}
impl std::error::Error for TransferError {}
impl std::error::Error for CampaignError {}
impl std::error::Error for InvariantViolated {}
