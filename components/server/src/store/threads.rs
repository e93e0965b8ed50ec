//! The loops of a store's threads.

use super::hub::{Arriving, Hub, PendingRead};
use super::stages::Way;
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::add;
use engine_rocks::RocksEngine;
use env::Clock as _;
use raftstore::{Applier, Background, Input, Worker};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use store::{Aside, AsideStep, LocalReader, SnapshotReceiver};
use tracing::{error, warn};
use types::MonoTime;
use wire::store::SnapshotVerdict;

/// Inputs of one turn, at most: a turn must be short against a tick.
const TURN_INPUTS_MAX: usize = 4096;
/// Tasks of one batch of an applier, at most: answers wait for all of it.
const APPLY_TASKS_MAX: usize = 1024;

/// Takes a worker's turns.
pub(crate) fn work(hub: &Arc<Hub>, index: usize, worker: Worker<RocksEngine>) {
    let inbox = &hub.workers.inboxes[index];
    let route = |effects| hub.route(index, effects);
    let publish = |stats, stalled| hub.workers.publish(index, stats, stalled);
    super::turns::work(inbox, worker, &hub.counters, TURN_INPUTS_MAX, route, publish);
}

/// Writes the log.
pub(crate) fn write_log(hub: &Hub) {
    let send = |messages| transport::hold_wakes(|| hub.send(messages));
    super::log::write_log(&hub.log, &hub.engine, &hub.workers.inboxes, &hub.counters, usize::MAX, send);
}

/// Applies what is committed.
pub(crate) fn apply(hub: &Hub, index: usize, mut applier: Applier<RocksEngine>) {
    let (tasks, inboxes) = (&hub.appliers[index], &hub.workers.inboxes);
    let work = |tasks| applier.apply(tasks);
    super::apply::apply(tasks, &hub.engine, &hub.answers, inboxes, &hub.counters, APPLY_TASKS_MAX, work);
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
    let mut reader = LocalReader::new(hub.engine.clone(), hub.meta.clone(), hub.limits);
    let mut reads = Vec::new();
    while hub.reads.drain(&mut reads, 1, None) != Drained::Closed {
        for pending in reads.drain(..) {
            match pending {
                PendingRead::Ready(ready) => hub.serve(ready),
                PendingRead::Local(request) => {
                    reader.begin_batch();
                    let begun = BootClock.now();
                    let read = reader.read(&BootClock, request.region_id, request.epoch, &request.command);
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
