//! What stops a placement driver. What a caller asked wrongly is answered with a [`wire::pd::PdError`] instead.

use codec::DecodeError;
use engine::EngineError;
use std::fmt;

/// Why a placement driver cannot start, or must stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The configuration is wrong: tell the user.
    Config(String),
    /// The engine failed: stop the process.
    Engine(EngineError),
    /// What is on disk cannot be read, or contradicts itself: stop the process.
    Corrupt(String),
    /// The group refused to go on: stop the process.
    Raft(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => write!(f, "configuration: {what}"),
            Self::Engine(error) => write!(f, "{error}"),
            Self::Corrupt(what) => write!(f, "placement driver's data is corrupt: {what}"),
            Self::Raft(what) => write!(f, "placement driver's group: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Corrupt(error.to_string())
    }
}
