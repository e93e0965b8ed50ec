//! Timestamps: many callers share a request, and nobody gets one that is older than the call.

use super::{client, three_regions};
use crate::ms;
use crate::world::World;
use client_core::Error;
use env::Dice;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use types::Timestamp;
use wire::pd::PdError;

#[test]
fn a_timestamp_is_later_than_all_that_were_given_before_its_call_and_nobody_elses() {
    for seed in 0..20 {
        let world = World::new(seed);
        let cluster = three_regions(&world);
        let mut dice = world.dice("test");
        // Two clients, who share nothing but the placement driver.
        let clients = [client(&cluster), client(&cluster)];
        let given = Arc::new(Mutex::new((Timestamp::default(), BTreeSet::new())));
        let callers = (0..200).map(|caller| {
            let (txn, given, world) = (clients[caller % 2].clone(), Arc::clone(&given), world.clone());
            let wait = dice.duration(ms(0), ms(50));
            async move {
                world.sleep(wait).await;
                let latest = given.lock().0;
                let timestamp = txn.timestamp().await.unwrap();
                assert!(timestamp > latest, "seed {seed}: {timestamp:?} was given after {latest:?}");
                let mut given = given.lock();
                given.0 = given.0.max(timestamp);
                assert!(given.1.insert(timestamp), "seed {seed}: {timestamp:?} was given twice");
            }
        });
        let callers: Vec<_> = callers.collect();
        world.run(async move { drop(futures_util::future::join_all(callers).await) });
        let asked = cluster.state.lock().pd_sent.len();
        assert!(asked < 120, "seed {seed}: 200 callers made {asked} requests");
    }
}

#[test]
fn a_caller_who_goes_away_keeps_nobody_from_a_timestamp() {
    let world = World::new(1);
    let txn = client(&three_regions(&world));
    let clock = world.clone();
    world.run(async move {
        for wait in [0, 1, 2] {
            let gone = Box::pin(txn.timestamp());
            drop(futures_util::future::select(gone, clock.sleep(ms(wait))).await);
            let (first, second) = futures_util::future::join(txn.timestamp(), txn.timestamp()).await;
            assert!(first.unwrap() != second.unwrap());
        }
    });
}

#[test]
fn a_placement_driver_that_is_away_is_asked_again_until_the_deadline() {
    let world = World::new(2);
    let cluster = three_regions(&world);
    let txn = client(&cluster);
    let (clock, end) = (world.clone(), cluster.clone());
    world.run(async move {
        end.state.lock().pd_errors.extend([PdError::NotLeader { leader: None }, PdError::NotBootstrapped]);
        txn.timestamp().await.unwrap();
        end.state.lock().pd_down = true;
        let begun = clock.now();
        let error = txn.with_deadline(ms(1000)).timestamp().await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. } | Error::DeadlineExceeded), "{error:?}");
        assert!(clock.now().since(begun) <= ms(1000));
        end.state.lock().pd_down = false;
        txn.timestamp().await.unwrap();
    });
}

#[test]
fn timestamps_that_go_back_are_not_believed() {
    let world = World::new(3);
    let cluster = three_regions(&world);
    let (txn, end) = (client(&cluster), cluster.clone());
    world.run(async move {
        end.state.lock().given = Timestamp::compose(2_000_000, 0);
        txn.timestamp().await.unwrap();
        end.state.lock().given = Timestamp::default();
        assert!(matches!(txn.timestamp().await, Err(Error::UnexpectedAnswer { .. })));
    });
}
