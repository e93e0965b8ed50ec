//! What a serializable transaction has read, and has to find unchanged when it commits.

use crate::error::Error;
use crate::txn::error::TxnError;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use types::{Key, KeyRange};

/// Shared by a transaction and its scans, which go on while it does.
pub(crate) type SharedReads = Arc<Mutex<ReadSet>>;

/// Keys, and ranges of which every key counts, there or not. All as the region layer sees them.
///
/// Invariant: no two ranges touch each other; `size` is what the keys and the ends of the ranges weigh, and does not exceed
/// `size_max`.
#[derive(Debug)]
pub(crate) struct ReadSet {
    keys: BTreeSet<Key>,
    /// Start to end; none is empty.
    ranges: BTreeMap<Key, Key>,
    size: u64,
    size_max: u64,
}

/// What is left to be proved.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Reads {
    /// In key order.
    pub(crate) keys: Vec<Key>,
    /// In key order, apart from each other.
    pub(crate) ranges: Vec<KeyRange>,
}

impl Reads {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }
}

impl ReadSet {
    pub(crate) fn new(size_max: u64) -> Self {
        Self { keys: BTreeSet::new(), ranges: BTreeMap::new(), size: 0, size_max }
    }

    /// A key was read.
    ///
    /// # Errors
    /// [`TxnError::TooLarge`]: it is not among the reads then, and what it said must not be used.
    pub(crate) fn add_key(&mut self, key: &Key) -> Result<(), Error> {
        if self.keys.contains(key) || self.is_in_range(key) {
            return Ok(());
        }
        self.grow(key.len())?;
        self.keys.insert(key.clone());
        Ok(())
    }

    /// All keys of a range were read.
    ///
    /// # Errors
    /// As [`ReadSet::add_key`].
    pub(crate) fn add_range(&mut self, range: KeyRange) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let KeyRange { mut start, mut end } = range;
        // Those that it touches become one with it: pages of a scan leave one range.
        let before = self.ranges.range(..=start.clone()).next_back();
        if let Some((first, last)) = before
            && (last.is_empty() || *last >= start)
        {
            start = first.clone();
        }
        let touching =
            self.ranges.range(start.clone()..).take_while(|(first, _)| end.is_empty() || **first <= end);
        let touching: Vec<(Key, Key)> = touching.map(|(first, last)| (first.clone(), last.clone())).collect();
        let freed: usize = touching.iter().map(|(first, last)| first.len() + last.len()).sum();
        for (_, last) in &touching {
            end = if end.is_empty() || last.is_empty() { Key::new() } else { end.max(last.clone()) };
        }
        self.size -= freed as u64;
        if let Err(error) = self.grow(start.len() + end.len()) {
            self.size += freed as u64;
            return Err(error);
        }
        touching.iter().for_each(|(first, _)| drop(self.ranges.remove(first)));
        self.ranges.insert(start, end);
        Ok(())
    }

    /// What is to be proved, without single keys of which the transaction knows otherwise.
    pub(crate) fn take(&mut self, is_known: impl Fn(&Key) -> bool) -> Reads {
        let keys = std::mem::take(&mut self.keys);
        let ranges = std::mem::take(&mut self.ranges);
        self.size = 0;
        let is_covered = |key: &Key| covers(&ranges, key);
        let keys = keys.into_iter().filter(|key| !is_known(key) && !is_covered(key)).collect();
        let ranges = ranges.iter().map(|(start, end)| KeyRange { start: start.clone(), end: end.clone() });
        Reads { keys, ranges: ranges.collect() }
    }

    fn is_in_range(&self, key: &Key) -> bool {
        covers(&self.ranges, key)
    }

    fn grow(&mut self, added: usize) -> Result<(), Error> {
        let size = self.size + added as u64;
        if size > self.size_max {
            return Err(TxnError::TooLarge { size, size_max: self.size_max }.into());
        }
        self.size = size;
        Ok(())
    }
}

fn covers(ranges: &BTreeMap<Key, Key>, key: &Key) -> bool {
    let before = ranges.range(..=key.clone()).next_back();
    before.is_some_and(|(_, end)| end.is_empty() || key < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(start, end)
    }

    fn reads(of: &[(&'static str, &'static str)]) -> ReadSet {
        let mut set = ReadSet::new(1000);
        of.iter().for_each(|(start, end)| set.add_range(range(start, end)).unwrap());
        set
    }

    #[test]
    fn ranges_that_touch_become_one_and_cover_the_keys_in_them() {
        let mut set = reads(&[("b", "d"), ("f", "h"), ("d", "e"), ("k", "k")]);
        for key in ["a", "b", "e", "g"] {
            set.add_key(&key.into()).unwrap();
        }
        let taken = set.take(|key| key == "a");
        assert_eq!(taken.keys, ["e"]);
        assert_eq!(taken.ranges, [range("b", "e"), range("f", "h")]);
        assert!(set.take(|_| false).is_empty());
        let one = |of: &[_]| reads(of).take(|_| false).ranges;
        assert_eq!(one(&[("c", "d"), ("e", "f"), ("b", "g")]), [range("b", "g")]);
        assert_eq!(one(&[("b", "g"), ("c", "d")]), [range("b", "g")]);
        assert_eq!(one(&[("b", "c"), ("d", ""), ("c", "e")]), [range("b", "")]);
        assert_eq!(one(&[("", ""), ("c", "e")]), [range("", "")]);
    }

    #[test]
    fn what_was_read_is_weighed_and_what_is_too_much_is_refused() {
        let mut set = ReadSet::new(6);
        set.add_range(range("a", "b")).unwrap();
        set.add_range(range("b", "c")).unwrap();
        set.add_key(&"key".into()).unwrap();
        set.add_key(&"key".into()).unwrap();
        let full = TxnError::TooLarge { size: 7, size_max: 6 };
        assert_eq!(set.add_key(&"no".into()), Err(full.clone().into()));
        assert_eq!(set.add_range(range("c", "dd")).map_err(|_| ()), Ok(()), "it takes another's place");
        assert_eq!(set.add_range(range("dd", "eee")), Err(full.into()));
        let taken = set.take(|_| false);
        assert_eq!((taken.keys.len(), taken.ranges), (1, vec![range("a", "dd")]));
    }
}
