//! How files become keys; drawn in `docs/formats/import.md`.
//!
//! A file is the key `prefix + path` with its bytes as the value. A file that is longer than a value may be is cut: its chunks lie at
//! `prefix + path + 00 + number` (four bytes, big endian), and its manifest at `prefix + path + 00`. No path holds a zero byte, so
//! no key has two readings; and a path and what is derived from it lie side by side, before every other path.

use bytes::{BufMut, Bytes, BytesMut};
use types::{KEY_SIZE_MAX, Key, KeyRange, VALUE_SIZE_MAX};

/// The bytes of each chunk but the last: as much as one page of a scan brings.
pub(crate) const CHUNK_SIZE: u32 = 1 << 20;

/// What follows a path in a derived key.
const DERIVED: u8 = 0;
/// The zero byte and the number.
const DERIVED_SIZE: usize = 5;

/// A place for files among the keys.
#[derive(Clone, Debug)]
pub(crate) struct Scheme {
    prefix: Key,
}

/// What a key of a [`Scheme`] stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// A whole file.
    Whole(Bytes),
    /// How the chunks of a file are to be joined.
    Manifest(Bytes),
    /// A chunk of a file.
    Chunk(Bytes, u32),
    /// Nothing that an import writes.
    Foreign,
}

impl Meaning {
    /// The path of the file that the key belongs to.
    pub(crate) fn path(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(path) | Self::Manifest(path) | Self::Chunk(path, _) => Some(path),
            Self::Foreign => None,
        }
    }
}

impl Scheme {
    pub(crate) fn new(prefix: Key) -> Self {
        Self { prefix }
    }

    /// All keys of it.
    pub(crate) fn range(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    /// Whether a file with this path can have keys at all.
    pub(crate) fn fits(&self, path: &[u8]) -> bool {
        self.prefix.len() + path.len() + DERIVED_SIZE <= KEY_SIZE_MAX
    }

    /// The key of a whole file.
    pub(crate) fn whole(&self, path: &[u8]) -> Key {
        self.key(path, &[])
    }

    /// The key of the manifest.
    pub(crate) fn manifest(&self, path: &[u8]) -> Key {
        self.key(path, &[DERIVED])
    }

    /// The key of a chunk.
    pub(crate) fn chunk(&self, path: &[u8], number: u32) -> Key {
        let [a, b, c, d] = number.to_be_bytes();
        self.key(path, &[DERIVED, a, b, c, d])
    }

    /// All keys that a file with this path may have, whole or cut.
    pub(crate) fn keys_of(&self, path: &[u8]) -> KeyRange {
        KeyRange { start: self.whole(path), end: self.key(path, &[DERIVED + 1]) }
    }

    /// What a key stands for.
    pub(crate) fn meaning(&self, key: &Key) -> Meaning {
        if !key.starts_with(&self.prefix) {
            return Meaning::Foreign;
        }
        let rest = key.slice(self.prefix.len()..);
        let Some(end) = rest.iter().position(|byte| *byte == DERIVED) else {
            return if is_path(&rest) { Meaning::Whole(rest) } else { Meaning::Foreign };
        };
        let (path, number) = (rest.slice(..end), rest.slice(end + 1..));
        if !is_path(&path) {
            return Meaning::Foreign;
        }
        match number[..] {
            [] => Meaning::Manifest(path),
            [a, b, c, d] => Meaning::Chunk(path, u32::from_be_bytes([a, b, c, d])),
            _ => Meaning::Foreign,
        }
    }

    fn key(&self, path: &[u8], rest: &[u8]) -> Key {
        let mut key = BytesMut::with_capacity(self.prefix.len() + path.len() + rest.len());
        key.put_slice(&self.prefix);
        key.put_slice(path);
        key.put_slice(rest);
        key.freeze()
    }
}

/// Whether these bytes are a path that stays below the directory it is joined to: names divided by single slashes, none of
/// them `.` or `..`.
fn is_path(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

/// How a file was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    /// Its length in bytes.
    pub(crate) size: u64,
    /// The length of each chunk but the last.
    pub(crate) chunk_size: u32,
}

impl Manifest {
    /// The manifest's value: text, so that `kv get` shows what it is.
    pub(crate) fn encode(self) -> Bytes {
        format!("flotilla-chunks 1\nsize {}\nchunk {}\n", self.size, self.chunk_size).into()
    }

    /// The manifest in a value; `None` if it holds anything else.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let rest = text.strip_prefix("flotilla-chunks 1\nsize ")?;
        let (size, rest) = rest.split_once("\nchunk ")?;
        let manifest = Self { size: size.parse().ok()?, chunk_size: rest.strip_suffix('\n')?.parse().ok()? };
        let is_sound = (1..=VALUE_SIZE_MAX).contains(&(manifest.chunk_size as usize))
            && u32::try_from(manifest.size.div_ceil(u64::from(manifest.chunk_size))).is_ok();
        (is_sound && manifest.encode() == value).then_some(manifest)
    }

    /// How many chunks there are.
    pub(crate) fn chunks(self) -> u32 {
        u32::try_from(self.size.div_ceil(u64::from(self.chunk_size))).expect("checked when it was decoded")
    }

    /// How long this chunk is; zero behind the last one.
    pub(crate) fn chunk_len(self, number: u32) -> u64 {
        let before = u64::from(number) * u64::from(self.chunk_size);
        self.size.saturating_sub(before).min(u64::from(self.chunk_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_reading() {
        let scheme = Scheme::new("p/".into());
        let path = Bytes::from_static(b"dir/na\xffme");
        assert_eq!(scheme.meaning(&scheme.whole(&path)), Meaning::Whole(path.clone()));
        assert_eq!(scheme.meaning(&scheme.manifest(&path)), Meaning::Manifest(path.clone()));
        for number in [0, 1, 0x0102_0304, u32::MAX] {
            let key = scheme.chunk(&path, number);
            assert_eq!(scheme.meaning(&key), Meaning::Chunk(path.clone(), number));
            assert!(scheme.keys_of(&path).contains(&key) && scheme.range().contains(&key));
        }
        for foreign in ["q/a", "p/", "p/a//b", "p//a", "p/a/", "p/a/../b", "p/.", "p/..", "p/a\0\0", "p/\0"] {
            assert_eq!(scheme.meaning(&Key::from(foreign)), Meaning::Foreign, "{foreign:?}");
        }
        assert_eq!(scheme.meaning(&Key::from("p/..a/...")), Meaning::Whole("..a/...".into()));
    }

    /// What lets verify and export join in one pass: nothing lies between a path and what is derived from it.
    #[test]
    fn the_keys_of_a_path_lie_side_by_side() {
        let scheme = Scheme::new(Key::new());
        let own = scheme.keys_of(b"a");
        for other in [&b"a\x01"[..], b"a-b", b"a/b", b"aa", b"B", b"Z/z", b"b"] {
            assert!(!own.contains(&scheme.whole(other)), "{other:?}");
        }
        assert!(scheme.whole(b"a") < scheme.manifest(b"a"));
        assert!(scheme.manifest(b"a") < scheme.chunk(b"a", 0));
        assert!(scheme.chunk(b"a", 255) < scheme.chunk(b"a", 256));
        assert!(scheme.chunk(b"a", u32::MAX) < own.end);
    }

    #[test]
    fn manifests_come_back_and_anything_else_is_refused() {
        let manifest = Manifest { size: 10, chunk_size: 4 };
        assert_eq!(Manifest::decode(&manifest.encode()), Some(manifest));
        assert_eq!(manifest.chunks(), 3);
        assert_eq!((0..4).map(|at| manifest.chunk_len(at)).collect::<Vec<_>>(), [4, 4, 2, 0]);
        let chunk_max = VALUE_SIZE_MAX + 1;
        for wrong in [
            "",
            "flotilla-chunks 2\nsize 10\nchunk 4\n",
            "flotilla-chunks 1\nsize 10\nchunk 0\n",
            "flotilla-chunks 1\nsize 10\nchunk 4",
            "flotilla-chunks 1\nsize +10\nchunk 4\n",
            "flotilla-chunks 1\nsize 18446744073709551615\nchunk 4\n",
            &format!("flotilla-chunks 1\nsize 10\nchunk {chunk_max}\n"),
        ] {
            assert_eq!(Manifest::decode(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_path_that_is_too_long_for_a_key_does_not_fit() {
        let scheme = Scheme::new("p/".into());
        let longest = vec![b'a'; KEY_SIZE_MAX - 2 - DERIVED_SIZE];
        assert!(scheme.fits(&longest));
        assert_eq!(scheme.chunk(&longest, 1).len(), KEY_SIZE_MAX);
        assert!(!scheme.fits(&[&longest[..], b"a"].concat()));
    }
}
