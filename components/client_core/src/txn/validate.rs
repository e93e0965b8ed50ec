//! The proof that what a serializable transaction has read is still so when it commits.
//!
//! Its keys are locked, and it has the timestamp at which it commits, given after that. Now it reads again at that timestamp
//! what it has read at its beginning, and asks only whether anybody else has changed it in between. What a reader at a
//! timestamp is told stays true (INV-TXN-9): nobody commits there any more at that timestamp or below. So if nothing has
//! changed, all of the transaction might have happened at that one moment (INV-TXN-17); the argument is drawn out in
//! `docs/decisions/0013-what-was-read-is-read-again-at-the-commit.md`.
//!
//! If its commit is put off to a later timestamp, because somebody has read what it writes meanwhile, it is proved again.

use crate::call::{Call, Effect, TxnAttempt};
use crate::error::Error;
use crate::pieces::{Outcome, Work};
use crate::seeded_bug::SeededBug;
use crate::txn::error::TxnError;
use crate::txn::error::users_key;
use crate::txn::faulted_read;
use crate::txn::origin::Origin;
use crate::txn::read_set::Reads;
use crate::txn::resolve::Validator;
use crate::txn::seen::Seen;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use types::{Key, KeyRange, Timestamp};
use wire::kv::{KvCommand, KvReply};
use wire::txn::{Changed, ReadView, TxnFault, TxnRead, TxnReply};

/// One proof.
pub(crate) struct Validation<'a> {
    origin: &'a Origin,
    /// Whose locks are not in the way; they were asked about for this proof.
    seen: Seen,
    /// Others were made to commit later by an earlier proof, and it was made to by others: of such a circle, who began first
    /// goes first.
    gives_way: bool,
}

impl<'a> Validation<'a> {
    /// Proves that nothing was changed up to `at`, when the transaction commits.
    pub(crate) fn new(origin: &'a Origin, at: Timestamp, gives_way: bool) -> Self {
        Self { origin, seen: Seen::at(at), gives_way }
    }

    /// # Errors
    /// [`TxnError::ReadConflict`], [`TxnError::BelowSafePoint`], and those of reads.
    pub(crate) async fn prove(&self, call: &Call, reads: &Reads) -> Result<(), Error> {
        self.prove_keys(call, reads.keys.clone()).await?;
        if self.origin.breaks(SeededBug::RangesUnproved) {
            return Ok(());
        }
        let at_once = self.origin.core.shared.options.batch_concurrency.max(1);
        let ranges = reads.ranges.iter().cloned().map(|range| self.prove_range(call, range));
        let mut ranges = stream::iter(ranges).buffer_unordered(at_once);
        while let Some(result) = ranges.next().await {
            result?;
        }
        Ok(())
    }

    async fn prove_keys(&self, call: &Call, keys: Vec<Key>) -> Result<(), Error> {
        let mut failure = None;
        self.origin
            .core
            .in_pieces(keys, call.within(Effect::Read), self, |outcome| {
                match outcome {
                    Outcome::Done(_, reply) => {
                        if let Some((Some(first), _)) = changes(reply) {
                            failure.get_or_insert(self.conflict(&first, None));
                        }
                    }
                    Outcome::Failed { error, .. } => {
                        failure.get_or_insert(error);
                    }
                    Outcome::Left { .. } => {}
                }
                failure.is_none()
            })
            .await;
        failure.map_or(Ok(()), Err)
    }

    async fn prove_range(&self, call: &Call, range: KeyRange) -> Result<(), Error> {
        let core = &self.origin.core;
        let mut call = call.within(Effect::Read);
        let mut left = range.clone();
        while !left.is_empty() {
            let route = core.region_at(&mut call, &left.start).await?;
            let here = left.intersection(&route.region.range);
            let (since, view) = (self.origin.start_ts, self.view());
            let read = TxnRead::RangeChanges { range: here.clone(), since, view };
            let reply = match core.attempt_txn(&mut call, &route, KvCommand::TxnRead(Box::new(read))).await? {
                TxnAttempt::Again => continue,
                TxnAttempt::Faulted(fault) => {
                    self.deal_with(&mut call, fault, Some(&range)).await?;
                    continue;
                }
                TxnAttempt::Answered(reply) => reply,
            };
            match changes(reply) {
                Some((Some(first), _)) if here.contains(&first.key) => {
                    return Err(self.conflict(&first, Some(&range)));
                }
                Some((None, Some(resume))) if here.contains(&resume) && resume > here.start => {
                    left.start = resume;
                }
                Some((None, None)) if here.end.is_empty() => break,
                Some((None, None)) => left.start = here.end,
                Some(_) | None => return Err(core.nonsense(&call, route.store_id, "not about a range")),
            }
        }
        Ok(())
    }

    fn view(&self) -> ReadView {
        let mut view = self.seen.view();
        // Its own locks are no news.
        view.resolved.push(self.origin.start_ts);
        view
    }

    async fn deal_with(
        &self,
        call: &mut Call,
        fault: TxnFault,
        range: Option<&KeyRange>,
    ) -> Result<(), Error> {
        match fault {
            TxnFault::KeyIsLocked { locks } => {
                let validator = Validator {
                    keyspace: self.origin.keyspace,
                    start_ts: self.origin.start_ts,
                    seen: &self.seen,
                    gives_way: self.gives_way,
                };
                let met = self.origin.core.meet_as_validator(call, validator, locks).await?;
                met.map_or(Ok(()), |changed| Err(self.conflict(&changed, range)))
            }
            other => Err(faulted_read(other)),
        }
    }

    fn conflict(&self, changed: &Changed, range: Option<&KeyRange>) -> Error {
        let Origin { keyspace, start_ts, .. } = self.origin;
        let is_committed = changed.commit_ts > Timestamp(0);
        Error::from(TxnError::ReadConflict {
            key: users_key(*keyspace, &changed.key),
            range: range.map(|range| Box::new(keyspace.decode_range(range).unwrap_or_else(|| range.clone()))),
            start_ts: *start_ts,
            conflict_start_ts: changed.start_ts,
            conflict_commit_ts: is_committed.then_some(changed.commit_ts),
        })
    }
}

impl Work for Validation<'_> {
    type Item = Key;

    fn command(&self, keys: &[Key]) -> KvCommand {
        let (since, view) = (self.origin.start_ts, self.view());
        KvCommand::TxnRead(Box::new(TxnRead::KeyChanges { keys: keys.to_vec(), since, view }))
    }

    fn fits(&self, keys: &[Key], reply: &KvReply) -> bool {
        let KvReply::Txn(reply) = reply else { return false };
        match &**reply {
            TxnReply::Changes { first, resume: None } => {
                first.as_ref().is_none_or(|first| keys.contains(&first.key))
            }
            _ => false,
        }
    }

    fn meet<'a>(&'a self, call: &'a mut Call, fault: TxnFault) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.deal_with(call, fault, None))
    }
}

fn changes(reply: KvReply) -> Option<(Option<Changed>, Option<Key>)> {
    match reply {
        KvReply::Txn(reply) => match *reply {
            TxnReply::Changes { first, resume } => Some((first, resume)),
            _ => None,
        },
        _ => None,
    }
}
