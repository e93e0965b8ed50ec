//! From keys to regions and from stores to addresses: the caches, and the placement driver behind them.

use crate::backoff::Class;
use crate::call::Call;
use crate::core::{Core, Lookup, Wanted};
use crate::error::{Cause, Error, InvalidArgument};
use crate::port::{Rpc, RpcError};
use crate::region_cache::Route;
use crate::store_book::Entry;
use crate::txn::TxnError;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use std::sync::Arc;
use std::time::Duration;
use types::{Key, KeyRange, StoreId};
use wire::pd::{PdError, PdReply, PdRequest, RegionRoute};

/// How many regions one lookup brings: the one that is asked for and those after it, so that neither a scan nor many
/// calls on a cold cache ask once per region.
const LOOKUP_REGIONS: u32 = 32;

/// How often a call hopes for others' lookups before it insists on its own.
const JOINS_NEAR: u32 = 8;

/// Which lookups under way a call joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joining {
    /// The one for the next lower key too: it may bring the wanted region among those after its own.
    Near,
    /// Only one for the same.
    Same,
}

/// How the placement driver failed to answer.
#[derive(Clone)]
pub(crate) enum PdFailure {
    /// To be asked again.
    Later { cause: Cause, after: Duration },
    /// Not to be asked again.
    Never(Error),
}

impl Core {
    /// The region that holds `key`.
    pub(crate) async fn region_at(&self, call: &mut Call, key: &Key) -> Result<Route, Error> {
        let mut joins = 0;
        loop {
            if let Some(route) = self.cached_region_at(key) {
                return Ok(route);
            }
            let joining = if joins < JOINS_NEAR { Joining::Near } else { Joining::Same };
            self.look_up(call, Wanted::RegionAt(key.clone()), joining).await?;
            joins += 1;
        }
    }

    /// The same, if it is known already.
    pub(crate) fn cached_region_at(&self, key: &[u8]) -> Option<Route> {
        let known = self.shared.regions.lock().at(key);
        self.shared.counts.note_look(known.is_some());
        known
    }

    /// The region that holds the keys just below `end`; an empty `end` is the end of all keys.
    pub(crate) async fn region_before(&self, call: &mut Call, end: &Key) -> Result<Route, Error> {
        loop {
            let known = self.shared.regions.lock().before(end);
            self.shared.counts.note_look(known.is_some());
            if let Some(route) = known {
                return Ok(route);
            }
            self.look_up(call, Wanted::RegionBefore(end.clone()), Joining::Same).await?;
        }
    }

    /// Where the store is reached; waits and gives `None` when that cannot be said now, after which the region is to
    /// be looked up again.
    pub(crate) async fn address(
        &self,
        call: &mut Call,
        store_id: StoreId,
    ) -> Result<Option<Arc<str>>, Error> {
        let entry = |core: &Self| core.shared.stores.lock().entry(store_id, core.now());
        match entry(self) {
            Entry::Known(address) => return Ok(Some(address)),
            Entry::Missing => {}
            Entry::Ask(Some(address)) => {
                // A driver that does not answer must not keep us from a store that may well be there again.
                let answer = self.wait_for(call, self.join_lookup(Wanted::Stores, Joining::Same)).await?;
                if answer.is_err() {
                    return Ok(Some(address));
                }
            }
            Entry::Ask(None) => self.look_up(call, Wanted::Stores, Joining::Same).await?,
        }
        if let Entry::Known(address) = entry(self) {
            return Ok(Some(address));
        }
        self.pause(call, Class::RegionMissing, Cause::NoStore { store_id }, Duration::ZERO).await?;
        Ok(None)
    }

    /// Learns something from the placement driver, or waits because it could not be learnt.
    async fn look_up(&self, call: &mut Call, wanted: Wanted, joining: Joining) -> Result<(), Error> {
        let lookup = self.join_lookup(wanted, joining);
        match self.wait_for(call, lookup).await? {
            Ok(()) => Ok(()),
            Err(cause) => self.pause(call, Class::Pd, cause, Duration::ZERO).await,
        }
    }

    /// Joins a lookup that is under way; else begins one.
    pub(crate) fn join_lookup(&self, wanted: Wanted, joining: Joining) -> Lookup {
        let mut lookups = self.shared.lookups.lock();
        let below = lookups.range(..=&wanted).next_back();
        let near = below.filter(|(other, _)| match joining {
            Joining::Near => {
                **other == wanted || matches!((other, &wanted), (Wanted::RegionAt(_), Wanted::RegionAt(_)))
            }
            Joining::Same => **other == wanted,
        });
        if let Some((_, lookup)) = near {
            return lookup.clone();
        }
        let (core, asked) = (self.clone(), wanted.clone());
        let lookup = async move {
            let result = core.ask_once(&asked).await;
            core.shared.lookups.lock().remove(&asked);
            result
        };
        let lookup = lookup.boxed().shared();
        lookups.insert(wanted, lookup.clone());
        lookup
    }

    /// Waits for a lookup no longer than the call may.
    pub(crate) async fn wait_for(&self, call: &Call, lookup: Lookup) -> Result<Result<(), Cause>, Error> {
        let remaining = self.remaining(call)?;
        match select(lookup, self.shared.timers.sleep(remaining)).await {
            Either::Left((result, _)) => Ok(result),
            Either::Right(_) => Err(call.expired()),
        }
    }

    async fn ask_once(&self, wanted: &Wanted) -> Result<(), Cause> {
        let request = match wanted {
            Wanted::Probe(store_id) => return self.probe(*store_id).await,
            Wanted::Stores => PdRequest::GetStores,
            Wanted::RegionAt(key) => {
                let range = KeyRange { start: key.clone(), end: Key::new() };
                // A small cache must hold what one lookup brings.
                let room = u32::try_from(self.shared.options.regions_cached_max / 2).unwrap_or(u32::MAX);
                PdRequest::GetRegions { range, limit: LOOKUP_REGIONS.min(room).max(1) }
            }
            Wanted::RegionBefore(end) => PdRequest::GetRegionByKey { key: end.clone(), before: true },
        };
        let reply = match self.pd_once(request, self.shared.options.pd_attempt_timeout).await {
            Ok(reply) => reply,
            Err(PdFailure::Later { cause, .. }) => return Err(cause),
            Err(PdFailure::Never(error)) => return Err(Cause::PdNotReady { reason: error.to_string() }),
        };
        match (wanted, reply) {
            (Wanted::Stores, PdReply::Stores(stores)) => {
                let now = self.now();
                let moved = self.shared.stores.lock().replace(&stores, now);
                // What was found at another address, or of a store that is gone, says nothing.
                self.shared.health.lock().keep(|store_id| !moved.contains(&store_id));
                Ok(())
            }
            (Wanted::RegionAt(key), PdReply::Regions(routes)) => {
                let is_found = routes.iter().any(|route| route.region.range.contains(key));
                self.learn(routes);
                if is_found { Ok(()) } else { Err(Cause::NoRegion) }
            }
            (Wanted::RegionBefore(_), PdReply::Region(Some(route))) => {
                self.learn(vec![route]);
                Ok(())
            }
            (Wanted::RegionBefore(_), PdReply::Region(None)) => Err(Cause::NoRegion),
            (_, reply) => Err(Cause::PdNotReady { reason: unexpected(&reply).to_owned() }),
        }
    }

    /// Believes what the placement driver says of regions, where we do not know better.
    pub(crate) fn learn(&self, routes: Vec<RegionRoute>) {
        let mut regions = self.shared.regions.lock();
        // The first is the one that was asked for: it comes last, so that none of the others takes its room.
        for route in routes.into_iter().rev() {
            regions.insert(route.region, route.leader.map(|leader| leader.store_id));
        }
    }

    /// Asks the placement driver until it answers. Only for requests that may be made again.
    pub(crate) async fn ask_pd(&self, call: &mut Call, request: PdRequest) -> Result<PdReply, Error> {
        loop {
            let timeout = self.remaining(call)?.min(self.shared.options.pd_attempt_timeout);
            match self.pd_once(request.clone(), timeout).await {
                Ok(reply) => return Ok(reply),
                Err(PdFailure::Never(error)) => return Err(error),
                Err(PdFailure::Later { cause, after }) => self.pause(call, Class::Pd, cause, after).await?,
            }
        }
    }

    async fn pd_once(&self, request: PdRequest, timeout: Duration) -> Result<PdReply, PdFailure> {
        pd_once(&*self.shared.rpc, request, timeout).await
    }
}

/// Asks the placement driver once.
pub(crate) async fn pd_once(
    rpc: &dyn Rpc,
    request: PdRequest,
    timeout: Duration,
) -> Result<PdReply, PdFailure> {
    let later = |cause| PdFailure::Later { cause, after: Duration::ZERO };
    let answer = rpc.pd(request, timeout).await;
    let error = match answer.map(Result::from) {
        Ok(Ok(reply)) => return Ok(reply),
        Ok(Err(error)) => error,
        Err(error @ (RpcError::NotSent { .. } | RpcError::ConnectionLost { .. } | RpcError::TimedOut)) => {
            return Err(later(Cause::PdUnreachable { reason: error.to_string() }));
        }
    };
    Err(match error {
        PdError::NotBootstrapped => later(Cause::NotBootstrapped),
        PdError::NotLeader { leader } => {
            let leader =
                leader.map_or_else(|| "it has no leader".to_owned(), |at| format!("its leader is {at}"));
            later(Cause::PdNotReady { reason: leader })
        }
        PdError::ServerIsBusy { backoff_ms } => PdFailure::Later {
            cause: Cause::PdNotReady { reason: "it is busy".to_owned() },
            after: Duration::from_millis(backoff_ms.into()),
        },
        PdError::InvalidRequest { message } | PdError::StoreRejected { message } => {
            PdFailure::Never(InvalidArgument::Refused { message }.into())
        }
        PdError::UnknownKeyspace { name } => {
            PdFailure::Never(InvalidArgument::UnknownKeyspace { name }.into())
        }
        PdError::BelowSafePoint { at, safe_point } => {
            PdFailure::Never(TxnError::BelowSafePoint { at, safe_point }.into())
        }
        error @ (PdError::AlreadyBootstrapped | PdError::StaleRegion { .. }) => {
            PdFailure::Never(Error::UnexpectedAnswer { message: format!("{error:?} to a question") })
        }
    })
}

/// An answer of the wrong kind, named without its content.
pub(crate) const fn unexpected(reply: &PdReply) -> &'static str {
    match reply {
        PdReply::Done => "the placement driver answered no more than that it is done",
        PdReply::Cluster { .. } => "the placement driver answered with a cluster",
        PdReply::Ids { .. } => "the placement driver answered with ids",
        PdReply::Stores(_) => "the placement driver answered with stores",
        PdReply::Region(_) => "the placement driver answered with a region",
        PdReply::Regions(_) => "the placement driver answered with regions",
        PdReply::Instructions(_) => "the placement driver answered with instructions",
        PdReply::SplitIds(_) => "the placement driver answered with ids for a split",
        PdReply::Timestamp(_) => "the placement driver answered with a timestamp",
        PdReply::Operators(_) => "the placement driver answered with operators",
        PdReply::Keyspaces(_) => "the placement driver answered with key spaces",
        PdReply::Deadlocks { .. } | PdReply::LockWaits(_) => "the placement driver answered with lock waits",
        PdReply::StoreHeard { .. } => "the placement driver answered a client as it would a store",
        PdReply::Gc(_) => "the placement driver answered with what is done about old versions",
    }
}
