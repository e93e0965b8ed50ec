//! Files for ingestion, in `<path>/sst-staging/`.
//!
//! A file is written under a name that ends in `.tmp`, which no caller's name can be confused with because it begins
//! with a dot, and gets its own name when it is whole and synced. What carries such a name when the engine opens was
//! left behind by a crash.

use crate::error::{engine_error, io_error};
use crate::options::SST_FILE;
use crate::rocks::Inner;
use engine::{EngineError, SstWriter, sst_name_is_valid};
use rocksdb::SstFileWriter;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The directory of files for ingestion.
pub(crate) struct Staging {
    path: PathBuf,
    /// Makes temporary names different from each other.
    next_temporary: AtomicU64,
}

impl Staging {
    /// Makes the directory if there is none, and removes what a crash left unfinished.
    pub(crate) fn open(database: &Path) -> std::io::Result<Self> {
        let path = database.join("sst-staging");
        std::fs::create_dir_all(&path)?;
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_temporary) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { path, next_temporary: AtomicU64::new(0) })
    }

    /// A path that nothing has. It is on the same file system as the database.
    pub(crate) fn temporary(&self) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.path.join(format!(".{number}.tmp"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        assert!(sst_name_is_valid(name), "{name:?} cannot name a file");
        self.path.join(name)
    }

    /// Names of finished files, ascending.
    pub(crate) fn list(&self) -> Result<Vec<String>, EngineError> {
        let failed = |error: std::io::Error| io_error("listing", &self.path, &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            // What does not have such a name is not ours.
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
                && sst_name_is_valid(&name)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), EngineError> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("removing", &path, &error)),
            _ => Ok(()),
        }
    }

    /// Makes names durable.
    fn sync(&self) -> Result<(), EngineError> {
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| io_error("syncing", &self.path, &error))
    }
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// A file being written.
pub(crate) struct RocksSstWriter {
    inner: Arc<Inner>,
    writer: SstFileWriter<'static>,
    name: String,
    temporary: PathBuf,
    /// The greatest key so far.
    last: Option<Vec<u8>>,
}

impl RocksSstWriter {
    pub(crate) fn create(inner: &Arc<Inner>, name: &str) -> Result<Self, EngineError> {
        let writer = SstFileWriter::create(&SST_FILE);
        let temporary = inner.staging().temporary();
        writer.open(&temporary).map_err(|error| engine_error(&error))?;
        Ok(Self { inner: Arc::clone(inner), writer, name: name.to_owned(), temporary, last: None })
    }
}

impl SstWriter for RocksSstWriter {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        match &mut self.last {
            Some(last) => {
                assert!(&last[..] < key, "keys of a file ascend: {key:?} does not follow {last:?}");
                last.clear();
                last.extend_from_slice(key);
            }
            None => self.last = Some(key.to_vec()),
        }
        self.writer.put(key, value).map_err(|error| engine_error(&error))
    }

    fn finish(mut self: Box<Self>) -> Result<bool, EngineError> {
        self.inner.check()?;
        if self.last.is_none() {
            return Ok(false);
        }
        // RocksDB syncs the content before this returns; the name is ours to make durable.
        self.writer.finish().map_err(|error| engine_error(&error))?;
        let staging = self.inner.staging();
        let path = staging.file(&self.name);
        std::fs::rename(&self.temporary, &path).map_err(|error| io_error("renaming to", &path, &error))?;
        staging.sync()?;
        Ok(true)
    }
}

impl Drop for RocksSstWriter {
    fn drop(&mut self) {
        // Not there once it has its own name. What cannot be removed now is removed when the engine opens again.
        drop(std::fs::remove_file(&self.temporary));
    }
}
