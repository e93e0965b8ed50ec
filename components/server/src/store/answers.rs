//! Who awaits an answer: from tokens back to connections.

use super::counters::{Code, Counters, Method};
use crate::BootClock;
use crate::measure::add;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use env::Clock as _;
use raftstore::Token;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use store::Inflight;
use types::MonoTime;
use wire::kv::{KvError, KvReply, KvResponse};

/// Token = generation (32 bits) | slot (28) | shard (4).
const SHARDS: usize = 16;
const SHARD_BITS: u32 = SHARDS.ilog2();
const GENERATION_SHIFT: u32 = 32;
const SLOT_MASK: u64 = (1 << (GENERATION_SHIFT - SHARD_BITS)) - 1;

/// An answer to a client.
pub(crate) type Answer = Result<KvReply, KvError>;

/// How a client is answered.
pub(crate) trait Respond {
    /// Gives the one answer.
    fn respond(self, response: &KvResponse);

    /// Does work that gives several answers, and wakes each connection once.
    fn together<T>(work: impl FnOnce() -> T) -> T;
}

impl Respond for transport::Responder {
    fn respond(self, response: &KvResponse) {
        self.respond_kv(response);
    }

    fn together<T>(work: impl FnOnce() -> T) -> T {
        transport::hold_wakes(work)
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Waiting<R> {
    /// How to answer; `None` if the process asked itself.
    pub(crate) responder: Option<R>,
    /// Which kind of request.
    pub(crate) method: Method,
    /// Bytes that count as in flight.
    pub(crate) bytes: usize,
    /// When it arrived.
    pub(crate) since: MonoTime,
}

struct Shard<R> {
    slots: Vec<(u32, Option<Waiting<R>>)>,
    free: Vec<u32>,
}

/// All requests under way. A token is good for one answer: a second one for it is a defect that is counted, and changes
/// nothing.
pub(crate) struct Answers<R> {
    shards: [Mutex<Shard<R>>; SHARDS],
    next_shard: AtomicUsize,
    pending: AtomicUsize,
    pending_max: usize,
    inflight: Inflight,
    counters: Arc<Counters>,
    /// Answers to tokens that nobody waits for.
    stray: AtomicU64,
}

impl<R: Respond> Answers<R> {
    pub(crate) fn new(pending_max: usize, inflight: Inflight, counters: Arc<Counters>) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard { slots: Vec::new(), free: Vec::new() })),
            next_shard: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            pending_max,
            inflight,
            counters,
            stray: AtomicU64::new(0),
        }
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard<R>> {
        self.shards[shard].lock().expect("no one panics while it holds a shard")
    }

    /// True if no more requests are to be taken on.
    pub(crate) fn is_full(&self) -> bool {
        self.pending() >= self.pending_max
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn stray(&self) -> u64 {
        self.stray.load(Ordering::Relaxed)
    }

    /// A shard for the requests of one batch, so that batches of different threads seldom meet.
    pub(crate) fn shard(&self) -> usize {
        self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS
    }

    pub(crate) fn insert(&self, shard: usize, waiting: Waiting<R>) -> Token {
        self.pending.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.lock(shard);
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.slots.push((0, None));
            u32::try_from(slots.slots.len() - 1).expect("bounded by pending_max")
        });
        let (generation, place) = &mut slots.slots[slot as usize];
        *generation = generation.wrapping_add(1);
        *place = Some(waiting);
        (u64::from(*generation) << GENERATION_SHIFT) | (u64::from(slot) << SHARD_BITS) | shard as u64
    }

    fn remove(&self, token: Token) -> Option<Waiting<R>> {
        let slot = ((token >> SHARD_BITS) & SLOT_MASK) as usize;
        let mut shard = self.lock(token as usize % SHARDS);
        let (generation, place) = shard.slots.get_mut(slot)?;
        if u64::from(*generation) != token >> GENERATION_SHIFT {
            return None;
        }
        let waiting = place.take()?;
        shard.free.push(slot as u32);
        drop(shard);
        self.pending.fetch_sub(1, Ordering::Relaxed);
        Some(waiting)
    }

    /// When the request arrived, while it is under way.
    pub(crate) fn since(&self, token: Token) -> Option<MonoTime> {
        let slot = ((token >> SHARD_BITS) & SLOT_MASK) as usize;
        let shard = self.lock(token as usize % SHARDS);
        let (generation, place) = shard.slots.get(slot)?;
        place
            .as_ref()
            .filter(|_| u64::from(*generation) == token >> GENERATION_SHIFT)
            .map(|waiting| waiting.since)
    }

    /// Answers all of them, and wakes their connections once.
    pub(crate) fn answer_all(&self, answers: impl IntoIterator<Item = (Token, Answer)>) {
        let mut answers = answers.into_iter().peekable();
        if answers.peek().is_none() {
            return;
        }
        let now = BootClock.now();
        R::together(|| {
            for (token, answer) in answers {
                match self.remove(token) {
                    Some(waiting) => self.give(waiting, answer, now),
                    None => add(&self.stray, 1),
                }
            }
        });
    }

    /// Answers a request that has no token.
    pub(crate) fn give(&self, waiting: Waiting<R>, answer: Answer, now: MonoTime) {
        let Waiting { responder, method, bytes, since } = waiting;
        if bytes > 0 {
            self.inflight.release(bytes);
        }
        let Some(responder) = responder else { return };
        self.counters.rpc[method as usize].span(since, now);
        if let Err(error) = &answer {
            add(&self.counters.rpc_errors[method as usize][Code::of(error) as usize], 1);
            if let KvError::ServerIsBusy { reason, .. } = error {
                add(self.counters.busy(*reason), 1);
            }
        }
        responder.respond(&KvResponse::from(answer));
    }

    /// Answers whatever is left, at the end of the process: nobody will know what became of it.
    pub(crate) fn abandon(&self) -> usize {
        let now = BootClock.now();
        let mut abandoned = 0;
        for shard in 0..SHARDS {
            let left: Vec<Waiting<R>> =
                self.lock(shard).slots.iter_mut().filter_map(|(_, place)| place.take()).collect();
            self.pending.fetch_sub(left.len(), Ordering::Relaxed);
            abandoned += left.len();
            for waiting in left {
                self.give(waiting, Err(KvError::UndeterminedResult), now);
            }
        }
        abandoned
    }
}
