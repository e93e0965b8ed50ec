//! Many orders in which threads may run, from fixed seeds.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Orders of each kind that a property must survive.
const ORDERS: usize = 2000;
/// Orders of each kind within which a mistake must show.
const ORDERS_CAUGHT: usize = 10 * ORDERS;
/// Preemptions that matter for one of our mistakes, at most.
const DEPTH: usize = 3;
/// A thread that makes no progress in so many steps never will.
const STEPS_MAX: usize = 200_000;
/// Our threads decode, apply and print.
const STACK_BYTES: usize = 1 << 20;
const SEED: u64 = 1;

/// Runs threads in many orders. Panics at the first order in which `body` does, or in which no thread can go on.
pub(crate) fn hold(body: impl Fn() + Send + Sync + Clone + 'static) {
    run(RandomScheduler::new_from_seed(SEED, ORDERS), body.clone());
    run(PctScheduler::new_from_seed(SEED, DEPTH, ORDERS), body);
}

/// Runs threads that make a mistake on purpose, and gives what was said when it showed.
///
/// # Panics
/// When it does not show.
pub(crate) fn caught(body: impl Fn() + Send + Sync + Clone + 'static) -> String {
    let by_pct = body.clone();
    let found = catch_unwind(AssertUnwindSafe(|| {
        run(RandomScheduler::new_from_seed(SEED, ORDERS_CAUGHT), body);
        run(PctScheduler::new_from_seed(SEED, DEPTH, ORDERS_CAUGHT), by_pct);
    }));
    let said = found.expect_err("a mistake on purpose that no order of the threads shows: the test is blind");
    match said.downcast::<String>() {
        Ok(said) => *said,
        Err(said) => said
            .downcast::<&'static str>()
            .map_or_else(|_| "something else".to_owned(), |said| (*said).to_owned()),
    }
}

fn run(scheduler: impl Scheduler + 'static, body: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.stack_size = STACK_BYTES;
    Runner::new(scheduler, config).run(body);
}
