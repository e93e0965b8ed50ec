//! The loops of a store's threads.

use super::hub::{Arriving, Hub, PendingRead};
use super::stages::Way;
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::add;
use engine_rocks::RocksEngine;
use env::Clock as _;
use raftstore::{Background, Input, ReadRequest};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use store::{Aside, AsideStep, SnapshotReceiver};
use tracing::{error, warn};
use types::MonoTime;
use wire::store::SnapshotVerdict;

/// Takes a worker's turns that nobody else takes.
pub(crate) fn work(hub: &Arc<Hub>, index: usize) {
    hub.desk(index).attend(&hub.workers.inboxes[index], |desk| hub.turn(index, true, desk));
}

/// Takes a worker's turns for what connections have brought, after those that are ready, as a task on their thread.
pub(crate) async fn gather(hub: Arc<Hub>, index: usize) {
    loop {
        hub.gather[index].is_due().await;
        hub.help(index, true);
    }
}

/// Writes the log.
pub(crate) fn write_log(hub: &Arc<Hub>) {
    let send = |messages| {
        transport::hold_wakes(|| hub.send(messages));
        hub.apply_left();
    };
    // While more waits to be written, the worker's own thread may go on meanwhile.
    let tell = |worker, inputs: &mut Vec<Input>| match hub.log.is_empty() {
        true => hub.bring(worker, false, inputs),
        false => hub.workers.inboxes[worker].push_all(inputs),
    };
    let workers = hub.workers.inboxes.len();
    super::log::write_log(&hub.log, &hub.engine, workers, &hub.counters, usize::MAX, send, tell);
}

/// Applies what is committed and nobody else applies.
pub(crate) fn apply(hub: &Arc<Hub>, index: usize) {
    let tasks = &hub.appliers[index];
    let tell = |worker, inputs: &mut Vec<Input>| match tasks.is_empty() {
        true => hub.bring(worker, false, inputs),
        false => hub.workers.inboxes[worker].push_all(inputs),
    };
    hub.apply_seats[index].attend(tasks, |applier| {
        let next = hub.apply_some(index, applier, tell);
        hub.schedule_waiting(false);
        next
    });
}

/// Takes the turns of a worker's scheduler that nobody else takes.
pub(crate) fn schedule(hub: &Arc<Hub>, index: usize) {
    hub.scheduling.attend(index, &hub.answers, &hub.workers.inboxes[index]);
}

/// Does tasks one after another, each to its end.
pub(crate) fn work_aside(hub: &Hub, queue: &Mailbox<Background>) {
    let mut tasks = Vec::new();
    while queue.drain(&mut tasks, 1, None) != Drained::Closed {
        for task in tasks.drain(..) {
            let mut next = Some(Aside::new(task));
            while let Some(aside) = next.take() {
                let build = |region_id, to| hub.builder.lock().build(region_id, to, BootClock.now());
                let step = aside.step(&hub.engine, build);
                match step.unwrap_or_else(|error| fatal("work beside the workers", &error)) {
                    AsideStep::More(aside) => next = Some(aside),
                    AsideStep::Done(None) => {}
                    AsideStep::Done(Some((region_id, input))) => hub.workers.input(region_id, input),
                    AsideStep::FileLost { region_id, file } => {
                        error!(
                            region_id = region_id.get(),
                            file, "a snapshot's file is gone: this copy of the region is given up"
                        );
                        hub.workers.input(region_id, Input::FilesLost { region_id });
                    }
                }
            }
        }
    }
}

/// Takes snapshots in.
pub(crate) fn receive(hub: &Hub, mut receiver: SnapshotReceiver<RocksEngine>) {
    let mut pieces = Vec::new();
    loop {
        let deadline = receiver.next_deadline();
        let wait = (deadline != MonoTime::MAX).then(|| deadline.since(BootClock.now()));
        if hub.arriving.drain(&mut pieces, usize::MAX, wait) == Drained::Closed {
            return;
        }
        for arriving in pieces.drain(..) {
            match arriving {
                Arriving::Lost(key) => {
                    receiver.abandon(key).unwrap_or_else(|error| fatal("dropping half a snapshot", &error));
                }
                Arriving::Piece(piece, receipt) => {
                    let received = receiver.on_piece(piece, BootClock.now());
                    let received = received.unwrap_or_else(|error| fatal("storing a snapshot", &error));
                    if let Some(snapshot) = received.snapshot {
                        add(&hub.counters.snapshots_received, 1);
                        hub.counters.snapshot_bytes_received.observe(snapshot.size_bytes);
                        hub.workers.input(snapshot.key.region_id, Input::SnapshotReceived(snapshot));
                    }
                    match received.verdict {
                        Some(SnapshotVerdict::Accepted(_)) => receipt.accept(),
                        Some(SnapshotVerdict::Refused { reason, .. }) => receipt.refuse(reason),
                        None => drop(receipt),
                    }
                }
            }
        }
        let expired = receiver.expire(BootClock.now());
        let expired = expired.unwrap_or_else(|error| fatal("dropping half a snapshot", &error));
        if expired > 0 {
            warn!(count = expired, "snapshots are given up whose senders have been silent for too long");
        }
        hub.counters.snapshots_arriving.store(receiver.arriving() as u64, Ordering::Relaxed);
    }
}

/// Serves the reads that take long.
pub(crate) fn read(hub: &Hub) {
    let mut reader = hub.txn_shared.local_reader(hub.engine.clone(), hub.meta.clone(), hub.limits);
    let mut reads = Vec::new();
    while hub.reads.drain(&mut reads, 1, None) != Drained::Closed {
        for pending in reads.drain(..) {
            match pending {
                PendingRead::Ready(ready) => hub.serve(ready),
                PendingRead::Local(request) => {
                    reader.begin_batch();
                    let begun = BootClock.now();
                    let ReadRequest { region_id, epoch, .. } = request;
                    let read = reader.read(&BootClock, region_id, epoch, (&request).into());
                    match read.unwrap_or_else(|error| fatal("reading", &error)) {
                        Some(answer) => {
                            add(&hub.counters.reads_lease, 1);
                            let way = Way::Read { by_lease: true, begun };
                            hub.answers.answer_each([(request.token, answer, way)]);
                        }
                        None => hub.workers.input(request.region_id, Input::Read(request)),
                    }
                    reader.begin_batch();
                }
            }
        }
    }
}
