//! What clients do: operations on a few keys that many want at once, each written value unique.

use crate::bank::{BankConfig, Books};
use crate::check::{Action, Broken, OpId, Outcome, Recorder, Timestamps};
use crate::counters::Counters;
use crate::fields::{Fields, Unreadable, duration_text};
use crate::kernel::NodeId;
use crate::lists::ListsConfig;
use crate::time::SimTime;
use bytes::Bytes;
use env::{Dice, SplitMix};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;
use types::StoreId;
use wire::pd::StoreMode;

/// How much of what clients do. Drawn for each seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkloadConfig {
    /// How many keys there are.
    pub keys: u64,
    /// How many processes each client node runs.
    pub processes: usize,
    /// A process rests up to this long between two operations.
    pub rest_max: Duration,
    /// How long an operation may take.
    pub deadline: Duration,
    /// Weights of [`Request`]'s variants, in their order.
    pub weights: [u64; KINDS],
    /// How many requests each process makes at most; for making a failure smaller.
    pub requests_max: u64,
    /// Of so many requests, a process makes one with a new client, which does not know yet where regions are; zero for
    /// none. Such clients find a new leader while others still ask the old one.
    pub forgets_one_in: u64,
    /// Whether timestamps are asked for.
    pub timestamps: bool,
    /// What is done in transactions.
    pub bank: BankConfig,
    /// What else is.
    pub lists: ListsConfig,
}

/// How many kinds of requests there are.
pub(crate) const KINDS: usize = 10;
/// How many there were when schedules were first kept.
const KINDS_BEFORE: usize = 8;
/// How many counters there are: few, so that many count the same.
const COUNTERS: u64 = 2;
/// A reader that takes its time rests up to so long between two pairs.
const READER_REST_MAX: Duration = Duration::from_millis(1_500);

impl WorkloadConfig {
    /// A workload for one seed.
    #[must_use]
    pub fn draw(dice: &mut SplitMix) -> Self {
        // Each kind of operation is left out of some runs, so that rare mixtures occur; gets and puts never are.
        let mut weights = [30, 30, 5, 15, 6, 6, 6, 1, 0, 0];
        for weight in &mut weights[2..KINDS_BEFORE] {
            *weight *= dice.below(3);
        }
        let mut rare = dice.fork("counters and readers");
        if rare.chance(1, 2) {
            weights[8] = 8 * rare.below(3);
            weights[9] = 2 * rare.below(3);
        }
        Self {
            keys: 1 + dice.below(12),
            processes: 1 + usize::try_from(dice.below(6)).expect("small"),
            rest_max: Duration::from_millis(4 << dice.below(7)),
            deadline: Duration::from_millis(500 + dice.below(10_000)),
            weights,
            requests_max: 1 << 20,
            forgets_one_in: [0, 2, 10][usize::try_from(dice.below(3)).expect("an index")],
            timestamps: dice.chance(1, 3),
            bank: BankConfig::default(),
            lists: ListsConfig::default(),
        }
    }

    /// Reads what `Display` has written.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub(crate) fn parse(fields: &mut Fields<'_>) -> Result<Self, Unreadable> {
        let keys = fields.number("keys")?;
        let text = fields.text("weights")?;
        let weights: Option<Vec<u64>> = text.split(',').map(|weight| weight.parse().ok()).collect();
        let weights: Option<[u64; KINDS]> = weights.and_then(|mut weights| {
            // Of requests that were unknown when the schedule was kept, there are none in it.
            if weights.len() == KINDS_BEFORE {
                weights.resize(KINDS, 0);
            }
            weights.try_into().ok()
        });
        let is_some =
            |weights: &[u64; KINDS]| weights.iter().all(|weight| *weight < 1 << 32) && weights[0] > 0;
        let weights = weights.filter(is_some);
        if keys == 0 || keys > 1_000 {
            return Err(Unreadable(format!("keys: {keys} is not from 1 to 1000")));
        }
        Ok(Self {
            keys,
            weights: weights.ok_or_else(|| {
                Unreadable(format!("weights: {text:?} is not eight numbers, or ten, that fit"))
            })?,
            processes: fields.number("processes")?,
            rest_max: fields.duration("rest-max")?,
            deadline: fields.duration("deadline")?,
            requests_max: fields.number("requests-max")?,
            forgets_one_in: fields.number("forgets-one-in")?,
            timestamps: fields.flag("timestamps")?,
            bank: BankConfig::parse(fields)?,
            lists: ListsConfig::parse(fields)?,
        })
    }

    /// The name of a key.
    #[must_use]
    pub fn key(&self, number: u64) -> Bytes {
        Bytes::from(format!("key-{:02}", number % self.keys))
    }

    /// The names of all counters, in order. They lie before all other keys.
    pub fn counters(&self) -> impl Iterator<Item = Bytes> + use<> {
        let count = if self.weights[8] > 0 { COUNTERS } else { 0 };
        (0..count).map(|number| Bytes::from(format!("count-{number}")))
    }

    /// All keys, in order.
    pub fn all_keys(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.keys).map(|number| self.key(number))
    }
}

impl fmt::Display for WorkloadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights: Vec<String> = self.weights.iter().map(ToString::to_string).collect();
        write!(f, "keys={} weights={} processes={}", self.keys, weights.join(","), self.processes)?;
        write!(f, " rest-max={}", duration_text(self.rest_max))?;
        write!(f, " deadline={} requests-max={}", duration_text(self.deadline), self.requests_max)?;
        write!(f, " forgets-one-in={} timestamps={}", self.forgets_one_in, self.timestamps)?;
        if self.bank != BankConfig::default() {
            write!(f, " {}", self.bank)?;
        }
        if self.lists == ListsConfig::default() { Ok(()) } else { write!(f, " {}", self.lists) }
    }
}

/// What an operator does, on behalf of the plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Cuts the region of a key, in the words of the region layer, there.
    Split(Bytes),
    /// Hands leadership over: of which region, to which of its peers, both counted round and round.
    Transfer(u64, u64),
    /// Changes the members of which region, by which of its peers and which of all stores, all counted round and round.
    Members(Change, u64, u64, u64),
    /// Ends what is being done with which region.
    Cancel(u64),
    /// Forgets the log of which region.
    CompactLog(u64),
    /// Has which of all stores do what, counted round and round.
    Mode(u64, StoreMode),
}

/// How an operator changes the members of a region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Change {
    /// One more.
    Add,
    /// One less.
    Remove,
    /// One in the place of another.
    Move,
}

impl Change {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Add, Self::Remove, Self::Move];

    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add-peer",
            Self::Remove => "remove-peer",
            Self::Move => "transfer-peer",
        }
    }
}

/// One operation of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Read a key.
    Get(Bytes),
    /// Set a key.
    Put(Bytes, Bytes),
    /// Remove a key.
    Delete(Bytes),
    /// Set a key on condition.
    CompareAndSwap {
        /// The key.
        key: Bytes,
        /// What it must hold.
        expected: Option<Bytes>,
        /// What it then holds.
        new: Option<Bytes>,
    },
    /// Set several keys, each for itself.
    BatchPut(Vec<(Bytes, Bytes)>),
    /// Read several keys.
    BatchGet(Vec<Bytes>),
    /// Read all keys of the workload, in order or in reverse.
    Scan {
        /// From the end.
        reverse: bool,
    },
    /// Remove all keys of the workload from this one on.
    DeleteFrom(Bytes),
    /// Count one more under a key, by reading and swapping until it works.
    Increment(Bytes),
    /// Read all keys of the workload as somebody does who takes their time.
    ReadSlowly {
        /// From the end.
        reverse: bool,
        /// So many pairs are asked for at once.
        page_pairs: u32,
        /// Rests up to so long between two pairs.
        rest_max: Duration,
    },
}

/// What one process draws its requests from.
#[derive(Debug)]
pub struct Generator {
    config: WorkloadConfig,
    process: u64,
    made: u64,
    requests: u64,
    /// What it has seen last under each key, to be expected by a swap.
    seen: BTreeMap<Bytes, Option<Bytes>>,
    dice: SplitMix,
}

impl Generator {
    /// Requests of the process with this number, which no other one has had.
    #[must_use]
    pub fn new(mut config: WorkloadConfig, process: u64, mut dice: SplitMix) -> Self {
        match dice.below(4) {
            // Only reads: it never waits for a write that a deposed leader cannot finish, and so sees what that says.
            0 => config.weights = [30, 0, 0, 0, 0, 5, 1, 0, 0, config.weights[9]],
            // Writes at whoever leads by now: it neither waits for a deposed leader nor asks it again.
            1 if config.forgets_one_in > 0 => {
                config.forgets_one_in = 1;
                config.deadline = Duration::from_millis(40 + dice.below(400));
            }
            _ => {}
        }
        Self { config, process, made: 0, requests: 0, seen: BTreeMap::new(), dice }
    }

    /// How long the process rests before its next request.
    pub fn rest(&mut self) -> Duration {
        // Most rests are short: bursts are what makes queues.
        let drawn = self.dice.duration(Duration::ZERO, self.config.rest_max);
        if self.dice.chance(1, 3) { drawn / 50 } else { drawn }
    }

    /// Whether the next request is made by a new client.
    pub fn forgets(&mut self) -> bool {
        self.config.forgets_one_in > 0 && self.dice.chance(1, self.config.forgets_one_in)
    }

    /// How long its requests may take.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.config.deadline
    }

    /// Random numbers for something of its own.
    pub fn fork(&mut self) -> SplitMix {
        SplitMix::new(self.dice.next_u64())
    }

    fn key(&mut self) -> Bytes {
        let number = self.dice.below(self.config.keys);
        self.config.key(number)
    }

    fn keys(&mut self) -> Vec<Bytes> {
        let wanted = 1 + self.dice.below(self.config.keys.min(5));
        let first = self.dice.below(self.config.keys);
        (first..first + wanted).map(|number| self.config.key(number)).collect()
    }

    /// A value that was never written before.
    fn value(&mut self) -> Bytes {
        self.made += 1;
        Bytes::from(format!("v{}-{}", self.process, self.made))
    }

    /// The process has seen this under a key.
    pub fn saw(&mut self, key: &Bytes, value: Option<Bytes>) {
        self.seen.insert(key.clone(), value);
    }

    /// The next request; `None` if it has made all that it may make.
    pub fn request(&mut self) -> Option<Request> {
        self.requests += 1;
        (self.requests <= self.config.requests_max).then(|| self.draw_request())
    }

    fn draw_request(&mut self) -> Request {
        let total = self.config.weights.iter().sum();
        let mut drawn = self.dice.below(total);
        let kind = self.config.weights.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        match kind.expect("the draw is below the sum") {
            0 => Request::Get(self.key()),
            1 => Request::Put(self.key(), self.value()),
            2 => Request::Delete(self.key()),
            3 => {
                let key = self.key();
                let expected = self.seen.get(&key).cloned().unwrap_or_default();
                let new = (!self.dice.chance(1, 6)).then(|| self.value());
                Request::CompareAndSwap { key, expected, new }
            }
            4 => {
                let keys = self.keys();
                Request::BatchPut(keys.into_iter().map(|key| (key, self.value())).collect())
            }
            5 => Request::BatchGet(self.keys()),
            6 => Request::Scan { reverse: self.dice.chance(1, 2) },
            7 => Request::DeleteFrom(self.key()),
            8 => {
                let counters: Vec<_> = self.config.counters().collect();
                let number = usize::try_from(self.dice.below(COUNTERS)).expect("an index");
                Request::Increment(counters[number].clone())
            }
            _ => Request::ReadSlowly {
                reverse: self.dice.chance(1, 2),
                page_pairs: 1 + u32::try_from(self.dice.below(3)).expect("small"),
                rest_max: self.dice.duration(Duration::ZERO, READER_REST_MAX),
            },
        }
    }
}

/// What all clients of a run share: the record of what they asked and got.
#[derive(Debug)]
pub struct Session {
    /// The workload.
    pub config: WorkloadConfig,
    /// True time, as of what happens now.
    pub now: SimTime,
    /// The record.
    pub recorder: Recorder,
    /// Processes stop when this is over.
    pub is_over: bool,
    /// How many processes each client node has had.
    pub processes_made: BTreeMap<NodeId, u64>,
    /// What operators are to do, by the client node that asks, each with its number in the plan.
    pub orders: BTreeMap<NodeId, Vec<(u64, Operation)>>,
    /// The numbers of those that were done.
    pub ordered_done: Vec<u64>,
    /// Stores that were told to drain, and of which the placement driver said that they will.
    pub draining: BTreeSet<StoreId>,
    /// Stores that may have been told something else.
    pub undrained: BTreeSet<StoreId>,
    /// How requests ended.
    pub tally: Tally,
    /// Client nodes that have written and read every key after the faults ended.
    pub probes_done: usize,
    /// Why a probe failed last.
    pub probe_failure: Option<String>,
    /// Timestamps that were answered.
    pub timestamps: Timestamps,
    /// What was counted.
    pub counters: Counters,
    /// What the bank's people have seen.
    pub books: Books,
    /// What authors of lists have done.
    pub lists: isolation::History,
    /// Numbers that were drawn for lists.
    pub elements: u64,
    /// What clients have seen broken.
    pub broken: Option<Broken>,
}

/// How requests ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Done.
    pub done: u64,
    /// Refused for certain.
    pub refused: u64,
    /// Of unknown outcome.
    pub unknown: u64,
}

impl Session {
    /// A session in which nothing was asked yet.
    #[must_use]
    pub fn new(config: WorkloadConfig) -> Self {
        Self {
            config,
            now: SimTime::ZERO,
            recorder: Recorder::new(),
            is_over: false,
            processes_made: BTreeMap::new(),
            orders: BTreeMap::new(),
            ordered_done: Vec::new(),
            draining: BTreeSet::new(),
            undrained: BTreeSet::new(),
            tally: Tally::default(),
            probes_done: 0,
            probe_failure: None,
            timestamps: Timestamps::default(),
            counters: Counters::default(),
            books: Books::default(),
            lists: isolation::History::default(),
            elements: 0,
            broken: None,
        }
    }

    /// A number for a new process, which does not depend on what other nodes do.
    pub fn new_process(&mut self, node: NodeId) -> u64 {
        let made = self.processes_made.entry(node).or_default();
        *made += 1;
        u64::from(node.0) * 100_000 + *made
    }

    /// A process asks.
    pub fn invoke(&mut self, process: u64, key: &Bytes, action: Action) -> OpId {
        self.recorder.invoke(self.now.0, process, key.clone(), action)
    }

    /// A counter was read, at a time when so many increments had been acknowledged.
    pub fn read_counter(&mut self, key: &Bytes, floor: u64, value: Option<&Bytes>) {
        if let Err(broken) = self.counters.read(key, floor, value) {
            self.broken.get_or_insert(broken);
        }
    }

    /// A process has its answer. Unknown outcomes stay open.
    pub fn complete(&mut self, id: OpId, outcome: Outcome) {
        if outcome != Outcome::Unknown {
            self.recorder.complete(self.now.0, id, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_value_is_written_once_and_every_kind_of_request_is_made() {
        let mut dice = SplitMix::new(1);
        let config = WorkloadConfig { weights: [1; KINDS], ..WorkloadConfig::draw(&mut dice) };
        let mut values = BTreeSet::new();
        let mut kinds = BTreeSet::new();
        for process in 0..3 {
            let mut generator = Generator::new(config.clone(), process, dice.fork(&process.to_string()));
            for _ in 0..200 {
                let request = generator.request().unwrap();
                kinds.insert(format!("{request:?}").split(['(', ' ']).next().unwrap().to_owned());
                let written = match request {
                    Request::Put(_, value) => vec![value],
                    Request::CompareAndSwap { new, .. } => new.into_iter().collect(),
                    Request::BatchPut(pairs) => pairs.into_iter().map(|(_, value)| value).collect(),
                    _ => Vec::new(),
                };
                for value in written {
                    assert!(values.insert(value.clone()), "{value:?} is written twice");
                }
            }
        }
        assert_eq!(kinds.len(), KINDS, "{kinds:?}");
    }
}
