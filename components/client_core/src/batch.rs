//! Many keys in one call: cut by region, sent side by side, each piece repeated on its own.

use crate::call::{Attempt, Call, Effect};
use crate::core::Core;
use crate::error::{Error, Incomplete};
use crate::keyspace::Keyspace;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use types::Key;
use wire::kv::{KvCommand, KvReply, WriteOp};

/// A piece ends with the item that brings it to so many bytes: large enough to pay for a request, small enough not to
/// hold up others' requests behind it. One item may be larger.
const PIECE_BYTES: usize = 1 << 20;
/// And a piece has at most so many items. Values that are read are not counted in bytes before they come.
const PIECE_ITEMS: usize = 256;

/// One element of a batch, at one key.
pub(crate) trait Item: Send {
    fn key(&self) -> &Key;
    fn size_bytes(&self) -> usize;
}

/// A key to read, and its place among those asked for.
#[derive(Clone, Debug)]
pub(crate) struct KeyAt {
    pub(crate) key: Key,
    pub(crate) place: usize,
}

impl Item for KeyAt {
    fn key(&self) -> &Key {
        &self.key
    }
    fn size_bytes(&self) -> usize {
        self.key.len()
    }
}

impl Item for WriteOp {
    fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
            Self::DeleteRange { range } => &range.start,
        }
    }
    fn size_bytes(&self) -> usize {
        Self::size_bytes(self)
    }
}

/// Items of a batch that go on together, in key order, and the attempts they have behind them.
struct Piece<T> {
    items: Vec<T>,
    call: Call,
}

/// What came of a piece.
enum Outcome<T> {
    /// It spans regions, or is too large: these are to be done instead.
    Cut(Vec<Piece<T>>),
    Done(Vec<T>, KvReply),
    Failed(Vec<T>, Error),
    /// Not begun, because another piece had failed.
    Left(Vec<T>),
}

/// Puts in key order, the last one for each key.
pub(crate) fn put_ops(pairs: Vec<(Key, Bytes)>) -> Vec<WriteOp> {
    let last: BTreeMap<Key, Bytes> = pairs.into_iter().collect();
    last.into_iter().map(|(key, value)| WriteOp::Put { key, value }).collect()
}

impl Core {
    /// The values of `wanted`, each at its place.
    pub(crate) async fn batch_get(
        &self,
        mut wanted: Vec<KeyAt>,
        deadline: Duration,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let mut values = vec![None; wanted.len()];
        wanted.sort_by(|a, b| a.key.cmp(&b.key));
        let call = self.begin(Effect::Read, deadline);
        let command = |items: &[KeyAt]| KvCommand::BatchGet {
            keys: items.iter().map(|item| item.key.clone()).collect(),
        };
        let mut failure = None;
        self.in_pieces(wanted, call, &command, |outcome| match outcome {
            Outcome::Done(items, KvReply::Values(found)) if found.len() == items.len() => {
                for (item, value) in items.into_iter().zip(found) {
                    values[item.place] = value;
                }
                true
            }
            Outcome::Done(..) => {
                let message = "a store answered a batch of keys with something else".to_owned();
                failure.get_or_insert(Error::UnexpectedAnswer { message });
                false
            }
            Outcome::Failed(_, error) => {
                failure.get_or_insert(error);
                false
            }
            Outcome::Left(_) | Outcome::Cut(_) => true,
        })
        .await;
        match failure {
            None => Ok(values),
            Some(error) => Err(error),
        }
    }

    /// Makes all `ops`, of which no two are for one key.
    pub(crate) async fn batch_write(
        &self,
        keyspace: Keyspace,
        mut ops: Vec<WriteOp>,
        deadline: Duration,
    ) -> Result<(), Error> {
        ops.sort_by(|a, b| a.key().cmp(b.key()));
        ops.dedup_by(|a, b| a.key() == b.key());
        let call = self.begin(Effect::Write, deadline);
        let command = |items: &[WriteOp]| KvCommand::Write { ops: items.to_vec() };
        let (mut written, mut undetermined, mut not_written) = (Vec::new(), Vec::new(), Vec::new());
        let mut failure = None;
        self.in_pieces(ops, call, &command, |outcome| {
            let (list, items, error) = match outcome {
                // `in_pieces` has made sure that the answer is the one to a write.
                Outcome::Done(items, _) => (&mut written, items, None),
                Outcome::Failed(items, error @ Error::Undetermined { .. }) => {
                    (&mut undetermined, items, Some(error))
                }
                Outcome::Failed(items, error) => (&mut not_written, items, Some(error)),
                Outcome::Left(items) => (&mut not_written, items, None),
                Outcome::Cut(_) => return true,
            };
            list.extend(items.iter().filter_map(|op| keyspace.decode(op.key())));
            let goes_on = error.is_none();
            if failure.is_none() {
                failure = error;
            }
            goes_on
        })
        .await;
        let Some(cause) = failure else { return Ok(()) };
        let kinds = [&written, &undetermined, &not_written].iter().filter(|keys| !keys.is_empty()).count();
        if kinds == 1 {
            // What holds of one holds of all.
            return Err(cause);
        }
        for keys in [&mut written, &mut undetermined, &mut not_written] {
            keys.sort();
        }
        Err(Error::Incomplete(Box::new(Incomplete { written, undetermined, not_written, cause })))
    }

    /// Cuts `items`, which are in key order, into pieces by region and size, and sends them, a bounded number at a
    /// time. `take` gets every outcome and says whether to go on: if not, what is under way is awaited and nothing more
    /// is begun.
    async fn in_pieces<T: Item>(
        &self,
        items: Vec<T>,
        call: Call,
        command: &(impl Fn(&[T]) -> KvCommand + Sync),
        mut take: impl FnMut(Outcome<T>) -> bool,
    ) {
        let is_stopped = AtomicBool::new(false);
        let mut waiting = VecDeque::new();
        if !items.is_empty() {
            waiting.push_back(Piece { items, call });
        }
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.shared.options.batch_concurrency.max(1)
                && let Some(piece) = waiting.pop_front()
            {
                running.push(self.run_piece(piece, command, &is_stopped));
            }
            match running.next().await {
                None => return,
                Some(Outcome::Cut(pieces)) => waiting.extend(pieces),
                Some(outcome) => {
                    if !take(outcome) {
                        is_stopped.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    async fn run_piece<T: Item>(
        &self,
        piece: Piece<T>,
        command: &(impl Fn(&[T]) -> KvCommand + Sync),
        is_stopped: &AtomicBool,
    ) -> Outcome<T> {
        let Piece { items, mut call } = piece;
        loop {
            if is_stopped.load(Ordering::Relaxed) {
                return Outcome::Left(items);
            }
            let route = match self.region_at(&mut call, items[0].key()).await {
                Ok(route) => route,
                Err(error) => return Outcome::Failed(items, error),
            };
            if first_piece(&items, &route.region.range) < items.len() {
                return Outcome::Cut(self.cut(items, &call));
            }
            match self.attempt(&mut call, &route, command(&items)).await {
                Ok(Attempt::Answered(reply)) => {
                    let fits = match call.effect() {
                        Effect::Write => matches!(reply, KvReply::Written),
                        Effect::Read => matches!(reply, KvReply::Values(_)),
                    };
                    if fits {
                        return Outcome::Done(items, reply);
                    }
                    let error = self.nonsense(&call, route.store_id, "another kind of question");
                    return Outcome::Failed(items, error);
                }
                Ok(Attempt::Again) => {}
                // The values may be more than one answer can hold: fewer keys then.
                Err(Error::InvalidArgument(_)) if call.effect() == Effect::Read && items.len() > 1 => {
                    let mut first = items;
                    let second = first.split_off(first.len() / 2);
                    let halves = [first, second].map(|items| Piece { items, call: call.clone() });
                    return Outcome::Cut(halves.into());
                }
                Err(error) => return Outcome::Failed(items, error),
            }
        }
    }

    /// Cuts items into pieces as far as their regions are known; the rest stays one piece.
    fn cut<T: Item>(&self, mut items: Vec<T>, call: &Call) -> Vec<Piece<T>> {
        let mut pieces = Vec::new();
        while let Some(first) = items.first() {
            let size = match self.cached_region_at(first.key()) {
                Some(route) => first_piece(&items, &route.region.range),
                None => items.len(),
            };
            let rest = items.split_off(size);
            pieces.push(Piece { items, call: call.clone() });
            items = rest;
        }
        pieces
    }
}

/// How many of the first items, of which the very first lies in `range`, go together.
fn first_piece<T: Item>(items: &[T], range: &types::KeyRange) -> usize {
    let mut bytes = 0;
    let fitting = items.iter().take(PIECE_ITEMS).take_while(|item| {
        let fits = bytes < PIECE_BYTES && range.contains(item.key());
        bytes += item.size_bytes();
        fits
    });
    fitting.count().max(1)
}
