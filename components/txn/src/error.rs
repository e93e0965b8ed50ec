//! Why a command has changed nothing.

use engine::EngineError;
use mvcc::Lock;
use std::fmt;
use types::{Key, Timestamp};

/// Why a transaction cannot go on with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// Somebody has committed it since the transaction began.
    Optimistic,
    /// Somebody has committed it since the transaction last looked: look again and retry.
    Pessimistic,
    /// The transaction itself was rolled back on it, by whoever took it for abandoned.
    RolledBack,
}

/// What a command finds that keeps it from doing what it should. Nothing is changed then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnError {
    /// Other transactions are about to write keys. Resolve their locks, or wait, and try again.
    KeyIsLocked {
        /// The keys with their locks: one at least, so many at most that they can be told.
        locks: Vec<(Key, Lock)>,
    },
    /// The key was written meanwhile. Begin again.
    WriteConflict {
        /// The key.
        key: Key,
        /// The transaction that cannot go on.
        start_ts: Timestamp,
        /// When the other one began.
        conflict_start_ts: Timestamp,
        /// When it committed, or was rolled back.
        conflict_commit_ts: Timestamp,
        /// In which respect.
        reason: Conflict,
    },
    /// The key was to be new, and has a value.
    AlreadyExist {
        /// The key.
        key: Key,
    },
    /// Somebody has read the key since, and has been told that the transaction commits later. Commit at a new timestamp.
    CommitTsExpired {
        /// The key.
        key: Key,
        /// The transaction.
        start_ts: Timestamp,
        /// When it wanted to commit.
        attempted: Timestamp,
        /// When it may, at the earliest.
        min_commit_ts: Timestamp,
    },
    /// There is no lock to commit, and no record that it was committed.
    TxnLockNotFound {
        /// The key.
        key: Key,
        /// The transaction.
        start_ts: Timestamp,
    },
    /// Nothing is known of the transaction here.
    TxnNotFound {
        /// The key that was said to be its primary.
        primary: Key,
        /// The transaction.
        start_ts: Timestamp,
    },
    /// The lock's primary is another key. Ask there.
    PrimaryMismatch {
        /// The key that was asked.
        key: Key,
        /// Its lock.
        lock: Box<Lock>,
    },
    /// The key should be locked by the transaction already, and is not any more. Begin again.
    PessimisticLockNotFound {
        /// The key.
        key: Key,
        /// The transaction.
        start_ts: Timestamp,
    },
    /// The transaction is committed: it cannot be rolled back.
    Committed {
        /// The key.
        key: Key,
        /// The transaction.
        start_ts: Timestamp,
        /// When.
        commit_ts: Timestamp,
    },
    /// The request contradicts itself, or what it did before.
    Invalid {
        /// What is wrong, and what would be right.
        message: &'static str,
    },
    /// The engine cannot be read.
    Engine(EngineError),
}

impl fmt::Display for TxnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyIsLocked { locks } => {
                let by: Vec<_> = locks.iter().map(|(_, lock)| lock.start_ts).collect();
                write!(f, "keys are locked by transactions that began at {by:?}")
            }
            Self::WriteConflict { conflict_commit_ts, reason, .. } => match reason {
                Conflict::RolledBack => write!(f, "the transaction was rolled back; begin again"),
                _ => write!(f, "the key was written at {conflict_commit_ts:?}; begin again"),
            },
            Self::AlreadyExist { .. } => write!(f, "the key exists already"),
            Self::CommitTsExpired { min_commit_ts, .. } => {
                write!(f, "the key was read since; commit at {min_commit_ts:?} or later")
            }
            Self::TxnLockNotFound { start_ts, .. } => {
                write!(f, "the lock of the transaction that began at {start_ts:?} is gone")
            }
            Self::TxnNotFound { start_ts, .. } => {
                write!(f, "nothing is known of a transaction that began at {start_ts:?}")
            }
            Self::PrimaryMismatch { .. } => write!(f, "the lock's primary is another key"),
            Self::PessimisticLockNotFound { .. } => write!(f, "the lock was lost; begin again"),
            Self::Committed { commit_ts, .. } => write!(f, "the transaction committed at {commit_ts:?}"),
            Self::Invalid { message } => write!(f, "{message}"),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TxnError {}

impl From<EngineError> for TxnError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// Locks that one refusal names.
const LOCKS_MAX: usize = 256;

/// Why several keys were refused: by their locks, all in one, so that the client can resolve them in one go; or by the first
/// other thing that was in the way.
#[derive(Default)]
pub(crate) struct Gathered {
    locks: Vec<(Key, Lock)>,
    other: Option<TxnError>,
}

impl Gathered {
    pub(crate) fn add(&mut self, error: TxnError) {
        match error {
            TxnError::KeyIsLocked { locks } => {
                self.locks.extend(locks);
                self.locks.truncate(LOCKS_MAX);
            }
            other => drop(self.other.get_or_insert(other)),
        }
    }

    pub(crate) fn end(self) -> Result<(), TxnError> {
        match self {
            Self { other: Some(other), .. } => Err(other),
            Self { locks, .. } if !locks.is_empty() => Err(TxnError::KeyIsLocked { locks }),
            Self { .. } => Ok(()),
        }
    }
}
