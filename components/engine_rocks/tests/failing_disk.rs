//! A disk that takes no more: the engine says so once and refuses everything afterwards, and a restart with room finds
//! a prefix.
//!
//! The disk is made full by the limit on the size of files of this process, so this test is alone in its process.
#![expect(unsafe_code, reason = "sets a limit and a signal of this process")]

use engine::{Cf, Engine, Snapshot, WriteBatch};
use engine_rocks::{Options, RocksEngine};
use types::KeyRange;

fn limit_file_size(bytes: libc::rlim_t) {
    // SAFETY: plain system calls on values of ours. Ignoring the signal turns the limit into an error of the write.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

#[test]
fn a_failed_write_poisons_and_a_restart_finds_a_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let engine = RocksEngine::open(directory.path(), &Options::default()).unwrap();
    let snapshot = engine.snapshot();
    limit_file_size(1 << 20);
    let mut written = 0_u32;
    let failure = loop {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, &written.to_be_bytes(), &[7; 10_000]);
        batch.put(Cf::Raft, &written.to_be_bytes(), b"v");
        match engine.write(&batch) {
            Ok(()) => written += 1,
            Err(failure) => break failure,
        }
        assert!(written < 1000, "a megabyte holds no ten megabytes");
    };
    assert!(written > 50, "{written}");
    assert!(failure.to_string().contains("engine I/O"), "{failure}");
    limit_file_size(libc::RLIM_INFINITY);

    // There is room again, but what the disk holds is unknown now.
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, b"later", b"v");
    assert!(engine.write(&batch).is_err());
    assert!(engine.sync().is_err());
    assert!(engine.get(Cf::Default, b"k").is_err());
    assert!(engine.create_sst(Cf::Default, "f").is_err());
    assert!(engine.ingest(&[]).is_err());
    assert!(snapshot.get(Cf::Default, b"k").is_err());
    let mut iterator = snapshot.iter(Cf::Default, &KeyRange::full());
    assert!(!iterator.seek_to_first() && iterator.status().is_err());
    drop(iterator);
    assert_eq!(engine.poisoned(), Some(failure));
    drop((engine, snapshot));

    let engine = RocksEngine::open(directory.path(), &Options::default()).unwrap();
    let snapshot = engine.snapshot();
    for cf in [Cf::Default, Cf::Raft] {
        let mut iterator = snapshot.iter(cf, &KeyRange::full());
        let mut found = iterator.seek_to_first();
        for number in 0..written {
            assert!(found && iterator.key() == number.to_be_bytes(), "batch {number} of {written}");
            found = iterator.next();
        }
        // What became of the batch that failed is open; after it nothing was taken.
        let is_failed_one = found && iterator.key() == written.to_be_bytes();
        assert!(!found || is_failed_one && !iterator.next(), "nothing after the failed batch");
    }
    engine.write(&batch).unwrap();
    engine.sync().unwrap();
}
