//! Write records: what happened to a key, and when.

use crate::error::corrupt;
use crate::key::versioned;
use bytes::Bytes;
use codec::{Decode, codec_enum, codec_struct};
use engine::{Cf, EngineError, WriteBatch};
use types::Timestamp;

/// A value up to so many bytes stands in the record of its write.
pub const SHORT_VALUE_MAX: usize = 255;

/// What happened to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteKind {
    /// It was set.
    Put,
    /// It was removed.
    Delete,
    /// It was locked by a transaction that has committed, and did not change.
    Lock,
    /// The transaction that began then was rolled back, and must never write the key.
    Rollback,
}
codec_enum!(WriteKind { 1 = Put, 2 = Delete, 3 = Lock, 4 = Rollback });

/// Something that happened to a key; when, is in the record's own key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// What.
    pub kind: WriteKind,
    /// When the transaction began that did it.
    pub start_ts: Timestamp,
    /// The value of a `Put`, if it is short; otherwise it stands in `default`.
    pub short_value: Option<Bytes>,
    /// A transaction that began when this one committed was rolled back here; its record would stand in this place.
    pub overlapped_rollback: bool,
}
codec_struct!(Write { kind, start_ts, short_value, overlapped_rollback });

impl Write {
    /// A record of a transaction that began at `start_ts`.
    #[must_use]
    pub fn new(kind: WriteKind, start_ts: Timestamp) -> Self {
        Self { kind, start_ts, short_value: None, overlapped_rollback: false }
    }

    /// True if it decides what is seen of the key.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self.kind, WriteKind::Put | WriteKind::Delete)
    }

    pub(crate) fn read(bytes: &Bytes) -> Result<Self, EngineError> {
        Self::from_bytes(bytes).map_err(|error| corrupt("a write record", &error))
    }
}

/// Appends to `batch` a value that is too long for its record.
pub fn put_value(batch: &mut WriteBatch, key: &[u8], start_ts: Timestamp, value: &[u8]) {
    batch.put(Cf::Default, &versioned(key, start_ts), value);
}

/// Appends the removal of such a value to `batch`.
pub fn delete_value(batch: &mut WriteBatch, key: &[u8], start_ts: Timestamp) {
    batch.delete(Cf::Default, &versioned(key, start_ts));
}
