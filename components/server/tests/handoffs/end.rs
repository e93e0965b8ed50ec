//! The end of the threads: what was handed over before the end is still done, then the rest is answered, and nothing
//! is acknowledged afterwards.

use crate::answers::{Slip, new_answers, waiting};
use crate::applied::{key, outcome};
use crate::clock::BootClock;
use crate::disk::Disk;
use crate::mailbox::{Drained, Mailbox};
use crate::schedules::{caught, hold};
use crate::seat::Seat;
use crate::store_process::answers::Answers;
use crate::store_process::apply::Applying;
use crate::store_process::counters::Counters;
use crate::store_process::ending::{Ended, Group, wind_down};
use crate::store_process::log::{Logged, write_log};
use crate::sync::{JoinHandle, spawn};
use bytes::Bytes;
use engine::{Cf, WriteBatch};
use env::Clock as _;
use raftstore::{ApplyBatch, ApplyTask, Input, LogTask};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use types::{MonoTime, RegionId, StoreId};
use wire::kv::{KvReply, KvResponse};

/// Requests of one worker.
const REQUESTS: u64 = 2;

struct Stage {
    disk: Disk,
    inbox: [Mailbox<Input>; 1],
    log: Mailbox<Logged>,
    tasks: Mailbox<ApplyTask>,
    answers: Answers<Slip>,
    counters: Counters,
    tokens: Mutex<Vec<u64>>,
}

fn logged(request: u64) -> Bytes {
    Bytes::from(format!("log {request}"))
}

/// One request a turn, until its inbox ends: it is written to the log and, not waiting for that, applied.
fn work(stage: &Stage) {
    let mut inputs = Vec::new();
    while stage.inbox[0].drain(&mut inputs, 1, None) != Drained::Closed {
        for input in inputs.drain(..) {
            let Input::Unreachable(StoreId(request)) = input else { continue };
            let mut batch = WriteBatch::new();
            batch.put(Cf::Default, &logged(request), b"");
            let task = LogTask { batch, must_sync: true, ..LogTask::default() };
            stage.log.push(Logged { worker: 0, task, since: BootClock.now() });
            stage.tasks.push(ApplyTask::Stop { region_id: RegionId(request) });
        }
    }
}

fn apply_all(stage: &Stage) {
    let make = |tasks: Vec<ApplyTask>| {
        let mut out = ApplyBatch::default();
        for task in tasks {
            let ApplyTask::Stop { region_id } = task else { panic!("nobody asks for {task:?}") };
            out.batch.put(Cf::Default, &key(region_id), b"");
            let token = stage.tokens.lock().unwrap()[region_id.get() as usize];
            out.replies.push((token, Ok(KvReply::Written)));
            out.outcomes.push(outcome(region_id));
        }
        Ok(out)
    };
    let Stage { disk, tasks, answers, inbox, counters, .. } = stage;
    let tell = |_, inputs: &mut Vec<Input>| inbox[0].push_all(inputs);
    let applying = Applying { tasks, engine: disk, answers, counters, workers: 1, tasks_max: 1 };
    Seat::new(()).attend(tasks, |()| applying.round(make, tell));
}

/// How a process ends; the handles are those of the worker, and of the others.
type End = fn(&Stage, &[JoinHandle<()>], &[JoinHandle<()>], MonoTime) -> Ended;

fn close_aside(stage: &Stage) {
    stage.log.close();
    stage.tasks.close();
}

fn the_product(
    stage: &Stage,
    worker: &[JoinHandle<()>],
    aside: &[JoinHandle<()>],
    deadline: MonoTime,
) -> Ended {
    let groups = [
        Group { handles: worker, tell: &|| stage.inbox[0].close() },
        Group { handles: aside, tell: &|| close_aside(stage) },
    ];
    wind_down(&groups, &stage.answers, deadline)
}

fn tells_all_at_once(
    stage: &Stage,
    worker: &[JoinHandle<()>],
    aside: &[JoinHandle<()>],
    deadline: MonoTime,
) -> Ended {
    let tell = || {
        stage.inbox[0].close();
        close_aside(stage);
    };
    let groups = [Group { handles: worker, tell: &tell }, Group { handles: aside, tell: &|| {} }];
    wind_down(&groups, &stage.answers, deadline)
}

fn ends_backwards(
    stage: &Stage,
    worker: &[JoinHandle<()>],
    aside: &[JoinHandle<()>],
    deadline: MonoTime,
) -> Ended {
    let groups = [
        Group { handles: aside, tell: &|| close_aside(stage) },
        Group { handles: worker, tell: &|| stage.inbox[0].close() },
    ];
    wind_down(&groups, &stage.answers, deadline)
}

fn answers_too_early(
    stage: &Stage,
    worker: &[JoinHandle<()>],
    aside: &[JoinHandle<()>],
    deadline: MonoTime,
) -> Ended {
    let unanswered = stage.answers.abandon();
    let ended = the_product(stage, worker, aside, deadline);
    Ended { unanswered: unanswered + ended.unanswered, ..ended }
}

/// A process ends while a client asks. With `time`, the end waits so long and no longer.
fn end(how: End, time: Duration) {
    let stage = Arc::new(Stage {
        disk: Disk::default(),
        inbox: [Mailbox::default()],
        log: Mailbox::default(),
        tasks: Mailbox::default(),
        answers: new_answers(),
        counters: Counters::default(),
        tokens: Mutex::default(),
    });
    let begin = |body: fn(&Stage)| {
        let stage = stage.clone();
        spawn(move || body(&stage))
    };
    let worker = [begin(work)];
    let aside = [
        begin(|stage| {
            let tell = |_, inputs: &mut Vec<Input>| stage.inbox[0].push_all(inputs);
            write_log(&stage.log, &stage.disk, 1, &stage.counters, 1, |_| {}, tell);
        }),
        begin(apply_all),
    ];
    let slips: Vec<Slip> = (0..REQUESTS).map(Slip::new).collect();
    // The client's connection has ended before the threads are told: no request comes later.
    for (request, slip) in slips.iter().enumerate() {
        let token = stage.answers.insert(0, waiting(slip.clone()));
        stage.tokens.lock().unwrap().push(token);
        stage.inbox[0].push(Input::Unreachable(StoreId(request as u64)));
    }
    let ended = how(&stage, &worker, &aside, BootClock.now() + time);
    let answers: Vec<Option<KvResponse>> = slips.iter().map(Slip::answer).collect();
    if ended.all {
        assert_eq!(ended.unanswered, 0, "what was handed on was not done");
        for (request, answer) in answers.iter().enumerate() {
            assert_eq!(
                *answer,
                Some(KvResponse::Ok(KvReply::Written)),
                "every request is answered by the end"
            );
            let is_durable = stage.disk.is_durable(&logged(request as u64));
            assert!(is_durable, "what was handed to the log is not written");
        }
    }
    // Whoever was left behind goes on. It may finish an answer that it had begun, and changes no other.
    worker.into_iter().chain(aside).for_each(|thread| thread.join().unwrap());
    for (slip, answer) in slips.iter().zip(answers) {
        let later = slip.answer();
        assert!(later.is_some(), "a request was forgotten");
        assert!(answer.is_none() || later == answer, "an answer came after the end");
    }
    assert_eq!(stage.answers.pending(), 0);
}

/// Nobody waits so long.
const LONG: Duration = Duration::from_secs(1_000_000);

#[test]
fn what_was_handed_over_before_the_end_is_done() {
    hold(|| end(the_product, LONG));
}

#[test]
fn who_is_left_behind_at_the_deadline_acknowledges_nothing_more() {
    hold(|| end(the_product, Duration::from_millis(5)));
}

#[test]
fn an_end_that_tells_all_threads_at_once_is_caught() {
    let said = caught(|| end(tells_all_at_once, LONG));
    assert!(said.contains("what was handed"), "{said}");
}

#[test]
fn an_end_in_the_wrong_order_is_caught() {
    let said = caught(|| end(ends_backwards, LONG));
    assert!(said.contains("what was handed"), "{said}");
}

#[test]
fn requests_that_are_given_up_before_the_threads_have_ended_are_caught() {
    let said = caught(|| end(answers_too_early, LONG));
    assert!(said.contains("what was handed"), "{said}");
}
