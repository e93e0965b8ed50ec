//! What snapshot isolation forbids does not happen, by name; and the one thing that it allows does.

use super::{all, begun, client, now, set, three_regions};
use crate::world::World;
use client_core::{Error, ScanOptions, TxnClient, TxnError};
use types::KeyRange;

fn run<F: Future<Output = ()> + Send + 'static>(story: impl FnOnce(TxnClient) -> F) {
    let world = World::new(1);
    let txn = client(&three_regions(&world));
    world.run(story(txn));
}

#[test]
fn a_dirty_write_is_refused() {
    run(async |txn| {
        let (mut first, mut second) = (begun(txn.begin()).await, begun(txn.begin()).await);
        for key in super::KEYS {
            first.put(key, "first").await.unwrap();
            second.put(key, "second").await.unwrap();
        }
        let (first, second) = futures_util::future::join(first.commit(), second.commit()).await;
        assert!(first.is_ok() != second.is_ok(), "{first:?} and {second:?}");
        let winner = if first.is_ok() { "first" } else { "second" };
        assert_eq!(now(&txn).await, all(winner));
    });
}

#[test]
fn a_dirty_read_does_not_see_what_may_yet_be_rolled_back() {
    run(async |txn| {
        set(&txn, &[("a", "old"), ("b", "old"), ("c", "old")]).await;
        let mut writer = begun(txn.begin_pessimistic()).await;
        writer.put("a", "new").await.unwrap();
        assert_eq!(now(&txn).await, all("old"));
        assert_eq!(writer.get("a").await.unwrap().as_deref(), Some(&b"new"[..]));
        writer.rollback().await.unwrap();
        assert_eq!(now(&txn).await, all("old"));
    });
}

#[test]
fn a_fuzzy_read_sees_the_same_value_again() {
    run(async |txn| {
        set(&txn, &[("a", "old")]).await;
        let reader = begun(txn.begin()).await;
        assert_eq!(reader.get("a").await.unwrap().as_deref(), Some(&b"old"[..]));
        set(&txn, &[("a", "new")]).await;
        assert_eq!(reader.get("a").await.unwrap().as_deref(), Some(&b"old"[..]));
        assert_eq!(reader.commit().await, Ok(None), "who only reads always may");
    });
}

#[test]
fn read_skew_does_not_mix_two_states() {
    run(async |txn| {
        set(&txn, &[("a", "old"), ("b", "old"), ("c", "old")]).await;
        let reader = begun(txn.begin()).await;
        assert_eq!(reader.get("a").await.unwrap().as_deref(), Some(&b"old"[..]));
        set(&txn, &[("a", "new"), ("b", "new"), ("c", "new")]).await;
        assert_eq!(reader.batch_get(super::KEYS).await.unwrap(), all("old"));
        // And whoever reads at a moment of the past sees that moment.
        assert_eq!(now(&txn).await, all("new"));
        let then = txn.snapshot(reader.start_timestamp().unwrap());
        assert_eq!(then.batch_get(super::KEYS).await.unwrap(), all("old"));
    });
}

#[test]
fn a_phantom_does_not_appear_in_a_range_that_was_read() {
    run(async |txn| {
        set(&txn, &[("a", "1"), ("c", "3")]).await;
        let reader = begun(txn.begin()).await;
        let scan = || reader.scan(KeyRange::full(), ScanOptions::default()).unwrap().into_vec();
        let before = scan().await.unwrap();
        set(&txn, &[("b", "2")]).await;
        assert_eq!(scan().await.unwrap(), before);
        assert_eq!(before.len(), 2);
    });
}

#[test]
fn a_lost_update_is_refused() {
    run(async |txn| {
        set(&txn, &[("a", "0")]).await;
        let (mut first, mut second) = (begun(txn.begin()).await, begun(txn.begin()).await);
        for (transaction, value) in [(&mut first, "1"), (&mut second, "2")] {
            assert_eq!(transaction.get("a").await.unwrap().as_deref(), Some(&b"0"[..]));
            transaction.put("a", value).await.unwrap();
        }
        let start_ts = second.start_timestamp().unwrap();
        let commit_ts = first.commit().await.unwrap();
        match second.commit().await {
            Err(Error::Txn(TxnError::WriteConflict {
                key,
                start_ts: mine,
                conflict_commit_ts: theirs,
                ..
            })) => {
                assert_eq!((&key[..], mine, theirs), (&b"a"[..], start_ts, commit_ts));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(txn.latest().await.unwrap().get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    });
}

#[test]
fn write_skew_is_allowed_and_refused_to_those_who_lock_what_they_read() {
    run(async |txn| {
        // Two doctors are on call, and each leaves if the other one stays.
        for locks in [false, true] {
            set(&txn, &[("a", "on"), ("b", "on")]).await;
            let (mut first, mut second) = (begun(txn.begin()).await, begun(txn.begin()).await);
            for (transaction, mine, other) in [(&mut first, "a", "b"), (&mut second, "b", "a")] {
                let value = match locks {
                    true => transaction.get_for_update(other).await,
                    false => transaction.get(other).await,
                };
                assert_eq!(value.unwrap().as_deref(), Some(&b"on"[..]));
                transaction.put(mine, "off").await.unwrap();
            }
            let first = first.commit().await;
            let second = second.commit().await;
            assert!(first.is_ok());
            let is_refused = matches!(second, Err(Error::Txn(TxnError::WriteConflict { .. })));
            assert_eq!(is_refused, locks, "{second:?}");
        }
    });
}
