//! INV-LIVE-1: after the last fault all peers come to agree.

use super::{Broken, regions_cover_all_keys, require};
use crate::cluster::RegionView;
use std::collections::BTreeMap;
use types::{Region, RegionId};

/// Whether a quiet cluster has come together: the leaders' regions cover all keys, and each member of each region has
/// applied as much as its leader. Returns what is still missing.
///
/// # Errors
/// The first thing that is missing; on a cluster that is not quiet, that means nothing.
pub fn has_converged(views: &[RegionView]) -> Result<(), Broken> {
    let mut leaders: BTreeMap<RegionId, &RegionView> = BTreeMap::new();
    for view in views.iter().filter(|view| view.leads_in.is_some()) {
        let newest = leaders.entry(view.region.id).or_insert(view);
        if newest.leads_in < view.leads_in {
            *newest = view;
        }
    }
    let regions: Vec<Region> = leaders.values().map(|view| view.region.clone()).collect();
    regions_cover_all_keys(&regions)?;
    for leader in leaders.values() {
        for peer in &leader.region.peers {
            let member = views.iter().find(|view| view.peer_id == peer.id);
            let agrees =
                member.is_some_and(|view| view.applied == leader.applied && view.region == leader.region);
            require(agrees, "INV-LIVE-1 (peers agree)", || {
                format!("peer {} has {member:?}, its leader {leader:?}", peer.id)
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;
    use types::{LogIndex, Peer, Term};

    #[test]
    fn a_quiet_cluster_agrees_with_its_leaders() {
        let region =
            Region { id: R, peers: vec![Peer::voter(P1, S1), Peer::voter(P2, S2)], ..Region::default() };
        let view = |store_id, peer_id, applied, leads_in: Option<u64>| RegionView {
            store_id,
            region: region.clone(),
            peer_id,
            applied: LogIndex(applied),
            leads_in: leads_in.map(Term),
        };
        has_converged(&[view(S1, P1, 7, Some(2)), view(S2, P2, 7, None)]).unwrap();
        // One that has not noticed yet that it was deposed.
        has_converged(&[view(S1, P1, 7, Some(2)), view(S2, P2, 7, Some(3))]).unwrap();
        broken(has_converged(&[view(S1, P1, 7, Some(2)), view(S2, P2, 6, None)]), "INV-LIVE-1 (peers agree)");
        broken(has_converged(&[view(S1, P1, 7, Some(2))]), "INV-LIVE-1 (peers agree)");
        broken(
            has_converged(&[view(S1, P1, 7, None), view(S2, P2, 7, None)]),
            "INV-STORE-COVER (all keys, each once)",
        );
    }
}
