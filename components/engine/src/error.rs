//! What can go wrong in an engine.

use std::fmt;

/// An engine's failure. Whoever gets one from a write or a sync stops the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EngineError {
    /// The disk failed, or the engine stopped itself after a failure. What is on disk is unknown until it is opened
    /// again.
    Io(String),
    /// Data on disk does not match its checksums.
    Corrupt(String),
    /// A file to ingest does not exist (or was never finished). Nothing was changed.
    MissingFile(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what) => write!(f, "engine I/O: {what}"),
            Self::Corrupt(what) => write!(f, "engine data is corrupt: {what}"),
            Self::MissingFile(name) => write!(f, "file to ingest is missing: {name}"),
        }
    }
}

impl std::error::Error for EngineError {}
