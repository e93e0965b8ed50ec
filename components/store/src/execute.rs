//! Reads on a snapshot, bounded.

use crate::oracle::Oracle;
use bytes::Bytes;
use engine::{Cf, EngineError, Snapshot};
use env::Clock;
use raftstore::{HeldView, RawValue, ReadRequest, ReadyRead, TimeUnknown, raw_value, raw_value_in};
use types::{Key, KeyRange, MonoTime, Region, Term, Timestamp};
use wire::kv::{BusyReason, KvCommand, KvError, KvPair, KvReply, Life, Scan};

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

/// A read as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<'a> {
    /// What is to be read.
    pub command: &'a KvCommand,
    /// What it is answered instead.
    pub refusal: Option<&'a KvError>,
    /// For those who look at locks: what was held when it came.
    pub held: Option<&'a HeldView>,
}

impl<'a> From<&'a ReadRequest> for Query<'a> {
    fn from(request: &'a ReadRequest) -> Self {
        let ReadRequest { command, refusal, held, .. } = request;
        Self { command, refusal: refusal.as_deref(), held: held.as_deref() }
    }
}

/// Keys of a page that hold nothing any more are passed over, so many of them in one go.
const PASSED_OVER_MAX: usize = 4096;
/// How long a client should stay away while it is being asked what time it is.
const CLOCK_BACKOFF_MS: u32 = 50;

/// What time it is, by the placement driver's clock; asked for where a value may be over, and only once.
pub trait Time {
    /// In milliseconds; zero if nobody knows.
    fn now_ms(&self) -> u64;
}

impl Time for (&Oracle, MonoTime) {
    fn now_ms(&self) -> u64 {
        self.0.about(self.1).physical_ms()
    }
}

impl Time for (&Oracle, &dyn Clock) {
    fn now_ms(&self) -> u64 {
        self.0.about(self.1.now()).physical_ms()
    }
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
    oracle: &Oracle,
) -> Result<Result<KvReply, KvError>, EngineError> {
    let ReadyRead { request, region, snapshot, term, now } = ready;
    execute(&*snapshot, &region, term, (&request).into(), limits, guarded, &(oracle, now))
}

/// Serves a read from a snapshot of `region`, for which its leader of `term` vouches, unless something was in its way.
/// Inner errors are the client's; keys outside of the region are refused.
///
/// # Errors
/// [`EngineError`] when the data cannot be read.
///
/// # Panics
/// When the command is no read.
pub fn execute<S: Snapshot>(
    snapshot: &S,
    region: &Region,
    term: Term,
    query: Query<'_>,
    limits: ReadLimits,
    guarded: Timestamp,
    time: &dyn Time,
) -> Result<Result<KvReply, KvError>, EngineError> {
    if let Some(refusal) = query.refusal {
        return Ok(Err(refusal.clone()));
    }
    let range = &region.range;
    let outside = || KvError::KeyNotInRegion { region_id: region.id, range: range.clone() };
    Ok(match query.command {
        KvCommand::Get { key } if range.contains(key) => {
            live(snapshot, key, time)?.map(|found| KvReply::Value(found.map(|found| found.value)))
        }
        KvCommand::GetLife { key } if range.contains(key) => live(snapshot, key, time)?
            .map(|found| KvReply::Life(found.map(|found| life(found.ends_ms, time)))),
        KvCommand::BatchGet { keys } if keys.iter().all(|key| range.contains(key)) => {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                match live(snapshot, key, time)? {
                    Ok(found) => values.push(found.map(|found| found.value)),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(KvReply::Values(values))
        }
        KvCommand::Get { .. } | KvCommand::BatchGet { .. } | KvCommand::GetLife { .. } => Err(outside()),
        KvCommand::Scan(scan) => {
            let within = range.intersection(&scan.range);
            page(snapshot, &within, scan, limits, time)?
        }
        KvCommand::TxnRead(read) => {
            let held = query.held.map(|held| crate::txn::held_under(held, term, region.epoch.version));
            // Otherwise the region is led otherwise than when it came.
            let held = held.unwrap_or(Some(mvcc::HeldLocks::new()));
            match held {
                Some(held) => crate::txn::read(snapshot, region, read, limits, guarded, &held)?,
                None => Err(KvError::StaleCommand),
            }
        }
        other => unreachable!("{other:?} is no read"),
    })
}

/// What a key holds, unless that is over.
fn live<S: Snapshot>(
    snapshot: &S,
    key: &Key,
    time: &dyn Time,
) -> Result<Result<Option<RawValue<Bytes>>, KvError>, EngineError> {
    let Some(found) = snapshot.get(Cf::Default, key)?.map(raw_value) else { return Ok(Ok(None)) };
    Ok(match found.ends_ms {
        None => Ok(Some(found)),
        Some(_) => found.at(time.now_ms()).map_err(|TimeUnknown| asks_the_time()),
    })
}

/// Not zero for a value that ends: it is still there.
fn life(ends_ms: Option<u64>, time: &dyn Time) -> Life {
    ends_ms.map_or(Life::Unlimited, |ends_ms| Life::Left { ms: ends_ms.saturating_sub(time.now_ms()).max(1) })
}

fn asks_the_time() -> KvError {
    KvError::ServerIsBusy { reason: BusyReason::Clock, backoff_ms: CLOCK_BACKOFF_MS }
}

fn page<S: Snapshot>(
    snapshot: &S,
    range: &KeyRange,
    scan: &Scan,
    limits: ReadLimits,
    time: &dyn Time,
) -> Result<Result<KvReply, KvError>, EngineError> {
    let own = |limit: u32, max: usize| if limit == 0 { max } else { max.min(limit as usize) };
    let (pairs_max, bytes_max) = (own(scan.limit, limits.pairs_max), own(scan.bytes_max, limits.bytes_max));
    let mut found_pairs = Pairs::default();
    if range.is_empty() {
        return Ok(Ok(KvReply::Page { pairs: Vec::new(), resume: None }));
    }
    // The whole page is read at one time.
    let (mut now_ms, mut passed_over) = (None, 0);
    let mut iter = snapshot.iter(Cf::Default, range);
    let mut found = if scan.reverse { iter.seek_to_last() } else { iter.seek_to_first() };
    while found {
        let is_full = found_pairs.len() >= pairs_max || found_pairs.size_bytes() >= bytes_max;
        if is_full || passed_over >= PASSED_OVER_MAX {
            let resume = match scan.reverse {
                false => Key::copy_from_slice(iter.key()),
                // In reverse the scan goes on below this.
                true => [iter.key(), &[0]].concat().into(),
            };
            return Ok(Ok(KvReply::Page { pairs: found_pairs.take(), resume: Some(resume) }));
        }
        let stored = raw_value_in(iter.value());
        let value = match stored.ends_ms {
            None => Some(stored),
            Some(_) => match stored.at(*now_ms.get_or_insert_with(|| time.now_ms())) {
                Ok(value) => value,
                Err(TimeUnknown) => return Ok(Err(asks_the_time())),
            },
        };
        match value {
            Some(RawValue { value, ends_ms }) => {
                let left = |ends_ms: u64| ends_ms.saturating_sub(now_ms.unwrap_or_default()).max(1);
                let value = if scan.keys_only { b"" } else { value };
                found_pairs.push(iter.key(), value, ends_ms.map_or(0, left));
            }
            None => passed_over += 1,
        }
        found = if scan.reverse { iter.prev() } else { iter.next() };
    }
    iter.status()?;
    Ok(Ok(KvReply::Page { pairs: found_pairs.take(), resume: None }))
}

/// The pairs of a page, in one piece of memory: a page of a hundred pairs costs few allocations, not two hundred.
#[derive(Default)]
struct Pairs {
    bytes: Vec<u8>,
    /// Where in `bytes` each pair's key and value end, and how long it is there.
    ends: Vec<(usize, usize, u64)>,
}

impl Pairs {
    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Of keys and values.
    fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, key: &[u8], value: &[u8], ttl_ms: u64) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len(), ttl_ms));
    }

    fn take(self) -> Vec<KvPair> {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        let pair = |(key_end, end, ttl_ms)| {
            let (key, value) = (bytes.slice(start..key_end), bytes.slice(key_end..end));
            let pair = KvPair { key, value, ttl_ms };
            start = end;
            pair
        };
        self.ends.into_iter().map(pair).collect()
    }
}
