//! When transactions begin: when they first have to, and for no more timestamps than that takes.

use super::{KEYS, client, options, protocol, seconds, sent, set, three_regions};
use crate::cluster::{Cluster, Weather};
use crate::ms;
use crate::world::World;
use client_core::{CommitProtocol, Error, ScanOptions, TxnClient, TxnError};
use env::Dice;
use futures_util::future::{join_all, join3};
use parking_lot::Mutex;
use std::sync::Arc;
use types::{Key, KeyRange, MonoTime, Timestamp};
use wire::pd::PdRequest;

/// A client that commits as early as it can, of a cluster whose leaders know what was read.
fn quick(cluster: &Cluster) -> TxnClient {
    cluster.state.lock().forgetful = false;
    cluster.core(options()).txn()
}

/// How often the placement driver was asked for timestamps.
fn asked(cluster: &Cluster) -> usize {
    let is_for_timestamps = |request: &&PdRequest| matches!(request, PdRequest::GetTimestamps { .. });
    cluster.state.lock().pd_sent.iter().filter(is_for_timestamps).count()
}

#[test]
fn a_transaction_that_only_writes_asks_for_one_timestamp() {
    let world = World::new(1);
    let cluster = three_regions(&world);
    let (txn, seen, clock) = (quick(&cluster), cluster.clone(), world.clone());
    world.run(async move {
        for client in [txn.clone(), txn.with_protocol(CommitProtocol::AsyncCommit), txn.serializable()] {
            for keys in [&KEYS[..], &["a"]] {
                // Nobody meets what the last one leaves to be done behind its answer.
                clock.sleep(seconds(1)).await;
                let (before, mut mine) = (asked(&seen), client.begin());
                for key in keys {
                    mine.put(*key, "mine").await.unwrap();
                    assert_eq!(mine.get(*key).await, Ok(Some("mine".into())));
                }
                let savepoint = mine.savepoint().unwrap();
                mine.delete(keys[0]).await.unwrap();
                assert_eq!(mine.batch_get(keys.iter().copied()).await.unwrap()[0], None);
                mine.rollback_to(savepoint).unwrap();
                mine.insert("d", "once").await.unwrap();
                assert_eq!((asked(&seen) - before, mine.start_timestamp()), (0, None));
                let committed_at = mine.commit().await.unwrap().unwrap();
                assert_eq!(asked(&seen) - before, 1);
                clock.sleep(seconds(1)).await;
                let mut clear = client.begin();
                clear.delete("d").await.unwrap();
                assert!(clear.commit().await.unwrap().unwrap() > committed_at);
                assert_eq!(asked(&seen) - before, 2);
            }
        }
        clock.sleep(seconds(1)).await;
        // Two, where the second phase needs one that is later than the first.
        let before = asked(&seen);
        set(&txn.with_protocol(CommitProtocol::TwoPhase), &[("a", "mine")]).await;
        assert_eq!(asked(&seen) - before, 2);
        // And for what comes to nothing, none.
        txn.begin().rollback().await.unwrap();
        assert_eq!(txn.begin().commit().await, Ok(None));
        let run = txn.run(|mut mine| async move { mine.put("a", "run").await }).await;
        assert_eq!((run, asked(&seen) - before), (Ok(()), 3));
    });
}

#[test]
fn a_transaction_that_reserves_begins_with_its_first_reservation() {
    let world = World::new(2);
    let cluster = three_regions(&world);
    let (txn, seen) = (quick(&cluster), cluster.clone());
    world.run(async move {
        let mut mine = txn.begin_pessimistic();
        assert_eq!(asked(&seen), 0);
        mine.put("a", "mine").await.unwrap();
        assert_eq!(asked(&seen), 1);
        assert!(mine.start_timestamp().is_some());
        mine.commit().await.unwrap();
        assert_eq!(asked(&seen), 2);
    });
}

/// What was committed before a transaction began is no conflict, however long it has been written in; what comes later is.
#[test]
fn a_write_conflicts_with_what_is_committed_after_the_beginning() {
    let world = World::new(3);
    let cluster = three_regions(&world);
    let txn = quick(&cluster);
    world.run(async move {
        let mut mine = txn.begin();
        mine.put("a", "mine").await.unwrap();
        set(&txn, &[("a", "theirs")]).await;
        mine.commit().await.unwrap().unwrap();
        assert_eq!(txn.latest().await.unwrap().get("a").await, Ok(Some("mine".into())));
        for begins in ["as told", "with a read", "with a scan", "with a lock"] {
            let mut mine = txn.begin();
            mine.put("a", "mine").await.unwrap();
            match begins {
                "as told" => assert!(mine.begin_now().await.is_ok()),
                "with a read" => assert_eq!(mine.get("b").await, Ok(None)),
                "with a scan" => {
                    let scan = mine.scan(KeyRange::new("b", "c"), ScanOptions::default()).unwrap();
                    assert_eq!(mine.start_timestamp(), None, "nobody has looked at it yet");
                    assert_eq!(scan.into_vec().await, Ok(Vec::new()));
                }
                _ => mine.lock_keys(["c"]).await.unwrap(),
            }
            let began = mine.start_timestamp().unwrap();
            assert_eq!(mine.begin_now().await, Ok(began), "it has begun");
            set(&txn, &[("a", "theirs")]).await;
            let refused = mine.commit().await;
            let is_conflict = |error: &Error| {
                matches!(error, Error::Txn(TxnError::WriteConflict { start_ts, .. }) if *start_ts == began)
            };
            assert!(refused.as_ref().is_err_and(is_conflict), "begun {begins}: {refused:?}");
        }
        let mut mine = txn.begin();
        mine.insert("d", "mine").await.unwrap();
        set(&txn, &[("d", "theirs")]).await;
        assert_eq!(mine.commit().await, Err(TxnError::AlreadyExists { key: "d".into() }.into()));
    });
}

/// Reads that begin a transaction side by side may each ask for a timestamp; all of them see the same moment.
#[test]
fn reads_side_by_side_are_of_one_moment() {
    for seed in 0..40 {
        let world = World::new(seed);
        let cluster = three_regions(&world);
        let (txn, writer) = (quick(&cluster), client(&cluster));
        let (clock, mut dice) = (world.clone(), world.dice("test"));
        world.run(async move {
            set(&writer, &[("a", "0"), ("b", "0"), ("c", "0")]).await;
            let writing = async {
                for value in ["1", "2", "3", "4"] {
                    set(&writer, &[("a", value), ("b", value), ("c", value)]).await;
                }
            };
            let reading = async {
                clock.sleep(dice.duration(ms(0), ms(40))).await;
                let mine = txn.begin();
                let scan = mine.scan(KeyRange::full(), ScanOptions::default()).unwrap();
                let (one, both, all) =
                    join3(mine.get("c"), mine.batch_get(["b", "a"]), scan.into_vec()).await;
                let mut seen = both.unwrap();
                seen.push(one.unwrap());
                seen.extend(all.unwrap().into_iter().map(|pair| Some(pair.value)));
                seen.push(txn.snapshot(mine.start_timestamp().unwrap()).get("a").await.unwrap());
                seen
            };
            let (seen, ()) = futures_util::future::join(reading, writing).await;
            assert!(seen.len() == 7 && seen.iter().all(|value| *value == seen[0]), "seed {seed}: {seen:?}");
        });
    }
}

/// Transactions that only write, of many clients, while regions change: whoever begins to commit when another has ended commits
/// later, and the last to commit is the one whose value stays.
#[test]
fn writers_who_look_at_nothing_follow_each_other_in_time() {
    let mut committed = 0;
    for seed in 0..30 {
        let world = World::new(seed);
        let cluster = three_regions(&world);
        cluster.set_weather(Weather { change: 30, ..Weather::default() });
        // (when the commit was asked for, when it was answered, when it committed)
        let done: Arc<Mutex<Vec<(MonoTime, MonoTime, Timestamp)>>> = Arc::default();
        let writers = (0..6_u64).map(|number| {
            let txn = cluster.core(options()).txn().with_protocol(protocol(seed + number));
            let (clock, done) = (world.clone(), Arc::clone(&done));
            let mut dice = world.dice(&format!("writer {number}"));
            async move {
                for turn in 0..10 {
                    clock.sleep(dice.duration(ms(0), ms(20))).await;
                    let mut mine = txn.begin();
                    mine.put(Key::from(format!("b{number}")), format!("{turn}")).await.unwrap();
                    if dice.chance(1, 3) {
                        mine.put("c", "all").await.unwrap();
                    }
                    let asked_at = clock.now();
                    match mine.commit().await {
                        Ok(at) => done.lock().push((asked_at, clock.now(), at.unwrap())),
                        Err(Error::Txn(TxnError::WriteConflict { .. })) => {}
                        Err(other) => panic!("seed {seed}: {other}"),
                    }
                }
            }
        });
        let writers: Vec<_> = writers.collect();
        world.run(async move { drop(join_all(writers).await) });
        let done = done.lock();
        for (_, ended, earlier) in done.iter() {
            for (begun, _, later) in done.iter().filter(|(begun, ..)| begun > ended) {
                assert!(
                    later > earlier,
                    "seed {seed}: committed at {later:?}, begun at {begun:?}, after {earlier:?}"
                );
            }
        }
        committed += done.len();
    }
    assert!(committed > 1_000, "{committed} committed: that proves little");
}

#[test]
fn a_call_that_cannot_begin_ends_by_its_deadline_and_the_next_may_begin() {
    let world = World::new(4);
    let cluster = three_regions(&world);
    let (txn, clock, end) = (quick(&cluster).with_deadline(seconds(3)), world.clone(), cluster.clone());
    world.run(async move {
        set(&txn, &[("a", "there")]).await;
        let requests = sent(&end).len();
        end.state.lock().pd_down = true;
        let (begun, mut mine) = (clock.now(), txn.begin());
        let late = |error: Error| matches!(error, Error::Unavailable { .. } | Error::DeadlineExceeded);
        assert!(late(mine.get("a").await.unwrap_err()));
        assert!(clock.now().since(begun) <= seconds(3));
        mine.put("a", "mine").await.unwrap();
        let mut other = txn.begin();
        other.put("a", "other").await.unwrap();
        let begun = clock.now();
        assert!(late(other.commit().await.unwrap_err()));
        assert!(clock.now().since(begun) <= seconds(3));
        assert_eq!(sent(&end).len(), requests, "nothing was sent for what has not begun");
        end.state.lock().pd_down = false;
        assert_eq!(mine.get("b").await, Ok(None));
        mine.commit().await.unwrap().unwrap();
        assert_eq!(txn.latest().await.unwrap().get("a").await, Ok(Some("mine".into())));
    });
}
