//! INV-READ-6: no two stores hold leases on one key at one moment of true time.

use super::{Broken, require};
use crate::cluster::LeaseView;
use std::collections::BTreeMap;
use types::{PeerId, RegionId, Term};

/// Lease disjointness, in true time: once a leader of a higher term has acted, no older one serves a read by its lease.
#[derive(Clone, Default, Debug)]
pub struct Leases {
    /// By region: the highest term in which a leader acted, who that was, and when it was first seen.
    newest: BTreeMap<RegionId, (Term, PeerId, u64)>,
}

impl Leases {
    /// At the true time `now`, `peer` acknowledges a write as leader of `region`, proposed in `term`. An older leader may
    /// still do so: what it acknowledges was committed.
    pub fn acknowledges(&mut self, region: RegionId, term: Term, peer: PeerId, now: u64) {
        let newest = self.newest.entry(region).or_insert((term, peer, now));
        if newest.0 < term {
            *newest = (term, peer, now);
        }
    }

    /// At the true time `now`, `peer` serves a read of `region` by its lease of `term`.
    ///
    /// # Errors
    /// When a leader of a higher term has acted before: the read may be stale.
    pub fn serves(&mut self, region: RegionId, term: Term, peer: PeerId, now: u64) -> Result<(), Broken> {
        self.acknowledges(region, term, peer, now);
        let (newest, by, since) = self.newest[&region];
        require(newest == term, "INV-READ-6 (disjoint leases)", || {
            format!(
                "peer {peer} serves region {region} by a lease of term {term} at {now}, after peer {by} acted in term \
                 {newest} at {since}"
            )
        })
    }
}

/// Lease disjointness over keys: no two stores would answer a read of one key by their leases, be it of one region or
/// of one and its former self. `leases` are all that are held at one moment of true time.
///
/// # Errors
/// The first two that overlap.
pub fn leases_are_disjoint(leases: &[LeaseView]) -> Result<(), Broken> {
    let mut sorted: Vec<_> = leases.iter().collect();
    sorted.sort_by(|a, b| a.region.range.start.cmp(&b.region.range.start));
    for (at, left) in sorted.iter().enumerate() {
        let overlapping = sorted[at + 1..]
            .iter()
            .find(|right| right.store_id != left.store_id && left.region.range.overlaps(&right.region.range));
        if let Some(right) = overlapping {
            let facts = format!("two stores hold leases on the same keys: {left:?}, {right:?}");
            return Err(Broken { invariant: "INV-READ-6 (disjoint leases)", facts });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;
    use types::{KeyRange, Region};

    #[test]
    fn an_old_lease_does_not_outlive_the_first_use_of_a_newer_one() {
        let mut leases = Leases::default();
        leases.serves(R, Term(1), P1, 10).unwrap();
        leases.acknowledges(R, Term(2), P2, 20);
        leases.acknowledges(R, Term(1), P1, 21);
        broken(leases.serves(R, Term(1), P1, 22), "INV-READ-6 (disjoint leases)");
        leases.serves(R, Term(2), P2, 23).unwrap();
    }

    #[test]
    fn two_stores_do_not_hold_leases_on_one_key() {
        let lease = |store_id, region: u64, start: &'static str, end: &'static str| LeaseView {
            store_id,
            region: Region { id: RegionId(region), range: KeyRange::new(start, end), ..Region::default() },
            peer_id: P1,
            term: Term(6),
            left: std::time::Duration::ZERO,
        };
        leases_are_disjoint(&[lease(S1, 2, "m", ""), lease(S2, 1, "", "m")]).unwrap();
        // The parent as it was, and a piece of it elsewhere.
        let split = [lease(S1, 1, "", ""), lease(S2, 2, "", "m")];
        broken(leases_are_disjoint(&split), "INV-READ-6 (disjoint leases)");
    }
}
