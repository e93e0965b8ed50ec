//! Storage in memory, for tests and simulation. It keeps the writing contract and refuses whoever breaks it.

use crate::{
    Append, ConfState, Entry, FetchContext, HardState, InitialState, Snapshot, SnapshotMeta, Storage,
    StorageError,
};
use bytes::Bytes;
use types::{LogIndex, PeerId, Term};

/// A log in memory. What is written is at once readable; what would be durable is the owner's to decide, by keeping a
/// clone of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MemStorage {
    hard_state: HardState,
    /// The members as of what the owner last said to have applied.
    conf_state: ConfState,
    /// What stands for everything before `entries`: where it ends, and its data.
    base: Snapshot,
    /// Contiguous from `base.meta.index + 1`.
    entries: Vec<Entry>,
    /// The next snapshot asked for is not ready.
    snapshot_unavailable: bool,
    /// Entries for other peers have to be fetched first.
    entries_unavailable: bool,
}

impl MemStorage {
    /// An empty log of a group with these members, as at its bootstrap. They stand in no entry, so a newcomer cannot learn
    /// them from the log: for a group that grows, begin with [`MemStorage::apply_snapshot`] instead.
    #[must_use]
    pub fn with_conf_state(conf_state: ConfState) -> Self {
        let meta = SnapshotMeta { conf_state: conf_state.clone(), ..SnapshotMeta::default() };
        Self { conf_state, base: Snapshot { meta, data: Bytes::new() }, ..Self::default() }
    }

    /// An empty log of a group of voters `1..=voters`.
    #[must_use]
    pub fn with_voters(voters: u64) -> Self {
        Self::with_conf_state(ConfState::of_voters((1..=voters).map(PeerId)))
    }

    /// Writes one [`Append`] as a whole.
    ///
    /// # Panics
    /// When it would leave a gap, overwrite what a snapshot stands for, or lower what must not fall: mistakes of the
    /// state machine or of its driver.
    pub fn write(&mut self, append: &Append) {
        if let Some(snapshot) = &append.snapshot {
            self.apply_snapshot((**snapshot).clone());
        }
        self.append(&append.entries);
        if let Some(state) = append.hard_state {
            self.set_hard_state(state);
        }
    }

    /// Replaces the hard state.
    ///
    /// # Panics
    /// When term or commit fall, or a second vote is cast in one term.
    pub fn set_hard_state(&mut self, state: HardState) {
        let old = self.hard_state;
        assert!(state.term >= old.term && state.commit >= old.commit, "{state:?} after {old:?}");
        assert!(
            state.term > old.term || old.vote.is_zero() || state.vote == old.vote,
            "a second vote in one term: {state:?} after {old:?}"
        );
        assert!(state.commit <= self.last_index(), "{state:?} with a log to {}", self.last_index());
        self.hard_state = state;
    }

    /// The hard state as last written.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Sets what a restart would start from, without any check: for tests that begin in the middle.
    pub fn force_hard_state(&mut self, state: HardState) {
        self.hard_state = state;
    }

    /// Notes the members as of what is applied, for the next restart and the next snapshot.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Appends entries, replacing what stands at and after the first.
    ///
    /// # Panics
    /// When that leaves a gap or reaches into what is committed by the hard state with other entries.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let at = first
            .index
            .0
            .checked_sub(self.first_index().0)
            .expect("entries replace what a snapshot stands for");
        assert!(
            at <= self.entries.len() as u64,
            "a gap before {}, log ends at {}",
            first.index,
            self.last_index()
        );
        for (old, new) in self.entries[at as usize..].iter().zip(entries) {
            let committed = new.index <= self.hard_state.commit;
            assert!(!committed || old.term == new.term, "committed {old:?} replaced by {new:?}");
        }
        self.entries.truncate(at as usize);
        self.entries.extend_from_slice(entries);
    }

    /// Replaces everything by `snapshot`.
    ///
    /// # Panics
    /// When it stands before what is already compacted.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) {
        let (index, old) = (snapshot.meta.index, self.base.meta.index);
        assert!(index >= old, "snapshot at {index} after one at {old}");
        self.entries.clear();
        self.conf_state = snapshot.meta.conf_state.clone();
        self.hard_state.commit = self.hard_state.commit.max(index);
        self.base = snapshot;
    }

    /// Drops the entries up to `index`, which is applied; from now on a snapshot with `data` stands for them.
    ///
    /// # Panics
    /// When there is no entry at `index`.
    pub fn compact(&mut self, index: LogIndex, data: Bytes) {
        if index <= self.base.meta.index {
            return;
        }
        let term = self.term(index).expect("compaction ends at an entry");
        self.entries.drain(..(index.0 - self.base.meta.index.0) as usize);
        let meta = SnapshotMeta { index, term, conf_state: self.conf_state.clone() };
        self.base = Snapshot { meta, data };
    }

    /// The snapshot that stands for what was compacted.
    #[must_use]
    pub fn base(&self) -> &Snapshot {
        &self.base
    }

    /// All entries that are held.
    #[must_use]
    pub fn all_entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether snapshots have to be built first.
    pub fn set_snapshot_unavailable(&mut self, unavailable: bool) {
        self.snapshot_unavailable = unavailable;
    }

    /// Whether entries for other peers have to be fetched first.
    pub fn set_entries_unavailable(&mut self, unavailable: bool) {
        self.entries_unavailable = unavailable;
    }
}

impl Storage for MemStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        Ok(InitialState { hard_state: self.hard_state, conf_state: self.conf_state.clone() })
    }

    fn first_index(&self) -> LogIndex {
        self.base.meta.index.next()
    }

    fn last_index(&self) -> LogIndex {
        self.base.meta.index + self.entries.len() as u64
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.base.meta.index {
            return Ok(self.base.meta.term);
        }
        let Some(at) = index.0.checked_sub(self.first_index().0) else { return Err(StorageError::Compacted) };
        self.entries.get(at as usize).map(|entry| entry.term).ok_or(StorageError::Unavailable)
    }

    fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        context: FetchContext,
        out: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        if low < self.first_index() {
            return Err(StorageError::Compacted);
        }
        if high > self.last_index().next() {
            return Err(StorageError::Unavailable);
        }
        if self.entries_unavailable && !context.to.is_zero() {
            return Err(StorageError::LogTemporarilyUnavailable);
        }
        let first = self.first_index();
        let mut bytes = 0;
        for entry in &self.entries[(low.0 - first.0) as usize..(high.0 - first.0) as usize] {
            bytes += entry.size_bytes();
            if bytes > bytes_max && entry.index > low {
                break;
            }
            out.push(entry.clone());
        }
        Ok(())
    }

    fn snapshot(&self, at_least: LogIndex, _to: PeerId) -> Result<Snapshot, StorageError> {
        if self.snapshot_unavailable || self.base.meta.index < at_least {
            return Err(StorageError::SnapshotTemporarilyUnavailable);
        }
        Ok(self.base.clone())
    }
}
