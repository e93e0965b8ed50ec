//! What a restart finds, and what refuses to open.
#![expect(clippy::unwrap_used, reason = "in the helpers of a test a failure is the test's")]

use engine::{Cf, Engine, Snapshot, WriteBatch};
use engine_rocks::{OpenError, Options, RocksEngine};
use std::path::Path;
use types::KeyRange;

fn open(path: &Path) -> RocksEngine {
    RocksEngine::open(path, &Options::default()).unwrap()
}

fn put(engine: &RocksEngine, cf: Cf, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::new();
    batch.put(cf, key, value);
    engine.write(&batch).unwrap();
}

fn write_sst(engine: &RocksEngine, name: &str, key: &[u8]) {
    let mut writer = engine.create_sst(Cf::Default, name).unwrap();
    writer.put(key, b"from a file").unwrap();
    assert!(writer.finish().unwrap());
}

#[test]
fn what_was_synced_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3_u32 {
        let engine = open(directory.path());
        for number in 0..round * 1000 {
            for cf in Cf::ALL {
                let value = engine.get(cf, &number.to_be_bytes()).unwrap();
                assert_eq!(value.as_deref(), Some(cf.name().as_bytes()), "{number} in round {round}");
            }
        }
        for number in round * 1000..(round + 1) * 1000 {
            let mut batch = WriteBatch::new();
            for cf in Cf::ALL {
                batch.put(cf, &number.to_be_bytes(), cf.name().as_bytes());
            }
            engine.write(&batch).unwrap();
        }
        engine.sync().unwrap();
    }
}

#[test]
fn ingested_files_and_the_files_themselves_survive_a_restart_and_unfinished_ones_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    write_sst(&engine, "ingested", b"a");
    write_sst(&engine, "kept", b"b");
    engine.ingest(&[(Cf::Default, "ingested".to_owned())]).unwrap();
    drop(engine);
    // What a process leaves that dies in the middle of a file.
    let left_behind = directory.path().join("sst-staging/.7.tmp");
    std::fs::write(&left_behind, b"half a file").unwrap();
    let engine = open(directory.path());
    assert!(!left_behind.exists());
    assert_eq!(engine.list_sst().unwrap(), ["ingested", "kept"]);
    assert_eq!(engine.get(Cf::Default, b"a").unwrap().unwrap(), "from a file");
    assert_eq!(engine.get(Cf::Default, b"b").unwrap(), None);
    engine.ingest(&[(Cf::Default, "ingested".to_owned()), (Cf::Default, "kept".to_owned())]).unwrap();
    assert_eq!(engine.get(Cf::Default, b"b").unwrap().unwrap(), "from a file");
}

#[test]
fn a_copy_of_a_live_directory_opens_with_every_batch_written_so_far() {
    // What a process leaves that is killed: the system has its writes, and nothing was closed.
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    for number in 0..100_u32 {
        put(&engine, Cf::Raft, &number.to_be_bytes(), b"v");
    }
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let after = open(copy.path());
    for number in 0..100_u32 {
        assert!(after.get(Cf::Raft, &number.to_be_bytes()).unwrap().is_some(), "batch {number}");
    }
}

#[test]
fn a_directory_without_log_files_opens_if_nothing_was_ever_written_to_it() {
    // What a process leaves that dies while it makes the directory; and what a disk leaves that has lost files.
    for is_lost in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        if is_lost {
            put(&engine, Cf::Default, b"k", b"v");
            engine.flush().unwrap();
        }
        drop(engine);
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let opened = RocksEngine::open(directory.path(), &Options::default()).map(drop);
        assert_eq!(opened.is_err(), is_lost, "{opened:?}");
        if is_lost {
            assert!(matches!(opened.unwrap_err(), OpenError::Corrupt { .. }));
        } else {
            put(&open(directory.path()), Cf::Default, b"k", b"v");
        }
    }
}

#[test]
fn a_snapshot_keeps_the_engine_open_and_the_next_open_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    put(&engine, Cf::Write, b"k", b"v");
    let snapshot = engine.snapshot();
    drop(engine);
    assert_eq!(snapshot.get(Cf::Write, b"k").unwrap().unwrap(), "v");
    let refused = RocksEngine::open(directory.path(), &Options::default()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("in use by another process; stop that process"), "{refused}");
    drop(snapshot);
    open(directory.path());
}

#[test]
fn what_cannot_be_a_data_directory_is_named_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"not a directory").unwrap();
    let refused = RocksEngine::open(&file, &Options::default()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Path { .. }), "{refused}");
    assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
}

#[test]
fn a_missing_data_file_is_corruption() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    put(&engine, Cf::Default, b"k", b"v");
    engine.flush().unwrap();
    drop(engine);
    let sst = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let sst = sst.into_iter().find(|path| path.extension().is_some_and(|e| e == "sst")).unwrap();
    std::fs::remove_file(sst).unwrap();
    let refused = RocksEngine::open(directory.path(), &Options::default()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
    assert!(refused.to_string().contains("let this store be replaced"), "{refused}");
}

#[test]
fn a_failure_in_the_background_stops_the_engine_before_another_sync_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { write_buffer_bytes: 64 << 10, ..Options::default() };
    let engine = RocksEngine::open(directory.path(), &options).unwrap();
    // Where the next flush wants to make its file there is a directory.
    for number in 1..100 {
        let path = directory.path().join(format!("{number:06}.sst"));
        if !path.exists() {
            std::fs::create_dir(path).unwrap();
        }
    }
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"k", &[7; 4096]);
    // The flush starts after some twenty batches; the rest is time for it to fail.
    let failure = (0..10_000).find_map(|_| engine.write(&batch).and_then(|()| engine.sync()).err()).unwrap();
    assert_eq!(engine.poisoned(), Some(failure));
    assert!(engine.write(&batch).is_err() && engine.sync().is_err());
}

#[test]
fn a_missing_log_file_is_corruption_and_not_a_shorter_history() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    put(&engine, Cf::Default, b"k", b"v");
    engine.sync().unwrap();
    // A flush of one family starts a new log file; the old one stays, for the other family has data in it.
    put(&engine, Cf::Raft, b"k", b"v");
    engine.sync().unwrap();
    let range = KeyRange::full();
    engine.compact(Cf::Default, &range).unwrap();
    put(&engine, Cf::Default, b"k2", b"v");
    engine.sync().unwrap();
    drop(engine);
    let logs = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = logs.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    assert!(logs.len() >= 2, "{logs:?}");
    std::fs::remove_file(&logs[0]).unwrap();
    let refused = RocksEngine::open(directory.path(), &Options::default()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
}

#[test]
fn a_directory_with_another_database_is_not_ours() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    drop(rocksdb::DB::open_cf(&options, directory.path(), ["default", "strange"]).unwrap());
    let refused = RocksEngine::open(directory.path(), &Options::default()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
}

#[test]
fn the_numbers_for_metrics_follow_what_happens() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    put(&engine, Cf::Lock, b"k", &[7; 1000]);
    engine.sync().unwrap();
    let snapshot = engine.snapshot();
    let before = engine.stats();
    assert_eq!((before.writes, before.syncs, before.snapshots, before.background_errors), (1, 1, 1, 0));
    assert!(before.written_bytes > 1000 && before.wal_bytes > 1000, "{before:?}");
    drop(snapshot);
    engine.flush().unwrap();
    let after = engine.stats();
    let lock = &after.families[Cf::Lock as usize];
    assert_eq!((lock.cf, lock.level_files.iter().sum::<u64>()), (Cf::Lock, 1), "{after:?}");
    assert!(lock.sst_bytes > 0 && after.snapshots == 0, "{after:?}");
    assert!(engine.property(Cf::Lock, "rocksdb.stats").is_some_and(|text| text.contains("Level")));
    assert_eq!(engine.property(Cf::Lock, "rocksdb.no-such-thing"), None);
}

#[test]
fn file_deletion_spares_the_key_at_the_end_of_the_range() {
    // RocksDB's own call would delete a file whose last key is the end.
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    for (name, keys) in [("f1", ["b", "c"]), ("f2", ["d", "e"])] {
        let mut writer = engine.create_sst(Cf::Default, name).unwrap();
        for key in keys {
            writer.put(key.as_bytes(), b"v").unwrap();
        }
        writer.finish().unwrap();
        // Without overlap a file goes to the lowest level at once.
        engine.ingest(&[(Cf::Default, name.to_owned())]).unwrap();
    }
    let files = || engine.stats().families[0].level_files.iter().sum::<u64>();
    assert_eq!(files(), 2);
    engine.delete_files_in_range(Cf::Default, &KeyRange::new("b", "e")).unwrap();
    assert_eq!(files(), 1, "the first file lies within the range, the second does not");
    assert!(engine.get(Cf::Default, b"e").unwrap().is_some());
    assert!(engine.get(Cf::Default, b"b").unwrap().is_none());
    engine.delete_files_in_range(Cf::Default, &KeyRange::new("b", "")).unwrap();
    assert_eq!(files(), 0);
}
