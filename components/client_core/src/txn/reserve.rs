//! Keys that a transaction reserves before it knows what it does to them.

use crate::call::{Call, Effect};
use crate::error::Error;
use crate::pieces::{Outcome, Work};
use crate::txn::origin::Origin;
use crate::txn::resolve::Writer;
use crate::txn::undo::SeenUpTo;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use types::{Key, MonoTime};
use wire::kv::{KvCommand, KvReply};
use wire::txn::{Acquire, Conflict, TxnCommand, TxnFault, TxnReply};

/// One attempt of a transaction at some keys.
pub(crate) struct Reserving<'a> {
    origin: &'a Origin,
    primary: Key,
    must_be_new: bool,
    waits_until: MonoTime,
    /// What was committed by then is seen; later whenever somebody was faster.
    for_update_ts: SeenUpTo,
}

impl<'a> Reserving<'a> {
    pub(crate) fn new(origin: &'a Origin, primary: Key, must_be_new: bool, for_update_ts: SeenUpTo) -> Self {
        let waits_until = origin.core.now() + origin.core.shared.options.lock_wait_max;
        Self { origin, primary, must_be_new, waits_until, for_update_ts }
    }

    /// Which transaction it is.
    pub(crate) const fn origin(&self) -> &Origin {
        self.origin
    }

    /// The key that decides for it.
    pub(crate) const fn primary(&self) -> &Key {
        &self.primary
    }

    /// How long the store may let a request wait for whoever holds a key: not so long that the store seems to be silent. Whoever
    /// asks again has its place again.
    fn wait_ms(&self) -> u64 {
        let core = &self.origin.core;
        let left = self.waits_until.since(core.now()).min(core.shared.options.silent_after / 2);
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }

    /// Reserves keys, and says what they hold, in no particular order.
    ///
    /// # Errors
    /// [`TxnError`](crate::TxnError), and those of reads. Any of the keys may be reserved then.
    pub(crate) async fn reserve(
        &self,
        call: &Call,
        keys: Vec<Key>,
    ) -> Result<Vec<(Key, Option<Bytes>)>, Error> {
        let mut reserved = Vec::with_capacity(keys.len());
        let mut failure = None;
        self.origin
            .core
            .in_pieces(keys, call.within(Effect::Repeatable), self, |outcome| {
                match outcome {
                    Outcome::Done(keys, KvReply::Txn(reply)) => {
                        if let TxnReply::Reserved { values } = *reply {
                            reserved.extend(keys.into_iter().zip(values));
                        }
                    }
                    Outcome::Failed { error, .. } => {
                        failure.get_or_insert(error);
                    }
                    Outcome::Done(..) | Outcome::Left { .. } => {}
                }
                failure.is_none()
            })
            .await;
        failure.map_or(Ok(reserved), Err)
    }
}

impl Work for Reserving<'_> {
    type Item = Key;

    fn command(&self, keys: &[Key]) -> KvCommand {
        KvCommand::Txn(Box::new(TxnCommand::Acquire(Acquire {
            primary: self.primary.clone(),
            start_ts: self.origin.start_ts,
            for_update_ts: *self.for_update_ts.lock(),
            ttl_ms: self.origin.ttl_ms(),
            keys: keys.to_vec(),
            must_be_new: self.must_be_new,
            wait_ms: self.wait_ms(),
        })))
    }

    fn fits(&self, keys: &[Key], reply: &KvReply) -> bool {
        let KvReply::Txn(reply) = reply else { return false };
        matches!(&**reply, TxnReply::Reserved { values } if values.len() == keys.len())
    }

    fn meet<'a>(&'a self, call: &'a mut Call, fault: TxnFault) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let Origin { core, keyspace, start_ts, .. } = self.origin;
            match fault {
                TxnFault::KeyIsLocked { locks } => {
                    let writer = Writer {
                        keyspace: *keyspace,
                        start_ts: *start_ts,
                        // Whoever reserves keys waits for whoever has them.
                        gives_way: false,
                        waits_until: self.waits_until,
                    };
                    core.meet_as_writer(call, writer, locks).await
                }
                TxnFault::WriteConflict { reason: Conflict::Pessimistic, .. } => {
                    // Nothing of it has been used yet: look again.
                    let now = core.timestamp_for(call).await?;
                    let mut for_update_ts = self.for_update_ts.lock();
                    *for_update_ts = now.max(*for_update_ts);
                    Ok(())
                }
                other => Err(self.origin.ends_with(&other)),
            }
        })
    }
}
