//! The clocks that a node reads: skewed against true time, each in its own way.

use crate::time::SimTime;
use std::time::Duration;
use types::MonoTime;

/// Milliseconds since the Unix epoch at the beginning of every run. Any fixed number would do.
const WALL_AT_START_MS: i64 = 1_700_000_000_000;

/// One node's monotonic clock and wall clock.
#[derive(Clone, Debug)]
pub struct NodeClock {
    /// Where the present drift began, in true time.
    base: SimTime,
    /// What the monotonic clock showed there.
    base_reading: u64,
    /// Parts per million by which the monotonic clock runs fast; negative: slow.
    drift_ppm: i64,
    /// How far the wall clock is ahead.
    wall_offset_ms: i64,
}

impl NodeClock {
    /// A clock that shows `reading` at the true time `now` and drifts by `drift_ppm` parts per million.
    ///
    /// # Panics
    /// When the drift would stop the clock or turn it back.
    #[must_use]
    pub fn new(now: SimTime, reading: MonoTime, drift_ppm: i64) -> Self {
        assert!(drift_ppm > -1_000_000, "a clock with a drift of {drift_ppm} ppm does not advance");
        Self { base: now, base_reading: reading.0, drift_ppm, wall_offset_ms: 0 }
    }

    /// What the monotonic clock shows.
    #[must_use]
    pub fn mono(&self, now: SimTime) -> MonoTime {
        let elapsed = i128::from(now.0 - self.base.0);
        let drifted = elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000;
        MonoTime(self.base_reading + u64::try_from(drifted).expect("a drift above -100 % keeps the sign"))
    }

    /// What the wall clock shows, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall_ms(&self, now: SimTime) -> u64 {
        let true_ms = i64::try_from(now.0 / 1_000_000).expect("runs end within a few hundred years");
        u64::try_from((WALL_AT_START_MS + true_ms + self.wall_offset_ms).max(0)).expect("not negative")
    }

    /// How long it truly takes until this clock has advanced by `local`, rounded up: a timer never fires early.
    #[must_use]
    pub fn true_duration(&self, local: Duration) -> Duration {
        let nanos = local.as_nanos().min(u128::from(u64::MAX));
        let rate = u128::try_from(1_000_000 + self.drift_ppm).expect("a clock advances");
        Duration::from_nanos(u64::try_from((nanos * 1_000_000).div_ceil(rate)).unwrap_or(u64::MAX))
    }

    /// From now on the monotonic clock drifts by `drift_ppm`. Its reading does not jump.
    pub fn set_drift(&mut self, now: SimTime, drift_ppm: i64) {
        let wall_offset_ms = self.wall_offset_ms;
        *self = Self::new(now, self.mono(now), drift_ppm);
        self.wall_offset_ms = wall_offset_ms;
    }

    /// The machine has restarted: its monotonic clock begins anew at `reading`. Drift and wall clock stay.
    pub fn restart(&mut self, now: SimTime, reading: MonoTime) {
        let wall_offset_ms = self.wall_offset_ms;
        *self = Self::new(now, reading, self.drift_ppm);
        self.wall_offset_ms = wall_offset_ms;
    }

    /// The wall clock jumps.
    pub fn jump_wall(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_and_a_change_of_drift_makes_no_jump() {
        let mut clock = NodeClock::new(SimTime::ZERO, MonoTime(5), 100_000);
        assert_eq!(clock.mono(SimTime(1_000)), MonoTime(5 + 1_100));
        clock.set_drift(SimTime(1_000), -100_000);
        assert_eq!(clock.mono(SimTime(1_000)), MonoTime(5 + 1_100));
        assert_eq!(clock.mono(SimTime(2_000)), MonoTime(5 + 1_100 + 900));
    }

    #[test]
    fn a_timer_never_fires_early() {
        for drift in [-100_000, -7, 0, 3, 99_999] {
            let clock = NodeClock::new(SimTime::ZERO, MonoTime::ZERO, drift);
            for local in [1_u64, 999, 1_000_003, 70_000_000_001] {
                let at = SimTime::ZERO + clock.true_duration(Duration::from_nanos(local));
                assert!(clock.mono(at) >= MonoTime(local), "drift {drift}, local {local}");
            }
        }
    }

    #[test]
    fn the_wall_clock_jumps_alone() {
        let mut clock = NodeClock::new(SimTime::ZERO, MonoTime::ZERO, 0);
        let before = clock.wall_ms(SimTime::from_millis(10));
        clock.jump_wall(-3_600_000);
        assert_eq!(clock.wall_ms(SimTime::from_millis(10)), before - 3_600_000);
        assert_eq!(clock.mono(SimTime::from_millis(10)), MonoTime(10_000_000));
    }
}
