//! An open loop: operations begin when a schedule says so, whether or not earlier ones have ended.
//!
//! Latencies count from the intended begin. A server that stalls is so charged with everything that would have come
//! meanwhile, and not only with the few operations that were under way (no coordinated omission).
#![expect(
    clippy::disallowed_methods,
    reason = "it keeps true time, finer than the runtime's timers do, on a thread of its own"
)]

use crate::clock;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Hands out operations when they are due.
pub(super) struct Pacer {
    schedule: Schedule,
    begin: Instant,
    /// One permit for each operation that is due and that nobody has begun.
    due: Arc<Semaphore>,
    is_stopped: Arc<AtomicBool>,
    begun: AtomicU64,
    issued: Arc<AtomicU64>,
}

impl Pacer {
    /// Starts the schedule now.
    pub(super) fn start(per_second: NonZeroU32) -> Self {
        let pacer = Self {
            schedule: Schedule { per_second },
            begin: clock::now(),
            due: Arc::new(Semaphore::new(0)),
            is_stopped: Arc::new(AtomicBool::new(false)),
            begun: AtomicU64::new(0),
            issued: Arc::new(AtomicU64::new(0)),
        };
        let (schedule, begin) = (pacer.schedule, pacer.begin);
        let (due, is_stopped) = (Arc::clone(&pacer.due), Arc::clone(&pacer.is_stopped));
        let issued = Arc::clone(&pacer.issued);
        thread::spawn(move || {
            let mut count = 0;
            while !is_stopped.load(Ordering::Relaxed) {
                let now_due = schedule.count_due(begin.elapsed());
                let more =
                    usize::try_from(now_due - count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS / 2);
                due.add_permits(more);
                count += more as u64;
                issued.store(count, Ordering::Relaxed);
                thread::sleep(schedule.due(count).saturating_sub(begin.elapsed()).max(STEP));
            }
        });
        pacer
    }

    /// Waits for an operation to be due, and says when it was to begin; `None` once the schedule has ended.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        Some(self.begin + self.schedule.due(number))
    }

    /// Ends the schedule. Returns when those operations were to begin that were due and that nobody has begun.
    pub(super) fn stop(&self) -> Vec<Instant> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.due.close();
        let (begun, issued) = (self.begun.load(Ordering::Relaxed), self.issued.load(Ordering::Relaxed));
        (begun..issued).map(|number| self.begin + self.schedule.due(number)).collect()
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

    fn schedule(per_second: u32) -> Schedule {
        Schedule { per_second: NonZeroU32::new(per_second).unwrap() }
    }

    #[test]
    fn operations_are_due_evenly_whatever_became_of_those_before() {
        let schedule = schedule(1000);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1500), Duration::from_millis(1500));
        assert_eq!(schedule.count_due(Duration::ZERO), 1);
        assert_eq!(schedule.count_due(Duration::from_micros(999)), 1);
        assert_eq!(schedule.count_due(Duration::from_millis(1)), 2);
    }

    #[test]
    fn rates_that_do_not_divide_a_second_do_not_drift() {
        let schedule = schedule(3);
        assert_eq!(schedule.due(3_000_000), Duration::from_secs(1_000_000));
        for number in 0..100 {
            // The step to a whole nanosecond may let it be counted one nanosecond later than it is due.
            let count = schedule.count_due(schedule.due(number) + Duration::from_nanos(1));
            assert_eq!(count, number + 1);
        }
    }

    #[test]
    fn an_operation_that_begins_late_still_counts_from_when_it_was_due() {
        // Nobody takes what the first second brings; whoever comes then is told the times that have passed.
        let pacer = Pacer {
            schedule: schedule(10),
            begin: clock::now(),
            due: Arc::new(Semaphore::new(10)),
            is_stopped: Arc::new(AtomicBool::new(false)),
            begun: AtomicU64::new(0),
            issued: Arc::new(AtomicU64::new(10)),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let intended: Vec<Instant> =
            runtime.block_on(async { [pacer.next().await.unwrap(), pacer.next().await.unwrap()].into() });
        assert_eq!(intended, [pacer.begin, pacer.begin + Duration::from_millis(100)]);
        let missed = pacer.stop();
        assert_eq!((missed.len(), missed[0]), (8, pacer.begin + Duration::from_millis(200)));
        assert_eq!(runtime.block_on(pacer.next()), None, "the schedule has ended");
    }
}
