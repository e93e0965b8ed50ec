//! Which stores are believed to answer.
//!
//! A network that swallows packets tells nobody: each request to a store behind it waits for its whole time. So what one
//! attempt had to find out is remembered for all others. A store that let an attempt down, or owes an answer for too
//! long, is *suspected*: others are asked first, and it is sent no request that matters before it has answered a
//! question that does not. One answer of any kind clears it.

use env::Dice;
use std::collections::BTreeMap;
use std::time::Duration;
use types::{MonoTime, StoreId};

/// How long a suspected store is left alone after it did not answer a probe; doubled up to [`PROBE_WAIT_MAX`], of which
/// a random part between half and all is taken, so that many clients do not probe at once.
const PROBE_WAIT_MIN: Duration = Duration::from_millis(250);

/// A store that is back is noticed within this time, and one that is gone costs a probe so often.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// What we know of the stores that were asked something.
#[derive(Debug)]
pub(crate) struct Health {
    /// How long a store may owe an answer, without giving any other, before it is suspected.
    silent_after: Duration,
    stores: BTreeMap<StoreId, Store>,
}

#[derive(Default, Debug)]
struct Store {
    /// Attempts under way.
    in_flight: usize,
    /// Since when it owes an answer, and has given none.
    owes_since: Option<MonoTime>,
    suspicion: Option<Suspicion>,
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// Probes in vain so far.
    probes: u32,
    probe_at: MonoTime,
}

impl Suspicion {
    const fn new(now: MonoTime) -> Self {
        Self { probes: 0, probe_at: now }
    }
}

/// How an attempt ended, as far as the store's health is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It answered, whatever.
    Answered,
    /// The time allowed was over. That may have been short, so it says only what [`Health::silent_after`] makes of it.
    TimedOut,
    /// It could not be reached, or the connection was lost.
    Unreachable,
    /// Nobody waits for the answer any more.
    GivenUp,
}

impl Health {
    pub(crate) const fn new(silent_after: Duration) -> Self {
        Self { silent_after, stores: BTreeMap::new() }
    }

    /// Forgets the stores for which `keep` says no, unless they are being asked.
    pub(crate) fn keep(&mut self, keep: impl Fn(StoreId) -> bool) {
        self.stores.retain(|store_id, store| store.in_flight > 0 || keep(*store_id));
    }

    /// An attempt is made. To be followed by one [`Health::ended`].
    pub(crate) fn began(&mut self, store_id: StoreId, now: MonoTime) {
        let store = self.stores.entry(store_id).or_default();
        store.in_flight += 1;
        store.owes_since.get_or_insert(now);
    }

    /// An attempt has ended.
    pub(crate) fn ended(&mut self, store_id: StoreId, outcome: Outcome, now: MonoTime) {
        let store = self.stores.get_mut(&store_id).expect("an attempt that ended was made");
        store.in_flight -= 1;
        match outcome {
            Outcome::Answered => {
                store.suspicion = None;
                store.owes_since = (store.in_flight > 0).then_some(now);
            }
            Outcome::Unreachable => {
                store.suspicion.get_or_insert(Suspicion::new(now));
            }
            // The debt stays: else many attempts that are each too short would never show that it is silent.
            Outcome::TimedOut => {}
            Outcome::GivenUp if store.in_flight == 0 => store.owes_since = None,
            Outcome::GivenUp => {}
        }
    }

    /// True if others are to be asked before this store.
    pub(crate) fn is_suspected(&mut self, store_id: StoreId, now: MonoTime) -> bool {
        let Some(store) = self.stores.get_mut(&store_id) else { return false };
        if store.owes_since.is_some_and(|since| now.since(since) >= self.silent_after) {
            store.suspicion.get_or_insert(Suspicion::new(now));
        }
        store.suspicion.is_some()
    }

    /// True if a suspected store is to be probed; a store that is not suspected needs none.
    pub(crate) fn probe_is_due(&self, store_id: StoreId, now: MonoTime) -> bool {
        let suspicion = self.stores.get(&store_id).and_then(|store| store.suspicion);
        suspicion.is_some_and(|suspicion| suspicion.probe_at <= now)
    }

    /// A probe brought no answer: the next one waits longer.
    pub(crate) fn probe_failed(&mut self, store_id: StoreId, now: MonoTime, dice: &mut dyn Dice) {
        let Some(suspicion) = self.stores.get_mut(&store_id).and_then(|store| store.suspicion.as_mut())
        else {
            return;
        };
        let wait = PROBE_WAIT_MIN.saturating_mul(1 << suspicion.probes.min(20)).min(PROBE_WAIT_MAX);
        suspicion.probes = suspicion.probes.saturating_add(1);
        suspicion.probe_at = now + dice.duration(wait / 2, wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::SplitMix;

    const STORE: StoreId = StoreId(1);

    fn at(ms: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_millis(ms)
    }

    fn health() -> Health {
        Health::new(Duration::from_secs(1))
    }

    #[test]
    fn a_store_that_owes_an_answer_is_suspected_and_one_that_gives_others_is_not() {
        let mut health = health();
        health.began(STORE, at(0));
        assert!(!health.is_suspected(STORE, at(999)));
        health.began(STORE, at(900));
        health.ended(STORE, Outcome::Answered, at(950));
        // The first attempt is slow, but somebody is there.
        assert!(!health.is_suspected(STORE, at(1_900)));
        assert!(health.is_suspected(STORE, at(1_950)));
        health.ended(STORE, Outcome::Answered, at(2_000));
        assert!(!health.is_suspected(STORE, at(9_000)), "it owes nothing");
    }

    #[test]
    fn attempts_with_little_time_show_together_that_a_store_is_silent() {
        let mut health = health();
        for round in 0..4 {
            assert!(!health.is_suspected(STORE, at(300 * round)));
            health.began(STORE, at(300 * round));
            health.ended(STORE, Outcome::TimedOut, at(300 * round + 300));
        }
        assert!(health.is_suspected(STORE, at(1_200)));
    }

    #[test]
    fn an_answer_that_nobody_waited_for_is_not_owed() {
        let mut health = health();
        health.began(STORE, at(0));
        health.ended(STORE, Outcome::GivenUp, at(1));
        assert!(!health.is_suspected(STORE, at(10_000)));
        assert!(!health.is_suspected(StoreId(2), at(0)), "nothing is known of it");
    }

    #[test]
    fn a_store_that_stays_away_is_probed_less_and_less_often() {
        let mut health = health();
        let mut dice = SplitMix::new(1);
        health.began(STORE, at(0));
        health.ended(STORE, Outcome::Unreachable, at(0));
        assert!(health.is_suspected(STORE, at(0)) && health.probe_is_due(STORE, at(0)), "the first at once");
        let mut now = at(0);
        for expected_ms in [250, 500, 1_000, 2_000, 2_000] {
            health.probe_failed(STORE, now, &mut dice);
            let longest = Duration::from_millis(expected_ms);
            assert!(!health.probe_is_due(STORE, now + longest / 2 - Duration::from_millis(1)));
            now = now + longest;
            assert!(health.probe_is_due(STORE, now));
        }
        health.began(STORE, now);
        health.ended(STORE, Outcome::Answered, now);
        assert!(!health.is_suspected(STORE, now) && !health.probe_is_due(STORE, now), "all is forgiven");
    }
}
