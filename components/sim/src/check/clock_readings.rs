//! INV-READ-3 and INV-READ-4: at which reading of the clock a read is served.

use super::{Broken, require};
use types::{MonoTime, RegionId};

/// A request that arrived when a store's clock showed `arrived` is served as of `now`.
///
/// # Errors
/// When that was read before: a lease that covers `now` may have ended by then.
pub fn read_after_arrival(arrived: MonoTime, now: MonoTime) -> Result<(), Broken> {
    require(now >= arrived, "INV-READ-4 (clock after drain)", || {
        format!("a request that arrived at {arrived:?} is served at {now:?}")
    })
}

/// A read of `region` is answered by a lease when the clock shows `now`, after its view of the engine was taken; the lease
/// lasts until `lease_until`, if there is one.
///
/// # Errors
/// When there is none, or it has ended: its view may be as late as this.
pub fn answered_in_lease(
    region: RegionId,
    lease_until: Option<MonoTime>,
    now: MonoTime,
) -> Result<(), Broken> {
    require(lease_until.is_some_and(|until| now < until), "INV-READ-3 (a lease covers the view)", || {
        format!("region {region}: a read is answered at {now:?} by a lease that lasts until {lease_until:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{R, broken};

    #[test]
    fn a_lease_must_last_until_the_answer() {
        answered_in_lease(R, Some(MonoTime(8)), MonoTime(7)).unwrap();
        for lease_until in [Some(MonoTime(7)), Some(MonoTime(6)), None] {
            let late = answered_in_lease(R, lease_until, MonoTime(7));
            broken(late, "INV-READ-3 (a lease covers the view)");
        }
    }

    #[test]
    fn the_clock_is_read_after_the_request_arrived() {
        read_after_arrival(MonoTime(7), MonoTime(7)).unwrap();
        read_after_arrival(MonoTime(7), MonoTime(8)).unwrap();
        broken(read_after_arrival(MonoTime(7), MonoTime(6)), "INV-READ-4 (clock after drain)");
    }
}
