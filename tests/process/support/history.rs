//! What clients did and saw, for the linearizability checker, and the clients that do it.

use super::run::Run;
use bytes::Bytes;
use client::{Error, RawClient};
use env::{Dice as _, SplitMix};
use parking_lot::Mutex;
use sim::check::{
    Action, DEFAULT_STEPS_MAX, Operation, Outcome, Recorder, Verdict, linearizable, write_history,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A key is left alone after so many operations, which keeps the check of each short.
const OPERATIONS_PER_KEY: u64 = 150;
/// Keys in use at a time.
const SLOTS: u64 = 12;
/// Between two operations of a client: faults are to fall among operations, not to fight for the processor.
const PAUSE: Duration = Duration::from_millis(2);

/// Everything that was done.
#[derive(Clone)]
pub(crate) struct History {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Instant,
    recorder: Mutex<Recorder>,
    /// Operations begun on each slot: what decides which key it stands for.
    begun: [AtomicU64; SLOTS as usize],
}

/// How operations ended.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tally {
    counts: Arc<[AtomicU64; 3]>,
}

/// A tally's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    /// The answer came.
    pub(crate) acknowledged: u64,
    /// Promised not to be done.
    pub(crate) refused: u64,
    /// Writes of which nobody knows.
    pub(crate) unknown: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, refused, unknown } = self;
        write!(f, "{acknowledged} operations acknowledged, {refused} refused, {unknown} of unknown outcome")
    }
}

impl Tally {
    pub(crate) fn counts(&self) -> Counts {
        let [acknowledged, refused, unknown] =
            [0, 1, 2].map(|at: usize| self.counts[at].load(Ordering::Relaxed));
        Counts { acknowledged, refused, unknown }
    }

    fn count(&self, outcome: &Outcome) {
        let at = match outcome {
            Outcome::NotDone => 1,
            Outcome::Unknown => 2,
            Outcome::Value(_) | Outcome::Written | Outcome::Swapped { .. } => 0,
        };
        self.counts[at].fetch_add(1, Ordering::Relaxed);
    }
}

impl History {
    pub(crate) fn new() -> Self {
        let begun = [(); SLOTS as usize].map(|()| AtomicU64::new(0));
        Self { shared: Arc::new(Shared { origin: Instant::now(), recorder: Mutex::default(), begun }) }
    }

    /// Records one operation from before its request leaves until after its answer has come.
    pub(crate) async fn record(
        &self,
        process: u64,
        key: &Bytes,
        action: Action,
        perform: impl Future<Output = Outcome>,
    ) -> Outcome {
        let now =
            || u64::try_from(self.shared.origin.elapsed().as_nanos()).expect("tests end within centuries");
        let id = {
            let mut recorder = self.shared.recorder.lock();
            recorder.invoke(now(), process, key.clone(), action)
        };
        let outcome = perform.await;
        if outcome != Outcome::Unknown {
            let mut recorder = self.shared.recorder.lock();
            recorder.complete(now(), id, outcome.clone());
        }
        outcome
    }

    /// The key that a slot stands for now: keys begin with a letter from `a` on, one for each slot.
    fn key(&self, slot: u64) -> Bytes {
        let begun =
            self.shared.begun[usize::try_from(slot).expect("below SLOTS")].fetch_add(1, Ordering::Relaxed);
        let letter = char::from(b'a' + u8::try_from(slot).expect("below SLOTS"));
        format!("{letter}/{:06}", begun / OPERATIONS_PER_KEY).into()
    }

    /// Places that cut the keys in use into `parts` parts of about the same load.
    pub(crate) fn split_keys(parts: u64) -> Vec<Bytes> {
        let letter = |part: u64| char::from(b'a' + u8::try_from(part * SLOTS / parts).expect("below SLOTS"));
        (1..parts).map(|part| letter(part).to_string().into()).collect()
    }

    fn keys(&self) -> BTreeSet<Bytes> {
        self.shared.recorder.lock().operations().iter().map(|operation| operation.key.clone()).collect()
    }

    /// Reads every key that was ever used, as a part of the history. Every read must succeed.
    pub(crate) async fn read_back(&self, client: &RawClient) -> usize {
        let keys = self.keys();
        for chunk in keys.iter().collect::<Vec<_>>().chunks(16) {
            let reads = chunk.iter().map(|key| async move {
                let perform = async {
                    let value = client.get((*key).clone()).await;
                    Outcome::Value(value.unwrap_or_else(|error| panic!("reading {key:?} back: {error}")))
                };
                self.record(READ_BACK, key, Action::Get, perform).await;
            });
            futures_util::future::join_all(reads).await;
        }
        keys.len()
    }

    /// Checks the whole of it; on a violation it is kept as a file, and the test fails.
    pub(crate) fn check(&self, run: &Run, directory: &Path) {
        let history: Vec<Operation> = self.shared.recorder.lock().operations().to_vec();
        let begin = Instant::now();
        let verdict = linearizable(&history, DEFAULT_STEPS_MAX);
        if verdict == Verdict::Linearizable {
            lost_writes(&history);
            run.say(format!(
                "linearizable: {} operations on {} keys, checked in {:.1} s",
                history.len(),
                self.keys().len(),
                begin.elapsed().as_secs_f64()
            ));
            return;
        }
        let file = directory.join("history.jsonl");
        std::fs::write(&file, write_history(&history)).expect("the history can be kept");
        match verdict {
            Verdict::Violation(violation) => panic!("{violation}\nthe history is in {}", file.display()),
            other => panic!("{other:?}; the history is in {}", file.display()),
        }
    }
}

/// The reader at the end.
const READ_BACK: u64 = 1_000_000;

/// What the last read of each key found is what somebody wrote, and was not promised not to be done. The checker implies
/// it; this says it in words that need no search.
fn lost_writes(history: &[Operation]) {
    let mut keys: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    for operations in keys.values() {
        for last in operations.iter().filter(|operation| operation.process == READ_BACK) {
            let Outcome::Value(found) = &last.outcome else { panic!("a read back has a value: {last}") };
            match found {
                None => assert!(!is_owed(operations), "an acknowledged write is gone: {last}"),
                Some(value) => assert!(
                    operations.iter().any(|operation| may_have_written(operation, value)),
                    "nobody wrote this, or it was promised not to be written: {last}"
                ),
            }
        }
    }
}

/// Whether something was written here for certain, and nobody may have removed it.
fn is_owed(operations: &[&Operation]) -> bool {
    let removed =
        |operation: &&Operation| operation.action == Action::Delete && operation.outcome != Outcome::NotDone;
    let put = |operation: &&Operation| {
        matches!(operation.action, Action::Put(_)) && operation.outcome == Outcome::Written
    };
    operations.iter().any(put) && !operations.iter().any(removed)
}

fn may_have_written(operation: &Operation, value: &Bytes) -> bool {
    let writes = match &operation.action {
        Action::Put(put) => put == value,
        Action::CompareAndSwap { new, .. } => new.as_ref() == Some(value),
        Action::Get | Action::Delete => false,
    };
    writes && operation.outcome != Outcome::NotDone
}

/// What an error of a write means.
pub(crate) fn outcome_of(error: &Error) -> Outcome {
    match error {
        Error::Undetermined { .. } => Outcome::Unknown,
        Error::DeadlineExceeded | Error::Unavailable { .. } | Error::DiskFull => Outcome::NotDone,
        other => panic!("no fault explains this answer: {other}"),
    }
}

/// Clients at work, until they are told to stop.
pub(crate) struct Load {
    stopped: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    pub(crate) tally: Tally,
}

impl Load {
    /// Starts one client for each of `clients`.
    pub(crate) fn start(
        history: &History,
        tally: &Tally,
        dice: &SplitMix,
        first_process: u64,
        clients: impl IntoIterator<Item = RawClient>,
    ) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let work = |(number, client): (usize, RawClient)| {
            let process = first_process + number as u64;
            let worker = Worker {
                history: history.clone(),
                tally: tally.clone(),
                dice: dice.fork(&format!("client {process}")),
                process,
                client,
                written: 0,
                seen: None,
            };
            tokio::spawn(worker.work(Arc::clone(&stopped)))
        };
        let clients = clients.into_iter().enumerate().map(work).collect();
        Self { stopped, clients, tally: tally.clone() }
    }

    /// Tells all clients to stop, and waits for what they have under way.
    pub(crate) async fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("a client met something that no fault explains");
        }
    }
}

struct Worker {
    history: History,
    tally: Tally,
    dice: SplitMix,
    process: u64,
    client: RawClient,
    written: u64,
    /// What was read last, for compare-and-swap.
    seen: Option<Option<Bytes>>,
}

impl Worker {
    async fn work(mut self, stopped: Arc<AtomicBool>) {
        while !stopped.load(Ordering::Relaxed) {
            let slot = self.dice.below(SLOTS);
            let key = self.history.key(slot);
            let action = self.action();
            let outcome =
                self.history.record(self.process, &key, action.clone(), perform(&self.client, &key, action));
            let outcome = outcome.await;
            self.tally.count(&outcome);
            if let Outcome::Value(value) = outcome {
                self.seen = Some(value);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn action(&mut self) -> Action {
        match self.dice.below(100) {
            0..40 => Action::Get,
            40..85 => Action::Put(self.value()),
            85..90 => Action::Delete,
            _ => {
                let expected = self.seen.clone().flatten();
                Action::CompareAndSwap { expected, new: Some(self.value()) }
            }
        }
    }

    /// A value that nobody else writes.
    fn value(&mut self) -> Bytes {
        self.written += 1;
        format!("{}.{}", self.process, self.written).into()
    }
}

/// Has a client do it.
pub(crate) async fn perform(client: &RawClient, key: &Bytes, action: Action) -> Outcome {
    let written = |result: Result<(), Error>| match result {
        Ok(()) => Outcome::Written,
        Err(error) => outcome_of(&error),
    };
    match action {
        Action::Get => match client.get(key.clone()).await {
            Ok(value) => Outcome::Value(value),
            Err(error) => outcome_of(&error),
        },
        Action::Put(value) => written(client.put(key.clone(), value).await),
        Action::Delete => written(client.delete(key.clone()).await),
        Action::CompareAndSwap { expected, new } => {
            match client.compare_and_swap(key.clone(), expected, new).await {
                Ok(swap) => Outcome::Swapped { succeeded: swap.succeeded, previous: Some(swap.previous) },
                Err(error) => outcome_of(&error),
            }
        }
    }
}
