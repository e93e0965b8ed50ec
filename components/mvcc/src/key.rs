//! Keys with a timestamp.

use bytes::{BufMut, BytesMut};
use engine::EngineError;
use types::{Key, KeyRange, Timestamp};

pub(crate) const TIMESTAMP_SIZE: usize = 8;

/// The key of a version: newer ones come first.
#[must_use]
pub fn versioned(key: &[u8], timestamp: Timestamp) -> Key {
    let mut out = BytesMut::with_capacity(key.len() + TIMESTAMP_SIZE);
    out.put_slice(key);
    out.put_u64(!timestamp.0);
    out.freeze()
}

/// The key and the timestamp of a version. Whoever cuts regions cuts between keys, never between versions of one.
///
/// # Errors
/// [`EngineError::Corrupt`] when it is too short to have one.
pub fn without_timestamp(versioned: &[u8]) -> Result<(&[u8], Timestamp), EngineError> {
    let (key, timestamp) = versioned
        .split_last_chunk::<TIMESTAMP_SIZE>()
        .ok_or_else(|| EngineError::Corrupt("a version's key is too short for its timestamp".to_owned()))?;
    Ok((key, Timestamp(!u64::from_be_bytes(*timestamp))))
}

/// All versions of a key that are not newer than `newest`.
pub(crate) fn versions(key: &[u8], newest: Timestamp) -> KeyRange {
    KeyRange { start: versioned(key, newest), end: after_versions(key) }
}

/// Where the versions of a key end.
pub(crate) fn after_versions(key: &[u8]) -> Key {
    [key, &[0xff; TIMESTAMP_SIZE], &[0]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_come_first_and_all_are_in_the_range_of_versions() {
        let newest = versioned(b"k", Timestamp(u64::MAX));
        let (older, oldest) = (versioned(b"k", Timestamp(7)), versioned(b"k", Timestamp(0)));
        assert!(newest < older && older < oldest);
        assert_eq!(without_timestamp(&older), Ok((&b"k"[..], Timestamp(7))));
        let range = versions(b"k", Timestamp(7));
        assert!(!range.contains(&newest) && range.contains(&older) && range.contains(&oldest));
        assert!(matches!(without_timestamp(b"short"), Err(EngineError::Corrupt(_))));
    }
}
