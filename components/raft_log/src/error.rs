//! Why a log cannot be used.

use engine::EngineError;
use std::fmt;
use types::RegionId;

/// A group's log could not be loaded. Only that group is concerned by [`LoadError::Corrupt`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// What is on disk contradicts itself: durable state was lost. The group must not run on this store.
    Corrupt {
        /// The group.
        group: RegionId,
        /// What contradicts what.
        what: String,
    },
    /// The engine failed.
    Engine(EngineError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { group, what } => {
                write!(f, "the log of region {group} has lost durable state: {what}")
            }
            Self::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<EngineError> for LoadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}
