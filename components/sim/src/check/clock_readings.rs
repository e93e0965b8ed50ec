//! INV-READ-4: nothing is served at a reading of the clock from before it arrived.

use super::{Broken, require};
use types::MonoTime;

/// A request that arrived when a store's clock showed `arrived` is served as of `now`.
///
/// # Errors
/// When that was read before: a lease that covers `now` may have ended by then.
pub fn read_after_arrival(arrived: MonoTime, now: MonoTime) -> Result<(), Broken> {
    require(now >= arrived, "INV-READ-4 (clock after drain)", || {
        format!("a request that arrived at {arrived:?} is served at {now:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::broken;

    #[test]
    fn the_clock_is_read_after_the_request_arrived() {
        read_after_arrival(MonoTime(7), MonoTime(7)).unwrap();
        read_after_arrival(MonoTime(7), MonoTime(8)).unwrap();
        broken(read_after_arrival(MonoTime(7), MonoTime(6)), "INV-READ-4 (clock after drain)");
    }
}
