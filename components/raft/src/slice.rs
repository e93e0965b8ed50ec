//! A run of a leader's log: what an append carries, once it is known to be one.

use crate::{Entries, Entry, EntryId};
use types::Term;

/// What follows `prev` in the log of the leader of `term`, as far as it was taken along.
///
/// Invariant: indexes count up by one from `prev`; terms do not fall from that of `prev` on, none is zero, and none exceeds
/// `term`. [`LogSlice::new`] is the only way to one, so whoever holds one need not look again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogSlice {
    term: Term,
    prev: EntryId,
    entries: Entries,
}

impl LogSlice {
    /// The run of `entries` after `prev` in the log of the leader of `term`; `entries` may be empty.
    ///
    /// # Errors
    /// No leader's log has such a run: which rule it breaks.
    #[inline]
    pub(crate) fn new(term: Term, prev: EntryId, entries: Entries) -> Result<Self, &'static str> {
        if prev.term > term {
            return Err("appends after an entry of a later term");
        }
        let mut before = prev;
        for entry in &entries {
            if entry.index != before.index.next() {
                return Err("appends entries with a gap");
            }
            if entry.term < before.term || entry.term > term || entry.term.is_zero() {
                return Err("appends entries of a term that cannot be there");
            }
            before = entry.id();
        }
        Ok(Self { term, prev, entries })
    }

    /// The term of the leader whose log this is of.
    #[inline]
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// What stands right before the first entry.
    #[inline]
    pub(crate) fn prev(&self) -> EntryId {
        self.prev
    }

    /// The last entry, or what stands before when there is none. Whoever holds `prev` and takes the entries agrees with the
    /// leader up to here.
    #[inline]
    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.prev, Entry::id)
    }

    /// In order.
    #[inline]
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The entries alone, in order.
    #[inline]
    pub(crate) fn into_entries(self) -> Entries {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::LogIndex;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId::new(Term(term), LogIndex(index))
    }

    /// The run of entries at `at` after 2@2, as the leader of term 5 would send it.
    fn slice(at: &[(u64, u64)]) -> Result<LogSlice, &'static str> {
        let entry = |&(index, term)| Entry { term: Term(term), index: LogIndex(index), ..Entry::default() };
        LogSlice::new(Term(5), id(2, 2), at.iter().map(entry).collect())
    }

    #[test]
    fn a_run_says_what_it_begins_after_and_how_far_it_agrees() {
        let run = slice(&[(3, 2), (4, 4), (5, 5)]).expect("a run");
        assert_eq!((run.term(), run.prev(), run.last()), (Term(5), id(2, 2), id(5, 5)));
        assert_eq!(run.entries().len(), 3);
        let nothing = slice(&[]).expect("nothing is a run, too");
        assert_eq!(nothing.last(), nothing.prev());
        assert!(nothing.into_entries().is_empty());
        LogSlice::new(Term(1), EntryId::default(), Entries::default()).expect("the beginning of all logs");
    }

    #[test]
    fn what_no_leader_has_is_no_run() {
        let gap = "appends entries with a gap";
        for wrong in [&[(4, 2)][..], &[(2, 2)], &[(3, 2), (3, 2)], &[(3, 2), (5, 2)]] {
            assert_eq!(slice(wrong), Err(gap), "{wrong:?}");
        }
        let term = "appends entries of a term that cannot be there";
        for wrong in [&[(3, 1)][..], &[(3, 0)], &[(3, 6)], &[(3, 4), (4, 3)]] {
            assert_eq!(slice(wrong), Err(term), "{wrong:?}");
        }
        assert!(LogSlice::new(Term(1), id(2, 2), Entries::default()).is_err(), "after what is still to come");
    }
}
