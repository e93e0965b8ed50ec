//! A client dies between any two of its requests, and others find all of its transaction, or nothing.

use super::{all, client, mortal, now, protocol, seconds, set, three_regions};
use crate::cluster::{Cluster, Weather};
use crate::ms;
use crate::txn_store::locks_in;
use crate::world::World;
use client_core::{CommitProtocol, Error, Keyspace, TxnClient};
use env::Dice;
use futures_util::future::{Either, select};
use types::{Key, Timestamp};

/// Writes all three keys, in one way or the other.
async fn write(txn: TxnClient, pessimistic: bool, value: Vec<u8>) -> Result<Option<Timestamp>, Error> {
    let mut mine = match pessimistic {
        true => txn.begin_pessimistic(),
        false => txn.begin(),
    };
    if pessimistic {
        mine.lock_keys(super::KEYS).await?;
    }
    for key in super::KEYS {
        mine.put(key, value.clone()).await?;
    }
    mine.commit().await
}

/// Dies with the request after so many; true if it came to its end before.
fn dies_after(
    seed: u64,
    requests: usize,
    pessimistic: bool,
    protocol: CommitProtocol,
    weather: Weather,
) -> bool {
    let world = World::new(seed);
    let cluster = match protocol {
        CommitProtocol::OnePhase => Cluster::new(&world, &[]),
        _ => three_regions(&world),
    };
    let (process, dying) = mortal(&cluster);
    let dying = dying.with_protocol(protocol);
    let reader = client(&cluster);
    let (clock, end, mut dice) = (world.clone(), cluster.clone(), world.dice("test"));
    // Some values stand in their locks, others beside them.
    let value = vec![b'n'; if dice.chance(1, 2) { 3 } else { 300 }];
    world.run(async move {
        set(&reader, &[("a", "old"), ("b", "old"), ("c", "old")]).await;
        clock.sleep(seconds(1)).await;
        end.set_weather(weather);
        process.dies_after(requests);
        let writing = Box::pin(write(dying, pessimistic, value.clone()));
        let told = match select(writing, process.death()).await {
            Either::Left((told, _)) => Some(told),
            Either::Right(_) => None,
        };
        end.set_weather(Weather { change: weather.change, ..Weather::default() });
        if dice.chance(1, 2) {
            clock.sleep(dice.duration(ms(1), seconds(30))).await;
        }
        let new = vec![Some(value.into()); 3];
        let first = reader.latest().await.unwrap();
        let found = first.batch_get(super::KEYS).await.unwrap();
        assert!(found == new || found == all("old"), "seed {seed}, {requests} requests: {found:?}");
        if matches!(told, Some(Ok(_))) {
            assert_eq!(found, new, "seed {seed}, {requests} requests: it was told to be committed");
        }
        if let Some(Err(error)) = &told
            && !matches!(error, Error::Undetermined { .. })
        {
            assert_eq!(found, all("old"), "seed {seed}, {requests} requests: it was told of {error:?}");
        }
        // Others find the same, whatever they know, now and when it is long over.
        let other = client(&end);
        let same = other.snapshot(first.timestamp());
        assert_eq!(same.batch_get(super::KEYS).await.unwrap(), found);
        clock.sleep(seconds(60)).await;
        let later = now(&other).await;
        // What its first phase commits may be committed after who looked first, by the request with which it died.
        let is_on_its_way = protocol != CommitProtocol::TwoPhase && told.is_none() && later == new;
        let is_same =
            later == found || is_on_its_way || matches!(told, Some(Err(Error::Undetermined { .. })));
        assert!(is_same, "seed {seed}, {requests} requests: {found:?} became {later:?}");
        assert_eq!(same.batch_get(super::KEYS).await.unwrap(), found);
        // And they may write.
        set(&other, &[("a", "last"), ("b", "last"), ("c", "last")]).await;
        clock.sleep(seconds(60)).await;
        assert_eq!(now(&other).await, all("last"));
        assert_eq!(locks_in(&end.state.lock().engine, &Keyspace::TXN.range()), Vec::<Key>::new());
        told.is_some()
    })
}

#[test]
fn after_a_crash_at_any_step_everybody_finds_all_or_nothing() {
    for seed in 0..10 {
        for pessimistic in [false, true] {
            let mut requests = 0;
            let way = protocol(seed);
            while !dies_after(seed, requests, pessimistic, way, Weather::default()) {
                requests += 1;
                assert!(requests < 50, "it never comes to its end");
            }
            let (least, why) = match way {
                CommitProtocol::TwoPhase => (4, "three keys are locked and one is committed"),
                CommitProtocol::AsyncCommit => (3, "three keys are locked"),
                CommitProtocol::OnePhase => (1, "all are written"),
            };
            assert!(requests >= least, "{requests} requests: {why}");
        }
    }
}

#[test]
fn after_a_crash_while_regions_change_and_requests_are_lost_or_late_everybody_finds_all_or_nothing() {
    let weather = Weather { network: 100, busy: 50, undetermined: 50, late: 50, change: 300 };
    for seed in 100..160 {
        for requests in 0..8 {
            dies_after(seed, requests, seed % 2 == 0, protocol(seed / 2), weather);
        }
    }
}
