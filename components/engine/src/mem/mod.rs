//! The contract in memory, with power losses, for the simulator and for tests.
//!
//! Batches and ingestions are numbered together, from 1. A sync covers a prefix of the numbers, and it takes time:
//! [`MemEngine::begin_sync`] notes how far it reaches, [`MemEngine::finish_sync`] makes that durable, and writes may
//! land between the two. [`MemEngine::crash`] draws where the log of batches ends; what was ingested after that point
//! is there nevertheless, and so are the gaps left by deleted files.
//!
//! A key keeps its older versions while a snapshot can see them or a crash can bring them back, so a snapshot costs a
//! number in a map and a crash needs no log. Memory is bounded by what is held in live snapshots and since the last
//! sync.

mod snapshot;
mod sst;
mod versions;

pub use snapshot::{MemIterator, MemSnapshot};

use crate::{Cf, Engine, EngineError, Op, Pressure, SstWriter, WriteBatch, sst_name_is_valid};
use bytes::Bytes;
use parking_lot::Mutex;
use sst::{MemSstWriter, SstFile};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use types::KeyRange;
use versions::{Family, Version};

/// An engine in memory that can lose its power. A clone is another handle to the same engine.
#[derive(Clone)]
pub struct MemEngine {
    state: Arc<Mutex<State>>,
}

/// A sync under way: what it will have made durable once [`MemEngine::finish_sync`] returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a sync that is not finished makes nothing durable"]
pub struct SyncTicket {
    upto: u64,
    incarnation: u64,
}

/// What would survive a power loss now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Durability {
    /// Batches up to this number are durable.
    pub durable_sequence: u64,
    /// The number of the last batch or ingestion.
    pub last_sequence: u64,
    /// The size of the batches that a power loss can take back.
    pub unsynced_bytes: u64,
}

/// What can be made to fail, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The next write. It may or may not be found after a restart; until then the engine refuses everything.
    Write,
    /// The next sync to finish. The engine refuses everything afterwards.
    Sync,
    /// The next ingestion. Nothing of it is kept; the engine refuses everything afterwards.
    Ingest,
    /// The next `get` or iterator move reports corruption. The engine goes on.
    Read,
}

/// What [`Engine::delete_files_in_range`] finds to delete: the contract leaves it open, so callers are tried with each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FileDeletion {
    /// All that is durable in the range, as if every file held keys of the range alone.
    #[default]
    Everything,
    /// The durable part of about half of the keys, scattered.
    Half,
    /// Nothing, as if every file reached beyond the range.
    Nothing,
}

/// All of one engine: its content, its files, and how it was told to fail.
struct State {
    families: [Family; Cf::ALL.len()],
    last_sequence: u64,
    durable_sequence: u64,
    /// Number and size of each batch above `durable_sequence`.
    unsynced: VecDeque<(u64, u64)>,
    /// Sequences that live snapshots read at, with how many there are of each.
    snapshots: BTreeMap<u64, usize>,
    /// Keys that hold something to collect once nobody reads below the sequence. Ascending.
    garbage: VecDeque<(u64, Cf, Bytes)>,
    files: BTreeMap<String, SstFile>,
    pressure: Pressure,
    file_deletion: FileDeletion,
    faults: Vec<Fault>,
    disk_full: bool,
    /// Why everything is refused.
    poison: Option<String>,
    /// How many crashes this disk has seen: a ticket is good for one life only.
    incarnation: u64,
}

impl Default for MemEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl MemEngine {
    /// An engine on an empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::from_state(State {
            families: Default::default(),
            last_sequence: 0,
            durable_sequence: 0,
            unsynced: VecDeque::new(),
            snapshots: BTreeMap::new(),
            garbage: VecDeque::new(),
            files: BTreeMap::new(),
            pressure: Pressure::default(),
            file_deletion: FileDeletion::default(),
            faults: Vec::new(),
            disk_full: false,
            poison: None,
            incarnation: 0,
        })
    }

    fn from_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Starts a sync: it will cover what has been written so far. Several may be under way, and finish in any order.
    pub fn begin_sync(&self) -> SyncTicket {
        let state = self.state.lock();
        SyncTicket { upto: state.last_sequence, incarnation: state.incarnation }
    }

    /// Ends a sync: everything written before it began is durable.
    ///
    /// # Errors
    /// [`EngineError::Io`] after [`Fault::Sync`], or if the engine was poisoned meanwhile. What a crash keeps of the
    /// unsynced batches is then open.
    pub fn finish_sync(&self, ticket: SyncTicket) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        assert_eq!(ticket.incarnation, state.incarnation, "a sync does not outlive a crash");
        state.check()?;
        if state.take_fault(Fault::Sync) {
            return Err(state.poison("injected failure of a sync"));
        }
        state.durable_sequence = state.durable_sequence.max(ticket.upto);
        let durable = state.durable_sequence;
        let still_unsynced = state.unsynced.partition_point(|(sequence, _)| *sequence <= durable);
        state.unsynced.drain(..still_unsynced);
        state.collect_garbage();
        Ok(())
    }

    /// Power is lost: the engine as it is found after a restart. This handle and all its clones, snapshots and writers
    /// refuse everything from now on.
    ///
    /// `keep` is given the numbers at which the log may end, from what is durable for certain to all that was written,
    /// and picks one. Picking the last is the death of a process whose machine lives on. Ingested files, deleted files
    /// and finished SST files are as they were, wherever the log ends; so is a full disk. Faults not yet due and the
    /// pressure are gone.
    #[must_use]
    pub fn crash(&self, keep: impl FnOnce(RangeInclusive<u64>) -> u64) -> Self {
        let mut state = self.state.lock();
        let after = state.after_crash(keep);
        state.poison = Some("the power was lost".to_owned());
        // What the dead handles can no longer read is not kept for them.
        state.families = Default::default();
        state.garbage.clear();
        Self::from_state(after)
    }

    /// What [`crash`](Self::crash) would find now, on a disk of its own; this engine lives on. For restarts on an older
    /// image of the disk.
    #[must_use]
    pub fn copy_disk(&self, keep: impl FnOnce(RangeInclusive<u64>) -> u64) -> Self {
        Self::from_state(self.state.lock().after_crash(keep))
    }

    /// What would survive a power loss now.
    #[must_use]
    pub fn durability(&self) -> Durability {
        let state = self.state.lock();
        Durability {
            durable_sequence: state.durable_sequence,
            last_sequence: state.last_sequence,
            unsynced_bytes: state.unsynced.iter().map(|(_, size)| size).sum(),
        }
    }

    /// Makes the next operation of that kind fail. Named twice, the next two do, where one failure is not the end.
    pub fn fail_next(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// While the disk is full, writes and ingestions fail (and poison the engine, as every failed write does) and SST
    /// files cannot be finished.
    pub fn set_disk_full(&self, full: bool) {
        self.state.lock().disk_full = full;
    }

    /// What [`Engine::pressure`] reports from now on.
    pub fn set_pressure(&self, pressure: Pressure) {
        self.state.lock().pressure = pressure;
    }

    /// What [`Engine::delete_files_in_range`] deletes from now on. Survives a crash.
    pub fn set_file_deletion(&self, file_deletion: FileDeletion) {
        self.state.lock().file_deletion = file_deletion;
    }

    /// Why the engine refuses everything, if it does.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.state.lock().poison.clone()
    }

    /// How many versions of keys are held.
    #[cfg(test)]
    fn version_count(&self) -> usize {
        self.state.lock().families.iter().map(Family::version_count).sum()
    }
}

impl Engine for MemEngine {
    type Snapshot = MemSnapshot;

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        let full = state.disk_full;
        let failing = state.take_fault(Fault::Write) || full;
        // A write that fails has perhaps reached the disk, so it is among what a crash may keep; being poisoned, the
        // engine shows it to nobody before.
        state.apply(batch);
        if failing {
            return Err(state.poison(if full {
                "no space left on device"
            } else {
                "injected failure of a write"
            }));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.finish_sync(self.begin_sync())
    }

    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let mut state = self.state.lock();
        state.check_read()?;
        Ok(state.families[cf as usize].get(key, u64::MAX))
    }

    fn snapshot(&self) -> MemSnapshot {
        MemSnapshot::new(&self.state)
    }

    fn create_sst(&self, cf: Cf, name: &str) -> Result<Box<dyn SstWriter>, EngineError> {
        assert!(sst_name_is_valid(name), "{name:?} cannot name a file");
        self.state.lock().check()?;
        Ok(Box::new(MemSstWriter::new(&self.state, cf, name)))
    }

    fn ingest(&self, names: &[(Cf, String)]) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.check()?;
        if names.is_empty() {
            return Ok(());
        }
        let mut files = Vec::with_capacity(names.len());
        for (cf, name) in names {
            let Some(file) = state.files.get(name) else {
                return Err(EngineError::MissingFile(name.clone()));
            };
            assert_eq!(file.cf, *cf, "{name} was written for another family");
            files.push(file.clone());
        }
        if state.disk_full {
            return Err(state.poison("no space left on device"));
        }
        if state.take_fault(Fault::Ingest) {
            return Err(state.poison("injected failure of an ingestion"));
        }
        state.last_sequence += 1;
        for file in files {
            for (key, value) in file.entries.iter() {
                state.push(file.cf, key, Some(value.clone()), true);
            }
        }
        state.collect_garbage();
        Ok(())
    }

    fn list_sst(&self) -> Result<Vec<String>, EngineError> {
        let state = self.state.lock();
        state.check()?;
        Ok(state.files.keys().cloned().collect())
    }

    fn remove_sst(&self, name: &str) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.check()?;
        state.files.remove(name);
        Ok(())
    }

    fn delete_files_in_range(&self, cf: Cf, range: &KeyRange) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.check()?;
        if range.is_empty() {
            return Ok(());
        }
        // What is not durable is in no file yet. What is gone here is gone in every state that a crash can lead to,
        // because each of them holds all that is durable.
        let durable = state.durable_sequence;
        let in_file = |version: &Version| version.sequence <= durable || version.ingested;
        let scattered = |key: &[u8]| key.iter().fold(0, |sum: u8, byte| sum ^ byte).count_ones() % 2 == 1;
        let family = cf as usize;
        match state.file_deletion {
            FileDeletion::Everything => state.families[family].drop_versions(range, |_| true, in_file),
            FileDeletion::Half => state.families[family].drop_versions(range, scattered, in_file),
            FileDeletion::Nothing => {}
        }
        Ok(())
    }

    fn approximate_size_bytes(&self, cf: Cf, range: &KeyRange) -> u64 {
        self.state.lock().families[cf as usize].size_bytes(range)
    }

    fn pressure(&self) -> Pressure {
        self.state.lock().pressure
    }
}

impl State {
    /// Refuses everything once the engine is poisoned (INV-ENGINE-4).
    fn check(&self) -> Result<(), EngineError> {
        self.poison.as_ref().map_or(Ok(()), |reason| Err(EngineError::Io(format!("refused since {reason}"))))
    }

    /// As [`check`](Self::check), and fails a read that was told to fail.
    fn check_read(&mut self) -> Result<(), EngineError> {
        self.check()?;
        if self.take_fault(Fault::Read) {
            return Err(EngineError::Corrupt("injected failure of a read".to_owned()));
        }
        Ok(())
    }

    fn take_fault(&mut self, fault: Fault) -> bool {
        let found = self.faults.iter().position(|pending| *pending == fault);
        found.map(|index| self.faults.swap_remove(index)).is_some()
    }

    fn poison(&mut self, reason: &str) -> EngineError {
        self.poison = Some(reason.to_owned());
        EngineError::Io(reason.to_owned())
    }

    /// What a restart finds on this disk (INV-ENGINE-1, INV-ENGINE-2).
    fn after_crash(&self, keep: impl FnOnce(RangeInclusive<u64>) -> u64) -> Self {
        let choices = self.durable_sequence..=self.last_sequence;
        let cut = keep(choices.clone());
        assert!(choices.contains(&cut), "a crash keeps one of {choices:?}, not {cut}");
        Self {
            families: std::array::from_fn(|index| self.families[index].survivors(cut)),
            last_sequence: self.last_sequence,
            // What a restart finds has been read from the disk, so it is durable.
            durable_sequence: self.last_sequence,
            unsynced: VecDeque::new(),
            snapshots: BTreeMap::new(),
            garbage: VecDeque::new(),
            files: self.files.clone(),
            pressure: Pressure::default(),
            file_deletion: self.file_deletion,
            faults: Vec::new(),
            disk_full: self.disk_full,
            poison: None,
            incarnation: self.incarnation + 1,
        }
    }

    /// Applies a batch under the next number.
    fn apply(&mut self, batch: &WriteBatch) {
        self.last_sequence += 1;
        self.unsynced.push_back((self.last_sequence, batch.size_bytes() as u64));
        for op in batch.ops() {
            match op {
                Op::Put { cf, key, value } => {
                    self.push(cf, &Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)), false);
                }
                Op::Delete { cf, key } => self.push(cf, &Bytes::copy_from_slice(key), None, false),
                Op::DeleteRange { cf, start, end } => {
                    for key in self.families[cf as usize].present(start, end) {
                        self.push(cf, &key, None, false);
                    }
                }
            }
        }
        self.collect_garbage();
    }

    fn push(&mut self, cf: Cf, key: &Bytes, value: Option<Bytes>, ingested: bool) {
        let sequence = self.last_sequence;
        if self.families[cf as usize].push(key, Version { sequence, value, ingested }) {
            self.garbage.push_back((sequence, cf, key.clone()));
        }
    }

    /// Drops the versions that neither a snapshot nor a crash can ask for any more.
    fn collect_garbage(&mut self) {
        let oldest_reader = self.snapshots.keys().next().copied().unwrap_or(u64::MAX);
        let horizon = self.durable_sequence.min(oldest_reader);
        while let Some((sequence, cf, key)) = self.garbage.front() {
            if *sequence > horizon {
                break;
            }
            self.families[*cf as usize].collect(key, horizon);
            self.garbage.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
