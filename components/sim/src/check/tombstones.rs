//! INV-STORE-8: who says that a peer is gone has written so.

use super::{Broken, require};
use raftstore::{PeerState, RegionRecord};
use types::{PeerId, RegionId};

/// A store tells others that `peer` of `region` is gone when its disk has this record of the region.
///
/// # Errors
/// When the record does not keep the peer out.
pub fn gone_as_written(region: RegionId, peer: PeerId, record: Option<&RegionRecord>) -> Result<(), Broken> {
    let is_gone = record.is_some_and(|record| {
        record.peer_id > peer || (record.peer_id == peer && record.state == PeerState::Tombstone)
    });
    require(is_gone, "INV-STORE-8 (gone once it is written)", || {
        format!("peer {peer} of region {region} is said to be gone, the disk has {record:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{P1, P2, R, broken, region};

    #[test]
    fn a_peer_is_gone_where_its_tombstone_or_a_later_peer_is() {
        const NAME: &str = "INV-STORE-8 (gone once it is written)";
        let record =
            |state, peer_id| RegionRecord { state, region: region(1, "", ""), peer_id, removed: Vec::new() };
        gone_as_written(R, P1, Some(&record(PeerState::Tombstone, P1))).unwrap();
        gone_as_written(R, P1, Some(&record(PeerState::Normal, P2))).unwrap();
        broken(gone_as_written(R, P1, Some(&record(PeerState::Normal, P1))), NAME);
        broken(gone_as_written(R, P2, Some(&record(PeerState::Tombstone, P1))), NAME);
        broken(gone_as_written(R, P1, None), NAME);
    }
}
