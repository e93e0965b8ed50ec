//! What a restart finds, and what refuses to open.
#![expect(clippy::unwrap_used, reason = "in the helpers of a test a failure is the test's")]

use engine::{Cf, Engine, Snapshot, WriteBatch};
use engine_rocks::{OpenError, Options, RocksEngine};
use std::path::Path;
use tempfile::TempDir;
use types::KeyRange;

fn open(path: &Path) -> RocksEngine {
    RocksEngine::open(path, &Options::default()).unwrap()
}

fn put(engine: &RocksEngine, cf: Cf, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::new();
    batch.put(cf, key, value);
    engine.write(&batch).unwrap();
}

/// What a process leaves that is killed.
fn copy(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("journal")).unwrap();
    for below in ["", "journal"] {
        for entry in std::fs::read_dir(directory.join(below)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), copy.path().join(below).join(entry.file_name())).unwrap();
            }
        }
    }
    copy
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
fn a_copy_of_a_live_directory_opens_with_every_batch_synced_so_far() {
    // What a process leaves that is killed: nothing was closed.
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    for number in 0..100_u32 {
        put(&engine, Cf::Raft, &number.to_be_bytes(), b"v");
    }
    engine.sync().unwrap();
    let copy = copy(directory.path());
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
        if is_lost {
            put(&open(directory.path()), Cf::Default, b"k", b"v");
        } else {
            drop(rocksdb::DB::open_default(directory.path()).unwrap());
        }
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
fn a_missing_segment_is_corruption_and_not_a_shorter_history() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { write_buffer_bytes: 64 << 20, ..Options::default() };
    let engine = RocksEngine::open(directory.path(), &options).unwrap();
    for number in 0..20_u32 {
        put(&engine, Cf::Default, &number.to_be_bytes(), &vec![number as u8; 1 << 20]);
        engine.sync().unwrap();
    }
    let names = |copy: &TempDir| {
        let found = std::fs::read_dir(copy.path().join("journal")).unwrap();
        let mut names: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    for lost in [&[0][..], &[1], &[0, 1], &[0, 1, 2]] {
        let copy = copy(directory.path());
        let names = names(&copy);
        assert_eq!(names.len(), 3, "{names:?}");
        lost.iter().for_each(|lost| std::fs::remove_file(&names[*lost]).unwrap());
        let refused = RocksEngine::open(copy.path(), &options).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Corrupt { .. }), "without {lost:?}: {refused:?}");
    }
    let copy = copy(directory.path());
    assert!(open(copy.path()).get(Cf::Default, &19_u32.to_be_bytes()).unwrap().is_some());
}

#[test]
fn a_directory_that_had_only_the_log_of_rocksdb_is_taken_over() {
    // What versions before the journal have left, killed: four families, and batches that are in no file yet.
    let directory = tempfile::tempdir().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_track_and_verify_wals_in_manifest(true);
    let old = rocksdb::DB::open_cf(&options, directory.path(), ["default", "lock", "write", "raft"]).unwrap();
    for number in 0..100_u32 {
        old.put_cf(&old.cf_handle("raft").unwrap(), number.to_be_bytes(), b"old").unwrap();
    }
    old.flush_wal(true).unwrap();
    std::fs::create_dir(directory.path().join("journal")).unwrap();
    let left = copy(directory.path());
    drop(old);
    for round in 0..3_u32 {
        let engine = open(left.path());
        for number in 0..100_u32 {
            let value = engine.get(Cf::Raft, &number.to_be_bytes()).unwrap();
            let expected = if number < round { &b"new"[..] } else { b"old" };
            assert_eq!(value.as_deref(), Some(expected), "{number} in round {round}");
        }
        put(&engine, Cf::Raft, &round.to_be_bytes(), b"new");
    }
    // Those versions do not know what they would miss.
    let names = ["default", "lock", "write", "raft"];
    let refused =
        rocksdb::DB::open_cf(&rocksdb::Options::default(), left.path(), names).map(drop).unwrap_err();
    assert!(refused.to_string().contains("journal"), "{refused}");
}

#[test]
fn files_of_the_journal_are_written_again_once_their_batches_are_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        Options { write_buffer_bytes: 64 << 20, max_total_wal_bytes: 24 << 20, ..Options::default() };
    let engine = RocksEngine::open(directory.path(), &options).unwrap();
    for number in 0..200_u32 {
        put(&engine, Cf::Default, &(number % 7).to_be_bytes(), &vec![number as u8; 1 << 20]);
        engine.sync().unwrap();
    }
    let files = std::fs::read_dir(directory.path().join("journal")).unwrap().count();
    assert!((3..=12).contains(&files), "{files} files for 200 MiB");
    let copy = copy(directory.path());
    let after = open(copy.path());
    for key in 0..7_u32 {
        let last = (0..200_u32).rev().find(|number| number % 7 == key).unwrap();
        let value = after.get(Cf::Default, &key.to_be_bytes()).unwrap().unwrap();
        assert_eq!(value[0], last as u8, "key {key}");
    }
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
