//! The end of the log that storage cannot answer for yet.

use crate::{Entry, Snapshot};
use std::collections::VecDeque;
use types::{LogIndex, Term};

/// How many entries, and how many bytes of them, are kept for applying although storage could answer for them. Beyond
/// that (commits do not come) they are read back.
const KEPT_ENTRIES_MAX: usize = 256;
const KEPT_BYTES_MAX: u64 = 256 << 10;

/// Entries (after possibly a snapshot) that are not yet known to be readable from storage, or wait to be applied.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Unstable {
    /// Contiguous from `offset`.
    entries: VecDeque<Entry>,
    /// The index of the first entry; storage answers for everything before, unless there is a snapshot.
    offset: LogIndex,
    /// Handed out for writing up to here.
    ///
    /// Invariant: `stable <= handed <= last`.
    handed: LogIndex,
    /// Storage could answer up to here.
    ///
    /// Invariant: `offset - 1 <= stable`.
    stable: LogIndex,
    /// Replaces everything that storage holds. Stands right before `offset`.
    snapshot: Option<Box<Restored>>,
}

/// A snapshot on its way to storage.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
struct Restored {
    snapshot: Snapshot,
    /// It was handed out for writing.
    handed: bool,
}

impl Unstable {
    /// Nothing, after `last` in storage.
    pub(crate) fn new(last: LogIndex) -> Self {
        Self { entries: VecDeque::new(), offset: last.next(), handed: last, stable: last, snapshot: None }
    }

    pub(crate) fn offset(&self) -> LogIndex {
        self.offset
    }

    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().map(|restored| &restored.snapshot)
    }

    /// The term of the entry at `index`, if it is here.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index >= self.offset {
            return self.entries.get((index.0 - self.offset.0) as usize).map(|entry| entry.term);
        }
        self.snapshot().filter(|snapshot| snapshot.meta.index == index).map(|snapshot| snapshot.meta.term)
    }

    /// The entries from `low` (at or after `offset`) to before `high`.
    pub(crate) fn range(&self, low: LogIndex, high: LogIndex) -> impl Iterator<Item = &Entry> {
        self.entries.range((low.0 - self.offset.0) as usize..(high.0 - self.offset.0) as usize)
    }

    /// Drops everything at and after `index`.
    pub(crate) fn truncate(&mut self, index: LogIndex) {
        if index <= self.offset {
            self.entries.clear();
            self.offset = index;
        } else {
            self.entries.truncate((index.0 - self.offset.0) as usize);
        }
        self.handed = self.handed.min(index.prev());
        self.stable = self.stable.min(index.prev());
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert_eq!(entry.index.0, self.offset.0 + self.entries.len() as u64, "entries are contiguous");
        self.entries.push_back(entry);
    }

    /// Replaces everything by `snapshot`.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        *self = Self::new(snapshot.meta.index);
        self.snapshot = Some(Box::new(Restored { snapshot, handed: false }));
    }

    pub(crate) fn has_unhanded(&self) -> bool {
        self.handed.0 + 1 < self.offset.0 + self.entries.len() as u64
            || self.snapshot.as_ref().is_some_and(|restored| !restored.handed)
    }

    /// Puts the entries that are to be written and were not handed out before into `entries`.
    pub(crate) fn hand_out(&mut self, entries: &mut Vec<Entry>) {
        let from = (self.handed.0 + 1 - self.offset.0) as usize;
        entries.extend(self.entries.range(from..).cloned());
        self.handed = LogIndex(self.offset.0 + self.entries.len() as u64 - 1);
    }

    /// The snapshot, if it is to be written and was not handed out before.
    pub(crate) fn hand_out_snapshot(&mut self) -> Option<Snapshot> {
        let restored = self.snapshot.as_mut().filter(|restored| !restored.handed)?;
        restored.handed = true;
        Some(restored.snapshot.clone())
    }

    /// Storage could answer for everything up to `index` from now on. What is beyond `applying` is kept, for it will be
    /// wanted soon.
    pub(crate) fn stable_to(&mut self, index: LogIndex, applying: LogIndex) {
        debug_assert!(
            index <= self.handed,
            "what is stable up to {index} was handed out only to {}",
            self.handed
        );
        self.stable = self.stable.max(index);
        self.release(applying);
        let kept = (self.stable.0 + 1 - self.offset.0) as usize;
        let bytes = || self.entries.range(..kept).map(Entry::size_bytes).sum::<u64>();
        if kept > KEPT_ENTRIES_MAX || bytes() > KEPT_BYTES_MAX {
            self.release(self.stable);
        }
    }

    /// Everything up to `index` that storage can answer for is needed here no more.
    pub(crate) fn release(&mut self, index: LogIndex) {
        let index = index.min(self.stable);
        if index < self.offset {
            return;
        }
        self.entries.drain(..=(index.0 - self.offset.0) as usize);
        self.offset = index.next();
        self.forget_burst();
    }

    /// Moves entries before `high` to `out`, from the first on, at most about `bytes_max` of them, at least one; returns
    /// their bytes. Storage can answer for them.
    pub(crate) fn take_page(&mut self, high: LogIndex, bytes_max: u64, out: &mut Vec<Entry>) -> u64 {
        debug_assert!(high <= self.stable.next(), "a page to {high}, stable up to {}", self.stable);
        let room = (high.0 - self.offset.0) as usize;
        let (mut count, mut bytes) = (0, 0);
        for entry in self.entries.range(..room) {
            let size = entry.size_bytes();
            if bytes + size > bytes_max && count > 0 {
                break;
            }
            bytes += size;
            count += 1;
        }
        out.extend(self.entries.drain(..count));
        self.offset = self.offset + count as u64;
        self.forget_burst();
        bytes
    }

    /// What a burst has grown must not stay with an idle group (tikv#19593).
    fn forget_burst(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > 128 {
            self.entries = VecDeque::new();
        }
    }

    /// Storage answers for the snapshot at `index` from now on.
    pub(crate) fn snapshot_stable(&mut self, index: LogIndex) {
        let done = |restored: &Restored| restored.handed && restored.snapshot.meta.index == index;
        if self.snapshot.as_deref().is_some_and(done) {
            self.snapshot = None;
        }
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// What is wrong with this, given the index of the last entry.
    pub(crate) fn violation(&self, last: LogIndex) -> Option<String> {
        let end = self.offset.0 + self.entries.len() as u64;
        if end != last.0 + 1 {
            return Some(format!("unstable entries end before {end}, the log at {last}"));
        }
        if self.stable.0 + 1 < self.offset.0 || self.stable > self.handed {
            return Some(format!(
                "stable up to {}, from {}, handed out to {}",
                self.stable, self.offset, self.handed
            ));
        }
        if self.handed.0 + 1 < self.offset.0 || self.handed.0 >= end {
            return Some(format!("handed out to {}, outside {}..{end}", self.handed, self.offset));
        }
        let bad =
            self.entries.iter().enumerate().find(|(at, entry)| entry.index.0 != self.offset.0 + *at as u64);
        bad.map(|(at, entry)| format!("entry {} stands at place {at} after {}", entry.index, self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry { term: Term(term), index: LogIndex(index), ..Entry::default() }
    }

    fn handed_out(unstable: &mut Unstable) -> Vec<Entry> {
        let mut entries = Vec::new();
        unstable.hand_out(&mut entries);
        entries
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        // tikv#19593: the list was cleared but never shrunk, and kept 20 GB.
        let mut unstable = Unstable::new(LogIndex(0));
        (1..=1000).for_each(|index| unstable.push(entry(1, index)));
        unstable.hand_out(&mut Vec::new());
        unstable.stable_to(LogIndex(1000), LogIndex(1000));
        assert_eq!(unstable.entries.capacity(), 0);
    }

    #[test]
    fn what_waits_to_be_applied_is_kept_within_bounds() {
        let mut unstable = Unstable::new(LogIndex(0));
        (1..=1000).for_each(|index| unstable.push(entry(1, index)));
        unstable.hand_out(&mut Vec::new());
        unstable.stable_to(LogIndex(200), LogIndex(150));
        assert_eq!((unstable.offset, unstable.term(LogIndex(151))), (LogIndex(151), Some(Term(1))));
        let mut page = Vec::new();
        let bytes = unstable.take_page(LogIndex(201), 5 * 24, &mut page);
        assert_eq!(
            (bytes, page.len(), page[0].index, unstable.offset),
            (5 * 24, 5, LogIndex(151), LogIndex(156))
        );
        // Commits do not come: storage has them all, and that is enough.
        unstable.stable_to(LogIndex(500), LogIndex(155));
        assert_eq!((unstable.offset, unstable.violation(LogIndex(1000))), (LogIndex(501), None));
    }

    #[test]
    fn what_is_overwritten_is_handed_out_again() {
        let mut unstable = Unstable::new(LogIndex(3));
        (4..=6).for_each(|index| unstable.push(entry(1, index)));
        assert_eq!(handed_out(&mut unstable).len(), 3);
        assert!(!unstable.has_unhanded());
        unstable.truncate(LogIndex(5));
        unstable.push(entry(2, 5));
        assert_eq!(handed_out(&mut unstable), [entry(2, 5)]);
        // A conflict may reach into what storage has already.
        unstable.stable_to(LogIndex(5), LogIndex(4));
        unstable.truncate(LogIndex(3));
        unstable.push(entry(3, 3));
        assert_eq!(handed_out(&mut unstable), [entry(3, 3)]);
        assert_eq!(unstable.violation(LogIndex(3)), None);
    }
}
