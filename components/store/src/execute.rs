//! Reads on a snapshot, bounded.

use bytes::Bytes;
use engine::{Cf, EngineError, Snapshot};
use types::{Key, KeyRange, Region};
use wire::kv::{KvCommand, KvError, KvPair, KvReply, Scan};

/// How much one answer may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadLimits {
    /// Bytes of keys and values; the pair that crosses it is included.
    pub bytes_max: usize,
    /// Pairs.
    pub pairs_max: usize,
}

/// Serves a read from a snapshot of `region`. Inner errors are the client's; keys outside of the region are refused.
///
/// # Errors
/// [`EngineError`] when the data cannot be read.
///
/// # Panics
/// When `command` is no read.
pub fn execute<S: Snapshot>(
    snapshot: &S,
    region: &Region,
    command: &KvCommand,
    limits: ReadLimits,
) -> Result<Result<KvReply, KvError>, EngineError> {
    let range = &region.range;
    let outside = || KvError::KeyNotInRegion { region_id: region.id, range: range.clone() };
    Ok(match command {
        KvCommand::Get { key } if range.contains(key) => Ok(KvReply::Value(snapshot.get(Cf::Default, key)?)),
        KvCommand::BatchGet { keys } if keys.iter().all(|key| range.contains(key)) => {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(snapshot.get(Cf::Default, key)?);
            }
            Ok(KvReply::Values(values))
        }
        KvCommand::Get { .. } | KvCommand::BatchGet { .. } => Err(outside()),
        KvCommand::Scan(scan) => {
            let within = range.intersection(&scan.range);
            Ok(page(snapshot, &within, scan, limits)?)
        }
        other => unreachable!("{other:?} is no read"),
    })
}

fn page<S: Snapshot>(
    snapshot: &S,
    range: &KeyRange,
    scan: &Scan,
    limits: ReadLimits,
) -> Result<KvReply, EngineError> {
    let own = |limit: u32, max: usize| if limit == 0 { max } else { max.min(limit as usize) };
    let (pairs_max, bytes_max) = (own(scan.limit, limits.pairs_max), own(scan.bytes_max, limits.bytes_max));
    let mut pairs: Vec<KvPair> = Vec::new();
    if range.is_empty() {
        return Ok(KvReply::Page { pairs, resume: None });
    }
    let mut iter = snapshot.iter(Cf::Default, range);
    let mut found = if scan.reverse { iter.seek_to_last() } else { iter.seek_to_first() };
    let mut bytes = 0;
    while found {
        if pairs.len() >= pairs_max || bytes >= bytes_max {
            let resume = match scan.reverse {
                false => Key::copy_from_slice(iter.key()),
                // In reverse the scan goes on below the last key that was returned.
                true => pairs.last().map_or_else(Key::new, |pair| pair.key.clone()),
            };
            return Ok(KvReply::Page { pairs, resume: Some(resume) });
        }
        let value = if scan.keys_only { Bytes::new() } else { Bytes::copy_from_slice(iter.value()) };
        let key = Key::copy_from_slice(iter.key());
        bytes += key.len() + value.len();
        pairs.push(KvPair { key, value });
        found = if scan.reverse { iter.prev() } else { iter.next() };
    }
    iter.status()?;
    Ok(KvReply::Page { pairs, resume: None })
}
