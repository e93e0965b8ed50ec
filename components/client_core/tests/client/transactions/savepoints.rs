//! Savepoints: what was written after one is taken back, what was locked stays locked, and what was read was read.

use super::{begun, client, set, three_regions};
use crate::world::World;
use client_core::{Error, ScanOptions, TxnError};
use types::KeyRange;

/// A transaction tries something, takes it back, does something else and commits: only that is seen, by itself and by others.
#[test]
fn what_is_taken_back_was_never_written() {
    let world = World::new(1);
    let txn = client(&three_regions(&world));
    world.run(async move {
        for pessimistic in [false, true] {
            set(&txn, &[("a", "0"), ("b", "0")]).await;
            let mut mine = if pessimistic { txn.begin_pessimistic() } else { txn.begin() };
            mine.put("a", "1").await.unwrap();
            let savepoint = mine.savepoint().unwrap();
            for _ in 0..2 {
                mine.put("a", "2").await.unwrap();
                mine.delete("b").await.unwrap();
                mine.put("c", "2").await.unwrap();
                mine.rollback_to(savepoint).unwrap();
                let pairs =
                    mine.scan(KeyRange::full(), ScanOptions::default()).unwrap().into_vec().await.unwrap();
                let seen: Vec<_> = pairs.iter().map(|pair| (&pair.key[..], &pair.value[..])).collect();
                assert_eq!(seen, [(&b"a"[..], &b"1"[..]), (b"b", b"0")]);
            }
            // What was reserved meanwhile is kept from others.
            let mut other = begun(txn.begin()).await;
            other.put("c", "other").await.unwrap();
            let other = other.commit();
            let mine = mine.commit();
            let (mine, other) = futures_util::future::join(mine, other).await;
            mine.unwrap();
            assert_eq!(other.is_ok(), !pessimistic, "{other:?}");
            let now = txn.latest().await.unwrap().batch_get(super::KEYS).await.unwrap();
            let expected = [Some("1"), Some("0"), (!pessimistic).then_some("other")];
            assert_eq!(now, expected.map(|value| value.map(bytes::Bytes::from)));
            let mut clear = begun(txn.begin()).await;
            clear.delete("c").await.unwrap();
            clear.commit().await.unwrap();
        }
    });
}

/// Another transaction's savepoint is none, and what a serializable one has read it must still find.
#[test]
fn a_savepoint_is_of_its_transaction_and_forgets_no_read() {
    let world = World::new(1);
    let txn = client(&three_regions(&world)).serializable();
    world.run(async move {
        let (mut first, mut second) = (begun(txn.begin()).await, begun(txn.begin()).await);
        let savepoint = first.savepoint().unwrap();
        assert!(matches!(second.rollback_to(savepoint), Err(Error::InvalidArgument(_))));
        assert_eq!(first.get("a").await.unwrap(), None);
        first.put("a", "1").await.unwrap();
        first.rollback_to(savepoint).unwrap();
        first.put("b", "1").await.unwrap();
        set(&txn, &[("a", "other")]).await;
        let refused = first.commit().await;
        assert!(matches!(refused, Err(Error::Txn(TxnError::ReadConflict { .. }))), "{refused:?}");
    });
}
