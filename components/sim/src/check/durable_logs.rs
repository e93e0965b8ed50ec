//! What the stores' disks hold of their regions' logs for certain, kept beside the engines, batch by batch.
//!
//! A store's log writer is the only one that writes log records (INV-LOG-3), so whoever sees its batches and its syncs
//! knows what a power loss would leave.

use super::DurableLog;
use bytes::Bytes;
use engine::{Cf, Engine, MemEngine, Op, Snapshot, WriteBatch};
use raft::{Entry, EntryId, HardState};
use raft_log::inspect::{LogKey, read_entry, read_state};
use raft_log::keys;
use std::collections::BTreeMap;
use types::{KeyRange, LogIndex, PeerId, RegionId, Term};

/// The log records that one store's disk holds for certain.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DurableLogs(BTreeMap<Bytes, Bytes>);

/// What a batch changed in the logs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LogChanges {
    /// Groups whose hard state was written.
    pub states: Vec<RegionId>,
    /// Entries that were written.
    pub entries: Vec<(RegionId, LogIndex)>,
}

impl DurableLogs {
    /// All that an engine holds: what a restart has found is durable.
    ///
    /// # Panics
    /// When the engine was told to fail.
    #[must_use]
    pub fn scan(engine: &MemEngine) -> Self {
        let snapshot = engine.snapshot();
        let range = KeyRange::prefix(vec![keys::LOG_PREFIX]);
        let mut iterator = snapshot.iter(Cf::Raft, &range);
        let mut records = BTreeMap::new();
        let mut found = iterator.seek_to_first();
        while found {
            let (key, value) = (iterator.key(), iterator.value());
            records.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            found = iterator.next();
        }
        iterator.status().expect("no fault was injected");
        Self(records)
    }

    /// A batch of the log writer has become durable; batches come in their order.
    pub fn write(&mut self, batch: &WriteBatch) -> LogChanges {
        let mut changes = LogChanges::default();
        for op in batch.ops() {
            match op {
                Op::Put { cf: Cf::Raft, key, value } => {
                    match LogKey::of(key) {
                        Some(LogKey::State(group)) => changes.states.push(group),
                        Some(LogKey::Entry(group, index)) => changes.entries.push((group, index)),
                        None => continue,
                    }
                    self.0.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                }
                Op::Delete { cf: Cf::Raft, key } => {
                    self.0.remove(key);
                }
                Op::DeleteRange { cf: Cf::Raft, start, end } if start < end => {
                    let range = Bytes::copy_from_slice(start)..Bytes::copy_from_slice(end);
                    let keys: Vec<Bytes> = self.0.range(range).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        self.0.remove(&key);
                    }
                }
                _ => {}
            }
        }
        changes
    }

    fn state(&self, group: RegionId) -> Option<(HardState, EntryId)> {
        let record = self.0.get(keys::state(group).as_slice())?;
        Some(read_state(record).expect("written by this build"))
    }

    /// A group's term and vote; `None` if it has written none.
    #[must_use]
    pub fn vote(&self, group: RegionId) -> Option<(Term, Option<PeerId>)> {
        let (HardState { term, vote, .. }, _) = self.state(group)?;
        Some((term, (!vote.is_zero()).then_some(vote)))
    }

    /// Where a group's log ends; `None` if it has written nothing.
    #[must_use]
    pub fn last(&self, group: RegionId) -> Option<LogIndex> {
        Some(self.state(group)?.1.index)
    }

    /// A group's entry.
    #[must_use]
    pub fn entry(&self, group: RegionId, index: LogIndex) -> Option<Entry> {
        let record = self.0.get(keys::entry(group, index).as_slice())?;
        Some(read_entry(record).expect("written by this build"))
    }

    /// What is there of a group's log for one who asks about `index`; `peer` is the group's peer here.
    #[must_use]
    pub fn log(&self, group: RegionId, peer: PeerId, index: LogIndex) -> DurableLog {
        let term = self.entry(group, index).map(|entry| entry.term);
        // An entry that is gone from a log that goes on was applied, or is part of a snapshot, and that is durable, for
        // its removal was written after it.
        let last = self.state(group).map_or(LogIndex::ZERO, |(_, last)| last.index);
        let applied = if term.is_none() { last } else { LogIndex::ZERO };
        DurableLog { peer, term, applied }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{P1, log_batch};

    #[test]
    fn batches_and_a_scan_give_the_same_picture() {
        const G: RegionId = RegionId(7);
        let (engine, mut logs) = (MemEngine::new(), DurableLogs::default());
        let hard_state = HardState { term: Term(3), vote: PeerId(3), ..HardState::default() };
        let mut batch = log_batch(G, &[2, 2, 3], hard_state);
        batch.delete_range(Cf::Raft, &keys::entry(G, LogIndex(0)), &keys::entry(G, LogIndex(7)));
        engine.write(&batch).unwrap();
        let changes = logs.write(&batch);
        assert_eq!(changes.entries, [(G, LogIndex(6)), (G, LogIndex(7)), (G, LogIndex(8))]);
        assert_eq!(changes.states, [G]);
        for logs in [logs, DurableLogs::scan(&engine)] {
            assert_eq!(logs.vote(G), Some((Term(3), Some(PeerId(3)))));
            let log = |index| logs.log(G, P1, LogIndex(index));
            let seen = |term, applied| DurableLog { peer: P1, term, applied: LogIndex(applied) };
            assert_eq!(log(6), seen(None, 8));
            assert_eq!(log(7), seen(Some(Term(2)), 0));
            assert_eq!(log(9), seen(None, 8));
            assert_eq!(logs.log(RegionId(8), P1, LogIndex(6)), seen(None, 0));
        }
    }
}
