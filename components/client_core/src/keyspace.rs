//! Where users' keys lie among the keys of the region layer.

use bytes::{Buf, BufMut, BytesMut};
use codec::ordered::{first_ordered_at, ordered_len, put_ordered, read_ordered};
use types::{Key, KeyRange, RAW_MODE, TXN_MODE, escape_key};

/// The keys of one user of the cluster: a mode and an id before every key.
///
/// A raw key `k` of key space `id` is `'r'`, the id in three bytes (big endian), `k`. A key of transactions is `'x'`, the
/// id, `k`, and all of that in the encoding of `codec::ordered`, so that timestamps can follow. Agrees with TiKV's API v2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Keyspace {
    mode: u8,
    id: u32,
}

const PREFIX_SIZE: usize = 4;

impl Keyspace {
    /// Raw keys of the default key space.
    pub const RAW: Self = Self { mode: RAW_MODE, id: 0 };
    /// Keys of transactions of the default key space.
    pub const TXN: Self = Self { mode: TXN_MODE, id: 0 };
    /// The largest id.
    pub const ID_MAX: u32 = 0x00ff_ffff;

    /// Raw keys of the key space with this id; `None` for an id over [`Self::ID_MAX`].
    #[must_use]
    pub const fn raw(id: u32) -> Option<Self> {
        if id > Self::ID_MAX { None } else { Some(Self { mode: RAW_MODE, id }) }
    }

    /// Keys of transactions of the key space with this id; `None` for an id over [`Self::ID_MAX`].
    #[must_use]
    pub const fn txn(id: u32) -> Option<Self> {
        if id > Self::ID_MAX { None } else { Some(Self { mode: TXN_MODE, id }) }
    }

    /// The id.
    #[must_use]
    pub const fn id(self) -> u32 {
        self.id
    }

    /// True if its keys are those of transactions.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.mode == TXN_MODE
    }

    fn prefix(self) -> [u8; PREFIX_SIZE] {
        let [_, high, middle, low] = self.id.to_be_bytes();
        [self.mode, high, middle, low]
    }

    /// Bytes as this mode has them.
    fn in_mode(self, plain: &[u8]) -> Key {
        if !self.is_transactional() {
            return Key::copy_from_slice(plain);
        }
        let mut out = BytesMut::with_capacity(ordered_len(plain.len()));
        put_ordered(&mut out, plain);
        out.freeze()
    }

    /// All keys of this key space, as the region layer sees them.
    #[must_use]
    pub fn range(self) -> KeyRange {
        let plain = KeyRange::prefix(self.prefix().to_vec());
        KeyRange { start: self.in_mode(&plain.start), end: self.in_mode(&plain.end) }
    }

    /// A user's key as the region layer sees it.
    #[must_use]
    pub fn encode(self, key: &[u8]) -> Key {
        let mut plain = BytesMut::with_capacity(PREFIX_SIZE + key.len());
        plain.put_slice(&self.prefix());
        plain.put_slice(key);
        if self.is_transactional() { self.in_mode(&plain) } else { plain.freeze() }
    }

    /// A user's range as the region layer sees it; an empty end becomes the end of the key space.
    #[must_use]
    pub fn encode_range(self, range: &KeyRange) -> KeyRange {
        let end = if range.end.is_empty() { self.range().end } else { self.encode(&range.end) };
        KeyRange { start: self.encode(&range.start), end }
    }

    /// The user's key; `None` if the key belongs to another key space, or to none. A raw key shares the memory of `key`.
    #[must_use]
    pub fn decode(self, key: &Key) -> Option<Key> {
        self.strip(key.clone())
    }

    /// As [`Keyspace::decode`], for a key that is not needed any more.
    #[must_use]
    pub fn strip(self, key: Key) -> Option<Key> {
        let mut plain = match self.is_transactional() {
            true => read_ordered(&key).ok().filter(|(_, len)| *len == key.len())?.0,
            false => key,
        };
        let is_ours = plain.starts_with(&self.prefix());
        is_ours.then(|| {
            plain.advance(PREFIX_SIZE);
            plain
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
        let start = self.first_at(&part.start)?;
        // The only end that lies outside is the end of the key space itself.
        let end = self.first_at(&part.end).unwrap_or_default();
        // Regions may be cut between the encodings of two keys.
        (end.is_empty() || start < end).then_some(KeyRange { start, end })
    }

    /// The first user's key at or behind a bound; `None` if it lies behind the key space.
    fn first_at(self, bound: &Key) -> Option<Key> {
        if !self.is_transactional() {
            return self.decode(bound);
        }
        let plain = first_ordered_at(bound);
        plain.starts_with(&self.prefix()).then(|| plain.slice(PREFIX_SIZE..))
    }

    /// A key of the region layer for people: `raw/0/key` or `txn/0/key` with the user's key escaped, and anything else
    /// escaped as it is. The empty key is the empty text.
    #[must_use]
    pub fn describe(key: &[u8]) -> String {
        let ordered = || read_ordered(key).ok().filter(|(_, len)| *len == key.len()).map(|(plain, _)| plain);
        let (mode, plain) = match key.first() {
            Some(&RAW_MODE) => ("raw", Key::copy_from_slice(key)),
            Some(&TXN_MODE) => ("txn", ordered().unwrap_or_default()),
            _ => return escape_key(key),
        };
        match plain.split_first_chunk::<PREFIX_SIZE>() {
            Some(([_, high, middle, low], rest)) => {
                format!("{mode}/{}/{}", u32::from_be_bytes([0, *high, *middle, *low]), escape_key(rest))
            }
            None => escape_key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_ranges_come_back_as_they_were() {
        assert_eq!(&Keyspace::RAW.encode(b"k")[..], b"r\0\0\0k");
        assert_eq!(&Keyspace::TXN.encode(b"key 1")[..], b"x\0\0\0key \xff1\0\0\0\0\0\0\0\xf8");
        for space in [Keyspace::RAW, Keyspace::TXN] {
            for key in [&b""[..], b"k", b"long enough for several groups", b"k\0"] {
                assert_eq!(space.decode(&space.encode(key)).as_deref(), Some(key));
                assert!(space.range().contains(&space.encode(key)));
            }
            for range in
                [KeyRange::full(), KeyRange::new("a", ""), KeyRange::new("", "b"), KeyRange::new("a", "b")]
            {
                assert_eq!(space.decode_range(&space.encode_range(&range)), Some(range));
            }
            assert_eq!(space.encode_range(&KeyRange::full()), space.range());
        }
    }

    #[test]
    fn a_key_space_ends_where_the_next_one_begins() {
        // A scan without an end must not run into the neighbour's keys, the last key space included.
        for (of, zero) in
            [(Keyspace::raw as fn(u32) -> Option<Keyspace>, Keyspace::RAW), (Keyspace::txn, Keyspace::TXN)]
        {
            let one = of(1).expect("a small id");
            assert_eq!(zero.range().end, one.range().start);
            assert_eq!(zero.decode(&one.encode(b"k")), None);
            assert_eq!(of(Keyspace::ID_MAX + 1), None);
        }
        assert_eq!(Keyspace::raw(Keyspace::ID_MAX).expect("the largest id").range().end, "s");
        let last = Keyspace::txn(Keyspace::ID_MAX).expect("the largest id").range();
        assert!(last.start < last.end && last.end < "z");
    }

    #[test]
    fn modes_do_not_mix() {
        assert_eq!(Keyspace::TXN.decode(&Keyspace::RAW.encode(b"k")), None);
        assert_eq!(Keyspace::RAW.decode(&Keyspace::TXN.encode(b"k")), None);
        assert_eq!(Keyspace::TXN.decode_range(&Keyspace::RAW.range()), None);
        // With a timestamp behind it, it is no key.
        let version = [&Keyspace::TXN.encode(b"k")[..], &[0; 8]].concat();
        assert_eq!(Keyspace::TXN.decode(&version.into()), None);
    }

    #[test]
    fn region_borders_are_shown_in_users_keys() {
        for space in [Keyspace::RAW, Keyspace::TXN] {
            let first = KeyRange::new("", space.encode(b"m"));
            assert_eq!(space.decode_range(&first), Some(KeyRange::new("", "m")));
            assert_eq!(space.decode_range(&KeyRange::full()), Some(KeyRange::full()));
            assert_eq!(space.decode_range(&KeyRange::new("z", "")), None);
        }
        // Borders that are no keys: what is left of their encoding says between which keys they lie.
        let between = KeyRange::new(&b"x\0\0\0ke"[..], [&Keyspace::TXN.encode(b"key")[..], &[7; 8]].concat());
        assert_eq!(Keyspace::TXN.decode_range(&between), Some(KeyRange::new("ke", &b"key\0"[..])));
        assert_eq!(Keyspace::describe(&Keyspace::RAW.encode(b"a\x00")), "raw/0/a\\x00");
        assert_eq!(
            Keyspace::describe(&Keyspace::txn(7).expect("a small id").encode(b"key 1")),
            "txn/7/key 1"
        );
        assert_eq!(Keyspace::describe(b"x\0\0\x07k"), "x\\x00\\x00\\x07k");
        assert_eq!(Keyspace::describe(b"r\0"), "r\\x00");
        assert_eq!(Keyspace::describe(b""), "");
    }
}
