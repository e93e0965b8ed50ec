//! What a store knows of the placement driver's clock, and what it asks.

use crate::concurrency::ConcurrencyManager;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use types::{MonoTime, Timestamp};

/// How far ahead of what the store knows of the placement driver's clock a timestamp may be. Clocks drift, and what is known
/// is as old as the last question.
const DRIFT_MAX: Duration = Duration::from_secs(60);
/// What the placement driver has said so lately is not doubted.
const FRESH: Duration = Duration::from_secs(1);

/// Shared by all threads of a store. Questions are asked by the store's agent, one at a time.
pub struct Oracle {
    concurrency: Arc<ConcurrencyManager>,
    /// Timestamps up to this are not doubted: what was right when the last question left, whatever has passed since.
    trusted: AtomicU64,
    known: Mutex<Known>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Known {
    /// What was answered last, and when that question had left.
    latest: Timestamp,
    asked_at: MonoTime,
    wanted: bool,
    under_way: Option<MonoTime>,
    /// How many questions have left, and the last of them that was answered.
    asked: u64,
    answered: u64,
}

/// Why a timestamp is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doubt {
    /// It may be right: the placement driver is being asked.
    Unknown,
    /// Nobody can have been given it.
    FromFuture {
        /// The latest that would be taken.
        latest: Timestamp,
    },
}

impl Oracle {
    /// Nothing is known. `wake` is called, by any thread, when there is a question.
    #[must_use]
    pub fn new(concurrency: Arc<ConcurrencyManager>, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (trusted, known) = (AtomicU64::new(u64::MAX), Mutex::default());
        Self { concurrency, trusted, known, wake: Box::new(wake) }
    }

    /// Wants a timestamp. Gives back the number of the question: the first one that leaves after this.
    pub(crate) fn want(&self) -> u64 {
        let ticket = {
            let mut known = self.known.lock();
            known.wanted = true;
            known.asked + 1
        };
        (self.wake)();
        ticket
    }

    /// Whether that question, or a later one, was answered: then the answer is known to the [`ConcurrencyManager`].
    pub(crate) fn is_answered(&self, ticket: u64) -> bool {
        self.known.lock().answered >= ticket
    }

    /// True if a question is to leave.
    pub(crate) fn has_question(&self) -> bool {
        let known = self.known.lock();
        known.wanted && known.under_way.is_none()
    }

    /// The question leaves.
    pub(crate) fn ask(&self, now: MonoTime) {
        let mut known = self.known.lock();
        known.wanted = false;
        known.asked += 1;
        known.under_way = Some(now);
    }

    /// The question was answered; `None`: it has to be asked again.
    pub(crate) fn on_answer(&self, answer: Option<Timestamp>) {
        // Before anybody relies on it.
        self.concurrency.raise(answer.unwrap_or_default());
        let mut known = self.known.lock();
        let asked_at = known.under_way.take().expect("a question is answered once");
        match answer {
            None => known.wanted = true,
            Some(latest) => {
                (known.latest, known.asked_at, known.answered) = (latest, asked_at, known.asked);
                self.trusted.store(known.limit(asked_at).0, Ordering::Relaxed);
            }
        }
    }

    /// What time it is by the placement driver's clock, about; the first of all as long as nothing was heard from it.
    pub(crate) fn about(&self, now: MonoTime) -> Timestamp {
        let known = self.known.lock();
        match known.answered {
            0 => Timestamp(0),
            _ => {
                let passed = u64::try_from(now.since(known.asked_at).as_millis()).unwrap_or(u64::MAX);
                Timestamp::compose(known.latest.physical_ms().saturating_add(passed), 0)
            }
        }
    }

    /// Whether the placement driver can have given this timestamp to anybody by `now`, as far as this store can tell. One
    /// that has never heard from it believes everything, and so does whoever reads the newest there is.
    pub(crate) fn trust(&self, at: Timestamp, now: MonoTime) -> Result<(), Doubt> {
        if at.0 <= self.trusted.load(Ordering::Relaxed) || at == Timestamp(u64::MAX) {
            return Ok(());
        }
        let known = self.known.lock();
        let latest = known.limit(now);
        if at <= latest {
            return Ok(());
        }
        let is_fresh = now.since(known.asked_at) < FRESH;
        drop(known);
        if is_fresh {
            return Err(Doubt::FromFuture { latest });
        }
        // Its clock may have been set.
        self.want();
        Err(Doubt::Unknown)
    }
}

impl Known {
    fn limit(&self, now: MonoTime) -> Timestamp {
        let ahead = now.since(self.asked_at) + DRIFT_MAX;
        let ahead = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        Timestamp::compose(self.latest.physical_ms().saturating_add(ahead), Timestamp::LOGICAL_MAX)
    }
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.known.lock();
        f.debug_struct("Oracle").field("latest", &known.latest).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn oracle() -> Oracle {
        Oracle::new(Arc::default(), || {})
    }

    /// A region is led anew while a question is under way: its answer may be older than what the leader before has served,
    /// so the next one is waited for.
    #[test]
    fn a_question_that_has_left_answers_nobody_who_comes_later() {
        let oracle = oracle();
        let first = oracle.want();
        assert!(oracle.has_question());
        oracle.ask(MonoTime::ZERO);
        let second = oracle.want();
        assert!(!oracle.has_question(), "one at a time");
        oracle.on_answer(Some(Timestamp(50)));
        assert!(oracle.is_answered(first) && !oracle.is_answered(second) && oracle.has_question());
        assert_eq!(oracle.concurrency.max_ts(), Timestamp(50));
        oracle.ask(MonoTime::ZERO);
        oracle.on_answer(None);
        assert!(!oracle.is_answered(second) && oracle.has_question(), "it is asked again");
        oracle.ask(MonoTime::ZERO);
        oracle.on_answer(Some(Timestamp(60)));
        assert!(oracle.is_answered(second) && !oracle.has_question());
    }

    /// A client makes a timestamp up that lies a year ahead: were it believed, no transaction would commit before that in
    /// one phase. When the placement driver's own clock jumps, the store asks before it refuses.
    #[test]
    fn a_timestamp_that_nobody_gave_is_refused_once_the_clock_is_known() {
        let oracle = oracle();
        let at = |ms| Timestamp::compose(ms, 0);
        let start = MonoTime::ZERO + 100 * SECOND;
        assert_eq!(oracle.trust(at(1 << 40), start), Ok(()), "nothing is known yet");
        oracle.want();
        oracle.ask(start);
        oracle.on_answer(Some(at(5_000)));
        assert_eq!(oracle.trust(at(65_000), start), Ok(()));
        let latest = Timestamp::compose(65_000, Timestamp::LOGICAL_MAX);
        assert_eq!(oracle.trust(at(65_001), start), Err(Doubt::FromFuture { latest }));
        assert_eq!(oracle.trust(Timestamp(u64::MAX), start), Ok(()), "it names no time");
        let later = start + 10 * SECOND;
        assert_eq!(oracle.trust(at(75_000), later), Ok(()), "time goes on");
        assert_eq!(oracle.trust(at(1_000_000), later), Err(Doubt::Unknown));
        assert!(oracle.has_question());
        oracle.ask(later);
        oracle.on_answer(Some(at(999_000)));
        assert_eq!(oracle.trust(at(1_000_000), later), Ok(()), "the clock was set");
    }
}
