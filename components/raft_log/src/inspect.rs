//! Reads log records as they lie on disk, for whoever looks at a disk from outside: checkers, and tools to come.

use crate::group::LogState;
use crate::keys::{ENTRY, LOG_PREFIX, STATE};
use bytes::Bytes;
use codec::{Decode, DecodeError};
use raft::{Entry, EntryId, HardState};
use types::{LogIndex, RegionId};

/// Which record a key names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogKey {
    /// A group's entry at an index.
    Entry(RegionId, LogIndex),
    /// A group's hard state and last position.
    State(RegionId),
}

impl LogKey {
    /// What a key of the `raft` column family names; `None` if that is no log record.
    #[must_use]
    pub fn of(key: &[u8]) -> Option<Self> {
        let (prefix, rest) = key.split_first()?;
        let (group, rest) = rest.split_first_chunk()?;
        let group = RegionId(u64::from_be_bytes(*group));
        let (kind, rest) = rest.split_first()?;
        match (*prefix, *kind, rest) {
            (LOG_PREFIX, STATE, []) => Some(Self::State(group)),
            (LOG_PREFIX, ENTRY, index) => {
                let index = index.try_into().ok().map(u64::from_be_bytes)?;
                Some(Self::Entry(group, LogIndex(index)))
            }
            _ => None,
        }
    }
}

/// The entry that a record holds.
///
/// # Errors
/// When the record is damaged.
pub fn read_entry(record: &Bytes) -> Result<Entry, DecodeError> {
    Entry::from_bytes(record)
}

/// The hard state that a record holds, and the last entry of the log, or where the log was cut if it has none.
///
/// # Errors
/// When the record is damaged.
pub fn read_state(record: &Bytes) -> Result<(HardState, EntryId), DecodeError> {
    LogState::from_bytes(record).map(|state| (state.hard_state, state.last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[test]
    fn keys_are_told_apart() {
        let group = RegionId(0x0102);
        assert_eq!(LogKey::of(&keys::state(group)), Some(LogKey::State(group)));
        let entry = keys::entry(group, LogIndex(7));
        assert_eq!(LogKey::of(&entry), Some(LogKey::Entry(group, LogIndex(7))));
        for other in
            [&entry[..17], &keys::group_range(group).0, &keys::group_range(group).1, &[], &[0x03; 18]]
        {
            assert_eq!(LogKey::of(other), None, "{other:?}");
        }
    }
}
