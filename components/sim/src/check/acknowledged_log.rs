//! INV-READ-7: a read is answered by a peer that has applied what was acknowledged before the read came.
//!
//! Clients notice a stale read only where somebody has written that key in between and somebody asks just then. What is
//! wrong with it can be seen at each read.

use super::{Broken, require};
use std::collections::BTreeMap;
use types::{LogIndex, PeerId, RegionId};

/// How far each region's log was acknowledged, and since when, in true time.
#[derive(Clone, Default, Debug)]
pub struct AcknowledgedLog {
    steps: BTreeMap<RegionId, Vec<(u64, LogIndex)>>,
}

impl AcknowledgedLog {
    /// At the true time `now` a leader of `region` has applied what was proposed in its term, up to `index`: whoever
    /// wrote that has been told.
    pub fn applied(&mut self, region: RegionId, index: LogIndex, now: u64) {
        let steps = self.steps.entry(region).or_default();
        if steps.last().is_none_or(|(_, last)| *last < index) {
            steps.push((now, index));
        }
    }

    /// `peer`, which has applied `applied`, answers a read of `region` that has arrived at the true time `arrived`.
    ///
    /// # Errors
    /// When more had been acknowledged by then.
    pub fn read(
        &self,
        region: RegionId,
        peer: PeerId,
        applied: LogIndex,
        arrived: u64,
    ) -> Result<(), Broken> {
        let Some(steps) = self.steps.get(&region) else { return Ok(()) };
        let before = steps.partition_point(|(since, _)| *since < arrived);
        let Some((since, index)) = before.checked_sub(1).map(|last| steps[last]) else { return Ok(()) };
        require(applied >= index, "INV-READ-7 (reads see what was acknowledged)", || {
            format!(
                "peer {peer} of region {region} has applied {applied} and answers a read of {arrived}; {index} was \
                 acknowledged by {since}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{P1, R, broken};

    #[test]
    fn a_read_is_answered_with_what_was_acknowledged_before_it_came() {
        const NAME: &str = "INV-READ-7 (reads see what was acknowledged)";
        let mut log = AcknowledgedLog::default();
        log.applied(R, LogIndex(6), 10);
        log.applied(R, LogIndex(6), 15);
        log.applied(R, LogIndex(8), 20);
        let read = |applied, arrived| log.read(R, P1, LogIndex(applied), arrived);
        assert_eq!((read(5, 10), read(6, 20), read(8, 30)), (Ok(()), Ok(()), Ok(())));
        broken(read(5, 11), NAME);
        broken(read(7, 21), NAME);
        assert_eq!(log.read(RegionId(2), P1, LogIndex(0), 30), Ok(()));
    }
}
