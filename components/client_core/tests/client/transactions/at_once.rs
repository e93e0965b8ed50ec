//! Transactions that commit without a second phase: what is sent for them, what they fall back to, and what their callers are
//! told when nobody knows.

use super::{KEYS, all, begun, client, count, now, options, script, seconds, sent, set, three_regions};
use crate::cluster::{Cluster, Fate};
use crate::txn_store::locks_in;
use crate::world::World;
use client_core::{CommitProtocol, Error, Keyspace, TxnClient, TxnError};
use futures_util::FutureExt;
use types::Key;
use wire::kv::{BusyReason, KvError};
use wire::txn::TxnCommand;

/// A client whose transactions commit as early as they can, of a cluster whose leaders know what was read.
fn quick(cluster: &Cluster) -> TxnClient {
    cluster.state.lock().forgetful = false;
    cluster.core(options()).txn()
}

fn locks(cluster: &Cluster) -> Vec<Key> {
    locks_in(&cluster.state.lock().engine, &Keyspace::TXN.range())
}

#[test]
fn a_transaction_within_one_region_takes_one_request_and_locks_nothing() {
    let world = World::new(1);
    let cluster = three_regions(&world);
    let (txn, seen, clock) = (quick(&cluster), cluster.clone(), world.clone());
    world.run(async move {
        set(&txn, &[("a1", "v"), ("a2", "v"), ("a3", "v")]).await;
        assert_eq!(locks(&seen), Vec::<Key>::new());
        clock.sleep(seconds(1)).await;
        assert_eq!(sent(&seen), ["prewrite"]);
        assert_eq!(txn.latest().await.unwrap().get("a2").await.unwrap(), Some("v".into()));
    });
}

#[test]
fn a_transaction_over_regions_is_committed_when_all_is_locked() {
    for protocol in [CommitProtocol::AsyncCommit, CommitProtocol::OnePhase] {
        let world = World::new(2);
        let cluster = three_regions(&world);
        let (txn, seen, clock) = (quick(&cluster).with_protocol(protocol), cluster.clone(), world.clone());
        world.run(async move {
            set(&txn, &[("a", "new"), ("b", "new"), ("c", "new")]).await;
            assert_eq!(sent(&seen), ["prewrite", "prewrite", "prewrite"]);
            clock.sleep(seconds(1)).await;
            assert_eq!(count(&seen, "commit"), 3, "behind the answer");
            assert_eq!(locks(&seen), Vec::<Key>::new());
            assert_eq!(now(&txn).await, all("new"));
            assert_eq!(sent(&seen).len(), 6, "nobody met a lock");
        });
    }
}

#[test]
fn where_a_leader_does_not_know_what_was_read_the_second_phase_follows() {
    let world = World::new(3);
    let cluster = three_regions(&world);
    let (txn, seen, clock) = (quick(&cluster), cluster.clone(), world.clone());
    cluster.state.lock().leaders_know_reads = false;
    world.run(async move {
        set(&txn, &[("a1", "v"), ("a2", "v")]).await;
        assert_eq!(sent(&seen), ["prewrite", "commit"]);
        set(&txn, &[("a", "new"), ("b", "new"), ("c", "new")]).await;
        assert_eq!(sent(&seen)[2..], ["prewrite", "prewrite", "prewrite", "commit"]);
        clock.sleep(seconds(1)).await;
        assert_eq!(now(&txn).await, all("new"));
    });
}

#[test]
fn a_transaction_of_many_keys_commits_in_two_phases() {
    let world = World::new(4);
    let cluster = three_regions(&world);
    let (txn, seen, clock) = (quick(&cluster), cluster.clone(), world.clone());
    world.run(async move {
        let mut mine = begun(txn.begin()).await;
        for number in 0..300 {
            mine.put(format!("b{number:03}"), "v").await.unwrap();
        }
        mine.commit().await.unwrap().unwrap();
        assert_eq!(sent(&seen)[..2], ["prewrite", "prewrite"]);
        assert_eq!(sent(&seen)[2], "commit");
        clock.sleep(seconds(1)).await;
        assert_eq!(locks(&seen), Vec::<Key>::new());
    });
}

/// Two that have nothing in common: one ends before the other begins to commit. Whoever sees the second sees the first,
/// though the second began earlier.
#[test]
fn who_commits_after_another_has_ended_commits_later() {
    let world = World::new(5);
    let cluster = three_regions(&world);
    let txn = quick(&cluster);
    world.run(async move {
        for keys in [["a", "b"], ["a1", "a2"], ["c", "c1"]] {
            let mut early = begun(txn.begin()).await;
            early.put(keys[0], "early").await.unwrap();
            let mut late = begun(txn.begin()).await;
            late.put(keys[1], "late").await.unwrap();
            let first = late.commit().await.unwrap().unwrap();
            let second = early.commit().await.unwrap().unwrap();
            assert!(second > first, "{second:?} after {first:?}");
            assert!(txn.timestamp().await.unwrap() >= second, "who reads now sees it");
        }
    });
}

#[test]
fn a_commit_of_which_no_answer_comes_is_undetermined_whatever_was_done() {
    // (what becomes of prewrites of one region, whether they are done, whether all lie there)
    for (fate, is_done) in [(Fate::AnswerLost, true), (Fate::RequestSilent, false)] {
        for is_single in [false, true] {
            let world = World::new(6);
            let cluster = three_regions(&world);
            let (txn, clock, end) = (quick(&cluster), world.clone(), cluster.clone());
            let fate = fate.clone();
            world.run(async move {
                set(&txn, &[("a", "old"), ("b", "old"), ("c", "old")]).await;
                clock.sleep(seconds(1)).await;
                let mut mine = begun(txn.with_deadline(seconds(3)).begin()).await;
                let keys = if is_single { &["b"][..] } else { &KEYS[..] };
                for key in keys {
                    mine.put(*key, "new").await.unwrap();
                }
                let lost = Keyspace::TXN.encode(b"b");
                script(&end, move |command| match command {
                    TxnCommand::Prewrite(prewrite) if prewrite.mutations[0].key == lost => Some(fate.clone()),
                    _ => None,
                });
                let result = mine.commit().await;
                assert!(matches!(result, Err(Error::Undetermined { .. })), "{result:?}");
                end.state.lock().script = None;
                // It may have been committed: so nothing is given up before others have asked all of its keys.
                clock.sleep(seconds(60)).await;
                assert_eq!(count(&end, "rollback"), 0);
                let found = now(&txn).await;
                let new = if is_done { "new" } else { "old" };
                let wanted = KEYS.map(|key| Some(if keys.contains(&key) { new } else { "old" }.into()));
                assert_eq!(found, wanted);
                set(&txn, &[("a", "last"), ("b", "last"), ("c", "last")]).await;
            });
        }
    }
}

#[test]
fn a_commit_that_one_key_refuses_is_a_failure_and_the_others_are_given_up() {
    let world = World::new(7);
    let cluster = three_regions(&world);
    let (txn, clock, end) = (quick(&cluster), world.clone(), cluster.clone());
    world.run(async move {
        let mut mine = begun(txn.with_deadline(seconds(2)).begin()).await;
        for key in KEYS {
            mine.put(key, "new").await.unwrap();
        }
        set(&txn, &[("b", "theirs")]).await;
        let result = mine.commit().await;
        assert!(matches!(result, Err(Error::Txn(TxnError::WriteConflict { .. }))), "{result:?}");
        clock.sleep(seconds(1)).await;
        assert_eq!(locks(&end), Vec::<Key>::new());
        // One that never got through is not there either.
        let busy = KvError::ServerIsBusy { reason: BusyReason::Memory, backoff_ms: 10 };
        let lost = Keyspace::TXN.encode(b"c");
        script(&end, move |command| match command {
            TxnCommand::Prewrite(prewrite) if prewrite.mutations[0].key == lost => {
                Some(Fate::Refused(busy.clone()))
            }
            _ => None,
        });
        let mut mine = begun(txn.with_deadline(seconds(2)).begin()).await;
        for key in KEYS {
            mine.put(key, "new").await.unwrap();
        }
        let result = mine.commit().await;
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
        end.state.lock().script = None;
        clock.sleep(seconds(1)).await;
        assert_eq!(locks(&end), Vec::<Key>::new());
        assert_eq!(now(&client(&end)).await, [None, Some("theirs".into()), None]);
    });
}

/// A key is refused that is not locked, only to be absent, when all that is locked is locked, in other regions. Whoever met a
/// lock before it was given up asked all locked keys, and found the transaction committed that its caller had been told was not.
#[test]
fn a_commit_that_is_refused_for_a_key_it_does_not_lock_is_never_found_committed() {
    for protocol in [CommitProtocol::AsyncCommit, CommitProtocol::OnePhase] {
        let world = World::new(9);
        let cluster = three_regions(&world);
        let (txn, clock, end) = (quick(&cluster).with_protocol(protocol), world.clone(), cluster.clone());
        world.run(async move {
            set(&txn, &[("b", "theirs")]).await;
            let mut mine = begun(txn.begin()).await;
            mine.put("a", "new").await.unwrap();
            mine.insert("b", "new").await.unwrap();
            mine.delete("b").await.unwrap();
            // What is locked is not given up by whoever locked it.
            script(&end, |command| matches!(command, TxnCommand::Rollback { .. }).then_some(Fate::NotSent));
            let result = mine.commit().await;
            assert_eq!(result, Err(TxnError::AlreadyExists { key: "b".into() }.into()));
            clock.sleep(seconds(60)).await;
            assert_eq!(locks(&end), [Keyspace::TXN.encode(b"a")]);
            assert_eq!(now(&txn).await, [None, Some("theirs".into()), None]);
        });
    }
}

/// Its caller goes away in the middle. Keys that were reserved and locked are not given up: somebody may have found all of
/// them locked already. When it has expired, all keys are asked.
#[test]
fn a_commit_whose_caller_goes_away_is_decided_by_whoever_meets_it() {
    for steps in 0..12 {
        let world = World::new(8);
        let cluster = three_regions(&world);
        let (txn, clock, end) = (quick(&cluster), world.clone(), cluster.clone());
        world.run(async move {
            set(&txn, &[("a", "old"), ("b", "old"), ("c", "old")]).await;
            clock.sleep(seconds(1)).await;
            let mut mine = begun(txn.begin_pessimistic()).await;
            for key in KEYS {
                mine.put(key, "new").await.unwrap();
            }
            {
                let mut commit = Box::pin(mine.commit());
                for _ in 0..steps {
                    if (&mut commit).now_or_never().is_some() {
                        break;
                    }
                    clock.sleep(crate::ms(1)).await;
                }
            }
            clock.sleep(seconds(60)).await;
            let found = now(&txn).await;
            assert!(found == all("old") || found == all("new"), "after {steps} steps: {found:?}");
            set(&txn, &[("a", "last"), ("b", "last"), ("c", "last")]).await;
            clock.sleep(seconds(60)).await;
            assert_eq!(now(&txn).await, all("last"));
            assert_eq!(locks(&end), Vec::<Key>::new());
        });
    }
}
