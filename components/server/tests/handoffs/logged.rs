//! The log writer: what is released, a message or a word to a worker, comes after the sync that it waited for; a worker
//! that has credit for one task never has two under way; and all that was handed over is written.

use crate::clock::BootClock;
use crate::disk::Disk;
use crate::mailbox::{Drained, Mailbox};
use crate::schedules::{caught, hold};
use crate::store_process::counters::Counters;
use crate::store_process::log::{Logged, write_log};
use bytes::Bytes;
use engine::{Cf, Engine as _, WriteBatch};
use env::Clock as _;
use raftstore::{Input, LogTask, Persisted};
use shuttle::thread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use types::{Peer, RegionId, StoreId};
use wire::store::StoreMessage;

const WORKERS: usize = 2;
const TURNS: u64 = 2;

/// What the loop runs on.
struct Stage {
    disk: Disk,
    log: Mailbox<Logged>,
    inboxes: Vec<Mailbox<Input>>,
    counters: Counters,
    /// Worker and turn of the messages that were sent.
    sent: Mutex<Vec<(u64, u64)>>,
    is_over: AtomicBool,
}

fn name(worker: u64, turn: u64) -> Bytes {
    Bytes::from(format!("{worker}-{turn}"))
}

impl Stage {
    fn send(&self, messages: Vec<(StoreId, StoreMessage)>) {
        for (to, message) in messages {
            let StoreMessage::Wake { region_id, .. } = message else { panic!("nobody says {message:?}") };
            let (worker, turn) = (to.get(), region_id.get());
            assert!(self.disk.is_durable(&name(worker, turn)), "a message left before its sync");
            self.sent.lock().unwrap().push((worker, turn));
        }
    }
}

/// One that hands a task over only when it knows that the one before is durable.
fn worker(stage: &Stage, index: usize) {
    let number = index as u64;
    let mut inputs = Vec::new();
    for turn in 1..=TURNS {
        let mut batch = WriteBatch::new();
        batch.put(Cf::Default, &name(number, turn), b"");
        let message = StoreMessage::Wake { region_id: RegionId(turn), to: Peer::default() };
        let task = LogTask {
            batch,
            must_sync: true,
            persisted: Persisted { turn, ..Persisted::default() },
            messages_after: vec![(StoreId(number), message)],
        };
        stage.log.push(Logged { worker: index, task, since: BootClock.now() });
        assert!(stage.log.len() <= WORKERS, "more than one task of each worker is under way");
        assert!(matches!(stage.inboxes[index].drain(&mut inputs, 1, None), Drained::Open { .. }));
        for input in inputs.drain(..) {
            let Input::Persisted(persisted) = input else { panic!("nobody says {input:?}") };
            assert_eq!(persisted.turn, turn, "turns become durable in order, each once");
            assert!(stage.disk.is_durable(&name(number, turn)), "a worker was told before the sync");
        }
    }
    // The last one: nobody waits for it, but it must be written.
    let mut batch = WriteBatch::new();
    batch.put(Cf::Default, &name(number, 99), b"");
    let task = LogTask { batch, must_sync: true, ..LogTask::default() };
    stage.log.push(Logged { worker: index, task, since: BootClock.now() });
}

type Writer = fn(&Stage, usize);

fn the_product(stage: &Stage, tasks_max: usize) {
    let send = |messages| stage.send(messages);
    let tell = |worker: usize, inputs: &mut Vec<Input>| stage.inboxes[worker].push_all(inputs);
    write_log(&stage.log, &stage.disk, WORKERS, &stage.counters, tasks_max, send, tell);
}

/// What the wrong writers have in common: one task after another.
fn one_by_one(stage: &Stage, each: impl Fn(LogTask, usize)) {
    let mut tasks = Vec::new();
    while stage.log.drain(&mut tasks, 1, None) != Drained::Closed {
        for Logged { worker, task, .. } in tasks.drain(..) {
            each(task, worker);
        }
    }
}

fn tell(stage: &Stage, worker: usize, persisted: Persisted) {
    if persisted != Persisted::default() {
        stage.inboxes[worker].push(Input::Persisted(persisted));
    }
}

fn sends_first(stage: &Stage, _: usize) {
    one_by_one(stage, |task, worker| {
        stage.disk.write(&task.batch).unwrap();
        stage.send(task.messages_after);
        stage.disk.sync().unwrap();
        tell(stage, worker, task.persisted);
    });
}

fn tells_first(stage: &Stage, _: usize) {
    one_by_one(stage, |task, worker| {
        stage.disk.write(&task.batch).unwrap();
        tell(stage, worker, task.persisted);
        stage.disk.sync().unwrap();
        stage.send(task.messages_after);
    });
}

/// Another thread's sync is under way: that it ends says nothing of what was written after it began.
fn relies_on_a_sync_that_had_begun(stage: &Stage, _: usize) {
    let last = Arc::new(Mutex::new(Option::<thread::JoinHandle<()>>::None));
    one_by_one(stage, |task, worker| {
        let before = last.lock().unwrap().take();
        let syncing = before.unwrap_or_else(|| {
            let disk = stage.disk.clone();
            thread::spawn(move || disk.sync().unwrap())
        });
        stage.disk.write(&task.batch).unwrap();
        syncing.join().unwrap();
        tell(stage, worker, task.persisted);
        stage.send(task.messages_after);
    });
}

/// Looks at a flag instead of asking the mailbox whether anything is left.
fn ends_at_once(stage: &Stage, _: usize) {
    one_by_one(stage, |task, worker| {
        if stage.is_over.load(Ordering::SeqCst) {
            return;
        }
        stage.disk.write(&task.batch).unwrap();
        stage.disk.sync().unwrap();
        tell(stage, worker, task.persisted);
        stage.send(task.messages_after);
    });
}

fn hand_over(writer: Writer, tasks_max: usize) {
    let stage = Arc::new(Stage {
        disk: Disk::default(),
        log: Mailbox::default(),
        inboxes: (0..WORKERS).map(|_| Mailbox::default()).collect(),
        counters: Counters::default(),
        sent: Mutex::default(),
        is_over: AtomicBool::new(false),
    });
    let own = stage.clone();
    let log = thread::spawn(move || writer(&own, tasks_max));
    let workers: Vec<_> = (0..WORKERS)
        .map(|index| {
            let stage = stage.clone();
            thread::spawn(move || worker(&stage, index))
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    stage.is_over.store(true, Ordering::SeqCst);
    stage.log.close();
    log.join().unwrap();
    for worker in 0..WORKERS as u64 {
        assert!(
            stage.disk.is_durable(&name(worker, 99)),
            "what was handed over before the end is not written"
        );
    }
    let mut sent = stage.sent.lock().unwrap().clone();
    sent.sort_unstable();
    let all: Vec<_> =
        (0..WORKERS as u64).flat_map(|worker| (1..=TURNS).map(move |turn| (worker, turn))).collect();
    assert_eq!(sent, all, "each message leaves once");
}

#[test]
fn what_waits_for_a_sync_is_released_after_it() {
    hold(|| hand_over(the_product, 1));
    hold(|| hand_over(the_product, usize::MAX));
}

#[test]
fn messages_that_leave_before_the_sync_are_caught() {
    let said = caught(|| hand_over(sends_first, 1));
    assert!(said.contains("a message left before its sync"), "{said}");
}

#[test]
fn workers_that_are_told_before_the_sync_are_caught() {
    let said = caught(|| hand_over(tells_first, 1));
    assert!(said.contains("told before the sync"), "{said}");
}

#[test]
fn a_sync_that_began_before_the_write_is_caught() {
    let said = caught(|| hand_over(relies_on_a_sync_that_had_begun, 1));
    assert!(said.contains("before"), "{said}");
}

#[test]
fn a_task_that_is_dropped_at_the_end_is_caught() {
    let said = caught(|| hand_over(ends_at_once, 1));
    assert!(said.contains("is not written"), "{said}");
}
