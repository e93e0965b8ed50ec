//! The clock that leases are measured by.

use env::Clock;
use rustix::time::{ClockId, clock_gettime};
use types::MonoTime;

/// The system's monotonic clock that counts the time in which the machine was suspended, so that no lease outlives it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> MonoTime {
        let now = clock_gettime(ClockId::Boottime);
        // Since boot: neither part is ever negative.
        MonoTime(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }
}
