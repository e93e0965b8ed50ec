//! One call: its deadline, its attempts, and what each refusal means for the next attempt.

use crate::backoff::{Backoff, Class};
use crate::core::{Core, Wanted};
use crate::error::{Cause, Error, InvalidArgument};
use crate::health::Outcome;
use crate::keyspace::Keyspace;
use crate::port::RpcError;
use crate::region_cache::Route;
use crate::router::Joining;
use crate::seeded_bug::SeededBug;
use crate::store_book::Entry;
use crate::txn::TxnError;
use env::sim_point;
use std::sync::Arc;
use std::time::Duration;
use types::{Epoch, MonoTime, Region, RegionId, StoreId};
use wire::kv::{KvCommand, KvError, KvReply, KvRequest, KvResponse};
use wire::trace::Trace;
use wire::txn::TxnFault;

/// Whether a request that may have been made can be made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// It changes nothing.
    Read,
    /// It can be made once.
    Write,
    /// It changes something, and the second time nothing more.
    Repeatable,
}

/// What a call carries from one attempt to the next.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    deadline: MonoTime,
    effect: Effect,
    backoff: Backoff,
    last: Option<Cause>,
    /// An attempt may have been made, and nobody knows.
    in_doubt: bool,
    traced: Option<Traced>,
}

/// Where the time of a call went, as far as stores told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traced {
    /// Requests sent.
    pub(crate) requests: u32,
    /// What the store said that answered the last of them.
    pub(crate) last: Option<Trace>,
}

impl Call {
    /// How the call ends when its deadline passes between two attempts, when nothing has been written.
    pub(crate) fn expired(&self) -> Error {
        match &self.last {
            None | Some(Cause::StoreSilent { .. } | Cause::NoTimeLeft { .. }) => Error::DeadlineExceeded,
            Some(Cause::Locked { key, by }) => TxnError::LockTimeout { key: key.clone(), by: *by }.into(),
            Some(cause) => Error::Unavailable { cause: cause.clone() },
        }
    }

    /// The same, asking where its time goes.
    pub(crate) fn traced(self) -> Self {
        Self { traced: Some(Traced::default()), ..self }
    }

    /// What it was told.
    pub(crate) fn take_trace(self) -> Traced {
        self.traced.unwrap_or_default()
    }

    /// Whether an attempt may have been made that brought no answer.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// The same, and what the latest attempt failed of.
    pub(crate) fn doubt(&self) -> Option<Cause> {
        let unknown = Cause::NoLeader { region_id: RegionId(0) };
        self.in_doubt.then(|| self.last.clone().unwrap_or(unknown))
    }

    /// What the latest attempt failed of.
    pub(crate) fn last_cause(&self) -> Option<&Cause> {
        self.last.as_ref()
    }

    /// No attempt that may have been made so far will ever be made.
    pub(crate) fn clear_doubt(&mut self) {
        self.in_doubt = false;
    }

    /// A call that is made for this one, by the same deadline.
    pub(crate) fn within(&self, effect: Effect) -> Self {
        Self { effect, backoff: Backoff::default(), last: None, in_doubt: false, traced: None, ..*self }
    }

    /// Whether this call writes.
    pub(crate) const fn effect(&self) -> Effect {
        self.effect
    }
}

/// How one attempt ended.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// With this answer.
    Answered(KvReply),
    /// It was refused; the cause is dealt with and the wait is over. The key is to be routed again.
    Again,
}

/// How one attempt at a command of a transaction, or at a read at a timestamp, ended.
#[derive(Debug)]
pub(crate) enum TxnAttempt {
    /// With this answer.
    Answered(KvReply),
    /// This keeps it from being done. Nothing was.
    Faulted(TxnFault),
    /// As [`Attempt::Again`].
    Again,
}

impl Core {
    pub(crate) fn now(&self) -> MonoTime {
        self.shared.timers.now()
    }

    /// A call that begins now.
    pub(crate) fn begin(&self, effect: Effect, deadline: Duration) -> Call {
        let deadline = self.now() + deadline;
        Call { deadline, effect, backoff: Backoff::default(), last: None, in_doubt: false, traced: None }
    }

    /// The time left, which is not zero.
    pub(crate) fn remaining(&self, call: &Call) -> Result<Duration, Error> {
        let remaining = call.deadline.since(self.now());
        if remaining.is_zero() { Err(call.expired()) } else { Ok(remaining) }
    }

    /// Waits before the next attempt; an error if there is no time for one.
    pub(crate) async fn pause(
        &self,
        call: &mut Call,
        class: Class,
        cause: Cause,
        at_least: Duration,
    ) -> Result<(), Error> {
        call.last = Some(cause);
        let wait = {
            let mut dice = self.shared.dice.lock();
            call.backoff.next(class, at_least, &mut **dice)
        };
        if wait >= self.remaining(call)? {
            return Err(call.expired());
        }
        if !wait.is_zero() {
            self.shared.counts.note_wait(class, wait);
            self.shared.timers.sleep(wait).await;
        }
        Ok(())
    }

    /// Makes one attempt at the store that `route` names; if that is suspected of being silent, at another peer's.
    ///
    /// # Errors
    /// Whatever ends the call; for writes [`Error::Undetermined`] as soon as the request may have arrived somewhere and
    /// brought no definite answer.
    pub(crate) async fn attempt(
        &self,
        call: &mut Call,
        route: &Route,
        command: KvCommand,
    ) -> Result<Attempt, Error> {
        match self.attempt_txn(call, route, command).await? {
            TxnAttempt::Answered(reply) => Ok(Attempt::Answered(reply)),
            TxnAttempt::Again => Ok(Attempt::Again),
            TxnAttempt::Faulted(_) => Err(self.nonsense(call, route.store_id, "as to a transaction")),
        }
    }

    /// The same for commands of transactions.
    pub(crate) async fn attempt_txn(
        &self,
        call: &mut Call,
        route: &Route,
        command: KvCommand,
    ) -> Result<TxnAttempt, Error> {
        let detour;
        let route = if self.is_suspected(route.store_id) {
            let Some(other) = self.instead_of(call, route).await? else { return Ok(TxnAttempt::Again) };
            detour = other;
            &detour
        } else {
            route
        };
        let store_id = route.store_id;
        let Some(address) = self.address(call, store_id).await? else {
            self.try_next(route);
            return Ok(TxnAttempt::Again);
        };
        let remaining = self.remaining(call)?;
        let timeout = match call.effect {
            Effect::Read | Effect::Repeatable => remaining.min(self.shared.options.read_attempt_timeout),
            Effect::Write => remaining,
        };
        let request = KvRequest { region_id: route.region.id, epoch: route.region.epoch, command };
        match self.ask_store(store_id, &address, request, timeout, call.traced.as_mut()).await {
            Ok(response) => match Result::from(response) {
                Ok(reply) => Ok(TxnAttempt::Answered(reply)),
                Err(KvError::Txn(fault)) => Ok(TxnAttempt::Faulted(*fault)),
                Err(error) => self.refused(call, route, error).await,
            },
            Err(error) => self.unanswered(call, route, error).await,
        }
    }

    /// Sends a request, and remembers what its end says of the store.
    async fn ask_store(
        &self,
        store_id: StoreId,
        address: &str,
        request: KvRequest,
        timeout: Duration,
        traced: Option<&mut Traced>,
    ) -> Result<KvResponse, RpcError> {
        let mut visit = Visit::begin(self, store_id);
        let rpc = &self.shared.rpc;
        let result = match traced {
            None => rpc.kv(store_id, address, request, timeout).await,
            Some(traced) => {
                traced.requests += 1;
                traced.last = None;
                let told = rpc.kv_traced(store_id, address, request, timeout).await;
                told.map(|(response, trace)| {
                    traced.last = trace;
                    response
                })
            }
        };
        visit.outcome = match &result {
            Ok(_) => Outcome::Answered,
            Err(RpcError::TimedOut) => Outcome::TimedOut,
            Err(RpcError::NotSent { .. } | RpcError::ConnectionLost { .. }) => Outcome::Unreachable,
        };
        result
    }

    fn is_suspected(&self, store_id: StoreId) -> bool {
        let now = self.now();
        self.shared.health.lock().is_suspected(store_id, now)
    }

    /// Where to go when the store that `route` names is suspected: to another peer that may know more or lead by now;
    /// to the store itself if there is none and it answers a probe. `None` after a wait, when nobody is left.
    async fn instead_of(&self, call: &mut Call, route: &Route) -> Result<Option<Route>, Error> {
        let other = {
            let (now, mut health) = (self.now(), self.shared.health.lock());
            route.others().find(|store_id| !health.is_suspected(*store_id, now))
        };
        if let Some(store_id) = other {
            self.shared.regions.lock().turn(route.region.id, route.region.epoch, route.store_id, store_id);
            return Ok(Some(Route { region: Arc::clone(&route.region), store_id }));
        }
        if self.is_back(call, route.store_id).await? {
            return Ok(Some(route.clone()));
        }
        self.try_next(route);
        let cause = Cause::StoreSilent { store_id: route.store_id };
        self.pause(call, Class::NoLeader, cause, Duration::ZERO).await?;
        Ok(None)
    }

    /// Whether a suspected store answers again: asks it, if that is due, something that does nothing. So it is never a
    /// write that finds out.
    async fn is_back(&self, call: &Call, store_id: StoreId) -> Result<bool, Error> {
        let now = self.now();
        if self.shared.health.lock().probe_is_due(store_id, now) {
            let probe = self.join_lookup(Wanted::Probe(store_id), Joining::Same);
            // What it found is in `health`.
            let _ = self.wait_for(call, probe).await?;
        }
        Ok(!self.is_suspected(store_id))
    }

    /// Asks a store for a region that is none: any answer will do.
    pub(crate) async fn probe(&self, store_id: StoreId) -> Result<(), Cause> {
        let now = self.now();
        let entry = self.shared.stores.lock().entry(store_id, now);
        if matches!(entry, Entry::Ask(_)) {
            // It may be back at another address. If the driver does not tell, the old one is tried.
            let _ = self.join_lookup(Wanted::Stores, Joining::Same).await;
        }
        let address = self.shared.stores.lock().address(store_id);
        let result = match address {
            Some(address) => {
                let command = KvCommand::Get { key: Keyspace::RAW.encode(b"probe") };
                let request = KvRequest { region_id: RegionId(0), epoch: Epoch::default(), command };
                self.ask_store(store_id, &address, request, self.shared.options.probe_timeout, None).await
            }
            None => Err(RpcError::NotSent { reason: "its address is not known".to_owned() }),
        };
        match result {
            Ok(_) => Ok(()),
            Err(_) => {
                self.shared.stores.lock().doubt(store_id);
                let now = self.now();
                let mut dice = self.shared.dice.lock();
                self.shared.health.lock().probe_failed(store_id, now, &mut **dice);
                Err(Cause::StoreSilent { store_id })
            }
        }
    }

    /// An answer that does not fit its question, or breaks its promises.
    pub(crate) fn nonsense(&self, call: &Call, store_id: StoreId, message: &str) -> Error {
        match call.effect {
            Effect::Write => Error::Undetermined { cause: Cause::UnexpectedAnswer { store_id } },
            Effect::Read | Effect::Repeatable => {
                Error::UnexpectedAnswer { message: format!("store {store_id} answered {message}") }
            }
        }
    }

    async fn unanswered(&self, call: &mut Call, route: &Route, error: RpcError) -> Result<TxnAttempt, Error> {
        let store_id = route.store_id;
        let may_have_been_sent = error.may_have_been_sent();
        let cause = match error {
            RpcError::NotSent { reason } => Cause::StoreUnreachable { store_id, reason },
            RpcError::ConnectionLost { reason } => Cause::ConnectionLost { store_id, reason },
            RpcError::TimedOut => Cause::StoreSilent { store_id },
        };
        self.shared.stores.lock().doubt(store_id);
        self.try_next(route);
        let bugs = self.shared.options.bugs;
        if may_have_been_sent && call.effect == Effect::Write && !bugs.has(SeededBug::RetriesUndetermined) {
            if bugs.has(SeededBug::UnansweredIsRefused) {
                return Err(Error::Unavailable { cause });
            }
            return Err(Error::Undetermined { cause });
        }
        call.in_doubt |= may_have_been_sent;
        self.again(call, Class::Unreachable, cause).await
    }

    async fn refused(&self, call: &mut Call, route: &Route, error: KvError) -> Result<TxnAttempt, Error> {
        let store_id = route.store_id;
        let (region_id, epoch) = (route.region.id, route.region.epoch);
        match error {
            KvError::NotLeader { leader, .. } => {
                let cause = Cause::NoLeader { region_id };
                let leader = leader.filter(|_| !sim_point!("client_core.ignore_leader_hint"));
                let Some(leader) = leader.filter(|leader| leader.store_id != store_id) else {
                    self.try_next(route);
                    return self.again(call, Class::NoLeader, cause).await;
                };
                if self.is_suspected(leader.store_id) && !self.is_back(call, leader.store_id).await? {
                    // It is not there for us; if it is not for its followers either they elect another.
                    self.try_next(route);
                    let cause = Cause::StoreSilent { store_id: leader.store_id };
                    return self.again(call, Class::NoLeader, cause).await;
                }
                let is_member = self.shared.regions.lock().set_leader(region_id, epoch, leader.store_id);
                if !is_member {
                    // The members have changed since: the placement driver knows them.
                    self.forget(route);
                }
                self.again(call, Class::LeaderNamed, cause).await
            }
            KvError::EpochNotMatch { current_regions } => {
                let cause = Cause::RegionChanged { region_id };
                let is_behind = |region: &Region| region.id == region_id && region.epoch.is_older_than(epoch);
                if current_regions.iter().any(is_behind) {
                    // The store has not caught up with what we know.
                    self.try_next(route);
                    return self.again(call, Class::RegionMissing, cause).await;
                }
                self.replace(route, current_regions);
                self.again(call, Class::RegionChanged, cause).await
            }
            KvError::RegionNotFound { .. } => {
                self.forget(route);
                self.again(call, Class::RegionMissing, Cause::RegionChanged { region_id }).await
            }
            KvError::KeyNotInRegion { .. } => {
                self.forget(route);
                self.again(call, Class::RegionChanged, Cause::RegionChanged { region_id }).await
            }
            KvError::ServerIsBusy { reason, backoff_ms } => {
                let cause = Cause::StoreBusy { store_id, reason };
                let at_least = Duration::from_millis(backoff_ms.into());
                self.pause(call, Class::Busy, cause, at_least).await?;
                Ok(TxnAttempt::Again)
            }
            KvError::StaleCommand => {
                self.again(call, Class::RegionChanged, Cause::StaleCommand { region_id }).await
            }
            KvError::DeadlineExceeded => self.again(call, Class::Busy, Cause::NoTimeLeft { store_id }).await,
            KvError::DiskFull => Err(Error::DiskFull),
            KvError::InvalidRequest { message } => Err(InvalidArgument::Refused { message }.into()),
            KvError::UnknownKeyspace { keyspace } => {
                Err(InvalidArgument::UnknownKeyspaceId { id: keyspace }.into())
            }
            KvError::UndeterminedResult => {
                let cause = Cause::StoreLostTrack { store_id };
                match call.effect {
                    Effect::Write => Err(Error::Undetermined { cause }),
                    Effect::Read | Effect::Repeatable => {
                        call.in_doubt = true;
                        self.again(call, Class::RegionChanged, cause).await
                    }
                }
            }
            KvError::Txn(_) => Err(self.nonsense(call, store_id, "as to a transaction")),
        }
    }

    async fn again(&self, call: &mut Call, class: Class, cause: Cause) -> Result<TxnAttempt, Error> {
        self.pause(call, class, cause, Duration::ZERO).await?;
        Ok(TxnAttempt::Again)
    }

    fn try_next(&self, route: &Route) {
        self.shared.regions.lock().try_next(route.region.id, route.region.epoch, route.store_id);
    }

    fn forget(&self, route: &Route) {
        self.shared.regions.lock().forget(route.region.id, route.region.epoch);
    }

    /// The region is no more as we knew it: these are there now, says the store that was asked, which is likely to lead
    /// those of them that it has a peer of.
    fn replace(&self, route: &Route, current: Vec<Region>) {
        let mut regions = self.shared.regions.lock();
        regions.forget(route.region.id, route.region.epoch);
        for region in current {
            regions.insert(region, Some(route.store_id));
        }
    }
}

/// One request to a store, counted until it ends, also when its caller goes away.
struct Visit<'a> {
    core: &'a Core,
    store_id: StoreId,
    outcome: Outcome,
}

impl<'a> Visit<'a> {
    fn begin(core: &'a Core, store_id: StoreId) -> Self {
        let now = core.now();
        core.shared.health.lock().began(store_id, now);
        Self { core, store_id, outcome: Outcome::GivenUp }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let now = self.core.now();
        self.core.shared.health.lock().ended(self.store_id, self.outcome, now);
    }
}
