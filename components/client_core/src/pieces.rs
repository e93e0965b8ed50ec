//! Many keys in one call: cut by region, sent side by side, each piece repeated on its own.

use crate::call::{Call, Effect, TxnAttempt};
use crate::core::Core;
use crate::error::{Cause, Error};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{Key, KeyRange};
use wire::kv::{KvCommand, KvReply};
use wire::txn::TxnFault;

/// A piece has at most so many bytes, or one item: large enough to pay for a request, small enough not to hold up others'
/// requests behind it, and far below what stores put into one entry of the log.
const PIECE_BYTES: usize = 1 << 20;
/// And a piece has at most so many items. Values that are read are not counted in bytes before they come.
const PIECE_ITEMS: usize = 256;

/// One element of a batch, at one key.
pub(crate) trait Item: Send + Sync {
    fn key(&self) -> &Key;
    fn size_bytes(&self) -> usize;
}

impl Item for Key {
    fn key(&self) -> &Key {
        self
    }
    fn size_bytes(&self) -> usize {
        self.len()
    }
}

/// What is done with each piece of a batch.
pub(crate) trait Work: Sync {
    type Item: Item;

    /// The request for a piece.
    fn command(&self, items: &[Self::Item]) -> KvCommand;

    /// Whether an answer answers it.
    fn fits(&self, items: &[Self::Item], reply: &KvReply) -> bool;

    /// Removes what keeps a piece from being done, or waits until it is gone; an error if that cannot be.
    fn meet<'a>(&'a self, _call: &'a mut Call, fault: TxnFault) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            Err(Error::UnexpectedAnswer { message: format!("a store answered with {fault:?}") })
        })
    }
}

/// Items of a batch that go on together, in key order, and the attempts they have behind them.
pub(crate) struct Piece<T> {
    items: Vec<T>,
    call: Call,
}

/// What came of a piece.
pub(crate) enum Outcome<T> {
    Done(Vec<T>, KvReply),
    Failed {
        items: Vec<T>,
        error: Error,
        /// An attempt may have been made before; this is what hides whether one was.
        doubt: Option<Cause>,
    },
    /// Given up, because another piece had failed.
    Left {
        items: Vec<T>,
        /// An attempt may have been made before.
        in_doubt: bool,
    },
}

enum Step<T> {
    /// It spans regions, or is too large: these are to be done instead.
    Cut(Vec<Piece<T>>),
    End(Outcome<T>),
}

impl Core {
    /// Cuts `items`, which are in key order, into pieces by region and size, and sends them, a bounded number at a
    /// time. `take` gets every outcome and says whether to go on: if not, what is under way is awaited and nothing more
    /// is begun.
    pub(crate) async fn in_pieces<W: Work>(
        &self,
        items: Vec<W::Item>,
        call: Call,
        work: &W,
        mut take: impl FnMut(Outcome<W::Item>) -> bool,
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
                running.push(self.run_piece(piece, work, &is_stopped));
            }
            match running.next().await {
                None => return,
                Some(Step::Cut(pieces)) => waiting.extend(pieces),
                Some(Step::End(outcome)) => {
                    if !take(outcome) {
                        is_stopped.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    async fn run_piece<W: Work>(
        &self,
        piece: Piece<W::Item>,
        work: &W,
        is_stopped: &AtomicBool,
    ) -> Step<W::Item> {
        let Piece { items, mut call } = piece;
        let failed =
            |items, call: &Call, error| Step::End(Outcome::Failed { items, error, doubt: call.doubt() });
        loop {
            if is_stopped.load(Ordering::Relaxed) {
                return Step::End(Outcome::Left { items, in_doubt: call.is_in_doubt() });
            }
            let route = match self.region_at(&mut call, items[0].key()).await {
                Ok(route) => route,
                Err(error) => return failed(items, &call, error),
            };
            if first_piece(&items, &route.region.range) < items.len() {
                return Step::Cut(self.cut(items, &call));
            }
            match self.attempt_txn(&mut call, &route, work.command(&items)).await {
                Ok(TxnAttempt::Answered(reply)) if work.fits(&items, &reply) => {
                    return Step::End(Outcome::Done(items, reply));
                }
                Ok(TxnAttempt::Answered(_)) => {
                    let error = self.nonsense(&call, route.store_id, "another kind of question");
                    return failed(items, &call, error);
                }
                Ok(TxnAttempt::Faulted(fault)) => {
                    if let Err(error) = work.meet(&mut call, fault).await {
                        return failed(items, &call, error);
                    }
                }
                Ok(TxnAttempt::Again) => {}
                // The values may be more than one answer can hold: fewer keys then.
                Err(Error::InvalidArgument(_)) if call.effect() == Effect::Read && items.len() > 1 => {
                    let mut first = items;
                    let second = first.split_off(first.len() / 2);
                    let halves = [first, second].map(|items| Piece { items, call: call.clone() });
                    return Step::Cut(halves.into());
                }
                Err(error) => return failed(items, &call, error),
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
pub(crate) fn first_piece<T: Item>(items: &[T], range: &KeyRange) -> usize {
    let mut bytes = 0;
    let fitting = items.iter().take(PIECE_ITEMS).take_while(|item| {
        bytes += item.size_bytes();
        bytes <= PIECE_BYTES && range.contains(item.key())
    });
    fitting.count().max(1)
}
