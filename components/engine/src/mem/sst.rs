//! Files on the disk of the engine in memory: durable once finished.

use super::State;
use crate::{Cf, EngineError, SstWriter};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// A finished file.
#[derive(Clone)]
pub(super) struct SstFile {
    pub(super) cf: Cf,
    /// Ascending in key, not empty.
    pub(super) entries: Arc<Vec<(Bytes, Bytes)>>,
}

/// A file being written: in nobody's sight until it is finished.
pub(super) struct MemSstWriter {
    state: Arc<Mutex<State>>,
    cf: Cf,
    name: String,
    entries: Vec<(Bytes, Bytes)>,
}

impl MemSstWriter {
    pub(super) fn new(state: &Arc<Mutex<State>>, cf: Cf, name: &str) -> Self {
        Self { state: Arc::clone(state), cf, name: name.to_owned(), entries: Vec::new() }
    }
}

impl SstWriter for MemSstWriter {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.state.lock().check()?;
        let ascending = self.entries.last().is_none_or(|(last, _)| &last[..] < key);
        assert!(ascending, "keys of a file ascend: {key:?} does not follow the last one");
        self.entries.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<bool, EngineError> {
        let mut state = self.state.lock();
        state.check()?;
        if state.disk_full {
            return Err(EngineError::Io("no space left on device".to_owned()));
        }
        if self.entries.is_empty() {
            return Ok(false);
        }
        state.files.insert(self.name, SstFile { cf: self.cf, entries: Arc::new(self.entries) });
        Ok(true)
    }
}
