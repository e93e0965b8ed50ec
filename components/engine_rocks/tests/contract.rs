//! RocksDB keeps the contract that every engine keeps.

use engine_rocks::{Options, RocksEngine};

#[test]
fn rocksdb_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = 0;
    engine::conformance::run(&mut || {
        opened += 1;
        RocksEngine::open(directory.path().join(opened.to_string()), &Options::default()).unwrap()
    });
}
