//! Locks that are in the way: what became of their transactions, and what follows for whoever met them.
//!
//! A transaction is decided at its primary. Whoever meets a lock asks there; an abandoned transaction is rolled back by the
//! question itself. Of a transaction that commits as soon as all its keys are locked, the other keys are asked too. What
//! was decided stays so, and then the locks that were met can be removed by anybody.

use crate::backoff::Class;
use crate::call::{Call, Effect, TxnAttempt};
use crate::core::Core;
use crate::error::{Cause, Error};
use crate::keyspace::Keyspace;
use crate::pieces::{Outcome, Work};
use crate::seeded_bug::SeededBug;
use crate::txn::decided::Decision;
use crate::txn::error::{TxnError, users_key};
use crate::txn::faulted_read;
use crate::txn::gc::is_below_safe_point;
use crate::txn::seen::Seen;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use types::{Key, MonoTime, Timestamp};
use wire::kv::{KvCommand, KvReply};
use wire::txn::{
    Changed, CheckStatus, LockInfo, LockKind, Secondary, TxnCommand, TxnFault, TxnReply, TxnStatus,
};

/// How often a question is passed on to another key before the locks are taken for damaged. A lock that names a key as its
/// primary whose own lock names another one is rare enough; that this one should do so too does not happen.
const QUESTIONS_MAX: usize = 4;

/// So many readers' removals of locks are under way at once at most; they only save others the question.
const REMOVALS_MAX: usize = 64;

/// What is known of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Decided(Decision),
    /// The lock that was met reserves a key for a transaction that is gone.
    Released,
    /// It is under way, or may be.
    Alive {
        /// It commits after the asker's timestamp.
        is_pushed: bool,
    },
}

/// Who wants to write where locks are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    pub(crate) keyspace: Keyspace,
    /// When its transaction began.
    pub(crate) start_ts: Timestamp,
    /// It gives way to transactions that began later, so that no two wait for each other.
    pub(crate) gives_way: bool,
    /// It waits no longer.
    pub(crate) waits_until: MonoTime,
}

/// Who wants to know whether locks stand for changes of what it has read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validator<'a> {
    pub(crate) keyspace: Keyspace,
    /// When its transaction began, and read.
    pub(crate) start_ts: Timestamp,
    /// When it commits, and whose locks it knows not to be in the way.
    pub(crate) seen: &'a Seen,
    /// Whoever began before it goes first, and is not made to commit later.
    pub(crate) gives_way: bool,
}

impl Core {
    /// A reader has met these locks. When this is done it reads again, with what `seen` has learnt.
    ///
    /// # Errors
    /// [`TxnError::LockTimeout`] when its call ends before a transaction that is in its way; others as of reads.
    pub(crate) async fn meet_as_reader(
        &self,
        call: &mut Call,
        keyspace: Keyspace,
        seen: &Seen,
        locks: Vec<LockInfo>,
    ) -> Result<(), Error> {
        let (mut wait, bugs) = (None, self.shared.options.bugs);
        for (lock, fate, keys) in self.fates_of(call, locks, seen.at).await? {
            match fate {
                Fate::Decided(Decision::Committed { .. }) if bugs.has(SeededBug::CommittedTakenForLater) => {
                    seen.pushed(lock.start_ts);
                }
                Fate::Decided(decision) => {
                    seen.decided(lock.start_ts, decision);
                    self.remove_later(lock.start_ts, decision, keys);
                }
                Fate::Alive { is_pushed: true } => seen.pushed(lock.start_ts),
                Fate::Alive { is_pushed: false } | Fate::Released => wait = Some(lock),
            }
        }
        match wait {
            None => Ok(()),
            Some(lock) => self.wait_for_lock(call, keyspace, &lock).await,
        }
    }

    /// A writer has met these locks. When this is done it tries again.
    ///
    /// # Errors
    /// [`TxnError::LockTimeout`], [`TxnError::WriteConflict`]; others as of reads.
    pub(crate) async fn meet_as_writer(
        &self,
        call: &mut Call,
        writer: Writer,
        locks: Vec<LockInfo>,
    ) -> Result<(), Error> {
        let mut wait = None;
        for (lock, fate, keys) in self.fates_of(call, locks, Timestamp(0)).await? {
            let LockInfo { start_ts, for_update_ts, .. } = lock;
            match fate {
                Fate::Decided(decision) => self.remove_locks(call, start_ts, decision, keys).await?,
                Fate::Released => {
                    let release = |keys| TxnCommand::Release { keys, start_ts, for_update_ts };
                    self.for_keys(call, keys, release).await?;
                }
                Fate::Alive { .. } if writer.gives_way && start_ts > writer.start_ts => {
                    // If it commits, it has written the key since this one began.
                    return Err(Error::from(TxnError::WriteConflict {
                        key: users_key(writer.keyspace, &lock.key),
                        start_ts: writer.start_ts,
                        conflict_start_ts: start_ts,
                        conflict_commit_ts: None,
                    }));
                }
                Fate::Alive { .. } => wait = Some(lock),
            }
        }
        match wait {
            None => Ok(()),
            Some(lock) if self.now() >= writer.waits_until => {
                let key = users_key(writer.keyspace, &lock.key);
                Err(TxnError::LockTimeout { key, by: lock.start_ts }.into())
            }
            Some(lock) => self.wait_for_lock(call, writer.keyspace, &lock).await,
        }
    }

    /// A transaction that commits has met these locks where it has read. When this is done it looks again; or it is told what
    /// was changed, or is about to be, and then at no known time (zero).
    ///
    /// Nobody waits for a transaction that may wait for it: whoever is in its first phase waits for those alone that began
    /// before it.
    ///
    /// # Errors
    /// As [`Core::meet_as_reader`].
    pub(crate) async fn meet_as_validator(
        &self,
        call: &mut Call,
        validator: Validator<'_>,
        locks: Vec<LockInfo>,
    ) -> Result<Option<Changed>, Error> {
        let Validator { keyspace, start_ts: mine, seen, gives_way } = validator;
        let (mut wait, mut changed) = (None, None);
        // Whoever goes first is not put off: it would have to be proved again too, and put this one off in turn.
        let (first, others): (Vec<_>, Vec<_>) =
            locks.into_iter().partition(|lock| gives_way && lock.start_ts < mine);
        let mut fates = self.fates_of(call, first, Timestamp(0)).await?;
        fates.extend(self.fates_of(call, others, seen.at).await?);
        for (lock, fate, keys) in fates {
            let start_ts = lock.start_ts;
            let change = |commit_ts| Changed { key: lock.key.clone(), commit_ts, start_ts };
            match fate {
                Fate::Decided(decision) => {
                    self.remove_later(start_ts, decision, keys);
                    let is_between = |at: &Timestamp| *at > mine && *at <= seen.at;
                    match decision.commit_ts().filter(is_between) {
                        Some(commit_ts) => changed = Some(change(commit_ts)),
                        None => seen.pushed(start_ts),
                    }
                }
                Fate::Alive { is_pushed: true } => seen.pushed(start_ts),
                Fate::Alive { is_pushed: false } if gives_way || start_ts > mine => {
                    changed = Some(change(Timestamp(0)));
                }
                Fate::Alive { is_pushed: false } | Fate::Released => wait = Some(lock),
            }
        }
        if changed.is_none()
            && let Some(lock) = wait
        {
            self.wait_for_lock(call, keyspace, &lock).await?;
        }
        Ok(changed)
    }

    /// Removes locks of transactions that are too old to go on, whether they are at work or not: those that are not decided are
    /// rolled back. Returns whether all are removed; if not it has waited.
    ///
    /// # Errors
    /// As of reads.
    pub(crate) async fn resolve_old(&self, call: &mut Call, locks: Vec<LockInfo>) -> Result<bool, Error> {
        let mut by_txn: BTreeMap<(Timestamp, bool), (LockInfo, Vec<Key>)> = BTreeMap::new();
        for lock in locks {
            let name = (lock.start_ts, lock.kind == LockKind::Pessimistic);
            let key = lock.key.clone();
            by_txn.entry(name).or_insert_with(|| (lock, Vec::new())).1.push(key);
        }
        let mut left = None;
        for (lock, keys) in by_txn.into_values() {
            let LockInfo { start_ts, .. } = lock;
            match self.fate_of(call, &lock, Timestamp(0), Some(Timestamp(u64::MAX))).await? {
                Fate::Decided(decision) => self.remove_locks(call, start_ts, decision, keys).await?,
                Fate::Released => {
                    let for_update_ts = Timestamp(u64::MAX);
                    let release = |keys| TxnCommand::Release { keys, start_ts, for_update_ts };
                    self.for_keys(call, keys, release).await?;
                }
                Fate::Alive { .. } => left = Some(lock),
            }
        }
        match left {
            None => Ok(true),
            Some(lock) => {
                let cause = Cause::Locked { key: lock.key.clone(), by: lock.start_ts };
                self.pause(call, Class::Locked, cause, Duration::ZERO).await?;
                Ok(false)
            }
        }
    }

    /// Waits a little for a lock to go by itself.
    ///
    /// # Errors
    /// [`TxnError::LockTimeout`] when the call ends before.
    pub(crate) async fn wait_for_lock(
        &self,
        call: &mut Call,
        keyspace: Keyspace,
        lock: &LockInfo,
    ) -> Result<(), Error> {
        let cause = Cause::Locked { key: users_key(keyspace, &lock.key), by: lock.start_ts };
        self.pause(call, Class::Locked, cause, Duration::ZERO).await
    }

    /// What became of the transactions of these locks: one lock of each, and the keys of all of them.
    async fn fates_of(
        &self,
        call: &Call,
        locks: Vec<LockInfo>,
        reads_at: Timestamp,
    ) -> Result<Vec<(LockInfo, Fate, Vec<Key>)>, Error> {
        // Locks that reserve a key are asked about, and removed, in another way.
        let mut by_txn: BTreeMap<(Timestamp, bool), (LockInfo, Vec<Key>)> = BTreeMap::new();
        for lock in locks {
            let name = (lock.start_ts, lock.kind == LockKind::Pessimistic);
            let key = lock.key.clone();
            by_txn.entry(name).or_insert_with(|| (lock, Vec::new())).1.push(key);
        }
        let asked = by_txn.into_values().map(|(lock, keys)| async move {
            let fate = self.fate_of(call, &lock, reads_at, None).await?;
            Ok((lock, fate, keys))
        });
        let at_once = self.shared.options.batch_concurrency.max(1);
        let answers: Vec<Result<_, Error>> = stream::iter(asked).buffer_unordered(at_once).collect().await;
        answers.into_iter().collect()
    }

    /// What became of a lock's transaction, asked at `now`, or at the present if that is not given.
    async fn fate_of(
        &self,
        call: &Call,
        lock: &LockInfo,
        reads_at: Timestamp,
        now: Option<Timestamp>,
    ) -> Result<Fate, Error> {
        let LockInfo { start_ts, .. } = *lock;
        if let Some(decision) = self.shared.decided.lock().get(start_ts) {
            return Ok(Fate::Decided(decision));
        }
        let current_ts = match now {
            Some(now) => now,
            None => self.timestamp_for(&mut call.within(Effect::Read)).await?,
        };
        let is_expired = is_expired(lock, current_ts);
        if is_expired && self.shared.options.bugs.has(SeededBug::LocksRemovedUnasked) {
            return Ok(Fate::Decided(Decision::RolledBack));
        }
        let mut asked = CheckStatus {
            primary: lock.primary.clone(),
            start_ts,
            reads_at,
            current_ts,
            // Before that, the primary's own prewrite may be on its way.
            rollback_if_unknown: is_expired,
            force_sync_commit: false,
            found_pessimistic: lock.kind == LockKind::Pessimistic,
        };
        for _ in 0..QUESTIONS_MAX {
            let decision = match self.check_status(call, &asked).await? {
                Ok(TxnStatus::Alive { lock: at_primary, is_pushed }) => {
                    if !at_primary.is_async_commit || !self::is_expired(&at_primary, current_ts) {
                        return Ok(Fate::Alive { is_pushed });
                    }
                    let outcome = match self.outcome_of(call, &at_primary).await {
                        // What became of it is forgotten, and its locks are gone.
                        Err(error) if is_below_safe_point(&error) => {
                            return Ok(Fate::Alive { is_pushed: false });
                        }
                        outcome => outcome?,
                    };
                    match outcome {
                        Some(decision) => {
                            let mut keys = at_primary.secondaries;
                            keys.push(asked.primary);
                            self.remove_later(start_ts, decision, keys);
                            decision
                        }
                        None if asked.force_sync_commit => return Ok(Fate::Alive { is_pushed }),
                        None => {
                            asked.force_sync_commit = true;
                            continue;
                        }
                    }
                }
                Ok(TxnStatus::Committed { commit_ts }) => Decision::Committed { commit_ts },
                Ok(TxnStatus::RolledBack) => Decision::RolledBack,
                // What reserves a key may have come before what reserves the primary, unless it is old.
                Ok(TxnStatus::Released) if is_expired => return Ok(Fate::Released),
                Ok(TxnStatus::Released)
                | Err(TxnFault::TxnNotFound { .. } | TxnFault::BelowSafePoint { .. }) => {
                    return Ok(Fate::Alive { is_pushed: false });
                }
                Err(TxnFault::PrimaryMismatch { lock: at_primary }) => {
                    asked.primary = at_primary.primary;
                    continue;
                }
                Err(fault) => {
                    let message = format!("a store answered the question about a transaction with {fault:?}");
                    return Err(Error::UnexpectedAnswer { message });
                }
            };
            if !self.shared.decided.lock().remember(start_ts, decision) {
                let message =
                    format!("the transaction of {start_ts:?} was decided otherwise than {decision:?}");
                return Err(Error::UnexpectedAnswer { message });
            }
            return Ok(Fate::Decided(decision));
        }
        let message = format!("the locks of the transaction of {start_ts:?} do not agree on their primary");
        Err(Error::UnexpectedAnswer { message })
    }

    async fn check_status(
        &self,
        call: &Call,
        asked: &CheckStatus,
    ) -> Result<Result<TxnStatus, TxnFault>, Error> {
        let mut call = call.within(Effect::Repeatable);
        loop {
            let route = self.region_at(&mut call, &asked.primary).await?;
            let command = KvCommand::Txn(Box::new(TxnCommand::CheckStatus(asked.clone())));
            match self.attempt_txn(&mut call, &route, command).await? {
                TxnAttempt::Again => {}
                TxnAttempt::Faulted(fault) => return Ok(Err(fault)),
                TxnAttempt::Answered(KvReply::Txn(reply)) if matches!(*reply, TxnReply::Status(_)) => {
                    let TxnReply::Status(status) = *reply else { unreachable!("matched above") };
                    return Ok(Ok(status));
                }
                TxnAttempt::Answered(_) => {
                    return Err(self.nonsense(&call, route.store_id, "not what became of a transaction"));
                }
            }
        }
    }

    /// Whether a transaction is committed that commits as soon as all its keys are locked; `None` if it is one that has
    /// turned to committing in two phases, and is decided at its primary alone.
    async fn outcome_of(&self, call: &Call, primary: &LockInfo) -> Result<Option<Decision>, Error> {
        let asking = Asking { start_ts: primary.start_ts };
        let (mut commit_ts, mut outcome, mut failure) = (primary.min_commit_ts, None, None);
        let mut is_two_phase = false;
        let mut keys = primary.secondaries.clone();
        keys.sort();
        keys.dedup();
        self.in_pieces(keys, call.within(Effect::Repeatable), &asking, |result| {
            match result {
                Outcome::Done(_, KvReply::Txn(reply)) => {
                    let TxnReply::Secondaries(secondaries) = *reply else { return true };
                    for secondary in secondaries {
                        match secondary {
                            Secondary::Locked(lock) if !lock.is_async_commit => is_two_phase = true,
                            Secondary::Locked(lock) => commit_ts = commit_ts.max(lock.min_commit_ts),
                            Secondary::Committed { commit_ts } => {
                                outcome = Some(Decision::Committed { commit_ts });
                            }
                            Secondary::RolledBack => outcome = Some(Decision::RolledBack),
                        }
                    }
                }
                Outcome::Failed { error, .. } => failure = Some(error),
                Outcome::Done(..) | Outcome::Left { .. } => {}
            }
            failure.is_none() && outcome.is_none()
        })
        .await;
        match (outcome, failure) {
            (Some(decision), _) => Ok(Some(decision)),
            (None, Some(error)) => Err(error),
            (None, None) if is_two_phase => Ok(None),
            (None, None) => Ok(Some(Decision::Committed { commit_ts })),
        }
    }

    /// Removes locks of a transaction of known fate, with what it says of their keys.
    pub(crate) async fn remove_locks(
        &self,
        call: &Call,
        start_ts: Timestamp,
        decision: Decision,
        keys: Vec<Key>,
    ) -> Result<(), Error> {
        let commit_ts = decision.commit_ts();
        self.for_keys(call, keys, |keys| TxnCommand::Resolve { start_ts, commit_ts, keys }).await
    }

    /// The same while the caller goes on, if there is not too much of it already.
    fn remove_later(&self, start_ts: Timestamp, decision: Decision, keys: Vec<Key>) {
        let Some(removal) = Removal::begin(self) else { return };
        let core = self.clone();
        self.shared.spawn.spawn(Box::pin(async move {
            let call = core.begin(Effect::Repeatable, core.shared.options.deadline);
            // Whoever meets what is left does it again.
            let _ = core.remove_locks(&call, start_ts, decision, keys).await;
            drop(removal);
        }));
    }
}

/// One removal under way, counted until it ends.
struct Removal(Core);

impl Removal {
    fn begin(core: &Core) -> Option<Self> {
        let removals: &AtomicUsize = &core.shared.removals;
        let may = |count| (count < REMOVALS_MAX).then_some(count + 1);
        removals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may).ok()?;
        Some(Self(core.clone()))
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.0.shared.removals.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Asking {
    start_ts: Timestamp,
}

impl Work for Asking {
    type Item = Key;
    fn meet<'a>(&'a self, _: &'a mut Call, fault: TxnFault) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { Err(faulted_read(fault)) })
    }
    fn command(&self, keys: &[Key]) -> KvCommand {
        let command = TxnCommand::CheckSecondaries { keys: keys.to_vec(), start_ts: self.start_ts };
        KvCommand::Txn(Box::new(command))
    }
    fn fits(&self, keys: &[Key], reply: &KvReply) -> bool {
        let KvReply::Txn(reply) = reply else { return false };
        matches!(&**reply, TxnReply::Secondaries(secondaries) if secondaries.len() == keys.len())
    }
}

/// Whether a transaction has taken longer than it was granted.
fn is_expired(lock: &LockInfo, current_ts: Timestamp) -> bool {
    lock.start_ts.physical_ms().saturating_add(lock.ttl_ms) < current_ts.physical_ms()
}
