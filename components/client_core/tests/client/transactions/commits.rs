//! How a commit goes, and what its caller is told when something goes wrong on the way.

use super::{all, begun, client, count, mortal, now, script, seconds, sent, set, three_regions};
use crate::cluster::Fate;
use crate::ms;
use crate::txn_store::locks_in;
use crate::world::World;
use client_core::{Error, Keyspace, TxnError};
use wire::kv::{BusyReason, KvError};
use wire::txn::{Conflict, TxnCommand, TxnFault};

#[test]
fn the_primary_is_committed_when_all_is_locked_and_the_others_behind_the_answer() {
    let world = World::new(1);
    let cluster = three_regions(&world);
    let txn = client(&cluster);
    let (seen, end) = (cluster.clone(), world.clone());
    world.run(async move {
        set(&txn, &[("a", "new"), ("b", "new"), ("c", "new")]).await;
        assert_eq!(sent(&seen), ["prewrite", "prewrite", "prewrite", "commit"]);
        end.sleep(seconds(1)).await;
        assert_eq!(count(&seen, "commit"), 3);
        assert_eq!(locks_in(&seen.state.lock().engine, &Keyspace::TXN.range()), Vec::<types::Key>::new());
        assert_eq!(now(&txn).await, all("new"));
        assert_eq!(sent(&seen).len(), 6, "nobody met a lock");
    });
}

#[test]
fn keys_of_one_region_take_one_request_for_each_phase() {
    let world = World::new(2);
    let cluster = three_regions(&world);
    let (txn, seen, clock) = (client(&cluster), cluster.clone(), world.clone());
    world.run(async move {
        set(&txn, &[("a1", "v"), ("a2", "v"), ("a3", "v")]).await;
        clock.sleep(seconds(1)).await;
        // What is told a second time, behind the answer, is told in vain.
        assert_eq!(sent(&seen), ["prewrite", "commit"]);
    });
}

#[test]
fn whatever_may_come_twice_is_sent_again_when_its_answer_is_lost() {
    for lost in [Fate::AnswerLost, Fate::RequestLost, Fate::AnswerSilent, Fate::RequestSilent] {
        let world = World::new(3);
        let cluster = three_regions(&world);
        let txn = client(&cluster);
        // The first request of each kind and region.
        let (mut seen, fate) = (std::collections::BTreeSet::new(), lost.clone());
        script(&cluster, move |command| {
            let keys: Vec<types::Key> = crate::txn_store::keys_of(command).into_iter().cloned().collect();
            let is_commit = matches!(command, TxnCommand::Commit { .. });
            seen.insert((is_commit, keys)).then(|| fate.clone())
        });
        world.run(async move {
            set(&txn, &[("a", "new"), ("b", "new"), ("c", "new")]).await;
            assert_eq!(now(&txn).await, all("new"), "after {lost:?}");
        });
    }
}

#[test]
fn a_commit_whose_answers_are_all_lost_is_said_to_be_undetermined_and_no_other_failure_is() {
    // (what is lost, whether it was done)
    for (fate, is_done) in [(Fate::AnswerLost, true), (Fate::RequestSilent, false)] {
        for lose_prewrite in [false, true] {
            let world = World::new(4);
            let cluster = three_regions(&world);
            let txn = client(&cluster);
            let clock = world.clone();
            let (fate, end) = (fate.clone(), cluster.clone());
            world.run(async move {
                set(&txn, &[("a", "old"), ("b", "old"), ("c", "old")]).await;
                clock.sleep(seconds(1)).await;
                let mut mine = begun(txn.with_deadline(seconds(3)).begin()).await;
                for key in super::KEYS {
                    mine.put(key, "new").await.unwrap();
                }
                script(&end, move |command| match command {
                    TxnCommand::Prewrite(_) if lose_prewrite => Some(fate.clone()),
                    TxnCommand::Commit { .. } => Some(fate.clone()),
                    _ => None,
                });
                let result = mine.commit().await;
                end.state.lock().script = None;
                let is_undetermined = matches!(result, Err(Error::Undetermined { .. }));
                assert_eq!(is_undetermined, !lose_prewrite, "{result:?}");
                clock.sleep(seconds(60)).await;
                let value = if is_done && is_undetermined { "new" } else { "old" };
                assert_eq!(now(&txn).await, all(value), "{result:?}");
            });
        }
    }
}

#[test]
fn a_commit_that_is_refused_is_a_failure_and_what_was_locked_is_given_up() {
    let world = World::new(5);
    let cluster = three_regions(&world);
    let txn = client(&cluster);
    let (clock, seen) = (world.clone(), cluster.clone());
    script(&cluster, |command| match command {
        TxnCommand::Commit { .. } => {
            Some(Fate::Refused(KvError::ServerIsBusy { reason: BusyReason::Memory, backoff_ms: 10 }))
        }
        _ => None,
    });
    world.run(async move {
        let mut mine = begun(txn.with_deadline(seconds(1)).begin()).await;
        for key in super::KEYS {
            mine.put(key, "new").await.unwrap();
        }
        let result = mine.commit().await;
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
        clock.sleep(seconds(1)).await;
        assert_eq!(count(&seen, "rollback"), 3);
        assert_eq!(locks_in(&seen.state.lock().engine, &Keyspace::TXN.range()), Vec::<types::Key>::new());
        assert_eq!(now(&txn).await, [None, None, None]);
    });
}

#[test]
fn a_reader_who_comes_before_the_commit_makes_it_commit_later_and_is_not_kept_waiting() {
    let world = World::new(6);
    let cluster = three_regions(&world);
    let txn = client(&cluster);
    let (clock, end) = (world.clone(), cluster.clone());
    world.run(async move {
        set(&txn, &[("a", "old"), ("b", "old"), ("c", "old")]).await;
        clock.sleep(seconds(1)).await;
        // Commits are held up for a while, with the timestamps that they were given.
        let mut refusals = 8;
        script(&end, move |command| match command {
            TxnCommand::Commit { .. } if refusals > 0 => {
                refusals -= 1;
                Some(Fate::Refused(KvError::ServerIsBusy { reason: BusyReason::Memory, backoff_ms: 10 }))
            }
            _ => None,
        });
        let mut mine = begun(txn.begin()).await;
        for key in super::KEYS {
            mine.put(key, "new").await.unwrap();
        }
        let reading = async {
            clock.sleep(ms(100)).await;
            let snapshot = txn.latest().await.unwrap();
            let begun = clock.now();
            let values = snapshot.batch_get(super::KEYS).await.unwrap();
            assert!(clock.now().since(begun) < ms(50), "it waited");
            assert_eq!(values, all("old"));
            snapshot
        };
        let (committed, snapshot) = futures_util::future::join(mine.commit(), reading).await;
        let commit_ts = committed.unwrap().unwrap();
        assert!(commit_ts > snapshot.timestamp());
        assert_eq!(snapshot.batch_get(super::KEYS).await.unwrap(), all("old"));
        assert_eq!(now(&txn).await, all("new"));
    });
}

#[test]
fn who_was_taken_for_abandoned_is_told_so() {
    let world = World::new(7);
    let cluster = three_regions(&world);
    let txn = client(&cluster);
    let end = cluster.clone();
    world.run(async move {
        let mut mine = begun(txn.begin()).await;
        mine.put("a", "new").await.unwrap();
        let start_ts = mine.start_timestamp().unwrap();
        // Whoever rolls it back, it was not itself.
        let mut engine = Some(end.state.lock().engine.clone());
        script(&end, move |command| {
            if let TxnCommand::Commit { keys, start_ts, .. } = command
                && let Some(engine) = engine.take()
            {
                let command = TxnCommand::Rollback { keys: keys.clone(), start_ts: *start_ts };
                crate::txn_store::execute(&engine, command, None).unwrap();
            }
            None
        });
        assert_eq!(mine.commit().await, Err(TxnError::RolledBack { start_ts }.into()));
        assert_eq!(now(&txn).await, [None, None, None]);
    });
}

#[test]
fn faults_are_told_by_what_the_caller_does_next_in_users_keys() {
    let world = World::new(8);
    let cluster = three_regions(&world);
    let (txn, end) = (client(&cluster), cluster.clone());
    world.run(async move {
        set(&txn, &[("b", "there")]).await;
        let mut mine = begun(txn.begin()).await;
        mine.put("a", "new").await.unwrap();
        mine.insert("b", "new").await.unwrap();
        assert_eq!(mine.commit().await, Err(TxnError::AlreadyExists { key: "b".into() }.into()));
        // What was inserted and removed again must still have been new.
        let mut mine = begun(txn.begin()).await;
        mine.insert("b", "new").await.unwrap();
        mine.delete("b").await.unwrap();
        assert_eq!(mine.commit().await, Err(TxnError::AlreadyExists { key: "b".into() }.into()));
        let mut mine = begun(txn.begin()).await;
        mine.insert("c", "new").await.unwrap();
        mine.delete("c").await.unwrap();
        assert_eq!(mine.commit().await, Ok(None));
        let mut mine = begun(txn.begin()).await;
        mine.put("a", "new").await.unwrap();
        let start_ts = mine.start_timestamp().unwrap();
        script(&end, move |command| match command {
            TxnCommand::Prewrite(_) => Some(Fate::Refused(KvError::Txn(Box::new(TxnFault::WriteConflict {
                key: Keyspace::TXN.encode(b"a"),
                start_ts,
                conflict_start_ts: start_ts,
                conflict_commit_ts: start_ts,
                reason: Conflict::RolledBack,
            })))),
            _ => None,
        });
        assert_eq!(mine.commit().await, Err(TxnError::RolledBack { start_ts }.into()));
        end.state.lock().script = None;
        assert_eq!(now(&txn).await, [None, Some("there".into()), None]);
    });
}

#[test]
fn a_dropped_transaction_gives_up_what_it_has_locked() {
    let world = World::new(9);
    let cluster = three_regions(&world);
    let (clock, seen) = (world.clone(), cluster.clone());
    let (_, txn) = mortal(&cluster);
    world.run(async move {
        // While its keys are being locked.
        let mut mine = begun(txn.begin()).await;
        for key in super::KEYS {
            mine.put(key, "new").await.unwrap();
        }
        let until = clock.sleep(ms(2));
        drop(futures_util::future::select(Box::pin(mine.commit()), until).await);
        // And before.
        let mut reserved = begun(txn.begin_pessimistic()).await;
        reserved.lock_keys(["d", "e"]).await.unwrap();
        drop(reserved);
        clock.sleep(seconds(1)).await;
        assert_eq!(locks_in(&seen.state.lock().engine, &Keyspace::TXN.range()), Vec::<types::Key>::new());
        let names = sent(&seen);
        assert!(names.contains(&"rollback") && names.contains(&"release"), "{names:?}");
    });
}
