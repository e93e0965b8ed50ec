//! An applier: clients are answered after what they asked for is in the engine, each once, and every worker gets the
//! credit of its tasks back.

use crate::answers::{new_answers, waiting};
use crate::disk::Disk;
use crate::mailbox::{Drained, Mailbox};
use crate::schedules::{caught, hold};
use crate::seat::Seat;
use crate::store_process::answers::{Answers, Respond};
use crate::store_process::apply::Applying;
use crate::store_process::counters::Counters;
use bytes::Bytes;
use engine::{Cf, Engine as _, EngineError, WriteBatch};
use raftstore::{ApplyBatch, ApplyOutcome, ApplyTask, Input};
use shuttle::thread;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use types::RegionId;
use wire::kv::{KvReply, KvResponse};

const WORKERS: usize = 2;
const TASKS: u64 = 2;

/// Looks into the engine when it is answered.
pub(crate) struct Client {
    pub(crate) key: Bytes,
    pub(crate) disk: Disk,
    pub(crate) answers: Arc<AtomicUsize>,
}

impl Respond for Client {
    fn respond(self, response: &KvResponse) {
        thread::yield_now();
        let KvResponse::Ok(KvReply::Written) = response else { return };
        assert!(self.disk.is_written(&self.key), "{:?} was acknowledged before it was written", self.key);
        self.answers.fetch_add(1, Ordering::SeqCst);
    }

    fn together<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
}

/// What the loop runs on.
struct Stage {
    disk: Disk,
    tasks: Mailbox<ApplyTask>,
    answers: Answers<Client>,
    inboxes: Vec<Mailbox<Input>>,
    counters: Counters,
    /// By region.
    tokens: Mutex<Vec<(RegionId, u64)>>,
}

impl Stage {
    /// Makes one batch of tasks that say no more than which region they are of.
    fn work(&self, tasks: Vec<ApplyTask>) -> Result<ApplyBatch, EngineError> {
        let mut out = ApplyBatch::default();
        for task in tasks {
            let ApplyTask::Stop { region_id } = task else { panic!("nobody asks for {task:?}") };
            let mut batch = WriteBatch::new();
            batch.put(Cf::Default, &key(region_id), b"");
            out.batch.append(&batch);
            let mut tokens = self.tokens.lock().unwrap();
            let at = tokens.iter().position(|(of, _)| *of == region_id).expect("each task comes once");
            out.replies.push((tokens.remove(at).1, Ok(KvReply::Written)));
            out.outcomes.push(outcome(region_id));
        }
        Ok(out)
    }
}

pub(crate) fn key(region_id: RegionId) -> Bytes {
    Bytes::from(region_id.to_string())
}

pub(crate) fn outcome(region_id: RegionId) -> ApplyOutcome {
    ApplyOutcome {
        region_id,
        applied: raft::EntryId::default(),
        changes: Vec::new(),
        bytes_written: 0,
        bytes_applied: 1,
        stopped: true,
    }
}

/// One that hands a task over only when it knows what came of the one before.
fn worker(stage: &Stage, index: usize, answers: &Arc<AtomicUsize>) {
    let mut inputs = Vec::new();
    for task in 0..TASKS {
        // The region's number says whose it is.
        let region_id = RegionId(task * WORKERS as u64 + index as u64);
        let client = Client { key: key(region_id), disk: stage.disk.clone(), answers: answers.clone() };
        let token = stage.answers.insert(0, waiting(client));
        stage.tokens.lock().unwrap().push((region_id, token));
        stage.tasks.push(ApplyTask::Stop { region_id });
        assert!(stage.tasks.len() <= WORKERS, "more than one task of each worker is under way");
        assert!(matches!(stage.inboxes[index].drain(&mut inputs, 1, None), Drained::Open { .. }));
        for input in inputs.drain(..) {
            let Input::Applied(outcomes) = input else { panic!("nobody says {input:?}") };
            assert_eq!(outcomes, [outcome(region_id)], "a worker hears of its own tasks, each once");
        }
    }
}

fn the_product(stage: &Stage, tasks_max: usize) {
    let Stage { disk, tasks, answers, inboxes, counters, .. } = stage;
    let tell = |worker: usize, inputs: &mut Vec<Input>| inboxes[worker].push_all(inputs);
    let applying = Applying { tasks, engine: disk, answers, counters, workers: WORKERS, tasks_max };
    Seat::new(()).attend(tasks, |()| applying.round(|tasks| stage.work(tasks), tell));
}

fn tell(stage: &Stage, outcome: ApplyOutcome) {
    let worker = raftstore::worker_of(outcome.region_id, WORKERS);
    stage.inboxes[worker].push(Input::Applied(vec![outcome]));
}

fn answers_first(stage: &Stage, tasks_max: usize) {
    let mut taken = Vec::new();
    while stage.tasks.drain(&mut taken, tasks_max, None) != Drained::Closed {
        let applied = stage.work(std::mem::take(&mut taken)).unwrap();
        stage.answers.answer_all(applied.replies);
        stage.disk.write(&applied.batch).unwrap();
        applied.outcomes.into_iter().for_each(|outcome| tell(stage, outcome));
    }
}

/// Of a batch, the last region's outcome alone finds its way.
fn tells_the_last(stage: &Stage, tasks_max: usize) {
    let mut taken = Vec::new();
    while stage.tasks.drain(&mut taken, tasks_max, None) != Drained::Closed {
        let applied = stage.work(std::mem::take(&mut taken)).unwrap();
        stage.disk.write(&applied.batch).unwrap();
        stage.answers.answer_all(applied.replies);
        applied.outcomes.into_iter().next_back().into_iter().for_each(|outcome| tell(stage, outcome));
    }
}

fn hand_over(applier: fn(&Stage, usize), tasks_max: usize) {
    let stage = Arc::new(Stage {
        disk: Disk::default(),
        tasks: Mailbox::default(),
        answers: new_answers(),
        inboxes: (0..WORKERS).map(|_| Mailbox::default()).collect(),
        counters: Counters::default(),
        tokens: Mutex::default(),
    });
    let answers = Arc::new(AtomicUsize::new(0));
    let own = stage.clone();
    let applying = thread::spawn(move || applier(&own, tasks_max));
    let workers: Vec<_> = (0..WORKERS)
        .map(|index| {
            let (stage, answers) = (stage.clone(), answers.clone());
            thread::spawn(move || worker(&stage, index, &answers))
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    stage.tasks.close();
    applying.join().unwrap();
    let answered = answers.load(Ordering::SeqCst);
    assert_eq!(answered as u64, WORKERS as u64 * TASKS, "each client is answered once");
    assert_eq!((stage.answers.pending(), stage.answers.stray()), (0, 0));
}

#[test]
fn clients_are_answered_once_and_after_the_write() {
    hold(|| hand_over(the_product, 1));
    hold(|| hand_over(the_product, usize::MAX));
}

#[test]
fn answers_before_the_write_are_caught() {
    let said = caught(|| hand_over(answers_first, 1));
    assert!(said.contains("before it was written"), "{said}");
}

#[test]
fn outcomes_that_are_lost_in_a_batch_are_caught() {
    let said = caught(|| hand_over(tells_the_last, usize::MAX));
    assert!(said.contains("deadlock"), "{said}");
}
