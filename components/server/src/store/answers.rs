//! Who awaits an answer: from tokens back to connections.

use super::counters::{Code, Counters};
use super::stages::{Asked, Stopwatch, Way};
use crate::BootClock;
use crate::measure::add;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use env::Clock as _;
use raftstore::{EntryTimes, Token};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use store::{Inflight, scheduler_of};
use types::MonoTime;
use wire::kv::{KvError, KvReply, KvResponse};
use wire::trace::Trace;

/// Token = 0 (1 bit: it is a client's) | generation (31) | slot (28) | shard (4).
const SHARDS: usize = 16;
const SHARD_BITS: u32 = SHARDS.ilog2();
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = u32::MAX >> 1;
const SLOT_MASK: u64 = (1 << (GENERATION_SHIFT - SHARD_BITS)) - 1;

/// An answer to a client.
pub(crate) type Answer = Result<KvReply, KvError>;

/// Takes the answer to what a scheduler has asked of its worker.
pub(crate) type Scheduled = Box<dyn Fn(Token, Answer) + Send + Sync>;

/// How a client is answered.
pub(crate) trait Respond {
    /// Gives the one answer.
    fn respond(self, response: &KvResponse);

    /// Gives the one answer, and tells where its time went if there is a way to.
    fn respond_traced(self, response: &KvResponse, _trace: &Trace)
    where
        Self: Sized,
    {
        self.respond(response);
    }

    /// Does work that gives several answers, and wakes each connection once.
    fn together<T>(work: impl FnOnce() -> T) -> T;
}

impl Respond for transport::Responder {
    fn respond(self, response: &KvResponse) {
        self.respond_kv(response);
    }

    fn respond_traced(self, response: &KvResponse, trace: &Trace) {
        transport::Responder::respond_traced(self, response, trace);
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
    /// What was asked; its bytes count as in flight.
    pub(crate) asked: Asked,
    /// Whether the answer shall tell where its time went.
    pub(crate) timed: bool,
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
    stopwatch: Stopwatch,
    /// Answers to tokens that nobody waits for.
    stray: AtomicU64,
    /// Takes the answers to what schedulers have asked.
    scheduled: Option<Scheduled>,
}

impl<R: Respond> Answers<R> {
    pub(crate) fn new(
        pending_max: usize,
        inflight: Inflight,
        counters: Arc<Counters>,
        stopwatch: Stopwatch,
    ) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard { slots: Vec::new(), free: Vec::new() })),
            next_shard: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            pending_max,
            inflight,
            counters,
            stopwatch,
            stray: AtomicU64::new(0),
            scheduled: None,
        }
    }

    /// With somebody who takes the answers to what schedulers have asked.
    pub(crate) fn telling(self, scheduled: Scheduled) -> Self {
        Self { scheduled: Some(scheduled), ..self }
    }

    /// Counts how long requests have waited, for locks and for latches.
    pub(crate) fn note_waits(&self, locks: &[Duration], latches: &[Duration]) {
        locks.iter().for_each(|wait| self.counters.lock_wait.observe(*wait));
        latches.iter().for_each(|wait| self.counters.latch_wait.observe(*wait));
    }

    /// Counts requests for locks that were answered once they were proposed, and of these the lost ones.
    pub(crate) fn note_pipelined(&self, answered: u64, lost: u64) {
        if answered > 0 || lost > 0 {
            add(&self.counters.pipelined, answered);
            add(&self.counters.pipelined_lost, lost);
        }
    }

    /// Counts how many commands of transactions run: there were, and are so many at one scheduler.
    pub(crate) fn note_running(&self, before: usize, after: usize) {
        let more = (after as u64).wrapping_sub(before as u64);
        self.counters.txn_commands.fetch_add(more, Ordering::Relaxed);
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
        *generation = generation.wrapping_add(1) & GENERATION_MASK;
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
            .map(|waiting| waiting.asked.since)
    }

    /// Answers all of them, and wakes their connections once.
    pub(crate) fn answer_all(&self, answers: impl IntoIterator<Item = (Token, Answer)>) {
        self.answer_each(answers.into_iter().map(|(token, answer)| (token, answer, Way::Unknown)));
    }

    /// The same, of what an applier took up at `begun` and wrote until `written`; `times` has the places from which on
    /// answers are of an entry that came this way.
    pub(crate) fn answer_applied(
        &self,
        answers: Vec<(Token, Answer)>,
        times: &[(usize, EntryTimes)],
        begun: MonoTime,
        written: MonoTime,
    ) {
        let (mut times, mut entry) = (times.iter().peekable(), EntryTimes::default());
        self.answer_each(answers.into_iter().enumerate().map(|(place, (token, answer))| {
            while let Some((_, next)) = times.next_if(|(from, _)| *from <= place) {
                entry = *next;
            }
            (token, answer, Way::Applied { entry, begun, written })
        }));
    }

    /// The same, each with the way that it came.
    pub(crate) fn answer_each(&self, answers: impl IntoIterator<Item = (Token, Answer, Way)>) {
        let mut answers = answers.into_iter().peekable();
        if answers.peek().is_none() {
            return;
        }
        let now = BootClock.now();
        R::together(|| {
            for (token, answer, way) in answers {
                if let Some(scheduled) = self.scheduled.as_ref().filter(|_| scheduler_of(token).is_some()) {
                    scheduled(token, answer);
                    continue;
                }
                match self.remove(token) {
                    Some(waiting) => self.give(waiting, answer, way, now),
                    None => add(&self.stray, 1),
                }
            }
        });
    }

    /// Answers a request that has no token.
    pub(crate) fn give(&self, waiting: Waiting<R>, answer: Answer, way: Way, now: MonoTime) {
        let Waiting { responder, asked, timed } = waiting;
        let Asked { method, bytes, since, .. } = asked;
        if bytes > 0 {
            self.inflight.release(bytes);
        }
        let Some(responder) = responder else { return };
        let took = now.since(since);
        self.counters.rpc[method as usize].observe(took);
        if let Err(error) = &answer {
            add(&self.counters.rpc_errors[method as usize][Code::of(error) as usize], 1);
            if let KvError::ServerIsBusy { reason, .. } = error {
                add(self.counters.busy(*reason), 1);
            }
        }
        if timed || took >= self.stopwatch.slow {
            return self.tell(responder, asked, timed, answer, way);
        }
        responder.respond(&KvResponse::from(answer));
    }

    /// Gives an answer of which is told where its time went.
    #[cold]
    fn tell(&self, responder: R, asked: Asked, timed: bool, answer: Answer, way: Way) {
        // Others of the batch were answered meanwhile.
        let now = BootClock.now();
        if now.since(asked.since) >= self.stopwatch.slow {
            add(&self.counters.slow_requests, 1);
            self.stopwatch.log(asked, &answer, way, now);
        }
        let response = KvResponse::from(answer);
        match timed {
            true => responder.respond_traced(&response, &self.stopwatch.trace(asked, way, now)),
            false => responder.respond(&response),
        }
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
                self.give(waiting, Err(KvError::UndeterminedResult), Way::Unknown, now);
            }
        }
        abandoned
    }
}
