//! What the stores' disks hold of their regions' logs for certain, kept beside the engines, batch by batch.
//!
//! A store's log writer is the only one that writes log records (INV-LOG-3), so whoever sees its batches and its syncs
//! knows what a power loss would leave.

use crate::check::invariants::DurableLog;
use bytes::Bytes;
use codec::{Decode, codec_struct};
use engine::{Cf, Engine, MemEngine, Op, Snapshot, WriteBatch};
use raft::{Entry, EntryId, HardState};
use raft_log::keys;
use std::collections::BTreeMap;
use types::{KeyRange, LogIndex, PeerId, RegionId, Term};

/// What is kept beside the entries of a group, as `raft_log` writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LogState {
    hard_state: HardState,
    last: EntryId,
}
codec_struct!(LogState { hard_state, last });

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
                Op::Put { cf: Cf::Raft, key, value } if key.first() == Some(&keys::LOG_PREFIX) => {
                    self.0.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                    let number = |at: usize| key[at..at + 8].try_into().map(u64::from_be_bytes);
                    let group = RegionId(number(1).expect("eight bytes"));
                    if keys::state(group) == *key {
                        changes.states.push(group);
                    } else {
                        changes.entries.push((group, LogIndex(number(10).expect("eight bytes"))));
                    }
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

    fn state(&self, group: RegionId) -> Option<LogState> {
        let record = self.0.get(keys::state(group).as_slice())?;
        Some(LogState::from_bytes(record).expect("written by this build"))
    }

    /// A group's term and vote; `None` if it has written none.
    #[must_use]
    pub fn vote(&self, group: RegionId) -> Option<(Term, Option<PeerId>)> {
        let HardState { term, vote, .. } = self.state(group)?.hard_state;
        Some((term, (!vote.is_zero()).then_some(vote)))
    }

    /// Where a group's log ends; `None` if it has written nothing.
    #[must_use]
    pub fn last(&self, group: RegionId) -> Option<LogIndex> {
        Some(self.state(group)?.last.index)
    }

    /// A group's entry.
    #[must_use]
    pub fn entry(&self, group: RegionId, index: LogIndex) -> Option<Entry> {
        let record = self.0.get(keys::entry(group, index).as_slice())?;
        Some(Entry::from_bytes(record).expect("written by this build"))
    }

    /// What is there of a group's log for one who asks about `index`; `peer` is the group's peer here.
    #[must_use]
    pub fn log(&self, group: RegionId, peer: PeerId, index: LogIndex) -> DurableLog {
        let term = self.entry(group, index).map(|entry| entry.term);
        // An entry that is gone from a log that goes on was applied, or is part of a snapshot, and that is durable, for
        // its removal was written after it.
        let last = self.state(group).map_or(LogIndex::ZERO, |state| state.last.index);
        let applied = if term.is_none() { last } else { LogIndex::ZERO };
        DurableLog { peer, term, applied }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::Encode;
    use raft::EntryKind;

    const G: RegionId = RegionId(7);

    fn put(batch: &mut WriteBatch, index: u64, term: u64) {
        let (term, index) = (Term(term), LogIndex(index));
        let entry = Entry { term, index, kind: EntryKind::Normal, data: Bytes::new() };
        batch.put(Cf::Raft, &keys::entry(G, index), &entry.to_bytes());
        let hard_state = HardState { term, vote: PeerId(3), ..HardState::default() };
        let state = LogState { hard_state, last: EntryId::new(term, index) };
        batch.put(Cf::Raft, &keys::state(G), &state.to_bytes());
    }

    #[test]
    fn batches_and_a_scan_give_the_same_picture() {
        let (engine, mut logs) = (MemEngine::new(), DurableLogs::default());
        let mut batch = WriteBatch::default();
        put(&mut batch, 6, 2);
        put(&mut batch, 7, 2);
        put(&mut batch, 8, 3);
        batch.delete_range(Cf::Raft, &keys::entry(G, LogIndex(0)), &keys::entry(G, LogIndex(7)));
        engine.write(&batch).unwrap();
        let changes = logs.write(&batch);
        assert_eq!(changes.entries, [(G, LogIndex(6)), (G, LogIndex(7)), (G, LogIndex(8))]);
        assert_eq!(changes.states, [G, G, G]);
        for logs in [logs, DurableLogs::scan(&engine)] {
            assert_eq!(logs.vote(G), Some((Term(3), Some(PeerId(3)))));
            let log = |index| logs.log(G, PeerId(1), LogIndex(index));
            let seen = |term, applied| DurableLog { peer: PeerId(1), term, applied: LogIndex(applied) };
            assert_eq!(log(6), seen(None, 8));
            assert_eq!(log(7), seen(Some(Term(2)), 0));
            assert_eq!(log(9), seen(None, 8));
            assert_eq!(logs.log(RegionId(8), PeerId(1), LogIndex(6)), seen(None, 0));
        }
    }
}
