//! Keys and half-open key ranges.

use bytes::Bytes;
use std::fmt::{self, Write as _};

/// A key as the region layer sees it: bytes in lexicographic order.
pub type Key = Bytes;

/// A half-open range `[start, end)`. An empty `start` is the lowest key; an empty `end` means "no upper bound".
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    /// Inclusive lower bound; empty means from the very first key.
    pub start: Key,
    /// Exclusive upper bound; empty means to the very last key.
    pub end: Key,
}

impl KeyRange {
    /// The range `[start, end)`.
    #[must_use]
    pub fn new(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// Every key.
    #[must_use]
    pub fn full() -> Self {
        Self::default()
    }

    /// All keys that begin with `prefix`. Without an end when the prefix is all `0xff`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let start: Key = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                break;
            }
        }
        Self { start, end: end.into() }
    }

    /// True if `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    /// True if no key can lie in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }

    /// True if some key lies in both ranges.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && (other.end.is_empty() || self.start < other.end)
            && (self.end.is_empty() || other.start < self.end)
    }

    /// True if every key of `other` lies in `self`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.is_empty()
            || (self.start <= other.start
                && (self.end.is_empty() || (!other.end.is_empty() && other.end <= self.end)))
    }

    /// The keys that lie in both ranges (possibly none).
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let start = self.start.clone().max(other.start.clone());
        let end = match (self.end.is_empty(), other.end.is_empty()) {
            (true, _) => other.end.clone(),
            (_, true) => self.end.clone(),
            _ => self.end.clone().min(other.end.clone()),
        };
        Self { start, end }
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.end.is_empty() { "∞".to_owned() } else { escape_key(&self.end) };
        write!(f, "[{}, {})", escape_key(&self.start), end)
    }
}

/// A key in printable form: graphic ASCII as it is, everything else as `\xNN`, the backslash doubled.
///
/// For people who asked to see a key (`ctl`, errors to the caller); logs never print keys.
#[must_use]
pub fn escape_key(key: &[u8]) -> String {
    let mut out = String::with_capacity(key.len());
    for &byte in key {
        match byte {
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e => out.push(byte as char),
            _ => write!(out, "\\x{byte:02x}").expect("writing to a String does not fail"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ranges_end_at_the_next_prefix() {
        assert_eq!(KeyRange::prefix("ab"), KeyRange::new("ab", "ac"));
        assert_eq!(KeyRange::prefix(vec![1, 0xff]), KeyRange::new(vec![1, 0xff], vec![2]));
        assert_eq!(KeyRange::prefix(vec![0xff, 0xff]), KeyRange::new(vec![0xff, 0xff], ""));
        assert!(KeyRange::prefix("").contains(b"anything"));
    }

    #[test]
    fn an_empty_end_is_unbounded_on_both_sides_of_every_relation() {
        let all = KeyRange::full();
        let low = KeyRange::new("", "m");
        let high = KeyRange::new("m", "");
        assert!(all.covers(&low) && all.covers(&high) && !low.covers(&all));
        assert!(!low.overlaps(&high) && low.overlaps(&all) && high.overlaps(&all));
        assert_eq!(low.intersection(&all), low);
        assert!(low.intersection(&high).is_empty());
        assert!(low.contains(b"") && !low.contains(b"m") && high.contains(b"m"));
    }
}
