//! The loop of an applier: one engine batch for all that is committed meanwhile, and then the answers.

use super::answers::{Answers, Respond};
use super::counters::Counters;
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::add;
use engine::{Engine, EngineError};
use env::Clock as _;
use raftstore::{ApplyBatch, ApplyTask, Input, worker_of};

/// Applies until the mailbox is closed and empty: up to `tasks_max` tasks become one batch by `work`, the batch is
/// written, their clients are answered, and the workers hear what came of them, in this order.
pub(crate) fn apply<E: Engine, R: Respond>(
    tasks: &Mailbox<ApplyTask>,
    engine: &E,
    answers: &Answers<R>,
    inboxes: &[Mailbox<Input>],
    counters: &Counters,
    tasks_max: usize,
    mut work: impl FnMut(Vec<ApplyTask>) -> Result<ApplyBatch, EngineError>,
) {
    let mut taken = Vec::new();
    loop {
        let since = match tasks.drain(&mut taken, tasks_max, None) {
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
        add(&counters.applied_entries, taken.iter().map(entries).sum());
        let applied = work(std::mem::take(&mut taken));
        let applied = applied.unwrap_or_else(|error| fatal("applying", &error));
        if !applied.batch.is_empty() {
            engine.write(&applied.batch).unwrap_or_else(|error| fatal("writing what is applied", &error));
            add(&counters.apply_writes, 1);
        }
        let written = BootClock.now();
        counters.apply.span(begun, written);
        answers.answer_applied(applied.replies, &applied.times, begun, written);
        let mut inputs: Vec<Vec<_>> = inboxes.iter().map(|_| Vec::new()).collect();
        for outcome in applied.outcomes {
            inputs[worker_of(outcome.region_id, inboxes.len())].push(outcome);
        }
        for (inbox, outcomes) in inboxes.iter().zip(inputs) {
            if !outcomes.is_empty() {
                inbox.push(Input::Applied(outcomes));
            }
        }
    }
}
