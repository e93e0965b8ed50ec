//! A bank: money is moved between accounts by many at once while everything goes wrong, and none is made or lost, in
//! any snapshot. Each transfer leaves a record of itself, so that what its client was told can be compared with the truth.

use super::{begun, options, protocol, seconds};
use crate::cluster::{Cluster, Weather};
use crate::ms;
use crate::txn_store::locks_in;
use crate::world::World;
use client_core::{Attempt, Error, Keyspace, Options, ScanOptions, Transaction, TxnClient};
use env::{Dice, SplitMix};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Key, KeyRange, Timestamp};

const ACCOUNTS: u64 = 8;
const EACH: u64 = 100;

fn account(number: u64) -> Key {
    // Spread over the regions.
    Key::from(format!("{:03}", number * 97 / ACCOUNTS))
}

fn amount(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

/// Moves some money, and says so under a name of its own.
async fn transfer(mine: &mut Transaction, dice: &mut SplitMix, name: &Key) -> Result<(), Error> {
    let from = dice.below(ACCOUNTS);
    let to = (from + 1 + dice.below(ACCOUNTS - 1)) % ACCOUNTS;
    let (from, to) = (account(from), account(to));
    let mut held = Vec::new();
    for key in [&from, &to] {
        let value = match dice.chance(1, 2) {
            true => mine.get_for_update(key.clone()).await?,
            false if mine.is_pessimistic() => {
                mine.lock_keys([key.clone()]).await?;
                mine.get(key.clone()).await?
            }
            false => mine.get(key.clone()).await?,
        };
        held.push(amount(&value.expect("every account is there")));
    }
    let moved = dice.below(held[0] + 1);
    mine.put(from.clone(), (held[0] - moved).to_string()).await?;
    mine.put(to.clone(), (held[1] + moved).to_string()).await?;
    mine.insert(name.clone(), format!("{moved} {} {}", held[0], held[1])).await
}

type Told = Arc<Mutex<BTreeMap<Key, Option<bool>>>>;

async fn teller(number: u64, txn: TxnClient, mut dice: SplitMix, told: Told) {
    for count in 0..12 {
        let name = Key::from(format!("{:03} by {number}-{count}", dice.below(100)));
        let pessimistic = dice.chance(1, 2);
        let mut body_dice = dice.fork(&format!("{count}"));
        let result = if dice.chance(1, 3) {
            let body = |mut mine: Attempt| {
                let (mut dice, name) = (body_dice.fork("again"), name.clone());
                async move { transfer(&mut mine, &mut dice, &name).await }
            };
            if pessimistic { txn.run_pessimistic(body).await } else { txn.run(body).await }
        } else {
            once(&txn, pessimistic, &mut body_dice, &name).await
        };
        let outcome = match result {
            Ok(()) => Some(true),
            Err(Error::Undetermined { .. }) => None,
            Err(Error::Txn(_) | Error::Unavailable { .. } | Error::DeadlineExceeded) => Some(false),
            Err(other) => panic!("a transfer failed with {other}"),
        };
        told.lock().insert(name, outcome);
    }
}

async fn once(txn: &TxnClient, pessimistic: bool, dice: &mut SplitMix, name: &Key) -> Result<(), Error> {
    let mut mine = if pessimistic { txn.begin_pessimistic() } else { txn.begin() };
    if let Err(error) = transfer(&mut mine, dice, name).await {
        if dice.chance(1, 2) {
            let _ = mine.rollback().await;
        }
        return Err(error);
    }
    mine.commit().await.map(drop)
}

/// The sum of all accounts in one snapshot, and in which way it was read.
async fn audit(txn: &TxnClient, at: Timestamp, dice: &mut SplitMix) -> Result<u64, Error> {
    let snapshot = txn.snapshot(at);
    if dice.chance(1, 2) {
        let values = snapshot.batch_get((0..ACCOUNTS).map(account)).await?;
        return Ok(values.into_iter().map(|value| amount(&value.expect("every account is there"))).sum());
    }
    let options = ScanOptions { reverse: dice.chance(1, 2), page_pairs: 5, ..ScanOptions::default() };
    let pairs = snapshot.scan(KeyRange::full(), options)?.into_vec().await?;
    let is_account = |key: &Key| key.len() == 3;
    Ok(pairs.iter().filter(|pair| is_account(&pair.key)).map(|pair| amount(&pair.value)).sum())
}

fn run(seed: u64, weather: Weather, options: Options) -> (usize, usize) {
    const TELLERS: u64 = 5;
    let world = World::new(seed);
    let cluster = Cluster::new(&world, &[]);
    cluster.cut_txn(&["030", "060"]);
    // Each client commits in a way of its own.
    let mut clients = 0;
    let mut core = || {
        clients += 1;
        cluster.core(options.clone()).txn().with_protocol(protocol(seed + clients))
    };
    let (clock, end, told) = (world.clone(), cluster.clone(), Told::default());
    let patient = core().with_deadline(seconds(120));
    let tellers: Vec<_> = (0..TELLERS)
        .map(|number| teller(number, core(), world.dice(&format!("teller {number}")), Arc::clone(&told)))
        .collect();
    let (auditor, mut dice) = (core(), world.dice("auditor"));
    let written = Arc::clone(&told);
    world.run(async move {
        let mut opening = begun(patient.begin()).await;
        for number in 0..ACCOUNTS {
            opening.put(account(number), EACH.to_string()).await.unwrap();
        }
        let opened = opening.commit().await.unwrap().unwrap();
        end.set_weather(weather);
        let auditing = async {
            let (mut audits, mut moments) = (0, vec![opened]);
            for _ in 0..30 {
                clock.sleep(dice.duration(ms(1), ms(300))).await;
                let at = match (dice.chance(1, 3), auditor.timestamp().await) {
                    (false, Ok(now)) => now,
                    // Once more, at a moment of the past.
                    _ => moments[dice.below(moments.len() as u64) as usize],
                };
                moments.push(at);
                match audit(&auditor, at, &mut dice).await {
                    Ok(sum) => {
                        assert_eq!(sum, ACCOUNTS * EACH, "seed {seed}: money was made or lost by {at:?}");
                        audits += 1;
                    }
                    Err(Error::Unavailable { .. } | Error::DeadlineExceeded | Error::Txn(_)) => {}
                    Err(other) => panic!("an audit failed with {other}"),
                }
            }
            audits
        };
        let (audits, _) = futures_util::future::join(auditing, futures_util::future::join_all(tellers)).await;
        end.set_weather(Weather::default());
        clock.sleep(seconds(60)).await;
        let all = patient.latest().await.unwrap();
        let pairs = all.scan(KeyRange::full(), ScanOptions::default()).unwrap().into_vec().await.unwrap();
        let found: BTreeMap<Key, _> = pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
        let sum: u64 = (0..ACCOUNTS).map(|number| amount(&found[&account(number)])).sum();
        assert_eq!(sum, ACCOUNTS * EACH, "seed {seed}");
        let mut done = 0;
        for (name, told) in written.lock().iter() {
            let is_there = found.contains_key(name);
            assert!(
                told.is_none_or(|told| told == is_there),
                "seed {seed}: {name:?} was told to be {told:?}"
            );
            done += usize::from(is_there);
        }
        // Every lock that was left is met by whoever writes there.
        let mut last = begun(patient.begin()).await;
        for key in found.into_keys() {
            last.delete(key).await.unwrap();
        }
        last.commit().await.unwrap();
        clock.sleep(seconds(1)).await;
        let accounts = (0..ACCOUNTS).map(|number| Keyspace::TXN.encode(&account(number)));
        let left = locks_in(&end.state.lock().engine, &Keyspace::TXN.range());
        assert!(accounts.into_iter().all(|key| !left.contains(&key)), "seed {seed}");
        (done, audits)
    })
}

#[test]
fn no_money_is_made_or_lost_while_many_want_the_same_accounts() {
    for seed in 0..15 {
        let (done, audits) = run(seed, Weather { change: 100, ..Weather::default() }, options());
        assert!(done > 20 && audits == 30, "seed {seed}: {done} transfers, {audits} audits");
    }
}

#[test]
fn no_money_is_made_or_lost_while_requests_and_answers_are_lost() {
    let (mut done, mut audits) = (0, 0);
    for seed in 100..120 {
        let weather = Weather { network: 60, busy: 60, undetermined: 40, late: 0, change: 100 };
        let some = run(seed, weather, options());
        (done, audits) = (done + some.0, audits + some.1);
    }
    assert!(done > 400 && audits > 300, "{done} transfers, {audits} audits");
}

#[test]
fn no_money_is_made_or_lost_while_requests_come_late_and_hardly_anything_works() {
    for seed in 200..220 {
        let weather = Weather { network: 200, busy: 100, undetermined: 100, late: 100, change: 200 };
        run(seed, weather, Options { deadline: seconds(3), ..options() });
    }
}
