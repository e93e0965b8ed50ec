//! Removing old versions from all regions, as the placement driver says, and raw values that are over.
//!
//! ```text
//! guard every region ──► resolve its old locks ──► (all regions) ──► remove its old versions ──► (all regions)
//! ```
//!
//! A region that is guarded lets no transaction begin to write that began by the safe point; so when none of its locks is that
//! old, none will be again, in whatever regions its keys lie by then. Only when that holds of all regions may versions go:
//! what became of a transaction is recorded at its primary, and whoever meets one of its locks elsewhere asks there.
//!
//! Nothing of this is remembered here. Whoever begins anew finds what is done done; several at once do no harm.

use crate::call::{Call, Effect, TxnAttempt};
use crate::core::Core;
use crate::error::Error;
use crate::keyspace::Keyspace;
use crate::region_cache::Route;
use crate::router::unexpected;
use crate::seeded_bug::SeededBug;
use crate::txn::error::TxnError;
use futures_util::stream::{self, StreamExt};
use std::time::Duration;
use types::{Key, KeyRange, SafePoints, raw_range, transactional_range};
use wire::kv::{KvCommand, KvReply};
use wire::pd::{GcStage, GcStatus, PdReply, PdRequest};
use wire::txn::{LockInfo, TxnCommand, TxnFault, TxnRead, TxnReply};

/// Regions that are worked on at once: few, since what is done for each of them goes through its log like the writes of
/// clients, who must not wait for it.
const REGIONS_AT_ONCE: usize = 4;
/// Regions that the placement driver is asked for at once.
const REGIONS_PAGE: u32 = 128;
/// Locks that are resolved at once.
const LOCKS_PAGE: u32 = 256;

/// Does what there is to be done about old versions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Collector {
    core: Core,
    deadline: Duration,
}

/// What one look has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collected {
    /// There was nothing to do.
    Nothing,
    /// All old locks are resolved.
    Resolved {
        /// How many there were.
        locks: u64,
    },
    /// All old versions are removed.
    Removed {
        /// How many there were.
        versions: u64,
    },
}

/// What is done in each region.
#[derive(Clone, Copy, Debug)]
enum Task<'a> {
    /// It is guarded, and its old locks are resolved.
    Resolve(&'a SafePoints),
    /// Old versions go.
    Remove(&'a SafePoints),
    /// Raw values that are over go.
    Expire,
}

impl Collector {
    pub(crate) fn new(core: Core) -> Self {
        let deadline = core.shared.options.deadline;
        Self { core, deadline }
    }

    /// Asks the placement driver what is to be done, and does it.
    ///
    /// # Errors
    /// Those of reads, when some region or the placement driver does not answer for too long. What was done is done; the next
    /// look goes on.
    pub async fn work(&self) -> Result<Collected, Error> {
        let status = self.status().await?;
        let round = status.round;
        match status.stage {
            GcStage::Idle => Ok(Collected::Nothing),
            GcStage::Guarding => {
                let locks = self.everywhere(Task::Resolve(&status.guarded), transactional_range()).await?;
                self.tell(PdRequest::GcResolved { round }).await?;
                Ok(Collected::Resolved { locks })
            }
            GcStage::Removing => {
                let versions =
                    self.everywhere(Task::Remove(&status.removable), transactional_range()).await?;
                self.tell(PdRequest::GcCollected { round }).await?;
                Ok(Collected::Removed { versions })
            }
        }
    }

    /// Removes raw values that are over, in all regions; gives back how many there were. The placement driver has no say in
    /// that: nobody is shown them any more.
    ///
    /// # Errors
    /// As [`Collector::work`].
    pub async fn expire(&self) -> Result<u64, Error> {
        self.everywhere(Task::Expire, raw_range()).await
    }

    async fn status(&self) -> Result<GcStatus, Error> {
        let mut call = self.core.begin(Effect::Read, self.deadline);
        match self.core.ask_pd(&mut call, PdRequest::GetGc).await? {
            PdReply::Gc(status) => Ok(status),
            other => Err(Error::UnexpectedAnswer { message: unexpected(&other).to_owned() }),
        }
    }

    async fn tell(&self, request: PdRequest) -> Result<(), Error> {
        let mut call = self.core.begin(Effect::Repeatable, self.deadline);
        match self.core.ask_pd(&mut call, request).await? {
            PdReply::Done => Ok(()),
            other => Err(Error::UnexpectedAnswer { message: unexpected(&other).to_owned() }),
        }
    }

    /// Does a task for all keys of a range; gives back how much there was to do.
    async fn everywhere(&self, task: Task<'_>, mut left: KeyRange) -> Result<u64, Error> {
        let mut count = 0;
        while !left.is_empty() {
            let (pieces, rest) = self.pieces(&left).await?;
            let done = pieces.into_iter().map(|piece| self.over(task, piece));
            let mut done = stream::iter(done).buffer_unordered(REGIONS_AT_ONCE);
            while let Some(result) = done.next().await {
                count += result?;
            }
            let Some(rest) = rest else { break };
            left.start = rest;
        }
        Ok(count)
    }

    /// Some of a range, cut where regions are as far as the placement driver knows, and where the rest of it begins.
    async fn pieces(&self, left: &KeyRange) -> Result<(Vec<KeyRange>, Option<Key>), Error> {
        let mut call = self.core.begin(Effect::Read, self.deadline);
        let request = PdRequest::GetRegions { range: left.clone(), limit: REGIONS_PAGE };
        let routes = match self.core.ask_pd(&mut call, request).await? {
            PdReply::Regions(routes) => routes,
            other => return Err(Error::UnexpectedAnswer { message: unexpected(&other).to_owned() }),
        };
        // Gaps, where the placement driver has not heard of regions yet, belong to the piece before them.
        let mut borders: Vec<Key> = routes.into_iter().map(|route| route.region.range.end).collect();
        borders.retain(|border| left.contains(border) && *border > left.start);
        let (mut pieces, mut start) = (Vec::new(), left.start.clone());
        for border in borders {
            if border > start {
                pieces.push(KeyRange { start, end: border.clone() });
                start = border;
            }
        }
        match pieces.len() < REGIONS_PAGE as usize {
            true => {
                pieces.push(KeyRange { start, end: left.end.clone() });
                Ok((pieces, None))
            }
            false => Ok((pieces, Some(start))),
        }
    }

    /// Does a task for the keys of a range, region by region, however they are cut by then.
    async fn over(&self, task: Task<'_>, range: KeyRange) -> Result<u64, Error> {
        let (mut left, mut count) = (range, 0);
        while !left.is_empty() {
            // Each step has its time: a region with much to do takes many.
            let mut call = self.core.begin(Effect::Repeatable, self.deadline);
            let route = self.core.region_at(&mut call, &left.start).await?;
            let here = left.intersection(&route.region.range);
            let from = here.start.clone();
            let step = match task {
                Task::Resolve(safe_points) => {
                    let safe_points = safe_points.within(&route.region.range);
                    self.resolve(&mut call, &route, &here, safe_points).await?
                }
                Task::Remove(safe_points) => {
                    let safe_points = safe_points.within(&route.region.range);
                    self.remove(&mut call, &route, TxnCommand::Collect { safe_points, from }).await?
                }
                Task::Expire => self.remove(&mut call, &route, TxnCommand::CollectExpired { from }).await?,
            };
            let Some((done, resume)) = step else { continue };
            count += done;
            match resume.or_else(|| (!here.end.is_empty()).then_some(here.end)) {
                Some(next) => left.start = next.max(left.start),
                None => break,
            }
        }
        Ok(count)
    }

    /// Guards a region and resolves some of its old locks; gives back how many, and where it goes on in the region. `None`: the
    /// region is to be looked up again.
    async fn resolve(
        &self,
        call: &mut Call,
        route: &Route,
        here: &KeyRange,
        safe_points: SafePoints,
    ) -> Result<Option<(u64, Option<Key>)>, Error> {
        let guard = TxnCommand::Guard { safe_points: safe_points.clone() };
        let Some(TxnReply::Done) = self.ask(call, route, KvCommand::Txn(Box::new(guard))).await? else {
            return Ok(None);
        };
        if self.core.shared.options.bugs.has(SeededBug::OldLocksLeft) {
            return Ok(Some((0, None)));
        }
        let up_to = safe_points.over(here);
        let read = TxnRead::Locks { range: here.clone(), up_to, limit: LOCKS_PAGE };
        let reply = self.ask(call, route, KvCommand::TxnRead(Box::new(read))).await?;
        let Some(TxnReply::Locks { locks, resume }) = reply else { return Ok(None) };
        let is_old = |lock: &LockInfo| lock.start_ts <= safe_points.of_key(&lock.key);
        let old: Vec<LockInfo> = locks.into_iter().filter(is_old).collect();
        let count = old.len() as u64;
        // Where one cannot be resolved yet, all are looked for again.
        match self.core.resolve_old(call, old).await? {
            true => Ok(Some((count, resume))),
            false => Ok(Some((0, Some(here.start.clone())))),
        }
    }

    /// As [`Collector::resolve`], by a command that removes something.
    async fn remove(
        &self,
        call: &mut Call,
        route: &Route,
        command: TxnCommand,
    ) -> Result<Option<(u64, Option<Key>)>, Error> {
        match self.ask(call, route, KvCommand::Txn(Box::new(command))).await? {
            Some(TxnReply::Collected { removed, resume }) => Ok(Some((removed, resume))),
            _ => Ok(None),
        }
    }

    async fn ask(
        &self,
        call: &mut Call,
        route: &Route,
        command: KvCommand,
    ) -> Result<Option<TxnReply>, Error> {
        match self.core.attempt_txn(call, route, command).await? {
            TxnAttempt::Again => Ok(None),
            TxnAttempt::Answered(KvReply::Txn(reply)) => Ok(Some(*reply)),
            TxnAttempt::Answered(_) => {
                Err(self.core.nonsense(call, route.store_id, "not about old versions"))
            }
            TxnAttempt::Faulted(TxnFault::KeyIsLocked { locks }) if !locks.is_empty() => {
                // Of commands on their way through the log: the engine is about to have them, or never will.
                self.core.wait_for_lock(call, Keyspace::TXN, &locks[0]).await?;
                Ok(None)
            }
            TxnAttempt::Faulted(fault) => {
                let message = format!("a store answered with {fault:?} where old versions were to go");
                Err(Error::UnexpectedAnswer { message })
            }
        }
    }
}

/// True for what a question about a transaction is answered whose records may be gone: then its locks are gone too.
pub(crate) fn is_below_safe_point(error: &Error) -> bool {
    matches!(error, Error::Txn(TxnError::BelowSafePoint { .. }))
}
