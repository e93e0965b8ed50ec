//! Locks: what a transaction is about to do to a key.

use crate::error::corrupt;
use bytes::Bytes;
use codec::{Decode, Encode, codec_enum, codec_struct};
use engine::{Cf, EngineError, WriteBatch};
use types::{Key, Timestamp};

/// What the transaction that holds a lock does to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// It sets it.
    Put,
    /// It removes it.
    Delete,
    /// It only claims that nobody else has written it.
    Lock,
    /// It has reserved it, and has not decided yet.
    Pessimistic,
}
codec_enum!(LockKind { 1 = Put, 2 = Delete, 3 = Lock, 4 = Pessimistic });

/// A transaction's lock on one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// What it does to the key.
    pub kind: LockKind,
    /// The key that decides for all of the transaction: while it is locked nothing is decided.
    pub primary: Key,
    /// When the transaction began; names it.
    pub start_ts: Timestamp,
    /// How long after its beginning the transaction may be taken for abandoned, in milliseconds.
    pub ttl_ms: u64,
    /// The value of a `Put`, if it is short; otherwise it stands in `default`.
    pub short_value: Option<Bytes>,
    /// Up to when a pessimistic transaction has seen the key when it took the lock; zero for an optimistic one.
    pub for_update_ts: Timestamp,
    /// How many keys the transaction has written, as far as is known.
    pub txn_size: u64,
    /// The transaction commits at this timestamp or later.
    pub min_commit_ts: Timestamp,
    /// On the primary of a transaction that is committed as soon as all its keys are locked: all of the others.
    pub secondaries: Option<Vec<Key>>,
    /// Commits as soon as all keys of its transaction are locked.
    pub async_commit: bool,
}
codec_struct!(Lock {
    kind,
    primary,
    start_ts,
    ttl_ms,
    short_value,
    for_update_ts,
    txn_size,
    min_commit_ts,
    secondaries,
    async_commit,
});

impl Lock {
    /// A lock of a transaction that commits in two phases.
    #[must_use]
    pub fn new(kind: LockKind, primary: Key, start_ts: Timestamp, ttl_ms: u64) -> Self {
        Self {
            kind,
            primary,
            start_ts,
            ttl_ms,
            short_value: None,
            for_update_ts: Timestamp(0),
            txn_size: 0,
            min_commit_ts: Timestamp(0),
            secondaries: None,
            async_commit: false,
        }
    }

    /// True if the transaction may yet change what is seen of the key at `at`: whoever reads there must ask what became
    /// of it first.
    #[must_use]
    pub fn hides(&self, key: &[u8], at: Timestamp) -> bool {
        let writes = matches!(self.kind, LockKind::Put | LockKind::Delete);
        if !writes || self.start_ts > at || self.min_commit_ts > at {
            return false;
        }
        // Whoever reads the newest there is, and finds the primary locked, may take the transaction for one that commits
        // later: it decides when the primary's lock goes, unless it has decided when it came.
        let newest = at == Timestamp(u64::MAX) && self.primary == key && !self.async_commit;
        !newest
    }

    pub(crate) fn read(bytes: &Bytes) -> Result<Self, EngineError> {
        Self::from_bytes(bytes).map_err(|error| corrupt("a lock", &error))
    }
}

/// Appends to `batch` that the key is locked.
pub fn put_lock(batch: &mut WriteBatch, key: &[u8], lock: &Lock) {
    batch.put(Cf::Lock, key, &lock.to_bytes());
}

/// Appends to `batch` that the key is not locked any more.
pub fn delete_lock(batch: &mut WriteBatch, key: &[u8]) {
    batch.delete(Cf::Lock, key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_hides_what_its_transaction_may_yet_commit_before_the_reader() {
        let mut lock = Lock::new(LockKind::Put, "p".into(), Timestamp(10), 0);
        let max = Timestamp(u64::MAX);
        assert!(!lock.hides(b"k", Timestamp(9)), "it began later");
        assert!(lock.hides(b"k", Timestamp(10)) && lock.hides(b"k", max));
        assert!(!lock.hides(b"p", max), "it is not committed while its primary is locked");
        lock.async_commit = true;
        assert!(lock.hides(b"p", max), "it is, if all its keys are locked");
        lock.min_commit_ts = Timestamp(21);
        assert!(!lock.hides(b"k", Timestamp(20)), "it will commit later");
        assert!(lock.hides(b"k", Timestamp(21)));
        for kind in [LockKind::Lock, LockKind::Pessimistic] {
            let lock = Lock { kind, ..lock.clone() };
            assert!(!lock.hides(b"k", Timestamp(30)), "{kind:?} changes nothing");
        }
    }
}
