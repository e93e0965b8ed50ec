//! An engine whose writes and syncs take time, in which others run.

use bytes::Bytes;
use engine::{Cf, Engine, EngineError, MemEngine, Op, Pressure, SstWriter, WriteBatch};
use std::sync::{Arc, Mutex};
use types::KeyRange;

/// Keys that were written, in order, and how many of them are durable.
#[derive(Default)]
struct Book {
    written: Vec<Bytes>,
    durable: usize,
}

/// A disk that remembers what is durable.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    engine: MemEngine,
    book: Arc<Mutex<Book>>,
}

impl Disk {
    /// One with something on it already.
    pub(crate) fn over(engine: MemEngine) -> Self {
        Self { engine, book: Arc::default() }
    }

    /// True if the key would be found after a loss of power.
    pub(crate) fn is_durable(&self, key: &[u8]) -> bool {
        let book = self.book.lock().unwrap();
        book.written[..book.durable].iter().any(|written| written == key)
    }

    /// True if a reader finds the key.
    pub(crate) fn is_written(&self, key: &[u8]) -> bool {
        self.engine.get(Cf::Default, key).unwrap().is_some()
    }

    /// What a loss of power leaves.
    pub(crate) fn lose_power(&self) -> MemEngine {
        self.engine.crash(|survivors| *survivors.start())
    }
}

impl Engine for Disk {
    type Snapshot = <MemEngine as Engine>::Snapshot;

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        shuttle::thread::yield_now();
        self.engine.write(batch)?;
        let keys = batch.ops().filter_map(|op| match op {
            Op::Put { key, .. } => Some(Bytes::copy_from_slice(key)),
            Op::Delete { .. } | Op::DeleteRange { .. } => None,
        });
        self.book.lock().unwrap().written.extend(keys);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        let (ticket, upto) = (self.engine.begin_sync(), self.book.lock().unwrap().written.len());
        shuttle::thread::yield_now();
        self.engine.finish_sync(ticket)?;
        let mut book = self.book.lock().unwrap();
        book.durable = book.durable.max(upto);
        Ok(())
    }

    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(cf, key)
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.engine.snapshot()
    }

    fn create_sst(&self, cf: Cf, name: &str) -> Result<Box<dyn SstWriter>, EngineError> {
        self.engine.create_sst(cf, name)
    }

    fn ingest(&self, names: &[(Cf, String)]) -> Result<(), EngineError> {
        self.engine.ingest(names)
    }

    fn list_sst(&self) -> Result<Vec<String>, EngineError> {
        self.engine.list_sst()
    }

    fn remove_sst(&self, name: &str) -> Result<(), EngineError> {
        self.engine.remove_sst(name)
    }

    fn delete_files_in_range(&self, cf: Cf, range: &KeyRange) -> Result<(), EngineError> {
        self.engine.delete_files_in_range(cf, range)
    }

    fn approximate_size_bytes(&self, cf: Cf, range: &KeyRange) -> u64 {
        self.engine.approximate_size_bytes(cf, range)
    }

    fn pressure(&self) -> Pressure {
        self.engine.pressure()
    }
}
