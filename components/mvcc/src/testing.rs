//! What tests of this crate fill engines with.

use crate::{Lock, MvccReader, Write, put_lock, put_write};
use engine::{Engine, MemEngine, WriteBatch};
use types::Timestamp;

/// Fills an engine.
pub(crate) fn engine(fill: impl FnOnce(&MemEngine)) -> MemEngine {
    let engine = MemEngine::new();
    fill(&engine);
    engine
}

/// Writes what is appended to a batch.
pub(crate) fn write(engine: &MemEngine, append: impl FnOnce(&mut WriteBatch)) {
    let mut batch = WriteBatch::new();
    append(&mut batch);
    engine.write(&batch).expect("no fault was injected");
}

/// Locks a key.
pub(crate) fn lock(engine: &MemEngine, key: &[u8], lock: &Lock) {
    write(engine, |batch| put_lock(batch, key, lock));
}

/// Writes a record of a key, after or before others.
pub(crate) fn record(engine: &MemEngine, key: &[u8], at: Timestamp, record: &Write) {
    let snapshot = engine.snapshot();
    let newest = MvccReader::new(&snapshot).newest(key).expect("readable");
    write(engine, |batch| put_write(batch, key, newest.as_ref(), at, record));
}
