//! A round of an applier: one engine batch for all that is committed meanwhile, and then the answers.

use super::answers::{Answers, Respond};
use super::counters::Counters;
use crate::BootClock;
use crate::logging::fatal;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::add;
use crate::seat::Next;
use engine::{Engine, EngineError};
use env::Clock as _;
use raftstore::{ApplyBatch, ApplyTask, Input, worker_of};
use std::time::Duration;

/// What an applier works with.
pub(crate) struct Applying<'a, E, R> {
    pub(crate) tasks: &'a Mailbox<ApplyTask>,
    pub(crate) engine: &'a E,
    pub(crate) answers: &'a Answers<R>,
    pub(crate) counters: &'a Counters,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// Tasks of one batch, at most.
    pub(crate) tasks_max: usize,
}

impl<E: Engine, R: Respond> Applying<'_, E, R> {
    /// Applies what is there: it becomes one batch by `work`, the batch is written, its clients are answered, and each
    /// worker hears by `tell` what came of its tasks, in this order.
    pub(crate) fn round(
        &self,
        work: impl FnOnce(Vec<ApplyTask>) -> Result<ApplyBatch, EngineError>,
        tell: impl Fn(usize, &mut Vec<Input>),
    ) -> Next {
        let Self { tasks, engine, answers, counters, workers, tasks_max } = *self;
        let mut taken = Vec::new();
        let since = match tasks.drain(&mut taken, tasks_max, Some(Duration::ZERO)) {
            Drained::Closed => return Next::End,
            Drained::Open { since: None } => return Next::Rest(None),
            Drained::Open { since: Some(since) } => since,
        };
        let begun = BootClock.now();
        counters.apply_wait.span(since, begun);
        let entries = |task: &ApplyTask| match task {
            ApplyTask::Entries { entries, .. } => entries.len() as u64,
            _ => 0,
        };
        add(&counters.applied_entries, taken.iter().map(entries).sum());
        let applied = work(taken).unwrap_or_else(|error| fatal("applying", &error));
        if !applied.batch.is_empty() {
            engine.write(&applied.batch).unwrap_or_else(|error| fatal("writing what is applied", &error));
            add(&counters.apply_writes, 1);
        }
        let written = BootClock.now();
        counters.apply.span(begun, written);
        answers.answer_applied(applied.replies, &applied.times, begun, written);
        let mut inputs: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for outcome in applied.outcomes {
            inputs[worker_of(outcome.region_id, workers)].push(outcome);
        }
        for (worker, outcomes) in inputs.into_iter().enumerate() {
            if !outcomes.is_empty() {
                tell(worker, &mut vec![Input::Applied(outcomes)]);
            }
        }
        Next::Rest(None)
    }
}
