//! Reads against a model: what a map of committed versions says, in the order of their commits.

use bytes::{Bytes, BytesMut};
use engine::{Engine, MemEngine, WriteBatch};
use mvcc::{
    Direction, Lock, LockKind, MvccReader, ReadError, Record, SHORT_VALUE_MAX, ScanLimits, View, Write,
    WriteKind, put_lock, put_value, put_write,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};
use types::{Key, KeyRange, Timestamp};

/// What is done to a key, in the order of its timestamps.
#[derive(Clone, Debug)]
enum Step {
    Put { long: bool },
    Delete,
    Claim,
    Rollback,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<bool>().prop_map(|long| Step::Put { long }),
        1 => Just(Step::Delete),
        2 => Just(Step::Claim),
        2 => Just(Step::Rollback),
    ];
    // More than a cursor steps over before it seeks, in some.
    prop::collection::vec(step, 0..24)
}

#[derive(Clone, Debug)]
struct Locked {
    kind: LockKind,
    start: u64,
    min_commit: u64,
}

fn locked() -> impl Strategy<Value = Option<Locked>> {
    let kind = prop_oneof![
        Just(LockKind::Put),
        Just(LockKind::Delete),
        Just(LockKind::Lock),
        Just(LockKind::Pessimistic)
    ];
    prop::option::weighted(
        0.3,
        (kind, 1..120_u64, 0..140_u64).prop_map(|(kind, start, min_commit)| Locked {
            kind,
            start,
            min_commit,
        }),
    )
}

/// Writes a record of a key.
fn record(engine: &MemEngine, key: &[u8], at: Timestamp, write: &Write) {
    let snapshot = engine.snapshot();
    let newest = MvccReader::new(&snapshot).newest(key).expect("readable");
    let mut batch = WriteBatch::new();
    put_write(&mut batch, key, newest.as_ref(), at, write);
    engine.write(&batch).expect("the disk works");
}

fn small(number: usize) -> u8 {
    u8::try_from(number).expect("histories are short")
}

fn key(number: usize) -> Key {
    let mut out = BytesMut::new();
    // Some are the beginning of others.
    let user = [&b"k"[..], &vec![b'a'; number % 4], &[small(number)][..number / 4 % 2]].concat();
    codec::ordered::put_ordered(&mut out, &[&user[..], &[small(number)]].concat());
    out.freeze()
}

/// The keys of a history with what the model knows of them.
struct World {
    engine: MemEngine,
    /// Commit timestamp → value, or none where it was removed.
    versions: BTreeMap<Key, BTreeMap<u64, Option<Bytes>>>,
    locks: BTreeMap<Key, Lock>,
    records: Vec<(Key, Timestamp, Record)>,
}

fn world(histories: &[(Vec<Step>, Option<Locked>)]) -> World {
    let mut world = World {
        engine: MemEngine::new(),
        versions: BTreeMap::new(),
        locks: BTreeMap::new(),
        records: Vec::new(),
    };
    let mut batch = WriteBatch::new();
    for (number, (steps, locked)) in histories.iter().enumerate() {
        let key = key(number);
        let versions = world.versions.entry(key.clone()).or_default();
        for (at, step) in steps.iter().enumerate() {
            let start = Timestamp(at as u64 * 5 + 1);
            let commit = Timestamp(start.0 + 2);
            let (kind, commit) = match step {
                Step::Put { .. } => (WriteKind::Put, commit),
                Step::Delete => (WriteKind::Delete, commit),
                Step::Claim => (WriteKind::Lock, commit),
                Step::Rollback => (WriteKind::Rollback, start),
            };
            let mut write = Write::new(kind, start);
            match step {
                Step::Put { long } => {
                    let len = if *long { SHORT_VALUE_MAX + 1 } else { 3 };
                    let value = Bytes::from(vec![small(at); len]);
                    match long {
                        true => put_value(&mut batch, &key, start, &value),
                        false => write.short_value = Some(value.clone()),
                    }
                    versions.insert(commit.0, Some(value));
                }
                Step::Delete => drop(versions.insert(commit.0, None)),
                Step::Claim | Step::Rollback => {}
            }
            record(&world.engine, &key, commit, &write);
            let record = match kind {
                WriteKind::Rollback => Record::RolledBack,
                _ => Record::Committed { commit_ts: commit, write },
            };
            world.records.push((key.clone(), start, record));
        }
        world.records.push((key.clone(), Timestamp(3), Record::None));
        if let Some(Locked { kind, start, min_commit }) = locked {
            let lock = Lock {
                short_value: Some("locked".into()),
                min_commit_ts: Timestamp(*min_commit),
                ..Lock::new(*kind, "primary".into(), Timestamp(*start), 0)
            };
            put_lock(&mut batch, &key, &lock);
            world.locks.insert(key, lock);
        }
    }
    world.engine.write(&batch).expect("the disk works");
    world
}

impl World {
    /// What is seen of a key: a value, nothing, or a lock.
    fn seen(&self, key: &Key, view: &View) -> Result<Option<Bytes>, Box<Lock>> {
        if let Some(lock) = self.locks.get(key) {
            let writes = matches!(lock.kind, LockKind::Put | LockKind::Delete);
            let hides = writes && lock.start_ts <= view.at && lock.min_commit_ts <= view.at;
            if hides && view.committed.contains(&lock.start_ts) {
                return Ok(lock.short_value.clone().filter(|_| lock.kind == LockKind::Put));
            }
            if hides && !view.resolved.contains(&lock.start_ts) {
                return Err(Box::new(lock.clone()));
            }
        }
        let versions = self.versions.get(key);
        Ok(versions
            .and_then(|versions| versions.range(..=view.at.0).next_back())
            .and_then(|(_, v)| v.clone()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Points, ranges, both directions, however small the pages: all see what the model sees.
    #[test]
    fn reads_agree_with_the_model(
        histories in prop::collection::vec((steps(), locked()), 1..12),
        at in 0..130_u64,
        bounds in (0..14_usize, 0..14_usize),
        page in (1..5_usize, 1..600_usize, 1..40_usize),
        known in (prop::collection::btree_set(1..120_u64, 0..40), prop::collection::btree_set(1..120_u64, 0..40)),
    ) {
        let world = world(&histories);
        let snapshot = world.engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        let set = |numbers: &BTreeSet<u64>| numbers.iter().copied().map(Timestamp).collect::<BTreeSet<_>>();
        let committed = &set(&known.1) - &set(&known.0);
        let view = View { at: Timestamp(at), resolved: set(&known.0), committed };
        let wanted: BTreeMap<Key, Result<Bytes, Box<Lock>>> = (0..histories.len())
            .map(key)
            .filter_map(|key| Some((key.clone(), world.seen(&key, &view).transpose()?)))
            .collect();
        for number in 0..histories.len() {
            let key = key(number);
            let got = match reader.get(&key, &view) {
                Ok(value) => value.map(Ok),
                Err(ReadError::Locked { lock, .. }) => Some(Err(lock)),
                Err(other) => panic!("{other}"),
            };
            prop_assert_eq!(got.as_ref(), wanted.get(&key));
        }
        for (key, start, record) in &world.records {
            prop_assert_eq!(&reader.record_of(key, *start).unwrap(), record);
        }
        let (low, high) = (key(bounds.0), key(bounds.1));
        let range = match low < high {
            true => KeyRange::new(low, high),
            false => KeyRange::full(),
        };
        let (items_max, bytes_max, steps_max) = page;
        let limits = ScanLimits { items_max, bytes_max, steps_max };
        for direction in [Direction::Forward, Direction::Backward] {
            let mut got = Vec::new();
            let mut left = Some(range.clone());
            while let Some(range) = left {
                let page = reader.scan(&range, direction, &view, limits).unwrap();
                prop_assert!(page.items.len() <= items_max);
                prop_assert!(page.rest.as_ref() != Some(&range), "it gets on");
                got.extend(page.items.into_iter().map(|item| (item.key, item.outcome)));
                left = page.rest;
            }
            let in_range = wanted.iter().filter(|(key, _)| range.contains(key));
            let mut wanted: Vec<_> = in_range.map(|(key, value)| (key.clone(), value.clone())).collect();
            if direction == Direction::Backward {
                wanted.reverse();
            }
            prop_assert_eq!(got, wanted);
        }
    }
}

/// A key is written again and again: a read of the newest or an old version costs a few moves and not one for each.
#[test]
fn a_key_with_many_versions_costs_a_seek() {
    let engine = MemEngine::new();
    let key = key(1);
    for number in 1..=1000_u64 {
        let start_ts = Timestamp(number * 2);
        let write = Write { short_value: Some("v".into()), ..Write::new(WriteKind::Put, start_ts) };
        record(&engine, &key, Timestamp(number * 2 + 1), &write);
    }
    let snapshot = engine.snapshot();
    let reader = MvccReader::new(&snapshot);
    for at in [0, 3, 1000, 5000] {
        for direction in [Direction::Forward, Direction::Backward] {
            let view = View::at(Timestamp(at));
            let page = reader.scan(&KeyRange::full(), direction, &view, ScanLimits::default()).unwrap();
            assert_eq!(page.items.len(), usize::from(at > 2));
            assert!(page.steps < 40, "{direction:?} at {at}: {} moves", page.steps);
        }
    }
}

/// A key was locked again and again and never written: a scan in reverse looked for its value among all of its records, and
/// went on behind the last of them, at keys that it had passed before, or nowhere.
#[test]
fn a_key_that_was_only_locked_ends_no_scan_and_repeats_nothing() {
    let mut names: Vec<Key> = (1..=4).map(key).collect();
    names.sort();
    for last in [false, true] {
        let engine = MemEngine::new();
        let put = Write { short_value: Some("v".into()), ..Write::new(WriteKind::Put, Timestamp(1)) };
        let mut written = names[..2].to_vec();
        written.extend((!last).then(|| names[3].clone()));
        for key in &written {
            record(&engine, key, Timestamp(2), &put);
        }
        for number in 2..=30_u64 {
            let lock = Write::new(WriteKind::Lock, Timestamp(number * 2));
            record(&engine, &names[2], Timestamp(number * 2 + 1), &lock);
        }
        let snapshot = engine.snapshot();
        let reader = MvccReader::new(&snapshot);
        for direction in [Direction::Forward, Direction::Backward] {
            let view = View::at(Timestamp(100));
            let page = reader.scan(&KeyRange::full(), direction, &view, ScanLimits::default()).unwrap();
            let mut keys: Vec<Key> = page.items.into_iter().map(|item| item.key).collect();
            if direction == Direction::Backward {
                keys.reverse();
            }
            assert_eq!(keys, written, "{direction:?}");
        }
    }
}

/// A transaction was rolled back that began when another committed, and the one record says both.
#[test]
fn a_rollback_that_would_stand_in_the_place_of_a_commit_is_seen() {
    let engine = MemEngine::new();
    let key = key(1);
    let write = Write {
        short_value: Some("v".into()),
        overlapped_rollback: true,
        ..Write::new(WriteKind::Put, Timestamp(5))
    };
    record(&engine, &key, Timestamp(9), &write);
    let snapshot = engine.snapshot();
    let reader = MvccReader::new(&snapshot);
    assert_eq!(reader.record_of(&key, Timestamp(9)), Ok(Record::RolledBack));
    let committed = Record::Committed { commit_ts: Timestamp(9), write };
    assert_eq!(reader.record_of(&key, Timestamp(5)), Ok(committed));
    assert_eq!(reader.record_of(&key, Timestamp(7)), Ok(Record::None));
    assert_eq!(reader.get(&key, &View::at(Timestamp(9))), Ok(Some("v".into())));
}
