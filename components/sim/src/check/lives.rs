//! INV-STORE-8, INV-PD-IDS: a peer is made once, and never again once it is gone.

use super::{Broken, require};
use std::collections::BTreeMap;
use types::{PeerId, RegionId, StoreId};

/// A peer is made once, of one region and on one store; and never again once it is gone.
#[derive(Clone, Default, Debug)]
pub struct Lives {
    born: BTreeMap<PeerId, (RegionId, StoreId)>,
    gone: BTreeMap<PeerId, StoreId>,
}

impl Lives {
    /// `peer` of `region` is on `store`.
    ///
    /// # Errors
    /// When it was another region's, or elsewhere, or is gone.
    pub fn lives(&mut self, region: RegionId, peer: PeerId, store: StoreId) -> Result<(), Broken> {
        let born = *self.born.entry(peer).or_insert((region, store));
        require(born == (region, store), "INV-PD-IDS (one peer, one id)", || {
            format!("peer {peer} is of region {region} on store {store}, and was {born:?}")
        })?;
        require(!self.gone.contains_key(&peer), "INV-STORE-8 (gone for good)", || {
            format!("peer {peer} of region {region} is back on store {store}")
        })
    }

    /// `peer` was cleared away from `store`, durably.
    pub fn is_gone(&mut self, peer: PeerId, store: StoreId) {
        self.gone.insert(peer, store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{P1, P2, R, S1, S2, broken};

    #[test]
    fn a_peer_lives_once_in_one_place() {
        let mut lives = Lives::default();
        lives.lives(R, P1, S1).unwrap();
        lives.lives(R, P1, S1).unwrap();
        broken(lives.clone().lives(R, P1, S2), "INV-PD-IDS (one peer, one id)");
        broken(lives.clone().lives(RegionId(2), P1, S1), "INV-PD-IDS (one peer, one id)");
        lives.is_gone(P1, S1);
        lives.lives(R, P2, S1).unwrap();
        broken(lives.lives(R, P1, S1), "INV-STORE-8 (gone for good)");
    }
}
