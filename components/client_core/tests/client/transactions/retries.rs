//! Transactions that begin again until they succeed, and those that do not.

use super::{begun, client, options, script, seconds, set, three_regions};
use crate::cluster::Fate;
use crate::world::World;
use client_core::{Error, TxnError};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wire::txn::TxnCommand;

#[test]
fn many_who_add_to_one_number_all_succeed() {
    for pessimistic in [false, true] {
        let world = World::new(1);
        let cluster = three_regions(&world);
        let txn = client(&cluster).with_deadline(seconds(60));
        world.run(async move {
            let adding = (0..20).map(|_| {
                let txn = txn.clone();
                async move {
                    let add = |mut mine: client_core::Attempt| async move {
                        let before = mine.get_for_update("a").await?.map_or(0, |bytes| bytes.len());
                        mine.put("a", vec![b'|'; before + 1]).await?;
                        Ok::<_, Error>(before)
                    };
                    if pessimistic { txn.run_pessimistic(add).await } else { txn.run(add).await }
                }
            });
            let mut seen: Vec<usize> =
                join_all(adding).await.into_iter().map(|before| before.unwrap()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..20).collect::<Vec<_>>());
            let tally = txn.latest().await.unwrap().get("a").await.unwrap().unwrap();
            assert_eq!(tally.len(), 20);
        });
    }
}

#[test]
fn it_can_be_moved_to_a_task_of_its_own() {
    let world = World::new(2);
    let txn = client(&three_regions(&world));
    let slot = crate::world::Slot::new();
    let done = slot.clone();
    world.spawn(async move {
        let result = txn.run(|mut mine| async move { mine.put("a", "v").await }).await;
        done.set(result);
    });
    assert_eq!(world.run(slot), Ok(()));
}

#[test]
fn what_the_body_gives_up_for_reasons_of_its_own_is_not_begun_again() {
    #[derive(PartialEq, Debug)]
    enum Mine {
        TooPoor,
        Store(Error),
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Self::Store(error)
        }
    }
    let world = World::new(3);
    let txn = client(&three_regions(&world));
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    world.run(async move {
        let result: Result<(), Mine> = txn
            .run(|mut mine| async move {
                mine.put("a", "never").await?;
                Err(Mine::TooPoor)
            })
            .await;
        assert_eq!(result, Err(Mine::TooPoor));
        assert_eq!(txn.latest().await.unwrap().get("a").await, Ok(None));
        set(&txn, &[("a", "there")]).await;
        let result: Result<(), Mine> = txn
            .run(|mut mine| {
                counted.fetch_add(1, Ordering::Relaxed);
                async move { Ok(mine.insert("a", "new").await?) }
            })
            .await;
        assert_eq!(result, Err(Mine::Store(TxnError::AlreadyExists { key: "a".into() }.into())));
    });
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[test]
fn after_an_unknown_outcome_nothing_is_begun_again() {
    let world = World::new(4);
    let cluster = three_regions(&world);
    let txn = cluster.core(options()).txn().with_deadline(seconds(2));
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let commits =
        |command: &TxnCommand| matches!(command, TxnCommand::Commit { .. } | TxnCommand::Prewrite(_));
    script(&cluster, move |command| commits(command).then_some(Fate::AnswerLost));
    world.run(async move {
        let result = txn
            .run(|mut mine| {
                counted.fetch_add(1, Ordering::Relaxed);
                async move { mine.put("a", "once").await }
            })
            .await;
        assert!(matches!(result, Err(Error::Undetermined { .. })), "{result:?}");
    });
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[test]
fn it_ends_by_its_deadline() {
    let world = World::new(5);
    let cluster = three_regions(&world);
    let (txn, clock) = (client(&cluster), world.clone());
    world.run(async move {
        let mut holder = begun(txn.begin_pessimistic()).await;
        holder.put("a", "held").await.unwrap();
        let begun = clock.now();
        let result = txn
            .with_deadline(seconds(8))
            .run_pessimistic(|mut mine| async move { mine.put("a", "v").await })
            .await;
        let taken = clock.now().since(begun);
        let is_late =
            matches!(result, Err(Error::Txn(TxnError::LockTimeout { .. }) | Error::DeadlineExceeded));
        assert!(is_late, "{result:?}");
        assert!(taken > seconds(4) && taken <= seconds(9), "{taken:?}");
    });
}
