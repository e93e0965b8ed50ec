//! How much the removal of what is over may write.
//!
//! A step is let through while there is budget left, and then takes from it what it writes, which may be more: the next ones
//! wait until that is made up for. So steps of any size keep to the rate on the average.

use parking_lot::Mutex;
use std::time::Duration;
use types::MonoTime;

/// What was not used is kept for so long.
const KEPT: Duration = Duration::from_secs(1);
/// Whoever is put off is told to come back after so long at most.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Shared by all threads of a store.
#[derive(Debug)]
pub struct GcBudget {
    bytes_per_second: u64,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    /// What is left as of `at`; below zero while a step is made up for.
    left: i64,
    at: MonoTime,
}

impl GcBudget {
    /// Zero for no bound.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        let left = i64::try_from(bytes_per_second).unwrap_or(i64::MAX);
        Self { bytes_per_second, spent: Mutex::new(Spent { left, at: MonoTime::ZERO }) }
    }

    /// How long the next step has to wait; `None` if it need not.
    pub(crate) fn wait(&self, now: MonoTime) -> Option<Duration> {
        if self.bytes_per_second == 0 {
            return None;
        }
        let left = self.refill(now);
        let missing = u64::try_from(-left).ok().filter(|missing| *missing > 0)?;
        let wait = Duration::from_secs_f64(missing as f64 / self.bytes_per_second as f64);
        Some(wait.clamp(Duration::from_millis(1), WAIT_MAX))
    }

    /// A step writes so much.
    pub(crate) fn spend(&self, now: MonoTime, bytes: usize) {
        if self.bytes_per_second > 0 {
            self.refill(now);
            let mut spent = self.spent.lock();
            spent.left = spent.left.saturating_sub_unsigned(bytes as u64);
        }
    }

    fn refill(&self, now: MonoTime) -> i64 {
        let mut spent = self.spent.lock();
        let passed = now.since(spent.at).as_secs_f64();
        let kept_max = KEPT.as_secs_f64() * self.bytes_per_second as f64;
        let refilled = spent.left as f64 + passed * self.bytes_per_second as f64;
        // The cast ends at the largest number there is.
        spent.left = refilled.min(kept_max) as i64;
        spent.at = spent.at.max(now);
        spent.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Steps of different sizes, each as soon as it may: on the average no more than the rate is written, and hardly less;
    /// whoever did nothing for long may not make up for it.
    #[test]
    fn steps_keep_to_the_rate_on_the_average() {
        let budget = GcBudget::new(1000);
        let start = MonoTime::ZERO + 100 * SECOND;
        let (mut now, mut written) = (start, 0);
        for size in [10, 5_000, 300, 700, 1, 2_500].into_iter().cycle().take(60) {
            while let Some(wait) = budget.wait(now) {
                assert!(wait <= WAIT_MAX);
                now = now + wait;
            }
            budget.spend(now, size);
            written += size;
        }
        let seconds = now.since(start).as_secs_f64();
        let rate = (written as f64 - 1_000.0 - 2_500.0) / seconds;
        assert!((900.0..=1_010.0).contains(&rate), "{rate} bytes per second");
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let budget = GcBudget::new(0);
        budget.spend(MonoTime::ZERO, 1 << 40);
        assert_eq!(budget.wait(MonoTime::ZERO), None);
    }
}
