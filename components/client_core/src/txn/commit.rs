//! The two phases of a commit, the second of which may be spared ([`CommitProtocol`]).

use crate::call::{Call, Effect, TxnAttempt};
use crate::error::{Cause, Error};
use crate::pieces::{Item, Outcome, Work, first_piece};
use crate::seeded_bug::SeededBug;
use crate::txn::origin::Origin;
use crate::txn::read_set::Reads;
use crate::txn::resolve::Writer;
use crate::txn::undo::Undo;
use crate::txn::validate::Validation;
use futures_util::future::BoxFuture;
use std::ops::Range;
use std::sync::Arc;
use types::{Key, KeyRange, MonoTime, Timestamp};
use wire::kv::{KvCommand, KvReply};
use wire::txn::{CommitMode, Mutation, MutationKind, Prewrite, TxnCommand, TxnFault, TxnReply};

/// A transaction that is committed once its keys are locked has this many of them at most: its primary names all others,
/// and whoever wants to know what became of it asks each.
const ASYNC_KEYS_MAX: usize = 256;
/// And they have so many bytes together.
const ASYNC_KEY_BYTES_MAX: usize = 4096;

/// How transactions are committed. Each way falls back to the one above it where it cannot be gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum CommitProtocol {
    /// All keys are locked; then the primary is committed, at a timestamp of its own. Two round trips to stores, and one to the
    /// placement driver between them.
    TwoPhase,
    /// The transaction is committed as soon as all of its keys are locked. One round trip to stores.
    AsyncCommit,
    /// The same; and if all keys lie in one region, nothing is locked either.
    #[default]
    OnePhase,
}

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
    /// What it has read, and nobody else may have changed when it commits.
    pub(crate) reads: Reads,
    /// A timestamp that was asked for since its caller wanted it committed: everybody whose transaction had ended by then finds
    /// this one later than theirs. `None` if it commits in two phases, and asks for another one between them.
    pub(crate) asked_at: Option<Timestamp>,
}

impl Commit {
    /// Commits; gives back when. Whatever is locked and not committed in the end is left to `undo`, unless others may find
    /// that it is committed.
    ///
    /// # Errors
    /// [`Error::Undetermined`] if it may have been committed; all others mean that nothing is, or ever will be.
    pub(crate) async fn run(self, mut call: Call, undo: &mut Undo) -> Result<Timestamp, Error> {
        let keys: Vec<Key> = locked(&self.mutations).cloned().collect();
        let early = match self.origin.breaks(SeededBug::CommitTimestampFirst) {
            true => Some(self.origin.core.timestamp_for(&mut call).await?),
            false => None,
        };
        let at_once = self.asked_at.map(|asked_at| AtOnce {
            min_commit_ts: Timestamp(asked_at.0 + 1),
            secondaries: self.secondaries(&keys),
            one_phase: self.origin.protocol == CommitProtocol::OnePhase,
        });
        match at_once {
            // If this future is dropped, nobody knows how far it came.
            None => undo.set_prewritten(keys.iter().cloned()),
            // Nor whether it is committed: then only asking all of its keys tells.
            Some(_) => undo.hold(),
        }
        let prewrite = self.prewrite(&call, at_once.as_ref()).await;
        if let Some(failure) = prewrite.failure {
            return match prewrite.doubt {
                Some(cause) if at_once.is_some() && !prewrite.is_refused && !prewrite.is_two_phase => {
                    Err(Error::Undetermined { cause })
                }
                // One of its keys is not locked, and will not be.
                _ => {
                    undo.set_prewritten(prewrite.locked);
                    Err(failure)
                }
            };
        }
        let (commit_ts, others) = match (prewrite.committed_at, &at_once) {
            (Some(commit_ts), Some(at_once)) if at_once.one_phase && prewrite.pieces == 1 => {
                (commit_ts, Vec::new())
            }
            (Some(commit_ts), _) => (commit_ts, keys),
            (None, Some(_)) if !prewrite.is_two_phase => (prewrite.min_commit_ts, keys),
            (None, _) => {
                undo.set_prewritten(prewrite.locked);
                self.commit_primary(&mut call, &keys, early, undo).await?
            }
        };
        undo.forget();
        self.commit_behind(others, commit_ts);
        Ok(commit_ts)
    }

    /// The keys that the primary names if the transaction is to be committed once all are locked; `None` if they are too
    /// many, or if that is not all: a key that must not be there is not locked, and nobody else would ask for it.
    fn secondaries(&self, keys: &[Key]) -> Option<Vec<Key>> {
        let bytes: usize = keys.iter().map(Key::len).sum();
        let is_small = keys.len() <= ASYNC_KEYS_MAX && bytes <= ASYNC_KEY_BYTES_MAX;
        let locks_all = keys.len() == self.mutations.len();
        (is_small && locks_all).then(|| keys.iter().filter(|key| **key != self.primary).cloned().collect())
    }

    /// Has nothing but conditions to be checked; nothing is locked.
    ///
    /// # Errors
    /// As of [`Commit::run`], none of them undetermined.
    pub(crate) async fn check(self, call: Call) -> Result<(), Error> {
        self.prewrite(&call, None).await.failure.map_or(Ok(()), Err)
    }

    async fn prewrite(&self, call: &Call, at_once: Option<&AtOnce>) -> Prewritten {
        let mut prewritten = Prewritten::default();
        let work = Prewriting { commit: self, at_once, waits_until: MonoTime::MAX };
        let mutations = self.mutations.clone();
        let call = call.within(Effect::Repeatable);
        self.origin
            .core
            .in_pieces(mutations, call, &work, |outcome| {
                prewritten.take(outcome);
                prewritten.failure.is_none()
            })
            .await;
        prewritten
    }

    /// Proves what was read, commits the primary, with other keys of its region; gives back when, and which keys are left. From
    /// the first request on that commits something `undo` has nothing to do, unless it turns out that none was or will be made.
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
        let mut proved_at = None;
        if self.origin.breaks(SeededBug::SecondariesFirst) {
            undo.forget();
            let command = |keys| TxnCommand::Commit { keys, start_ts: *start_ts, commit_ts };
            let _ = core.for_keys(call, others.clone(), command).await;
        }
        let failure = loop {
            if !self.reads.is_empty() && proved_at != Some(commit_ts) {
                let validation = Validation::new(&self.origin, commit_ts, proved_at.is_some());
                if let Err(error) = validation.prove(call, &self.reads).await {
                    break error;
                }
                proved_at = Some(commit_ts);
            }
            undo.forget();
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

    /// Commits keys while the caller goes on. Whoever meets one that is left finds out at the primary.
    fn commit_behind(self, keys: Vec<Key>, commit_ts: Timestamp) {
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

/// How a transaction is to be committed that has no second phase.
struct AtOnce {
    /// No earlier.
    min_commit_ts: Timestamp,
    /// What its primary names, if it may be committed once all its keys are locked.
    secondaries: Option<Vec<Key>>,
    /// If all keys go in one request, nothing is locked.
    one_phase: bool,
}

/// What came of the first phase.
#[derive(Default)]
struct Prewritten {
    /// Requests that were done.
    pieces: usize,
    /// Keys that are locked, or may be.
    locked: Vec<Key>,
    /// The transaction is committed.
    committed_at: Option<Timestamp>,
    /// Of what is locked so that it is committed with the rest, when that is at the earliest.
    min_commit_ts: Timestamp,
    /// Something is locked so that it is committed by the primary alone.
    is_two_phase: bool,
    /// A key is not locked, and will not be.
    is_refused: bool,
    failure: Option<Error>,
    /// What hides whether a key is locked.
    doubt: Option<Cause>,
}

impl Prewritten {
    fn take(&mut self, outcome: Outcome<Mutation>) {
        match outcome {
            Outcome::Done(mutations, KvReply::Txn(reply)) => {
                let TxnReply::Prewritten { committed_at, min_commit_ts } = *reply else {
                    unreachable!("an answer that does not fit is none")
                };
                self.pieces += 1;
                self.committed_at = self.committed_at.or(committed_at);
                self.min_commit_ts = self.min_commit_ts.max(min_commit_ts.unwrap_or_default());
                let is_any_locked = locked(&mutations).next().is_some();
                self.is_two_phase |= is_any_locked && committed_at.is_none() && min_commit_ts.is_none();
                self.locked.extend(locked(&mutations).cloned());
            }
            Outcome::Done(..) => unreachable!("an answer that does not fit is none"),
            Outcome::Failed { items, error, doubt } => {
                // Who answers nonsense may have done anything.
                let nonsense = || Cause::UnexpectedAnswer { store_id: types::StoreId(0) };
                let doubt = match &error {
                    Error::UnexpectedAnswer { .. } => doubt.or_else(|| Some(nonsense())),
                    _ => doubt,
                };
                match doubt {
                    Some(cause) => {
                        self.locked.extend(locked(&items).cloned());
                        self.doubt.get_or_insert(cause);
                    }
                    None => self.is_refused = true,
                }
                self.failure.get_or_insert(error);
            }
            Outcome::Left { items, in_doubt: true } => self.locked.extend(locked(&items).cloned()),
            Outcome::Left { .. } => self.is_refused = true,
        }
    }
}

struct Prewriting<'a> {
    commit: &'a Commit,
    at_once: Option<&'a AtOnce>,
    waits_until: MonoTime,
}

impl Prewriting<'_> {
    fn mode(&self, mutations: &[Mutation]) -> CommitMode {
        let Commit { primary, mutations: all, .. } = self.commit;
        let is_primary_here = locked(mutations).any(|key| key == primary);
        match self.at_once {
            Some(AtOnce { one_phase: true, .. }) if mutations.len() == all.len() => CommitMode::OnePhase,
            Some(AtOnce { secondaries: Some(keys), .. }) => {
                CommitMode::Async { secondaries: if is_primary_here { keys.clone() } else { Vec::new() } }
            }
            Some(_) | None => CommitMode::TwoPhase,
        }
    }
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
            min_commit_ts: self.at_once.map_or(Timestamp(0), |at_once| at_once.min_commit_ts),
            max_commit_ts: Timestamp(0),
            mode: self.mode(mutations),
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
                other => {
                    if let TxnFault::WriteConflict { .. } = &other {
                        // Records stay: an earlier attempt that comes yet finds the same.
                        call.clear_doubt();
                    }
                    Err(origin.ends_with(&other))
                }
            }
        })
    }
}

fn locked(mutations: &[Mutation]) -> impl Iterator<Item = &Key> {
    let locks = |mutation: &&Mutation| mutation.kind != MutationKind::CheckNotExists;
    mutations.iter().filter(locks).map(|mutation| &mutation.key)
}
