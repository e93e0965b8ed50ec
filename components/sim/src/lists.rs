//! Lists: transactions that append numbers to lists which many want, and read lists.
//!
//! What each has seen says in which order it must stand to others; what cannot be brought in order is found when the run
//! is over, by its name ([`isolation`], INV-TXN-12). Authors begin optimistically and pessimistically, leave it to the
//! client to begin again, or walk away in the middle of a commit.

use crate::executor::Handle;
use crate::fields::{Fields, Unreadable};
use crate::workload::Session;
use bytes::Bytes;
use client_core::{Error, ScanOptions, Transaction, TxnClient};
use env::{Dice, SplitMix};
use futures_util::future::{Either, select};
use isolation::{Outcome, Step};
use parking_lot::Mutex;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use types::Key;

/// A transaction that pauses between two steps does so up to this long.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// After so many appends the lists are left, and new ones begun: long lists cost much and show no more.
const APPENDS_PER_LIST: u64 = 24;
/// Transactions that are kept for the end of the run; after that, nobody begins more.
const TRANSACTIONS_MAX: usize = 4_000;
/// What a transaction of unknown end is said to have ended at.
const NEVER: u64 = i64::MAX as u64;

/// How many lists there are, and who writes them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ListsConfig {
    /// Lists that are wanted at the same time; zero for none.
    pub lists: u64,
    /// Authors of each client node.
    pub authors: u64,
    /// Their transactions are serializable, and some look at lists as ranges: nothing is seen then that serial ones would
    /// not see.
    pub serializable: bool,
}

impl ListsConfig {
    /// Lists for one seed.
    #[must_use]
    pub fn draw(dice: &mut SplitMix) -> Self {
        let (lists, authors) = (1 + dice.below(6), 1 + dice.below(3));
        Self { lists, authors, serializable: dice.chance(1, 3) }
    }

    pub(crate) fn parse(fields: &mut Fields<'_>) -> Result<Self, Unreadable> {
        let (lists, authors) = (fields.added_number("lists")?, fields.added_number("authors")?);
        Ok(Self { lists, authors, serializable: fields.added_number::<u8>("serializable")? > 0 })
    }
}

impl fmt::Display for ListsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lists={} authors={}", self.lists, self.authors)?;
        if self.serializable { f.write_str(" serializable=1") } else { Ok(()) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Optimistic,
    /// Every list is reserved as it is read: only so does a transaction that reserves see all as of one moment.
    Pessimistic,
    /// The client begins again as it sees fit.
    Run,
    /// The author does not wait for the end of the commit.
    WalksAway,
    /// Nothing is written.
    Snapshot,
}

/// How a transaction reads lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    Gets,
    /// As what there is in a range: a list that nobody has begun yet is not there.
    Scans,
    Reserves,
}

/// Somebody who writes lists.
pub(crate) struct Author {
    pub(crate) client: TxnClient,
    pub(crate) session: Arc<Mutex<Session>>,
    pub(crate) handle: Handle,
    pub(crate) process: u64,
    pub(crate) dice: SplitMix,
}

impl Author {
    /// Works until the session is over.
    pub(crate) async fn run(mut self) {
        let config = self.session.lock().config.clone();
        let rest_max = config.rest_max * 2;
        if config.lists.serializable {
            self.client = self.client.serializable();
        }
        while !self.session.lock().is_over {
            let rest = self.dice.duration(Duration::ZERO, rest_max);
            self.handle.sleep(rest).await;
            let way = match self.dice.below(20) {
                0..=7 => Way::Optimistic,
                8..=11 => Way::Pessimistic,
                12..=15 => Way::Run,
                16 => Way::WalksAway,
                _ => Way::Snapshot,
            };
            let steps = self.draw_steps(way);
            let Some(place) = self.begins(&steps) else { return };
            let ended = self.transact(way, steps).await;
            self.ends(place, ended);
        }
    }

    /// After the faults have ended: reads what is there, so that what is lost is missed.
    pub(crate) async fn probe(mut self) {
        let config = self.session.lock().config.lists;
        let all =
            self.session.lock().elements / (APPENDS_PER_LIST * config.lists) * config.lists + config.lists;
        let steps: Vec<Step> = (all.saturating_sub(2 * config.lists)..all)
            .map(|list| Step::Read { list, elements: None })
            .collect();
        loop {
            let Some(place) = self.begins(&steps) else { return };
            let (outcome, steps) = self.transact(Way::Snapshot, steps.clone()).await;
            let is_done = outcome == Outcome::Done;
            self.ends(place, (outcome, steps));
            if is_done {
                return;
            }
            self.handle.sleep(Duration::from_millis(100)).await;
        }
    }

    fn draw_steps(&mut self, way: Way) -> Vec<Step> {
        let count = 1 + self.dice.below(4);
        let mut session = self.session.lock();
        let lists = session.config.lists.lists;
        let first = session.elements / (APPENDS_PER_LIST * lists) * lists;
        (0..count)
            .map(|_| {
                let list = first + self.dice.below(lists);
                if way == Way::Snapshot || self.dice.chance(1, 2) {
                    return Step::Read { list, elements: None };
                }
                session.elements += 1;
                Step::Append { list, element: session.elements }
            })
            .collect()
    }

    /// Writes down that a transaction begins; `None` if enough have.
    fn begins(&self, steps: &[Step]) -> Option<usize> {
        let mut session = self.session.lock();
        let begun_ns = session.now.0;
        let transactions = &mut session.lists.transactions;
        (transactions.len() < TRANSACTIONS_MAX).then(|| {
            // If its process dies nobody will ever say more.
            transactions.push(isolation::Transaction {
                process: self.process,
                begun_ns,
                ended_ns: NEVER,
                outcome: Outcome::Unknown,
                steps: steps.to_vec(),
            });
            transactions.len() - 1
        })
    }

    fn ends(&self, place: usize, (outcome, steps): (Outcome, Vec<Step>)) {
        let mut session = self.session.lock();
        let now = session.now.0;
        let transaction = &mut session.lists.transactions[place];
        transaction.outcome = outcome;
        transaction.steps = steps;
        transaction.ended_ns = if outcome == Outcome::Unknown { NEVER } else { now };
    }

    async fn transact(&mut self, way: Way, steps: Vec<Step>) -> (Outcome, Vec<Step>) {
        if way == Way::Snapshot {
            return match self.read(&steps).await {
                Ok(steps) => (Outcome::Done, steps),
                Err(_) => (Outcome::NotDone, steps),
            };
        }
        let serializable = self.session.lock().config.lists.serializable;
        let look = match way {
            Way::Pessimistic if !serializable => Look::Reserves,
            _ if serializable && self.dice.chance(1, 2) => Look::Scans,
            Way::Pessimistic => Look::Reserves,
            _ => Look::Gets,
        };
        if way == Way::Run {
            let last = Arc::new(Mutex::new(steps.clone()));
            let result = self
                .client
                .run(|mut transaction| {
                    let (last, steps) = (Arc::clone(&last), steps.clone());
                    async move {
                        let steps = write(&mut transaction, look, steps).await?;
                        *last.lock() = steps;
                        Ok::<(), Error>(())
                    }
                })
                .await;
            let steps = last.lock().clone();
            return (outcome_of(&result), steps);
        }
        let mut transaction = match way {
            Way::Pessimistic => self.client.begin_pessimistic(),
            _ => self.client.begin(),
        };
        let written = self.write_slowly(&mut transaction, look, steps.clone()).await;
        let Ok(steps) = written else {
            // What it leaves behind runs out.
            let _ = transaction.rollback().await;
            return (Outcome::NotDone, steps);
        };
        if way != Way::WalksAway {
            return (outcome_of(&transaction.commit().await), steps);
        }
        let patience = self.dice.duration(Duration::ZERO, PAUSE_MAX);
        let (commit, patience) = (pin!(transaction.commit()), pin!(self.handle.sleep(patience)));
        match select(commit, patience).await {
            Either::Left((result, _)) => (outcome_of(&result), steps),
            Either::Right(_) => (Outcome::Unknown, steps),
        }
    }

    async fn write_slowly(
        &mut self,
        transaction: &mut Transaction,
        look: Look,
        steps: Vec<Step>,
    ) -> Result<Vec<Step>, Error> {
        let mut done = Vec::with_capacity(steps.len());
        for step in steps {
            done.extend(write(transaction, look, vec![step]).await?);
            if self.dice.chance(1, 4) {
                let rest = self.dice.duration(Duration::ZERO, PAUSE_MAX);
                self.handle.sleep(rest).await;
            }
        }
        Ok(done)
    }

    async fn read(&self, steps: &[Step]) -> Result<Vec<Step>, Error> {
        let snapshot = self.client.latest().await?;
        let lists = steps.iter().filter_map(|step| match step {
            Step::Read { list, .. } => Some(*list),
            Step::Append { .. } => None,
        });
        let lists: Vec<u64> = lists.collect();
        let values = snapshot.batch_get(lists.iter().map(|list| key(*list))).await?;
        let read =
            |(list, value): (u64, Option<Bytes>)| Step::Read { list, elements: Some(elements(&value)) };
        Ok(lists.into_iter().zip(values).map(read).collect())
    }
}

async fn write(transaction: &mut Transaction, look: Look, mut steps: Vec<Step>) -> Result<Vec<Step>, Error> {
    for step in &mut steps {
        let (Step::Append { list, .. } | Step::Read { list, .. }) = step;
        let key = key(*list);
        let value = match look {
            Look::Reserves => transaction.get_for_update(key.clone()).await?,
            Look::Gets => transaction.get(key.clone()).await?,
            Look::Scans => {
                let scan = transaction.scan_prefix(key.clone(), ScanOptions::default())?;
                scan.into_vec().await?.pop().map(|pair| pair.value)
            }
        };
        match step {
            Step::Read { elements: seen, .. } => *seen = Some(elements(&value)),
            Step::Append { element, .. } => {
                let mut text = value.map(|value| value.to_vec()).unwrap_or_default();
                text.extend_from_slice(format!("{element} ").as_bytes());
                transaction.put(key, text).await?;
            }
        }
    }
    Ok(steps)
}

fn key(list: u64) -> Key {
    Key::from(format!("list-{list:04}"))
}

fn elements(value: &Option<Bytes>) -> Vec<u64> {
    let text = std::str::from_utf8(value.as_deref().unwrap_or_default()).expect("authors write text");
    text.split_whitespace().map(|element| element.parse().expect("authors write numbers")).collect()
}

fn outcome_of<T>(result: &Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(Error::Undetermined { .. }) => Outcome::Unknown,
        Err(_) => Outcome::NotDone,
    }
}
