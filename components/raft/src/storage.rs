//! What a group asks of the place where its log is kept.

use crate::{ConfState, Entry, HardState, Snapshot};
use std::fmt;
use types::{LogIndex, PeerId, Term};

/// What a group starts from.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct InitialState {
    /// Term, vote and commit as last made durable.
    pub hard_state: HardState,
    /// The members as of the applied index.
    pub conf_state: ConfState,
}

/// Where a group's log is kept: reads only. Writes are effects (see [`Ready`](crate::Ready)).
///
/// What was handed out in a [`Ready`](crate::Ready) must be readable here once
/// [`RawNode::on_stable`](crate::RawNode::on_stable) or `on_persist` was called for it.
pub trait Storage {
    /// What was last made durable.
    ///
    /// # Errors
    /// [`StorageError::Other`] when it cannot be read.
    fn initial_state(&self) -> Result<InitialState, StorageError>;

    /// The index of the first entry held; one more than the compacted prefix.
    fn first_index(&self) -> LogIndex;

    /// The index of the last entry held; `first_index - 1` when there is none.
    fn last_index(&self) -> LogIndex;

    /// The term of the entry at `index`, which lies in `first_index - 1 ..= last_index`.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] below, [`StorageError::Unavailable`] above that range.
    fn term(&self, index: LogIndex) -> Result<Term, StorageError>;

    /// Appends the entries of `low..high` to `out`, stopping before they exceed `bytes_max` but never before the
    /// first.
    ///
    /// # Errors
    /// [`StorageError::Compacted`], [`StorageError::Unavailable`]; [`StorageError::LogTemporarilyUnavailable`] when the
    /// entries are being fetched and [`RawNode::on_entries_fetched`](crate::RawNode::on_entries_fetched) will be called.
    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        context: FetchContext,
        out: &mut Vec<Entry>,
    ) -> Result<(), StorageError>;

    /// A snapshot at or after `at_least`, and not beyond what is applied, to be sent to `to`. An older one that `to` is
    /// no member of is of no use to it; the group then asks for one that is as new as what is applied.
    ///
    /// # Errors
    /// [`StorageError::SnapshotTemporarilyUnavailable`] while it is being built; the group asks again.
    fn snapshot(&self, at_least: LogIndex, to: PeerId) -> Result<Snapshot, StorageError>;
}

/// Why entries are wanted, so that a storage can fetch them asynchronously.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchContext {
    /// The peer that they are to be sent to; zero when they are to be applied here, which cannot wait.
    pub to: PeerId,
    /// The term in which they are wanted.
    pub term: Term,
}

/// Why a storage cannot answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StorageError {
    /// The entries were compacted away.
    Compacted,
    /// The entries do not exist.
    Unavailable,
    /// A snapshot is being built.
    SnapshotTemporarilyUnavailable,
    /// The entries are being fetched.
    LogTemporarilyUnavailable,
    /// The storage is broken; the group stops.
    Other(String),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted => write!(f, "the entries were compacted away"),
            Self::Unavailable => write!(f, "the entries do not exist"),
            Self::SnapshotTemporarilyUnavailable => write!(f, "a snapshot is being built"),
            Self::LogTemporarilyUnavailable => write!(f, "the entries are being fetched"),
            Self::Other(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for StorageError {}
