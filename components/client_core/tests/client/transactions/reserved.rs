//! Pessimistic transactions: what they have reserved is theirs, as it was then.

use super::{begun, client, count, script, seconds, set, three_regions};
use crate::cluster::Fate;
use crate::ms;
use crate::txn_store::locks_in;
use crate::world::World;
use client_core::{Error, Keyspace, TxnError};
use futures_util::future::{join, join_all};
use types::{Key, KeyRange};
use wire::txn::TxnCommand;

#[test]
fn who_reserves_a_key_sees_what_was_committed_since_it_began_and_loses_no_update() {
    let world = World::new(1);
    let cluster = three_regions(&world);
    let (txn, clock) = (client(&cluster), world.clone());
    world.run(async move {
        set(&txn, &[("a", "0"), ("b", "0")]).await;
        let mut mine = begun(txn.begin_pessimistic()).await;
        assert_eq!(mine.get("a").await, Ok(Some("0".into())));
        set(&txn, &[("a", "1"), ("b", "1")]).await;
        clock.sleep(seconds(1)).await;
        assert_eq!(mine.get_for_update("a").await, Ok(Some("1".into())));
        assert_eq!(mine.get("a").await, Ok(Some("1".into())), "it stays so");
        assert_eq!(mine.get("b").await, Ok(Some("0".into())), "what is not reserved is read as it was");
        let scanned = mine.scan(KeyRange::full(), client_core::ScanOptions::default()).unwrap();
        let values: Vec<_> = scanned.into_vec().await.unwrap().into_iter().map(|pair| pair.value).collect();
        assert_eq!(values, ["1", "0"]);
        mine.put("a", "2").await.unwrap();
        mine.commit().await.unwrap();
        assert_eq!(
            txn.latest().await.unwrap().batch_get(["a", "b"]).await.unwrap(),
            [Some("2".into()), Some("1".into())]
        );
    });
}

#[test]
fn transactions_that_reserve_the_same_key_go_one_after_another() {
    for seed in 0..20 {
        let world = World::new(seed);
        let cluster = three_regions(&world);
        let (txn, seen) = (client(&cluster), cluster.clone());
        world.run(async move {
            let adding = (0..5).map(|_| {
                let txn = txn.clone();
                async move {
                    let mut mine = begun(txn.begin_pessimistic()).await;
                    let before = mine.get_for_update("a").await.unwrap().map_or(0, |bytes| bytes.len());
                    mine.put("a", vec![b'|'; before + 1]).await.unwrap();
                    mine.commit().await.unwrap();
                }
            });
            join_all(adding).await;
            let tally = txn.latest().await.unwrap().get("a").await.unwrap().unwrap();
            assert_eq!(&tally[..], b"|||||", "seed {seed}");
            assert!(locks_in(&seen.state.lock().engine, &Keyspace::TXN.range()).is_empty());
        });
    }
}

#[test]
fn two_who_wait_for_each_other_do_not_wait_for_ever() {
    let world = World::new(2);
    let cluster = three_regions(&world);
    let (txn, clock) = (client(&cluster), world.clone());
    world.run(async move {
        let since = clock.now();
        let (mut first, mut second) =
            (begun(txn.begin_pessimistic()).await, begun(txn.begin_pessimistic()).await);
        first.put("a", "first").await.unwrap();
        second.put("b", "second").await.unwrap();
        let (one, other) = join(
            async {
                let result = first.put("b", "first").await;
                (result, first.rollback().await)
            },
            async {
                // A little later, so that it is still there when the other one has gone.
                clock.sleep(seconds(1)).await;
                let result = second.put("a", "second").await;
                (result, second.commit().await)
            },
        )
        .await;
        assert!(matches!(one.0, Err(Error::Txn(TxnError::LockTimeout { .. }))), "{:?}", one.0);
        assert_eq!(other.0, Ok(()));
        assert!(other.1.is_ok());
        assert!(clock.now().since(since) < seconds(10));
    });
}

#[test]
fn a_key_that_is_there_is_not_inserted_and_that_is_told_at_once() {
    let world = World::new(3);
    let cluster = three_regions(&world);
    let (txn, clock, seen) = (client(&cluster), world.clone(), cluster.clone());
    world.run(async move {
        set(&txn, &[("a", "there")]).await;
        let mut mine = begun(txn.begin_pessimistic()).await;
        let exists = |key: &'static str| Err(TxnError::AlreadyExists { key: key.into() }.into());
        assert_eq!(mine.insert("a", "new").await, exists("a"));
        mine.insert("b", "new").await.unwrap();
        assert_eq!(mine.insert("b", "again").await, exists("b"));
        mine.lock_keys(["a", "c"]).await.unwrap();
        assert_eq!(mine.insert("a", "new").await, exists("a"));
        mine.insert("c", "new").await.unwrap();
        mine.delete("c").await.unwrap();
        assert!(mine.commit().await.unwrap().is_some());
        clock.sleep(seconds(1)).await;
        let values = txn.latest().await.unwrap().batch_get(super::KEYS).await.unwrap();
        assert_eq!(values, [Some("there".into()), Some("new".into()), None]);
        let left: Vec<Key> = locks_in(&seen.state.lock().engine, &Keyspace::TXN.range());
        assert_eq!(left, Vec::<Key>::new());
    });
}

#[test]
fn what_was_reserved_is_free_when_its_holder_has_given_up() {
    let world = World::new(4);
    let cluster = three_regions(&world);
    let (txn, clock, seen) = (client(&cluster), world.clone(), cluster.clone());
    world.run(async move {
        let mut mine = begun(txn.begin_pessimistic()).await;
        mine.lock_keys(super::KEYS).await.unwrap();
        let waiting = async {
            let mut other = begun(txn.begin_pessimistic()).await;
            other.put("b", "other").await.unwrap();
            other.commit().await.unwrap();
            clock.now()
        };
        let giving_up = async {
            clock.sleep(seconds(1)).await;
            mine.rollback().await.unwrap();
            clock.now()
        };
        let (came, gave_up) = join(waiting, giving_up).await;
        assert!(came.since(gave_up) < ms(500));
        assert_eq!(count(&seen, "release"), 3);
    });
}

#[test]
fn who_has_no_time_left_to_give_up_does_so_behind_the_answer() {
    let world = World::new(6);
    let cluster = three_regions(&world);
    let (txn, clock, seen) = (client(&cluster), world.clone(), cluster.clone());
    world.run(async move {
        let mut mine = begun(txn.with_deadline(seconds(1)).begin_pessimistic()).await;
        mine.lock_keys(super::KEYS).await.unwrap();
        let silence_ends = clock.now() + seconds(3);
        let now = clock.clone();
        script(&seen, move |_| (now.now() < silence_ends).then_some(Fate::RequestSilent));
        assert!(mine.rollback().await.is_err());
        clock.sleep(seconds(10)).await;
        assert!(locks_in(&seen.state.lock().engine, &Keyspace::TXN.range()).is_empty());
    });
}

#[test]
fn what_others_took_for_abandoned_is_not_committed() {
    let world = World::new(5);
    let cluster = three_regions(&world);
    let (txn, other, clock) = (client(&cluster), client(&cluster), world.clone());
    world.run(async move {
        let mut mine = begun(txn.begin_pessimistic()).await;
        mine.put("a", "mine").await.unwrap();
        let start_ts = mine.start_timestamp().unwrap();
        // No sign of life comes through for a while.
        script(&cluster, |command| {
            matches!(command, TxnCommand::Heartbeat { .. }).then_some(Fate::RequestLost)
        });
        clock.sleep(seconds(30)).await;
        let mut theirs = begun(other.begin_pessimistic()).await;
        theirs.put("a", "theirs").await.unwrap();
        theirs.commit().await.unwrap();
        assert_eq!(mine.commit().await, Err(TxnError::RolledBack { start_ts }.into()));
        assert_eq!(other.latest().await.unwrap().get("a").await, Ok(Some("theirs".into())));
    });
}
