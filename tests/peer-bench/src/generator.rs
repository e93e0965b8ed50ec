//! The closed loop that drives those whom we talk to from this process: so many clients, each of which asks again as
//! soon as it has its answer.
//!
//! Clients share connections. What they find is checked: an answer that lacks the keys asked for is a failure.

use crate::clock;
use crate::driver::{Measured, Timing, Usage};
use crate::workload::{Operation, Workload};
use anyhow::bail;
use bytes::Bytes;
use env::SplitMix;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// What one client asks through. A clone shares what it stands on.
pub(crate) trait Connection: Clone + Send + Sync + 'static {
    /// Does it, and checks what comes back. `value` is what puts put.
    fn perform(
        &mut self,
        operation: Operation,
        value: &Bytes,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

#[derive(Default)]
struct Shared {
    is_counting: AtomicBool,
    is_stopped: AtomicBool,
}

#[derive(Default)]
struct Counts {
    latencies: Vec<u32>,
    errors: u64,
    first_error: Option<String>,
}

/// A runtime as both our client's users and the peer's would make it.
pub(crate) fn runtime(threads: usize) -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}

/// Sets clients to work, spread over these connections, and measures; `usage` is asked at the begin and at the end of
/// what counts.
pub(crate) fn run<C: Connection>(
    runtime: &Runtime,
    connections: &[C],
    workload: &Workload,
    timing: Timing,
    mut usage: impl FnMut() -> anyhow::Result<Usage>,
) -> anyhow::Result<Measured> {
    let shared = Arc::new(Shared::default());
    let mut tasks = JoinSet::new();
    for number in 0..workload.clients {
        let connection = connections[number % connections.len()].clone();
        let dice = SplitMix::new(number as u64).fork(workload.name);
        tasks.spawn_on(work(connection, *workload, dice, Arc::clone(&shared)), runtime.handle());
    }
    clock::pause(timing.warm_up);
    let before = usage()?;
    let begin = clock::now();
    shared.is_counting.store(true, Ordering::Relaxed);
    clock::pause(timing.counted);
    shared.is_counting.store(false, Ordering::Relaxed);
    let seconds = begin.elapsed().as_secs_f64();
    let after = usage()?;
    shared.is_stopped.store(true, Ordering::Relaxed);
    let mut measured = Measured { seconds, ..Measured::default() };
    let all = runtime.block_on(tasks.join_all());
    for counts in all {
        measured.latencies.extend(counts.latencies);
        measured.errors += counts.errors;
        measured.first_error = measured.first_error.or(counts.first_error);
    }
    measured.latencies.sort_unstable();
    measured.operations = measured.latencies.len() as f64 * workload.kind.weight() as f64;
    if measured.latencies.is_empty() {
        bail!("{}: no call succeeded; the first failure: {:?}", workload.name, measured.first_error);
    }
    Ok(measured.with_usage(before, after))
}

async fn work<C: Connection>(
    mut connection: C,
    workload: Workload,
    mut dice: SplitMix,
    shared: Arc<Shared>,
) -> Counts {
    let mut counts = Counts::default();
    let value = Bytes::from(workload.data.value(&mut dice));
    while !shared.is_stopped.load(Ordering::Relaxed) {
        let operation = workload.next(&mut dice);
        let begin = clock::now();
        let result = connection.perform(operation, &value).await;
        let took = begin.elapsed();
        if !shared.is_counting.load(Ordering::Relaxed) {
            continue;
        }
        match result {
            Ok(()) => counts.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX)),
            Err(error) => {
                counts.errors += 1;
                counts.first_error.get_or_insert_with(|| format!("{error:#}"));
                // Whoever fails at once should not spin.
                tokio::task::yield_now().await;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;
    use std::time::Duration;

    #[derive(Clone)]
    struct Fake {
        fails: bool,
    }

    impl Connection for Fake {
        async fn perform(&mut self, _: Operation, _: &Bytes) -> anyhow::Result<()> {
            tokio::task::yield_now().await;
            if self.fails { bail!("no") } else { Ok(()) }
        }
    }

    fn run_fakes(fakes: &[Fake]) -> anyhow::Result<Measured> {
        let timing = Timing { warm_up: Duration::ZERO, counted: Duration::from_millis(20) };
        let batch = WORKLOADS.iter().find(|workload| workload.name == "put_batch100").unwrap();
        run(&runtime(1).unwrap(), fakes, batch, timing, || Ok(Usage::default()))
    }

    #[test]
    fn keys_of_batches_are_counted_and_failures_told() {
        let measured = run_fakes(&[Fake { fails: false }, Fake { fails: true }]).unwrap();
        assert_eq!(measured.operations, measured.latencies.len() as f64 * 100.0);
        assert!(measured.errors > 0);
        assert_eq!(measured.first_error.as_deref(), Some("no"));
    }

    #[test]
    fn nothing_but_failures_is_no_measurement() {
        let error = run_fakes(&[Fake { fails: true }]).unwrap_err().to_string();
        assert!(error.contains("no call succeeded"), "{error}");
    }
}
