//! How large a region is, and where to cut it.

use engine::{Cf, EngineError, EngineIterator, Snapshot};
use mvcc::without_timestamp;
use types::TXN_MODE;
use types::{Key, Region};

/// A region, measured.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Measured {
    /// Bytes of its keys and values.
    pub(crate) size_bytes: u64,
    /// How many records.
    pub(crate) keys: u64,
    /// Where to cut it; empty if it is small enough.
    pub(crate) split_keys: Vec<Key>,
}

/// Pieces that one split makes at most: a split holds up the region, and its entry must stay small.
const SPLIT_KEYS_MAX: usize = 16;

/// Measures a region, and tells where to cut it if it holds more than one and a half times `split_bytes`.
///
/// Cuts are where a piece has reached `split_bytes`; the last piece keeps at least half of that, so that no sliver is
/// cut off. Any raw key may begin a region; of a transactional one all versions stay together, with its lock.
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
    let mut records = Records::new(snapshot, region)?;
    while let Some(record) = records.next()? {
        if piece >= split_bytes && record.is_first && cuts.len() < SPLIT_KEYS_MAX {
            cuts.push((Key::copy_from_slice(records.key()), measured.size_bytes));
            piece = 0;
        }
        piece += record.size_bytes;
        measured.size_bytes += record.size_bytes;
        measured.keys += 1;
    }
    if measured.size_bytes > split_bytes + split_bytes / 2 {
        let total = measured.size_bytes;
        cuts.retain(|(key, before)| total - before >= split_bytes / 2 && *key > region.range.start);
        measured.split_keys = cuts.into_iter().map(|(key, _)| key).collect();
    }
    Ok(measured)
}

struct Record {
    size_bytes: u64,
    /// No record before it belongs to the same key.
    is_first: bool,
}

/// All records of a region, in the order of the keys that they belong to.
struct Records<'a> {
    /// Of each family: where it stands, and how long the key there is without its timestamp; `None` at its end.
    families: Vec<(Box<dyn EngineIterator + 'a>, Option<usize>)>,
    /// That the last record belonged to.
    key: Vec<u8>,
}

impl<'a> Records<'a> {
    fn new<S: Snapshot>(snapshot: &'a S, region: &'a Region) -> Result<Self, EngineError> {
        let mut families = Vec::new();
        for cf in Cf::DATA {
            let mut iter = snapshot.iter(cf, &region.range);
            let found = iter.seek_to_first();
            let len = own_len(&*iter, cf, found)?;
            families.push((iter, len));
        }
        Ok(Self { families, key: Vec::new() })
    }

    /// The key that the last record belonged to.
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn next(&mut self) -> Result<Option<Record>, EngineError> {
        let standing = self.families.iter().enumerate();
        let first = standing
            .filter_map(|(place, (iter, len))| len.map(|len| (&iter.key()[..len], place)))
            .min()
            .map(|(_, place)| place);
        let Some(place) = first else { return Ok(None) };
        let (iter, len) = &mut self.families[place];
        let key = &iter.key()[..len.expect("it stands somewhere")];
        // Nothing has an empty key, so the first record is the first of its key.
        let is_first = key != self.key;
        if is_first {
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        let size_bytes = (iter.key().len() + iter.value().len()) as u64;
        let found = iter.next();
        *len = own_len(&**iter, Cf::DATA[place], found)?;
        Ok(Some(Record { size_bytes, is_first }))
    }
}

/// How long the key under a position is without its timestamp.
fn own_len(iter: &dyn EngineIterator, cf: Cf, found: bool) -> Result<Option<usize>, EngineError> {
    if !found {
        return iter.status().map(|()| None);
    }
    let key = iter.key();
    let is_version = matches!(cf, Cf::Write | Cf::Default) && key.first() == Some(&TXN_MODE);
    Ok(Some(if is_version { without_timestamp(key)?.0.len() } else { key.len() }))
}
