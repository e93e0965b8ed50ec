//! The loop of the log writer: one batch and one sync for all that workers have handed over meanwhile.

use super::counters::Counters;
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::{add, get};
use engine::Engine;
use env::Clock as _;
use raftstore::{Input, LogTask, LogTimes, Persisted};
use std::sync::atomic::Ordering;
use store::LogWriter;
use types::{MonoTime, StoreId};
use wire::store::StoreMessage;

/// A turn's writes on their way to the log.
pub(crate) struct Logged {
    pub(crate) worker: usize,
    pub(crate) task: LogTask,
    /// When the turn ended.
    pub(crate) since: MonoTime,
}

/// Writes the log until its mailbox is closed and empty: all that workers have handed over in one batch, one sync, and
/// then what waited for it: messages by `send`, and what each of the `workers` waits for by `tell`.
///
/// Of what is handed over, at most `tasks_max` turns are merged at once.
pub(crate) fn write_log<E: Engine>(
    log: &Mailbox<Logged>,
    engine: &E,
    workers: usize,
    counters: &Counters,
    tasks_max: usize,
    send: impl Fn(Vec<(StoreId, StoreMessage)>),
    tell: impl Fn(usize, &mut Vec<Input>),
) {
    let mut tasks: Vec<Logged> = Vec::new();
    let mut writer = LogWriter::new(get(&counters.log_mark));
    let mut times = Vec::new();
    while log.drain(&mut tasks, tasks_max, None) != Drained::Closed {
        let taken = BootClock.now();
        for Logged { worker, task, since } in tasks.drain(..) {
            times.push(since);
            writer.push(worker, task);
        }
        let merged = writer.take();
        if !merged.batch.is_empty() {
            engine.write(&merged.batch).unwrap_or_else(|error| fatal("writing the log", &error));
            add(&counters.log_writes, 1);
            add(&counters.log_bytes, merged.batch.size_bytes() as u64);
        }
        if merged.must_sync {
            let begun = BootClock.now();
            engine.sync().unwrap_or_else(|error| fatal("syncing the log", &error));
            counters.log_sync.span(begun, BootClock.now());
            add(&counters.log_syncs, 1);
            counters.log_mark.store(merged.log_mark, Ordering::Relaxed);
        }
        add(&counters.log_tasks, merged.tasks as u64);
        let durable = BootClock.now();
        send(merged.messages);
        let mut inputs: Vec<Vec<Input>> = (0..workers).map(|_| Vec::new()).collect();
        for ((worker, mut persisted), handed) in merged.persisted.into_iter().zip(times.drain(..)) {
            counters.append.span(handed, durable);
            add(&counters.log_appends, persisted.tokens.len() as u64);
            if persisted != Persisted::default() {
                persisted.times = LogTimes { handed, begun: taken, durable };
                inputs[worker].push(Input::Persisted(persisted));
            }
        }
        for (worker, inputs) in inputs.iter_mut().enumerate() {
            tell(worker, inputs);
        }
    }
}
