//! A turn of a worker: drain, read the clock, step, and hand the effects on.

use super::counters::Counters;
use crate::BootClock;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::add;
use crate::seat::Next;
use engine::Engine;
use env::Clock as _;
use raftstore::{Input, TurnEffects, Worker, WorkerStats};
use std::time::Duration;
use tracing::error;

/// A worker that has something to do but could not do it looks again after this, if nothing arrives.
const RETRY: Duration = Duration::from_millis(1);

/// A worker, where whoever brings it something may take its turn.
pub(crate) struct Desk<E: Engine> {
    worker: Worker<E>,
    /// Empty between turns.
    inputs: Vec<Input>,
    /// Groups that are known to have stopped.
    poisoned: u64,
}

impl<E: Engine> Desk<E> {
    pub(crate) fn new(worker: Worker<E>) -> Self {
        Self { worker, inputs: Vec::new(), poisoned: 0 }
    }

    /// Takes one turn: drains what is there (up to `inputs_max`), reads the clock, steps, gives the effects to `route`,
    /// and shows by `publish` what the worker has counted and whether its log makes no progress.
    pub(crate) fn turn(
        &mut self,
        inbox: &Mailbox<Input>,
        counters: &Counters,
        inputs_max: usize,
        route: impl FnOnce(TurnEffects<E>),
        publish: impl FnOnce(WorkerStats, bool),
    ) -> Next {
        let Self { worker, inputs, poisoned } = self;
        let since = match inbox.drain(inputs, inputs_max, Some(Duration::ZERO)) {
            Drained::Closed => return Next::End,
            Drained::Open { since } => since,
        };
        // After the inbox was drained: no input is younger than this.
        let now = BootClock.now();
        if let Some(since) = since {
            counters.propose_wait.span(since, now);
        }
        let had_inputs = !inputs.is_empty();
        let effects = worker.turn(now, inputs);
        let idle =
            !had_inputs && effects.log.is_empty() && effects.apply.is_empty() && effects.messages.is_empty();
        route(effects);
        let stats = worker.stats();
        if stats.poisoned > *poisoned {
            for (region_id, reason) in worker.poisoned() {
                error!(region_id = region_id.get(), reason, "this copy of the region has stopped for good");
            }
        }
        *poisoned = stats.poisoned;
        publish(stats, worker.is_stalled(now));
        add(&counters.turns, 1);
        match (worker.wants_turn(), idle) {
            (true, false) => Next::Again,
            (true, true) => Next::Soon(RETRY),
            (false, _) => Next::Rest(Some(worker.next_deadline().since(BootClock.now()))),
        }
    }
}
