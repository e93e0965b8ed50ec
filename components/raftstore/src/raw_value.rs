//! How raw values lie in the engine: as they are, unless they end some time.
//!
//! ```text
//!   the value                                   one that stays until somebody changes it
//!   MARK (8 bytes) | ends_ms u64 BE | the value one that is gone from `ends_ms` on, by the placement driver's clock;
//!                                               with zero one that stays, and itself begins with MARK
//! ```
//!
//! So values that were written before there was such a thing are read as they are. Whether a value is over is asked with the
//! time of whoever asks: a write brings it in its entry, so that all replicas decide alike; a read has that of its store.

use bytes::{BufMut, Bytes, BytesMut};

/// No value that anybody wrote before this was known begins with it, but for one chance in 2^64: the bytes are random.
const MARK: [u8; 8] = [0xd6, 0x1f, 0xb3, 0x08, 0x9a, 0xe5, 0x74, 0xc1];
const HEAD: usize = MARK.len() + size_of::<u64>();

/// A raw value, as it was found in the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawValue<T> {
    /// What was written.
    pub value: T,
    /// When it is gone, in the placement driver's milliseconds; `None` for one that stays.
    pub ends_ms: Option<u64>,
}

/// What time it is not known, and a value may be over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeUnknown;

impl<T> RawValue<T> {
    /// The value, if it is not over at this time; zero stands for a time that is not known.
    ///
    /// # Errors
    /// [`TimeUnknown`] when that depends on the time.
    pub fn at(self, now_ms: u64) -> Result<Option<Self>, TimeUnknown> {
        match self.ends_ms {
            Some(_) if now_ms == 0 => Err(TimeUnknown),
            Some(ends_ms) if ends_ms <= now_ms => Ok(None),
            _ => Ok(Some(self)),
        }
    }
}

/// A value as it was found in the engine, without a copy.
#[must_use]
pub fn raw_value(stored: Bytes) -> RawValue<Bytes> {
    let RawValue { value, ends_ms } = raw_value_in(&stored);
    match value.len() == stored.len() {
        true => RawValue { value: stored, ends_ms },
        false => RawValue { value: stored.slice(HEAD..), ends_ms },
    }
}

/// The same, of a slice.
#[must_use]
pub fn raw_value_in(stored: &[u8]) -> RawValue<&[u8]> {
    if let Some(marked) = stored.strip_prefix(&MARK)
        && let Some((ends_ms, value)) = marked.split_first_chunk()
    {
        let ends_ms = Some(u64::from_be_bytes(*ends_ms)).filter(|ends_ms| *ends_ms > 0);
        return RawValue { value, ends_ms };
    }
    RawValue { value: stored, ends_ms: None }
}

/// How a value is put into the engine.
#[must_use]
pub(crate) fn stored(value: &Bytes, ends_ms: Option<u64>) -> Bytes {
    if ends_ms.is_none() && !value.starts_with(&MARK) {
        return value.clone();
    }
    let mut stored = BytesMut::with_capacity(HEAD + value.len());
    stored.put_slice(&MARK);
    stored.put_u64(ends_ms.unwrap_or(0));
    stored.put_slice(value);
    stored.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is written is read, with its end; what was written before there was such a thing too.
    #[test]
    fn a_value_is_read_as_it_was_written() {
        let values: [&[u8]; 5] =
            [b"", b"v", &MARK, &[MARK, [0; 8]].concat(), &[&MARK[..], b"012345678"].concat()];
        for value in values {
            let value = Bytes::copy_from_slice(value);
            for ends_ms in [None, Some(1), Some(u64::MAX)] {
                let read = raw_value(stored(&value, ends_ms));
                assert_eq!(read, RawValue { value: value.clone(), ends_ms });
            }
        }
        for before in [&b""[..], b"value", &MARK[..7], &[&MARK[..], &[0; 7]].concat()] {
            assert_eq!(raw_value_in(before), RawValue { value: before, ends_ms: None });
        }
    }

    /// A value is over from its end on, and who does not know the time does not guess.
    #[test]
    fn a_value_ends_at_its_end() {
        let value = |ends_ms| RawValue { value: (), ends_ms };
        assert_eq!(value(Some(50)).at(49), Ok(Some(value(Some(50)))));
        assert_eq!((value(Some(50)).at(50), value(Some(50)).at(0)), (Ok(None), Err(TimeUnknown)));
        assert_eq!(value(None).at(0), Ok(Some(value(None))));
    }
}
