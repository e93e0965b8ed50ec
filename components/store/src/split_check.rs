//! How large a region is, and where to cut it.

use engine::{Cf, EngineError, Snapshot};
use types::{Key, Region};

/// A region, measured.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Measured {
    /// Bytes of its keys and values.
    pub(crate) size_bytes: u64,
    /// How many keys.
    pub(crate) keys: u64,
    /// Where to cut it; empty if it is small enough.
    pub(crate) split_keys: Vec<Key>,
}

/// Pieces that one split makes at most: a split holds up the region, and its entry must stay small.
const SPLIT_KEYS_MAX: usize = 16;

/// Measures a region, and tells where to cut it if it holds more than one and a half times `split_bytes`.
///
/// Cuts are where a piece has reached `split_bytes`; the last piece keeps at least half of that, so that no sliver is
/// cut off. Any key may begin a region as long as the store holds raw keys only.
///
/// # Errors
/// [`EngineError`] when the data cannot be read.
pub(crate) fn check_split<S: Snapshot>(
    snapshot: &S,
    region: &Region,
    split_bytes: u64,
) -> Result<Measured, EngineError> {
    let mut measured = Measured::default();
    let mut piece = 0;
    // Key and the bytes before it, of each possible cut.
    let mut cuts: Vec<(Key, u64)> = Vec::new();
    let mut iter = snapshot.iter(Cf::Default, &region.range);
    let mut found = iter.seek_to_first();
    while found {
        let bytes = (iter.key().len() + iter.value().len()) as u64;
        if piece >= split_bytes && cuts.len() < SPLIT_KEYS_MAX {
            cuts.push((Key::copy_from_slice(iter.key()), measured.size_bytes));
            piece = 0;
        }
        piece += bytes;
        measured.size_bytes += bytes;
        measured.keys += 1;
        found = iter.next();
    }
    iter.status()?;
    if measured.size_bytes > split_bytes + split_bytes / 2 {
        let total = measured.size_bytes;
        cuts.retain(|(key, before)| total - before >= split_bytes / 2 && *key > region.range.start);
        measured.split_keys = cuts.into_iter().map(|(key, _)| key).collect();
    }
    Ok(measured)
}
