//! Where transactions begin.

use crate::core::Core;
use crate::error::Error;
use crate::keyspace::Keyspace;
use crate::txn::commit::CommitProtocol;
use crate::txn::isolation::Isolation;
use crate::txn::origin::Origin;
use crate::txn::snapshot::Snapshot;
use crate::txn::transaction::{Mode, Transaction};
use std::time::Duration;
use types::{MonoTime, Timestamp};

/// Keys and values with transactions. Cheap to clone.
///
/// Every call ends within the deadline (see [`TxnClient::with_deadline`]); a transaction may take longer.
#[derive(Clone, Debug)]
pub struct TxnClient {
    pub(crate) core: Core,
    keyspace: Keyspace,
    pub(crate) deadline: Duration,
    pub(crate) protocol: CommitProtocol,
    pub(crate) isolation: Isolation,
}

impl TxnClient {
    pub(crate) fn new(core: Core, keyspace: Keyspace) -> Self {
        let deadline = core.shared.options.deadline;
        let (protocol, isolation) = (CommitProtocol::default(), Isolation::default());
        Self { core, keyspace, deadline, protocol, isolation }
    }

    /// The same client, with another deadline for each call, those of its transactions and snapshots included.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same client, whose transactions commit in another way.
    #[must_use]
    pub fn with_protocol(&self, protocol: CommitProtocol) -> Self {
        Self { protocol, ..self.clone() }
    }

    /// The same client, whose transactions are kept apart in another way.
    #[must_use]
    pub fn with_isolation(&self, isolation: Isolation) -> Self {
        Self { isolation, ..self.clone() }
    }

    /// The same client, whose transactions are [serializable](Isolation::Serializable).
    #[must_use]
    pub fn serializable(&self) -> Self {
        self.with_isolation(Isolation::Serializable)
    }

    /// The key space of this client.
    #[must_use]
    pub const fn keyspace(&self) -> Keyspace {
        self.keyspace
    }

    /// A timestamp, later than any that was given to anybody before this call.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`], [`Error::Unavailable`], [`Error::UnexpectedAnswer`].
    pub async fn timestamp(&self) -> Result<Timestamp, Error> {
        self.core.timestamp(self.deadline).await
    }

    /// A transaction that finds out when it commits whether others were in its way: best where that is rare. Nothing is asked for
    /// yet; see [`Transaction`] for when it begins.
    #[must_use]
    pub fn begin(&self) -> Transaction {
        Transaction::new(self.clone(), Mode::Optimistic)
    }

    /// A transaction that locks keys as soon as it writes them: best where many write the same ones. Nothing is asked for yet.
    #[must_use]
    pub fn begin_pessimistic(&self) -> Transaction {
        Transaction::new(self.clone(), Mode::Pessimistic)
    }

    /// Everything as it was at a timestamp, which may be long ago. It must be one that was given by the cluster: what
    /// commits before one that is yet to come may still change.
    #[must_use]
    pub fn snapshot(&self, at: Timestamp) -> Snapshot {
        Snapshot::new(self.core.clone(), self.keyspace, self.deadline, at)
    }

    /// Everything as it is now: all that was committed before this call, by anybody.
    ///
    /// # Errors
    /// As [`TxnClient::timestamp`].
    pub async fn latest(&self) -> Result<Snapshot, Error> {
        Ok(self.snapshot(self.timestamp().await?))
    }

    /// The transaction that began at `start_ts`, which was asked for at `begun_at`.
    pub(crate) fn origin(&self, start_ts: Timestamp, begun_at: MonoTime) -> Origin {
        let Self { core, keyspace, deadline, protocol, .. } = self.clone();
        Origin { core, keyspace, deadline, protocol, start_ts, begun_at }
    }
}
