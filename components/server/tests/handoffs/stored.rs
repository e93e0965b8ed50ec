//! The stages of a store together, a worker, the log writer and an applier, with credit for one task each: every write
//! is answered once, what was acknowledged survives a loss of power, and the end leaves nobody waiting.

use crate::answers::{new_answers, waiting};
use crate::clock::{BootClock, pass};
use crate::disk::Disk;
use crate::mailbox::{Drained, Mailbox};
use crate::schedules::{caught, hold};
use crate::seat::{Next, Seat};
use crate::store_process::answers::{Answers, Respond};
use crate::store_process::apply::Applying;
use crate::store_process::counters::Counters;
use crate::store_process::ending::{Group, wind_down};
use crate::store_process::log::{Logged, write_log};
use crate::store_process::turns::Desk;
use crate::sync::spawn;
use bytes::Bytes;
use engine::{Engine as _, MemEngine};
use env::Clock as _;
use raftstore::{
    Applier, ApplyTask, HeldLocks, Input, StoreMeta, TurnEffects, Worker, WorkerShare, WriteItem, recover,
};
use shuttle::thread;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Actor, Config, Effect, Event, Join, JoinStep, LogWriter, Store, StoreIdent};
use types::{ClusterId, Key, MonoTime, Region};
use wire::kv::{KvCommand, KvError, KvReply, KvRequest, KvResponse, WriteOp};
use wire::pd::{PdReply, PdRequest, StoreInfo};

const CLIENTS: u64 = 2;
const WRITES: u64 = 2;

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    // Credit for one task at a time.
    config.raftstore.unpersisted_bytes_max = 1;
    config.raftstore.unapplied_bytes_max = 1;
    config
}

/// A disk with a store's first region.
pub(crate) fn joined() -> (MemEngine, StoreIdent) {
    let engine = MemEngine::new();
    let (mut join, mut step) = Join::new(engine.clone(), StoreInfo::default()).unwrap();
    let mut next_id = 1;
    loop {
        let answer = match step {
            JoinStep::Joined(ident) => return (engine, ident),
            JoinStep::Refused(why) => panic!("{why}"),
            JoinStep::Ask(PdRequest::GetCluster) => {
                PdReply::Cluster { cluster_id: ClusterId(9), bootstrapped: false }
            }
            JoinStep::Ask(PdRequest::AllocateIds { count }) => {
                let first = next_id;
                next_id += u64::from(count);
                PdReply::Ids { first }
            }
            JoinStep::Ask(_) => PdReply::Done,
        };
        step = join.on_answer(Ok(answer)).unwrap();
    }
}

/// Passes its answer on to whoever waits.
pub(crate) struct Caller(pub(crate) Arc<Mailbox<KvResponse>>);

impl Respond for Caller {
    fn respond(self, response: &KvResponse) {
        self.0.push(response.clone());
    }

    fn together<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
}

struct Stage {
    disk: Disk,
    inbox: [Mailbox<Input>; 1],
    log: Mailbox<Logged>,
    tasks: Mailbox<ApplyTask>,
    desk: Seat<Desk<Disk>>,
    applier: Seat<Applier<Disk>>,
    answers: Answers<Caller>,
    counters: Counters,
}

impl Stage {
    fn route(&self, effects: TurnEffects<Disk>) {
        let TurnEffects { log, apply, replies, .. } = effects;
        if !log.is_empty() {
            self.log.push(Logged { worker: 0, task: log, since: BootClock.now() });
            assert!(
                self.log.len() <= 1,
                "two tasks are on their way to the log where there is credit for one"
            );
        }
        if !apply.is_empty() {
            assert!(self.tasks.is_empty(), "two tasks wait to be applied where there is credit for one");
            // The worker looks into its inbox when its turn is over.
            let tell = |_, inputs: &mut Vec<Input>| self.inbox[0].put_all(inputs);
            self.tasks.put_all(&mut { apply });
            self.applier.help(&self.tasks, |applier| self.apply_one(applier, tell));
        }
        self.answers.answer_all(replies);
    }

    fn turn(&self, desk: &mut Desk<Disk>) -> Next {
        desk.turn(&self.inbox[0], &self.counters, 1, |effects| self.route(effects), |_, _| {})
    }

    fn bring(&self, inputs: &mut Vec<Input>) {
        self.inbox[0].put_all(inputs);
        self.desk.help(&self.inbox[0], |desk| self.turn(desk));
    }

    fn apply_one(&self, applier: &mut Applier<Disk>, tell: impl Fn(usize, &mut Vec<Input>)) -> Next {
        let Self { disk, tasks, answers, counters, .. } = self;
        let applying = Applying { tasks, engine: disk, answers, counters, workers: 1, tasks_max: 1 };
        applying.round(|tasks| applier.apply(tasks), tell)
    }
}

/// The worker and the applier of a store that leads its region.
pub(crate) fn leading(
    disk: &Disk,
    ident: &StoreIdent,
    held: Arc<HeldLocks>,
) -> (Worker<Disk>, Applier<Disk>, Arc<StoreMeta>, Region) {
    let config = config();
    let meta = Arc::new(StoreMeta::new());
    let share = WorkerShare { index: 0, count: 1 };
    let (engine, store_id) = (disk.clone(), ident.store_id);
    let mut worker = Worker::new(config.raftstore, store_id, share, engine, meta.clone(), held, 1);
    let mut applier = Applier::new(disk.clone(), meta.clone());
    let mut inputs = Vec::new();
    let mut effects = worker.resume(BootClock.now(), &recover(disk).unwrap()).unwrap();
    loop {
        let mut writer = LogWriter::new(0);
        writer.push(0, effects.log);
        let merged = writer.take();
        disk.write(&merged.batch).unwrap();
        disk.sync().unwrap();
        inputs.extend(merged.persisted.into_iter().map(|(_, persisted)| Input::Persisted(persisted)));
        let applied = applier.apply(effects.apply).unwrap();
        disk.write(&applied.batch).unwrap();
        inputs.push(Input::Applied(applied.outcomes));
        let region = meta.regions().remove(0);
        if meta.delegate(region.id).is_some() {
            // What became durable in the last of these turns is told in the first of the others.
            let effects = worker.turn(BootClock.now(), &mut inputs);
            assert!(effects.log.is_empty() && effects.apply.is_empty(), "a leader with nothing to do");
            return (worker, applier, meta, region);
        }
        pass(worker.next_deadline().since(BootClock.now()));
        effects = worker.turn(BootClock.now(), &mut inputs);
    }
}

type Writer = fn(&Stage);

fn the_product(stage: &Stage) {
    write_log(&stage.log, &stage.disk, 1, &stage.counters, 1, |_| {}, |_, inputs| stage.bring(inputs));
}

fn tells_before_it_syncs(stage: &Stage) {
    let mut tasks = Vec::new();
    while stage.log.drain(&mut tasks, 1, None) != Drained::Closed {
        for Logged { task, .. } in tasks.drain(..) {
            stage.disk.write(&task.batch).unwrap();
            stage.inbox[0].push(Input::Persisted(task.persisted));
        }
        // Sooner or later.
        if stage.log.len() > 1 {
            stage.disk.sync().unwrap();
        }
    }
}

/// Credit for the log is not given back when a task is durable.
fn forgets_to_tell(stage: &Stage) {
    let mut tasks = Vec::new();
    let mut told = false;
    while stage.log.drain(&mut tasks, 1, None) != Drained::Closed {
        for Logged { task, .. } in tasks.drain(..) {
            stage.disk.write(&task.batch).unwrap();
            stage.disk.sync().unwrap();
            if !told || !stage.log.is_empty() {
                stage.inbox[0].push(Input::Persisted(task.persisted));
            }
            told = true;
        }
    }
}

fn key(client: u64, write: u64) -> Key {
    Key::from(format!("key {client}-{write}"))
}

fn put(client: u64, write: u64) -> WriteItem {
    WriteItem::Ops(vec![WriteOp::Put { key: key(client, write), value: Bytes::from_static(b"v") }])
}

/// Clients write, the process ends, the power is lost.
fn run(writer: Writer) {
    let (engine, ident) = joined();
    let disk = Disk::over(engine);
    let (worker, applier, _, region) = leading(&disk, &ident, Arc::default());
    let stage = Arc::new(Stage {
        disk: disk.clone(),
        inbox: [Mailbox::default()],
        log: Mailbox::default(),
        tasks: Mailbox::default(),
        desk: Seat::new(Desk::new(worker)),
        applier: Seat::new(applier),
        answers: new_answers(),
        counters: Counters::default(),
    });
    let own = stage.clone();
    let working = spawn(move || own.desk.attend(&own.inbox[0], |desk| own.turn(desk)));
    let own = stage.clone();
    let logging = spawn(move || writer(&own));
    let own = stage.clone();
    let applying = spawn(move || {
        let tell = |_, inputs: &mut Vec<Input>| own.bring(inputs);
        own.applier.attend(&own.tasks, |applier| own.apply_one(applier, tell));
    });
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let write = |stage: &Stage, region: &Region, client: u64, write: u64| {
        let answer = Arc::new(Mailbox::default());
        let token = stage.answers.insert(0, waiting(Caller(answer.clone())));
        let (region_id, epoch, deadline) = (region.id, region.epoch, MonoTime::MAX);
        stage.bring(&mut vec![Input::Write {
            token,
            region_id,
            epoch,
            item: put(client, write),
            deadline,
            decided_in: None,
            tells_proposed: false,
        }]);
        answer
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (stage, region, acknowledged) = (stage.clone(), region.clone(), acknowledged.clone());
            thread::spawn(move || {
                for number in 0..WRITES {
                    let answer = write(&stage, &region, client, number);
                    let mut taken = Vec::new();
                    answer.drain(&mut taken, usize::MAX, None);
                    assert_eq!(
                        taken,
                        [KvResponse::Ok(KvReply::Written)],
                        "each write is done, and answered once"
                    );
                    assert!(stage.disk.is_written(&key(client, number)), "acknowledged and not there");
                    acknowledged.lock().unwrap().push((client, number));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    // The last one meets the end.
    let last = write(&stage, &region, CLIENTS, 0);
    let groups = [
        Group { handles: &[working], tell: &|| stage.inbox[0].close() },
        Group {
            handles: &[logging, applying],
            tell: &|| {
                stage.log.close();
                stage.tasks.close();
            },
        },
    ];
    let ended = wind_down(&groups, &stage.answers, BootClock.now() + Duration::from_secs(1_000_000));
    assert!(ended.all && ended.unanswered <= 1, "{ended:?}");
    let mut taken = Vec::new();
    last.drain(&mut taken, usize::MAX, Some(Duration::ZERO));
    match taken.as_slice() {
        [KvResponse::Ok(KvReply::Written)] => acknowledged.lock().unwrap().push((CLIENTS, 0)),
        [KvResponse::Err(KvError::UndeterminedResult)] => assert_eq!(ended.unanswered, 1),
        other => panic!("the last write was answered by {other:?}"),
    }
    assert_eq!((stage.answers.pending(), stage.answers.stray()), (0, 0));
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() as u64 >= CLIENTS * WRITES);
    let lost = first_lost(&disk, ident, &acknowledged);
    assert_eq!(lost, None, "the loss of power took what was acknowledged");
}

/// The first of these that a store does not find which starts on what is left of the disk.
fn first_lost(disk: &Disk, ident: StoreIdent, written: &[(u64, u64)]) -> Option<(u64, u64)> {
    let engine = disk.lose_power();
    let mut store = Store::open(engine.clone(), config(), ident, 2, BootClock.now()).unwrap();
    let region = store.meta().regions().remove(0);
    let mut get = |(client, number)| loop {
        let command = KvCommand::Get { key: key(client, number) };
        let request = KvRequest { region_id: region.id, epoch: region.epoch, command };
        store.on_event(&BootClock, Event::Request { token: 1, request, deadline: MonoTime::MAX }).unwrap();
        let answer = loop {
            let replied = store.take_effects().into_iter().find_map(|effect| match effect {
                Effect::Reply { answer, .. } => Some(answer),
                _ => None,
            });
            match replied {
                Some(answer) => break answer,
                None => step(&mut store, &engine),
            }
        };
        match answer {
            Ok(KvReply::Value(value)) => break value,
            // It does not lead yet.
            _ => step(&mut store, &engine),
        }
    };
    written.iter().copied().find(|write| get(*write).is_none())
}

/// Lets a store do what there is to do, or some time pass.
fn step(store: &mut Store<MemEngine>, engine: &MemEngine) {
    let runnable = store.runnable(BootClock.now());
    for actor in &runnable {
        if !matches!(actor, Actor::PdAgent) {
            store.run(*actor, BootClock.now()).unwrap();
        }
    }
    if let Some(merged) = store.begin_log() {
        engine.write(&merged.batch).unwrap();
        engine.sync().unwrap();
        store.finish_log(merged);
    }
    pass(Duration::from_millis(10));
}

#[test]
fn acknowledged_writes_survive_and_every_write_is_answered_once() {
    hold(|| run(the_product));
}

#[test]
fn a_worker_that_is_told_before_the_sync_loses_writes_and_is_caught() {
    let said = caught(|| run(tells_before_it_syncs));
    assert!(said.contains("the loss of power took"), "{said}");
}

#[test]
fn credit_that_is_not_given_back_is_caught() {
    caught(|| run(forgets_to_tell));
}
