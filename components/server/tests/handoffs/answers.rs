//! Answers: each request gets one, its own, whoever gives it and whenever the process ends.

use crate::clock::BootClock;
use crate::mailbox::{Drained, Mailbox};
use crate::schedules::{caught, hold};
use crate::store_process::answers::{Answers, Respond, Waiting};
use crate::store_process::counters::{Counters, Method};
use crate::store_process::stages::{Asked, Stopwatch};
use bytes::Bytes;
use env::Clock as _;
use shuttle::thread;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::Inflight;
use types::{RegionId, StoreId};
use wire::kv::{KvError, KvReply, KvResponse};

const REQUESTS: u64 = 2;

/// Where one request's answer is noted.
#[derive(Clone, Debug)]
pub(crate) struct Slip {
    request: u64,
    answers: Arc<Mutex<Vec<KvResponse>>>,
}

impl Slip {
    pub(crate) fn new(request: u64) -> Self {
        Self { request, answers: Arc::default() }
    }

    /// The answer, if there is one; there is never a second.
    pub(crate) fn answer(&self) -> Option<KvResponse> {
        let answers = self.answers.lock().unwrap();
        assert!(answers.len() <= 1, "request {} was answered twice: {answers:?}", self.request);
        answers.first().cloned()
    }
}

impl Respond for Slip {
    fn respond(self, response: &KvResponse) {
        thread::yield_now();
        if let KvResponse::Ok(KvReply::Value(Some(value))) = response {
            assert_eq!(*value, reply(self.request), "request {} got another's answer", self.request);
        }
        self.answers.lock().unwrap().push(response.clone());
        let _never_twice = self.answer();
    }

    fn together<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
}

fn reply(request: u64) -> Bytes {
    Bytes::copy_from_slice(&request.to_be_bytes())
}

pub(crate) fn new_answers<R: Respond>() -> Answers<R> {
    let stopwatch = Stopwatch::new(StoreId(1), Duration::ZERO);
    Answers::new(8, Inflight::default(), Arc::new(Counters::default()), stopwatch)
}

pub(crate) fn waiting<R>(responder: R) -> Waiting<R> {
    let since = BootClock.now();
    let asked = Asked { region_id: RegionId(2), method: Method::Write, bytes: 0, since };
    Waiting { responder: Some(responder), asked, timed: false }
}

/// Who keeps slips until they are answered.
trait Book: Send + Sync + 'static {
    fn new() -> Self;
    fn insert(&self, slip: Slip) -> u64;
    fn answer(&self, token: u64, request: u64);
    fn abandon(&self);
    fn pending(&self) -> usize;
}

impl Book for Answers<Slip> {
    fn new() -> Self {
        new_answers()
    }

    fn insert(&self, slip: Slip) -> u64 {
        Self::insert(self, 0, waiting(slip))
    }

    fn answer(&self, token: u64, request: u64) {
        self.answer_all([(token, Ok(KvReply::Value(Some(reply(request)))))]);
    }

    fn abandon(&self) {
        Self::abandon(self);
    }

    fn pending(&self) -> usize {
        Self::pending(self)
    }
}

/// Slips in slots, in two ways that are wrong.
struct Slots<const LOOKS_FIRST: bool>(crate::sync::Mutex<Vec<Option<Slip>>>);

impl<const LOOKS_FIRST: bool> Book for Slots<LOOKS_FIRST> {
    fn new() -> Self {
        Self(crate::sync::Mutex::new(Vec::new()))
    }

    /// A token is the slot's number, and a free slot is used again.
    fn insert(&self, slip: Slip) -> u64 {
        let mut slots = self.0.lock().unwrap();
        let free = slots.iter().position(|slot| slot.is_none() && !LOOKS_FIRST);
        let slot = free.unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[slot] = Some(slip);
        slot as u64
    }

    fn answer(&self, token: u64, request: u64) {
        let answer = KvResponse::Ok(KvReply::Value(Some(reply(request))));
        if LOOKS_FIRST {
            let slip = self.0.lock().unwrap()[token as usize].clone();
            if let Some(slip) = slip {
                slip.respond(&answer);
                self.0.lock().unwrap()[token as usize] = None;
            }
        } else {
            let slip = self.0.lock().unwrap()[token as usize].take();
            if let Some(slip) = slip {
                slip.respond(&answer);
            }
        }
    }

    fn abandon(&self) {
        let left: Vec<Slip> = self.0.lock().unwrap().iter_mut().filter_map(Option::take).collect();
        for slip in left {
            slip.respond(&KvResponse::Err(KvError::UndeterminedResult));
        }
    }

    fn pending(&self) -> usize {
        self.0.lock().unwrap().iter().flatten().count()
    }
}

/// Requests that two threads answer, each of them all requests, while the process ends.
fn ask<B: Book>() {
    let book = Arc::new(B::new());
    let mailboxes: Arc<[Mailbox<(u64, u64)>; 2]> = Arc::new([Mailbox::default(), Mailbox::default()]);
    let answerers = [0, 1].map(|index: usize| {
        let (book, mailboxes) = (book.clone(), mailboxes.clone());
        thread::spawn(move || {
            let mut taken = Vec::new();
            while mailboxes[index].drain(&mut taken, 1, None) != Drained::Closed {
                taken.drain(..).for_each(|(token, request)| book.answer(token, request));
            }
        })
    });
    let ending = {
        let book = book.clone();
        thread::spawn(move || book.abandon())
    };
    let slips: Vec<Slip> = (0..REQUESTS).map(Slip::new).collect();
    for (request, slip) in slips.iter().enumerate() {
        let token = book.insert(slip.clone());
        mailboxes.iter().for_each(|mailbox| mailbox.push((token, request as u64)));
    }
    mailboxes.iter().for_each(Mailbox::close);
    for answerer in answerers {
        answerer.join().unwrap();
    }
    ending.join().unwrap();
    for slip in &slips {
        assert!(slip.answer().is_some(), "request {} was never answered", slip.request);
    }
    assert_eq!(book.pending(), 0, "somebody still waits");
}

/// Bytes of answered requests are free again, however they were answered.
fn free_bytes() {
    let inflight = Inflight::default();
    let stopwatch = Stopwatch::new(StoreId(1), Duration::ZERO);
    let answers = Arc::new(Answers::new(8, inflight.clone(), Arc::new(Counters::default()), stopwatch));
    let freed = Arc::new(AtomicUsize::new(0));
    let tokens: Vec<u64> =
        (0..REQUESTS).map(|request| answers.insert(0, waiting(Slip::new(request)))).collect();
    let answerer = {
        let (answers, freed) = (answers.clone(), freed.clone());
        thread::spawn(move || {
            for token in tokens {
                answers.answer_all([(token, Ok(KvReply::Written))]);
                freed.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let abandoned = answers.abandon();
    answerer.join().unwrap();
    let stray = answers.stray() as usize;
    assert_eq!(
        abandoned, stray,
        "an answer that comes after the end is counted as one that nobody waits for"
    );
    assert_eq!((answers.pending(), inflight.bytes()), (0, 0));
}

#[test]
fn each_request_is_answered_once_and_with_its_own_answer() {
    hold(ask::<Answers<Slip>>);
    hold(free_bytes);
}

#[test]
fn a_slip_that_is_looked_at_and_then_taken_is_caught() {
    let said = caught(ask::<Slots<true>>);
    assert!(said.contains("was answered twice"), "{said}");
}

#[test]
fn a_token_that_is_used_again_is_caught() {
    let said = caught(ask::<Slots<false>>);
    assert!(said.contains("got another's answer"), "{said}");
}
