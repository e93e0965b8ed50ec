//! An open loop: operations begin when a schedule says so, whether or not earlier ones have ended.
//!
//! Latencies count from the intended begin. A server that stalls is so charged with everything that would have come
//! meanwhile, and not only with the few operations that were under way (no coordinated omission).
#![expect(
    clippy::disallowed_methods,
    reason = "it keeps true time, finer than the runtime's timers do, on a thread of its own"
)]

use crate::clock;
use parking_lot::Mutex;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Between two looks at the schedule; at high rates operations begin in groups so far apart.
const STEP: Duration = Duration::from_micros(100);

/// When operations are due: evenly, so many a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Schedule {
    per_second: NonZeroU32,
}

impl Schedule {
    /// When an operation, counted from zero, is due.
    fn due(self, number: u64) -> Duration {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.per_second.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many are due so long after the begin: all numbers below have come.
    fn count_due(self, elapsed: Duration) -> u64 {
        let count = elapsed.as_nanos() * u128::from(self.per_second.get()) / 1_000_000_000;
        u64::try_from(count).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// What of a schedule has become due, and what of that was begun. Times count from its begin, and are handed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ledger {
    schedule: Schedule,
    issued: u64,
    begun: u64,
}

impl Ledger {
    fn new(per_second: NonZeroU32) -> Self {
        Self { schedule: Schedule { per_second }, issued: 0, begun: 0 }
    }

    /// It is so late now: how many operations have become due since the last call.
    fn issue(&mut self, elapsed: Duration) -> u64 {
        let due = self.schedule.count_due(elapsed).max(self.issued);
        due - std::mem::replace(&mut self.issued, due)
    }

    /// Begins the operation that has been due for longest, and says when it was to begin; `None` if none is due.
    fn begin(&mut self) -> Option<Duration> {
        (self.begun < self.issued).then(|| {
            self.begun += 1;
            self.schedule.due(self.begun - 1)
        })
    }

    /// When the next operation becomes due.
    fn next_due(&self) -> Duration {
        self.schedule.due(self.issued)
    }
}

/// Hands out operations when they are due.
pub(super) struct Pacer {
    begin: Instant,
    ledger: Arc<Mutex<Ledger>>,
    /// One permit for each operation that is due and that nobody has begun.
    due: Arc<Semaphore>,
    is_stopped: Arc<AtomicBool>,
}

impl Pacer {
    fn new(per_second: NonZeroU32) -> Self {
        Self {
            begin: clock::now(),
            ledger: Arc::new(Mutex::new(Ledger::new(per_second))),
            due: Arc::new(Semaphore::new(0)),
            is_stopped: Arc::default(),
        }
    }

    /// Starts the schedule now.
    pub(super) fn start(per_second: NonZeroU32) -> Self {
        let pacer = Self::new(per_second);
        let begin = pacer.begin;
        let (ledger, due, is_stopped) = (pacer.ledger.clone(), pacer.due.clone(), pacer.is_stopped.clone());
        thread::spawn(move || {
            while !is_stopped.load(Ordering::Relaxed) {
                let next = {
                    let mut ledger = ledger.lock();
                    let more = usize::try_from(ledger.issue(begin.elapsed())).unwrap_or(usize::MAX);
                    due.add_permits(more.min(Semaphore::MAX_PERMITS / 2));
                    ledger.next_due()
                };
                thread::sleep(next.saturating_sub(begin.elapsed()).max(STEP));
            }
        });
        pacer
    }

    /// Waits for an operation to be due, and says when it was to begin; `None` once the schedule has ended.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let due = self.ledger.lock().begin().expect("there is a permit for each that is due");
        Some(self.begin + due)
    }

    /// Ends the schedule. Returns when those operations were to begin that were due and that nobody has begun.
    pub(super) fn stop(&self) -> Vec<Instant> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.due.close();
        // A copy: who holds a permit already still begins.
        let mut ledger = *self.ledger.lock();
        std::iter::from_fn(|| ledger.begin()).map(|due| self.begin + due).collect()
    }
}

impl Drop for Pacer {
    /// Its thread ends within a step.
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(per_second: u32) -> NonZeroU32 {
        NonZeroU32::new(per_second).unwrap()
    }

    #[test]
    fn operations_are_due_evenly_whatever_became_of_those_before() {
        let schedule = Schedule { per_second: rate(1000) };
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1500), Duration::from_millis(1500));
        assert_eq!(schedule.count_due(Duration::ZERO), 1);
        assert_eq!(schedule.count_due(Duration::from_micros(999)), 1);
        assert_eq!(schedule.count_due(Duration::from_millis(1)), 2);
    }

    #[test]
    fn rates_that_do_not_divide_a_second_do_not_drift() {
        let schedule = Schedule { per_second: rate(3) };
        assert_eq!(schedule.due(3_000_000), Duration::from_secs(1_000_000));
        for number in 0..100 {
            // The step to a whole nanosecond may let it be counted one nanosecond later than it is due.
            let count = schedule.count_due(schedule.due(number) + Duration::from_nanos(1));
            assert_eq!(count, number + 1);
        }
    }

    /// Clients in virtual time, each free again `service(begin)` after it began; what came of `seconds` of the schedule:
    /// latencies of what was begun, in order of begin, and what was not.
    fn play(
        per_second: u32,
        clients: usize,
        seconds: u32,
        service: impl Fn(Duration) -> Duration,
    ) -> (Vec<Duration>, usize) {
        let mut ledger = Ledger::new(rate(per_second));
        let mut free_at = vec![Duration::ZERO; clients];
        let mut latencies = Vec::new();
        let mut now = Duration::ZERO;
        while now < SECOND * seconds {
            ledger.issue(now);
            for free in &mut free_at {
                if *free <= now
                    && let Some(intended) = ledger.begin()
                {
                    *free = now + service(now);
                    latencies.push(*free - intended);
                }
            }
            now += Duration::from_micros(100);
        }
        let missed = std::iter::from_fn(|| ledger.begin()).count();
        (latencies, missed)
    }

    #[test]
    fn a_server_that_keeps_up_is_charged_with_its_own_time_alone() {
        let (latencies, missed) = play(1000, 4, 10, |_| Duration::from_millis(2));
        assert_eq!((latencies.len(), missed), (10_000, 0));
        assert!(latencies.iter().all(|latency| *latency == Duration::from_millis(2)));
    }

    /// Of a server that stands still for a second, a closed loop would see one slow answer for each client. Here every
    /// operation that was due meanwhile waits for the rest of that second, and until the backlog is worked off.
    #[test]
    fn a_stall_is_charged_with_all_that_was_due_meanwhile() {
        let stall = SECOND * 3..SECOND * 4;
        let service = |begin: Duration| {
            if stall.contains(&begin) { stall.end - begin } else { Duration::from_millis(1) }
        };
        let (latencies, missed) = play(1000, 4, 10, service);
        assert_eq!((latencies.len(), missed), (10_000, 0));
        let slow = latencies.iter().filter(|latency| **latency > Duration::from_millis(10)).count();
        // A thousand came while it stood; their backlog shrinks by three in each millisecond, and 300 more stood behind it.
        assert!((1200..1400).contains(&slow), "{slow} of 10,000 were slow");
        let median = latencies.iter().filter(|latency| **latency > Duration::from_millis(500)).count();
        assert!((450..750).contains(&median), "{median} waited for more than half of it");
    }

    /// More is asked for than clients get through: what never began is known, and not left out of the account.
    #[test]
    fn what_could_not_be_begun_is_counted() {
        let (latencies, missed) = play(1000, 4, 10, |_| Duration::from_millis(8));
        assert_eq!(latencies.len() + missed, 10_000);
        assert!((4900..5100).contains(&missed), "{missed} of 10,000 were not begun");
        assert!(latencies.is_sorted(), "each waits longer than the one before");
        assert!(latencies.last().unwrap() > &Duration::from_secs(4));
    }

    #[test]
    fn an_operation_that_begins_late_still_counts_from_when_it_was_due() {
        // Nobody takes what the first second brings; whoever comes then is told the times that have passed.
        let pacer = Pacer::new(rate(10));
        pacer.due.add_permits(pacer.ledger.lock().issue(Duration::from_millis(950)) as usize);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let intended: Vec<Instant> =
            runtime.block_on(async { [pacer.next().await.unwrap(), pacer.next().await.unwrap()].into() });
        assert_eq!(intended, [pacer.begin, pacer.begin + Duration::from_millis(100)]);
        let missed = pacer.stop();
        assert_eq!((missed.len(), missed[0]), (8, pacer.begin + Duration::from_millis(200)));
        assert_eq!(runtime.block_on(pacer.next()), None, "the schedule has ended");
    }
}
