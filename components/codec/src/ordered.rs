//! Bytes that keep their order when something is appended to them.
//!
//! `"a"` sorts before `"a\0"`, but `"a" + suffix` need not sort before `"a\0" + suffix`. Encoded like this it does: eight
//! bytes at a time, the last of them padded with zeros, each followed by `0xff` less the number of padding bytes. A full
//! last group is followed by one that is all padding, so no encoding begins with another.
//!
//! ```text
//! ""        → 00 00 00 00 00 00 00 00 f7
//! "abc"     → 61 62 63 00 00 00 00 00 fa
//! "abcdefgh" → 61 62 63 64 65 66 67 68 ff 00 00 00 00 00 00 00 00 f7
//! ```
//!
//! That is the format of TiKV's keys, and of MyRocks before it ("memcomparable").

use crate::DecodeError;
use bytes::{BufMut, Bytes, BytesMut};

const GROUP: usize = 8;
const MARKER: u8 = 0xff;

/// How many bytes [`put_ordered`] writes for so many.
#[must_use]
pub const fn ordered_len(len: usize) -> usize {
    (len / GROUP + 1) * (GROUP + 1)
}

/// Appends `bytes` such that order is kept whatever follows.
pub fn put_ordered(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(ordered_len(bytes.len()));
    let mut groups = bytes.chunks_exact(GROUP);
    for group in &mut groups {
        out.put_slice(group);
        out.put_u8(MARKER);
    }
    let rest = groups.remainder();
    let padding = GROUP - rest.len();
    out.put_slice(rest);
    out.put_bytes(0, padding);
    out.put_u8(MARKER - u8::try_from(padding).expect("a group is short"));
}

/// Reads what [`put_ordered`] has written at the beginning of `input`. Returns it with how many bytes it took.
///
/// # Errors
/// [`DecodeError::Truncated`]; [`DecodeError::Invalid`] when these bytes are no such encoding.
pub fn read_ordered(input: &[u8]) -> Result<(Bytes, usize), DecodeError> {
    let mut out = BytesMut::with_capacity(input.len() / (GROUP + 1) * GROUP);
    for (number, group) in input.chunks(GROUP + 1).enumerate() {
        let Some((marker, group)) = group.split_last().filter(|(_, group)| group.len() == GROUP) else {
            break;
        };
        let padding = usize::from(MARKER - marker);
        if padding == 0 {
            out.put_slice(group);
            continue;
        }
        let (rest, zeros) = group.split_at(GROUP.saturating_sub(padding));
        if padding > GROUP || zeros.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Invalid("ordered bytes"));
        }
        out.put_slice(rest);
        return Ok((out.freeze(), (number + 1) * (GROUP + 1)));
    }
    let left = input.len() % (GROUP + 1);
    Err(DecodeError::Truncated { needed: GROUP + 1 - left, left })
}

/// The first bytes in order whose encoding does not sort before `bound`, which may be cut off anywhere, or be none.
#[must_use]
pub fn first_ordered_at(bound: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(bound.len());
    let mut groups = bound.chunks(GROUP + 1).peekable();
    while let Some(chunk) = groups.next() {
        let marker = chunk.get(GROUP).copied().unwrap_or_default();
        let mut group = [0; GROUP];
        let len = chunk.len().min(GROUP);
        group[..len].copy_from_slice(&chunk[..len]);
        if marker == MARKER {
            out.put_slice(&group);
            continue;
        }
        // Those with this last group are told apart by their markers alone: the longer, the later.
        let shortest = group.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let wanted = usize::from(marker.saturating_sub(MARKER - GROUP as u8));
        out.put_slice(&group[..shortest.max(wanted)]);
        if shortest <= wanted && groups.peek().is_some() {
            out.put_u8(0);
        }
        break;
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(bytes: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        put_ordered(&mut out, bytes);
        assert_eq!(out.len(), ordered_len(bytes.len()));
        out.freeze()
    }

    /// Keys that are easily confused, in order.
    fn keys() -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for len in 1..=17 {
            for fill in [0x00, 0x01, 0x7f, 0xf7, 0xfe, 0xff] {
                keys.push(vec![fill; len]);
                keys.push([vec![fill; len], vec![0]].concat());
                keys.push([vec![fill; len - 1], vec![0xff]].concat());
            }
        }
        keys.sort();
        keys.dedup();
        keys
    }

    #[test]
    fn order_is_kept_whatever_follows() {
        let keys = keys();
        for pair in keys.windows(2) {
            for (low, high) in [(0xff, 0x00), (0x00, 0x00), (0xff, 0xff)] {
                let low = [&ordered(&pair[0])[..], &[low; 8]].concat();
                let high = [&ordered(&pair[1])[..], &[high; 8]].concat();
                assert!(low < high, "{:?} and {:?}", pair[0], pair[1]);
            }
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_what_follows_is_left() {
        for key in keys() {
            let encoded = ordered(&key);
            assert_eq!(read_ordered(&encoded), Ok((key.clone().into(), encoded.len())));
            let longer = [&encoded[..], b"more"].concat();
            assert_eq!(read_ordered(&longer), Ok((key.into(), encoded.len())));
        }
    }

    #[test]
    fn the_examples_are_as_they_say() {
        assert_eq!(&ordered(b"")[..], b"\0\0\0\0\0\0\0\0\xf7");
        assert_eq!(&ordered(b"abc")[..], b"abc\0\0\0\0\0\xfa");
        assert_eq!(&ordered(b"abcdefgh")[..], b"abcdefgh\xff\0\0\0\0\0\0\0\0\xf7");
    }

    #[test]
    fn a_bound_stands_for_the_first_bytes_that_do_not_sort_before_it() {
        let keys = keys();
        let encoded: Vec<Bytes> = keys.iter().map(|key| ordered(key)).collect();
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert_eq!(first_ordered_at(bytes), key);
            let cut = (0..=bytes.len()).map(|len| &bytes[..len]);
            for bound in cut.flat_map(|cut| [b"", &b"\0"[..], b"\x80"].map(|end| [cut, end].concat())) {
                let first = ordered(&first_ordered_at(&bound));
                assert!(first[..] >= bound[..], "{bound:?} gave {first:?}");
                let earlier = encoded.iter().find(|one| one[..] >= bound[..]);
                assert!(earlier.is_none_or(|earlier| first <= *earlier), "{bound:?} gave {first:?}");
            }
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let whole = ordered(b"abcdefgh");
        for len in 0..whole.len() {
            let truncated = DecodeError::Truncated { needed: 9 - len % 9, left: len % 9 };
            assert_eq!(read_ordered(&whole[..len]), Err(truncated), "the first {len} bytes");
        }
        // More padding than a group has, and padding that is not zero.
        for damaged in [&b"abc\0\0\0\0\0\x01"[..], b"abc\0\0\0\0\x01\xfa"] {
            assert!(matches!(read_ordered(damaged), Err(DecodeError::Invalid(_))));
        }
    }
}
