//! The two phases of a commit.

use crate::call::{Call, Effect, TxnAttempt};
use crate::error::{Cause, Error};
use crate::pieces::{Item, Outcome, Work, first_piece};
use crate::seeded_bug::SeededBug;
use crate::txn::origin::Origin;
use crate::txn::resolve::Writer;
use crate::txn::undo::Undo;
use futures_util::future::BoxFuture;
use std::ops::Range;
use std::sync::Arc;
use types::{Key, KeyRange, MonoTime, Timestamp};
use wire::kv::{KvCommand, KvReply};
use wire::txn::{Mutation, MutationKind, Prewrite, TxnCommand, TxnFault, TxnReply};

/// A transaction that is to be committed.
pub(crate) struct Commit {
    pub(crate) origin: Origin,
    /// It has reserved keys.
    pub(crate) is_pessimistic: bool,
    /// The key that decides; one of those that are locked.
    pub(crate) primary: Key,
    /// In key order.
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) for_update_ts: Timestamp,
}

impl Commit {
    /// Commits; gives back when. Whatever is locked and not committed in the end is left to `undo`.
    ///
    /// # Errors
    /// [`Error::Undetermined`] if the commit of the primary may have been made; all others mean that nothing is, or ever
    /// will be, committed.
    pub(crate) async fn run(self, undo: &mut Undo) -> Result<Timestamp, Error> {
        let keys: Vec<Key> = locked(&self.mutations).cloned().collect();
        let mut call = self.origin.call();
        let early = match self.origin.breaks(SeededBug::CommitTimestampFirst) {
            true => Some(self.origin.core.timestamp_for(&mut call).await?),
            false => None,
        };
        // If this future is dropped, nobody knows how far it came.
        undo.set_prewritten(keys.iter().cloned());
        let prewrite = self.prewrite(&call).await;
        undo.set_prewritten(prewrite.locked);
        if let Some(error) = prewrite.failure {
            return Err(error);
        }
        let (commit_ts, others) = match prewrite.committed_at {
            Some(commit_ts) => {
                undo.forget();
                (commit_ts, keys)
            }
            None => self.commit_primary(&mut call, &keys, early, undo).await?,
        };
        self.commit_secondaries(others, commit_ts);
        Ok(commit_ts)
    }

    /// Has nothing but conditions to be checked; nothing is locked.
    ///
    /// # Errors
    /// As of [`Commit::run`], none of them undetermined.
    pub(crate) async fn check(self) -> Result<(), Error> {
        let call = self.origin.call();
        self.prewrite(&call).await.failure.map_or(Ok(()), Err)
    }

    async fn prewrite(&self, call: &Call) -> Prewritten {
        let mut prewritten = Prewritten::default();
        let work = Prewriting { commit: self, waits_until: MonoTime::MAX };
        let mutations = self.mutations.clone();
        let call = call.within(Effect::Repeatable);
        self.origin
            .core
            .in_pieces(mutations, call, &work, |outcome| {
                match outcome {
                    Outcome::Done(mutations, reply) => {
                        prewritten.locked.extend(locked(&mutations).cloned());
                        if let KvReply::Txn(reply) = reply
                            && let TxnReply::Prewritten { committed_at: Some(commit_ts) } = *reply
                        {
                            prewritten.committed_at = Some(commit_ts);
                        }
                    }
                    Outcome::Failed { items, error, in_doubt } => {
                        if in_doubt {
                            prewritten.locked.extend(locked(&items).cloned());
                        }
                        prewritten.failure.get_or_insert(error);
                    }
                    Outcome::Left { items, in_doubt: true } => {
                        prewritten.locked.extend(locked(&items).cloned());
                    }
                    Outcome::Left { .. } => {}
                }
                prewritten.failure.is_none()
            })
            .await;
        prewritten
    }

    /// Commits the primary, with other keys of its region; gives back when, and which keys are left. From the first request
    /// on `undo` has nothing to do, unless it turns out that none was or will be made.
    async fn commit_primary(
        &self,
        call: &mut Call,
        keys: &[Key],
        early: Option<Timestamp>,
        undo: &mut Undo,
    ) -> Result<(Timestamp, Vec<Key>), Error> {
        let Origin { core, start_ts, .. } = &self.origin;
        let mut commit_ts = match early {
            Some(early) => early,
            None => core.timestamp_for(call).await?,
        };
        let others: Vec<Key> = keys.iter().filter(|key| **key != self.primary).cloned().collect();
        undo.forget();
        if self.origin.breaks(SeededBug::SecondariesFirst) {
            let command = |keys| TxnCommand::Commit { keys, start_ts: *start_ts, commit_ts };
            let _ = core.for_keys(call, others.clone(), command).await;
        }
        let failure = loop {
            let route = match core.region_at(call, &self.primary).await {
                Ok(route) => route,
                Err(error) => break error,
            };
            let here = self.beside_primary(&others, &route.region.range);
            let mut keys = others[here.clone()].to_vec();
            keys.push(self.primary.clone());
            let command = TxnCommand::Commit { keys, start_ts: *start_ts, commit_ts };
            match core.attempt_txn(call, &route, KvCommand::Txn(Box::new(command))).await {
                Ok(TxnAttempt::Again) => {}
                Ok(TxnAttempt::Answered(KvReply::Txn(reply))) if *reply == TxnReply::Done => {
                    let mut left = others;
                    left.drain(here);
                    return Ok((commit_ts, left));
                }
                Ok(TxnAttempt::Answered(_)) => {
                    // Whatever it means, it does not mean that nothing was done.
                    return Err(Error::Undetermined {
                        cause: Cause::UnexpectedAnswer { store_id: route.store_id },
                    });
                }
                Ok(TxnAttempt::Faulted(TxnFault::CommitTsExpired { key, min_commit_ts, .. }))
                    if key == self.primary =>
                {
                    // The lock is still there, and no request with an earlier timestamp will ever be granted.
                    call.clear_doubt();
                    commit_ts = match core.timestamp_for(call).await {
                        Ok(now) => now.max(min_commit_ts),
                        Err(error) => break error,
                    };
                }
                Ok(TxnAttempt::Faulted(fault)) => {
                    if matches!(&fault, TxnFault::TxnLockNotFound { key, .. } if *key == self.primary) {
                        // If an earlier attempt had been made, the store would have found its record.
                        call.clear_doubt();
                    }
                    break self.origin.ends_with(&fault);
                }
                Err(error) => break error,
            }
        };
        if call.is_in_doubt() && !self.origin.breaks(SeededBug::UnknownCommitRefused) {
            let unknown = Cause::NoLeader { region_id: types::RegionId(0) };
            return Err(Error::Undetermined { cause: call.last_cause().cloned().unwrap_or(unknown) });
        }
        undo.set_prewritten(keys.iter().cloned());
        Err(failure)
    }

    /// Which of the other keys, which are in key order, go with the primary.
    fn beside_primary(&self, others: &[Key], region: &KeyRange) -> Range<usize> {
        let first = others.partition_point(|key| *key < region.start);
        let here = &others[first..];
        let is_here = here.first().is_some_and(|first| region.contains(first));
        first..if is_here { first + first_piece(here, region) } else { first }
    }

    /// Commits the other keys while the caller goes on. Whoever meets one that is left finds out at the primary.
    fn commit_secondaries(self, keys: Vec<Key>, commit_ts: Timestamp) {
        if keys.is_empty() {
            return;
        }
        let origin = self.origin;
        let spawn = Arc::clone(&origin.core.shared.spawn);
        spawn.spawn(Box::pin(async move {
            let start_ts = origin.start_ts;
            let command = |keys| TxnCommand::Commit { keys, start_ts, commit_ts };
            let _ = origin.core.for_keys(&origin.call_behind(), keys, command).await;
        }));
    }
}

/// What came of the first phase.
#[derive(Default)]
struct Prewritten {
    /// Keys that are locked, or may be.
    locked: Vec<Key>,
    /// The transaction was committed before.
    committed_at: Option<Timestamp>,
    failure: Option<Error>,
}

struct Prewriting<'a> {
    commit: &'a Commit,
    waits_until: MonoTime,
}

impl Item for Mutation {
    fn key(&self) -> &Key {
        &self.key
    }
    fn size_bytes(&self) -> usize {
        Self::size_bytes(self)
    }
}

impl Work for Prewriting<'_> {
    type Item = Mutation;

    fn command(&self, mutations: &[Mutation]) -> KvCommand {
        let Commit { origin, primary, for_update_ts, .. } = self.commit;
        KvCommand::Txn(Box::new(TxnCommand::Prewrite(Prewrite {
            primary: primary.clone(),
            start_ts: origin.start_ts,
            ttl_ms: origin.ttl_ms(),
            txn_size: self.commit.mutations.len() as u64,
            for_update_ts: *for_update_ts,
            min_commit_ts: Timestamp(0),
            mutations: mutations.to_vec(),
        })))
    }

    fn fits(&self, _: &[Mutation], reply: &KvReply) -> bool {
        matches!(reply, KvReply::Txn(reply) if matches!(**reply, TxnReply::Prewritten { .. }))
    }

    fn meet<'a>(&'a self, call: &'a mut Call, fault: TxnFault) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let Commit { origin, is_pessimistic, .. } = self.commit;
            match fault {
                TxnFault::KeyIsLocked { locks } => {
                    let writer = Writer {
                        keyspace: origin.keyspace,
                        start_ts: origin.start_ts,
                        gives_way: !is_pessimistic,
                        waits_until: self.waits_until,
                    };
                    origin.core.meet_as_writer(call, writer, locks).await
                }
                other => Err(origin.ends_with(&other)),
            }
        })
    }
}

fn locked(mutations: &[Mutation]) -> impl Iterator<Item = &Key> {
    let locks = |mutation: &&Mutation| mutation.kind != MutationKind::CheckNotExists;
    mutations.iter().filter(locks).map(|mutation| &mutation.key)
}
