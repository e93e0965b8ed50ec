//! Where records lie in the `raft` column family.
//!
//! ```text
//! 0x01 …                                   the store's own records (not ours)
//! 0x02 | group u64 BE | 0x01 | index u64 BE    one log entry
//! 0x02 | group u64 BE | 0x02                   the group's hard state and last position
//! 0x03 …                                   region and apply states (not ours)
//! ```
//!
//! Region states lie apart from logs, so that a start reads them without stepping over the logs.

use types::{LogIndex, RegionId};

/// First byte of all log records.
pub const LOG_PREFIX: u8 = 0x02;

pub(crate) const ENTRY: u8 = 0x01;
pub(crate) const STATE: u8 = 0x02;

fn group_prefix(group: RegionId) -> [u8; 9] {
    let mut key = [LOG_PREFIX; 9];
    key[1..].copy_from_slice(&group.get().to_be_bytes());
    key
}

/// The key of a log entry.
#[must_use]
pub fn entry(group: RegionId, index: LogIndex) -> [u8; 18] {
    let mut key = [ENTRY; 18];
    key[..9].copy_from_slice(&group_prefix(group));
    key[10..].copy_from_slice(&index.get().to_be_bytes());
    key
}

/// The key of a group's hard state.
#[must_use]
pub fn state(group: RegionId) -> [u8; 10] {
    let mut key = [STATE; 10];
    key[..9].copy_from_slice(&group_prefix(group));
    key
}

/// The range `[start, end)` of all log records of a group.
#[must_use]
pub fn group_range(group: RegionId) -> ([u8; 9], [u8; 10]) {
    // Above every kind of record. There need not be a next group: ids come from other stores, and may be the last.
    let mut end = [0xff; 10];
    end[..9].copy_from_slice(&group_prefix(group));
    (group_prefix(group), end)
}
