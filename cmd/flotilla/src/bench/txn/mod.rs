//! What clients do in transactions: single keys and many, YCSB's mixes, and workloads that know what must hold.
//!
//! A [`Hand`] makes one attempt after another; an attempt that others were in the way of is one that failed, and counts as
//! aborted. Workloads that check themselves tell how often something did not hold ([`Shop::violations`]).

mod bank;
mod lists;
mod orders;
mod plain;
mod shuffle;
pub(super) mod suite;

use super::distribution::Zipfian;
use super::load::{Load, Numbers, Running, start_all};
use super::workload::Workload;
use crate::clock;
use anyhow::Context as _;
use bank::Bank;
use bytes::Bytes;
use client::{Client, CommitProtocol, Error, Isolation, Transaction, TxnClient};
use env::{Dice as _, SplitMix};
use lists::Lists;
use orders::Orders;
use plain::{Moment, Plain};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use types::Key;

/// All keys of transactional benchmarks begin so.
const PREFIX: &str = "bench/";

/// How transactions go about it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Manner {
    /// Keys are reserved as they are read to be written.
    pub(super) is_pessimistic: bool,
    /// How they commit.
    pub(super) protocol: CommitProtocol,
    /// How far they are kept apart.
    pub(super) isolation: Isolation,
}

impl Manner {
    fn begin(self, client: &TxnClient) -> Transaction {
        let client = client.with_protocol(self.protocol).with_isolation(self.isolation);
        if self.is_pessimistic { client.begin_pessimistic() } else { client.begin() }
    }

    /// Reads a key that is to be written, or on which depends what is.
    async fn read(self, transaction: &mut Transaction, key: Key) -> Result<Option<Bytes>, Error> {
        match self.is_pessimistic {
            true => transaction.get_for_update(key).await,
            false => transaction.get(key).await,
        }
    }
}

/// What all clients of a workload share.
#[derive(Clone)]
pub(super) enum Shop {
    Plain(Plain),
    Bank(Arc<Bank>),
    Orders(Arc<Orders>),
    Lists(Arc<Lists>),
}

/// One client.
pub(super) struct Hand {
    shop: Shop,
    client: TxnClient,
    manner: Manner,
    number: u64,
    dice: SplitMix,
    zipfian: Zipfian,
    moment: Moment,
}

impl super::load::Hand for Hand {
    async fn once(&mut self) -> Result<(), Error> {
        let Self { shop, client, manner, number, dice, zipfian, moment } = self;
        match shop {
            Shop::Plain(plain) => plain.once(client, *manner, dice, zipfian, moment).await,
            Shop::Bank(bank) => bank.once(client, *manner, dice).await,
            Shop::Orders(orders) => orders.once(client, *manner, dice).await,
            Shop::Lists(lists) => lists.once(client, *manner, *number, dice).await,
        }
    }
}

impl Shop {
    /// Opens it: what must be there is there afterwards.
    pub(super) async fn open(client: &TxnClient, load: &Load) -> anyhow::Result<Self> {
        Ok(match load.workload {
            Workload::Bank => Self::Bank(Arc::new(Bank::open(client, load.keys).await?)),
            Workload::NewOrder => Self::Orders(Arc::new(Orders::open(client).await?)),
            Workload::ListAppend => Self::Lists(Arc::new(Lists::open(client, load.keys).await?)),
            _ => Self::Plain(Plain::open(client, load).await?),
        })
    }

    /// One of plain keys that are there already.
    fn filled(load: &Load) -> Self {
        Self::Plain(Plain::filled(load))
    }

    /// How often something did not hold, and what it was first; `None` of workloads that cannot tell.
    pub(super) async fn violations(
        &self,
        client: &TxnClient,
        manner: Manner,
    ) -> anyhow::Result<Option<Violations>> {
        Ok(match self {
            Self::Plain(_) => None,
            Self::Bank(bank) => Some(bank.violations(client).await?),
            Self::Orders(orders) => Some(orders.violations(client).await?),
            Self::Lists(lists) => Some(lists.violations(manner)),
        })
    }

    /// Writes down what clients saw, where that is kept.
    fn write_history(&self, path: &Path) -> anyhow::Result<()> {
        let Self::Lists(lists) = self else {
            anyhow::bail!("of transactions, only those of list-append are written down")
        };
        std::fs::write(path, lists.history().to_lines())
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// What did not hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Violations {
    pub(super) count: u64,
    pub(super) first: Option<String>,
    /// What was looked at, for people.
    pub(super) looked: String,
}

/// Sets clients to work.
pub(super) fn start(clients: &[TxnClient], load: &Load, manner: Manner, shop: &Shop) -> Running {
    let zipfian = Zipfian::new(load.keys);
    start_all(load.clients, load.rate, |number| Hand {
        shop: shop.clone(),
        client: clients[number % clients.len()].clone(),
        manner,
        number: number as u64,
        dice: SplitMix::new(number as u64).fork("client"),
        zipfian: zipfian.clone(),
        moment: Moment::default(),
    })
}

/// How it is run beside the load.
pub(super) struct Around<'a> {
    pub(super) manner: Manner,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    /// Regions are split and leaders moved meanwhile.
    pub(super) shuffles: bool,
    pub(super) history: Option<&'a Path>,
}

/// What came of a workload.
pub(super) struct Ran {
    pub(super) numbers: Numbers,
    pub(super) violations: Option<Violations>,
    pub(super) shuffled: shuffle::Shuffled,
}

/// Runs a load on the cluster that is there.
pub(super) async fn run(
    client: &Client,
    txns: &[TxnClient],
    load: &Load,
    around: Around<'_>,
) -> anyhow::Result<Ran> {
    let shop = Shop::open(&txns[0], load).await?;
    let mut running = start(txns, load, around.manner, &shop);
    clock::pause(around.warm_up).await;
    running.begin();
    let shuffled = match around.shuffles {
        true => shuffle::shuffle(client, txns[0].keyspace(), &shop, around.duration).await,
        false => {
            clock::pause(around.duration).await;
            shuffle::Shuffled::default()
        }
    };
    let numbers = running.finish().await;
    if let (0, Some(error)) = (numbers.operations, &numbers.first_error) {
        return Err(anyhow::Error::new(error.clone()).context("no transaction succeeded"));
    }
    let violations = shop.violations(&txns[0], around.manner).await?;
    if let Some(path) = around.history {
        shop.write_history(path)?;
    }
    Ok(Ran { numbers, violations, shuffled })
}

/// A number that no two clients draw.
#[derive(Default, Debug)]
struct Counter(AtomicU64);

impl Counter {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }
}

/// A value that does not compress.
fn filler(size: usize, dice: &mut SplitMix) -> Vec<u8> {
    let mut value = Vec::with_capacity(size + 8);
    while value.len() < size {
        value.extend(dice.next_u64().to_le_bytes());
    }
    value.truncate(size);
    value
}
