//! Regions and stores, for operators' tools. All keys here are as the region layer sees them (see `Keyspace`).

use crate::call::{Attempt, Call, Effect};
use crate::check::check_range;
use crate::core::Core;
use crate::error::{Error, InvalidArgument};
use crate::region_cache::Route;
use crate::router::unexpected;
use std::collections::VecDeque;
use std::time::Duration;
use types::{ClusterId, Key, KeyRange, LogIndex, Region, RegionId, StoreId, Timestamp};
use wire::kv::{KvCommand, KvReply};
use wire::pd::{
    GcStatus, KeyspaceInfo, OperatorStatus, Order, PdReply, PdRequest, RegionRoute, SeenWait, StoreMode,
    StoreStatus,
};

/// How many regions one request to the placement driver brings.
const REGIONS_PAGE: u32 = 1000;
/// How many cuts one request makes.
const SPLIT_KEYS: usize = 64;

/// What the cluster is made of, and how to move it. Cheap to clone.
///
/// Every call ends within the deadline. Errors of reads are [`Error::DeadlineExceeded`], [`Error::Unavailable`] and
/// [`Error::UnexpectedAnswer`].
#[derive(Clone, Debug)]
pub struct Admin {
    core: Core,
    deadline: Duration,
}

/// A cluster, in one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Whether it has its first region.
    pub bootstrapped: bool,
}

impl Admin {
    pub(crate) fn new(core: Core) -> Self {
        let deadline = core.shared.options.deadline;
        Self { core, deadline }
    }

    /// The same, with another deadline for each call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Which cluster this is.
    ///
    /// # Errors
    /// Those of reads.
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.ask(PdRequest::GetCluster, |reply| match reply {
            PdReply::Cluster { cluster_id, bootstrapped } => Some(Cluster { id: cluster_id, bootstrapped }),
            _ => None,
        })
        .await
    }

    /// All stores, in no particular order.
    ///
    /// # Errors
    /// Those of reads.
    pub async fn stores(&self) -> Result<Vec<StoreStatus>, Error> {
        self.ask(PdRequest::GetStores, |reply| match reply {
            PdReply::Stores(stores) => Some(stores),
            _ => None,
        })
        .await
    }

    /// Operators in progress, and the latest ones that ended.
    ///
    /// # Errors
    /// Those of reads.
    pub async fn operators(&self) -> Result<Vec<OperatorStatus>, Error> {
        self.ask(PdRequest::GetOperators, |reply| match reply {
            PdReply::Operators(operators) => Some(operators),
            _ => None,
        })
        .await
    }

    /// Has the members of a region changed; gives back the operator that begins to do so. How it goes on shows in
    /// [`Admin::operators`]. The placement driver goes on to keep as many voters as it is configured for: of a region
    /// that has more it removes one again.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason if it is refused. Others leave open whether it was begun: the same
    /// order may be given again.
    pub async fn add_operator(&self, region_id: RegionId, order: Order) -> Result<OperatorStatus, Error> {
        self.ask(PdRequest::AddOperator { region_id, order }, |reply| match reply {
            PdReply::Operators(operators) => operators.into_iter().next(),
            _ => None,
        })
        .await
    }

    /// Ends the operator of a region. What it has done stays, and repair clears up behind it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if none runs. Others leave open whether it was ended.
    pub async fn cancel_operator(&self, region_id: RegionId) -> Result<(), Error> {
        self.ask(PdRequest::CancelOperator { region_id }, done).await
    }

    /// Has a store drained of its regions, or of its leaderships, or used as any other again. It has then begun; how far
    /// it is shows in [`Admin::stores`]: a store that has given everything away is listed no more.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason if it is refused. Others leave open whether it was begun: it may be
    /// asked for again.
    pub async fn set_store_mode(&self, store_id: StoreId, mode: StoreMode) -> Result<(), Error> {
        self.ask(PdRequest::SetStoreMode { store_id, mode }, done).await
    }

    /// A key space of this name, where versions live so long, or as long as elsewhere; the one that is there, if there is one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it is refused. Others leave open whether it was made: it may be asked for again.
    pub async fn create_keyspace(
        &self,
        name: impl Into<String>,
        gc_life: Option<Duration>,
    ) -> Result<KeyspaceInfo, Error> {
        let request = PdRequest::CreateKeyspace { name: name.into(), gc_life_ms: life_ms(gc_life) };
        self.ask(request, one_keyspace).await
    }

    /// All key spaces, in the order of their ids.
    ///
    /// # Errors
    /// Those of reads.
    pub async fn keyspaces(&self) -> Result<Vec<KeyspaceInfo>, Error> {
        self.ask(PdRequest::GetKeyspaces { name: None }, |reply| match reply {
            PdReply::Keyspaces(keyspaces) => Some(keyspaces),
            _ => None,
        })
        .await
    }

    /// The key space of this name.
    ///
    /// # Errors
    /// [`InvalidArgument::UnknownKeyspace`]; those of reads.
    pub async fn keyspace(&self, name: impl Into<String>) -> Result<KeyspaceInfo, Error> {
        self.ask(PdRequest::GetKeyspaces { name: Some(name.into()) }, one_keyspace).await
    }

    /// How long versions live in a key space; `None` for as long as elsewhere. What is given up already does not return.
    ///
    /// # Errors
    /// [`InvalidArgument::UnknownKeyspace`]. Others leave open whether it was done: it may be asked for again.
    pub async fn set_keyspace_life(
        &self,
        name: impl Into<String>,
        gc_life: Option<Duration>,
    ) -> Result<KeyspaceInfo, Error> {
        let request = PdRequest::SetKeyspaceLife { name: name.into(), gc_life_ms: life_ms(gc_life) };
        self.ask(request, one_keyspace).await
    }

    /// How far the removal of old versions is.
    ///
    /// # Errors
    /// Those of reads.
    pub async fn gc(&self) -> Result<GcStatus, Error> {
        self.ask(PdRequest::GetGc, |reply| match reply {
            PdReply::Gc(status) => Some(status),
            _ => None,
        })
        .await
    }

    /// Keeps the versions from `at` on for so long, in the name of a service; asked again in time, for longer.
    ///
    /// # Errors
    /// [`TxnError::BelowSafePoint`](crate::TxnError::BelowSafePoint) if they may be gone already. Others leave open whether it
    /// was done: it may be asked for again.
    pub async fn hold_safe_point(
        &self,
        name: impl Into<String>,
        at: Timestamp,
        ttl: Duration,
    ) -> Result<(), Error> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.ask(PdRequest::HoldSafePoint { name: name.into(), at, ttl_ms }, done).await
    }

    /// A service needs nothing any more.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if none of that name does.
    pub async fn release_safe_point(&self, name: impl Into<String>) -> Result<(), Error> {
        self.ask(PdRequest::ReleaseSafePoint { name: name.into() }, done).await
    }

    /// A timestamp, later than any that was given before this call. As the placement driver gives it: it is asked for this one
    /// alone, and whether it goes back is for others to see (`TxnClient::timestamp` would refuse it).
    ///
    /// # Errors
    /// Those of reads.
    pub async fn timestamp(&self) -> Result<Timestamp, Error> {
        self.ask(PdRequest::GetTimestamps { count: 1 }, |reply| match reply {
            PdReply::Timestamp(timestamp) => Some(timestamp),
            _ => None,
        })
        .await
    }

    /// Who waits for whose locks, as stores have reported; a bounded number. Keys are as regions see them.
    ///
    /// # Errors
    /// Those of reads.
    pub async fn lock_waits(&self) -> Result<Vec<SeenWait>, Error> {
        self.ask(PdRequest::GetLockWaits, |reply| match reply {
            PdReply::LockWaits(waits) => Some(waits),
            _ => None,
        })
        .await
    }

    /// The region with this id; `None` if the placement driver does not know it.
    ///
    /// # Errors
    /// Those of reads.
    pub async fn region(&self, region_id: RegionId) -> Result<Option<RegionRoute>, Error> {
        self.ask(PdRequest::GetRegion { region_id }, region_reply).await
    }

    /// The region that holds `key`; `None` if the placement driver knows of none.
    ///
    /// # Errors
    /// Those of reads.
    pub async fn region_at(&self, key: impl Into<Key>) -> Result<Option<RegionRoute>, Error> {
        self.ask(PdRequest::GetRegionByKey { key: key.into(), before: false }, region_reply).await
    }

    /// The regions that overlap `range`, in key order, and `limit` of them at most.
    ///
    /// # Errors
    /// Those of reads, and [`Error::InvalidArgument`].
    pub async fn regions(&self, range: KeyRange, limit: usize) -> Result<Vec<RegionRoute>, Error> {
        check_order(&range)?;
        let mut call = self.core.begin(Effect::Read, self.deadline);
        let mut left = range;
        let mut regions: Vec<RegionRoute> = Vec::new();
        while regions.len() < limit && !left.is_empty() {
            let page_max = u32::try_from(limit - regions.len()).unwrap_or(u32::MAX).min(REGIONS_PAGE);
            let request = PdRequest::GetRegions { range: left.clone(), limit: page_max };
            let page = match self.core.ask_pd(&mut call, request).await? {
                PdReply::Regions(page) => page,
                other => return Err(Error::UnexpectedAnswer { message: unexpected(&other).to_owned() }),
            };
            let Some(last) = page.last() else { break };
            let end = last.region.range.end.clone();
            if page.len() > page_max as usize || (!end.is_empty() && end <= left.start) {
                let message = "the placement driver listed regions that were not asked for".to_owned();
                return Err(Error::UnexpectedAnswer { message });
            }
            regions.extend(page);
            if end.is_empty() {
                break;
            }
            left.start = end;
        }
        Ok(regions)
    }

    /// Cuts regions at these keys, and gives back the regions made, in the order of their keys. A key at which a region
    /// begins already is passed over.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]; [`Error::Undetermined`] when a cut may have been made or not; others mean that the
    /// cut that failed was not made. Cuts at lower keys were made before in any case; all may be asked for again.
    pub async fn split_region<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Region>, Error> {
        let mut keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
        keys.sort();
        keys.dedup();
        if keys.first().is_some_and(|key| key.is_empty()) {
            return Err(InvalidArgument::SplitAtEmptyKey.into());
        }
        for key in &keys {
            check_range(&KeyRange::new(key.clone(), ""))?;
        }
        let mut call = self.core.begin(Effect::Write, self.deadline);
        let mut keys = VecDeque::from(keys);
        let mut made: Vec<Region> = Vec::new();
        while let Some(first) = keys.front() {
            let route = self.core.region_at(&mut call, first).await?;
            let range = &route.region.range;
            if range.start == *first {
                keys.pop_front();
                continue;
            }
            let here: Vec<Key> =
                keys.iter().take(SPLIT_KEYS).take_while(|key| range.contains(key)).cloned().collect();
            let count = here.len();
            match self.core.attempt(&mut call, &route, KvCommand::Split { keys: here }).await? {
                Attempt::Again => {}
                Attempt::Answered(KvReply::Regions(regions)) => {
                    let mut cache = self.core.shared.regions.lock();
                    for region in &regions {
                        // The children's first leader is where the parent's was, mostly.
                        cache.insert(region.clone(), Some(route.store_id));
                    }
                    made.extend(regions);
                    keys.drain(..count);
                }
                Attempt::Answered(_) => {
                    return Err(self.core.nonsense(&call, route.store_id, "not to a split"));
                }
            }
        }
        Ok(made)
    }

    /// Has the region's leader hand over to the peer on `to_store`. It has then begun; whether it comes to its end
    /// shows in [`Admin::region`].
    ///
    /// # Errors
    /// [`Error::NoSuchRegion`]; [`Error::InvalidArgument`] if no peer of the region there may lead;
    /// [`Error::Undetermined`]; others mean that nothing was begun.
    pub async fn transfer_leader(&self, region_id: RegionId, to_store: StoreId) -> Result<(), Error> {
        let mut call = self.core.begin(Effect::Write, self.deadline);
        loop {
            let route = self.route_of(&mut call, region_id).await?;
            match self.core.attempt(&mut call, &route, KvCommand::TransferLeader { to_store }).await? {
                Attempt::Again => {}
                Attempt::Answered(KvReply::Started) => return Ok(()),
                Attempt::Answered(_) => {
                    return Err(self.core.nonsense(&call, route.store_id, "not to a transfer"));
                }
            }
        }
    }

    /// Has the region's log forgotten as far as its leader has applied it, whoever still lacks some of that; gives back
    /// the last entry that is kept no more. May be repeated.
    ///
    /// # Errors
    /// [`Error::NoSuchRegion`]; [`Error::Undetermined`] when it may have been done or not; others mean that it was not.
    pub async fn compact_log(&self, region_id: RegionId) -> Result<LogIndex, Error> {
        let mut call = self.core.begin(Effect::Write, self.deadline);
        loop {
            let route = self.route_of(&mut call, region_id).await?;
            match self.core.attempt(&mut call, &route, KvCommand::CompactLog).await? {
                Attempt::Again => {}
                Attempt::Answered(KvReply::Compacted { to }) => return Ok(to),
                Attempt::Answered(_) => {
                    return Err(self.core.nonsense(&call, route.store_id, "not to a compaction"));
                }
            }
        }
    }

    /// Where the region is led: what is cached, else what the placement driver knows.
    async fn route_of(&self, call: &mut Call, region_id: RegionId) -> Result<Route, Error> {
        let cached = || self.core.shared.regions.lock().by_id(region_id);
        if let Some(route) = cached() {
            return Ok(route);
        }
        let reply = self.core.ask_pd(call, PdRequest::GetRegion { region_id }).await?;
        let route = match reply {
            PdReply::Region(Some(route)) if route.region.id == region_id => route,
            PdReply::Region(None) => return Err(Error::NoSuchRegion { region_id }),
            other => return Err(Error::UnexpectedAnswer { message: unexpected(&other).to_owned() }),
        };
        self.core.learn(vec![route]);
        // What the cache holds over the same keys may be newer: then this region is no more as it was.
        cached().ok_or(Error::NoSuchRegion { region_id })
    }

    async fn ask<T>(
        &self,
        request: PdRequest,
        expect: impl FnOnce(PdReply) -> Option<T>,
    ) -> Result<T, Error> {
        let mut call = self.core.begin(Effect::Read, self.deadline);
        let reply = self.core.ask_pd(&mut call, request).await?;
        let message = unexpected(&reply);
        expect(reply).ok_or_else(|| Error::UnexpectedAnswer { message: message.to_owned() })
    }
}

fn region_reply(reply: PdReply) -> Option<Option<RegionRoute>> {
    match reply {
        PdReply::Region(route) => Some(route),
        _ => None,
    }
}

fn one_keyspace(reply: PdReply) -> Option<KeyspaceInfo> {
    match reply {
        PdReply::Keyspaces(mut keyspaces) if keyspaces.len() == 1 => keyspaces.pop(),
        _ => None,
    }
}

/// Zero stands for the common life time, so the shortest is a millisecond.
fn life_ms(gc_life: Option<Duration>) -> u64 {
    gc_life.map_or(0, |life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn done(reply: PdReply) -> Option<()> {
    matches!(reply, PdReply::Done).then_some(())
}

fn check_order(range: &KeyRange) -> Result<(), InvalidArgument> {
    if !range.end.is_empty() && range.start > range.end {
        Err(InvalidArgument::RangeReversed)
    } else {
        Ok(())
    }
}
