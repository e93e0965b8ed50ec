//! INV-STORE-1: ranges of one store do not overlap.

use super::{Broken, require};
use types::{KeyRange, RegionId, StoreId};

/// Regions of one store that own keys do not overlap.
///
/// # Errors
/// The first two that do.
pub fn ranges_are_disjoint(store: StoreId, regions: &[(RegionId, KeyRange)]) -> Result<(), Broken> {
    let mut sorted: Vec<_> = regions.iter().filter(|(_, range)| !range.is_empty()).collect();
    sorted.sort_by(|(_, a), (_, b)| a.start.cmp(&b.start));
    for pair in sorted.windows(2) {
        let [(left, left_range), (right, right_range)] = pair else { unreachable!("windows of two") };
        require(!left_range.overlaps(right_range), "INV-STORE-1 (disjoint ranges)", || {
            format!("store {store} holds region {left} {left_range:?} and region {right} {right_range:?}")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{S1, broken};

    #[test]
    fn regions_of_a_store_do_not_overlap() {
        let at = |id: u64, start: &'static str, end: &'static str| (RegionId(id), KeyRange::new(start, end));
        ranges_are_disjoint(S1, &[at(2, "m", ""), at(1, "", "c"), at(3, "c", "m")]).unwrap();
        broken(ranges_are_disjoint(S1, &[at(2, "m", ""), at(1, "", "n")]), "INV-STORE-1 (disjoint ranges)");
    }
}
