//! Clients at work: in a closed loop, where each asks again as soon as it has its answer, or in an open one, where they
//! take what a schedule brings.

use super::distribution::Zipfian;
use super::hands::{Hands, Keys, Witness};
use super::history::{Asked, Came, History};
use super::pacer::Pacer;
use super::workload::{Picker, Workload};
use crate::clock;
use anyhow::bail;
use bytes::Bytes;
use client::{Error, RawClient};
use env::{Dice as _, SplitMix};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use types::Key;

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
    /// Pairs of each scan; where scans differ, of the longest.
    pub(crate) scan_pairs: u64,
    /// How many operations begin each second, all clients together; `None`: each as soon as its client is free.
    pub(crate) rate: Option<NonZeroU32>,
}

/// How many keys are written at once before reads.
const FILL_BATCH: u64 = 1000;

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
    /// Operations that were due and that no client was free to begin: the rate is too high.
    pub(crate) never_begun: u64,
    /// The first failure of any kind.
    pub(crate) first_error: Option<Error>,
    /// In microseconds, from when an operation was to begin; of those never begun, until the end.
    pub(crate) latency: Histogram<u64>,
}

impl Numbers {
    pub(crate) fn throughput(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

/// One client at work.
pub(crate) trait Hand: Send + 'static {
    /// Does one thing.
    fn once(&mut self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A client of raw keys.
struct RawHand {
    hands: Hands,
    picker: Picker,
}

impl Hand for RawHand {
    async fn once(&mut self) -> Result<(), Error> {
        self.hands.perform(self.picker.next()).await
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
    /// The schedule of an open loop.
    pacer: Option<Pacer>,
    /// From when on an open loop counts what was to begin.
    counts_from: Mutex<Option<Instant>>,
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

    fn record(&mut self, took: Duration) {
        // A histogram begins at one.
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latency.record(micros).expect("the histogram grows as needed");
    }
}

/// Writes all keys, so that reads find them.
pub(crate) async fn fill(
    client: &RawClient,
    load: &Load,
    history: Option<&Arc<History>>,
) -> anyhow::Result<()> {
    let mut dice = SplitMix::new(1).fork("fill");
    let keys = Keys::new(history.map(Arc::as_ref));
    // A process beside the clients.
    let mut witness = history.map(|history| Witness::new(Arc::clone(history), load.clients as u64));
    let mut first = 0;
    while first < load.keys {
        let end = load.keys.min(first + FILL_BATCH);
        let mut value = || match &mut witness {
            Some(witness) => witness.value(load.value_size),
            None => value(load.value_size, &mut dice),
        };
        let pairs: Vec<(Key, Bytes)> = (first..end).map(|number| (keys.key(number), value())).collect();
        let start = history.map_or(0, |history| history.now());
        client.batch_put(pairs.clone()).await?;
        if let Some(witness) = &witness {
            for (key, value) in &pairs {
                witness.note(key, Asked::Put(value), start, Came::Written);
            }
        }
        first = end;
    }
    Ok(())
}

/// Sets clients to work, spread over these connections; nothing is counted yet.
pub(crate) fn start(connections: &[RawClient], load: Load, history: Option<&Arc<History>>) -> Running {
    let names = Keys::new(history.map(Arc::as_ref));
    let keys = Arc::new(AtomicU64::new(load.keys));
    let zipfian = Zipfian::new(load.keys);
    start_all(load.clients, load.rate, |number| {
        let client = connections[number % connections.len()].clone();
        let mut dice = SplitMix::new(number as u64).fork("client");
        let value = value(load.value_size, &mut dice);
        let picker = Picker::new(load.workload, load.scan_pairs, dice, zipfian.clone(), Arc::clone(&keys));
        let witness = history.map(|history| Witness::new(Arc::clone(history), number as u64));
        RawHand { hands: Hands::new(client, names.clone(), value, witness), picker }
    })
}

/// Sets so many clients to work; nothing is counted yet.
pub(crate) fn start_all<H: Hand>(
    clients: usize,
    rate: Option<NonZeroU32>,
    make: impl FnMut(usize) -> H,
) -> Running {
    let shared = Arc::new(Shared {
        is_counting: AtomicBool::new(false),
        is_stopped: AtomicBool::new(false),
        pacer: rate.map(Pacer::start),
        counts_from: Mutex::new(None),
        counts: Mutex::new(Counts::new()),
    });
    let mut tasks = JoinSet::new();
    for hand in (0..clients).map(make) {
        tasks.spawn(work(hand, Arc::clone(&shared)));
    }
    Running { shared, tasks, begin: clock::now() }
}

impl Running {
    /// From here on it counts.
    pub(crate) fn begin(&mut self) {
        self.begin = clock::now();
        *self.shared.counts_from.lock() = Some(self.begin);
        self.shared.is_counting.store(true, Ordering::Relaxed);
    }

    /// No longer counts, and says what it has counted in a closed loop.
    pub(crate) fn end(&self) -> Numbers {
        self.shared.is_counting.store(false, Ordering::Relaxed);
        self.take(self.begin.elapsed(), 0)
    }

    fn take(&self, counted: Duration, never_begun: u64) -> Numbers {
        let counts = std::mem::replace(&mut *self.shared.counts.lock(), Counts::new());
        Numbers {
            seconds: counted.as_secs_f64(),
            operations: counts.latency.len() - never_begun,
            never_begun,
            errors: counts.errors,
            undetermined: counts.undetermined,
            first_error: counts.first_error,
            latency: counts.latency,
        }
    }

    /// Lets every client end what it has begun.
    pub(crate) async fn stop(mut self) {
        self.wait_stopped().await;
    }

    async fn wait_stopped(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Ends it, and says what it has counted. An open loop counts all that was to begin, however late it ended.
    pub(crate) async fn finish(mut self) -> Numbers {
        let Some(pacer) = &self.shared.pacer else {
            let numbers = self.end();
            self.wait_stopped().await;
            return numbers;
        };
        let counted = self.begin.elapsed();
        let missed: Vec<Instant> =
            pacer.stop().into_iter().filter(|intended| *intended >= self.begin).collect();
        {
            let mut counts = self.shared.counts.lock();
            missed.iter().for_each(|intended| counts.record(intended.elapsed()));
        }
        self.wait_stopped().await;
        self.take(counted, missed.len() as u64)
    }
}

impl Shared {
    /// Waits until a client may begin, and says since when it could; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        match &self.pacer {
            Some(pacer) => pacer.next().await,
            None => (!self.is_stopped.load(Ordering::Relaxed)).then(clock::now),
        }
    }

    /// Whether an operation counts that was to begin then and has ended now.
    fn counts(&self, intended: Instant) -> bool {
        match self.pacer {
            Some(_) => self.counts_from.lock().is_some_and(|from| intended >= from),
            None => self.is_counting.load(Ordering::Relaxed),
        }
    }
}

async fn work(mut hand: impl Hand, shared: Arc<Shared>) {
    while let Some(intended) = shared.next().await {
        let result = hand.once().await;
        let took = intended.elapsed();
        if !shared.counts(intended) {
            continue;
        }
        let mut counts = shared.counts.lock();
        match result {
            Ok(()) => counts.record(took),
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
    history: Option<&Arc<History>>,
) -> anyhow::Result<Numbers> {
    if load.workload.reads() {
        fill(&connections[0], &load, history).await?;
    }
    let mut running = start(connections, load, history);
    clock::pause(warm_up).await;
    running.begin();
    clock::pause(duration).await;
    let numbers = running.finish().await;
    if numbers.operations == 0 {
        match numbers.first_error {
            Some(error) => return Err(anyhow::Error::new(error).context("no operation succeeded")),
            None if numbers.never_begun > 0 => {
                bail!(
                    "clients were still busy with what was due before: lower --rate, or give more --clients"
                )
            }
            None => bail!("no operation ended within {duration:?}: give it a longer --duration"),
        }
    }
    Ok(numbers)
}
