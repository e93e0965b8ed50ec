//! What ends a transaction, or a step of it.

use crate::keyspace::Keyspace;
use types::{Key, KeyRange, Timestamp, escape_key};
use wire::txn::{Conflict, TxnFault, WaitEdge};

/// Why a transaction cannot go on, or was not committed. Nothing of it was written, or ever will be.
///
/// Keys are as their user sees them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TxnError {
    /// Another transaction has written a key since this one began. Begin again.
    #[error("the key `{}` was written by another transaction meanwhile; begin again", escape_key(key))]
    WriteConflict {
        /// The key.
        key: Key,
        /// When this one began.
        start_ts: Timestamp,
        /// When the other one began.
        conflict_start_ts: Timestamp,
        /// When it committed; `None`: it began later than this one, and is about to.
        conflict_commit_ts: Option<Timestamp>,
    },
    /// The transaction is [serializable](crate::Isolation::Serializable), and another one has changed what it has read.
    /// Begin again.
    #[error(
        "the key `{}`{} was changed by another transaction after it was read; begin again",
        escape_key(key),
        range.as_ref().map(|range| format!(" in the range {}", show_range(range))).unwrap_or_default()
    )]
    ReadConflict {
        /// The key.
        key: Key,
        /// The range that was scanned, if it was read in one: it may not have been there.
        range: Option<Box<KeyRange>>,
        /// When this one began.
        start_ts: Timestamp,
        /// When the other one began.
        conflict_start_ts: Timestamp,
        /// When it committed; `None`: it is about to.
        conflict_commit_ts: Option<Timestamp>,
    },
    /// The transaction was rolled back by another one that took it for abandoned, or a key that it had reserved was lost.
    /// Begin again.
    #[error("the transaction that began at {start_ts:?} was taken for abandoned; begin again")]
    RolledBack {
        /// When it began.
        start_ts: Timestamp,
    },
    /// Another transaction kept a key locked until this one would not wait any longer: it is still at work. (Seldom, both have
    /// waited for each other and nobody has noticed; then this one must be rolled back for the other to go on.) Begin again.
    #[error("the key `{}` stayed locked by the transaction that began at {by:?}", escape_key(key))]
    LockTimeout {
        /// The key.
        key: Key,
        /// When the other one began.
        by: Timestamp,
    },
    /// This transaction and others waited for each other, and it was the last to: it must be rolled back for the others to go
    /// on. Begin again.
    #[error("deadlock: {}; begin again", chain_in_words(wait_chain))]
    Deadlock {
        /// The key that it could not have.
        key: Key,
        /// When the one began that holds it.
        by: Timestamp,
        /// Who waited for whom: from this transaction back to it.
        wait_chain: Vec<WaitEdge>,
    },
    /// A key was to be new, and has a value. Not to be tried again as it is.
    #[error("the key `{}` exists already", escape_key(key))]
    AlreadyExists {
        /// The key.
        key: Key,
    },
    /// The timestamp of a snapshot was given by nobody yet. Not to be tried again as it is.
    #[error("the timestamp {named:?} lies in the future: {latest:?} is the latest that may have been given")]
    TimestampFromFuture {
        /// The timestamp.
        named: Timestamp,
        /// What the store would take.
        latest: Timestamp,
    },
    /// What was there then may have been removed: the snapshot, or the transaction, is older than versions live. Begin again;
    /// whoever needs longer holds the safe point (`flotilla ctl gc hold`).
    #[error("{at:?} is below the safe point {safe_point:?}: what was there then may be gone; begin again")]
    BelowSafePoint {
        /// When was to be read, or when the transaction began.
        at: Timestamp,
        /// Up to when versions may be gone.
        safe_point: Timestamp,
    },
    /// What the transaction writes is more than may be held in memory. Nothing was added; it may be committed as it is.
    #[error("the transaction would hold {size} bytes, over the limit of {size_max}")]
    TooLarge {
        /// How many bytes it would have held.
        size: u64,
        /// What is allowed.
        size_max: u64,
    },
}

impl TxnError {
    /// True if the same transaction may succeed when it is begun again.
    #[must_use]
    pub const fn is_worth_another(&self) -> bool {
        match self {
            Self::WriteConflict { .. }
            | Self::ReadConflict { .. }
            | Self::RolledBack { .. }
            | Self::LockTimeout { .. }
            | Self::Deadlock { .. } => true,
            // A transaction that is begun again reads at another time.
            Self::BelowSafePoint { .. } => true,
            Self::AlreadyExists { .. } | Self::TooLarge { .. } | Self::TimestampFromFuture { .. } => false,
        }
    }

    /// What a fault means for the transaction that met it; `None` for one that is dealt with, or should not be met.
    pub(crate) fn from_fault(keyspace: Keyspace, mine: Timestamp, fault: &TxnFault) -> Option<Self> {
        match fault {
            TxnFault::WriteConflict { reason: Conflict::RolledBack, .. }
            | TxnFault::PessimisticLockNotFound { .. }
            | TxnFault::TxnLockNotFound { .. } => Some(Self::RolledBack { start_ts: mine }),
            TxnFault::WriteConflict { key, conflict_start_ts, conflict_commit_ts, .. } => {
                Some(Self::WriteConflict {
                    key: users_key(keyspace, key),
                    start_ts: mine,
                    conflict_start_ts: *conflict_start_ts,
                    conflict_commit_ts: Some(*conflict_commit_ts),
                })
            }
            TxnFault::AlreadyExist { key } => Some(Self::AlreadyExists { key: users_key(keyspace, key) }),
            TxnFault::BelowSafePoint { at, safe_point } => {
                Some(Self::BelowSafePoint { at: *at, safe_point: *safe_point })
            }
            TxnFault::Deadlock { lock_ts, lock_key, wait_chain } => {
                let told = |edge: &WaitEdge| WaitEdge { key: users_key(keyspace, &edge.key), ..edge.clone() };
                Some(Self::Deadlock {
                    key: users_key(keyspace, lock_key),
                    by: *lock_ts,
                    wait_chain: wait_chain.iter().map(told).collect(),
                })
            }
            TxnFault::KeyIsLocked { .. }
            | TxnFault::CommitTsExpired { .. }
            | TxnFault::TxnNotFound { .. }
            | TxnFault::PrimaryMismatch { .. }
            | TxnFault::Committed { .. } => None,
            TxnFault::TimestampFromFuture { named, latest } => {
                Some(Self::TimestampFromFuture { named: *named, latest: *latest })
            }
        }
    }
}

/// Who waits for whom, for people.
fn chain_in_words(chain: &[WaitEdge]) -> String {
    let told = |edge: &WaitEdge| {
        format!("{:?} waits for {:?} at `{}`", edge.waiter_ts, edge.lock_ts, escape_key(&edge.key))
    };
    chain.iter().map(told).collect::<Vec<_>>().join(", ")
}

fn show_range(range: &KeyRange) -> String {
    let end =
        if range.end.is_empty() { "the end".to_owned() } else { format!("`{}`", escape_key(&range.end)) };
    format!("from `{}` to {end}", escape_key(&range.start))
}

/// A key for its user; one that is none of its key space, as it is.
pub(crate) fn users_key(keyspace: Keyspace, key: &Key) -> Key {
    keyspace.decode(key).unwrap_or_else(|| key.clone())
}
