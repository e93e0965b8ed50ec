//! Money moves between accounts in transactions while stores are killed, and none of it is lost or made.

use crate::support::cluster::{Cluster, replicated};
use crate::support::observed::{Observed, expect_happened};
use crate::support::run::{Run, until};
use bytes::Bytes;
use client::{Client, Error, KeyRange, Keyspace, ScanOptions, Timestamp, Transaction, TxnClient};
use env::{Dice as _, SplitMix};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use types::StoreId;

const ACCOUNTS: u64 = 12;
const DEPOSIT: i64 = 1_000;
const TELLERS: u64 = 8;
/// Calls give up after this, so that some do while a leader is missing.
const CALL_DEADLINE: Duration = Duration::from_millis(1500);
/// For everything that must work in the end: longer than a dead teller's locks hold.
const PATIENT: Duration = Duration::from_secs(45);

#[derive(Default)]
struct Tally {
    committed: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    audits: AtomicU64,
    is_over: AtomicBool,
}

/// Tellers move money, half of them with accounts reserved first, and each counts its transfers in an account of its own.
/// Accounts lie in three regions. Stores that lead them are killed; auditors find all of the money at every moment, later
/// and looking back, and each teller's count is what it was told.
#[test]
fn bank() {
    let run = Run::begin("bank");
    run.play(Duration::from_secs(240), story(&run));
}

async fn story(run: &Run) {
    let mut dice = run.dice("faults");
    let mut cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(PATIENT).await;
    replicated(&client, 3, Duration::from_secs(45)).await;
    open(&client).await;
    replicated(&client, 3, Duration::from_secs(45)).await;

    let tally = Arc::new(Tally::default());
    let mut tellers = Vec::new();
    for number in 0..TELLERS {
        let client = cluster.client(CALL_DEADLINE).await;
        let dice = run.dice(&format!("teller {number}"));
        tellers.push(tokio::spawn(teller(client.txn(), number, dice, tally.clone())));
    }
    let auditor = tokio::spawn(auditor(client.txn().with_deadline(PATIENT), tally.clone()));

    let (mut observed, mut kills) = (Observed::default(), 0);
    progress(run, &mut cluster, &tally, "all is well").await;
    let middle = client.txn().timestamp().await.expect("the cluster is well");
    for _ in 0..3 {
        let victim = leader_of(&cluster, &client, dice.below(ACCOUNTS)).await;
        tokio::time::sleep(dice.duration(Duration::ZERO, Duration::from_millis(100))).await;
        observed.add(&cluster.stores[victim]).await;
        cluster.stores[victim].kill();
        kills += 1;
        progress(run, &mut cluster, &tally, "with a store away").await;
        cluster.stores[victim].start();
        cluster.stores[victim].ready().await;
        replicated(&client, 3, Duration::from_secs(45)).await;
    }
    tally.is_over.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for teller in tellers {
        told.push(teller.await.expect("a teller does not panic"));
    }
    auditor.await.expect("the money is there");

    let txn = client.txn();
    let now = txn.timestamp().await.expect("the cluster is well");
    for at in [middle, now] {
        assert_eq!(count(&txn, at).await.expect("the cluster is well"), DEPOSIT * ACCOUNTS as i64);
    }
    let snapshot = txn.snapshot(now);
    for (number, (committed, unknown)) in told.into_iter().enumerate() {
        let value = snapshot.get(format!("teller-{number}")).await.expect("the cluster is well");
        let counted = value.map_or(0, |value| number_in(&value)) as u64;
        assert!(
            (committed..=committed + unknown).contains(&counted),
            "teller {number} was told {committed} times that it had committed, and {unknown} times that nobody knows: {counted}"
        );
    }
    for store in &cluster.stores {
        observed.add(store).await;
    }
    cluster.expect_alive();
    run.say(format!("{}; {kills} kills, {} elections won", tally.text(), observed.elections));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    expect_happened(&[
        ("transfers", count(&tally.committed)),
        ("refused transfers", count(&tally.refused)),
        ("audits", count(&tally.audits)),
        ("kills", kills),
        ("elections", observed.elections),
    ]);
}

impl Tally {
    fn text(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} transfers, {} refused, {} of unknown outcome, {} audits",
            count(&self.committed),
            count(&self.refused),
            count(&self.unknown),
            count(&self.audits)
        )
    }
}

fn account(number: u64) -> String {
    format!("account-{number:02}")
}

fn number_in(value: &Bytes) -> i64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).expect("tellers write numbers")
}

/// Pays in, in one transaction, and cuts the bank into three regions.
async fn open(client: &Client) {
    let opened: Result<(), Error> = client
        .txn()
        .run(|mut txn| async move {
            for number in 0..ACCOUNTS {
                txn.insert(account(number), DEPOSIT.to_string()).await?;
            }
            Ok(())
        })
        .await;
    opened.expect("the cluster is well");
    let borders =
        [ACCOUNTS / 3, ACCOUNTS * 2 / 3].map(|number| Keyspace::TXN.encode(account(number).as_bytes()));
    client.admin().split_region(borders).await.expect("the cluster is well");
}

/// Moves money until the session is over. How often it was told that it had committed, and that nobody knows.
async fn teller(client: TxnClient, number: u64, mut dice: SplitMix, tally: Arc<Tally>) -> (u64, u64) {
    let (mut committed, mut unknown) = (0, 0);
    while !tally.is_over.load(Ordering::Relaxed) {
        match transfer(&client, number, &mut dice).await {
            Ok(()) => {
                committed += 1;
                tally.committed.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::Undetermined { .. }) => {
                unknown += 1;
                tally.unknown.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(dice.duration(Duration::ZERO, Duration::from_millis(20))).await;
            }
        }
    }
    (committed, unknown)
}

async fn transfer(client: &TxnClient, number: u64, dice: &mut SplitMix) -> Result<(), Error> {
    let is_pessimistic = number.is_multiple_of(2);
    let mut txn = if is_pessimistic { client.begin_pessimistic() } else { client.begin() };
    let from = dice.below(ACCOUNTS);
    let to = (from + 1 + dice.below(ACCOUNTS - 1)) % ACCOUNTS;
    let amount = 1 + dice.below(9) as i64;
    let moved = async {
        for (place, change) in [(from, -amount), (to, amount)] {
            add(&mut txn, is_pessimistic, account(place), change).await?;
        }
        add(&mut txn, is_pessimistic, format!("teller-{number}"), 1).await
    };
    match moved.await {
        Ok(()) => txn.commit().await.map(|_| ()),
        Err(error) => {
            // What it leaves behind runs out.
            let _ = txn.rollback().await;
            Err(error)
        }
    }
}

async fn add(txn: &mut Transaction, is_pessimistic: bool, key: String, change: i64) -> Result<(), Error> {
    let value = match is_pessimistic {
        true => txn.get_for_update(key.clone()).await?,
        false => txn.get(key.clone()).await?,
    };
    let sum = value.map_or(0, |value| number_in(&value)) + change;
    txn.put(key, sum.to_string()).await
}

/// All the money, as of a moment.
async fn count(client: &TxnClient, at: Timestamp) -> Result<i64, Error> {
    let scan = client.snapshot(at).scan(KeyRange::prefix("account-"), ScanOptions::default())?;
    let pairs = scan.into_vec().await?;
    assert_eq!(pairs.len() as u64, ACCOUNTS, "at {at:?}");
    Ok(pairs.iter().map(|pair| number_in(&pair.value)).sum())
}

/// Counts the money until the session is over, and once in a while as it was before.
async fn auditor(client: TxnClient, tally: Arc<Tally>) {
    let mut earlier = Vec::new();
    while !tally.is_over.load(Ordering::Relaxed) {
        let Ok(now) = client.timestamp().await else { continue };
        earlier.push(now);
        let back = earlier[earlier.len() / 2];
        for at in [now, back] {
            if let Ok(sum) = count(&client, at).await {
                assert_eq!(sum, DEPOSIT * ACCOUNTS as i64, "at {at:?}");
                tally.audits.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Which of our stores leads the region of an account.
async fn leader_of(cluster: &Cluster, client: &Client, number: u64) -> usize {
    let key = Keyspace::TXN.encode(account(number).as_bytes());
    let routes = client.admin().regions(KeyRange::full(), usize::MAX).await.expect("the cluster is well");
    let route =
        routes.iter().find(|route| route.region.range.contains(&key)).expect("regions cover all keys");
    let leader = route.leader.map_or(StoreId(0), |leader| leader.store_id);
    for place in 0..cluster.stores.len() {
        if cluster.store_id(place).await == leader.get() {
            return place;
        }
    }
    0
}

/// Tellers are told so often more that they have committed, and auditors that all is there.
async fn progress(run: &Run, cluster: &mut Cluster, tally: &Tally, when: &str) {
    let counts = || (tally.committed.load(Ordering::Relaxed), tally.audits.load(Ordering::Relaxed));
    let (transfers, audits) = counts();
    until(&format!("money moves {when}"), Duration::from_secs(60), async || {
        cluster.expect_alive();
        let now = counts();
        if now.0 >= transfers + 200 && now.1 >= audits + 4 { Ok(()) } else { Err(tally.text()) }
    })
    .await;
    run.say(format!("{when}: {}", tally.text()));
}
