//! A run of entries that many hold and nobody copies.

use crate::Entry;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Some entries of a log, one after the other. Cloning shares them: the log of a group, the write of them, the messages
/// to all followers and the state machine hold the same run at the price of one counter each, however many entries it
/// has. It can be read as a slice.
// One word, however many there are: it goes through many hands, and whatever is wider goes through memory each time.
#[derive(Clone, Default)]
pub struct Entries(Option<Arc<Run>>);

/// What is shared; never empty.
enum Run {
    /// One alone, as most proposals come.
    One(Entry),
    Many {
        entries: Vec<Entry>,
        /// What they weigh: asked for again and again, added up once.
        bytes: u64,
    },
    Part {
        /// Not a part itself.
        of: Arc<Run>,
        range: Range<usize>,
        /// What those weigh.
        bytes: u64,
    },
}

fn weight(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::size_bytes).sum()
}

impl Run {
    #[inline]
    fn entries(&self) -> &[Entry] {
        match self {
            Self::One(entry) => std::slice::from_ref(entry),
            _ => self.several(),
        }
    }

    fn several(&self) -> &[Entry] {
        match self {
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many { entries, .. } => entries,
            Self::Part { of, range, .. } => &of.entries()[range.clone()],
        }
    }
}

impl Entries {
    /// One alone.
    pub(crate) fn one(entry: Entry) -> Self {
        Self(Some(Arc::new(Run::One(entry))))
    }

    /// Those at the places `range`, shared.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    #[inline]
    pub fn slice(&self, range: Range<usize>) -> Self {
        if range == (0..self.len()) { self.clone() } else { self.part(range) }
    }

    fn part(&self, mut range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {} entries", self.len());
        if range.is_empty() {
            return Self::default();
        }
        let bytes = weight(&self[range.clone()]);
        let mut of = self.0.as_ref().expect("of none there are no parts");
        if let Run::Part { of: whole, range: ours, .. } = &**of {
            range = range.start + ours.start..range.end + ours.start;
            of = whole;
        }
        Self(Some(Arc::new(Run::Part { of: of.clone(), range, bytes })))
    }

    /// What they weigh against limits, in bytes: the sum of [`Entry::size_bytes`].
    #[must_use]
    #[inline]
    pub fn size_bytes(&self) -> u64 {
        match self.0.as_deref() {
            None => 0,
            Some(Run::One(entry)) => entry.size_bytes(),
            Some(Run::Many { bytes, .. } | Run::Part { bytes, .. }) => *bytes,
        }
    }

    /// Drops the first `count`.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) {
        if count > 0 {
            *self = self.part(count..self.len());
        }
    }

    /// All entries of `runs` as one run. What nobody else holds is moved, the rest copied.
    pub(crate) fn joined(runs: impl Iterator<Item = Self>) -> Self {
        let mut all = Vec::new();
        for Self(run) in runs {
            match run.map(Arc::try_unwrap) {
                None => {}
                Some(Ok(Run::One(entry))) => all.push(entry),
                Some(Ok(Run::Many { entries, .. })) => all.extend(entries),
                Some(Ok(part @ Run::Part { .. })) => all.extend_from_slice(part.entries()),
                Some(Err(held)) => all.extend_from_slice(held.entries()),
            }
        }
        all.into()
    }
}

impl Deref for Entries {
    type Target = [Entry];

    #[inline]
    fn deref(&self) -> &[Entry] {
        self.0.as_ref().map_or(&[], |run| run.entries())
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(mut entries: Vec<Entry>) -> Self {
        if entries.len() <= 1 {
            return entries.pop().map_or_else(Self::default, Self::one);
        }
        let bytes = weight(&entries);
        Self(Some(Arc::new(Run::Many { entries, bytes })))
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        entries.into_iter().collect::<Vec<_>>().into()
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
        part.skip(0);
        assert_eq!(places(&part), [3, 4]);
        assert_eq!(places(&part.slice(1..2)), [4]);
        let again = part.slice(0..2);
        assert!(std::ptr::eq(&whole[2], &again[0]), "of a part, too");
        part.skip(2);
        assert!(part.is_empty() && part.0.is_none(), "nothing keeps the others alive");
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
