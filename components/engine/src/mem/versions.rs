//! One column family in memory: every key with those of its versions that a snapshot or a crash may still ask for.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use types::KeyRange;

/// What one write left at a key.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// The number of the batch or ingestion.
    pub(super) sequence: u64,
    /// `None` is a removal.
    pub(super) value: Option<Bytes>,
    /// True if it survives every crash, whatever its number.
    pub(super) ingested: bool,
}

/// The versions of one key. Almost every key has one, which then costs no allocation.
#[derive(Debug)]
struct Chain {
    newest: Version,
    /// Ascending in sequence, all below `newest`.
    older: Vec<Version>,
}

impl Chain {
    fn visible(&self, at: u64) -> Option<&Version> {
        if self.newest.sequence <= at {
            return Some(&self.newest);
        }
        self.older.iter().rev().find(|version| version.sequence <= at)
    }

    /// Keeps the versions that `keep` accepts; `None` if there are none.
    fn filtered(self, mut keep: impl FnMut(&Version) -> bool) -> Option<Self> {
        let mut older = self.older;
        older.retain(&mut keep);
        if keep(&self.newest) {
            return Some(Self { newest: self.newest, older });
        }
        older.pop().map(|newest| Self { newest, older })
    }
}

/// Keys and versions of one column family.
#[derive(Debug, Default)]
pub(super) struct Family {
    keys: BTreeMap<Bytes, Chain>,
}

impl Family {
    /// Adds a version. Returns whether there is something to collect once no reader is older than this version: what
    /// it supersedes, or itself if it is a removal.
    pub(super) fn push(&mut self, key: &Bytes, version: Version) -> bool {
        let Some(chain) = self.keys.get_mut(key) else {
            // Removing what no reader and no crash can find leaves no trace.
            if version.value.is_some() {
                self.keys.insert(key.clone(), Chain { newest: version, older: Vec::new() });
            }
            return false;
        };
        let newest = &mut chain.newest;
        assert!(
            newest.sequence <= version.sequence,
            "{} is written after {}",
            version.sequence,
            newest.sequence
        );
        if newest.sequence == version.sequence {
            // A later operation of the same batch.
            *newest = version;
        } else if newest.value.is_some() || version.value.is_some() {
            let superseded = std::mem::replace(newest, version);
            chain.older.push(superseded);
        } else {
            return false;
        }
        true
    }

    /// The keys of `[start, end)` that hold a value now.
    pub(super) fn present(&self, start: &[u8], end: &[u8]) -> Vec<Bytes> {
        self.keys
            .range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)))
            .filter(|(_, chain)| chain.newest.value.is_some())
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Drops the versions of `key` that no reader at `horizon` or later can see.
    pub(super) fn collect(&mut self, key: &Bytes, horizon: u64) {
        let Some(chain) = self.keys.get_mut(key) else { return };
        if chain.newest.sequence <= horizon {
            if chain.newest.value.is_none() {
                self.keys.remove(key);
            } else {
                chain.older = Vec::new();
            }
            return;
        }
        let unreachable = chain.older.partition_point(|version| version.sequence <= horizon);
        if unreachable > 0 {
            // The last of them is what a reader at the horizon sees, and is kept unless it is a removal.
            let kept = usize::from(chain.older[unreachable - 1].value.is_some());
            chain.older.drain(..unreachable - kept);
        }
    }

    /// Drops from the keys of `range` that `chosen` accepts every version that `in_file` says is in a file.
    pub(super) fn drop_versions(
        &mut self,
        range: &KeyRange,
        chosen: impl Fn(&[u8]) -> bool,
        in_file: impl Fn(&Version) -> bool,
    ) {
        let hit: Vec<Bytes> = self
            .keys
            .range::<[u8], _>(bounds(range))
            .filter(|(key, _)| chosen(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in hit {
            let chain = self.keys.remove(&key).expect("it was just found");
            if let Some(rest) = chain.filtered(|version| !in_file(version)) {
                self.keys.insert(key, rest);
            }
        }
    }

    /// What a restart finds when the batches up to `cut` were kept.
    pub(super) fn survivors(&self, cut: u64) -> Self {
        let survives = |version: &&Version| version.sequence <= cut || version.ingested;
        let keys = self
            .keys
            .iter()
            .filter_map(|(key, chain)| {
                let newest = std::iter::once(&chain.newest).chain(chain.older.iter().rev()).find(survives)?;
                newest.value.as_ref()?;
                Some((key.clone(), Chain { newest: newest.clone(), older: Vec::new() }))
            })
            .collect();
        Self { keys }
    }

    /// The value at `key` for a reader at `at`.
    pub(super) fn get(&self, key: &[u8], at: u64) -> Option<Bytes> {
        self.keys.get(key)?.visible(at)?.value.clone()
    }

    /// The first key within `low..high` that a reader at `at` sees, with its value.
    pub(super) fn first(&self, low: Bound<&[u8]>, high: Bound<&[u8]>, at: u64) -> Option<(Bytes, Bytes)> {
        if !ordered(low, high) {
            return None;
        }
        let mut keys = self.keys.range::<[u8], _>((low, high));
        keys.find_map(|(key, chain)| Some((key.clone(), chain.visible(at)?.value.clone()?)))
    }

    /// The last key within `low..high` that a reader at `at` sees, with its value.
    pub(super) fn last(&self, low: Bound<&[u8]>, high: Bound<&[u8]>, at: u64) -> Option<(Bytes, Bytes)> {
        if !ordered(low, high) {
            return None;
        }
        let mut keys = self.keys.range::<[u8], _>((low, high)).rev();
        keys.find_map(|(key, chain)| Some((key.clone(), chain.visible(at)?.value.clone()?)))
    }

    /// The bytes of keys and newest values in `range`.
    pub(super) fn size_bytes(&self, range: &KeyRange) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let size =
            |(key, chain): (&Bytes, &Chain)| key.len() + chain.newest.value.as_ref().map_or(0, Bytes::len);
        self.keys.range::<[u8], _>(bounds(range)).map(size).sum::<usize>() as u64
    }

    /// How many versions are held, of all keys.
    #[cfg(test)]
    pub(super) fn version_count(&self) -> usize {
        self.keys.values().map(|chain| 1 + chain.older.len()).sum()
    }
}

/// The bounds of a range as `BTreeMap` takes them. The range is not empty.
pub(super) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let high = if range.end.is_empty() { Bound::Unbounded } else { Bound::Excluded(&range.end[..]) };
    (Bound::Included(&range.start[..]), high)
}

/// False for the bounds that `BTreeMap::range` rejects and for those that hold nothing.
fn ordered(low: Bound<&[u8]>, high: Bound<&[u8]>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low <= high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => {
            low < high
        }
        _ => true,
    }
}
