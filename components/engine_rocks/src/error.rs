//! Why a directory cannot be opened, and what RocksDB's errors mean to the contract.

use engine::EngineError;
use rocksdb::ErrorKind;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why an engine does not open. Its text says what to do next.
#[derive(Debug)]
pub enum OpenError {
    /// The directory cannot be created, listed or written.
    Path {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process, or another engine of this one, has the directory open.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The files do not match their checksums or each other, or files are missing.
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What RocksDB found.
        detail: String,
    },
    /// The directory holds a database that is not ours, or of a version that this program does not know.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What RocksDB found.
        detail: String,
    },
    /// The disk failed, or is full.
    Io {
        /// The directory.
        path: PathBuf,
        /// What RocksDB said.
        detail: String,
    },
}

impl OpenError {
    /// What RocksDB's refusal to open `path` means.
    pub(crate) fn from_rocks(path: &Path, error: &rocksdb::Error) -> Self {
        let (path, detail) = (path.to_owned(), error.as_ref().to_owned());
        match error.kind() {
            // RocksDB has no kind of its own for the lock file; these are the two texts of its POSIX environment.
            ErrorKind::IOError if detail.contains("While lock file") || detail.contains("lock hold by") => {
                Self::Locked { path }
            }
            ErrorKind::Corruption => Self::Corrupt { path, detail },
            ErrorKind::InvalidArgument | ErrorKind::NotSupported => Self::Foreign { path, detail },
            _ => Self::Io { path, detail },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path, source } => write!(
                f,
                "cannot use {} as a data directory: {source}; check that it is a directory that this user may write to",
                path.display()
            ),
            Self::Locked { path } => write!(
                f,
                "the data directory {} is in use by another process; stop that process, or choose another directory",
                path.display()
            ),
            Self::Corrupt { path, detail } => write!(
                f,
                "the data in {} is damaged ({detail}); keep a copy of the directory, check the disk, and let this store \
                 be replaced: its data is on the other stores",
                path.display()
            ),
            Self::Foreign { path, detail } => write!(
                f,
                "the directory {} holds a database that this version cannot read ({detail}); choose another directory, \
                 or use the version that wrote it",
                path.display()
            ),
            Self::Io { path, detail } => write!(
                f,
                "the disk under {} fails ({detail}); check its free space and the system log, then start again",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Path { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What a failure of an open engine means to its caller.
pub(crate) fn engine_error(error: &rocksdb::Error) -> EngineError {
    match error.kind() {
        ErrorKind::Corruption => EngineError::Corrupt(error.as_ref().to_owned()),
        _ => EngineError::Io(error.as_ref().to_owned()),
    }
}

/// A failure of a file operation of ours.
pub(crate) fn io_error(what: &str, path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::Io(format!("{what} {}: {error}", path.display()))
}
