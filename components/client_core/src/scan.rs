//! Range scans across regions, page by page.

use crate::batch::KeyAt;
use crate::call::{Call, Effect, TxnAttempt};
use crate::core::Core;
use crate::error::Error;
use crate::keyspace::Keyspace;
use crate::region_cache::Route;
use crate::seeded_bug::SeededBug;
use crate::txn::{Beginning, ReadingAt, Seen, SharedReads, faulted_read};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use types::{Key, KeyRange};
use wire::kv::{KvCommand, KvPair, KvReply, Scan as ScanCommand};
use wire::txn::{LockInfo, TxnFault, TxnItem, TxnRead, TxnReply};

/// What a scan brings, and in which pieces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanOptions {
    /// At most so many pairs; `None` for all.
    pub limit: Option<u64>,
    /// From the end of the range to its start.
    pub reverse: bool,
    /// Leave the values out: they come empty.
    pub keys_only: bool,
    /// At most so many pairs in one request.
    pub page_pairs: u32,
    /// A request stops after so many bytes of keys and values.
    pub page_bytes: u32,
}

impl Default for ScanOptions {
    /// All pairs in key order, in pages of 1024 pairs or 1 MiB.
    fn default() -> Self {
        Self { limit: None, reverse: false, keys_only: false, page_pairs: 1024, page_bytes: 1 << 20 }
    }
}

/// What is read.
#[derive(Clone)]
pub(crate) enum Source {
    /// Raw values.
    Raw,
    /// What was committed by a timestamp.
    At(Arc<Seen>),
    /// What a transaction sees, which begins with the first page if it has not before.
    Of(Arc<Beginning>),
}

impl Source {
    /// What its reader sees; `None` of raw values.
    async fn seen(&self, call: &mut Call) -> Result<Option<Arc<Seen>>, Error> {
        Ok(match self {
            Self::Raw => None,
            Self::At(seen) => Some(Arc::clone(seen)),
            Self::Of(beginning) => Some(beginning.begin(call).await?.snapshot.seen()),
        })
    }
}

/// The pairs of a range, one after another: a [`Stream`] that ends after its first error.
///
/// It asks for the first page when it is first polled, and for the next one while the reader takes what has come.
pub struct Scan {
    core: Core,
    keyspace: Keyspace,
    deadline: Duration,
    options: ScanOptions,
    source: Source,
    /// Keys of what is to be fetched that have other values, or none, for this reader.
    over: BTreeMap<Key, Option<Bytes>>,
    /// Where what was read is written down.
    reads: Option<SharedReads>,
    /// The range asked for, in users' keys.
    range: KeyRange,
    /// The last key that was yielded, as the user sees it.
    yielded: Option<Key>,
    /// What has come and was not yielded yet: the rest of one page, and one ahead of it.
    ready: VecDeque<KvPair>,
    /// How many pairs the latest page brought.
    latest_page: usize,
    /// The page under way; one at most.
    fetching: Option<BoxFuture<'static, Result<Page, Error>>>,
    /// What is to be fetched after it, as the region layer sees it.
    ahead: KeyRange,
    /// How many pairs may still be fetched.
    fetch_left: u64,
    /// What ended the fetching, until it is yielded.
    failure: Option<Error>,
    has_failed: bool,
}

/// A piece of a scan, checked.
struct Page {
    pairs: Vec<KvPair>,
    /// What is left of the range.
    ahead: KeyRange,
}

impl Scan {
    pub(crate) fn new(
        core: Core,
        keyspace: Keyspace,
        deadline: Duration,
        range: KeyRange,
        options: ScanOptions,
        source: Source,
    ) -> Self {
        Self {
            core,
            keyspace,
            deadline,
            ahead: keyspace.encode_range(&range),
            fetch_left: options.limit.unwrap_or(u64::MAX),
            options,
            source,
            over: BTreeMap::new(),
            reads: None,
            range,
            yielded: None,
            ready: VecDeque::new(),
            latest_page: 0,
            fetching: None,
            failure: None,
            has_failed: false,
        }
    }

    /// The same, where these keys, as the region layer sees them, have these values, or none, whatever stores say.
    pub(crate) fn over(self, over: BTreeMap<Key, Option<Bytes>>) -> Self {
        Self { over, ..self }
    }

    /// The same, and what is read of the range is written down here.
    pub(crate) fn noting(self, reads: Option<SharedReads>) -> Self {
        Self { reads, ..self }
    }

    /// What was not yielded yet of the range, whatever the limit: a new scan of it goes on where this one stands. It begins
    /// right behind the last pair that was yielded, and so reads again what a page has shown to be absent: whoever sees
    /// the new scan pass over a key knows that it was absent after that scan began.
    /// `None` when that is nothing.
    #[must_use]
    pub fn remaining(&self) -> Option<KeyRange> {
        if self.ready.is_empty() && self.ahead.is_empty() && self.fetching.is_none() && !self.has_failed {
            return None;
        }
        let mut range = self.range.clone();
        match &self.yielded {
            None => {}
            Some(last) if self.options.reverse => range.end = last.clone(),
            Some(last) => {
                let mut after = BytesMut::with_capacity(last.len() + 1);
                after.put_slice(last);
                after.put_u8(0);
                range.start = after.freeze();
            }
        }
        (!range.is_empty()).then_some(range)
    }

    /// The next pair; `None` at the end, and after an error.
    ///
    /// # Errors
    /// As `RawClient::get`. Nothing follows it.
    pub async fn next_pair(&mut self) -> Result<Option<KvPair>, Error> {
        self.next().await.transpose()
    }

    /// All pairs that are left, at once: for scans with a limit, or of a range that is known to be small.
    ///
    /// # Errors
    /// As [`Scan::next_pair`].
    pub async fn into_vec(mut self) -> Result<Vec<KvPair>, Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = self.next_pair().await? {
            pairs.push(pair);
        }
        Ok(pairs)
    }

    /// Begins to fetch the next page if there is one to come and at most the latest one waits for the reader.
    fn begin_page(&mut self) {
        let is_wanted = !self.has_failed && !self.ahead.is_empty() && self.fetch_left > 0;
        if !is_wanted || self.fetching.is_some() || self.ready.len() > self.latest_page {
            return;
        }
        let command = ScanCommand {
            range: self.ahead.clone(),
            limit: u32::try_from(self.fetch_left).unwrap_or(u32::MAX).min(self.options.page_pairs.max(1)),
            bytes_max: self.options.page_bytes,
            reverse: self.options.reverse,
            keys_only: self.options.keys_only,
        };
        let (core, keyspace, deadline) = (self.core.clone(), self.keyspace, self.deadline);
        let source = self.source.clone();
        let page = async move { core.scan_page(command, deadline, keyspace, &source).await };
        self.fetching = Some(Box::pin(page));
    }

    fn take_page(&mut self, page: Result<Page, Error>) {
        match page {
            Ok(Page { pairs, ahead }) => {
                let pairs = self.put_over(pairs, &ahead);
                self.latest_page = pairs.len();
                self.fetch_left -= pairs.len() as u64;
                if let Err(error) = self.note(&pairs, &ahead) {
                    self.failure = Some(error);
                    self.has_failed = true;
                    return;
                }
                self.ahead = ahead;
                let keyspace = self.keyspace;
                let decoded = pairs.into_iter().map(|pair| KvPair {
                    key: keyspace.strip(pair.key).expect("the page was checked to lie in the key space"),
                    ..pair
                });
                self.ready.extend(decoded);
            }
            Err(error) => {
                self.failure = Some(error);
                self.has_failed = true;
            }
        }
    }
}

impl Scan {
    /// Writes down what these pairs tell of the range, after which `ahead` is left of what was to be fetched. Where they are
    /// the last that are wanted, nothing behind them was seen.
    fn note(&self, pairs: &[KvPair], ahead: &KeyRange) -> Result<(), Error> {
        let Some(reads) = &self.reads else { return Ok(()) };
        let mut reads = reads.lock();
        let last = pairs.last().filter(|_| self.fetch_left == 0);
        let KeyRange { start, end } = self.ahead.clone();
        match (last, self.options.reverse) {
            (Some(last), true) => reads.add_range(KeyRange { start: last.key.clone(), end }),
            (None, true) => reads.add_range(KeyRange { start: ahead.end.clone(), end }),
            (Some(last), false) => {
                reads.add_range(KeyRange { start, end: last.key.clone() })?;
                reads.add_key(&last.key)
            }
            (None, false) => reads.add_range(KeyRange { start, end: ahead.start.clone() }),
        }
    }

    /// A page as this reader sees it, after which `ahead` is left of what was to be fetched; no more than is wanted.
    fn put_over(&mut self, pairs: Vec<KvPair>, ahead: &KeyRange) -> Vec<KvPair> {
        let over = std::mem::take(&mut self.over);
        let wanted = usize::try_from(self.fetch_left).unwrap_or(usize::MAX);
        if over.is_empty() {
            return pairs.into_iter().take(wanted).collect();
        }
        let (here, later) =
            over.into_iter().partition(|(key, _)| !ahead.contains(key) && self.ahead.contains(key));
        self.over = later;
        let mut merged: BTreeMap<Key, Option<Bytes>> =
            pairs.into_iter().map(|pair| (pair.key, Some(pair.value))).collect();
        let hide = |value: Bytes| if self.options.keys_only { Bytes::new() } else { value };
        merged.extend(here.into_iter().map(|(key, value): (Key, Option<Bytes>)| (key, value.map(hide))));
        let pairs =
            merged.into_iter().filter_map(|(key, value)| Some(KvPair { key, value: value?, ttl_ms: 0 }));
        if self.options.reverse { pairs.rev().take(wanted).collect() } else { pairs.take(wanted).collect() }
    }
}

impl Stream for Scan {
    type Item = Result<KvPair, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            self.begin_page();
            // Polled even while pairs are ready: nobody else drives the page ahead.
            if let Some(fetching) = &mut self.fetching
                && let Poll::Ready(page) = fetching.as_mut().poll(context)
            {
                self.fetching = None;
                self.take_page(page);
            }
            if let Some(pair) = self.ready.pop_front() {
                self.yielded = Some(pair.key.clone());
                return Poll::Ready(Some(Ok(pair)));
            }
            if let Some(error) = self.failure.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if self.fetching.is_some() {
                return Poll::Pending;
            }
            if self.has_failed || self.ahead.is_empty() || self.fetch_left == 0 {
                return Poll::Ready(None);
            }
            // The page was empty: on to the next.
        }
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Core {
    /// Fetches what one region gives at once of `command.range`, from its start or, in reverse, from its end.
    async fn scan_page(
        &self,
        command: ScanCommand,
        deadline: Duration,
        keyspace: Keyspace,
        source: &Source,
    ) -> Result<Page, Error> {
        let mut call = self.begin(Effect::Read, deadline);
        let seen = source.seen(&mut call).await?;
        let seen = seen.as_deref();
        let whole = &command.range;
        loop {
            let route = if command.reverse {
                self.region_before(&mut call, &whole.end).await?
            } else {
                self.region_at(&mut call, &whole.start).await?
            };
            let part = route.region.range.intersection(whole);
            let asked = ScanCommand { range: part.clone(), ..command.clone() };
            let Some(piece) = self.scan_piece(&mut call, &route, asked, keyspace, seen).await? else {
                continue;
            };
            let Piece { mut pairs, locks, resume } = piece;
            if let Err(message) = check_page(&command, &part, &pairs, resume.as_ref()) {
                return Err(self.nonsense(&call, route.store_id, message));
            }
            if let Some(seen) = seen
                && !locks.is_empty()
            {
                let reading = ReadingAt { core: self, keyspace, seen };
                self.look_behind(&mut call, &reading, locks, &mut pairs).await?;
                if command.keys_only {
                    pairs.iter_mut().for_each(|pair| pair.value = Bytes::new());
                }
            }
            let skips = self.shared.options.bugs.has(SeededBug::ScanSkipsRestOfPage);
            let resume = resume.filter(|_| !skips);
            let mut ahead = whole.clone();
            if command.reverse {
                ahead.end = resume.unwrap_or(part.start);
            } else {
                ahead.start = resume.unwrap_or(part.end);
            }
            return Ok(Page { pairs, ahead });
        }
    }

    /// What a store answers to one request of a scan; `None` if it is to be asked again.
    async fn scan_piece(
        &self,
        call: &mut Call,
        route: &Route,
        scan: ScanCommand,
        keyspace: Keyspace,
        seen: Option<&Seen>,
    ) -> Result<Option<Piece>, Error> {
        let command = match seen {
            None => KvCommand::Scan(scan),
            Some(seen) => KvCommand::TxnRead(Box::new(TxnRead::Scan { scan, view: seen.view() })),
        };
        let reply = match (seen, self.attempt_txn(call, route, command).await?) {
            (_, TxnAttempt::Again) => return Ok(None),
            (Some(seen), TxnAttempt::Faulted(TxnFault::KeyIsLocked { locks })) => {
                self.meet_as_reader(call, keyspace, seen, locks).await?;
                return Ok(None);
            }
            (Some(_), TxnAttempt::Faulted(fault)) => return Err(faulted_read(fault)),
            (_, TxnAttempt::Faulted(_)) => None,
            (None, TxnAttempt::Answered(KvReply::Page { pairs, resume })) => {
                Some(Piece { pairs, locks: Vec::new(), resume })
            }
            (Some(_), TxnAttempt::Answered(KvReply::Txn(reply))) => match *reply {
                TxnReply::Page { items, resume } => {
                    let mut locks = Vec::new();
                    let pair = |item| {
                        let TxnItem { key, value, lock } = item;
                        locks.extend(lock.map(|lock| LockInfo { key: key.clone(), ..lock }));
                        KvPair { key, value, ttl_ms: 0 }
                    };
                    let pairs = items.into_iter().map(pair).collect();
                    Some(Piece { pairs, locks, resume })
                }
                _ => None,
            },
            (_, TxnAttempt::Answered(_)) => None,
        };
        reply.map(Some).ok_or_else(|| self.nonsense(call, route.store_id, "not to a scan"))
    }

    /// Finds out what the pairs are that locks have hidden.
    async fn look_behind(
        &self,
        call: &mut Call,
        reading: &ReadingAt<'_>,
        locks: Vec<LockInfo>,
        pairs: &mut Vec<KvPair>,
    ) -> Result<(), Error> {
        let wanted: Vec<KeyAt> =
            locks.iter().enumerate().map(|(place, lock)| KeyAt { key: lock.key.clone(), place }).collect();
        let keys: Vec<Key> = wanted.iter().map(|item| item.key.clone()).collect();
        self.meet_as_reader(call, reading.keyspace, reading.seen, locks).await?;
        let values = self.values_of(call.within(Effect::Read), wanted, reading).await?;
        let found: BTreeMap<Key, Option<Bytes>> = keys.into_iter().zip(values).collect();
        pairs.retain_mut(|pair| match found.get(&pair.key) {
            None => true,
            Some(None) => false,
            Some(Some(value)) => {
                pair.value = value.clone();
                true
            }
        });
        Ok(())
    }
}

/// What one request of a scan brought.
struct Piece {
    /// In the direction of the scan; without values where locks hide them.
    pairs: Vec<KvPair>,
    locks: Vec<LockInfo>,
    resume: Option<Key>,
}

/// Whether a store's page keeps its promises: pairs of the part in order, and a key to go on from that lies behind them
/// and closer to the end than the part's beginning, so that every scan ends.
fn check_page(
    command: &ScanCommand,
    part: &KeyRange,
    pairs: &[KvPair],
    resume: Option<&Key>,
) -> Result<(), &'static str> {
    if pairs.len() > command.limit as usize {
        return Err("a scan with more pairs than asked for");
    }
    if pairs.iter().any(|pair| !part.contains(&pair.key)) {
        return Err("a scan with a key outside of its range");
    }
    let in_order =
        |earlier: &Key, later: &Key| if command.reverse { earlier > later } else { earlier < later };
    if pairs.windows(2).any(|two| !in_order(&two[0].key, &two[1].key)) {
        return Err("a scan out of order");
    }
    let Some(resume) = resume else { return Ok(()) };
    let goes_on = if command.reverse {
        *resume < part.end && *resume >= part.start && pairs.last().is_none_or(|last| *resume <= last.key)
    } else {
        *resume > part.start && *resume <= part.end && pairs.last().is_none_or(|last| *resume > last.key)
    };
    if goes_on { Ok(()) } else { Err("a scan with a key to go on from that leads back") }
}
