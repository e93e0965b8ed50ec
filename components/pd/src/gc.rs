//! Up to when old versions of keys may be removed, and how far that has come.
//!
//! ```text
//! Idle ──advance──► Guarding ──all locks of that time are resolved──► Removing ──everywhere removed──► Idle
//! ```
//!
//! A round begins by itself: its safe points are the time minus the life time of versions, or less if a service holds them
//! back. From then on stores are told to refuse transactions and readers that are older; once all locks of transactions that
//! began by then are resolved, in all regions, versions may go. Safe points never fall (INV-PD-SAFEPOINT): who has been told
//! that versions may be gone below a timestamp is right for ever.
//!
//! Whoever does the work reports by the round's number, so a report that comes late, or twice, changes nothing.

use codec::codec_struct;
use std::collections::BTreeMap;
use types::{KeyspacePoint, SafePoints, Timestamp};
use wire::pd::{GcStage, PdError, ServicePoint};

/// The longest name of a service, in bytes.
const NAME_MAX: usize = 128;
/// How many services may hold the safe point back.
const SERVICES_MAX: usize = 256;

/// A service that needs versions from its timestamp on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) at: Timestamp,
    /// Until then, in the oracle's milliseconds.
    pub(crate) expires_ms: u64,
}
codec_struct!(Service { name, at, expires_ms });

/// How long versions live, in milliseconds.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Lives {
    /// Where nothing else is said.
    pub(crate) common_ms: u64,
    /// In key spaces that have a time of their own.
    pub(crate) own_ms: BTreeMap<u32, u64>,
}

/// What the group keeps of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct GcState {
    /// Counts rounds; zero before the first.
    pub(crate) round: u64,
    pub(crate) stage: GcStage,
    /// Nobody is to read below these. Those of the round.
    pub(crate) guarded: SafePoints,
    /// Versions below these may be gone. Invariant: nowhere above `guarded`.
    pub(crate) removable: SafePoints,
    /// Invariant: in the order of their names, each once; none below `guarded` when it was set.
    pub(crate) services: Vec<Service>,
}
codec_struct!(GcState { round, stage, guarded, removable, services });

impl GcState {
    /// What the safe points of the next round would be.
    pub(crate) fn next(&self, now_ms: u64, lives: &Lives, ignores_services: bool) -> SafePoints {
        let held = self.services.iter().filter(|service| service.expires_ms > now_ms && !ignores_services);
        let held = held.map(|service| service.at).min();
        let at = |life_ms| {
            let by_age = Timestamp::compose(now_ms.saturating_sub(life_ms), 0);
            held.map_or(by_age, |held| held.min(by_age))
        };
        // Once a key space has a safe point of its own it keeps one: it may be behind the common one.
        let others = self.guarded.own.iter().map(|point| (point.keyspace, lives.common_ms));
        let mut own: BTreeMap<u32, u64> = others.collect();
        own.extend(&lives.own_ms);
        let own = own.into_iter().map(|(keyspace, life_ms)| KeyspacePoint { keyspace, at: at(life_ms) });
        let mut next = self.guarded.clone();
        next.raise(&SafePoints { common: at(lives.common_ms), own: own.collect() });
        next
    }

    /// By how many milliseconds a safe point would rise most in the next round.
    pub(crate) fn rise_ms(&self, now_ms: u64, lives: &Lives) -> u64 {
        let next = self.next(now_ms, lives, false);
        let rise = |from: Timestamp, to: Timestamp| to.physical_ms().saturating_sub(from.physical_ms());
        let own = next.own.iter().map(|point| rise(self.guarded.of_keyspace(point.keyspace), point.at));
        own.fold(rise(self.guarded.common, next.common), u64::max)
    }

    /// Begins a round, unless one is under way or it would change nothing.
    pub(crate) fn advance(&mut self, now_ms: u64, lives: &Lives, ignores_services: bool) {
        self.services.retain(|service| service.expires_ms > now_ms);
        let next = self.next(now_ms, lives, ignores_services);
        if self.stage == GcStage::Idle && next != self.guarded {
            self.round += 1;
            self.stage = GcStage::Guarding;
            self.guarded = next;
        }
    }

    /// Nothing is locked any more by a transaction that began by the safe points of this round.
    pub(crate) fn resolved(&mut self, round: u64) {
        if self.round == round && self.stage == GcStage::Guarding {
            self.stage = GcStage::Removing;
            self.removable.raise(&self.guarded);
        }
    }

    /// What may go by this round is gone.
    pub(crate) fn collected(&mut self, round: u64) {
        if self.round == round && self.stage == GcStage::Removing {
            self.stage = GcStage::Idle;
        }
    }

    /// A service needs versions from `at` on.
    pub(crate) fn hold(&mut self, service: Service) -> Result<(), PdError> {
        let invalid = |message: String| Err(PdError::InvalidRequest { message });
        let safe_point =
            self.guarded.own.iter().map(|point| point.at).fold(self.guarded.common, Timestamp::max);
        if service.name.is_empty() || service.name.len() > NAME_MAX {
            return invalid(format!("a service has a name of 1 to {NAME_MAX} bytes"));
        }
        if service.at < safe_point {
            return Err(PdError::BelowSafePoint { at: service.at, safe_point });
        }
        match self.services.binary_search_by(|known| known.name.cmp(&service.name)) {
            Ok(place) => self.services[place] = service,
            Err(_) if self.services.len() >= SERVICES_MAX => {
                return invalid(format!("{SERVICES_MAX} services hold the safe point already"));
            }
            Err(place) => self.services.insert(place, service),
        }
        Ok(())
    }

    /// A service needs nothing any more. Returns whether it was there.
    pub(crate) fn release(&mut self, name: &str) -> bool {
        let before = self.services.len();
        self.services.retain(|service| service.name != name);
        self.services.len() < before
    }

    /// Those that hold, for people.
    pub(crate) fn holders(&self, now_ms: u64) -> Vec<ServicePoint> {
        let live = self.services.iter().filter(|service| service.expires_ms > now_ms);
        live.map(|service| ServicePoint {
            name: service.name.clone(),
            at: service.at,
            left_ms: service.expires_ms - now_ms,
        })
        .collect()
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.guarded.covers(&self.removable), "INV-PD-SAFEPOINT: removed above what is guarded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE_MS: u64 = 1000;

    fn lives() -> Lives {
        Lives { common_ms: LIFE_MS, own_ms: BTreeMap::new() }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::compose(ms, 0)
    }

    fn service(name: &str, ms: u64, expires_ms: u64) -> Service {
        Service { name: name.to_owned(), at: at(ms), expires_ms }
    }

    /// A safe point rises with the time, one round after another, and versions go only once locks are resolved.
    #[test]
    fn rounds_follow_each_other_and_late_reports_change_nothing() {
        let mut gc = GcState::default();
        gc.advance(5000, &lives(), false);
        assert_eq!(
            (gc.round, gc.stage, gc.guarded.common, gc.removable.common),
            (1, GcStage::Guarding, at(4000), at(0))
        );
        gc.advance(6000, &lives(), false);
        gc.collected(1);
        gc.resolved(2);
        assert_eq!((gc.stage, gc.guarded.common), (GcStage::Guarding, at(4000)), "one round at a time");
        gc.resolved(1);
        gc.resolved(1);
        assert_eq!((gc.stage, gc.removable.common), (GcStage::Removing, at(4000)));
        gc.collected(1);
        gc.advance(4500, &lives(), false);
        assert_eq!((gc.round, gc.stage, gc.guarded.common), (1, GcStage::Idle, at(4000)), "time went back");
        gc.advance(7000, &lives(), false);
        gc.resolved(1);
        assert_eq!((gc.round, gc.stage, gc.guarded.common), (2, GcStage::Guarding, at(6000)));
        gc.check_invariants();
    }

    /// A service holds the safe point until its time is over, and cannot ask for what is given up.
    #[test]
    fn services_hold_the_safe_point_while_they_live() {
        let mut gc = GcState::default();
        gc.hold(service("backup", 3000, 9000)).expect("nothing is given up yet");
        gc.advance(5000, &lives(), false);
        assert_eq!(gc.guarded.common, at(3000));
        gc.resolved(1);
        gc.collected(1);
        gc.advance(6000, &lives(), false);
        assert_eq!((gc.round, gc.stage), (1, GcStage::Idle), "nothing to do");
        assert_eq!(
            gc.hold(service("late", 2999, 9000)),
            Err(PdError::BelowSafePoint { at: at(2999), safe_point: at(3000) })
        );
        gc.hold(service("backup", 4000, 9000)).expect("it goes on");
        gc.advance(6000, &lives(), false);
        assert_eq!(gc.guarded.common, at(4000));
        gc.resolved(2);
        gc.collected(2);
        assert_eq!(gc.holders(8999).len(), 1);
        gc.advance(9000, &lives(), false);
        assert_eq!((gc.guarded.common, gc.services.len()), (at(8000), 0), "its time is over");
        assert!(!gc.release("backup"));
    }

    /// A key space whose versions live longer has a safe point of its own, and keeps one when it is like the others again: what
    /// it has promised stays, and it never falls.
    #[test]
    fn a_key_space_may_keep_versions_for_longer() {
        let mut gc = GcState::default();
        let round = |gc: &mut GcState, now_ms, lives: &Lives| {
            gc.advance(now_ms, lives, false);
            let round = gc.round;
            gc.resolved(round);
            gc.collected(round);
            gc.check_invariants();
            (gc.guarded.common, gc.guarded.of_keyspace(7))
        };
        let long = Lives { own_ms: BTreeMap::from([(7, 4000)]), ..lives() };
        assert_eq!(round(&mut gc, 5000, &lives()), (at(4000), at(4000)));
        assert_eq!(round(&mut gc, 6000, &long), (at(5000), at(4000)), "it does not fall");
        assert_eq!(gc.rise_ms(6500, &long), 500);
        assert_eq!(round(&mut gc, 9000, &long), (at(8000), at(5000)));
        assert_eq!(round(&mut gc, 9000, &lives()), (at(8000), at(8000)));
    }
}
