//! A run of entries that many hold and nobody copies.

use crate::Entry;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Some entries of a log, one after the other. Cloning shares them: the log of a group, the write of them, the messages
/// to all followers and the state machine hold the same run at the price of one counter each, however many entries it
/// has. It can be read as a slice.
#[derive(Clone, Default)]
pub struct Entries {
    /// Not there when there are none.
    shared: Option<Arc<[Entry]>>,
    /// Which of them are meant.
    ///
    /// Invariant: `start <= end`, and `end` is not beyond what is shared.
    start: u32,
    end: u32,
    /// What those weigh: asked for again and again, added up once.
    bytes: u64,
}

fn weight(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::size_bytes).sum()
}

impl Entries {
    /// Those at the places `range`, shared.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {} entries", self.len());
        if range.is_empty() {
            return Self::default();
        }
        let mut part = self.clone();
        part.truncate(range.end);
        part.skip(range.start);
        part
    }

    /// What they weigh against limits, in bytes: the sum of [`Entry::size_bytes`].
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bytes
    }

    /// Drops the first `count`.
    pub(crate) fn skip(&mut self, count: usize) {
        assert!(count <= self.len(), "{count} of {} entries", self.len());
        if count > 0 {
            self.bytes -= weight(&self[..count]);
            self.start += count as u32;
            self.drop_if_empty();
        }
    }

    /// Keeps the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        if count < self.len() {
            self.bytes -= weight(&self[count..]);
            self.end = self.start + count as u32;
            self.drop_if_empty();
        }
    }

    fn drop_if_empty(&mut self) {
        if self.start == self.end {
            *self = Self::default();
        }
    }

    /// All entries of `runs` as one run. What nobody else holds is moved, the rest copied.
    pub(crate) fn joined(runs: impl Iterator<Item = Self>) -> Self {
        let mut all = Vec::new();
        for mut run in runs {
            let range = run.start as usize..run.end as usize;
            match run.shared.as_mut().and_then(Arc::get_mut) {
                Some(own) => all.extend(own[range].iter_mut().map(std::mem::take)),
                None => all.extend_from_slice(&run),
            }
        }
        all.into()
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.shared.as_ref().map_or(&[], |shared| &shared[self.start as usize..self.end as usize])
    }
}

impl<I: Into<Arc<[Entry]>>> From<I> for Entries {
    fn from(entries: I) -> Self {
        let shared: Arc<[Entry]> = entries.into();
        let end = u32::try_from(shared.len()).expect("so many entries do not fit into memory");
        let bytes = weight(&shared);
        if end == 0 { Self::default() } else { Self { shared: Some(shared), start: 0, end, bytes } }
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        entries.into_iter().collect::<Arc<[Entry]>>().into()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::{LogIndex, Term};

    fn run(indexes: Range<u64>) -> Entries {
        let entry = |index| Entry {
            term: Term(1),
            index: LogIndex(index),
            data: Bytes::from(vec![7; index as usize]),
            ..Entry::default()
        };
        indexes.map(entry).collect()
    }

    /// Where they stand. What they weigh is what each weighs, however they were cut.
    fn places(entries: &Entries) -> Vec<u64> {
        assert_eq!(entries.size_bytes(), entries.iter().map(Entry::size_bytes).sum::<u64>());
        entries.iter().map(|entry| entry.index.0).collect()
    }

    #[test]
    fn parts_of_a_run_share_it() {
        let whole = run(1..6);
        let mut part = whole.slice(1..4);
        assert_eq!(places(&part), [2, 3, 4]);
        assert!(std::ptr::eq(&whole[1], &part[0]), "nothing was copied");
        part.skip(1);
        part.truncate(9);
        assert_eq!(places(&part), [3, 4]);
        assert_eq!(places(&part.slice(1..2)), [4]);
        part.truncate(1);
        part.skip(1);
        assert!(part.is_empty() && part.shared.is_none(), "nothing keeps the others alive");
        assert_eq!(part, whole.slice(2..2));
    }

    #[test]
    fn what_nobody_else_holds_is_moved_when_runs_are_joined() {
        let one =
            |byte| Entries::from(vec![Entry { data: Bytes::from(vec![byte; 100]), ..Entry::default() }]);
        let (own, held) = (one(1), one(2));
        let other = held.clone();
        let joined = Entries::joined([own, held, run(2..4)].into_iter());
        assert_eq!((joined.len(), &joined[1], joined.size_bytes()), (4, &other[0], 205 + 4 * 24));
        assert_eq!((joined[0].data.is_unique(), joined[1].data.is_unique()), (true, false));
    }

    #[test]
    #[should_panic(expected = "2..4 of 3 entries")]
    fn a_part_beyond_the_end_is_a_mistake() {
        let _ = run(1..4).slice(2..4);
    }
}
