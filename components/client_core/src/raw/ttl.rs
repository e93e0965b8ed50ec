//! Raw values that end by themselves.

use super::{RawClient, Swap};
use crate::batch::put_ops_for;
use crate::call::Effect;
use crate::check::{check_ttl, check_value};
use crate::error::Error;
use bytes::Bytes;
use std::time::Duration;
use types::Key;
use wire::kv::{KvCommand, KvReply, Life, WriteOp};

/// For how long a key has its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeToLive {
    /// Until somebody changes it.
    Unlimited,
    /// Not for longer than this.
    Left(Duration),
}

/// Values that end: their time begins when the leader of their region has got the request, and is told by the placement
/// driver's clock as stores know it. Whoever sets a key without a time, or removes it, ends that; whoever sets it again with
/// one begins it anew. To every reader, scans and conditions included, a value that is over is not there. Two stores may
/// know the time some milliseconds differently, so around its end a value may be gone at one leader and there at the next.
impl RawClient {
    /// Sets a key for a while.
    ///
    /// # Errors
    /// As [`RawClient::put`].
    pub async fn put_with_ttl(
        &self,
        key: impl Into<Key>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<(), Error> {
        let (key, value) = (self.key(key)?, value.into());
        check_value(&value)?;
        let op = WriteOp::PutFor { key: key.clone(), value, ttl_ms: check_ttl(ttl)? };
        self.write_one(op, &key).await
    }

    /// Sets several keys for a while, as [`RawClient::batch_put`] sets them.
    ///
    /// # Errors
    /// As [`RawClient::batch_put`].
    pub async fn batch_put_with_ttl<K: Into<Key>, V: Into<Bytes>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
        ttl: Duration,
    ) -> Result<(), Error> {
        let ttl_ms = check_ttl(ttl)?;
        let pairs = self.checked_pairs(pairs)?;
        self.core.batch_write(self.keyspace, put_ops_for(pairs, ttl_ms), self.deadline).await
    }

    /// Sets a key to `new` for a while if it holds `expected`, where `None` stands for "nothing". Atomic.
    ///
    /// # Errors
    /// As [`RawClient::compare_and_swap`].
    pub async fn compare_and_swap_with_ttl(
        &self,
        key: impl Into<Key>,
        expected: Option<Bytes>,
        new: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Swap, Error> {
        let (key, new) = (self.key(key)?, new.into());
        for value in expected.iter().chain([&new]) {
            check_value(value)?;
        }
        let ttl_ms = check_ttl(ttl)?;
        let command = KvCommand::CompareAndSwapFor { key: key.clone(), expected, new, ttl_ms };
        self.swap(&key, command).await
    }

    /// Sets a key for a while if it holds nothing. Atomic; `previous` of the outcome is what was in the way.
    ///
    /// # Errors
    /// As [`RawClient::compare_and_swap`].
    pub async fn put_if_absent_with_ttl(
        &self,
        key: impl Into<Key>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Swap, Error> {
        self.compare_and_swap_with_ttl(key, None, value, ttl).await
    }

    /// For how much longer a key has its value; `None` if it has none.
    ///
    /// # Errors
    /// As [`RawClient::get`].
    pub async fn get_ttl(&self, key: impl Into<Key>) -> Result<Option<TimeToLive>, Error> {
        let key = self.key(key)?;
        let mut call = self.core.begin(Effect::Read, self.deadline);
        let command = KvCommand::GetLife { key: key.clone() };
        let reply = self.core.on_key(&mut call, &key, command, |reply| match reply {
            KvReply::Life(life) => Some(life),
            _ => None,
        });
        Ok(reply.await?.map(|life| match life {
            Life::Unlimited => TimeToLive::Unlimited,
            Life::Left { ms } => TimeToLive::Left(Duration::from_millis(ms)),
        }))
    }
}
