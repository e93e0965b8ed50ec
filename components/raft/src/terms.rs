//! Where the last terms of a log begin, so that the term of an entry is known without asking storage.

use crate::EntryId;
use types::{LogIndex, Term};

/// How many terms before the last one are kept: logs that differ, differ by a few elections.
const OLDER_MAX: usize = 7;

/// The boundaries of the last few terms in a log. What it knows, it knows for sure; it may know less than there is.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Terms {
    /// From here to the last entry all are of the last entry's term.
    start: LogIndex,
    /// Of each term before that, newest first: an entry, from which up to the one before in this list (or `start`) all are
    /// of its term. Not there when none is known.
    older: Option<Box<[EntryId; OLDER_MAX]>>,
}

/// Fills what is left of the list.
const NONE: EntryId = EntryId::new(Term::ZERO, LogIndex(u64::MAX));

impl Terms {
    /// Of a log of which nothing but its end is known.
    pub(crate) fn new(last: EntryId) -> Self {
        Self { start: last.index, older: None }
    }

    /// The term of the entry at `index`, in a log that ends with `last`.
    #[inline]
    pub(crate) fn term(&self, index: LogIndex, last: EntryId) -> Option<Term> {
        debug_assert!(index <= last.index, "{index} is after {last:?}");
        if index >= self.start {
            return Some(last.term);
        }
        self.term_of_older(index)
    }

    fn term_of_older(&self, index: LogIndex) -> Option<Term> {
        self.older.as_ref()?.iter().find(|run| run.index <= index).map(|run| run.term)
    }

    /// `entry` follows `last`.
    #[inline]
    pub(crate) fn push(&mut self, entry: EntryId, last: EntryId) {
        if entry.term != last.term {
            self.begin(entry.index, last.term);
        }
    }

    /// At `index` begins a term; `before` is the one before.
    #[cold]
    fn begin(&mut self, index: LogIndex, before: Term) {
        let older = self.older.get_or_insert_with(|| Box::new([NONE; OLDER_MAX]));
        older.rotate_right(1);
        older[0] = EntryId::new(before, self.start);
        self.start = index;
    }

    /// The log ends with `last` from now on, which it held before.
    pub(crate) fn truncate(&mut self, last: EntryId) {
        if last.index >= self.start {
            return;
        }
        self.start = last.index;
        let Some(older) = &mut self.older else { return };
        let kept = older.iter().position(|run| run.index <= last.index);
        if let Some(at) = kept {
            self.start = older[at].index;
        }
        let dropped = kept.map_or(OLDER_MAX, |at| at + 1);
        older.rotate_left(dropped);
        older[OLDER_MAX - dropped..].fill(NONE);
    }

    /// Gives back memory, at the price of asking storage again.
    pub(crate) fn shrink(&mut self) {
        self.older = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_terms_is_so_in_the_log() {
        // Logs grow, are cut, and are met again in the middle; what the boundaries say is compared with the log itself.
        let mut state = 5_u64;
        let mut draw = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let id = |log: &[u64], index: usize| EntryId::new(Term(log[index]), LogIndex(index as u64));
        let (mut log, mut term, mut known, mut asked) = (vec![0], 0, 0, 0);
        let mut terms = Terms::new(id(&log, 0));
        for _ in 0..5_000 {
            match draw(10) {
                0 => term += 1 + draw(2),
                1 => {
                    log.truncate(1 + draw(log.len() as u64) as usize);
                    terms.truncate(id(&log, log.len() - 1));
                }
                2 if draw(8) == 0 => terms.shrink(),
                3 if draw(8) == 0 => terms = Terms::new(id(&log, log.len() - 1)),
                _ => {
                    log.push(term);
                    terms.push(id(&log, log.len() - 1), id(&log, log.len() - 2));
                }
            }
            let last = id(&log, log.len() - 1);
            for index in log.len().saturating_sub(10)..log.len() {
                let answer = terms.term(LogIndex(index as u64), last);
                assert!(answer.is_none_or(|term| term.0 == log[index]), "{answer:?} at {index} of {log:?}");
                asked += 1;
                known += u64::from(answer.is_some());
            }
            assert_eq!(terms.term(last.index, last), Some(last.term));
        }
        assert!(known * 2 > asked, "{known} of {asked} were known");
    }
}
