//! INV-RAFT-14, INV-STORE-EPOCH: an epoch names one descriptor, and moves as splits and changes of members do.

use super::{Broken, require};
use std::collections::{BTreeMap, BTreeSet};
use types::{Epoch, Region, RegionId, StoreId};

/// Whether a region can have become what it is later: neither part of the epoch falls; the range changes with the
/// version, by losing keys and not without, and the members with `conf_ver` alone: they may be as before after two changes.
fn follows(older: &Region, newer: &Region) -> bool {
    let (before, after) = (older.epoch, newer.epoch);
    let is_cut = older.range != newer.range && older.range.covers(&newer.range);
    let range = if before.version == after.version { older.range == newer.range } else { is_cut };
    let members = before.conf_ver < after.conf_ver || older.peers == newer.peers;
    before.version <= after.version && before.conf_ver <= after.conf_ver && range && members
}

/// Epochs of a region only grow, on every store alike, and one epoch means one descriptor.
#[derive(Clone, Default, Debug)]
pub struct Epochs {
    by_epoch: BTreeMap<(RegionId, Epoch), Region>,
    /// By store and region: what it showed last.
    latest: BTreeMap<(StoreId, RegionId), Epoch>,
}

impl Epochs {
    /// `store` holds `region` as described, applied.
    ///
    /// # Errors
    /// When it held a newer one, or another store another one of the same epoch.
    pub fn region(&mut self, store: StoreId, region: &Region) -> Result<(), Broken> {
        let before = self.latest.insert((store, region.id), region.epoch);
        let went_back = before.is_some_and(|before| region.epoch.is_older_than(before));
        require(!went_back, "INV-STORE-EPOCH (epochs grow)", || {
            format!("region {} on store {store} goes from {before:?} to {:?}", region.id, region.epoch)
        })?;
        if let Some(known) = self.by_epoch.get(&(region.id, region.epoch)) {
            return require(known == region, "INV-RAFT-14 (one epoch, one descriptor)", || {
                format!("{known:?} and, on store {store}, {region:?}")
            });
        }
        let all =
            (region.id, Epoch::default())..=(region.id, Epoch { conf_ver: u64::MAX, version: u64::MAX });
        for known in self.by_epoch.range(all).map(|(_, known)| known) {
            let (older, newer) =
                if known.epoch.is_older_than(region.epoch) { (known, region) } else { (region, known) };
            require(follows(older, newer), "INV-STORE-EPOCH (epochs move as their parts do)", || {
                format!("{older:?} and {newer:?} are of one region, the latest on store {store}")
            })?;
        }
        self.by_epoch.insert((region.id, region.epoch), region.clone());
        Ok(())
    }

    /// Whether some store has applied exactly this.
    #[must_use]
    pub fn knows(&self, region: &Region) -> bool {
        self.by_epoch.get(&(region.id, region.epoch)) == Some(region)
    }

    /// Each region as of its newest epoch.
    #[must_use]
    pub fn newest(&self) -> Vec<Region> {
        let mut newest: BTreeMap<RegionId, &Region> = BTreeMap::new();
        for region in self.by_epoch.values() {
            let seen = newest.entry(region.id).or_insert(region);
            if seen.epoch.is_older_than(region.epoch) {
                *seen = region;
            }
        }
        newest.into_values().cloned().collect()
    }

    /// How many regions there were.
    #[must_use]
    pub fn regions(&self) -> u64 {
        self.by_epoch.keys().map(|(region, _)| *region).collect::<BTreeSet<_>>().len() as u64
    }

    /// How often a region's members changed.
    #[must_use]
    pub fn member_changes(&self) -> u64 {
        let epochs = self.by_epoch.keys().map(|(region, epoch)| (*region, epoch.conf_ver));
        epochs.collect::<BTreeSet<_>>().len() as u64 - self.regions()
    }

    /// `store` has restarted: what was not durable may be gone, so an older epoch may come again.
    pub fn restarted(&mut self, store: StoreId) {
        self.latest.retain(|(at, _), _| *at != store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::*;
    use types::{KeyRange, Peer};

    #[test]
    fn epochs_grow_and_name_one_descriptor() {
        let region = |version: u64, end: &'static str| Region {
            id: R,
            range: KeyRange::new("", end),
            epoch: Epoch { conf_ver: 1, version },
            peers: vec![Peer::voter(P1, S1)],
        };
        let mut epochs = Epochs::default();
        epochs.region(S1, &region(1, "")).unwrap();
        epochs.region(S1, &region(2, "m")).unwrap();
        epochs.region(S2, &region(1, "")).unwrap();
        broken(epochs.region(S2, &region(2, "n")), "INV-RAFT-14 (one epoch, one descriptor)");
        broken(epochs.clone().region(S1, &region(1, "")), "INV-STORE-EPOCH (epochs grow)");
        epochs.restarted(S1);
        epochs.region(S1, &region(1, "")).unwrap();
    }

    #[test]
    fn ranges_and_members_change_with_their_part_of_the_epoch() {
        let at = |conf_ver, version, end: &'static str, peers: &[Peer]| Region {
            id: R,
            range: KeyRange::new("", end),
            epoch: Epoch { conf_ver, version },
            peers: peers.to_vec(),
        };
        let (one, two) = ([Peer::voter(P1, S1)], [Peer::voter(P1, S1), Peer::voter(P2, S2)]);
        let mut epochs = Epochs::default();
        epochs.region(S1, &at(1, 1, "", &one)).unwrap();
        epochs.region(S1, &at(1, 2, "m", &one)).unwrap();
        epochs.region(S1, &at(2, 2, "m", &two)).unwrap();
        for wrong in [
            // Keys come back, are lost without a version, or a version without keys.
            at(2, 3, "", &two),
            at(3, 2, "c", &one),
            at(2, 3, "m", &two),
            // Members change without a word.
            at(2, 3, "c", &one),
            // One part grows and the other one falls.
            at(3, 1, "", &one),
        ] {
            let result = epochs.clone().region(S2, &wrong);
            broken(result, "INV-STORE-EPOCH (epochs move as their parts do)");
        }
        epochs.region(S2, &at(3, 3, "c", &one)).unwrap();
    }
}
