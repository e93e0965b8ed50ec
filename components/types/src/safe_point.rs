//! Up to when versions of keys of transactions may be removed.

use crate::{KeyRange, Timestamp};

/// What every key of a transaction begins with, as the region layer sees it.
pub const TXN_MODE: u8 = b'x';
/// What every raw key begins with.
pub const RAW_MODE: u8 = b'r';

/// The safe points of all key spaces: most have the common one, some one of their own. They only rise.
///
/// The keys of key space `id` are those that begin with [`TXN_MODE`] and the three bytes of the id; in the encoding of
/// transactional keys these four bytes stand as they are.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SafePoints {
    /// That of all key spaces that are not listed.
    pub common: Timestamp,
    /// Those of the others. Invariant: in the order of the ids, each once.
    pub own: Vec<KeyspacePoint>,
}

/// The safe point of one key space.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KeyspacePoint {
    /// The key space.
    pub keyspace: u32,
    /// Its safe point.
    pub at: Timestamp,
}

impl SafePoints {
    /// The same for all key spaces.
    #[must_use]
    pub const fn common(at: Timestamp) -> Self {
        Self { common: at, own: Vec::new() }
    }

    /// That of a key space.
    #[must_use]
    pub fn of_keyspace(&self, keyspace: u32) -> Timestamp {
        match self.own.binary_search_by_key(&keyspace, |point| point.keyspace) {
            Ok(place) => self.own[place].at,
            Err(_) => self.common,
        }
    }

    /// That of a key, as the region layer sees it; zero for one that belongs to no transaction.
    #[must_use]
    pub fn of_key(&self, key: &[u8]) -> Timestamp {
        keyspace_of(key).map_or(Timestamp(0), |keyspace| self.of_keyspace(keyspace))
    }

    /// The highest of those that may concern keys of a range.
    #[must_use]
    pub fn over(&self, range: &KeyRange) -> Timestamp {
        let first = keyspace_of(&range.start);
        let is_one = first.is_some_and(|id| {
            keyspace_of(&range.end) == Some(id) || range.end == prefix(id.saturating_add(1))[..]
        });
        match first.filter(|_| is_one) {
            Some(keyspace) => self.of_keyspace(keyspace),
            None => self.latest(),
        }
    }

    /// The highest of all.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.own.iter().map(|point| point.at).fold(self.common, Timestamp::max)
    }

    /// Rises to `other` wherever that is higher. Returns whether anything has changed.
    pub fn raise(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for point in &other.own {
            match self.own.binary_search_by_key(&point.keyspace, |own| own.keyspace) {
                Ok(place) => self.own[place].at = self.own[place].at.max(point.at),
                // Until now it had the common one, below which it cannot fall.
                Err(place) => {
                    let at = point.at.max(before.common);
                    self.own.insert(place, KeyspacePoint { at, ..*point });
                }
            }
        }
        self.common = self.common.max(other.common);
        *self != before
    }

    /// True if raising these to `other` would change nothing.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        !self.clone().raise(other)
    }

    /// What of it concerns keys of a range.
    #[must_use]
    pub fn within(&self, range: &KeyRange) -> Self {
        let concerns = |point: &&KeyspacePoint| {
            let end = prefix(point.keyspace.saturating_add(1)).to_vec();
            range.overlaps(&KeyRange { start: prefix(point.keyspace).to_vec().into(), end: end.into() })
        };
        Self { common: self.common, own: self.own.iter().filter(concerns).copied().collect() }
    }
}

/// The key space of a key of transactions, as the region layer sees it.
#[must_use]
pub fn keyspace_of(key: &[u8]) -> Option<u32> {
    match key {
        [TXN_MODE, high, middle, low, ..] => Some(u32::from_be_bytes([0, *high, *middle, *low])),
        _ => None,
    }
}

/// All raw keys.
#[must_use]
pub fn raw_range() -> KeyRange {
    KeyRange::prefix(vec![RAW_MODE])
}

/// All keys of transactions.
#[must_use]
pub fn transactional_range() -> KeyRange {
    KeyRange::prefix(vec![TXN_MODE])
}

fn prefix(keyspace: u32) -> [u8; 4] {
    let [_, high, middle, low] = keyspace.to_be_bytes();
    // Behind the last key space comes whatever begins with the next byte.
    if keyspace > 0x00ff_ffff { [TXN_MODE + 1, 0, 0, 0] } else { [TXN_MODE, high, middle, low] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(common: u64, own: &[(u32, u64)]) -> SafePoints {
        let own = own.iter().map(|(keyspace, at)| KeyspacePoint { keyspace: *keyspace, at: Timestamp(*at) });
        SafePoints { common: Timestamp(common), own: own.collect() }
    }

    /// A key space that gets a safe point of its own keeps at least what it had, in whatever order that is told.
    #[test]
    fn safe_points_only_rise() {
        let mut told = points(10, &[]);
        assert!(told.raise(&points(50, &[(7, 5)])));
        assert_eq!(told, points(50, &[(7, 10)]));
        assert!(!told.raise(&points(20, &[])), "an earlier word changes nothing");
        assert!(!told.raise(&points(50, &[(7, 9)])));
        assert!(told.raise(&points(40, &[(3, 60), (7, 30)])));
        assert_eq!(told, points(50, &[(3, 60), (7, 30)]));
        assert!(told.covers(&points(50, &[(7, 30)])) && !told.covers(&points(51, &[])));
    }

    /// Keys have the safe point of their key space, and raw keys none; a range has the highest that may concern it.
    #[test]
    fn keys_and_ranges_have_the_safe_point_of_their_key_space() {
        let points = points(50, &[(1, 10), (2, 90)]);
        let at = |key: &[u8]| points.of_key(key).0;
        assert_eq!(
            (at(b"x\0\0\0k"), at(b"x\0\0\x01k"), at(b"x\0\0\x02k"), at(b"r\0\0\x02k")),
            (50, 10, 90, 0)
        );
        let over = |start: &'static [u8], end: &'static [u8]| points.over(&KeyRange::new(start, end)).0;
        assert_eq!(over(b"x\0\0\x01a", b"x\0\0\x01b"), 10);
        assert_eq!(over(b"x\0\0\x01a", b"x\0\0\x02"), 10);
        assert_eq!((over(b"x\0\0\x01a", b"x\0\0\x02a"), over(b"", b"")), (90, 90));
        let within = points.within(&KeyRange::new(&b"x\0\0\x01a"[..], &b"x\0\0\x02"[..]));
        assert_eq!(within, super::tests::points(50, &[(1, 10)]));
    }
}
