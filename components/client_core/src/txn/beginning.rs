//! When a transaction begins: when it first has to know.
//!
//! A timestamp costs a question to the placement driver, and a transaction that only writes needs one only when it commits: the
//! same one says what it has not seen, and who has ended before it. So none is asked for before something depends on it: a
//! read, a key that is locked or reserved, the commit, or a caller who wants to know.

use crate::call::{Call, Effect};
use crate::error::Error;
use crate::seeded_bug::SeededBug;
use crate::txn::client::TxnClient;
use crate::txn::origin::Origin;
use crate::txn::snapshot::Snapshot;
use std::sync::OnceLock;
use types::Timestamp;

/// What a transaction is to be, and its beginning once there is one. Its scans share it: one of them may be the first to read.
pub(crate) struct Beginning {
    pub(crate) client: TxnClient,
    begun: OnceLock<Begun>,
}

/// A transaction that has begun.
pub(crate) struct Begun {
    pub(crate) origin: Origin,
    /// What it sees of others.
    pub(crate) snapshot: Snapshot,
}

impl Beginning {
    /// Of a transaction of this client, which has not begun.
    pub(crate) fn new(client: TxnClient) -> Self {
        Self { client, begun: OnceLock::new() }
    }

    /// What there is, asking for nothing.
    pub(crate) fn begun(&self) -> Option<&Begun> {
        self.begun.get()
    }

    /// Begins, unless it has.
    ///
    /// # Errors
    /// As of a timestamp: nothing has begun then.
    pub(crate) async fn begin(&self, call: &mut Call) -> Result<&Begun, Error> {
        match self.begun.get() {
            Some(begun) => Ok(begun),
            None => self.begin_with_now(call).await.map(|(begun, _)| begun),
        }
    }

    /// The same, and a timestamp that was asked for in this call. If it begins with it, that is its own.
    ///
    /// # Errors
    /// As [`Beginning::begin`].
    pub(crate) async fn begin_with_now(&self, call: &mut Call) -> Result<(&Begun, Timestamp), Error> {
        let core = &self.client.core;
        let begun_at = core.now();
        let now = core.timestamp_for(call).await?;
        // Of several that ask side by side, whoever has an answer first has begun it for all.
        let begun = self.begun.get_or_init(|| {
            let origin = self.client.origin(now, begun_at);
            let snapshot = self.client.snapshot(now);
            Begun { origin, snapshot }
        });
        Ok((begun, now))
    }

    /// A call of the transaction, by its client's deadline.
    pub(crate) fn call(&self, effect: Effect) -> Call {
        self.client.core.begin(effect, self.client.deadline)
    }

    /// True if the client is to break the rule.
    pub(crate) fn breaks(&self, rule: SeededBug) -> bool {
        self.client.core.shared.options.bugs.has(rule)
    }
}
