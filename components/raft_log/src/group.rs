//! One group's log.

use crate::{EntryCache, LoadError, keys};
use codec::{Decode, Encode, codec_struct};
use engine::{Cf, Engine, WriteBatch};
use env::sim_point;
use raft::{
    Append, ConfState, Entry, EntryId, FetchContext, HardState, InitialState, PersistToken, Snapshot,
    Storage, StorageError,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use types::{LogIndex, PeerId, RegionId, Term};

/// What is kept beside the entries of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogState {
    pub(crate) hard_state: HardState,
    /// The last entry of the log; the compacted position when there is none.
    pub(crate) last: EntryId,
}
codec_struct!(LogState { hard_state, last });

/// Snapshots that stand ready in one group; more than a region has members.
const SNAPSHOTS_OFFERED_MAX: usize = 16;

/// Entries that Raft wants to send and that are not in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    /// First index wanted.
    pub low: LogIndex,
    /// One past the last.
    pub high: LogIndex,
    /// At most so many bytes of them.
    pub bytes_max: u64,
    /// To be handed back to Raft.
    pub context: FetchContext,
}

/// One group's log: the part on disk, and the cache of its newest entries.
///
/// Owned by whoever owns the group; never shared between threads.
#[derive(Debug)]
pub struct GroupLog<E> {
    engine: E,
    group: RegionId,
    /// The last entry that was compacted away (or the position where the log began).
    truncated: EntryId,
    /// Invariant: `truncated.index <= last.index`.
    last: EntryId,
    /// Entries up to here are in the engine, so the cache may drop them.
    written: LogIndex,
    /// The append that last overwrote entries. Those before it say nothing about what stands in the log now.
    overwritten_at: u64,
    hard_state: HardState,
    conf_state: ConfState,
    cache: EntryCache,
    /// The peers for which Raft asked for a snapshot, until somebody builds it.
    snapshot_wanted: RefCell<BTreeSet<PeerId>>,
    /// Snapshots by the peer that they were built for, until Raft asks again. Several peers may wait at once, and none
    /// takes what is another's.
    snapshot_offered: RefCell<BTreeMap<PeerId, Snapshot>>,
    /// What followers wait for; at most one request for each, as Raft asks again only after an answer.
    fetch_wanted: RefCell<VecDeque<FetchRequest>>,
    /// Entries fetched from the engine, by follower; served once.
    fetched: RefCell<BTreeMap<PeerId, Vec<Entry>>>,
    /// Why entries from an index on could not be fetched, by follower; told once.
    unreadable: RefCell<BTreeMap<PeerId, (LogIndex, String)>>,
}

impl<E: Engine> GroupLog<E> {
    /// Loads a group's log. `truncated` and `conf_state` belong to the state machine, which knows them.
    ///
    /// A group without a log begins right after `truncated`: that is how a region that was just made, by a split or at
    /// the bootstrap, starts without a write of its own.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`] when durable state is missing: the group must not run here.
    pub fn load(
        engine: E,
        group: RegionId,
        truncated: EntryId,
        conf_state: ConfState,
    ) -> Result<Self, LoadError> {
        let corrupt = |what: String| LoadError::Corrupt { group, what };
        let state = match engine.get(Cf::Raft, &keys::state(group))? {
            Some(bytes) => LogState::from_bytes(&bytes).map_err(|error| corrupt(error.to_string()))?,
            None => LogState {
                hard_state: HardState {
                    term: truncated.term,
                    commit: truncated.index,
                    ..HardState::default()
                },
                last: truncated,
            },
        };
        let LogState { mut hard_state, last } = state;
        // What was written before the log began: the peer voted before it had a region.
        let last = if last.index.is_zero() { truncated } else { last };
        if last.index < truncated.index {
            return Err(corrupt(format!(
                "the log ends at {} before the compacted {}",
                last.index, truncated.index
            )));
        }
        if hard_state.commit > last.index {
            return Err(corrupt(format!(
                "committed {} lies beyond the last entry {}",
                hard_state.commit, last.index
            )));
        }
        // What is compacted was committed; the hard state may not have been written since.
        hard_state.commit = hard_state.commit.max(truncated.index);
        hard_state.term = hard_state.term.max(truncated.term);
        let log = Self {
            engine,
            group,
            truncated,
            last,
            written: last.index,
            overwritten_at: 0,
            hard_state,
            conf_state,
            cache: EntryCache::default(),
            snapshot_wanted: RefCell::default(),
            snapshot_offered: RefCell::default(),
            fetch_wanted: RefCell::default(),
            fetched: RefCell::default(),
            unreadable: RefCell::default(),
        };
        match log.term_on_disk(last.index) {
            Ok(term) if term == last.term => Ok(log),
            Ok(term) => Err(corrupt(format!("the last entry {last:?} has term {term} on disk"))),
            Err(error) => Err(corrupt(format!("the last entry {last:?} cannot be read: {error}"))),
        }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> RegionId {
        self.group
    }

    /// The engine that the log is kept in.
    #[must_use]
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The last entry that was compacted away.
    #[must_use]
    pub fn truncated(&self) -> EntryId {
        self.truncated
    }

    /// The hard state as last handed over.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &EntryCache {
        &self.cache
    }

    /// Takes over what Raft wants written: readable here at once, and appended to `batch`, which must reach the engine
    /// in the order of these calls.
    pub fn append(&mut self, append: &Append, batch: &mut WriteBatch) {
        if let Some(snapshot) = &append.snapshot {
            self.restart_at(EntryId::new(snapshot.meta.term, snapshot.meta.index), batch);
            self.overwritten_at = append.token.seq;
            self.conf_state = snapshot.meta.conf_state.clone();
        }
        if let (Some(first), Some(last)) = (append.entries.first(), append.entries.last()) {
            assert!(
                first.index > self.truncated.index && first.index <= self.last.index.next(),
                "append at {} does not touch the log {}..={}",
                first.index,
                self.truncated.index,
                self.last.index
            );
            for entry in &append.entries {
                batch.put(Cf::Raft, &keys::entry(self.group, entry.index), &entry.to_bytes());
            }
            batch.delete_range(
                Cf::Raft,
                &keys::entry(self.group, last.index.next()),
                &keys::entry(self.group, self.last.index.next()),
            );
            if first.index <= self.last.index {
                // What was fetched may have just been overwritten.
                self.fetched.get_mut().clear();
                self.unreadable.get_mut().clear();
                self.overwritten_at = append.token.seq;
            }
            self.cache.append(&append.entries);
            self.last = last.id();
            self.written = self.written.min(first.index.prev());
        }
        if let Some(hard_state) = append.hard_state {
            self.hard_state = hard_state;
        }
        let state = LogState { hard_state: self.hard_state, last: self.last };
        batch.put(Cf::Raft, &keys::state(self.group), &state.to_bytes());
    }

    /// Learns that an append has reached the engine, so that the cache may drop its entries.
    pub fn on_written(&mut self, token: PersistToken) {
        if token.seq >= self.overwritten_at {
            self.written = self.written.max(token.mark.index.min(self.last.index));
        }
    }

    /// Learns that the state machine has applied up to `applied`, which so was committed: a crash may keep an apply and
    /// lose the hard state that was written beside it.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`] when the log ends before that.
    pub fn on_recovered(&mut self, applied: LogIndex) -> Result<(), LoadError> {
        if applied > self.last.index {
            let what = format!("applied up to {applied}, but the log ends at {}", self.last.index);
            return Err(LoadError::Corrupt { group: self.group, what });
        }
        self.hard_state.commit = self.hard_state.commit.max(applied);
        Ok(())
    }

    /// Drops cached entries up to `index`, and older ones beyond `bytes_max`; never one that the engine does not have.
    pub fn evict_cache(&mut self, index: LogIndex, bytes_max: u64) {
        let bytes_max = if sim_point!("raft_log.drop_cache") { 0 } else { bytes_max };
        self.cache.evict_to(index.min(self.written));
        self.cache.shrink_to(bytes_max, self.written);
    }

    /// Gives back what the cache occupies, but for entries after `applied`, and those that the engine does not have.
    /// Followers that lag behind are served from the engine then.
    pub fn shrink(&mut self, applied: LogIndex) {
        self.evict_cache(applied, u64::MAX);
        if self.cache.last().is_none() {
            self.cache.clear();
        }
    }

    /// Notes that the state machine's log now begins after `to`. What lies before is removed by [`Self::collect`].
    pub fn compact(&mut self, to: EntryId) {
        if to.index > self.truncated.index {
            assert!(
                to.index <= self.last.index,
                "compaction to {to:?} beyond the last entry {:?}",
                self.last
            );
            self.truncated = to;
            self.cache.evict_to(to.index.min(self.written));
        }
    }

    /// Appends to `batch` the removal of compacted entries from `from` on. Returns where the next removal starts.
    pub fn collect(&self, from: LogIndex, batch: &mut WriteBatch) -> LogIndex {
        let first = self.truncated.index.next();
        batch.delete_range(Cf::Raft, &keys::entry(self.group, from), &keys::entry(self.group, first));
        first.max(from)
    }

    /// Sets the configuration that a restart would begin with (kept by the state machine, not by the log).
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// A peer for which Raft wants a snapshot, once after each time it asked. To be called until it gives `None`: several
    /// peers may want one.
    pub fn take_snapshot_wanted(&self) -> Option<PeerId> {
        self.snapshot_wanted.borrow_mut().pop_first()
    }

    /// Hands in a snapshot for a peer; Raft gets it when it asks again.
    pub fn offer_snapshot(&mut self, to: PeerId, snapshot: Snapshot) {
        let offered = self.snapshot_offered.get_mut();
        if offered.len() >= SNAPSHOTS_OFFERED_MAX {
            // Peers that went away without it.
            offered.clear();
        }
        offered.insert(to, snapshot);
    }

    /// Entries that Raft wants to send and that must be fetched, once after each time it asked. To be called until it
    /// gives `None`: several followers may wait.
    pub fn take_fetch_wanted(&self) -> Option<FetchRequest> {
        self.fetch_wanted.borrow_mut().pop_front()
    }

    /// Hands in entries that were fetched for the follower `to`; tell Raft right afterwards.
    pub fn offer_entries(&mut self, to: PeerId, entries: Vec<Entry>) {
        self.fetched.get_mut().insert(to, entries);
    }

    /// Entries that were wanted for the follower `to`, from `low` on, are in no order to be read, and not because they
    /// were compacted or overwritten meanwhile. Raft is told when it asks for them again, and stops the group.
    pub fn offer_failure(&mut self, to: PeerId, low: LogIndex, what: String) {
        self.unreadable.get_mut().insert(to, (low, what));
    }

    /// Reads entries of a group from an engine: what a [`FetchRequest`] asks for, on any thread.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`] when they are not there, or make no sense: because they were compacted or overwritten
    /// meanwhile, which the log knows, or else because they were lost. [`LoadError::Engine`] when the engine failed.
    pub fn fetch(engine: &E, group: RegionId, request: &FetchRequest) -> Result<Vec<Entry>, LoadError> {
        let mut out = Vec::new();
        read_entries(engine, group, request.low, request.high, request.bytes_max, &mut out)?;
        Ok(out)
    }

    fn restart_at(&mut self, position: EntryId, batch: &mut WriteBatch) {
        let (start, end) = (keys::entry(self.group, LogIndex::ZERO), keys::state(self.group));
        batch.delete_range(Cf::Raft, &start, &end);
        self.cache.clear();
        self.fetched.get_mut().clear();
        self.unreadable.get_mut().clear();
        self.truncated = position;
        self.last = position;
        self.written = position.index;
    }

    fn term_on_disk(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        let entry = keys::entry(self.group, index);
        let bytes = self.engine.get(Cf::Raft, &entry).map_err(|error| broken(error.into()))?;
        let bytes = bytes.ok_or_else(|| broken(lost(self.group, index)))?;
        let decoded = Entry::from_bytes(&bytes);
        Ok(decoded.map_err(|error| broken(broken_entry(self.group, index, &error)))?.term)
    }

    fn check_bounds(&self, low: LogIndex, high: LogIndex) -> Result<(), StorageError> {
        if low <= self.truncated.index {
            return Err(StorageError::Compacted);
        }
        if high > self.last.index.next() {
            return Err(StorageError::Unavailable);
        }
        Ok(())
    }
}

impl<E: Engine> Storage for GroupLog<E> {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        Ok(InitialState { hard_state: self.hard_state, conf_state: self.conf_state.clone() })
    }

    fn first_index(&self) -> LogIndex {
        self.truncated.index.next()
    }

    fn last_index(&self) -> LogIndex {
        self.last.index
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index == self.last.index {
            return Ok(self.last.term);
        }
        self.check_bounds(index, index.next())?;
        match self.cache.get(index) {
            Some(entry) => Ok(entry.term),
            None => self.term_on_disk(index),
        }
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        context: FetchContext,
        out: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        self.check_bounds(low, high)?;
        if low >= high {
            return Ok(());
        }
        // The first is given in any case.
        let bytes_max = if sim_point!("raft_log.short_page") { 0 } else { bytes_max };
        if self.cache.first_index().is_some_and(|first| first <= low) {
            self.cache.read(low, high, bytes_max, out);
            return Ok(());
        }
        // Only what left the cache is sure to be in the engine.
        let on_disk = self.cache.first_index().map_or(high, |first| high.min(first));
        // Entries to apply cannot wait; those for a follower that lags behind can.
        if context.to.is_zero() {
            let bytes =
                read_entries(&self.engine, self.group, low, on_disk, bytes_max, out).map_err(broken)?;
            if bytes < bytes_max
                && on_disk < high
                && out.last().is_some_and(|last| last.index.next() == on_disk)
            {
                // The page began on disk, so the cache's part of it may be cut short, but not be forced in.
                let from = out.len();
                self.cache.read(on_disk, high, bytes_max - bytes, out);
                let first_fits = out.get(from).is_none_or(|entry| entry.size_bytes() <= bytes_max - bytes);
                out.truncate(if first_fits { out.len() } else { from });
            }
            return Ok(());
        }
        let fetched = self.fetched.borrow_mut().remove(&context.to).unwrap_or_default();
        if fetched.first().is_some_and(|first| first.index == low) {
            out.extend(fetched.into_iter().take_while(|entry| entry.index < high));
            return Ok(());
        }
        if let Some((_, what)) = self.unreadable.borrow_mut().remove(&context.to).filter(|(at, _)| *at == low)
        {
            return Err(StorageError::Other(what));
        }
        let mut wanted = self.fetch_wanted.borrow_mut();
        wanted.retain(|request| request.context.to != context.to);
        wanted.push_back(FetchRequest { low, high: on_disk, bytes_max, context });
        Err(StorageError::LogTemporarilyUnavailable)
    }

    fn snapshot(&self, at_least: LogIndex, to: PeerId) -> Result<Snapshot, StorageError> {
        let usable = |snapshot: &Snapshot| {
            snapshot.meta.index >= at_least && snapshot.meta.index >= self.truncated.index
        };
        if let Some(snapshot) = self.snapshot_offered.borrow_mut().remove(&to).filter(usable) {
            return Ok(snapshot);
        }
        self.snapshot_wanted.borrow_mut().insert(to);
        Err(StorageError::SnapshotTemporarilyUnavailable)
    }
}

/// Appends to `batch` the removal of all records of a group.
pub fn destroy(group: RegionId, batch: &mut WriteBatch) {
    let (start, end) = keys::group_range(group);
    batch.delete_range(Cf::Raft, &start, &end);
}

/// Reads entries from the engine, within `bytes_max` but for the first. Returns how much of it they take.
fn read_entries<E: Engine>(
    engine: &E,
    group: RegionId,
    low: LogIndex,
    high: LogIndex,
    bytes_max: u64,
    out: &mut Vec<Entry>,
) -> Result<u64, LoadError> {
    let before = out.len();
    let mut bytes = 0;
    let mut index = low;
    while index < high {
        let Some(value) = engine.get(Cf::Raft, &keys::entry(group, index))? else {
            return Err(lost(group, index));
        };
        let entry = Entry::from_bytes(&value).map_err(|error| broken_entry(group, index, &error))?;
        if bytes + entry.size_bytes() > bytes_max && out.len() > before {
            break;
        }
        bytes += entry.size_bytes();
        out.push(entry);
        index = index.next();
    }
    Ok(bytes)
}

fn broken(error: LoadError) -> StorageError {
    StorageError::Other(error.to_string())
}

fn lost(group: RegionId, index: LogIndex) -> LoadError {
    LoadError::Corrupt { group, what: format!("entry {index} is missing from the engine") }
}

fn broken_entry(group: RegionId, index: LogIndex, error: &codec::DecodeError) -> LoadError {
    LoadError::Corrupt { group, what: format!("entry {index} cannot be decoded: {error}") }
}
