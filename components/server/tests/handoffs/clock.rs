//! Time that passes only when somebody waits for it.

use env::Clock;
use std::cell::Cell;
use std::time::Duration;
use types::MonoTime;

thread_local! {
    /// All threads of an order run on one of the system's.
    static NOW: Cell<MonoTime> = const { Cell::new(MonoTime(1)) };
}

/// The clock of the process that is tested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> MonoTime {
        NOW.get()
    }
}

/// Somebody has waited.
pub(crate) fn pass(time: Duration) {
    NOW.set(NOW.get() + time);
}
