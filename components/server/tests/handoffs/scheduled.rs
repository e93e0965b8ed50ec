//! Commands of transactions: brought to a scheduler, given a view, proposed, applied and answered by whoever takes which turn.
//! Each is answered once, without waiting for time to pass, and of two that want one key the second sees what the first did.

use crate::answers::{new_answers, waiting};
use crate::clock::BootClock;
use crate::disk::Disk;
use crate::mailbox::{Drained, Mailbox};
use crate::schedules::{caught, hold};
use crate::seat::{Next, Seat};
use crate::store_process::answers::{Answers, Scheduled};
use crate::store_process::apply::Applying;
use crate::store_process::counters::Counters;
use crate::store_process::log::{Logged, write_log};
use crate::store_process::scheduling::{Scheduling, TxnInboxes};
use crate::store_process::turns::Desk;
use crate::stored::{Caller, joined, leading};
use crate::sync::spawn;
use bytes::{Bytes, BytesMut};
use codec::ordered::put_ordered;
use engine::Engine;
use env::Clock as _;
use raftstore::{Applier, ApplyTask, Input, TurnEffects};
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;
use store::{Reservations, TxnInput, TxnRequest, TxnScheduler, TxnShared};
use types::{MonoTime, Region, Timestamp};
use wire::kv::{KvError, KvResponse};
use wire::txn::{Acquire, CommitMode, Mutation, MutationKind, Prewrite, TxnCommand, TxnFault};

const CLIENTS: u64 = 2;

/// What is done otherwise than in the product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    None,
    /// Whoever answers what a scheduler has asked does not look into its inbox afterwards.
    LooksNoMore,
    /// What a scheduler has asked is answered before it is written.
    AnswersFirst,
}

struct Stage {
    disk: Disk,
    inbox: [Mailbox<Input>; 1],
    log: Mailbox<Logged>,
    tasks: Mailbox<ApplyTask>,
    desk: Seat<Desk<Disk>>,
    applier: Seat<Applier<Disk>>,
    scheduling: Scheduling<Disk>,
    answers: Answers<Caller>,
    counters: Counters,
    mistake: Mistake,
}

impl Stage {
    fn route(&self, effects: TurnEffects<Disk>) {
        let TurnEffects { log, apply, replies, proposed, reads, .. } = effects;
        if !log.is_empty() {
            self.log.push(Logged { worker: 0, task: log, since: BootClock.now() });
        }
        self.scheduling.tell_proposed(0, proposed);
        if !apply.is_empty() {
            let tell = |_, inputs: &mut Vec<Input>| self.inbox[0].put_all(inputs);
            self.tasks.put_all(&mut { apply });
            self.applier.help(&self.tasks, |applier| self.apply_one(applier, tell));
        }
        self.answers.answer_all(replies);
        let views = reads.into_iter().map(TxnInput::View);
        self.scheduling.inboxes[0].put_all(&mut views.collect());
        self.schedule_waiting();
    }

    fn schedule_waiting(&self) {
        if self.mistake != Mistake::LooksNoMore {
            self.scheduling.help_waiting(&self.answers, &self.inbox, |_| self.help());
        }
    }

    fn turn(&self, desk: &mut Desk<Disk>) -> Next {
        desk.turn(&self.inbox[0], &self.counters, 1, |effects| self.route(effects), |_, _| {})
    }

    fn help(&self) {
        self.desk.help(&self.inbox[0], |desk| self.turn(desk));
    }

    fn bring(&self, inputs: &mut Vec<Input>) {
        self.inbox[0].put_all(inputs);
        self.help();
    }

    fn bring_command(&self, region: &Region, command: TxnCommand) -> Arc<Mailbox<KvResponse>> {
        let answer = Arc::new(Mailbox::default());
        let token = self.answers.insert(0, waiting(Caller(answer.clone())));
        let (region_id, epoch, deadline) = (region.id, region.epoch, MonoTime::MAX);
        let request = TxnRequest { token, region_id, epoch, command: Box::new(command), deadline };
        self.scheduling.inboxes[0].put_all(&mut vec![TxnInput::Command(request)]);
        self.scheduling.help(0, &self.answers, &self.inbox[0]);
        if !self.inbox[0].is_empty() {
            self.help();
        }
        answer
    }

    fn apply_one(&self, applier: &mut Applier<Disk>, tell: impl Fn(usize, &mut Vec<Input>)) -> Next {
        let Self { disk, tasks, answers, counters, .. } = self;
        if self.mistake == Mistake::AnswersFirst {
            return self.answer_first(applier, tell);
        }
        let applying = Applying { tasks, engine: disk, answers, counters, workers: 1, tasks_max: 1 };
        applying.round(|tasks| applier.apply(tasks), tell)
    }
}

impl Stage {
    fn answer_first(&self, applier: &mut Applier<Disk>, tell: impl Fn(usize, &mut Vec<Input>)) -> Next {
        let mut taken = Vec::new();
        match self.tasks.drain(&mut taken, 1, Some(Duration::ZERO)) {
            Drained::Closed => return Next::End,
            Drained::Open { since: None } => return Next::Rest(None),
            Drained::Open { since: Some(_) } => {}
        }
        let applied = applier.apply(taken).unwrap();
        self.answers.answer_all(applied.replies);
        self.scheduling.help(0, &self.answers, &self.inbox[0]);
        self.disk.write(&applied.batch).unwrap();
        tell(0, &mut vec![Input::Applied(applied.outcomes)]);
        Next::Rest(None)
    }
}

/// What all of them want.
fn key() -> Bytes {
    let mut key = BytesMut::new();
    put_ordered(&mut key, b"x\0\0\0wanted by all");
    key.freeze()
}

/// Reserves the key for a transaction of this client, which is told once that is proposed.
fn reserve(client: u64) -> TxnCommand {
    TxnCommand::Acquire(Acquire {
        primary: key(),
        start_ts: Timestamp(10 + client),
        for_update_ts: Timestamp(10 + client),
        ttl_ms: 3_000,
        keys: vec![key()],
        must_be_new: false,
        wait_ms: 0,
    })
}

/// Locks it.
fn lock(client: u64) -> TxnCommand {
    let key = key();
    let kind = MutationKind::Put(Bytes::from_static(b"v"));
    TxnCommand::Prewrite(Prewrite {
        primary: key.clone(),
        start_ts: Timestamp(10 + client),
        ttl_ms: 3_000,
        txn_size: 1,
        for_update_ts: Timestamp(0),
        min_commit_ts: Timestamp(0),
        max_commit_ts: Timestamp(0),
        mode: CommitMode::default(),
        mutations: vec![Mutation { key, kind, is_reserved: false }],
    })
}

/// Clients lock one key for transactions of their own, through a scheduler that takes one input a turn.
fn run(mistake: Mistake, lock: fn(u64) -> TxnCommand) {
    let (engine, ident) = joined();
    let disk = Disk::over(engine);
    let shared = TxnShared::new(|| {});
    let (worker, applier, meta, region) = leading(&disk, &ident, shared.held.clone());
    let inboxes: Arc<TxnInboxes<<Disk as Engine>::Snapshot>> = Arc::new(vec![Mailbox::default()]);
    let told = inboxes.clone();
    let scheduled: Scheduled = Box::new(move |token, answer| {
        told[0].put_all(&mut vec![TxnInput::Answer { token, answer }]);
    });
    let reservations = Reservations { in_memory: false, ..Reservations::default() };
    let scheduler =
        |index| TxnScheduler::new(index, disk.clone(), meta.clone(), shared.clone()).reserving(reservations);
    let stage = Arc::new(Stage {
        disk: disk.clone(),
        inbox: [Mailbox::default()],
        log: Mailbox::default(),
        tasks: Mailbox::default(),
        desk: Seat::new(Desk::new(worker)),
        applier: Seat::new(applier),
        // No client's time is ever over: nobody looks because time has passed.
        scheduling: Scheduling::new(inboxes, 1, None, scheduler),
        answers: new_answers().telling(scheduled),
        counters: Counters::default(),
        mistake,
    });
    let own = stage.clone();
    let working = spawn(move || own.desk.attend(&own.inbox[0], |desk| own.turn(desk)));
    let own = stage.clone();
    let scheduling = spawn(move || own.scheduling.attend(0, &own.answers, &own.inbox[0]));
    let own = stage.clone();
    let logging = spawn(move || {
        write_log(&own.log, &own.disk, 1, &own.counters, 1, |_| {}, |_, inputs| own.bring(inputs));
    });
    let own = stage.clone();
    let applying = spawn(move || {
        own.applier.attend(&own.tasks, |applier| {
            let next = own.apply_one(applier, |_, inputs| own.bring(inputs));
            own.schedule_waiting();
            next
        });
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (stage, region) = (stage.clone(), region.clone());
            thread::spawn(move || {
                let answer = stage.bring_command(&region, lock(client));
                let mut taken = Vec::new();
                answer.drain(&mut taken, usize::MAX, None);
                assert_eq!(taken.len(), 1, "each command is answered once: {taken:?}");
                taken.remove(0)
            })
        })
        .collect();
    let answered: Vec<KvResponse> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let is_locked = |response: &&KvResponse| match response {
        KvResponse::Ok(_) => false,
        KvResponse::Err(KvError::Txn(fault)) => matches!(**fault, TxnFault::KeyIsLocked { .. }),
        KvResponse::Err(other) => panic!("{other:?} for a command that nothing stands in the way of"),
    };
    let locked = answered.iter().filter(is_locked).count() as u64;
    assert_eq!(locked, CLIENTS - 1, "one has the key, and the others are told so: {answered:?}");
    stage.scheduling.inboxes[0].close();
    scheduling.join().unwrap();
    stage.inbox[0].close();
    working.join().unwrap();
    stage.log.close();
    stage.tasks.close();
    logging.join().unwrap();
    applying.join().unwrap();
    assert_eq!((stage.answers.pending(), stage.answers.stray()), (0, 0));
}

#[test]
fn commands_are_answered_once_and_see_what_those_before_them_did() {
    hold(|| run(Mistake::None, lock));
}

#[test]
fn who_is_told_early_is_told_once_and_others_see_what_it_did() {
    hold(|| run(Mistake::None, reserve));
}

#[test]
fn a_scheduler_into_whose_inbox_nobody_looks_is_caught() {
    caught(|| run(Mistake::LooksNoMore, lock));
}

#[test]
fn latches_that_go_before_the_write_are_caught() {
    let said = caught(|| run(Mistake::AnswersFirst, lock));
    assert!(said.contains("one has the key"), "{said}");
}
