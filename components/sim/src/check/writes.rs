//! INV-STORE-12: a write is applied once, and one that was refused not at all.
//!
//! A write that is made again after its outcome was unknown does harm only where somebody else has written in between and
//! a third one reads at the right moment. That it was applied twice is seen at once, as long as no value is written
//! twice.

use super::{Action, Broken, Operation, Outcome};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::{LogIndex, RegionId};

/// Where each value was written, when a key is never set twice to the same.
#[derive(Clone, Default, Debug)]
pub struct WrittenOnce {
    /// By key and value; `None` if values may be written twice: then nothing can be told.
    written: Option<BTreeMap<(Bytes, Bytes), (RegionId, LogIndex)>>,
}

impl WrittenOnce {
    /// For clients that never set a key twice to the same value.
    #[must_use]
    pub const fn of_unique_values() -> Self {
        Self { written: Some(BTreeMap::new()) }
    }

    /// Whether it can tell anything.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.written.is_some()
    }

    /// The entry at `index` of `region` was applied, and it sets `key` to `value` without a condition.
    ///
    /// # Errors
    /// When another entry has written it.
    pub fn applied(
        &mut self,
        (region, index): (RegionId, LogIndex),
        key: &Bytes,
        value: &Bytes,
    ) -> Result<(), Broken> {
        let Some(written) = &mut self.written else { return Ok(()) };
        let first = *written.entry((key.clone(), value.clone())).or_insert((region, index));
        if first == (region, index) {
            return Ok(());
        }
        let (region_before, index_before) = first;
        let facts = format!(
            "{key:?} was set to {value:?} by entry {index_before} of region {region_before} and again by {index} of {region}"
        );
        Err(Broken { invariant: "INV-STORE-12 (a write is applied once)", facts })
    }

    /// What clients were told at the end of a run.
    ///
    /// # Errors
    /// When a write that was refused has been applied.
    pub fn refused_are_not_applied(&self, history: &[Operation]) -> Result<(), Broken> {
        let Some(written) = &self.written else { return Ok(()) };
        for operation in history.iter().filter(|operation| operation.outcome == Outcome::NotDone) {
            let Action::Put(value) = &operation.action else { continue };
            if let Some((region, index)) = written.get(&(operation.key.clone(), value.clone())) {
                let facts =
                    format!("{operation} was refused, and applied by entry {index} of region {region}");
                return Err(Broken { invariant: "INV-STORE-12 (what is refused is not applied)", facts });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_two_entries_write_was_written_twice() {
        let mut writes = WrittenOnce::of_unique_values();
        let mut applied = |region, index, value: &'static str| {
            writes.applied((RegionId(region), LogIndex(index)), &"k".into(), &value.into())
        };
        assert_eq!((applied(1, 6, "a"), applied(1, 6, "a"), applied(1, 7, "b")), (Ok(()), Ok(()), Ok(())));
        assert!(applied(1, 8, "a").is_err() && applied(2, 6, "a").is_err());
        let mut any = WrittenOnce::default();
        for index in [6, 7] {
            assert_eq!(any.applied((RegionId(1), LogIndex(index)), &"k".into(), &"a".into()), Ok(()));
        }
    }

    #[test]
    fn what_was_refused_is_found_where_it_was_applied() {
        let mut writes = WrittenOnce::of_unique_values();
        writes.applied((RegionId(1), LogIndex(6)), &"k".into(), &"a".into()).unwrap();
        let put = |value: &'static str, outcome| Operation {
            process: 1,
            key: "k".into(),
            action: Action::Put(value.into()),
            outcome,
            invoked: 1,
            returned: 2,
        };
        let check = |operation| writes.refused_are_not_applied(&[operation]);
        assert_eq!(check(put("a", Outcome::Written)), Ok(()));
        assert_eq!(check(put("a", Outcome::Unknown)), Ok(()));
        assert_eq!(check(put("b", Outcome::NotDone)), Ok(()));
        assert!(check(put("a", Outcome::NotDone)).is_err());
    }
}
