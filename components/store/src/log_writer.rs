//! One write and one sync for all that has come while the last one was under way.

use crate::ident::put_log_mark;
use engine::WriteBatch;
use env::sim_point;
use raftstore::{LogTask, Persisted};
use types::StoreId;
use wire::store::StoreMessage;

/// What to do with the log in one go: write, sync if asked, and then release the rest.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Merged {
    /// All writes, in order.
    pub batch: WriteBatch,
    /// Whether a sync must follow before anything is released.
    pub must_sync: bool,
    /// For the workers, in order: index of the worker, and what became durable.
    pub persisted: Vec<(usize, Persisted)>,
    /// To be sent.
    pub messages: Vec<(StoreId, StoreMessage)>,
    /// How many tasks were merged.
    pub tasks: usize,
    /// How often the logs were written to, this time included.
    pub log_mark: u64,
}

/// Collects what workers hand over. All writes of a store that are not applies go through it, in order.
#[derive(Default, Debug)]
pub struct LogWriter {
    next: Merged,
    /// How often the logs were written to.
    log_mark: u64,
}

impl LogWriter {
    /// With nothing to do, on a disk on which the logs were written to so often.
    #[must_use]
    pub fn new(log_mark: u64) -> Self {
        Self { log_mark, ..Self::default() }
    }

    /// Takes a turn's task from a worker.
    pub fn push(&mut self, worker: usize, task: LogTask) {
        if self.next.batch.is_empty() {
            self.next.batch = task.batch;
        } else {
            self.next.batch.append(&task.batch);
        }
        self.next.must_sync |= task.must_sync || sim_point!("store.sync_needlessly");
        self.next.persisted.push((worker, task.persisted));
        self.next.messages.extend(task.messages_after);
        self.next.tasks += 1;
    }

    /// True if there is something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.next.tasks > 0
    }

    /// Everything collected so far; if it is written, that is counted in what is written.
    pub fn take(&mut self) -> Merged {
        let mut merged = std::mem::take(&mut self.next);
        if !merged.batch.is_empty() {
            self.log_mark += 1;
            put_log_mark(&mut merged.batch, self.log_mark);
        }
        merged.log_mark = self.log_mark;
        merged
    }
}
