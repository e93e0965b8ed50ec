//! A small shop after TPC-C: new orders and payments, in warehouses with districts, stock and customers.
//!
//! Of TPC-C's five kinds of transactions two, those that write most; of its consistency conditions (clause 3.3.2) three:
//! a warehouse has what its districts have together, a district's next order comes after its last one, and an order has
//! as many lines as it says.

use super::{Manner, PREFIX, Violations};
use anyhow::Context as _;
use bytes::Bytes;
use client::{Error, KeyRange, ScanOptions, Snapshot, Transaction, TxnClient};
use env::{Dice as _, SplitMix};
use parking_lot::Mutex;
use types::Key;

const WAREHOUSES: u64 = 4;
const DISTRICTS: u64 = 10;
const CUSTOMERS: u64 = 100;
const ITEMS: u64 = 1_000;
/// Stock is filled up when it falls below this.
const STOCK_LOW: u64 = 10;
const STOCK_ADDED: u64 = 91;

#[derive(Default)]
pub(in crate::bench) struct Orders {
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    orders: u64,
    payments: u64,
}

fn key(words: std::fmt::Arguments<'_>) -> Key {
    format!("{PREFIX}shop/{words}").into()
}

fn warehouse(warehouse: u64) -> Key {
    key(format_args!("w/{warehouse:03}/paid"))
}

fn district(warehouse: u64, district: u64, what: &str) -> Key {
    key(format_args!("d/{warehouse:03}/{district:02}/{what}"))
}

fn orders_of(warehouse: u64, district: u64) -> Key {
    key(format_args!("o/{warehouse:03}/{district:02}/"))
}

fn lines_of(warehouse: u64, district: u64) -> Key {
    key(format_args!("l/{warehouse:03}/{district:02}/"))
}

impl Orders {
    /// Districts whose orders begin at one, with nothing paid yet; orders of earlier runs are removed.
    pub(super) async fn open(client: &TxnClient) -> anyhow::Result<Self> {
        for number in 0..WAREHOUSES {
            let mut transaction = client.begin();
            transaction.put(warehouse(number), "0").await?;
            for place in 0..DISTRICTS {
                transaction.put(district(number, place, "next"), "1").await?;
                transaction.put(district(number, place, "paid"), "0").await?;
            }
            transaction.commit().await.context("opening the shop")?;
        }
        for prefix in ["o/", "l/"] {
            let prefix = key(format_args!("{prefix}"));
            let options = ScanOptions { keys_only: true, ..ScanOptions::default() };
            let old = client.latest().await?.scan(KeyRange::prefix(prefix), options)?.into_vec().await?;
            for chunk in old.chunks(1_000) {
                let mut transaction = client.begin();
                for pair in chunk {
                    transaction.delete(pair.key.clone()).await?;
                }
                transaction.commit().await.context("clearing the shop")?;
            }
        }
        Ok(Self::default())
    }

    pub(super) async fn once(
        &self,
        client: &TxnClient,
        manner: Manner,
        dice: &mut SplitMix,
    ) -> Result<(), Error> {
        let (number, place) = (dice.below(WAREHOUSES), dice.below(DISTRICTS));
        let mut transaction = manner.begin(client);
        let is_order = dice.chance(1, 2);
        match is_order {
            true => new_order(&mut transaction, manner, number, place, dice).await?,
            false => pay(&mut transaction, manner, number, place, dice).await?,
        }
        transaction.commit().await?;
        let mut made = self.made.lock();
        *(if is_order { &mut made.orders } else { &mut made.payments }) += 1;
        Ok(())
    }

    pub(super) async fn violations(&self, client: &TxnClient) -> anyhow::Result<Violations> {
        let snapshot = client.latest().await?;
        let mut wrong = Vec::new();
        let mut lines_seen = 0;
        for number in 0..WAREHOUSES {
            let mut paid = 0;
            for place in 0..DISTRICTS {
                paid += number_at(&snapshot, district(number, place, "paid")).await?;
                lines_seen += check_district(&snapshot, number, place, &mut wrong).await?;
            }
            let warehouse_has = number_at(&snapshot, warehouse(number)).await?;
            if warehouse_has != paid {
                wrong.push(format!("warehouse {number} has {warehouse_has}, its districts {paid}"));
            }
        }
        let Made { orders, payments } = *self.made.lock();
        let looked = format!("{orders} orders with {lines_seen} lines, and {payments} payments");
        Ok(Violations { count: wrong.len() as u64, first: wrong.into_iter().next(), looked })
    }
}

/// Returns how many lines its orders have.
async fn check_district(
    snapshot: &Snapshot,
    number: u64,
    place: u64,
    wrong: &mut Vec<String>,
) -> anyhow::Result<u64> {
    let next = number_at(snapshot, district(number, place, "next")).await?;
    let orders = snapshot.scan_prefix(orders_of(number, place), ScanOptions::default())?.into_vec().await?;
    if orders.len() as u64 + 1 != next {
        let count = orders.len();
        wrong.push(format!("district {number}/{place} has {count} orders, and the next is {next}"));
    }
    let told: u64 = orders.iter().map(|pair| number_in(Some(&pair.value))).sum();
    let options = ScanOptions { keys_only: true, ..ScanOptions::default() };
    let lines = snapshot.scan_prefix(lines_of(number, place), options)?.into_vec().await?.len() as u64;
    if told != lines {
        wrong.push(format!("orders of district {number}/{place} tell of {told} lines, and have {lines}"));
    }
    Ok(lines)
}

/// TPC-C clause 2.4, in short.
async fn new_order(
    transaction: &mut Transaction,
    manner: Manner,
    number: u64,
    place: u64,
    dice: &mut SplitMix,
) -> Result<(), Error> {
    let order = read(transaction, manner, district(number, place, "next")).await?;
    transaction.put(district(number, place, "next"), (order + 1).to_string()).await?;
    let mut items: Vec<u64> = (0..5 + dice.below(11)).map(|_| dice.below(ITEMS)).collect();
    // In one order, so that no two wait for each other.
    items.sort_unstable();
    items.dedup();
    for (line, item) in items.iter().enumerate() {
        let stock = key(format_args!("s/{number:03}/{item:06}"));
        let there = read(transaction, manner, stock.clone()).await?;
        let quantity = 1 + dice.below(10);
        let left =
            if there >= quantity + STOCK_LOW { there - quantity } else { there + STOCK_ADDED - quantity };
        transaction.put(stock, left.to_string()).await?;
        let line = format!("{}{order:08}/{line:02}", String::from_utf8_lossy(&lines_of(number, place)));
        transaction.put(line, format!("{item} {quantity}")).await?;
    }
    let order = format!("{}{order:08}", String::from_utf8_lossy(&orders_of(number, place)));
    transaction.insert(order, items.len().to_string()).await
}

/// TPC-C clause 2.5, in short.
async fn pay(
    transaction: &mut Transaction,
    manner: Manner,
    number: u64,
    place: u64,
    dice: &mut SplitMix,
) -> Result<(), Error> {
    let (customer, amount) = (dice.below(CUSTOMERS), 1 + dice.below(5_000));
    let accounts = [
        key(format_args!("c/{number:03}/{place:02}/{customer:04}")),
        district(number, place, "paid"),
        warehouse(number),
    ];
    for account in accounts {
        let paid = read(transaction, manner, account.clone()).await?;
        transaction.put(account, (paid + amount).to_string()).await?;
    }
    Ok(())
}

async fn read(transaction: &mut Transaction, manner: Manner, key: Key) -> Result<u64, Error> {
    Ok(number_in(manner.read(transaction, key).await?.as_ref()))
}

async fn number_at(snapshot: &Snapshot, key: Key) -> Result<u64, Error> {
    Ok(number_in(snapshot.get(key).await?.as_ref()))
}

/// What is not there is nothing.
fn number_in(value: Option<&Bytes>) -> u64 {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
