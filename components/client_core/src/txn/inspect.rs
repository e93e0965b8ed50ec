//! Looking at what lies under keys: for people who want to know why.

use crate::call::{Effect, TxnAttempt};
use crate::check::{check_key, check_range};
use crate::error::Error;
use crate::txn::client::TxnClient;
use types::{Key, KeyRange, Timestamp};
use wire::kv::{KvCommand, KvReply};
use wire::pd::SeenWait;
use wire::txn::{LockInfo, TxnRead, TxnReply, Version};

/// All that is known of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyHistory {
    /// The lock of a transaction that is about to write it, or was. Its keys are as regions see them.
    pub lock: Option<LockInfo>,
    /// What has happened to it, newest first; at most as many as a store tells at once.
    pub versions: Vec<Version>,
}

impl TxnClient {
    /// The lock and all versions of a key, whatever a reader would see.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::DeadlineExceeded`], [`Error::Unavailable`], [`Error::UnexpectedAnswer`].
    pub async fn history(&self, key: impl Into<Key>) -> Result<KeyHistory, Error> {
        let key = key.into();
        check_key(&key)?;
        let key = self.keyspace().encode(&key);
        match self.inspect(&key, TxnRead::History { key: key.clone() }).await?.0 {
            TxnReply::History { lock, versions } => Ok(KeyHistory { lock, versions }),
            _ => Err(Error::UnexpectedAnswer { message: "a store told no history of a key".to_owned() }),
        }
    }

    /// Locks of a range in key order, `limit` of them at most, with their keys as users see them.
    ///
    /// # Errors
    /// As [`TxnClient::history`].
    pub async fn locks(&self, range: KeyRange, limit: usize) -> Result<Vec<LockInfo>, Error> {
        check_range(&range)?;
        let KeyRange { mut start, end } = self.keyspace().encode_range(&range);
        let mut found = Vec::new();
        while found.len() < limit && (end.is_empty() || start < end) {
            let left = u32::try_from(limit - found.len()).unwrap_or(u32::MAX);
            let wanted = KeyRange::new(start.clone(), end.clone());
            let read = TxnRead::Locks { range: wanted, up_to: Timestamp(u64::MAX), limit: left };
            let (TxnReply::Locks { locks, resume }, region_end) = self.inspect(&start, read).await? else {
                return Err(Error::UnexpectedAnswer { message: "a store told no locks".to_owned() });
            };
            found.extend(locks);
            start = match resume {
                Some(resume) => resume,
                None if region_end.is_empty() => break,
                None => region_end,
            };
        }
        for lock in &mut found {
            for key in std::iter::once(&mut lock.key).chain([&mut lock.primary]).chain(&mut lock.secondaries)
            {
                *key = crate::txn::error::users_key(self.keyspace(), key);
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Who waits for locks of a range, in all of the cluster, as the placement driver has been told; a bounded number. Keys are
    /// as users see them.
    ///
    /// # Errors
    /// As [`TxnClient::history`].
    pub async fn lock_waits(&self, range: KeyRange) -> Result<Vec<SeenWait>, Error> {
        check_range(&range)?;
        let range = self.keyspace().encode_range(&range);
        let waits = self.core.admin().lock_waits().await?;
        let waits = waits.into_iter().filter(|wait| range.contains(&wait.edge.key));
        let told = |mut wait: SeenWait| {
            wait.edge.key = crate::txn::error::users_key(self.keyspace(), &wait.edge.key);
            wait
        };
        Ok(waits.map(told).collect())
    }

    /// What the region of a key answers, and where that region ends.
    async fn inspect(&self, at: &Key, read: TxnRead) -> Result<(TxnReply, Key), Error> {
        let mut call = self.core.begin(Effect::Read, self.deadline);
        loop {
            let route = self.core.region_at(&mut call, at).await?;
            let command = KvCommand::TxnRead(Box::new(read.clone()));
            match self.core.attempt_txn(&mut call, &route, command).await? {
                TxnAttempt::Again => {}
                TxnAttempt::Answered(KvReply::Txn(reply)) => {
                    return Ok((*reply, route.region.range.end.clone()));
                }
                TxnAttempt::Answered(_) => {
                    return Err(self.core.nonsense(&call, route.store_id, "not what lies under a key"));
                }
                TxnAttempt::Faulted(fault) => {
                    let message = format!("a store answered a look with {fault:?}");
                    return Err(Error::UnexpectedAnswer { message });
                }
            }
        }
    }
}
