//! The loops of a store's threads.

use super::hub::{Arriving, Hub, Logged, PendingRead};
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::Drained;
use crate::measure::add;
use engine::Engine as _;
use engine_rocks::RocksEngine;
use env::Clock as _;
use raftstore::{Applier, ApplyTask, Background, Input, Persisted, Worker};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::{Ingest, IngestStep, LocalReader, LogWriter, SnapshotReceiver, check_split, fetch_entries};
use tracing::{error, warn};
use types::MonoTime;
use wire::store::SnapshotVerdict;

/// Inputs of one turn, at most: a turn must be short against a tick.
const TURN_INPUTS_MAX: usize = 4096;
/// Tasks of one batch of an applier, at most: answers wait for all of it.
const APPLY_TASKS_MAX: usize = 1024;
/// A worker that has something to do but could not do it looks again after this, if nothing arrives.
const RETRY: Duration = Duration::from_millis(1);

/// Takes turns: waits for the first input or for a deadline, drains what is there, reads the clock, steps.
pub(crate) fn work(hub: &Arc<Hub>, index: usize, mut worker: Worker<RocksEngine>) {
    let inbox = &hub.workers.inboxes[index];
    let mut inputs = Vec::new();
    let mut idle = false;
    let mut poisoned = 0;
    loop {
        let wait = match (worker.wants_turn(), idle) {
            (true, false) => Duration::ZERO,
            (true, true) => RETRY,
            (false, _) => worker.next_deadline().since(BootClock.now()),
        };
        let since = match inbox.drain(&mut inputs, TURN_INPUTS_MAX, Some(wait)) {
            Drained::Closed => return,
            Drained::Open { since } => since,
        };
        // After the inbox was drained: no input is younger than this.
        let now = BootClock.now();
        if let Some(since) = since {
            hub.counters.propose_wait.span(since, now);
        }
        let had_inputs = !inputs.is_empty();
        let effects = worker.turn(now, &mut inputs);
        idle =
            !had_inputs && effects.log.is_empty() && effects.apply.is_empty() && effects.messages.is_empty();
        hub.route(index, effects);
        let stats = worker.stats();
        if stats.poisoned > poisoned {
            for (region_id, reason) in worker.poisoned() {
                error!(region_id = region_id.get(), reason, "this copy of the region has stopped for good");
            }
        }
        poisoned = stats.poisoned;
        hub.workers.publish(index, stats, worker.is_stalled(now));
        add(&hub.counters.turns, 1);
    }
}

/// Writes the log: all that workers have handed over in one batch, one sync, and then what waited for it.
pub(crate) fn write_log(hub: &Hub) {
    let mut tasks: Vec<Logged> = Vec::new();
    let mut writer = LogWriter::new();
    let counters = &hub.counters;
    let mut times = Vec::new();
    while hub.log.drain(&mut tasks, usize::MAX, None) != Drained::Closed {
        for Logged { worker, task, since } in tasks.drain(..) {
            times.push(since);
            writer.push(worker, task);
        }
        let merged = writer.take();
        if !merged.batch.is_empty() {
            hub.engine.write(&merged.batch).unwrap_or_else(|error| fatal("writing the log", &error));
            add(&counters.log_writes, 1);
            add(&counters.log_bytes, merged.batch.size_bytes() as u64);
        }
        if merged.must_sync {
            let begun = BootClock.now();
            hub.engine.sync().unwrap_or_else(|error| fatal("syncing the log", &error));
            counters.log_sync.span(begun, BootClock.now());
            add(&counters.log_syncs, 1);
        }
        add(&counters.log_tasks, merged.tasks as u64);
        transport::hold_wakes(|| hub.send(merged.messages));
        let mut inputs: Vec<Vec<Input>> = hub.workers.inboxes.iter().map(|_| Vec::new()).collect();
        for (worker, persisted) in merged.persisted {
            add(&counters.log_appends, persisted.tokens.len() as u64);
            if persisted != Persisted::default() {
                inputs[worker].push(Input::Persisted(persisted));
            }
        }
        for (inbox, inputs) in hub.workers.inboxes.iter().zip(&mut inputs) {
            inbox.push_all(inputs);
        }
        let now = BootClock.now();
        times.drain(..).for_each(|since| counters.append.span(since, now));
    }
}

/// Applies what is committed: all that has come in one batch, and then the answers.
pub(crate) fn apply(hub: &Hub, index: usize, mut applier: Applier<RocksEngine>) {
    let mut tasks = Vec::new();
    let counters = &hub.counters;
    loop {
        let since = match hub.appliers[index].drain(&mut tasks, APPLY_TASKS_MAX, None) {
            Drained::Closed => return,
            Drained::Open { since } => since,
        };
        let begun = BootClock.now();
        if let Some(since) = since {
            counters.apply_wait.span(since, begun);
        }
        let entries = |task: &ApplyTask| match task {
            ApplyTask::Entries { entries, .. } => entries.len() as u64,
            _ => 0,
        };
        add(&counters.applied_entries, tasks.iter().map(entries).sum());
        let applied = applier.apply(std::mem::take(&mut tasks));
        let applied = applied.unwrap_or_else(|error| fatal("applying", &error));
        if !applied.batch.is_empty() {
            hub.engine.write(&applied.batch).unwrap_or_else(|error| fatal("writing what is applied", &error));
            add(&counters.apply_writes, 1);
        }
        counters.apply.span(begun, BootClock.now());
        hub.answers.answer_all(applied.replies);
        let mut inputs: Vec<Vec<_>> = hub.workers.inboxes.iter().map(|_| Vec::new()).collect();
        for outcome in applied.outcomes {
            inputs[hub.workers.of(outcome.region_id)].push(outcome);
        }
        for (inbox, outcomes) in hub.workers.inboxes.iter().zip(inputs) {
            if !outcomes.is_empty() {
                inbox.push(Input::Applied(outcomes));
            }
        }
    }
}

/// Does what somebody waits for.
pub(crate) fn work_quickly(hub: &Hub) {
    let mut tasks = Vec::new();
    while hub.quick.drain(&mut tasks, 1, None) != Drained::Closed {
        for task in tasks.drain(..) {
            match task {
                Background::BuildSnapshot { region_id, to } => {
                    let built = hub.builder.lock().build(region_id, to, BootClock.now());
                    let snapshot = built.unwrap_or_else(|error| fatal("taking a view of a region", &error));
                    hub.workers.input(region_id, Input::SnapshotBuilt { region_id, to, snapshot });
                }
                Background::FetchEntries { region_id, request } => {
                    let input = fetch_entries(&hub.engine, region_id, request);
                    let input = input.unwrap_or_else(|error| fatal("reading the log", &error));
                    hub.workers.input(region_id, input);
                }
                Background::Ingest { .. } | Background::CheckSplit { .. } | Background::RemoveFiles(_) => {
                    unreachable!("it takes long, and goes elsewhere");
                }
            }
        }
    }
}

/// Does what takes long.
pub(crate) fn work_slowly(hub: &Hub) {
    let mut tasks = Vec::new();
    while hub.slow.drain(&mut tasks, 1, None) != Drained::Closed {
        for task in tasks.drain(..) {
            match task {
                Background::Ingest { record } => {
                    let region_id = record.region.id;
                    let mut ingest = Ingest::new(hub.engine.clone(), record);
                    let input = loop {
                        let step = ingest.step();
                        match step.unwrap_or_else(|error| fatal("ingesting a snapshot", &error)) {
                            IngestStep::More => {}
                            IngestStep::Done => break Input::Ingested { region_id },
                            IngestStep::FileLost(file) => {
                                let region_id = region_id.get();
                                error!(
                                    region_id,
                                    file, "a snapshot's file is gone: this copy of the region is given up"
                                );
                                break Input::FilesLost { region_id: ingest.region_id() };
                            }
                        }
                    };
                    hub.workers.input(region_id, input);
                }
                Background::CheckSplit { region, split_bytes } => {
                    let measured = check_split(&hub.engine.snapshot(), &region, split_bytes);
                    let measured = measured.unwrap_or_else(|error| fatal("measuring a region", &error));
                    hub.workers.input(
                        region.id,
                        Input::SplitChecked {
                            region_id: region.id,
                            epoch: region.epoch,
                            size_bytes: measured.size_bytes,
                            keys: measured.keys,
                            split_keys: measured.split_keys,
                        },
                    );
                }
                Background::RemoveFiles(names) => {
                    for name in names {
                        let removed = hub.engine.remove_sst(&name);
                        removed.unwrap_or_else(|error| fatal("removing a file of a snapshot", &error));
                    }
                }
                Background::BuildSnapshot { .. } | Background::FetchEntries { .. } => {
                    unreachable!("somebody waits for it, and it goes elsewhere");
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
                    let read = reader.read(&BootClock, request.region_id, request.epoch, &request.command);
                    match read.unwrap_or_else(|error| fatal("reading", &error)) {
                        Some(answer) => {
                            add(&hub.counters.reads_lease, 1);
                            hub.answer(request.token, answer);
                        }
                        None => hub.workers.input(request.region_id, Input::Read(request)),
                    }
                    reader.begin_batch();
                }
            }
        }
    }
}
