//! One group's log beside a plain list of entries: appends, overwrites, compactions, snapshots, late completions and
//! restarts in random order leave both alike.

use bytes::Bytes;
use engine::{Engine, MemEngine, WriteBatch};
use env::{Dice, SplitMix};
use raft::{
    Append, ConfState, Entry, EntryId, FetchContext, HardState, LogMark, PersistToken, Snapshot,
    SnapshotMeta, Storage, StorageError,
};
use raft_log::GroupLog;
use std::collections::VecDeque;
use types::{LogIndex, PeerId, RegionId, Term};

const GROUP: RegionId = RegionId(7);

struct Model {
    engine: MemEngine,
    log: GroupLog<MemEngine>,
    truncated: EntryId,
    entries: Vec<Entry>,
    term: u64,
    sequence: u64,
    /// Handed over, not written yet.
    queue: VecDeque<(WriteBatch, PersistToken)>,
    collected: LogIndex,
}

impl Model {
    fn new() -> Self {
        let engine = MemEngine::new();
        let truncated = EntryId::new(Term(5), LogIndex(5));
        let log =
            GroupLog::load(engine.clone(), GROUP, truncated, ConfState::default()).expect("the engine works");
        let (entries, queue) = (Vec::new(), VecDeque::new());
        Self { engine, log, truncated, entries, term: 5, sequence: 0, queue, collected: LogIndex(6) }
    }

    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.truncated, Entry::id)
    }

    fn token(&mut self) -> PersistToken {
        self.sequence += 1;
        let mark = LogMark { accepted_term: Term(self.term), index: self.last().index };
        PersistToken { seq: self.sequence, mark }
    }

    fn hand_over(&mut self, entries: Vec<Entry>, snapshot: Option<Snapshot>) {
        let token = self.token();
        let hard_state =
            HardState { term: Term(self.term), commit: self.truncated.index, ..HardState::default() };
        let (entries, snapshot) = (entries.into(), snapshot.map(Box::new));
        let append = Append { hard_state: Some(hard_state), entries, snapshot, token };
        let mut batch = WriteBatch::new();
        self.log.append(&append, &mut batch);
        self.queue.push_back((batch, token));
    }

    fn append(&mut self, dice: &mut SplitMix) {
        if dice.chance(1, 4) {
            // Another leader's entries replace some of ours.
            self.term += 1;
            let keep = dice.below(self.entries.len() as u64 + 1) as usize;
            self.entries.truncate(keep);
        }
        let mut entries = Vec::new();
        let mut index = self.last().index;
        for _ in 0..=dice.below(4) {
            index = index.next();
            let data = Bytes::from(vec![dice.next_u64() as u8; dice.below(40) as usize]);
            entries.push(Entry { term: Term(self.term), index, data, ..Entry::default() });
        }
        self.entries.extend(entries.iter().cloned());
        self.hand_over(entries, None);
    }

    fn restart_from_snapshot(&mut self, dice: &mut SplitMix) {
        self.term += 1;
        self.truncated = EntryId::new(Term(self.term), self.last().index + dice.below(5) + 1);
        self.entries.clear();
        self.collected = self.truncated.index.next();
        let meta = SnapshotMeta {
            index: self.truncated.index,
            term: self.truncated.term,
            ..SnapshotMeta::default()
        };
        self.hand_over(Vec::new(), Some(Snapshot { meta, data: Bytes::new() }));
    }

    fn write_one(&mut self) {
        if let Some((batch, token)) = self.queue.pop_front() {
            self.engine.write(&batch).expect("the engine works");
            self.log.on_written(token);
        }
    }

    fn compact(&mut self, dice: &mut SplitMix) {
        // As the store does: what is compacted was applied, so it is written, and its removal goes behind the writes.
        while !self.queue.is_empty() {
            self.write_one();
        }
        let count = dice.below(self.entries.len() as u64 + 1) as usize;
        if count == 0 {
            return;
        }
        let to = self.entries[count - 1].id();
        self.entries.drain(..count);
        self.truncated = to;
        self.log.compact(to);
        let mut batch = WriteBatch::new();
        self.collected = self.log.collect(self.collected, &mut batch);
        self.engine.write(&batch).expect("the engine works");
    }

    fn restart(&mut self) {
        while !self.queue.is_empty() {
            self.write_one();
        }
        self.log = GroupLog::load(self.engine.clone(), GROUP, self.truncated, ConfState::default())
            .expect("the engine works");
        self.sequence = 0;
    }

    fn check(&self) {
        assert_eq!(self.log.first_index(), self.truncated.index.next());
        assert_eq!(self.log.last_index(), self.last().index);
        assert_eq!(self.log.term(self.truncated.index), Ok(self.truncated.term));
        for entry in &self.entries {
            assert_eq!(self.log.term(entry.index), Ok(entry.term));
        }
        let context = FetchContext { to: PeerId::ZERO, term: Term(self.term) };
        let mut out = Vec::new();
        self.log
            .entries(self.log.first_index(), self.log.last_index().next(), u64::MAX, context, &mut out)
            .expect("the engine works");
        assert_eq!(out, self.entries);
    }
}

#[test]
fn random_histories_leave_the_log_as_a_plain_list_would_be() {
    for seed in 0..300 {
        let mut dice = SplitMix::new(seed);
        let mut model = Model::new();
        for _ in 0..120 {
            match dice.below(12) {
                0..=4 => model.append(&mut dice),
                5..=7 => model.write_one(),
                8 => model.compact(&mut dice),
                9 => {
                    model.log.evict_cache(LogIndex(dice.below(model.last().index.get() + 1)), dice.below(200))
                }
                10 => model.restart(),
                _ if dice.chance(1, 4) => model.restart_from_snapshot(&mut dice),
                _ => {}
            }
            model.check();
        }
    }
}

#[test]
fn a_late_completion_does_not_free_entries_that_were_overwritten_since() {
    // Entries 6..=9 are handed over and overwritten from 7 before the first write is done. Its completion then arrives;
    // had it freed the cache, the engine would answer with the old entries.
    let mut dice = SplitMix::new(3);
    let mut model = Model::new();
    let entry = |term: u64, index: u64| Entry {
        term: Term(term),
        index: LogIndex(index),
        data: Bytes::from(vec![term as u8]),
        ..Entry::default()
    };
    model.entries = (6..=9).map(|index| entry(5, index)).collect();
    model.hand_over(model.entries.clone(), None);
    model.term = 6;
    model.entries.truncate(1);
    let newer: Vec<Entry> = (7..=9).map(|index| entry(6, index)).collect();
    model.entries.extend(newer.iter().cloned());
    model.hand_over(newer, None);
    model.write_one();
    model.log.evict_cache(LogIndex(9), 0);
    model.check();
    model.write_one();
    model.log.evict_cache(LogIndex(9), 0);
    model.check();
    model.compact(&mut dice);
}

#[test]
fn entries_that_left_the_cache_are_fetched_for_a_follower_and_served_once() {
    let mut dice = SplitMix::new(1);
    let mut model = Model::new();
    for _ in 0..5 {
        model.append(&mut dice);
    }
    model.restart();
    let context = FetchContext { to: PeerId(2), term: Term(model.term) };
    let (low, high) = (model.log.first_index(), model.log.last_index().next());
    let mut out = Vec::new();
    let asked = model.log.entries(low, high, u64::MAX, context, &mut out);
    assert_eq!(asked, Err(StorageError::LogTemporarilyUnavailable));
    let request = model.log.take_fetch_wanted().expect("noted");
    assert!(model.log.take_fetch_wanted().is_none());
    let fetched = GroupLog::fetch(&model.engine, GROUP, &request).expect("the engine works");
    model.log.offer_entries(context.to, fetched);
    model.log.entries(low, high, u64::MAX, context, &mut out).expect("the engine works");
    assert_eq!(out, model.entries);
    out.clear();
    assert!(model.log.entries(low, high, u64::MAX, context, &mut out).is_err());
}

#[test]
fn a_log_that_lost_its_tail_is_refused() {
    let mut dice = SplitMix::new(2);
    let mut model = Model::new();
    model.append(&mut dice);
    model.restart();
    let mut batch = WriteBatch::new();
    batch.delete(engine::Cf::Raft, &raft_log::keys::entry(GROUP, model.last().index));
    model.engine.write(&batch).expect("the engine works");
    assert!(GroupLog::load(model.engine.clone(), GROUP, model.truncated, ConfState::default()).is_err());
    let mut whole = GroupLog::load(MemEngine::new(), GROUP, model.truncated, ConfState::default())
        .expect("the engine works");
    assert!(whole.on_recovered(model.truncated.index.next()).is_err());
}

#[test]
fn two_followers_that_lag_behind_are_both_served() {
    // The second request once took the place of the first, and its follower waited for ever (simulation seed 558).
    let mut dice = SplitMix::new(3);
    let mut model = Model::new();
    for _ in 0..5 {
        model.append(&mut dice);
    }
    model.restart();
    let (low, high) = (model.log.first_index(), model.log.last_index().next());
    let contexts = [2, 3].map(|peer| FetchContext { to: PeerId(peer), term: Term(model.term) });
    let mut out = Vec::new();
    for context in contexts {
        let asked = model.log.entries(low, high, u64::MAX, context, &mut out);
        assert_eq!(asked, Err(StorageError::LogTemporarilyUnavailable));
    }
    while let Some(request) = model.log.take_fetch_wanted() {
        let fetched = GroupLog::fetch(&model.engine, GROUP, &request).expect("the engine works");
        model.log.offer_entries(request.context.to, fetched);
    }
    for context in contexts {
        out.clear();
        model.log.entries(low, high, u64::MAX, context, &mut out).expect("the engine works");
        assert_eq!(out, model.entries);
    }
}
