//! Lists that many append to and read: what each transaction saw says whether all of it can have happened.

use super::{Counter, Manner, PREFIX, Violations};
use crate::clock;
use bytes::Bytes;
use client::{Error, Isolation, TxnClient};
use env::{Dice as _, SplitMix};
use isolation::{History, Outcome, Step, judge};
use parking_lot::Mutex;
use std::time::Instant;
use types::Key;

/// Lists that are wanted at the same time at most.
const LISTS_MAX: u64 = 64;
/// After so many appends a list is left, and a new one begun.
const APPENDS_PER_LIST: u64 = 32;
/// Transactions that are kept; those that come after are not made.
const TRANSACTIONS_MAX: usize = 200_000;

pub(in crate::bench) struct Lists {
    lists: u64,
    /// What sets its keys apart from those of earlier runs.
    run: u64,
    begun: Instant,
    elements: Counter,
    history: Mutex<History>,
}

impl Lists {
    pub(super) async fn open(client: &TxnClient, keys: u64) -> Result<Self, Error> {
        Ok(Self {
            lists: keys.clamp(1, LISTS_MAX),
            run: client.timestamp().await?.0,
            begun: clock::now(),
            elements: Counter::default(),
            history: Mutex::default(),
        })
    }

    pub(super) fn history(&self) -> History {
        self.history.lock().clone()
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn key(&self, list: u64) -> Key {
        format!("{PREFIX}list/{:x}/{list:08}", self.run).into()
    }

    pub(super) async fn once(
        &self,
        client: &TxnClient,
        manner: Manner,
        process: u64,
        dice: &mut SplitMix,
    ) -> Result<(), Error> {
        let mut steps = Vec::new();
        for _ in 0..1 + dice.below(4) {
            let appends = dice.chance(1, 2);
            let element = self.elements.next();
            let list = element / (2 * APPENDS_PER_LIST * self.lists) * self.lists + dice.below(self.lists);
            steps.push(match appends {
                true => Step::Append { list, element },
                false => Step::Read { list, elements: None },
            });
        }
        let begun_ns = self.now_ns();
        let result = self.transact(client, manner, steps.clone()).await;
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(Error::Undetermined { .. }) => Outcome::Unknown,
            Err(_) => Outcome::NotDone,
        };
        let (steps, result) = match result {
            Ok(done) => (done, Ok(())),
            Err(error) => (steps, Err(error)),
        };
        let transactions = &mut self.history.lock().transactions;
        if transactions.len() < TRANSACTIONS_MAX {
            let ended_ns = self.now_ns();
            transactions.push(isolation::Transaction { process, begun_ns, ended_ns, outcome, steps });
        }
        result
    }

    async fn transact(
        &self,
        client: &TxnClient,
        manner: Manner,
        mut steps: Vec<Step>,
    ) -> Result<Vec<Step>, Error> {
        let mut transaction = manner.begin(client);
        for step in &mut steps {
            let (Step::Append { list, .. } | Step::Read { list, .. }) = step;
            let key = self.key(*list);
            // Who reserves at all reserves whatever it reads: only so it sees everything as of one moment.
            let value = manner.read(&mut transaction, key.clone()).await?;
            match step {
                Step::Read { elements: seen, .. } => *seen = Some(elements(value.as_ref())),
                Step::Append { element, .. } => {
                    let mut text = value.map(|value| value.to_vec()).unwrap_or_default();
                    text.extend_from_slice(format!("{element} ").as_bytes());
                    transaction.put(key, text).await?;
                }
            }
        }
        transaction.commit().await.map(|_| steps)
    }

    /// What has happened that transactions of this kind do not do.
    pub(super) fn violations(&self, manner: Manner) -> Violations {
        let history = self.history.lock();
        let mut verdict = judge(&history);
        if manner.isolation == Isolation::Serializable {
            verdict.anomalies.extend(verdict.write_skew.take());
        }
        let skew = if verdict.write_skew.is_some() { "; write skew, which is allowed, was seen" } else { "" };
        Violations {
            count: verdict.anomalies.len() as u64,
            first: verdict.anomalies.first().map(ToString::to_string),
            looked: format!("{} transactions on lists{skew}", history.transactions.len()),
        }
    }
}

/// What is no list of ours shows as numbers that nobody appended.
fn elements(value: Option<&Bytes>) -> Vec<u64> {
    let text = String::from_utf8_lossy(value.map_or(&[][..], |value| value));
    text.split_whitespace().map(|element| element.parse().unwrap_or_default()).collect()
}
