//! What a call may ask for; all is checked before anything is sent.

use crate::error::InvalidArgument;
use std::time::Duration;
use types::{KEY_SIZE_MAX, KeyRange, VALUE_SIZE_MAX};

/// A key that is read or written.
pub(crate) fn check_key(key: &[u8]) -> Result<(), InvalidArgument> {
    match key.len() {
        0 => Err(InvalidArgument::KeyEmpty),
        size if size > KEY_SIZE_MAX => Err(InvalidArgument::KeyTooLong { size, size_max: KEY_SIZE_MAX }),
        _ => Ok(()),
    }
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), InvalidArgument> {
    match value.len() {
        size if size > VALUE_SIZE_MAX => {
            Err(InvalidArgument::ValueTooLong { size, size_max: VALUE_SIZE_MAX })
        }
        _ => Ok(()),
    }
}

/// In milliseconds; what is shorter counts as one.
pub(crate) fn check_ttl(ttl: Duration) -> Result<u64, InvalidArgument> {
    match ttl.is_zero() {
        true => Err(InvalidArgument::NoTimeToLive),
        false => Ok(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)),
    }
}

/// A range that is scanned or deleted. One that is empty (its start is its end) is allowed and holds nothing.
pub(crate) fn check_range(range: &KeyRange) -> Result<(), InvalidArgument> {
    // One more than for keys: the key after the longest key is that key and a zero byte.
    const BOUND_SIZE_MAX: usize = KEY_SIZE_MAX + 1;
    for bound in [&range.start, &range.end] {
        if bound.len() > BOUND_SIZE_MAX {
            return Err(InvalidArgument::KeyTooLong { size: bound.len(), size_max: BOUND_SIZE_MAX });
        }
    }
    if !range.end.is_empty() && range.start > range.end {
        return Err(InvalidArgument::RangeReversed);
    }
    Ok(())
}
