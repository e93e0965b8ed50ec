//! INV-STORE-COVER: at each moment the newest regions cover all keys, each once.

use super::{Broken, require};
use std::collections::BTreeMap;
use types::{Key, Region, RegionId, escape_key};

/// The committed history of all regions: what each was like in its newest version that anybody has applied. A split makes
/// its pieces in one step, so there is no moment at which only some are known.
#[derive(Clone, Default, Debug)]
pub struct Coverage {
    newest: BTreeMap<RegionId, Region>,
    has_changed: bool,
}

impl Coverage {
    /// Some store has applied the region so.
    pub fn region(&mut self, region: &Region) {
        let newest = self.newest.get(&region.id);
        if newest.is_none_or(|newest| newest.epoch.version < region.epoch.version) {
            self.newest.insert(region.id, region.clone());
            self.has_changed = true;
        }
    }

    /// All that a store has applied at this moment was shown.
    ///
    /// # Errors
    /// A hole or an overlap.
    pub fn shown(&mut self) -> Result<(), Broken> {
        if !std::mem::take(&mut self.has_changed) {
            return Ok(());
        }
        let regions: Vec<Region> = self.newest.values().cloned().collect();
        regions_cover_all_keys(&regions)
    }
}

/// These regions cover all keys, each once.
///
/// # Errors
/// The first hole or overlap.
pub fn regions_cover_all_keys(regions: &[Region]) -> Result<(), Broken> {
    let mut sorted: Vec<_> = regions.iter().collect();
    sorted.sort_by(|a, b| a.range.start.cmp(&b.range.start));
    let mut reached = Some(Key::new());
    for region in sorted {
        let meets = reached.as_ref() == Some(&region.range.start);
        require(meets, NAME, || {
            let until = reached.as_ref().map_or_else(|| "the end".to_owned(), |key| escape_key(key));
            format!("keys are covered up to {until}, then comes region {} {:?}", region.id, region.range)
        })?;
        reached = (!region.range.end.is_empty()).then(|| region.range.end.clone());
    }
    require(reached.is_none(), NAME, || {
        let from = reached.as_ref().map_or_else(String::new, |key| escape_key(key));
        format!("no region covers the keys from {from}")
    })
}

const NAME: &str = "INV-STORE-COVER (all keys, each once)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{broken, region};
    use types::Epoch;

    #[test]
    fn holes_and_overlaps_are_found() {
        regions_cover_all_keys(&[region(2, "m", ""), region(1, "", "m")]).unwrap();
        for bad in [
            &[region(2, "n", ""), region(1, "", "m")][..],
            &[region(2, "l", ""), region(1, "", "m")],
            &[region(1, "", "m")],
            &[region(1, "", ""), region(2, "m", "")],
            &[],
        ] {
            broken(regions_cover_all_keys(bad), NAME);
        }
    }

    #[test]
    fn a_split_leaves_no_key_to_nobody_or_to_two() {
        let at = |version, region: Region| Region { epoch: Epoch { version, ..region.epoch }, ..region };
        let mut coverage = Coverage::default();
        coverage.region(&at(1, region(1, "", "")));
        coverage.shown().unwrap();
        coverage.region(&at(2, region(1, "m", "")));
        coverage.region(&at(2, region(2, "", "m")));
        coverage.shown().unwrap();
        // A store that has not applied the split yet shows what was.
        coverage.region(&at(1, region(1, "", "")));
        coverage.shown().unwrap();
        let mut hole = coverage.clone();
        hole.region(&at(3, region(1, "p", "")));
        broken(hole.shown(), NAME);
        coverage.region(&at(3, region(1, "p", "")));
        coverage.region(&at(3, region(3, "l", "p")));
        broken(coverage.shown(), NAME);
    }
}
