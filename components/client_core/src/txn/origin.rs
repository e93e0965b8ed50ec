//! Which transaction it is.

use crate::call::{Call, Effect};
use crate::core::Core;
use crate::error::Error;
use crate::keyspace::Keyspace;
use crate::seeded_bug::SeededBug;
use crate::txn::commit::CommitProtocol;
use crate::txn::error::TxnError;
use std::time::Duration;
use types::{MonoTime, Timestamp};
use wire::txn::TxnFault;

/// A transaction's name, its client, and when it began by its client's clock.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) core: Core,
    pub(crate) keyspace: Keyspace,
    pub(crate) deadline: Duration,
    pub(crate) protocol: CommitProtocol,
    pub(crate) start_ts: Timestamp,
    /// Not later than `start_ts`.
    pub(crate) begun_at: MonoTime,
}

impl Origin {
    /// How long after its beginning the transaction may take, if it is at work now; in milliseconds.
    pub(crate) fn ttl_ms(&self) -> u64 {
        let ttl = self.core.now().since(self.begun_at) + self.core.shared.options.txn_ttl;
        u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
    }

    /// True if the client is to break the rule.
    pub(crate) fn breaks(&self, rule: SeededBug) -> bool {
        self.core.shared.options.bugs.has(rule)
    }

    /// A call whose requests may come twice.
    pub(crate) fn call(&self) -> Call {
        self.core.begin(Effect::Repeatable, self.deadline)
    }

    /// The same for what goes on when the caller has gone: what time the caller had left does not matter.
    pub(crate) fn call_behind(&self) -> Call {
        self.core.begin(Effect::Repeatable, self.core.shared.options.deadline)
    }

    /// What a fault that cannot be dealt with means for the caller.
    pub(crate) fn ends_with(&self, fault: &TxnFault) -> Error {
        match TxnError::from_fault(self.keyspace, self.start_ts, fault) {
            Some(error) => error.into(),
            None => Error::UnexpectedAnswer {
                message: format!("a store answered the transaction of {:?} with {fault:?}", self.start_ts),
            },
        }
    }
}
