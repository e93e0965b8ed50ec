//! The log of one peer: what storage holds, what is on its way there, and how far each of its marks has come.
//!
//! ```text
//!  first ──── applied ──── applying ──── committed ──── last
//!                               └─ min(committed, persisted)
//! ```
//!
//! Durability is tracked by write, not by position: an entry may be overwritten, and overwritten back, while the write
//! of the first is still under way. Each outstanding write remembers up to which index the log is still as it wrote it.

use crate::bugs::{Bugs, SeededBug};
use crate::error::Poison;
use crate::slice::LogSlice;
use crate::terms::Terms;
use crate::underway::{NOTHING_UNDERWAY, Underway, Write};
use crate::unstable::Unstable;
use crate::{
    Entries, Entry, EntryId, EntryKind, FetchContext, LogMark, PersistToken, Snapshot, Storage, StorageError,
};
use types::{LogIndex, PeerId, Term};

/// How many bytes of the log are read at once when it is scanned for changes of members at the start.
const SCAN_PAGE_BYTES: u64 = 1 << 20;

/// What became of a leader's append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Appended {
    /// The log agrees with the leader's up to here.
    Agrees(LogIndex),
    /// We do not hold what must stand before; the logs agree at this position at the latest.
    Conflict(EntryId),
}

#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct RaftLog<S> {
    storage: S,
    unstable: Unstable,
    /// The last entry (or what a snapshot stands for).
    last: EntryId,
    committed: LogIndex,
    /// Durable up to here.
    persisted: LogIndex,
    /// Handed out for applying up to here.
    applying: LogIndex,
    /// Applied up to here, as far as we were told.
    applied: LogIndex,
    /// No entry is handed out for applying before this index is applied: there stands a snapshot being installed.
    installing: LogIndex,
    /// The term of the last leader whose entries we took.
    accepted_term: Term,
    terms: Terms,
    writes_handed: u64,
    /// Not there when nothing is.
    underway: Option<Box<Underway>>,
    /// What is broken on purpose.
    pub(crate) bugs: Bugs,
}

impl<S: Storage> RaftLog<S> {
    /// The log that `storage` holds, applied to `applied`, whose hard state says `committed` in `term`.
    pub(crate) fn open(
        storage: S,
        committed: LogIndex,
        applied: LogIndex,
        term: Term,
    ) -> Result<Self, crate::Error> {
        let (first, last) = (storage.first_index(), storage.last_index());
        let poison = |reason: String| crate::Error::Poisoned { reason };
        if last.next() < first || first.is_zero() {
            return Err(poison(format!("storage holds {first}..={last}")));
        }
        // The hard state may lag behind what was applied: a commit index alone is not written.
        let committed = committed.max(applied).max(first.prev());
        if committed > last {
            return Err(poison(format!("committed up to {committed}, but the log ends at {last}")));
        }
        if applied < first.prev() {
            return Err(poison(format!("applied up to {applied}, but the log begins at {first}")));
        }
        let last_term = storage.term(last).map_err(crate::Error::Storage)?;
        if last_term > term {
            return Err(poison(format!("the last entry is of term {last_term}, the hard state of {term}")));
        }
        let last_id = EntryId::new(last_term, last);
        let mut log = Self {
            storage,
            unstable: Unstable::new(last),
            last: last_id,
            terms: Terms::new(last_id),
            committed,
            persisted: last,
            applying: applied,
            applied,
            installing: LogIndex::ZERO,
            accepted_term: last_term,
            writes_handed: 0,
            underway: None,
            bugs: Bugs::default(),
        };
        log.scan(term).map_err(crate::Error::Storage)?;
        Ok(log)
    }

    /// Notes the changes of members after `applied`, and where terms begin, so that nobody has to look for them later.
    fn scan(&mut self, term: Term) -> Result<(), StorageError> {
        let context = FetchContext { to: PeerId::ZERO, term };
        let (mut low, end) = (self.applied.next(), self.last.index.next());
        let (mut page, mut before) = (Vec::new(), None);
        while low < end {
            page.clear();
            self.storage.entries(low, end, SCAN_PAGE_BYTES, context, &mut page)?;
            let Some(last) = page.last() else { return Err(StorageError::Unavailable) };
            low = last.index.next();
            for entry in &page {
                match before {
                    None => self.terms = Terms::new(entry.id()),
                    Some(before) => self.terms.push(entry.id(), before),
                }
                before = Some(entry.id());
                if entry.kind == EntryKind::ConfChange {
                    self.underway.get_or_insert_default().conf_entries.push(entry.index);
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn underway(&self) -> &Underway {
        self.underway.as_deref().unwrap_or(&NOTHING_UNDERWAY)
    }

    pub(crate) fn storage(&self) -> &S {
        &self.storage
    }

    pub(crate) fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    pub(crate) fn committed(&self) -> LogIndex {
        self.committed
    }

    pub(crate) fn persisted(&self) -> LogIndex {
        self.persisted
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applied
    }

    pub(crate) fn applying(&self) -> LogIndex {
        self.applying
    }

    /// Where the snapshot stands that was accepted and is not yet installed.
    pub(crate) fn installing(&self) -> Option<LogIndex> {
        self.is_installing().then_some(self.installing)
    }

    /// The changes of members after what is applied.
    pub(crate) fn conf_entries(&self) -> &[LogIndex] {
        &self.underway().conf_entries
    }

    pub(crate) fn writes_outstanding(&self) -> usize {
        self.underway().writes.len()
    }

    pub(crate) fn applying_bytes(&self) -> u64 {
        self.underway().page_bytes
    }

    /// Entries are out for applying.
    pub(crate) fn is_applying(&self) -> bool {
        self.applied < self.applying
    }

    /// A snapshot was accepted and is not yet durable, or not yet installed.
    pub(crate) fn is_installing(&self) -> bool {
        self.applied < self.installing
    }

    /// The first index that is held.
    pub(crate) fn first_index(&self) -> LogIndex {
        match self.unstable.snapshot() {
            Some(snapshot) => snapshot.meta.index.next(),
            None => self.storage.first_index(),
        }
    }

    /// The term of the entry at `index`.
    #[inline]
    pub(crate) fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index > self.last.index {
            return Err(StorageError::Unavailable);
        }
        match self.terms.term(index, self.last) {
            Some(term) => Ok(term),
            None => self.term_of_older(index),
        }
    }

    fn term_of_older(&self, index: LogIndex) -> Result<Term, StorageError> {
        if let Some(term) = self.unstable.term(index) {
            return Ok(term);
        }
        if self.unstable.snapshot().is_some() {
            return Err(StorageError::Compacted);
        }
        self.storage.term(index)
    }

    /// The entry at `id.index` is known to be of `id.term`.
    ///
    /// A position that was compacted away agrees with nothing.
    pub(crate) fn holds(&self, id: EntryId) -> Result<bool, Poison> {
        match self.term(id.index) {
            Ok(term) => Ok(term == id.term),
            Err(StorageError::Compacted | StorageError::Unavailable) => Ok(false),
            Err(error) => Err(Poison::storage("term", id.index, &error)),
        }
    }

    /// The last committed entry. Its term is zero when it can no longer be told.
    pub(crate) fn committed_id(&self) -> EntryId {
        EntryId::new(self.term(self.committed).unwrap_or(Term::ZERO), self.committed)
    }

    /// The entries of `low..high`, at most about `bytes_max` of them, at least one. Of our own, those are there that were
    /// [sealed](Self::seal).
    pub(crate) fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        context: FetchContext,
    ) -> Result<Entries, StorageError> {
        if low >= high {
            return Ok(Entries::default());
        }
        if low < self.first_index() {
            return Err(StorageError::Compacted);
        }
        let offset = self.unstable.offset();
        if low >= offset {
            let (stop, _) = self.unstable.fitting(low, high, bytes_max);
            return Ok(self.unstable.entries(low, stop));
        }
        let (mut stored, stop) = (Vec::new(), high.min(offset));
        self.storage.entries(low, stop, bytes_max, context, &mut stored)?;
        let Some(last) = stored.last() else { return Err(StorageError::Unavailable) };
        let bytes: u64 = stored.iter().map(Entry::size_bytes).sum();
        if last.index.next() == stop && stop < high && bytes < bytes_max {
            let (end, more) = self.unstable.fitting(stop, high, bytes_max - bytes);
            if bytes + more <= bytes_max {
                stored.extend_from_slice(&self.unstable.entries(stop, end));
            }
        }
        Ok(stored.into())
    }

    /// The run that came last, and what stands before it, if it weighs `bytes_max` at most: what has just been proposed.
    #[inline]
    pub(crate) fn last_run(&self, bytes_max: u64) -> Option<(EntryId, &Entries)> {
        let (first, run) = self.unstable.last_run(bytes_max)?;
        Some((EntryId::new(self.term(first.prev()).ok()?, first.prev()), run))
    }

    /// What was proposed up to now can be read.
    #[inline]
    pub(crate) fn seal(&mut self) {
        self.unstable.seal();
    }

    /// Of the positions at or before `index`, the last whose term does not exceed `term`: where a log with an entry of
    /// `term` at `index` may agree with ours. The term is zero where ours is compacted.
    ///
    /// Terms do not fall along a log, so it is looked for by halving: a long tail is not read entry by entry.
    pub(crate) fn agreement_hint(&self, index: LogIndex, term: Term) -> Result<EntryId, Poison> {
        // All after `high` are of a later term; all up to `low` are of none, or compacted.
        let (mut low, mut high) = (self.first_index().prev(), index.min(self.last.index));
        while low < high {
            let middle = LogIndex(low.0 + (high.0 - low.0).div_ceil(2));
            match self.term(middle) {
                Ok(ours) if ours <= term => low = middle,
                Ok(_) => high = middle.prev(),
                // Compacted meanwhile.
                Err(StorageError::Compacted | StorageError::Unavailable) => low = middle,
                Err(error) => return Err(Poison::storage("term", middle, &error)),
            }
        }
        match self.term(high) {
            Ok(ours) if ours <= term || high.is_zero() => Ok(EntryId::new(ours, high)),
            Ok(_) => Ok(EntryId::new(Term::ZERO, high.prev())),
            Err(StorageError::Compacted | StorageError::Unavailable) => Ok(EntryId::new(Term::ZERO, high)),
            Err(error) => Err(Poison::storage("term", high, &error)),
        }
    }

    /// Appends an entry of our own making as leader.
    pub(crate) fn append_own(&mut self, entry: Entry) {
        debug_assert_eq!(entry.index, self.last.index.next(), "a leader only appends");
        self.accepted_term = entry.term;
        self.push(entry);
    }

    fn push(&mut self, entry: Entry) {
        self.note(&entry);
        self.unstable.push(entry);
    }

    /// `entry` is the last one from now on.
    fn note(&mut self, entry: &Entry) {
        if entry.kind == EntryKind::ConfChange {
            self.underway.get_or_insert_default().conf_entries.push(entry.index);
        }
        self.terms.push(entry.id(), self.last);
        self.last = entry.id();
    }

    /// Takes over what a leader sent of its log, dropping what conflicts. An overtaken or repeated append changes nothing,
    /// however short it is (thesis §3.5).
    #[inline]
    pub(crate) fn append_from_leader(&mut self, slice: LogSlice) -> Result<Appended, Poison> {
        if slice.prev() != self.last {
            return self.merge_from_leader(slice);
        }
        // Mostly all is new and follows what we have, and there is nothing to compare with.
        let agrees = slice.last().index;
        self.accepted_term = slice.term();
        self.take_over(slice.into_entries());
        Ok(Appended::Agrees(agrees))
    }

    /// These follow the last.
    #[inline]
    fn take_over(&mut self, entries: Entries) {
        if !entries.is_empty() {
            entries.iter().for_each(|entry| self.note(entry));
            self.unstable.append(entries);
        }
    }

    fn merge_from_leader(&mut self, slice: LogSlice) -> Result<Appended, Poison> {
        let (term, prev) = (slice.term(), slice.prev());
        if prev.index < self.committed {
            // What is committed is the same everywhere; the leader goes on from there.
            return Ok(Appended::Agrees(self.committed));
        }
        let unchecked = self.bugs.has(SeededBug::AppendWithoutLogMatch) && prev.index <= self.last.index;
        if !unchecked && !self.holds(prev)? {
            return self.agreement_hint(prev.index, prev.term).map(Appended::Conflict);
        }
        let agrees = slice.last().index;
        if self.bugs.has(SeededBug::OvertakenAppendTruncates) && agrees < self.last.index {
            self.truncate(agrees.max(self.committed).next())?;
        }
        let mut entries = slice.into_entries();
        let mut known = 0;
        for entry in entries.iter().take_while(|entry| entry.index <= self.last.index) {
            let ours =
                self.term(entry.index).map_err(|error| Poison::storage("term", entry.index, &error))?;
            if ours != entry.term {
                if entry.index <= self.committed {
                    return Err(Poison::conflict("committed entries differ", entry.index, ours, entry.term));
                }
                self.truncate(entry.index)?;
                break;
            }
            known += 1;
        }
        entries.skip(known);
        self.accepted_term = term;
        self.take_over(entries);
        Ok(Appended::Agrees(agrees))
    }

    /// Drops everything at and after `index`, which is not committed.
    fn truncate(&mut self, index: LogIndex) -> Result<(), Poison> {
        assert!(
            index > self.committed,
            "INV-RAFT-3: truncating at {index}, committed up to {}",
            self.committed
        );
        let before = index.prev();
        let term = self.term(before).map_err(|error| Poison::storage("term", before, &error))?;
        self.unstable.truncate(index);
        self.last = EntryId::new(term, before);
        self.terms.truncate(self.last);
        if let Some(underway) = &mut self.underway {
            underway.conf_entries.retain(|&at| at < index);
        }
        self.overwritten_after(before);
        Ok(())
    }

    /// What follows `index` is no longer as any write left it.
    fn overwritten_after(&mut self, index: LogIndex) {
        self.persisted = self.persisted.min(index);
        if self.bugs.has(SeededBug::OverwrittenWriteCounts) {
            return;
        }
        for write in self.underway.iter_mut().flat_map(|underway| underway.writes.iter_mut()) {
            write.valid_to = write.valid_to.min(index);
        }
    }

    /// Replaces the whole log by `snapshot`, which is ahead of what is committed.
    pub(crate) fn restore(&mut self, term: Term, snapshot: Snapshot) {
        let at = EntryId::new(snapshot.meta.term, snapshot.meta.index);
        assert!(at.index > self.committed, "snapshot at {}, committed up to {}", at.index, self.committed);
        self.overwritten_after(self.committed);
        self.unstable.restore(snapshot);
        if let Some(underway) = &mut self.underway {
            underway.conf_entries.clear();
        }
        self.accepted_term = term;
        self.last = at;
        self.terms = Terms::new(at);
        self.committed = at.index;
        self.applying = at.index;
        self.installing = at.index;
    }

    /// Everything up to `index` is committed.
    #[inline]
    pub(crate) fn commit_to(&mut self, index: LogIndex) -> Result<(), Poison> {
        if index <= self.committed {
            return Ok(());
        }
        if index > self.last.index {
            // We acknowledged these entries once and hold them no longer: our disk has lost part of the log
            // (etcd-io/raft#25).
            return Err(self.lost_acknowledged(index));
        }
        self.committed = index;
        Ok(())
    }

    #[cold]
    fn lost_acknowledged(&self, committed: LogIndex) -> Poison {
        let last = self.last.index;
        Poison::new(format!("the leader committed {committed} with our word, but our log ends at {last}"))
    }

    /// A change of members is committed and not applied.
    pub(crate) fn has_unapplied_conf_change(&self) -> bool {
        self.conf_entries().first().is_some_and(|&at| at <= self.committed)
    }

    /// There is a change of members after what is applied, committed or not.
    pub(crate) fn has_conf_entry(&self) -> bool {
        !self.conf_entries().is_empty()
    }

    // ---- writing ----

    #[inline]
    pub(crate) fn has_unwritten(&self) -> bool {
        self.unstable.has_unhanded()
    }

    /// The snapshot that must be written before anything else.
    #[inline]
    pub(crate) fn hand_out_snapshot(&mut self) -> Option<Snapshot> {
        self.unstable.hand_out_snapshot()
    }

    /// What must be written next, after the snapshot at `snapshot` if there is one, and the name of that write.
    #[inline]
    pub(crate) fn hand_out_write(
        &mut self,
        term: Term,
        snapshot: Option<LogIndex>,
    ) -> (Entries, PersistToken) {
        let entries = self.unstable.hand_out();
        self.writes_handed += 1;
        let mark = LogMark { accepted_term: self.accepted_term, index: self.last.index };
        let token = PersistToken { seq: self.writes_handed, mark };
        self.underway.get_or_insert_default().writes.push_back(Write {
            token,
            term,
            valid_to: mark.index,
            snapshot,
        });
        (entries, token)
    }

    /// Writes up to `token` can be read from storage.
    pub(crate) fn on_stable(&mut self, token: PersistToken) {
        self.check_seq(token);
        let (mut stable, mut snapshot) = (LogIndex::ZERO, None);
        for write in self.underway().writes.iter().take_while(|write| write.token.seq <= token.seq) {
            write.check(token);
            stable = stable.max(write.valid_to);
            snapshot = write.snapshot.or(snapshot);
        }
        self.stable_to(stable, snapshot);
    }

    /// Up to `stable` all can be read from storage, as can the snapshot at `snapshot`.
    #[inline]
    fn stable_to(&mut self, stable: LogIndex, snapshot: Option<LogIndex>) {
        if let Some(index) = snapshot {
            self.unstable.snapshot_stable(index);
        }
        self.unstable.stable_to(stable, self.applying);
    }

    /// Writes up to `token` are durable. Returns the term that is durable with them, unless that is old news.
    #[inline]
    pub(crate) fn on_persist(&mut self, token: PersistToken) -> Option<Term> {
        self.check_seq(token);
        let underway = self.underway.as_mut()?;
        let (mut durable, mut snapshot, mut term) = (LogIndex::ZERO, None, None);
        while let Some(write) = underway.writes.front()
            && write.token.seq <= token.seq
        {
            write.check(token);
            durable = durable.max(write.valid_to);
            snapshot = write.snapshot.or(snapshot);
            term = Some(write.term);
            underway.writes.pop_front();
        }
        self.persisted = self.persisted.max(durable);
        self.stable_to(durable, snapshot);
        term
    }

    #[inline]
    fn check_seq(&self, token: PersistToken) {
        assert!(
            token.seq <= self.writes_handed,
            "INV-RAFT-13: write {} is reported done, but only {} were handed out",
            token.seq,
            self.writes_handed
        );
    }

    // ---- applying ----

    /// Entries may be handed out for applying up to here.
    #[inline]
    fn may_apply_to(&self) -> LogIndex {
        self.committed.min(self.persisted)
    }

    #[inline]
    pub(crate) fn has_page(&self, bytes_max: u64) -> bool {
        self.applying < self.may_apply_to()
            && !self.is_installing()
            && !self.underway().page_fetching
            && self.underway().page_bytes < bytes_max
    }

    /// The next entries to apply; there [are](Self::has_page) some. The limit counts what is still out for applying, too.
    #[inline]
    pub(crate) fn next_page(&mut self, bytes_max: u64, term: Term) -> Result<Entries, Poison> {
        let (low, high) = (self.applying.next(), self.may_apply_to().next());
        let bytes_max = bytes_max - self.underway().page_bytes;
        // The common case: what has just been committed is still here, and goes as it came.
        if let Some(run) = self.unstable.take_first_run(low, high, bytes_max) {
            self.hand_out_page(high.prev(), &run);
            return Ok(run);
        }
        self.gather_page(low, high, bytes_max, term)
    }

    /// The next page, wherever its entries are.
    fn gather_page(
        &mut self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        term: Term,
    ) -> Result<Entries, Poison> {
        let page = if self.unstable.offset() <= low {
            let (stop, _) = self.unstable.fitting(low, high, bytes_max);
            self.unstable.take(low, stop)
        } else {
            let context = FetchContext { to: PeerId::ZERO, term };
            match self.entries(low, high, bytes_max, context) {
                Ok(read) => {
                    self.unstable.release(read.last().map_or(LogIndex::ZERO, |last| last.index));
                    read
                }
                Err(StorageError::LogTemporarilyUnavailable) => {
                    self.underway.get_or_insert_default().page_fetching = true;
                    return Ok(Entries::default());
                }
                Err(error) => return Err(Poison::storage("entries to apply", low, &error)),
            }
        };
        let Some(last) = page.last() else {
            return Err(Poison::storage("entries to apply", low, &StorageError::Unavailable));
        };
        if page[0].index != low || last.index >= high || last.index.0 - low.0 + 1 != page.len() as u64 {
            return Err(Poison::new(format!(
                "storage gave {} entries {}..={} for {low}..{high}",
                page.len(),
                page[0].index,
                last.index
            )));
        }
        self.hand_out_page(last.index, &page);
        Ok(page)
    }

    /// `page`, which ends with `last`, is handed out for applying.
    #[inline]
    fn hand_out_page(&mut self, last: LogIndex, page: &Entries) {
        self.applying = last;
        let underway = self.underway.get_or_insert_default();
        underway.pages.push_back((last, page.size_bytes()));
        underway.page_bytes += page.size_bytes();
    }

    pub(crate) fn on_page_fetched(&mut self) {
        if let Some(underway) = &mut self.underway {
            underway.page_fetching = false;
        }
    }

    /// Applied up to `index`.
    #[inline]
    pub(crate) fn on_applied(&mut self, index: LogIndex) {
        assert!(
            index <= self.applying && index <= self.persisted,
            "applied up to {index}, but handed out to {} and durable to {}",
            self.applying,
            self.persisted
        );
        if index <= self.applied {
            return;
        }
        self.applied = index;
        let Some(underway) = &mut self.underway else { return };
        if !underway.conf_entries.is_empty() {
            underway.conf_entries.retain(|&at| at > index);
        }
        while let Some(&(last, bytes)) = underway.pages.front()
            && last <= index
        {
            underway.pages.pop_front();
            underway.page_bytes -= bytes;
        }
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.unstable.shrink();
        self.terms.shrink();
        let underway = self.underway();
        let idle = underway.writes.is_empty() && underway.pages.is_empty() && !underway.page_fetching;
        if idle && underway.conf_entries.is_empty() {
            self.underway = None;
        }
    }

    /// See [`RawNode::forget_counts`](crate::RawNode::forget_counts).
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn forget_counts(&mut self) {
        assert_eq!(self.writes_outstanding(), 0, "writes are under way");
        self.writes_handed = 0;
    }

    /// What is wrong with this.
    pub(crate) fn violation(&self) -> Option<String> {
        let last = self.last.index;
        if !(self.applied <= self.applying && self.applying <= self.committed && self.committed <= last) {
            return Some(format!(
                "INV-RAFT-6, INV-RAFT-7: applied {} <= applying {} <= committed {} <= last {last}",
                self.applied, self.applying, self.committed
            ));
        }
        if self.applied > self.persisted || self.persisted > last {
            return Some(format!(
                "INV-RAFT-7, INV-RAFT-8: applied {} <= persisted {} <= last {last}",
                self.applied, self.persisted
            ));
        }
        if self.applying > self.persisted && !self.is_installing() {
            return Some(format!(
                "INV-RAFT-7: handed out to {}, durable to {}",
                self.applying, self.persisted
            ));
        }
        if self.first_index() > self.applied.next() && !self.is_installing() {
            return Some(format!(
                "INV-LOG-2: the log begins at {}, applied {}",
                self.first_index(),
                self.applied
            ));
        }
        let Underway { writes, pages, page_bytes, conf_entries, .. } = self.underway();
        if writes.iter().zip(writes.iter().skip(1)).any(|(a, b)| a.valid_to > b.valid_to) {
            return Some(format!("INV-RAFT-13: writes overtake each other: {writes:?}"));
        }
        if conf_entries.iter().any(|&at| at <= self.applied || at > last) {
            return Some(format!("changes of members at {conf_entries:?}, applied {}", self.applied));
        }
        if pages.iter().map(|&(_, bytes)| bytes).sum::<u64>() != *page_bytes {
            return Some(format!("pages {pages:?} do not weigh {page_bytes}"));
        }
        self.unstable.violation(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HardState, MemStorage};
    use bytes::Bytes;

    /// A log of these terms from index 1 on, compacted up to `base`; what follows `stored` is not in storage yet.
    fn log(terms: &[u64], base: u64, stored: usize) -> RaftLog<MemStorage> {
        let entry = |(index, &term): (u64, &u64)| Entry {
            term: Term(term),
            index: LogIndex(index),
            ..Entry::default()
        };
        let entries: Vec<_> = (1..).zip(terms).map(entry).collect();
        let mut storage = MemStorage::with_voters(3);
        storage.append(&entries[..stored]);
        storage.set_hard_state(HardState { term: Term(9), ..HardState::default() });
        storage.compact(LogIndex(base), Bytes::new());
        let applied = LogIndex(base);
        let mut log = RaftLog::open(storage, applied, applied, Term(9)).expect("a sound storage");
        entries[stored..].iter().for_each(|entry| log.append_own(entry.clone()));
        log
    }

    #[test]
    fn terms_of_a_few_elections_are_known_without_asking_storage() {
        let mut log = log(&[1, 1, 2, 4, 4, 5], 0, 0);
        let (_, token) = log.hand_out_write(Term(5), None);
        log.on_persist(token);
        log.commit_to(LogIndex(6)).expect("it is there");
        assert!(log.has_page(u64::MAX));
        log.next_page(u64::MAX, Term(5)).expect("it is there");
        // Nobody has written them to storage, so it could not tell.
        assert_eq!(log.unstable.offset(), LogIndex(7));
        let terms: Vec<_> = (1..=6).map(|index| log.term(LogIndex(index)).expect("known").0).collect();
        assert_eq!(terms, [1, 1, 2, 4, 4, 5]);
        assert_eq!(log.agreement_hint(LogIndex(6), Term(3)), Ok(EntryId::new(Term(2), LogIndex(3))));
    }

    #[test]
    fn where_logs_may_agree_is_found_by_halving_as_by_looking_at_every_entry() {
        let mut state = 11_u64;
        let mut draw = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..3_000 {
            let mut terms: Vec<u64> = (0..1 + draw(12)).map(|_| 1 + draw(5)).collect();
            terms.sort_unstable();
            let stored = draw(terms.len() as u64 + 1);
            let (base, index, term) = (draw(stored + 1), draw(16), draw(7));
            let log = log(&terms, base, stored as usize);
            let known = |at: u64| (at >= base).then(|| at.checked_sub(1).map_or(0, |at| terms[at as usize]));
            let last = index.min(terms.len() as u64);
            let found = (0..=last).rev().find(|&at| known(at).is_none_or(|ours| ours <= term || at == 0));
            let at = found.expect("index zero agrees with everything");
            let expected = EntryId::new(Term(known(at).unwrap_or(0)), LogIndex(at));
            let what = format!("{terms:?} from {base}, stored {stored}: {index} of term {term}");
            assert_eq!(log.agreement_hint(LogIndex(index), Term(term)), Ok(expected), "{what}");
            for at in base..=terms.len() as u64 {
                assert_eq!(log.term(LogIndex(at)).ok(), known(at).map(Term), "{what}, at {at}");
            }
        }
    }
}
