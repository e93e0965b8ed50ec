//! Reads on a snapshot, bounded.

use bytes::Bytes;
use engine::{Cf, EngineError, Snapshot};
use raftstore::ReadyRead;
use types::{Key, KeyRange, Region, Timestamp};
use wire::kv::{KvCommand, KvError, KvPair, KvReply, Scan};

/// How much one answer may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadLimits {
    /// Bytes of keys and values; the pair that crosses it is included.
    pub bytes_max: usize,
    /// Pairs.
    pub pairs_max: usize,
    /// Rules of reading at a timestamp that are broken on purpose.
    pub bugs: mvcc::Bugs,
}

/// Answers a read that its leader would have served: from the view that was taken for it, unless something was in its way.
/// `guarded` is [`StoreMeta::guarded_to`](raftstore::StoreMeta::guarded_to), asked after the view was taken; so for
/// [`execute`].
///
/// # Errors
/// [`EngineError`] when the data cannot be read.
pub fn serve<S: Snapshot>(
    ready: ReadyRead<S>,
    limits: ReadLimits,
    guarded: Timestamp,
) -> Result<Result<KvReply, KvError>, EngineError> {
    let ReadyRead { request, region, snapshot, term: _ } = ready;
    match request.refusal {
        Some(refusal) => Ok(Err(*refusal)),
        None => execute(&*snapshot, &region, &request.command, limits, guarded),
    }
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
    guarded: Timestamp,
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
        KvCommand::TxnRead(read) => crate::txn::read(snapshot, region, read, limits, guarded)?,
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
    let mut found_pairs = Pairs::default();
    if range.is_empty() {
        return Ok(KvReply::Page { pairs: Vec::new(), resume: None });
    }
    let mut iter = snapshot.iter(Cf::Default, range);
    let mut found = if scan.reverse { iter.seek_to_last() } else { iter.seek_to_first() };
    while found {
        if found_pairs.len() >= pairs_max || found_pairs.size_bytes() >= bytes_max {
            let next = Key::copy_from_slice(iter.key());
            let pairs = found_pairs.take();
            let resume = match scan.reverse {
                false => next,
                // In reverse the scan goes on below the last key that was returned.
                true => pairs.last().map_or_else(Key::new, |pair| pair.key.clone()),
            };
            return Ok(KvReply::Page { pairs, resume: Some(resume) });
        }
        found_pairs.push(iter.key(), if scan.keys_only { b"" } else { iter.value() });
        found = if scan.reverse { iter.prev() } else { iter.next() };
    }
    iter.status()?;
    Ok(KvReply::Page { pairs: found_pairs.take(), resume: None })
}

/// The pairs of a page, in one piece of memory: a page of a hundred pairs costs few allocations, not two hundred.
#[derive(Default)]
struct Pairs {
    bytes: Vec<u8>,
    /// Where in `bytes` each pair's key and value end.
    ends: Vec<(usize, usize)>,
}

impl Pairs {
    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Of keys and values.
    fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn take(self) -> Vec<KvPair> {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        let pair = |(key_end, end)| {
            let pair = KvPair { key: bytes.slice(start..key_end), value: bytes.slice(key_end..end) };
            start = end;
            pair
        };
        self.ends.into_iter().map(pair).collect()
    }
}
