//! The loop of a worker: drain, read the clock, step, and hand the effects on.

use super::counters::Counters;
use crate::BootClock;
use crate::mailbox::{Drained, Mailbox};
use crate::measure::add;
use engine::Engine;
use env::Clock as _;
use raftstore::{Input, TurnEffects, Worker, WorkerStats};
use std::time::Duration;
use tracing::error;

/// A worker that has something to do but could not do it looks again after this, if nothing arrives.
const RETRY: Duration = Duration::from_millis(1);

/// Takes turns until the inbox is closed and empty: waits for the first input or for a deadline, drains what is there
/// (up to `inputs_max`), reads the clock, steps, gives the effects to `route`, and shows by `publish` what the worker
/// has counted and whether its log makes no progress.
pub(crate) fn work<E: Engine>(
    inbox: &Mailbox<Input>,
    mut worker: Worker<E>,
    counters: &Counters,
    inputs_max: usize,
    route: impl Fn(TurnEffects<E>),
    publish: impl Fn(WorkerStats, bool),
) {
    let mut inputs = Vec::new();
    let mut idle = false;
    let mut poisoned = 0;
    loop {
        let wait = match (worker.wants_turn(), idle) {
            (true, false) => Duration::ZERO,
            (true, true) => RETRY,
            (false, _) => worker.next_deadline().since(BootClock.now()),
        };
        let since = match inbox.drain(&mut inputs, inputs_max, Some(wait)) {
            Drained::Closed => return,
            Drained::Open { since } => since,
        };
        // After the inbox was drained: no input is younger than this.
        let now = BootClock.now();
        if let Some(since) = since {
            counters.propose_wait.span(since, now);
        }
        let had_inputs = !inputs.is_empty();
        let effects = worker.turn(now, &mut inputs);
        idle =
            !had_inputs && effects.log.is_empty() && effects.apply.is_empty() && effects.messages.is_empty();
        route(effects);
        let stats = worker.stats();
        if stats.poisoned > poisoned {
            for (region_id, reason) in worker.poisoned() {
                error!(region_id = region_id.get(), reason, "this copy of the region has stopped for good");
            }
        }
        poisoned = stats.poisoned;
        publish(stats, worker.is_stalled(now));
        add(&counters.turns, 1);
    }
}
