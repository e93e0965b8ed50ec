//! Transactions: the product's client on the product's stores, while clients and stores die, links are cut, regions split and
//! leaders change. Money is moved between accounts; none is made or lost in any snapshot, and each client is told the truth.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use bytes::Bytes;
use client_core::{Attempt, Core, Error, Keyspace, ScanOptions, TxnClient};
use env::{Dice, SplitMix};
use parking_lot::Mutex;
use sim::script::{Reply, Script, ScriptConfig};
use sim::{CrashKind, Handle, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::{Key, KeyRange};

const TELLERS: [NodeId; 2] = [NodeId(101), NodeId(102)];
const AUDITOR: NodeId = NodeId(103);
/// Asks for splits and transfers.
const OPERATOR: NodeId = NodeId(104);
const ACCOUNTS: u64 = 6;
const EACH: u64 = 100;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn account(number: u64) -> Key {
    Key::from(format!("account {number}"))
}

fn amount(bytes: Option<&Bytes>) -> u64 {
    std::str::from_utf8(bytes.expect("every account is there")).unwrap().parse().unwrap()
}

/// What clients were told of their transfers, by name; `None` where nobody knows.
type Told = Arc<Mutex<BTreeMap<Key, Option<bool>>>>;

async fn transfer(txn: &mut Attempt, dice: &mut SplitMix, name: &Key) -> Result<(), Error> {
    let from = dice.below(ACCOUNTS);
    let to = (from + 1 + dice.below(ACCOUNTS - 1)) % ACCOUNTS;
    let (from, to) = (account(from), account(to));
    let had = amount(txn.get_for_update(from.clone()).await?.as_ref());
    let other = amount(txn.get_for_update(to.clone()).await?.as_ref());
    let moved = dice.below(had + 1);
    txn.put(from, (had - moved).to_string()).await?;
    txn.put(to, (other + moved).to_string()).await?;
    txn.insert(name.clone(), moved.to_string()).await
}

/// Makes transfers, one after another. Of one that its process does not survive, nothing is told.
async fn teller(core: Core, handle: Handle, mut dice: SplitMix, told: Told) -> Result<Reply, Error> {
    let (txn, teller) = (core.txn(), dice.next_u64());
    for count in 0..15 {
        let name = Key::from(format!("transfer {teller}-{count}"));
        told.lock().insert(name.clone(), None);
        let mut bodies = dice.fork(&format!("{count}"));
        let body = |mut txn: Attempt| {
            let (mut dice, name) = (bodies.fork("again"), name.clone());
            bodies.next_u64();
            async move { transfer(&mut txn, &mut dice, &name).await }
        };
        let result = if dice.chance(1, 2) { txn.run_pessimistic(body).await } else { txn.run(body).await };
        match result {
            Ok(()) => drop(told.lock().insert(name, Some(true))),
            Err(Error::Undetermined { .. }) => {}
            Err(Error::Txn(_) | Error::Unavailable { .. } | Error::DeadlineExceeded) => {
                told.lock().insert(name, Some(false));
            }
            Err(other) => panic!("a transfer failed with {other}"),
        }
        handle.sleep(dice.duration(ms(1), ms(200))).await;
    }
    Ok(Reply::Done)
}

async fn sum(txn: &TxnClient, dice: &mut SplitMix) -> Result<u64, Error> {
    let snapshot = txn.latest().await?;
    if dice.chance(1, 2) {
        let values = snapshot.batch_get((0..ACCOUNTS).map(account)).await?;
        return Ok(values.iter().map(|value| amount(value.as_ref())).sum());
    }
    let options = ScanOptions { reverse: dice.chance(1, 2), page_pairs: 4, ..ScanOptions::default() };
    let pairs = snapshot.scan_prefix("account", options)?.into_vec().await?;
    Ok(pairs.iter().map(|pair| amount(Some(&pair.value))).sum())
}

async fn auditor(
    core: Core,
    handle: Handle,
    mut dice: SplitMix,
    audits: Arc<Mutex<u64>>,
) -> Result<Reply, Error> {
    let txn = core.txn();
    for _ in 0..60 {
        match sum(&txn, &mut dice).await {
            Ok(sum) => {
                assert_eq!(sum, ACCOUNTS * EACH, "money was made or lost");
                *audits.lock() += 1;
            }
            Err(Error::Txn(_) | Error::Unavailable { .. } | Error::DeadlineExceeded) => {}
            Err(other) => panic!("an audit failed with {other}"),
        }
        handle.sleep(dice.duration(ms(1), ms(300))).await;
    }
    Ok(Reply::Done)
}

/// One thing goes wrong, for a while.
fn disturb(script: &mut Script, dice: &mut SplitMix, told: &Told) {
    let stores = script.stores().to_vec();
    let store = stores[dice.below(stores.len() as u64) as usize];
    let other = script.others(&[store])[dice.below(2) as usize];
    let a_while = dice.duration(ms(200), ms(2_500));
    match dice.below(6) {
        0 => {
            let kind = if dice.chance(1, 2) { CrashKind::Power } else { CrashKind::Process };
            script.crash(store, kind);
            script.run_for(a_while);
            script.restart(store);
        }
        1 => {
            script.part(store, other);
            script.run_for(a_while);
            script.mend(store, other);
            script.mend(other, store);
        }
        2 => {
            // A client does not hear a store, which does what it is asked.
            let client = TELLERS[dice.below(2) as usize];
            script.cut(store, client);
            script.run_for(a_while);
            script.mend(store, client);
        }
        3 => {
            let key = Keyspace::TXN.encode(format!("account {}", dice.below(ACCOUNTS)).as_bytes());
            script.work(OPERATOR, move |core, _| async move {
                core.admin().split_region([key]).await.map(|_| Reply::Done)
            });
        }
        4 => {
            let key = Keyspace::TXN.encode(format!("account {}", dice.below(ACCOUNTS)).as_bytes());
            let to = script.store_of(store).expect("it has joined");
            script.work(OPERATOR, move |core, _| async move {
                if let Some(route) = core.admin().region_at(key).await? {
                    core.admin().transfer_leader(route.region.id, to).await?;
                }
                Ok(Reply::Done)
            });
        }
        _ => {
            let client = TELLERS[dice.below(2) as usize];
            script.crash(client, CrashKind::Process);
            script.run_for(a_while);
            script.restart(client);
            let (dice, told) = (dice.fork("after a crash"), Arc::clone(told));
            script.work(client, move |core, handle| teller(core, handle, dice, told));
        }
    }
    dice.next_u64();
}

/// How many transfers were made, and how many audits. Pessimistic locks are kept `in_memory`, or else in the log, where they are
/// told of once they are proposed.
fn run(seed: u64, in_memory: bool) -> (usize, u64) {
    let mut dice = SplitMix::new(seed);
    let mut config =
        ScriptConfig { seed, clients: 4, deadline: Duration::from_secs(10), ..ScriptConfig::default() };
    config.store.reservations.in_memory = in_memory;
    let mut script = Script::new(&config);
    script.boot();
    let opening = script.work(OPERATOR, |core, _| async move {
        let mut txn = core.txn().begin();
        for number in 0..ACCOUNTS {
            txn.put(account(number), EACH.to_string()).await?;
        }
        txn.commit().await.map(|_| Reply::Done)
    });
    script.wait(opening).unwrap();
    let (told, audits) = (Told::default(), Arc::new(Mutex::new(0)));
    for client in TELLERS {
        let (dice, told) = (dice.fork(&format!("{client:?}")), Arc::clone(&told));
        script.work(client, move |core, handle| teller(core, handle, dice, told));
    }
    let (auditors, counted) = (dice.fork("auditor"), Arc::clone(&audits));
    let auditing = script.work(AUDITOR, move |core, handle| auditor(core, handle, auditors, counted));
    for _ in 0..12 {
        script.run_for(dice.duration(ms(50), ms(1_000)));
        disturb(&mut script, &mut dice, &told);
    }
    let ended = script.run_until(Duration::from_secs(900), |script| script.answer(auditing).is_some());
    assert!(ended, "seed {seed}: the audits do not end");
    // Whatever was left is over by now.
    script.run_for(Duration::from_secs(60));
    let known = Arc::clone(&told);
    let found = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&found);
    let last = script.work(OPERATOR, move |core, _| async move {
        let all = core.txn().latest().await?;
        let pairs = all.scan(KeyRange::full(), ScanOptions::default())?.into_vec().await?;
        let pairs: BTreeMap<Key, Bytes> = pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
        let sum: u64 = (0..ACCOUNTS).map(|number| amount(pairs.get(&account(number)))).sum();
        assert_eq!(sum, ACCOUNTS * EACH, "seed {seed}");
        for (name, told) in known.lock().iter() {
            let is_there = pairs.contains_key(name);
            assert!(
                told.is_none_or(|told| told == is_there),
                "seed {seed}: {name:?} was told to be {told:?}"
            );
            *counted.lock() += usize::from(is_there);
        }
        Ok(Reply::Done)
    });
    script.wait(last).unwrap();
    assert!(script.broken().is_empty(), "seed {seed}: {:?}", script.broken());
    let (transfers, audits) = (*found.lock(), *audits.lock());
    (transfers, audits)
}

#[test]
fn no_money_is_made_or_lost_whatever_dies() {
    let (mut transfers, mut audits) = (0, 0);
    for seed in 0..12 {
        let (some, more) = run(seed, true);
        (transfers, audits) = (transfers + some, audits + more);
    }
    assert!(transfers > 200 && audits > 500, "{transfers} transfers, {audits} audits");
}

#[test]
fn no_money_is_made_or_lost_where_transactions_go_on_before_their_locks_are_replicated() {
    let (mut transfers, mut audits) = (0, 0);
    for seed in 100..106 {
        let (some, more) = run(seed, false);
        (transfers, audits) = (transfers + some, audits + more);
    }
    assert!(transfers > 90 && audits > 240, "{transfers} transfers, {audits} audits");
}
