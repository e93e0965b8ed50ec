//! Raw keys and values.

mod ttl;

pub use ttl::TimeToLive;

use crate::batch::{KeyAt, put_ops};
use crate::call::{Attempt, Call, Effect, Traced};
use crate::check::{check_key, check_range, check_value};
use crate::core::Core;
use crate::error::{Error, InvalidArgument};
use crate::keyspace::Keyspace;
use crate::scan::{Scan, ScanOptions, Source};
use bytes::Bytes;
use std::time::Duration;
use types::{Key, KeyRange, MonoTime};
use wire::kv::{KvCommand, KvPair, KvReply, WriteOp};
use wire::trace::Trace;

/// Keys and values without transactions: each call on one key is linearizable; calls on several are not atomic.
///
/// Cheap to clone. Every call ends within the deadline (see [`RawClient::with_deadline`]). Dropping the future of a
/// write leaves its outcome unknown.
#[derive(Clone, Debug)]
pub struct RawClient {
    core: Core,
    keyspace: Keyspace,
    deadline: Duration,
}

/// Where the time of a call went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallTrace {
    /// From the call to its result: finding the region, connecting and trying again included.
    pub took: Duration,
    /// How many requests were sent; the last of them was answered.
    pub requests: u32,
    /// What the store says that answered; `None` if it does not tell.
    pub store: Option<Trace>,
}

/// The outcome of a write on condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swap {
    /// Whether the condition held, and so the write was made.
    pub succeeded: bool,
    /// What the key held before.
    pub previous: Option<Bytes>,
}

impl RawClient {
    pub(crate) fn new(core: Core, keyspace: Keyspace) -> Self {
        let deadline = core.shared.options.deadline;
        Self { core, keyspace, deadline }
    }

    /// The same client, with another deadline for each call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The key space of this client.
    #[must_use]
    pub const fn keyspace(&self) -> Keyspace {
        self.keyspace
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::DeadlineExceeded`], [`Error::Unavailable`].
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<Bytes>, Error> {
        let key = self.key(key)?;
        let mut call = self.core.begin(Effect::Read, self.deadline);
        let command = KvCommand::Get { key: key.clone() };
        self.core
            .on_key(&mut call, &key, command, |reply| match reply {
                KvReply::Value(value) => Some(value),
                _ => None,
            })
            .await
    }

    /// As [`RawClient::get`], and where the time went.
    ///
    /// # Errors
    /// As [`RawClient::get`].
    pub async fn get_traced(&self, key: impl Into<Key>) -> Result<(Option<Bytes>, CallTrace), Error> {
        let key = self.key(key)?;
        let mut call = self.core.begin(Effect::Read, self.deadline).traced();
        let begun = self.core.now();
        let command = KvCommand::Get { key: key.clone() };
        let reply = self.core.on_key(&mut call, &key, command, |reply| match reply {
            KvReply::Value(value) => Some(value),
            _ => None,
        });
        let value = reply.await?;
        Ok((value, self.told(call, begun)))
    }

    /// The values of several keys, in their order; `None` for those that have none. Regions are asked side by side, so
    /// the values need not belong to one moment.
    ///
    /// # Errors
    /// As [`RawClient::get`]; the first one of any region.
    pub async fn batch_get<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let mut wanted = Vec::new();
        for (place, key) in keys.into_iter().enumerate() {
            wanted.push(KeyAt { key: self.key(key)?, place });
        }
        self.core.batch_get(wanted, self.deadline).await
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error::Undetermined`] when nobody knows whether it was set; all others mean that it was not:
    /// [`Error::InvalidArgument`], [`Error::DeadlineExceeded`], [`Error::Unavailable`], [`Error::DiskFull`].
    pub async fn put(&self, key: impl Into<Key>, value: impl Into<Bytes>) -> Result<(), Error> {
        let (key, value) = (self.key(key)?, value.into());
        check_value(&value)?;
        self.write_one(WriteOp::Put { key: key.clone(), value }, &key).await
    }

    /// As [`RawClient::put`], and where the time went.
    ///
    /// # Errors
    /// As [`RawClient::put`].
    pub async fn put_traced(&self, key: impl Into<Key>, value: impl Into<Bytes>) -> Result<CallTrace, Error> {
        let (key, value) = (self.key(key)?, value.into());
        check_value(&value)?;
        let mut call = self.core.begin(Effect::Write, self.deadline).traced();
        let begun = self.core.now();
        let command = KvCommand::Write { ops: vec![WriteOp::Put { key: key.clone(), value }] };
        let reply = self
            .core
            .on_key(&mut call, &key, command, |reply| matches!(reply, KvReply::Written).then_some(()));
        reply.await?;
        Ok(self.told(call, begun))
    }

    fn told(&self, call: Call, begun: MonoTime) -> CallTrace {
        let took = self.core.now().since(begun);
        let Traced { requests, last } = call.take_trace();
        CallTrace { took, requests, store: last }
    }

    /// Sets several keys; the last value counts for a key that comes twice. Atomic for no more than one key: regions
    /// are written side by side.
    ///
    /// # Errors
    /// As [`RawClient::put`] when that holds of all keys; otherwise [`Error::Incomplete`], which tells them apart.
    pub async fn batch_put<K: Into<Key>, V: Into<Bytes>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error> {
        let pairs = self.checked_pairs(pairs)?;
        self.core.batch_write(self.keyspace, put_ops(pairs), self.deadline).await
    }

    fn checked_pairs<K: Into<Key>, V: Into<Bytes>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<(Key, Bytes)>, InvalidArgument> {
        let mut checked = Vec::new();
        for (key, value) in pairs {
            let (key, value) = (self.key(key)?, value.into());
            check_value(&value)?;
            checked.push((key, value));
        }
        Ok(checked)
    }

    /// Removes a key; one that is not there stays so.
    ///
    /// # Errors
    /// As [`RawClient::put`].
    pub async fn delete(&self, key: impl Into<Key>) -> Result<(), Error> {
        let key = self.key(key)?;
        self.write_one(WriteOp::Delete { key: key.clone() }, &key).await
    }

    /// Removes several keys, as [`RawClient::batch_put`] sets them.
    ///
    /// # Errors
    /// As [`RawClient::batch_put`].
    pub async fn batch_delete<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> Result<(), Error> {
        let mut ops = Vec::new();
        for key in keys {
            ops.push(WriteOp::Delete { key: self.key(key)? });
        }
        self.core.batch_write(self.keyspace, ops, self.deadline).await
    }

    /// Removes all keys of a range, region after region from its start. An empty end means all keys from the start on.
    ///
    /// # Errors
    /// As [`RawClient::put`] when nothing was deleted yet; otherwise [`Error::RangeIncomplete`], which says how far it
    /// came. Deleting the range again is always safe where nobody else writes there.
    pub async fn delete_range(&self, range: KeyRange) -> Result<(), Error> {
        check_range(&range)?;
        let mut left = self.keyspace.encode_range(&range);
        let begin = left.start.clone();
        let mut call = self.core.begin(Effect::Write, self.deadline);
        while !left.is_empty() {
            match self.delete_first_part(&mut call, &left).await {
                Ok(done_to) => left.start = done_to,
                Err(cause) if left.start == begin => return Err(cause),
                Err(cause) => {
                    let deleted_to = self.keyspace.decode(&left.start).expect("it lies in the range");
                    return Err(Error::RangeIncomplete { deleted_to, cause: Box::new(cause) });
                }
            }
        }
        Ok(())
    }

    /// Deletes what lies in the first region of `range`, and says where the next one begins.
    async fn delete_first_part(&self, call: &mut Call, range: &KeyRange) -> Result<Key, Error> {
        loop {
            let route = self.core.region_at(call, &range.start).await?;
            let part = route.region.range.intersection(range);
            let done_to = part.end.clone();
            let command = KvCommand::Write { ops: vec![WriteOp::DeleteRange { range: part }] };
            match self.core.attempt(call, &route, command).await? {
                Attempt::Answered(KvReply::Written) => return Ok(done_to),
                Attempt::Answered(_) => {
                    return Err(self.core.nonsense(call, route.store_id, "not to a write"));
                }
                Attempt::Again => {}
            }
        }
    }

    /// Sets a key to `new` if it holds `expected`, where `None` stands for "nothing" in both. Atomic.
    ///
    /// # Errors
    /// As [`RawClient::put`]. That the condition does not hold is no error.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Key>,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<Swap, Error> {
        let key = self.key(key)?;
        for value in expected.iter().chain(&new) {
            check_value(value)?;
        }
        let command = KvCommand::CompareAndSwap { key: key.clone(), expected, new };
        self.swap(&key, command).await
    }

    async fn swap(&self, key: &Key, command: KvCommand) -> Result<Swap, Error> {
        let mut call = self.core.begin(Effect::Write, self.deadline);
        self.core
            .on_key(&mut call, key, command, |reply| match reply {
                KvReply::Swapped { succeeded, previous } => Some(Swap { succeeded, previous }),
                _ => None,
            })
            .await
    }

    /// Sets a key if it holds nothing. Atomic; `previous` of the outcome is what was in the way.
    ///
    /// # Errors
    /// As [`RawClient::compare_and_swap`].
    pub async fn put_if_absent(&self, key: impl Into<Key>, value: impl Into<Bytes>) -> Result<Swap, Error> {
        self.compare_and_swap(key, None, Some(value.into())).await
    }

    /// The pairs of a range, in key order or in reverse, as a stream that crosses regions. An empty end means all keys
    /// from the start on; see [`KeyRange::prefix`] for all keys with a prefix.
    ///
    /// Pages are read one after another, at most one ahead of the reader; they need not belong to one moment. The
    /// deadline is that of each page.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]. The stream itself yields the errors of [`RawClient::get`]; the first one ends it,
    /// and [`Scan::remaining`] is then what a new scan may go on with.
    pub fn scan(&self, range: KeyRange, options: ScanOptions) -> Result<Scan, Error> {
        check_range(&range)?;
        Ok(Scan::new(self.core.clone(), self.keyspace, self.deadline, range, options, Source::Raw))
    }

    /// The pairs of all keys that begin with `prefix`.
    ///
    /// # Errors
    /// As [`RawClient::scan`].
    pub fn scan_prefix(&self, prefix: impl Into<Key>, options: ScanOptions) -> Result<Scan, Error> {
        self.scan(KeyRange::prefix(prefix), options)
    }

    /// The first `limit` pairs of a range.
    ///
    /// # Errors
    /// As [`RawClient::scan`] and its stream.
    pub async fn scan_page(&self, range: KeyRange, limit: u64) -> Result<Vec<KvPair>, Error> {
        self.scan(range, ScanOptions { limit: Some(limit), ..ScanOptions::default() })?.into_vec().await
    }

    async fn write_one(&self, op: WriteOp, key: &Key) -> Result<(), Error> {
        let mut call = self.core.begin(Effect::Write, self.deadline);
        let command = KvCommand::Write { ops: vec![op] };
        self.core
            .on_key(&mut call, key, command, |reply| matches!(reply, KvReply::Written).then_some(()))
            .await
    }

    /// A user's key, checked, as the region layer sees it.
    fn key(&self, key: impl Into<Key>) -> Result<Key, InvalidArgument> {
        let key = key.into();
        check_key(&key)?;
        Ok(self.keyspace.encode(&key))
    }
}

impl Core {
    /// Makes attempts at the region of `key` until one is answered; `expect` takes the answer it knows.
    async fn on_key<T>(
        &self,
        call: &mut Call,
        key: &Key,
        command: KvCommand,
        expect: impl FnOnce(KvReply) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            let route = self.region_at(call, key).await?;
            if let Attempt::Answered(reply) = self.attempt(call, &route, command.clone()).await? {
                return expect(reply)
                    .ok_or_else(|| self.nonsense(call, route.store_id, "another kind of question"));
            }
        }
    }
}
