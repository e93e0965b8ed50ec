//! Counters that clients count up: what is read lies between what was acknowledged and what may have been done.

use crate::check::Broken;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What became of the increments of one counter.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Count {
    acknowledged: u64,
    /// Under way, or of an outcome that nobody will ever know.
    unknown: u64,
}

/// All counters of a run.
#[derive(Clone, Default, Debug)]
pub struct Counters {
    counts: BTreeMap<Bytes, Count>,
}

/// What a counter holds, as a number: nothing is zero.
///
/// # Panics
/// When somebody else has written there.
#[must_use]
pub(crate) fn number_of(value: Option<&Bytes>) -> u64 {
    let Some(value) = value else { return 0 };
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("a counter holds {value:?}, which is no number"))
}

impl Counters {
    fn count(&mut self, key: &Bytes) -> &mut Count {
        self.counts.entry(key.clone()).or_default()
    }

    /// An increment is sent; unless it is said what came of it, nobody knows.
    pub fn begun(&mut self, key: &Bytes) {
        self.count(key).unknown += 1;
    }

    /// It was done.
    pub fn acknowledged(&mut self, key: &Bytes) {
        let count = self.count(key);
        count.unknown -= 1;
        count.acknowledged += 1;
    }

    /// It was promised not to be done.
    pub fn refused(&mut self, key: &Bytes) {
        self.count(key).unknown -= 1;
    }

    /// What a read that begins now finds at least.
    #[must_use]
    pub fn floor(&self, key: &Bytes) -> u64 {
        self.counts.get(key).map_or(0, |count| count.acknowledged)
    }

    /// A read that began when the floor was this one has found a value.
    ///
    /// # Errors
    /// When increments were lost, or were made more than once.
    pub fn read(&self, key: &Bytes, floor: u64, value: Option<&Bytes>) -> Result<(), Broken> {
        let count = self.counts.get(key).copied().unwrap_or_default();
        let (number, most) = (number_of(value), count.acknowledged + count.unknown);
        if (floor..=most).contains(&number) {
            return Ok(());
        }
        let key = types::escape_key(key);
        Err(Broken {
            invariant: "counters",
            facts: format!(
                "{key} is {number}, where {floor} increments were acknowledged before and {most} may have been made"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_doubled_increments_are_found_and_unknown_ones_may_be_either() {
        let (mut counters, key) = (Counters::default(), Bytes::from_static(b"count-0"));
        let reads = |counters: &Counters, number: u64| {
            let value = Bytes::from(number.to_string());
            counters.read(&key, counters.floor(&key), Some(&value))
        };
        assert_eq!(counters.read(&key, 0, None), Ok(()));
        for _ in 0..3 {
            counters.begun(&key);
        }
        counters.acknowledged(&key);
        counters.refused(&key);
        // One acknowledged, one unknown.
        assert_eq!((reads(&counters, 1), reads(&counters, 2)), (Ok(()), Ok(())));
        for wrong in [0, 3] {
            let broken = reads(&counters, wrong).expect_err("it cannot be");
            assert!(broken.facts.starts_with(&format!("count-0 is {wrong}, where 1 ")), "{broken}");
        }
    }

    #[test]
    fn a_read_may_miss_what_was_acknowledged_after_it_began() {
        let (mut counters, key) = (Counters::default(), Bytes::from_static(b"count-0"));
        counters.begun(&key);
        let floor = counters.floor(&key);
        counters.acknowledged(&key);
        assert_eq!(counters.read(&key, floor, None), Ok(()));
        assert!(counters.read(&key, counters.floor(&key), None).is_err());
    }
}
