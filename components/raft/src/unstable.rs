//! The end of the log that storage cannot answer for yet.

use crate::line::Line;
use crate::{Entries, Entry, Snapshot};
#[cfg(any(test, feature = "testing"))]
use std::hash::{Hash, Hasher};
use types::{LogIndex, Term};

/// How many entries, and how many bytes of them, are kept for applying although storage could answer for them. Beyond
/// that (commits do not come) they are read back.
const KEPT_ENTRIES_MAX: u64 = 256;
const KEPT_BYTES_MAX: u64 = 256 << 10;
/// For how many runs, and entries of our own making, room is kept.
const ROOM_MAX: usize = 128;
/// For how many entries of our own making room is made at first: a group that is woken for a proposal has one.
const ROOM_FIRST: usize = 2;

/// Entries (after possibly a snapshot) that are not yet known to be readable from storage, or wait to be applied.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Unstable {
    /// Not there when there never were any.
    runs: Option<Box<Runs>>,
    /// The index of the first entry; storage answers for everything before, unless there is a snapshot.
    offset: LogIndex,
    /// The index after the last entry.
    end: LogIndex,
    /// Handed out for writing up to here.
    ///
    /// Invariant: `stable <= handed < end`.
    handed: LogIndex,
    /// Storage could answer up to here.
    ///
    /// Invariant: `offset - 1 <= stable`.
    stable: LogIndex,
    /// Replaces everything that storage holds. Stands right before `offset`.
    snapshot: Option<Box<Restored>>,
}

/// Contiguous entries, in the pieces in which they came.
#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone))]
struct Runs {
    sealed: Line<Run, 2>,
    /// Our own, after all others; they become a run when they are first wanted.
    open: Vec<Entry>,
}

impl Runs {
    fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.sealed.iter().flat_map(|run| run.entries.iter()).chain(&self.open)
    }

    /// Which sealed run holds `index`, or comes after it.
    #[inline]
    fn place(&self, index: LogIndex) -> usize {
        self.sealed.partition_point(|run| run.last < index)
    }

    /// What is open becomes a run.
    fn seal(&mut self) {
        // One alone, which is most, goes the short way.
        let alone = if self.open.len() == 1 { self.open.pop() } else { None };
        self.sealed.push_back(Run::new(match alone {
            Some(entry) => Entries::one(entry),
            None => self.open.drain(..).collect(),
        }));
    }

    /// What a burst has grown must not stay with an idle group (tikv#19593).
    #[inline]
    fn forget_burst(&mut self) {
        self.sealed.forget_burst(ROOM_MAX);
        if self.open.is_empty() && self.open.capacity() > ROOM_MAX {
            self.open = Vec::new();
        }
    }
}

/// How they are cut into pieces is no part of what they are.
#[cfg(any(test, feature = "testing"))]
impl Hash for Runs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.iter().for_each(|entry| entry.hash(state));
    }
}

/// Entries that came together; at least one.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone))]
struct Run {
    entries: Entries,
    // What is asked again and again, at hand.
    first: LogIndex,
    last: LogIndex,
    bytes: u64,
}

impl Run {
    #[inline]
    fn new(entries: Entries) -> Self {
        let first = entries.first().expect("no run is empty").index;
        let (last, bytes) = (LogIndex(first.0 + entries.len() as u64 - 1), entries.size_bytes());
        Self { entries, first, last, bytes }
    }

    /// It is what stands in `low..high`, and weighs `bytes_max` at most.
    #[inline]
    fn is_whole(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> bool {
        self.first == low && self.last.next() == high && self.bytes <= bytes_max
    }

    /// Those of `low..high`, some of which are here.
    fn part(&self, low: LogIndex, high: LogIndex) -> Entries {
        let [start, end] = [low, high].map(|at| at.0.saturating_sub(self.first.0) as usize);
        self.entries.slice(start..end.min(self.entries.len()))
    }
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
        Self { runs: None, offset: last.next(), end: last.next(), handed: last, stable: last, snapshot: None }
    }

    #[inline]
    pub(crate) fn offset(&self) -> LogIndex {
        self.offset
    }

    #[inline]
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().map(|restored| &restored.snapshot)
    }

    /// The term of the entry at `index`, if it is here.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index < self.offset {
            let snapshot = self.snapshot().filter(|snapshot| snapshot.meta.index == index);
            return snapshot.map(|snapshot| snapshot.meta.term);
        }
        let runs = self.runs.as_ref().filter(|_| index < self.end)?;
        let entry = match runs.sealed.get(runs.place(index)) {
            Some(run) => &run.entries[(index.0 - run.first.0) as usize],
            None => &runs.open[(index.0 - runs.open.first()?.index.0) as usize],
        };
        Some(entry.term)
    }

    /// Where as many entries from `low` on end as weigh `bytes_max` at most, at least one, before `high`; and what they
    /// weigh. All of them are here.
    pub(crate) fn fitting(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> (LogIndex, u64) {
        let runs = self.runs.as_ref().expect("they are here");
        debug_assert!(
            runs.open.first().is_none_or(|open| high <= open.index),
            "{high} is beyond what is sealed"
        );
        let (mut stop, mut bytes) = (low, 0);
        for run in runs.sealed.range(runs.place(low)) {
            for entry in &run.entries[(stop.0 - run.first.0) as usize..] {
                let size = entry.size_bytes();
                if entry.index >= high || (bytes > 0 && bytes + size > bytes_max) {
                    return (stop, bytes);
                }
                bytes += size;
                stop = entry.index.next();
            }
        }
        (stop, bytes)
    }

    /// The run that came last, and where it begins, if it weighs `bytes_max` at most: what a leader has just proposed.
    #[inline]
    pub(crate) fn last_run(&self, bytes_max: u64) -> Option<(LogIndex, &Entries)> {
        let run = self.runs.as_ref()?.sealed.back()?;
        (run.bytes <= bytes_max && run.last.next() == self.end).then_some((run.first, &run.entries))
    }

    /// The entries of `low..high`, where they are the run that came first, and weigh `bytes_max` at most: what is committed
    /// as it came goes as it came. Storage answers for it.
    #[inline]
    pub(crate) fn take_first_run(
        &mut self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Option<Entries> {
        let runs = self.runs.as_mut().filter(|_| low == self.offset && high <= self.stable.next())?;
        if !runs.sealed.front()?.is_whole(low, high, bytes_max) {
            return None;
        }
        self.offset = high;
        let run = runs.sealed.pop_front();
        runs.forget_burst();
        run.map(|run| run.entries)
    }

    /// The entries of `low..stop`, all of which are here.
    pub(crate) fn entries(&self, low: LogIndex, stop: LogIndex) -> Entries {
        let Some(runs) = &self.runs else { return Entries::default() };
        let from = runs.place(low);
        let runs = runs.sealed.range(from).take_while(|run| run.first < stop);
        let mut parts = runs.map(|run| run.part(low, stop));
        let first = parts.next().unwrap_or_default();
        match parts.next() {
            None => first,
            // They came in several pieces, and are wanted in one.
            Some(second) => Entries::joined([first, second].into_iter().chain(parts)),
        }
    }

    /// The entries of `low..stop`, which are needed here no more once storage can answer for them.
    pub(crate) fn take(&mut self, low: LogIndex, stop: LogIndex) -> Entries {
        let entries = self.entries(low, stop);
        self.release(stop.prev());
        entries
    }

    /// Drops everything at and after `index`.
    pub(crate) fn truncate(&mut self, index: LogIndex) {
        if let Some(runs) = &mut self.runs {
            runs.open.retain(|entry| entry.index < index);
            while let Some(run) = runs.sealed.back_mut() {
                if run.first < index {
                    if run.last >= index {
                        *run = Run::new(run.part(run.first, index));
                    }
                    break;
                }
                runs.sealed.pop_back();
            }
        }
        self.offset = self.offset.min(index);
        self.end = self.end.min(index);
        self.handed = self.handed.min(index.prev());
        self.stable = self.stable.min(index.prev());
    }

    /// Appends an entry of our own.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert_eq!(entry.index, self.end, "entries are contiguous");
        self.end = entry.index.next();
        let open = &mut self.runs.get_or_insert_default().open;
        if open.capacity() == 0 {
            open.reserve_exact(ROOM_FIRST);
        }
        open.push(entry);
    }

    /// Appends what a leader sent, at least one entry.
    #[inline]
    pub(crate) fn append(&mut self, run: Entries) {
        let run = Run::new(run);
        debug_assert_eq!(run.first, self.end, "entries are contiguous");
        self.seal();
        self.end = run.last.next();
        self.runs.get_or_insert_default().sealed.push_back(run);
    }

    /// Our own entries become a run.
    #[inline]
    pub(crate) fn seal(&mut self) {
        if let Some(runs) = &mut self.runs
            && !runs.open.is_empty()
        {
            runs.seal();
        }
    }

    /// Replaces everything by `snapshot`.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        *self = Self::new(snapshot.meta.index);
        self.snapshot = Some(Box::new(Restored { snapshot, handed: false }));
    }

    #[inline]
    pub(crate) fn has_unhanded(&self) -> bool {
        self.handed.next() < self.end || self.snapshot.as_ref().is_some_and(|restored| !restored.handed)
    }

    /// The entries that are to be written and were not handed out before.
    #[inline]
    pub(crate) fn hand_out(&mut self) -> Entries {
        let from = self.handed.next();
        self.handed = self.end.prev();
        self.seal();
        let Some(runs) = self.runs.as_mut().filter(|_| from < self.end) else { return Entries::default() };
        if let Some(run) = runs.sealed.back().filter(|run| run.first == from) {
            return run.entries.clone();
        }
        let place = runs.place(from);
        if place + 1 < runs.sealed.len() {
            // Several came since the last write: from now on they are one.
            let several = runs.sealed.split_off(place);
            let joined = Entries::joined(several.into_iter().map(|run| run.entries));
            runs.sealed.push_back(Run::new(joined));
        }
        let run = runs.sealed.get(place).expect("what is not handed out is here");
        run.part(from, self.end)
    }

    /// The snapshot, if it is to be written and was not handed out before.
    #[inline]
    pub(crate) fn hand_out_snapshot(&mut self) -> Option<Snapshot> {
        let restored = self.snapshot.as_mut().filter(|restored| !restored.handed)?;
        restored.handed = true;
        Some(restored.snapshot.clone())
    }

    /// Storage could answer for everything up to `index` from now on. What is beyond `applying` is kept, for it will be
    /// wanted soon.
    #[inline]
    pub(crate) fn stable_to(&mut self, index: LogIndex, applying: LogIndex) {
        debug_assert!(
            index <= self.handed,
            "what is stable up to {index} was handed out only to {}",
            self.handed
        );
        self.stable = self.stable.max(index);
        self.release(applying);
        let kept = self.stable.0 + 1 - self.offset.0;
        if kept > 0 && (kept > KEPT_ENTRIES_MAX || self.stable_bytes() > KEPT_BYTES_MAX) {
            self.release(self.stable);
        }
    }

    /// What is kept although storage could answer for it. A run of which that is true in part counts as a whole.
    #[inline]
    fn stable_bytes(&self) -> u64 {
        let Some(runs) = &self.runs else { return 0 };
        if let (1, Some(run)) = (runs.sealed.len(), runs.sealed.front()) {
            return run.bytes;
        }
        let stable = runs.sealed.iter().take_while(|run| run.first <= self.stable);
        stable.map(|run| run.bytes).sum()
    }

    /// Everything up to `index` that storage can answer for is needed here no more.
    #[inline]
    pub(crate) fn release(&mut self, index: LogIndex) {
        let index = index.min(self.stable);
        if self.offset <= index {
            self.release_from_offset_to(index);
        }
    }

    fn release_from_offset_to(&mut self, index: LogIndex) {
        let Some(runs) = self.runs.as_mut() else { return };
        self.offset = index.next();
        while let Some(run) = runs.sealed.front_mut() {
            if run.last > index {
                if run.first <= index {
                    *run = Run::new(run.part(self.offset, run.last.next()));
                }
                break;
            }
            runs.sealed.pop_front();
        }
        runs.forget_burst();
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
        if self.offset == self.end {
            self.runs = None;
        }
    }

    /// What is wrong with this, given the index of the last entry.
    pub(crate) fn violation(&self, last: LogIndex) -> Option<String> {
        let entries = || self.runs.iter().flat_map(|runs| runs.iter());
        let (count, end) = (entries().count() as u64, self.end);
        if end != last.next() || end != self.offset + count {
            return Some(format!(
                "{count} entries from {}, end before {end}, the log at {last}",
                self.offset
            ));
        }
        if self.stable.0 + 1 < self.offset.0 || self.stable > self.handed {
            return Some(format!(
                "stable up to {}, from {}, handed out to {}",
                self.stable, self.offset, self.handed
            ));
        }
        if self.handed.0 + 1 < self.offset.0 || self.handed >= end {
            return Some(format!("handed out to {}, outside {}..{end}", self.handed, self.offset));
        }
        let bad = entries().enumerate().find(|(at, entry)| entry.index.0 != self.offset.0 + *at as u64);
        bad.map(|(at, entry)| format!("entry {} stands at place {at} after {}", entry.index, self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry { term: Term(term), index: LogIndex(index), ..Entry::default() }
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        // tikv#19593: the list was cleared but never shrunk, and kept 20 GB.
        let mut unstable = Unstable::new(LogIndex(0));
        (1..=1000).for_each(|index| unstable.push(entry(1, index)));
        unstable.hand_out();
        unstable.stable_to(LogIndex(1000), LogIndex(1000));
        let runs = unstable.runs.as_ref().expect("there were some");
        assert!(runs.open.capacity() + runs.sealed.room() <= 2 * ROOM_MAX);
        unstable.shrink();
        assert!(unstable.runs.is_none());
    }

    #[test]
    fn what_waits_to_be_applied_is_kept_within_bounds() {
        let mut unstable = Unstable::new(LogIndex(0));
        (1..=1000).for_each(|index| unstable.push(entry(1, index)));
        unstable.hand_out();
        unstable.stable_to(LogIndex(200), LogIndex(150));
        assert_eq!((unstable.offset, unstable.term(LogIndex(151))), (LogIndex(151), Some(Term(1))));
        let (stop, bytes) = unstable.fitting(LogIndex(151), LogIndex(201), 5 * 24);
        let page = unstable.take(LogIndex(151), stop);
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
        assert_eq!(unstable.hand_out().len(), 3);
        assert!(!unstable.has_unhanded());
        unstable.truncate(LogIndex(5));
        unstable.push(entry(2, 5));
        assert_eq!(*unstable.hand_out(), [entry(2, 5)]);
        // A conflict may reach into what storage has already.
        unstable.stable_to(LogIndex(5), LogIndex(4));
        unstable.truncate(LogIndex(3));
        unstable.push(entry(3, 3));
        assert_eq!(*unstable.hand_out(), [entry(3, 3)]);
        assert_eq!(unstable.violation(LogIndex(3)), None);
    }
}
