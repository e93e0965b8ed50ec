//! The timestamp oracle of one leadership.
//!
//! Invariant (INV-PD-TSO): every timestamp handed out has a physical part of at most the bound that is committed in
//! the group's log, and a new oracle starts above the bound it finds there. So timestamps grow over restarts and
//! changes of leadership, whatever the wall clock does. An oracle is made when a leadership begins to serve and dropped
//! when it ends; it is never reset, so no request can meet one that was left over.

use env::sim_point;
use std::time::Duration;
use types::{MonoTime, Timestamp};

/// Hands out timestamps below a durable bound.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    /// The physical part handed out last.
    physical_ms: u64,
    /// How many timestamps of that millisecond are gone. Invariant: `logical <= LOGICAL_MAX + 1`.
    logical: u64,
    /// The largest physical part that may be handed out. Invariant: `physical_ms <= upper_ms`.
    upper_ms: u64,
    clock: WallClock,
    /// When the clocks were read last.
    read_at: MonoTime,
    /// Less than a millisecond by which time should have gone on while the wall clock was behind.
    owed: Duration,
}

impl Oracle {
    /// An oracle that starts above `saved_ms`, the bound found in the log, and may go up to `upper_ms`, which is
    /// committed there by now.
    pub(crate) fn new(saved_ms: u64, upper_ms: u64, clock: WallClock) -> Self {
        assert!(saved_ms < upper_ms, "no room between {saved_ms} and {upper_ms}");
        let physical_ms = (saved_ms + 1).max(clock.trusted_ms().min(upper_ms));
        let read_at = clock.read_at;
        Self { physical_ms, logical: 0, upper_ms, clock, read_at, owed: Duration::ZERO }
    }

    /// Takes a reading of the clocks. While the wall clock is behind what was handed out, time goes on at half the pace of
    /// the monotonic clock: locks of transactions run out by these timestamps, and would hold for as long as a clock had
    /// been set back; and yet the wall clock catches up.
    pub(crate) fn observe(&mut self, now: MonoTime, wall_ms: u64) {
        self.clock.observe(now, wall_ms);
        let passed = now.since(self.read_at);
        self.read_at = now;
        match self.clock.trusted_ms() < self.physical_ms {
            true => {
                self.owed += passed / 2;
                let whole_ms = self.owed.as_millis() as u64;
                self.owed -= Duration::from_millis(whole_ms);
                self.advance(self.physical_ms + whole_ms);
            }
            false => {
                self.owed = Duration::ZERO;
                self.advance(self.clock.trusted_ms());
            }
        }
    }

    /// A larger bound was committed.
    pub(crate) fn extend(&mut self, upper_ms: u64) {
        assert!(upper_ms >= self.upper_ms, "the bound moves back from {} to {upper_ms}", self.upper_ms);
        self.upper_ms = upper_ms;
        self.advance(self.clock.trusted_ms());
    }

    /// The last of `count` timestamps that nobody had before; `None` until the bound is extended.
    pub(crate) fn allocate(&mut self, count: u32) -> Option<Timestamp> {
        let count = u64::from(count);
        assert!((1..=Timestamp::LOGICAL_MAX).contains(&count), "{count} timestamps at once");
        if self.logical + count > Timestamp::LOGICAL_MAX + 1 {
            // The millisecond is used up. Running ahead of the clock is safe, and bounded by the window.
            if self.physical_ms >= self.upper_ms {
                return None;
            }
            self.physical_ms += 1;
            self.logical = 0;
        }
        self.logical += count;
        Some(Timestamp::compose(self.physical_ms, self.logical - 1))
    }

    /// What time it is: no timestamp that is handed out later has an earlier physical part.
    pub(crate) const fn now(&self) -> Timestamp {
        Timestamp::compose(self.physical_ms, 0)
    }

    /// The bound that should be committed next, if it is time: less than half of the window is left.
    pub(crate) fn wanted_upper_ms(&self, window: Duration) -> Option<u64> {
        let window_ms = window.as_millis() as u64;
        let reached = self.physical_ms.max(self.clock.trusted_ms());
        let is_time = self.upper_ms < reached + window_ms / 2;
        let is_early = self.upper_ms < reached + window_ms && sim_point!("pd.extend_window_early");
        (is_time || is_early).then_some(reached + window_ms)
    }

    /// Goes on to `target_ms`, as far as the bound allows.
    fn advance(&mut self, target_ms: u64) {
        let target = target_ms.min(self.upper_ms);
        if target > self.physical_ms {
            self.physical_ms = target;
            self.logical = 0;
        }
    }

    pub(crate) fn check_invariants(&self, committed_upper_ms: u64) {
        assert!(
            self.physical_ms <= self.upper_ms,
            "INV-PD-TSO: {} above {}",
            self.physical_ms,
            self.upper_ms
        );
        assert!(self.upper_ms <= committed_upper_ms, "INV-PD-TSO: {} not committed", self.upper_ms);
        assert!(self.logical <= Timestamp::LOGICAL_MAX + 1, "INV-PD-TSO: logical part {}", self.logical);
    }
}

/// The wall clock as far as it is believed: it may fall back, but where it leaps ahead of the monotonic
/// clock by more than the allowance, time goes on at the monotonic clock's pace. A year that a broken clock adds would
/// otherwise stay in the bound for ever.
#[derive(Clone, Debug)]
pub(crate) struct WallClock {
    read_at: MonoTime,
    trusted_ms: u64,
    jump_max: Duration,
}

impl WallClock {
    pub(crate) fn new(now: MonoTime, wall_ms: u64, jump_max: Duration) -> Self {
        Self { read_at: now, trusted_ms: wall_ms, jump_max }
    }

    pub(crate) fn observe(&mut self, now: MonoTime, wall_ms: u64) {
        let passed = now.since(self.read_at);
        let whole_ms = passed.as_millis() as u64;
        let expected_ms = self.trusted_ms + whole_ms;
        if wall_ms > expected_ms + self.jump_max.as_millis() as u64 {
            self.trusted_ms = expected_ms;
            // Fractions of a millisecond are not lost over many short steps.
            self.read_at = self.read_at + Duration::from_millis(whole_ms);
        } else {
            self.trusted_ms = wall_ms;
            self.read_at = now;
        }
    }

    pub(crate) fn trusted_ms(&self) -> u64 {
        self.trusted_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUMP: Duration = Duration::from_secs(10);

    fn at(ms: u64) -> MonoTime {
        MonoTime(ms * 1_000_000)
    }

    #[test]
    fn timestamps_grow_while_the_wall_clock_falls_back() {
        let mut oracle = Oracle::new(0, 10_000, WallClock::new(at(0), 5_000, JUMP));
        let first = oracle.allocate(10).unwrap();
        assert_eq!(first, Timestamp::compose(5_000, 9));
        oracle.observe(at(1), 100);
        let second = oracle.allocate(1).unwrap();
        assert_eq!(second, Timestamp::compose(5_000, 10));
        oracle.observe(at(2), 5_001);
        assert_eq!(oracle.allocate(1), Some(Timestamp::compose(5_001, 0)));
    }

    /// The wall clock of a placement driver was set back by an hour, and its timestamps stood still until it had caught up:
    /// whoever met the lock of a client that had died waited as long (simulation seed 1795424198, with transactions).
    #[test]
    fn time_goes_on_while_the_wall_clock_is_behind_and_lets_it_catch_up() {
        let mut oracle = Oracle::new(0, 1_000_000, WallClock::new(at(0), 500_000, JUMP));
        for ms in 1..=2_000 {
            oracle.observe(at(ms), 490_000 + ms);
        }
        assert_eq!(oracle.allocate(1), Some(Timestamp::compose(501_000, 0)), "at half the pace");
        for ms in 2_001..=30_000 {
            oracle.observe(at(ms), 490_000 + ms);
        }
        assert_eq!(oracle.allocate(1), Some(Timestamp::compose(520_000, 0)), "it has caught up");
    }

    #[test]
    fn nothing_passes_the_bound_until_it_is_extended() {
        let mut oracle = Oracle::new(99, 100, WallClock::new(at(0), 50, JUMP));
        let all = Timestamp::LOGICAL_MAX as u32;
        assert_eq!(oracle.allocate(all).map(Timestamp::physical_ms), Some(100));
        assert_eq!(oracle.allocate(1), Some(Timestamp::compose(100, Timestamp::LOGICAL_MAX)));
        assert_eq!(oracle.allocate(1), None);
        assert_eq!(oracle.wanted_upper_ms(Duration::from_secs(3)), Some(3_100));
        oracle.extend(3_100);
        assert_eq!(oracle.allocate(1), Some(Timestamp::compose(101, 0)));
    }

    #[test]
    fn a_leap_of_the_wall_clock_is_not_followed() {
        let mut clock = WallClock::new(at(0), 1_000, JUMP);
        clock.observe(at(500), 1_000_000_000);
        assert_eq!(clock.trusted_ms(), 1_500);
        clock.observe(at(600), 1_590);
        assert_eq!(clock.trusted_ms(), 1_590, "back within reason, it is believed again");
    }

    #[test]
    fn a_new_oracle_starts_above_the_saved_bound_when_the_clock_is_behind() {
        let mut oracle = Oracle::new(7_000, 10_000, WallClock::new(at(0), 10, JUMP));
        assert_eq!(oracle.allocate(1), Some(Timestamp::compose(7_001, 0)));
        let mut oracle = Oracle::new(7_000, 10_000, WallClock::new(at(0), 8_000, JUMP));
        assert_eq!(oracle.allocate(1), Some(Timestamp::compose(8_000, 0)));
    }
}
