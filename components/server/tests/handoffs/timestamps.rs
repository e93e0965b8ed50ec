//! Timestamps: all that are asked for in one turn are answered by it, each is larger than whatever was answered before
//! it was asked for, nobody gets the same twice, and a restart after a loss of power begins above all of them.

use crate::clock::{BootClock, pass};
use crate::disk::Disk;
use crate::mailbox::{Drained, Mailbox};
use crate::pd_process::turns::{Asked, Respond, Watch, run};
use crate::schedules::{caught, hold};
use engine::{Engine, MemEngine};
use env::Clock as _;
use pd::{Config, Member, Pd, PdInput};
use shuttle::thread;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use types::{ClusterId, KeyRange, MonoTime, Peer, PeerId, Region, RegionId, StoreId};
use wire::pd::{PdError, PdReply, PdRequest, PdResponse, StoreInfo};

const CLIENTS: usize = 2;
const ASKS: usize = 2;
/// As many as one answer may hold, so that two answers use up a millisecond.
const COUNT: u32 = 1 << 17;

/// What was answered to all clients: the first and the last timestamp of each answer.
#[derive(Default)]
struct Ledger {
    given: Mutex<Vec<(u64, u64)>>,
}

impl Ledger {
    fn largest(&self) -> u64 {
        self.given.lock().unwrap().iter().map(|(_, last)| *last).max().unwrap_or(0)
    }

    fn note(&self, last: u64, above: u64) {
        let first = last + 1 - u64::from(COUNT);
        assert!(first > above, "timestamp {first} was given after {above}");
        let mut given = self.given.lock().unwrap();
        let again = given.iter().find(|(low, high)| first <= *high && *low <= last);
        assert!(again.is_none(), "timestamps {first} to {last} were given before: {again:?}");
        given.push((first, last));
    }
}

/// Passes its answer on to whoever waits.
struct Caller(Arc<Mailbox<PdResponse>>);

impl Respond for Caller {
    fn respond(self, response: &PdResponse) {
        self.0.push(response.clone());
    }

    fn together<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
}

/// Nobody looks on.
struct Nobody;

impl<E: Engine> Watch<E> for Nobody {
    type Kind = ();

    fn kind(&self, _: &PdRequest) {}
    fn answered(&self, (): (), _: MonoTime, _: MonoTime, _: &PdResponse) {}
    fn synced(&self, _: MonoTime, _: MonoTime) {}
    fn turned(&mut self, _: MonoTime, _: &Pd<E>, _: usize) {}
}

/// When the wall clock began, and what it shows again after the loss of power.
const WALL_MS: u64 = 1_700_000_000_000;

fn wall_ms() -> u64 {
    WALL_MS + BootClock.now().0 / 1_000_000
}

fn open<E: Engine>(engine: E, seed: u64) -> Pd<E> {
    // The bound is extended as often as can be.
    let tso_window = Duration::from_millis(100);
    let config = Config { tso_count_max: COUNT, tso_window, ..Config::default() };
    let members = [Member { id: PeerId(1), address: "pd".to_owned() }];
    Pd::open(config, engine, &members, PeerId(1), seed).unwrap()
}

/// Asks in the order of turns, alone, until there is an answer that is none of "not yet".
fn ask<E: Engine>(pd: &mut Pd<E>, engine: &E, request: &PdRequest) -> PdReply {
    ask_at(pd, engine, request, wall_ms)
}

fn ask_at<E: Engine>(pd: &mut Pd<E>, engine: &E, request: &PdRequest, wall_ms: fn() -> u64) -> PdReply {
    let mut inputs = vec![PdInput::Request { token: 0, request: request.clone() }];
    loop {
        let effects = pd.step(BootClock.now(), wall_ms(), &mut inputs).unwrap();
        if let Some(append) = effects.append {
            engine.write(&append.batch).unwrap();
            engine.sync().unwrap();
            inputs.push(PdInput::Persisted(append.token));
        }
        match effects.replies.into_iter().next() {
            Some((_, PdResponse::Ok(reply))) => return reply,
            Some((_, PdResponse::Err(PdError::NotLeader { .. }))) => {
                inputs.push(PdInput::Request { token: 0, request: request.clone() });
            }
            Some((_, refused)) => panic!("{request:?}: {refused:?}"),
            None => {}
        }
        if inputs.iter().all(|input| matches!(input, PdInput::Request { .. })) {
            pass(pd.next_deadline().since(BootClock.now()));
        }
    }
}

/// A placement driver that serves, of a cluster with one store.
fn serving(engine: &MemEngine) -> Pd<MemEngine> {
    let mut pd = open(engine.clone(), 1);
    ask(&mut pd, engine, &PdRequest::AllocateIds { count: 3 });
    let peer = Peer { id: PeerId(3), store_id: StoreId(1), ..Peer::default() };
    let epoch = types::Epoch { conf_ver: 1, version: 1 };
    let region = Region { id: RegionId(2), range: KeyRange::new("", ""), epoch, peers: vec![peer] };
    let store = StoreInfo { id: StoreId(1), address: "store".to_owned(), ..StoreInfo::default() };
    ask(&mut pd, engine, &PdRequest::Bootstrap { store, region });
    let PdReply::Cluster { cluster_id, .. } = ask(&mut pd, engine, &PdRequest::GetCluster) else { panic!() };
    assert_ne!(cluster_id, ClusterId::ZERO);
    pd
}

type Inbox = Mailbox<Asked<Caller>>;

fn the_product(inbox: &Inbox, disk: &Disk, pd: Pd<Disk>) {
    run(inbox, disk, pd, 1, wall_ms, &mut Nobody);
}

/// The bound of timestamps counts as written before it is durable.
fn does_not_sync(inbox: &Inbox, disk: &Disk, mut pd: Pd<Disk>) {
    let mut asked = Vec::new();
    let mut inputs = Vec::new();
    let mut waiting = Vec::new();
    while inbox.drain(&mut asked, 1, Some(pd.next_deadline().since(BootClock.now()))) != Drained::Closed {
        for Asked { request, responder, .. } in asked.drain(..) {
            inputs.push(PdInput::Request { token: waiting.len() as u64, request });
            waiting.push(Some(responder));
        }
        loop {
            let effects = pd.step(BootClock.now(), wall_ms(), &mut inputs).unwrap();
            for (token, response) in effects.replies {
                waiting[token as usize].take().expect("one answer each").respond(&response);
            }
            let Some(append) = effects.append else { break };
            disk.write(&append.batch).unwrap();
            inputs.push(PdInput::Persisted(append.token));
        }
    }
}

/// Two threads, each with timestamps that it fetched before anybody asked.
fn fetches_ahead(inbox: &Inbox, disk: &Disk, mut pd: Pd<Disk>) {
    let mut fetch = || match ask(&mut pd, disk, &PdRequest::GetTimestamps { count: COUNT }) {
        PdReply::Timestamp(timestamp) => timestamp,
        other => panic!("{other:?}"),
    };
    let stocks = [(); 2].map(|()| (0..CLIENTS * ASKS).map(|_| fetch()).collect::<Vec<_>>());
    let mut asked = Vec::new();
    let mut turn = 0;
    while inbox.drain(&mut asked, 1, None) != Drained::Closed {
        for Asked { responder, .. } in asked.drain(..) {
            // Which thread takes it is as good as random; here the second begins.
            let timestamp = stocks[(turn + 1) % 2][turn / 2];
            turn += 1;
            responder.respond(&PdResponse::Ok(PdReply::Timestamp(timestamp)));
        }
    }
}

/// Does not notice that the request was answered already.
fn answers_again(inbox: &Inbox, disk: &Disk, mut pd: Pd<Disk>) {
    let mut asked = Vec::new();
    let mut last = None;
    while inbox.drain(&mut asked, 1, None) != Drained::Closed {
        for Asked { request, responder, .. } in asked.drain(..) {
            // One that waits behind another is given the same answer: they were asked for in one turn.
            let answer = match last.take() {
                Some(answer) if inbox.is_empty() => answer,
                _ => PdResponse::Ok(ask(&mut pd, disk, &request)),
            };
            last = Some(answer.clone());
            responder.respond(&answer);
        }
    }
}

/// Clients ask, the process ends while they do, the power is lost, and a new process serves.
fn serve(how: fn(&Inbox, &Disk, Pd<Disk>)) {
    let engine = MemEngine::new();
    drop(serving(&engine));
    let disk = Disk::over(engine);
    let mut pd = open(disk.clone(), 2);
    let ledger = Arc::new(Ledger::default());
    let PdReply::Timestamp(first) = ask(&mut pd, &disk, &PdRequest::GetTimestamps { count: COUNT }) else {
        panic!("timestamps are answered by timestamps")
    };
    ledger.note(first.0, 0);
    let inbox = Arc::new(Inbox::default());
    let thread = {
        let (inbox, disk) = (inbox.clone(), disk.clone());
        thread::spawn(move || how(&inbox, &disk, pd))
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (inbox, ledger) = (inbox.clone(), ledger.clone());
            thread::spawn(move || {
                let answers = Arc::new(Mailbox::default());
                for _ in 0..ASKS {
                    let above = ledger.largest();
                    let request = PdRequest::GetTimestamps { count: COUNT };
                    inbox.push(Asked { request, responder: Caller(answers.clone()), since: BootClock.now() });
                    let mut taken = Vec::new();
                    assert!(matches!(answers.drain(&mut taken, usize::MAX, None), Drained::Open { .. }));
                    assert_eq!(taken.len(), 1, "one answer each");
                    match taken.pop() {
                        Some(PdResponse::Ok(PdReply::Timestamp(last))) => ledger.note(last.0, above),
                        other => panic!("timestamps are answered by {other:?}"),
                    }
                }
                assert_eq!(answers.len(), 0, "an answer to nothing");
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    // A last one, whose client does not wait for the answer.
    let answers = Arc::new(Mailbox::default());
    let above = ledger.largest();
    let request = PdRequest::GetTimestamps { count: COUNT };
    inbox.push(Asked { request, responder: Caller(answers.clone()), since: BootClock.now() });
    inbox.close();
    thread.join().unwrap();
    let mut late = Vec::new();
    answers.drain(&mut late, usize::MAX, Some(Duration::ZERO));
    assert_eq!(late.len(), 1, "whoever asked before the end is answered once");
    if let Some(PdResponse::Ok(PdReply::Timestamp(last))) = late.pop() {
        ledger.note(last.0, above);
    }
    let request = PdRequest::GetTimestamps { count: COUNT };
    inbox.push(Asked { request, responder: Caller(answers.clone()), since: BootClock.now() });
    assert_eq!((inbox.len(), answers.len()), (0, 0), "a request that comes after the end is not taken");

    let engine = disk.lose_power();
    let mut pd = open(engine.clone(), 3);
    let above = ledger.largest();
    match ask_at(&mut pd, &engine, &PdRequest::GetTimestamps { count: COUNT }, || WALL_MS) {
        PdReply::Timestamp(last) => ledger.note(last.0, above),
        other => panic!("timestamps are answered by {other:?}"),
    }
}

#[test]
fn timestamps_grow_over_threads_ends_and_losses_of_power() {
    hold(|| serve(the_product));
}

#[test]
fn a_bound_that_is_not_durable_is_caught() {
    let said = caught(|| serve(does_not_sync));
    assert!(said.contains("timestamp"), "{said}");
}

#[test]
fn timestamps_that_were_fetched_before_they_were_asked_for_are_caught() {
    let said = caught(|| serve(fetches_ahead));
    assert!(said.contains("was given after"), "{said}");
}

#[test]
fn one_answer_for_two_requests_is_caught() {
    let said = caught(|| serve(answers_again));
    assert!(said.contains("timestamp"), "{said}");
}
