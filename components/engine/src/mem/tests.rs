//! What the engine in memory adds to the contract: crashes, faults, and that it forgets what nobody can ask for.

use super::*;
use crate::Snapshot as _;
use env::{Dice, SplitMix};

fn put(engine: &MemEngine, key: &str, value: &str) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, key.as_bytes(), value.as_bytes());
    engine.write(&batch)
}

fn write_sst(engine: &MemEngine, name: &str, key: &str, value: &str) {
    let mut writer = engine.create_sst(Cf::Default, name).unwrap();
    writer.put(key.as_bytes(), value.as_bytes()).unwrap();
    assert!(writer.finish().unwrap());
}

fn at(engine: &MemEngine, key: &str) -> Option<String> {
    let value = engine.get(Cf::Default, key.as_bytes()).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn least(range: RangeInclusive<u64>) -> u64 {
    *range.start()
}

fn most(range: RangeInclusive<u64>) -> u64 {
    *range.end()
}

#[test]
fn a_sync_covers_what_was_written_before_it_began_and_not_what_landed_meanwhile() {
    let engine = MemEngine::new();
    put(&engine, "before", "1").unwrap();
    let ticket = engine.begin_sync();
    put(&engine, "during", "2").unwrap();
    assert_eq!(at(&engine.copy_disk(least), "before"), None, "a sync under way promises nothing");
    engine.finish_sync(ticket).unwrap();
    assert_eq!(engine.durability().unsynced_bytes, 10 + 6 + 1);
    let after = engine.crash(least);
    assert_eq!((at(&after, "before"), at(&after, "during")), (Some("1".into()), None));
}

#[test]
fn syncs_may_finish_in_any_order() {
    let engine = MemEngine::new();
    put(&engine, "a", "1").unwrap();
    let first = engine.begin_sync();
    put(&engine, "b", "2").unwrap();
    let second = engine.begin_sync();
    engine.finish_sync(second).unwrap();
    engine.finish_sync(first).unwrap();
    assert_eq!(at(&engine.crash(least), "b"), Some("2".into()));
}

#[test]
fn a_crash_keeps_a_prefix_whole_batches_only_and_brings_old_values_back() {
    let engine = MemEngine::new();
    put(&engine, "k", "old").unwrap();
    put(&engine, "gone", "old").unwrap();
    engine.sync().unwrap();
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", b"new");
    batch.delete_range(Cf::Default, b"g", b"h");
    engine.write(&batch).unwrap();
    put(&engine, "k", "newest").unwrap();
    let seen = |engine: &MemEngine| (at(engine, "k"), at(engine, "gone"));
    assert_eq!(seen(&engine.copy_disk(|range| *range.start())), (Some("old".into()), Some("old".into())));
    assert_eq!(seen(&engine.copy_disk(|range| range.start() + 1)), (Some("new".into()), None));
    assert_eq!(seen(&engine.crash(most)), (Some("newest".into()), None));
}

#[test]
fn an_ingestion_survives_the_loss_of_the_batches_before_it() {
    let engine = MemEngine::new();
    put(&engine, "k", "lost").unwrap();
    put(&engine, "other", "lost").unwrap();
    write_sst(&engine, "f", "k", "ingested");
    engine.ingest(&[(Cf::Default, "f".to_owned())]).unwrap();
    put(&engine, "k", "after").unwrap();
    let after = engine.crash(least);
    assert_eq!((at(&after, "k"), at(&after, "other")), (Some("ingested".into()), None));
    assert_eq!(after.list_sst().unwrap(), ["f"]);
    // And the engine goes on: what it found is durable, numbers go on where they stood.
    put(&after, "k", "later").unwrap();
    assert_eq!(at(&after.copy_disk(least), "k"), Some("ingested".into()));
    assert_eq!(at(&after.crash(most), "k"), Some("later".into()));
}

#[test]
fn file_deletion_is_durable_at_once_reaches_live_snapshots_and_spares_what_is_not_synced() {
    let engine = MemEngine::new();
    put(&engine, "a", "durable").unwrap();
    put(&engine, "b", "durable").unwrap();
    engine.sync().unwrap();
    put(&engine, "b", "unsynced").unwrap();
    let snapshot = engine.snapshot();
    engine.delete_files_in_range(Cf::Default, &KeyRange::full()).unwrap();
    assert_eq!(snapshot.get(Cf::Default, b"a").unwrap(), None);
    assert_eq!((at(&engine, "a"), at(&engine, "b")), (None, Some("unsynced".into())));
    let after = engine.crash(least);
    assert_eq!((at(&after, "a"), at(&after, "b")), (None, None));
}

#[test]
fn file_deletion_can_be_told_to_leave_some_or_all_behind() {
    for (choice, low, high) in [(FileDeletion::Half, 20, 80), (FileDeletion::Nothing, 100, 100)] {
        let engine = MemEngine::new();
        engine.set_file_deletion(choice);
        for number in 0..100 {
            put(&engine, &format!("{number:02}"), "v").unwrap();
        }
        engine.sync().unwrap();
        engine.delete_files_in_range(Cf::Default, &KeyRange::full()).unwrap();
        let left = (0..100).filter(|number| at(&engine, &format!("{number:02}")).is_some()).count();
        assert!((low..=high).contains(&left), "{choice:?} left {left}");
    }
}

#[test]
fn a_failed_write_or_sync_poisons_and_leaves_open_what_a_restart_finds() {
    for fault in [Fault::Write, Fault::Sync] {
        let engine = MemEngine::new();
        let snapshot = engine.snapshot();
        engine.fail_next(fault);
        let failed = put(&engine, "k", "v").is_err() || engine.sync().is_err();
        assert!(failed, "{fault:?}");
        assert!(engine.poisoned().is_some());
        assert!(put(&engine, "k", "w").is_err());
        assert!(engine.sync().is_err());
        assert!(engine.get(Cf::Default, b"k").is_err());
        assert!(snapshot.get(Cf::Default, b"k").is_err());
        assert!(engine.list_sst().is_err());
        let mut iterator = snapshot.iter(Cf::Default, &KeyRange::full());
        assert!(!iterator.seek_to_first() && iterator.status().is_err());
        drop(iterator);
        assert_eq!(at(&engine.copy_disk(least), "k"), None);
        assert_eq!(at(&engine.crash(most), "k"), Some("v".into()));
    }
}

#[test]
fn a_failed_read_is_reported_and_is_not_the_end() {
    let engine = MemEngine::new();
    put(&engine, "k", "v").unwrap();
    engine.fail_next(Fault::Read);
    assert!(matches!(engine.get(Cf::Default, b"k"), Err(EngineError::Corrupt(_))));
    assert_eq!(at(&engine, "k"), Some("v".into()));
}

#[test]
fn a_full_disk_stops_the_engine_at_a_write_and_stays_full_over_a_restart() {
    let engine = MemEngine::new();
    let mut writer = engine.create_sst(Cf::Write, "f").unwrap();
    writer.put(b"k", b"v").unwrap();
    engine.set_disk_full(true);
    assert!(writer.finish().is_err(), "no room for the file");
    assert!(engine.poisoned().is_none(), "a file that could not be written has changed nothing");
    assert!(put(&engine, "k", "v").is_err());
    let engine = engine.crash(most);
    assert!(put(&engine, "k", "v").is_err());
    let engine = engine.crash(least);
    engine.set_disk_full(false);
    put(&engine, "k", "v").unwrap();
}

#[test]
fn a_failed_ingestion_leaves_nothing_and_poisons() {
    let engine = MemEngine::new();
    write_sst(&engine, "f", "k", "v");
    engine.fail_next(Fault::Ingest);
    assert!(engine.ingest(&[(Cf::Default, "f".to_owned())]).is_err());
    let after = engine.crash(most);
    assert_eq!(at(&after, "k"), None);
    after.ingest(&[(Cf::Default, "f".to_owned())]).unwrap();
    assert_eq!(at(&after, "k"), Some("v".into()));
}

#[test]
fn all_handles_of_a_crashed_engine_are_dead_and_an_unfinished_file_is_gone() {
    let engine = MemEngine::new();
    let clone = engine.clone();
    let snapshot = engine.snapshot();
    let mut writer = engine.create_sst(Cf::Default, "f").unwrap();
    writer.put(b"k", b"v").unwrap();
    let after = engine.crash(most);
    assert!(clone.get(Cf::Default, b"k").is_err() && snapshot.get(Cf::Default, b"k").is_err());
    assert!(writer.finish().is_err());
    assert!(after.list_sst().unwrap().is_empty());
}

#[test]
#[should_panic(expected = "a sync does not outlive a crash")]
fn a_ticket_of_a_former_life_is_our_mistake() {
    let engine = MemEngine::new();
    let ticket = engine.begin_sync();
    let _ = engine.crash(most).finish_sync(ticket);
}

#[test]
fn versions_go_when_neither_a_snapshot_nor_a_crash_can_ask_for_them() {
    let engine = MemEngine::new();
    for round in 0..10 {
        put(&engine, "k", &round.to_string()).unwrap();
    }
    assert_eq!(engine.version_count(), 10, "a crash may bring each of them back");
    let snapshot = engine.snapshot();
    let mut batch = WriteBatch::new();
    batch.delete(Cf::Default, b"k");
    engine.write(&batch).unwrap();
    engine.sync().unwrap();
    assert_eq!(engine.version_count(), 2, "what the snapshot sees, and the removal");
    assert_eq!(snapshot.get(Cf::Default, b"k").unwrap().unwrap(), "9");
    drop(snapshot);
    assert_eq!(engine.version_count(), 0);
}

/// Keys and their values.
type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// The durable image and the log of all that came after it, as plainly as it can be said.
#[derive(Clone, Default)]
struct Plain {
    image: Content,
    log: Vec<Event>,
    durable: usize,
}

#[derive(Clone)]
enum Event {
    Batch(WriteBatch),
    Ingest(Vec<(Vec<u8>, Vec<u8>)>),
}

impl Plain {
    /// The content when the events before `cut` were kept, and all ingestions.
    fn content(&self, cut: usize) -> Content {
        let mut content = self.image.clone();
        for (index, event) in self.log.iter().enumerate() {
            match event {
                Event::Batch(batch) if index < cut => {
                    for op in batch.ops() {
                        match op {
                            Op::Put { key, value, .. } => drop(content.insert(key.to_vec(), value.to_vec())),
                            Op::Delete { key, .. } => drop(content.remove(key)),
                            Op::DeleteRange { start, end, .. } => {
                                content.retain(|key, _| &key[..] < start || &key[..] >= end);
                            }
                        }
                    }
                }
                Event::Batch(_) => {}
                Event::Ingest(entries) => content.extend(entries.iter().cloned()),
            }
        }
        content
    }
}

fn content(engine: &MemEngine) -> Content {
    let snapshot = engine.snapshot();
    let mut iterator = snapshot.iter(Cf::Default, &KeyRange::full());
    let mut found = Content::new();
    let mut valid = iterator.seek_to_first();
    while valid {
        found.insert(iterator.key().to_vec(), iterator.value().to_vec());
        valid = iterator.next();
    }
    found
}

#[test]
fn random_runs_of_writes_syncs_ingestions_and_crashes_agree_with_a_plain_log() {
    for seed in 0..200 {
        let mut dice = SplitMix::new(seed);
        let mut engine = MemEngine::new();
        let mut plain = Plain::default();
        let mut snapshots: Vec<(MemSnapshot, Content)> = Vec::new();
        let key = |dice: &mut SplitMix| format!("{:02}", dice.below(30)).into_bytes();
        for step in 0..150_u64 {
            let value = step.to_string().into_bytes();
            match dice.below(20) {
                0..12 => {
                    let mut batch = WriteBatch::new();
                    for _ in 0..=dice.below(4) {
                        let (first, second) = (key(&mut dice), key(&mut dice));
                        match dice.below(5) {
                            0 => batch.delete(Cf::Default, &first),
                            1 => batch.delete_range(Cf::Default, &first, &second),
                            _ => batch.put(Cf::Default, &first, &value),
                        }
                    }
                    if !batch.is_empty() {
                        engine.write(&batch).unwrap();
                        plain.log.push(Event::Batch(batch));
                    }
                }
                12 | 13 => {
                    let entries: BTreeMap<_, _> =
                        (0..=dice.below(3)).map(|_| (key(&mut dice), value.clone())).collect();
                    let name = format!("file-{step}");
                    let mut writer = engine.create_sst(Cf::Default, &name).unwrap();
                    for (key, value) in &entries {
                        writer.put(key, value).unwrap();
                    }
                    writer.finish().unwrap();
                    engine.ingest(&[(Cf::Default, name.clone())]).unwrap();
                    engine.remove_sst(&name).unwrap();
                    plain.log.push(Event::Ingest(entries.into_iter().collect()));
                }
                14 | 15 => {
                    engine.sync().unwrap();
                    plain.durable = plain.log.len();
                }
                16 | 17 => snapshots.push((engine.snapshot(), plain.content(plain.log.len()))),
                18 => {
                    for (snapshot, expected) in snapshots.drain(..) {
                        for number in 0..30 {
                            let key = format!("{number:02}").into_bytes();
                            let found = snapshot.get(Cf::Default, &key).unwrap();
                            assert_eq!(found.as_deref(), expected.get(&key).map(|v| &v[..]), "seed {seed}");
                        }
                    }
                }
                _ => {
                    let kept = dice.below((plain.log.len() - plain.durable + 1) as u64);
                    engine = engine.crash(|range| {
                        assert_eq!(range.end() - range.start(), (plain.log.len() - plain.durable) as u64);
                        range.start() + kept
                    });
                    snapshots.clear();
                    let image = plain.content(plain.durable + kept as usize);
                    plain = Plain { image, ..Plain::default() };
                }
            }
            assert_eq!(content(&engine), plain.content(plain.log.len()), "seed {seed}, step {step}");
        }
    }
}
