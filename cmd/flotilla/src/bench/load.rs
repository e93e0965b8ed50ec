//! A closed loop: so many clients, each of which asks again as soon as it has its answer.

use crate::clock;
use anyhow::bail;
use bytes::Bytes;
use clap::ValueEnum;
use client::{Error, KeyRange, RawClient, ScanOptions};
use env::{Dice as _, SplitMix};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use types::Key;

/// What the clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Workload {
    /// Set a key drawn at random.
    Put,
    /// Read a key drawn at random.
    Get,
    /// Read the pairs that follow a key drawn at random.
    Scan,
}

impl Workload {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Scan => "scan",
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) workload: Workload,
    /// How many ask at the same time.
    pub(crate) clients: usize,
    /// Bytes of each value.
    pub(crate) value_size: usize,
    /// Keys to draw from.
    pub(crate) keys: u64,
    /// Pairs of each scan.
    pub(crate) scan_pairs: u64,
}

/// All keys of a benchmark begin so.
const PREFIX: &str = "bench/";
/// How many keys are written at once before reads.
const FILL_BATCH: u64 = 1000;

fn key(number: u64) -> Key {
    format!("{PREFIX}{number:016x}").into()
}

/// A value that does not compress: half the work of a benchmark should not be a matter of luck.
fn value(size: usize, dice: &mut SplitMix) -> Bytes {
    let mut value = Vec::with_capacity(size + 8);
    while value.len() < size {
        value.extend(dice.next_u64().to_le_bytes());
    }
    value.truncate(size);
    value.into()
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    pub(crate) seconds: f64,
    pub(crate) operations: u64,
    /// Operations that failed, and were not made.
    pub(crate) errors: u64,
    /// Operations of unknown outcome.
    pub(crate) undetermined: u64,
    /// The first failure of any kind.
    pub(crate) first_error: Option<Error>,
    /// In microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Numbers {
    pub(crate) fn throughput(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

/// Clients at work.
pub(crate) struct Running {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    begin: Instant,
}

struct Shared {
    is_counting: AtomicBool,
    is_stopped: AtomicBool,
    counts: Mutex<Counts>,
}

struct Counts {
    errors: u64,
    undetermined: u64,
    first_error: Option<Error>,
    latency: Histogram<u64>,
}

impl Counts {
    fn new() -> Self {
        Self {
            errors: 0,
            undetermined: 0,
            first_error: None,
            // Three figures, from a microsecond on; it grows as needed.
            latency: Histogram::new(3).expect("three figures are allowed"),
        }
    }
}

/// Writes all keys, so that reads find them.
pub(crate) async fn fill(client: &RawClient, load: &Load) -> anyhow::Result<()> {
    let mut dice = SplitMix::new(1).fork("fill");
    let mut first = 0;
    while first < load.keys {
        let end = load.keys.min(first + FILL_BATCH);
        let pairs: Vec<(Key, Bytes)> =
            (first..end).map(|number| (key(number), value(load.value_size, &mut dice))).collect();
        client.batch_put(pairs).await?;
        first = end;
    }
    Ok(())
}

/// Sets clients to work, spread over these connections; nothing is counted yet.
pub(crate) fn start(connections: &[RawClient], load: Load) -> Running {
    let shared = Arc::new(Shared {
        is_counting: AtomicBool::new(false),
        is_stopped: AtomicBool::new(false),
        counts: Mutex::new(Counts::new()),
    });
    let mut tasks = JoinSet::new();
    for number in 0..load.clients {
        let client = connections[number % connections.len()].clone();
        let dice = SplitMix::new(number as u64).fork("client");
        tasks.spawn(work(client, load, dice, Arc::clone(&shared)));
    }
    Running { shared, tasks, begin: clock::now() }
}

impl Running {
    /// From here on it counts.
    pub(crate) fn begin(&mut self) {
        self.begin = clock::now();
        self.shared.is_counting.store(true, Ordering::Relaxed);
    }

    /// No longer counts, and says what it has counted.
    pub(crate) fn end(&self) -> Numbers {
        self.shared.is_counting.store(false, Ordering::Relaxed);
        let seconds = self.begin.elapsed().as_secs_f64();
        let counts = std::mem::replace(&mut *self.shared.counts.lock(), Counts::new());
        Numbers {
            seconds,
            operations: counts.latency.len(),
            errors: counts.errors,
            undetermined: counts.undetermined,
            first_error: counts.first_error,
            latency: counts.latency,
        }
    }

    /// Lets every client end what it has begun.
    pub(crate) async fn stop(mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn work(client: RawClient, load: Load, mut dice: SplitMix, shared: Arc<Shared>) {
    let value = value(load.value_size, &mut dice);
    while !shared.is_stopped.load(Ordering::Relaxed) {
        let key = key(dice.below(load.keys));
        let begin = clock::now();
        let result = match load.workload {
            Workload::Put => client.put(key, value.clone()).await,
            Workload::Get => client.get(key).await.map(|_| ()),
            Workload::Scan => {
                let options = ScanOptions { limit: Some(load.scan_pairs), ..ScanOptions::default() };
                let range = KeyRange::new(key, KeyRange::prefix(PREFIX).end);
                match client.scan(range, options) {
                    Ok(scan) => scan.into_vec().await.map(|_| ()),
                    Err(error) => Err(error),
                }
            }
        };
        let took = begin.elapsed();
        if !shared.is_counting.load(Ordering::Relaxed) {
            continue;
        }
        let mut counts = shared.counts.lock();
        match result {
            Ok(()) => {
                // A histogram begins at one.
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
                counts.latency.record(micros).expect("the histogram grows as needed");
            }
            Err(error) => {
                if matches!(error, Error::Undetermined { .. }) {
                    counts.undetermined += 1;
                } else {
                    counts.errors += 1;
                }
                counts.first_error.get_or_insert(error);
            }
        }
    }
}

/// Runs a load for so long, after a warm-up that is not counted.
pub(crate) async fn run(
    connections: &[RawClient],
    load: Load,
    warm_up: Duration,
    duration: Duration,
) -> anyhow::Result<Numbers> {
    if load.workload != Workload::Put {
        fill(&connections[0], &load).await?;
    }
    let mut running = start(connections, load);
    clock::pause(warm_up).await;
    running.begin();
    clock::pause(duration).await;
    let numbers = running.end();
    running.stop().await;
    if numbers.operations == 0 {
        match numbers.first_error {
            Some(error) => return Err(anyhow::Error::new(error).context("no operation succeeded")),
            None => bail!("no operation ended within {duration:?}: give it a longer --duration"),
        }
    }
    Ok(numbers)
}
