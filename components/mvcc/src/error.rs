//! Why something could not be read.

use crate::Lock;
use codec::DecodeError;
use engine::EngineError;
use std::fmt;
use types::Key;

/// Why a key could not be read at a timestamp.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// A transaction is about to write the key, perhaps before that timestamp. Ask what became of it, and read again.
    Locked {
        /// The key.
        key: Key,
        /// Its lock.
        lock: Box<Lock>,
    },
    /// The engine cannot be read, or what stands in it contradicts itself.
    Engine(EngineError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { lock, .. } => {
                write!(f, "the key is locked by the transaction that began at {:?}", lock.start_ts)
            }
            Self::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

pub(crate) fn corrupt(what: &str, error: &DecodeError) -> EngineError {
    EngineError::Corrupt(format!("{what}: {error}"))
}
