//! INV-ENGINE-4: a process does not run on after a write or a sync of its disk has failed.

use super::{Broken, require};

/// A process runs; `failure` is what its engine says of a write or a sync that failed.
///
/// # Errors
/// When there was one.
pub fn ends_with_its_disk(failure: Option<&str>) -> Result<(), Broken> {
    require(failure.is_none(), "INV-ENGINE-4 (a failed disk ends its process)", || {
        format!("a process runs on although its disk has failed: {}", failure.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::broken;

    #[test]
    fn whoever_runs_has_a_disk_that_has_not_failed() {
        ends_with_its_disk(None).unwrap();
        broken(ends_with_its_disk(Some("a sync")), "INV-ENGINE-4 (a failed disk ends its process)");
    }
}
