//! Where users' keys lie among the keys of the region layer.

use bytes::{Buf, BufMut, BytesMut};
use types::{Key, KeyRange, escape_key};

/// The keys of one user of the cluster: a mode and an id before every key.
///
/// A raw key `k` of key space `id` is `'r'`, the id in three bytes (big endian), `k`. What begins with `'x'` belongs to
/// transactions. Agrees with TiKV's API v2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Keyspace {
    mode: u8,
    id: u32,
}

const RAW_MODE: u8 = b'r';
const TXN_MODE: u8 = b'x';
const PREFIX_SIZE: usize = 4;

impl Keyspace {
    /// Raw keys of the default key space.
    pub const RAW: Self = Self { mode: RAW_MODE, id: 0 };
    /// The largest id.
    pub const ID_MAX: u32 = 0x00ff_ffff;

    /// Raw keys of the key space with this id; `None` for an id over [`Self::ID_MAX`].
    #[must_use]
    pub const fn raw(id: u32) -> Option<Self> {
        if id > Self::ID_MAX { None } else { Some(Self { mode: RAW_MODE, id }) }
    }

    /// The id.
    #[must_use]
    pub const fn id(self) -> u32 {
        self.id
    }

    fn prefix(self) -> [u8; PREFIX_SIZE] {
        let [_, high, middle, low] = self.id.to_be_bytes();
        [self.mode, high, middle, low]
    }

    /// All keys of this key space, as the region layer sees them.
    #[must_use]
    pub fn range(self) -> KeyRange {
        KeyRange::prefix(self.prefix().to_vec())
    }

    /// A user's key as the region layer sees it.
    #[must_use]
    pub fn encode(self, key: &[u8]) -> Key {
        let mut out = BytesMut::with_capacity(PREFIX_SIZE + key.len());
        out.put_slice(&self.prefix());
        out.put_slice(key);
        out.freeze()
    }

    /// A user's range as the region layer sees it; an empty end becomes the end of the key space.
    #[must_use]
    pub fn encode_range(self, range: &KeyRange) -> KeyRange {
        let end = if range.end.is_empty() { self.range().end } else { self.encode(&range.end) };
        KeyRange { start: self.encode(&range.start), end }
    }

    /// The user's key; `None` if the key belongs to another key space. Shares the memory of `key`.
    #[must_use]
    pub fn decode(self, key: &Key) -> Option<Key> {
        key.starts_with(&self.prefix()).then(|| key.slice(PREFIX_SIZE..))
    }

    /// As [`Keyspace::decode`], for a key that is not needed any more.
    #[must_use]
    pub fn strip(self, mut key: Key) -> Option<Key> {
        let is_ours = key.starts_with(&self.prefix());
        is_ours.then(|| {
            key.advance(PREFIX_SIZE);
            key
        })
    }

    /// What a range of the region layer holds of this key space, in users' keys; `None` if it is nothing.
    #[must_use]
    pub fn decode_range(self, range: &KeyRange) -> Option<KeyRange> {
        let whole = self.range();
        let part = range.intersection(&whole);
        if part.is_empty() {
            return None;
        }
        let start = self.decode(&part.start).expect("the start lies in the key space");
        // The only end that lies outside is the end of the key space itself.
        let end = self.decode(&part.end).unwrap_or_default();
        Some(KeyRange { start, end })
    }

    /// A key of the region layer for people: `raw/0/key` or `txn/0/key` with the key escaped, and anything else escaped
    /// as it is. The empty key is the empty text.
    #[must_use]
    pub fn describe(key: &[u8]) -> String {
        let (name, rest) = match key.split_first_chunk::<PREFIX_SIZE>() {
            Some(([RAW_MODE, id @ ..], rest)) => (("raw", *id), rest),
            Some(([TXN_MODE, id @ ..], rest)) => (("txn", *id), rest),
            _ => return escape_key(key),
        };
        let (mode, [high, middle, low]) = name;
        format!("{mode}/{}/{}", u32::from_be_bytes([0, high, middle, low]), escape_key(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_ranges_come_back_as_they_were() {
        let space = Keyspace::RAW;
        assert_eq!(&space.encode(b"k")[..], b"r\0\0\0k");
        assert_eq!(space.decode(&space.encode(b"k")).as_deref(), Some(&b"k"[..]));
        for range in
            [KeyRange::full(), KeyRange::new("a", ""), KeyRange::new("", "b"), KeyRange::new("a", "b")]
        {
            assert_eq!(space.decode_range(&space.encode_range(&range)), Some(range));
        }
        assert_eq!(space.encode_range(&KeyRange::full()), space.range());
    }

    #[test]
    fn a_key_space_ends_where_the_next_one_begins() {
        // A scan without an end must not run into the neighbour's keys, the last key space included.
        let one = Keyspace::raw(1).expect("a small id");
        assert_eq!(Keyspace::RAW.range().end, one.range().start);
        assert_eq!(Keyspace::RAW.decode(&one.encode(b"k")), None);
        let last = Keyspace::raw(Keyspace::ID_MAX).expect("the largest id");
        assert_eq!(last.range().end, "s");
        assert_eq!(Keyspace::raw(Keyspace::ID_MAX + 1), None);
    }

    #[test]
    fn region_borders_are_shown_in_users_keys() {
        let space = Keyspace::RAW;
        let first = KeyRange::new("", space.encode(b"m"));
        assert_eq!(space.decode_range(&first), Some(KeyRange::new("", "m")));
        assert_eq!(space.decode_range(&KeyRange::full()), Some(KeyRange::full()));
        assert_eq!(space.decode_range(&KeyRange::new("s", "")), None);
        assert_eq!(Keyspace::describe(&space.encode(b"a\x00")), "raw/0/a\\x00");
        assert_eq!(Keyspace::describe(b"x\0\0\x07k"), "txn/7/k");
        assert_eq!(Keyspace::describe(b"r\0"), "r\\x00");
        assert_eq!(Keyspace::describe(b""), "");
    }
}
