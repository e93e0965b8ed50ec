//! Pessimistic transactions that wait for each other: the product's clients, stores and placement driver.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use client_core::{Core, Error, Keyspace, TxnError};
use parking_lot::Mutex;
use sim::script::{CallId, Reply, Script, ScriptConfig};
use sim::{CrashKind, Handle, NodeId};
use std::sync::Arc;
use std::time::Duration;
use types::{Key, Timestamp};

const CLIENTS: [NodeId; 3] = [NodeId(101), NodeId(102), NodeId(103)];
const OPERATOR: NodeId = NodeId(104);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn key(number: usize) -> Key {
    Key::from(format!("key {number}"))
}

/// Three stores, and as many regions, each led by another store, with one of the keys in each.
fn cluster(seed: u64) -> Script {
    let config = ScriptConfig { seed, clients: 4, ..ScriptConfig::default() };
    let mut script = Script::new(&config);
    script.boot();
    let stores: Vec<_> = script.stores().iter().map(|node| script.store_of(*node).unwrap()).collect();
    let setting = script.work(OPERATOR, move |core, handle| async move {
        let inner = |number| Keyspace::TXN.encode(&key(number));
        core.admin().split_region([inner(1)]).await?;
        core.admin().split_region([inner(2)]).await?;
        for (number, store) in stores.into_iter().enumerate() {
            loop {
                let route = core.admin().region_at(inner(number)).await?;
                match route {
                    Some(route) if route.leader.is_some_and(|leader| leader.store_id == store) => break,
                    Some(route) => drop(core.admin().transfer_leader(route.region.id, store).await),
                    None => {}
                }
                handle.sleep(ms(200)).await;
            }
        }
        Ok(Reply::Done)
    });
    script.wait(setting).unwrap();
    script
}

/// What became of somebody, in the order in which they ended: who it was, and when it began.
type Ends = Arc<Mutex<Vec<(usize, Result<Timestamp, Error>)>>>;

/// Reserves a key, rests until all others have reserved theirs, and then wants the next one's.
async fn wants_two(core: Core, handle: Handle, me: usize, of: usize, ends: Ends) -> Result<Reply, Error> {
    let mut txn = core.txn().begin_pessimistic();
    let began = txn.begin_now().await?;
    txn.put(key(me), format!("of {me}")).await?;
    handle.sleep(ms(500 + 50 * me as u64)).await;
    let result = match txn.put(key((me + 1) % of), format!("of {me}")).await {
        Ok(()) => txn.commit().await.map(|_| began),
        Err(error) => {
            txn.rollback().await?;
            Err(error)
        }
    };
    ends.lock().push((me, result));
    Ok(Reply::Done)
}

fn all_want_two(script: &mut Script, of: usize) -> Ends {
    let ends = Ends::default();
    let calls: Vec<CallId> = (0..of)
        .map(|me| {
            let ends = Arc::clone(&ends);
            script.work(CLIENTS[me], move |core, handle| wants_two(core, handle, me, of, ends))
        })
        .collect();
    let ended = script.run_until(ms(2_500), |script| calls.iter().all(|call| script.answer(*call).is_some()));
    assert!(ended, "whoever waits for itself is told so, long before it would not wait any longer: {ends:?}");
    ends
}

/// Each of two clients holds a key on one store and wants the other's on another store; then three of them, in a ring. The
/// last one to wait is told at once, and by whom it is waited for; when it gives its key up all others commit.
#[test]
fn of_those_that_wait_for_each_other_one_is_told_and_the_others_commit() {
    for (seed, of) in [(1, 2), (2, 3), (3, 2), (4, 3)] {
        let mut script = cluster(seed);
        let ends = all_want_two(&mut script, of);
        let ends = ends.lock();
        let (losers, winners): (Vec<_>, Vec<_>) = ends.iter().partition(|(_, result)| result.is_err());
        assert_eq!((losers.len(), winners.len()), (1, of - 1), "{ends:?}");
        let (who, Err(Error::Txn(error))) = losers[0] else { panic!("{losers:?}") };
        let TxnError::Deadlock { key: wanted, by, wait_chain } = error else { panic!("{error}") };
        assert_eq!((wanted, wait_chain.len()), (&key((who + 1) % of), of), "{error}");
        assert_eq!(wait_chain[0].lock_ts, *by);
        for (place, edge) in wait_chain.iter().enumerate() {
            assert_eq!(edge.key, key((who + 1 + place) % of), "{error}");
            assert_eq!(edge.lock_ts, wait_chain[(place + 1) % of].waiter_ts, "it leads back: {error}");
        }
        assert!(error.to_string().starts_with("deadlock: ") && error.is_worth_another(), "{error}");
        assert!(script.broken().is_empty(), "{:?}", script.broken());
    }
}

/// The same, with bodies that are run again: nobody sees a deadlock, and all commit.
#[test]
fn bodies_that_wait_for_each_other_are_run_again_until_all_have_committed() {
    let mut script = cluster(5);
    let calls: Vec<CallId> = (0..3)
        .map(|me: usize| {
            script.work(CLIENTS[me], move |core, handle| async move {
                let body = |mut txn: client_core::Attempt| {
                    let handle = handle.clone();
                    async move {
                        txn.put(key(me), format!("of {me}")).await?;
                        handle.sleep(ms(200)).await;
                        txn.put(key((me + 1) % 3), format!("of {me}")).await
                    }
                };
                core.txn().run_pessimistic(body).await.map(|()| Reply::Done)
            })
        })
        .collect();
    for call in calls {
        script.wait(call).unwrap();
    }
    assert!(script.broken().is_empty(), "{:?}", script.broken());
}

/// The member of the placement driver that knows who waits is lost between the two waits. The next one is told all that
/// wait, and finds the deadlock.
#[test]
fn a_deadlock_is_found_by_the_next_leader_of_the_placement_driver() {
    let config = ScriptConfig { seed: 6, clients: 4, members: 3, ..ScriptConfig::default() };
    let mut script = Script::new(&config);
    script.boot();
    let ends = Ends::default();
    let calls: Vec<CallId> = (0..2)
        .map(|me: usize| {
            let ends = Arc::clone(&ends);
            script.work(CLIENTS[me], move |core, handle| async move {
                let mut txn = core.txn().begin_pessimistic();
                let began = txn.begin_now().await?;
                txn.put(key(me), "1").await?;
                handle.sleep(ms(500)).await;
                // The second begins to wait when the leader is gone.
                handle.sleep(ms(if me == 0 { 0 } else { 300 })).await;
                let result = loop {
                    match txn.put(key(1 - me), "1").await {
                        Ok(()) => break txn.commit().await.map(|_| began),
                        // Nobody finds it for as long as nobody leads; they wait on.
                        Err(Error::Txn(TxnError::LockTimeout { .. }) | Error::Unavailable { .. }) => {}
                        Err(error) => {
                            txn.rollback().await?;
                            break Err(error);
                        }
                    }
                };
                ends.lock().push((me, result));
                Ok(Reply::Done)
            })
        })
        .collect();
    script.run_for(ms(650));
    let leader = script.pd_leader().expect("somebody leads");
    script.crash(leader, CrashKind::Process);
    let ended = script
        .run_until(Duration::from_secs(20), |script| calls.iter().all(|call| script.answer(*call).is_some()));
    assert!(ended, "{ends:?}");
    let told = |(_, result): &(usize, Result<Timestamp, Error>)| {
        matches!(result, Err(Error::Txn(TxnError::Deadlock { .. })))
    };
    assert_eq!(ends.lock().iter().filter(|end| told(end)).count(), 1, "{ends:?}");
}
