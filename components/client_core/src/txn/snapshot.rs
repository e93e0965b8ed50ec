//! Reading at a timestamp.

use crate::batch::KeyAt;
use crate::call::{Call, Effect, TxnAttempt};
use crate::check::{check_key, check_range};
use crate::core::Core;
use crate::error::{Error, InvalidArgument};
use crate::keyspace::Keyspace;
use crate::pieces::Work;
use crate::scan::{Scan, ScanOptions, Source};
use crate::txn::error::TxnError;
use crate::txn::seen::Seen;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use types::{Key, KeyRange, Timestamp};
use wire::kv::{KvCommand, KvReply};
use wire::txn::{TxnFault, TxnRead};

/// All keys as they were at one moment: what was committed by its timestamp, and nothing else. However often and long it
/// reads, it sees the same.
///
/// Cheap to clone. Each call ends within the client's deadline. Locks of transactions that may have committed by then are
/// asked about, and waited for where that cannot be told yet.
#[derive(Clone, Debug)]
pub struct Snapshot {
    core: Core,
    keyspace: Keyspace,
    deadline: Duration,
    seen: Arc<Seen>,
}

impl Snapshot {
    pub(crate) fn new(core: Core, keyspace: Keyspace, deadline: Duration, at: Timestamp) -> Self {
        Self { core, keyspace, deadline, seen: Arc::new(Seen::at(at)) }
    }

    /// The moment.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.seen.at
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::DeadlineExceeded`], [`Error::Unavailable`];
    /// [`TxnError::LockTimeout`](crate::TxnError::LockTimeout) if nobody can tell yet whether a transaction that has
    /// locked the key commits by then.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, Error> {
        let key = self.key(key)?;
        self.get_encoded(self.call(), &key).await
    }

    /// The values of several keys, in their order; `None` for those that have none.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub async fn batch_get<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let mut wanted = Vec::new();
        for (place, key) in keys.into_iter().enumerate() {
            wanted.push(KeyAt { key: self.key(key)?, place });
        }
        self.values_of(self.call(), wanted).await
    }

    /// The pairs of a range, in key order or in reverse, as a stream that crosses regions. An empty end means all keys
    /// from the start on. Pages are read one after another, at most one ahead of the reader, all at the same timestamp;
    /// the deadline is that of each page.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]. The stream itself yields the errors of [`Snapshot::get`]; the first one ends it.
    pub fn scan(&self, range: KeyRange, options: ScanOptions) -> Result<Scan, Error> {
        check_range(&range)?;
        let source = Source::At(Arc::clone(&self.seen));
        Ok(Scan::new(self.core.clone(), self.keyspace, self.deadline, range, options, source))
    }

    /// The pairs of all keys that begin with `prefix`.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub fn scan_prefix(&self, prefix: impl Into<Key>, options: ScanOptions) -> Result<Scan, Error> {
        self.scan(KeyRange::prefix(prefix), options)
    }

    /// The value of a key as the region layer sees it.
    pub(crate) async fn get_encoded(&self, mut call: Call, key: &Key) -> Result<Option<Bytes>, Error> {
        loop {
            let route = self.core.region_at(&mut call, key).await?;
            let read = TxnRead::Get { key: key.clone(), view: self.seen.view() };
            match self.core.attempt_txn(&mut call, &route, KvCommand::TxnRead(Box::new(read))).await? {
                TxnAttempt::Again => {}
                TxnAttempt::Answered(KvReply::Value(value)) => return Ok(value),
                TxnAttempt::Answered(_) => {
                    return Err(self.core.nonsense(&call, route.store_id, "not with a value"));
                }
                TxnAttempt::Faulted(fault) => self.reading().meet(&mut call, fault).await?,
            }
        }
    }

    pub(crate) async fn values_of(
        &self,
        call: Call,
        wanted: Vec<KeyAt>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        self.core.values_of(call, wanted, &self.reading()).await
    }

    /// What it sees, for whoever reads in its place.
    pub(crate) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    fn call(&self) -> Call {
        self.core.begin(Effect::Read, self.deadline)
    }

    fn reading(&self) -> ReadingAt<'_> {
        ReadingAt { core: &self.core, keyspace: self.keyspace, seen: &self.seen }
    }

    fn key(&self, key: impl Into<Key>) -> Result<Key, InvalidArgument> {
        let key = key.into();
        check_key(&key)?;
        Ok(self.keyspace.encode(&key))
    }
}

/// Values of keys at a timestamp.
pub(crate) struct ReadingAt<'a> {
    pub(crate) core: &'a Core,
    pub(crate) keyspace: Keyspace,
    pub(crate) seen: &'a Seen,
}

impl Work for ReadingAt<'_> {
    type Item = KeyAt;

    fn command(&self, items: &[KeyAt]) -> KvCommand {
        let keys = items.iter().map(|item| item.key.clone()).collect();
        KvCommand::TxnRead(Box::new(TxnRead::BatchGet { keys, view: self.seen.view() }))
    }

    fn fits(&self, items: &[KeyAt], reply: &KvReply) -> bool {
        matches!(reply, KvReply::Values(found) if found.len() == items.len())
    }

    fn meet<'a>(&'a self, call: &'a mut Call, fault: TxnFault) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            match fault {
                TxnFault::KeyIsLocked { locks } => {
                    self.core.meet_as_reader(call, self.keyspace, self.seen, locks).await
                }
                other => Err(faulted_read(other)),
            }
        })
    }
}

/// What a fault that cannot be dealt with means for a reader.
pub(crate) fn faulted_read(fault: TxnFault) -> Error {
    match fault {
        TxnFault::BelowSafePoint { at, safe_point } => TxnError::BelowSafePoint { at, safe_point }.into(),
        TxnFault::TimestampFromFuture { named, latest } => {
            TxnError::TimestampFromFuture { named, latest }.into()
        }
        other => Error::UnexpectedAnswer { message: format!("a store answered a read with {other:?}") },
    }
}
