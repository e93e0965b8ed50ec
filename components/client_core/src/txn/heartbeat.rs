//! Signs of life of a transaction that takes its time.

use crate::call::TxnAttempt;
use crate::error::Error;
use crate::txn::origin::Origin;
use futures_util::future::{AbortHandle, abortable};
use std::time::Duration;
use types::Key;
use wire::kv::KvCommand;
use wire::txn::TxnCommand;

/// A transaction that goes on for longer is one that somebody has forgotten.
const LIFE_MAX: Duration = Duration::from_secs(60 * 60);

/// One sign of life in this part of the time that the transaction may go without: two may be lost.
const BEATS_PER_TTL: u32 = 3;

/// Tells the primary every now and then that its transaction is still at work, until this is dropped.
pub(crate) struct Heartbeat(AbortHandle);

impl Heartbeat {
    /// Begins; the primary is locked, or is about to be.
    pub(crate) fn begin(origin: &Origin, primary: &Key) -> Self {
        let (beats, handle) = abortable(beat(origin.clone(), primary.clone()));
        origin.core.shared.spawn.spawn(Box::pin(async move {
            // It was given up, or the transaction is no more.
            let _ = beats.await;
        }));
        Self(handle)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The same while this is polled.
pub(crate) async fn beat(origin: Origin, primary: Key) {
    let core = &origin.core;
    while core.now().since(origin.begun_at) < LIFE_MAX {
        core.shared.timers.sleep(core.shared.options.txn_ttl / BEATS_PER_TTL).await;
        // Whatever keeps it from being done may be gone the next time: the primary may not be locked yet.
        let _ = beat_once(&origin, &primary).await;
    }
}

async fn beat_once(origin: &Origin, primary: &Key) -> Result<(), Error> {
    let core = &origin.core;
    let mut call = origin.call_behind();
    loop {
        let route = core.region_at(&mut call, primary).await?;
        let (start_ts, ttl_ms) = (origin.start_ts, origin.ttl_ms());
        let command = TxnCommand::Heartbeat { primary: primary.clone(), start_ts, ttl_ms };
        match core.attempt_txn(&mut call, &route, KvCommand::Txn(Box::new(command))).await? {
            TxnAttempt::Again => {}
            TxnAttempt::Answered(_) | TxnAttempt::Faulted(_) => return Ok(()),
        }
    }
}
