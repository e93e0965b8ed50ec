//! What a transaction has locked, for the case that it does not commit.

use crate::call::Call;
use crate::error::Error;
use crate::txn::origin::Origin;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use types::{Key, Timestamp};
use wire::txn::TxnCommand;

/// Keys that may be locked. When this is dropped, by whomever, they are given up in the background.
pub(crate) struct Undo {
    origin: Origin,
    /// These may have been prewritten: the transaction must never write them.
    prewritten: BTreeSet<Key>,
    /// These may be reserved.
    reserved: BTreeSet<Key>,
    /// With what was seen up to then: nobody reserves keys with more.
    for_update_ts: SeenUpTo,
    /// Others may find the transaction committed: nothing is given up as long as that is so.
    is_held: bool,
}

/// A timestamp that only grows.
pub(crate) type SeenUpTo = Arc<Mutex<Timestamp>>;

impl Undo {
    /// Nothing is locked yet.
    pub(crate) fn new(origin: Origin) -> Self {
        let (prewritten, reserved) = (BTreeSet::new(), BTreeSet::new());
        Self { origin, prewritten, reserved, for_update_ts: SeenUpTo::default(), is_held: false }
    }

    pub(crate) fn may_be_reserved(&mut self, keys: &[Key]) {
        self.reserved.extend(keys.iter().cloned());
    }

    /// For whoever asks for reservations.
    pub(crate) fn seen_up_to(&self) -> SeenUpTo {
        SeenUpTo::clone(&self.for_update_ts)
    }

    /// These are all that may have been prewritten, and nobody can find the transaction committed.
    pub(crate) fn set_prewritten(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.prewritten = keys.into_iter().collect();
        self.is_held = false;
    }

    /// From now on others may find the transaction committed, and decide so: nothing may be given up until it is known that
    /// they cannot.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
    }

    /// It is committed, or may be: nothing may be given up any more.
    pub(crate) fn forget(&mut self) {
        self.prewritten.clear();
        self.reserved.clear();
    }

    /// These of the reserved keys are given up in the background, unless they are reserved again later.
    pub(crate) fn release_later(&mut self, keys: &[Key]) {
        let keys: BTreeSet<Key> = keys.iter().filter_map(|key| self.reserved.take(key)).collect();
        let for_update_ts = SeenUpTo::new(Mutex::new(*self.for_update_ts.lock()));
        let prewritten = BTreeSet::new();
        let origin = self.origin.clone();
        drop(Self { origin, prewritten, reserved: keys, for_update_ts, is_held: false });
    }

    /// Gives everything up.
    ///
    /// # Errors
    /// Those of reads: then it is tried again in the background, and in the end others do it when all has expired.
    pub(crate) async fn undo(mut self) -> Result<(), Error> {
        self.work().run(self.origin.call()).await?;
        self.forget();
        Ok(())
    }

    /// What is to be done.
    fn work(&self) -> Work {
        // Rolling back ends a reservation too.
        let reserved = self.reserved.difference(&self.prewritten).cloned().collect();
        let prewritten = self.prewritten.iter().cloned().collect();
        Work { origin: self.origin.clone(), prewritten, reserved, for_update_ts: *self.for_update_ts.lock() }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.is_held || (self.prewritten.is_empty() && self.reserved.is_empty()) {
            return;
        }
        let work = self.work();
        let spawn = &self.origin.core.shared.spawn;
        spawn.spawn(Box::pin(async move {
            let call = work.origin.call_behind();
            // What is left is given up by others when it has expired.
            let _ = work.run(call).await;
        }));
    }
}

struct Work {
    origin: Origin,
    prewritten: Vec<Key>,
    reserved: Vec<Key>,
    for_update_ts: Timestamp,
}

impl Work {
    async fn run(self, call: Call) -> Result<(), Error> {
        let Self { origin: Origin { core, start_ts, .. }, prewritten, reserved, for_update_ts } = self;
        let rollback = |keys| TxnCommand::Rollback { keys, start_ts };
        let release = |keys| TxnCommand::Release { keys, start_ts, for_update_ts };
        let rolled_back = core.for_keys(&call, prewritten, rollback).await;
        let released = core.for_keys(&call, reserved, release).await;
        rolled_back.and(released)
    }
}
