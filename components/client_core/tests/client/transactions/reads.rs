//! What a transaction reads: its own writes over what was committed when it began, in any way of reading.

use super::{begun, client, options, set, three_regions};
use crate::cluster::Cluster;
use crate::pair;
use crate::world::World;
use bytes::Bytes;
use client_core::{Error, InvalidArgument, Options, ScanOptions, TxnError};
use env::Dice;
use std::collections::BTreeMap;
use types::{Key, KeyRange};

#[test]
fn own_writes_are_read_at_once_by_their_writer_alone() {
    let world = World::new(1);
    let txn = client(&three_regions(&world));
    world.run(async move {
        set(&txn, &[("a", "1"), ("b", "2")]).await;
        let mut mine = begun(txn.begin()).await;
        mine.put("a", "new").await.unwrap();
        mine.delete("b").await.unwrap();
        mine.insert("c", "made").await.unwrap();
        let values = mine.batch_get(["c", "b", "a", "d"]).await.unwrap();
        assert_eq!(values, [Some("made".into()), None, Some("new".into()), None]);
        assert_eq!(mine.get("b").await, Ok(None));
        let all = mine.scan(KeyRange::full(), ScanOptions::default()).unwrap().into_vec().await;
        assert_eq!(all.unwrap(), [pair("a", "new"), pair("c", "made")]);
        let others = txn.latest().await.unwrap();
        let all = others.scan(KeyRange::full(), ScanOptions::default()).unwrap().into_vec().await;
        assert_eq!(all.unwrap(), [pair("a", "1"), pair("b", "2")]);
        let commit_ts = mine.commit().await.unwrap().unwrap();
        let after = txn.snapshot(commit_ts).batch_get(["a", "b", "c"]).await.unwrap();
        assert_eq!(after, [Some("new".into()), None, Some("made".into())]);
        let before = txn.snapshot(types::Timestamp(commit_ts.0 - 1)).get("c").await;
        assert_eq!(before, Ok(None));
    });
}

#[test]
fn scans_of_a_transaction_agree_with_a_map_in_both_directions_with_any_limit() {
    for seed in 0..40 {
        let world = World::new(seed);
        let cluster = Cluster::new(&world, &[]);
        cluster.cut_txn(&["025", "050", "075"]);
        let (txn, mut dice) = (client(&cluster), world.dice("test"));
        world.run(async move {
            let key = |dice: &mut env::SplitMix| Key::from(format!("{:03}", dice.below(100)));
            let mut model = BTreeMap::new();
            let mut stored = begun(txn.begin()).await;
            for n in 0..60 {
                let (key, value) = (key(&mut dice), Bytes::from(format!("stored {n}")));
                stored.put(key.clone(), value.clone()).await.unwrap();
                model.insert(key, value);
            }
            stored.commit().await.unwrap();
            let mut mine = begun(txn.begin()).await;
            for n in 0..30 {
                let key = key(&mut dice);
                if dice.chance(1, 2) {
                    let value = Bytes::from(format!("mine {n}"));
                    mine.put(key.clone(), value.clone()).await.unwrap();
                    model.insert(key, value);
                } else {
                    mine.delete(key.clone()).await.unwrap();
                    model.remove(&key);
                }
            }
            for _ in 0..10 {
                let (a, b) = (dice.below(110), dice.below(110));
                let range = KeyRange::new(format!("{:03}", a.min(b)), format!("{:03}", a.max(b)));
                let options = ScanOptions {
                    reverse: dice.chance(1, 2),
                    keys_only: dice.chance(1, 4),
                    limit: dice.chance(1, 2).then(|| dice.below(30)),
                    page_pairs: 1 + dice.below(8) as u32,
                    ..ScanOptions::default()
                };
                let found = mine.scan(range.clone(), options.clone()).unwrap().into_vec().await.unwrap();
                let mut expected: Vec<(Key, Bytes)> = model
                    .iter()
                    .filter(|(key, _)| range.contains(key))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                if options.reverse {
                    expected.reverse();
                }
                expected.truncate(options.limit.unwrap_or(u64::MAX) as usize);
                if options.keys_only {
                    expected.iter_mut().for_each(|(_, value)| value.clear());
                }
                let found: Vec<(Key, Bytes)> = found.into_iter().map(|pair| (pair.key, pair.value)).collect();
                assert_eq!(found, expected, "seed {seed}, {range:?}, {options:?}");
            }
        });
    }
}

#[test]
fn a_scan_looks_behind_locks_that_were_left_in_its_way() {
    for reverse in [false, true] {
        let world = World::new(2);
        let cluster = three_regions(&world);
        let (process, dying) = super::mortal(&cluster);
        let txn = client(&cluster);
        world.run(async move {
            set(&txn, &[("a", "old"), ("b", "old")]).await;
            // Dies when it has asked for its primary to be committed, which is in the first region.
            process.dies_after(3);
            let death = process.death();
            let writing = async move { set(&dying, &[("a", "new"), ("b", "new"), ("c", "new")]).await };
            futures_util::future::select(Box::pin(writing), death).await;
            let options = ScanOptions { reverse, ..ScanOptions::default() };
            let snapshot = txn.latest().await.unwrap();
            let mut found = snapshot.scan(KeyRange::full(), options).unwrap().into_vec().await.unwrap();
            if reverse {
                found.reverse();
            }
            let new = [pair("a", "new"), pair("b", "new"), pair("c", "new")];
            let old = [pair("a", "old"), pair("b", "old")];
            assert!(found == new || found == old, "{found:?}");
        });
    }
}

#[test]
fn bad_calls_are_refused_before_anything_is_sent() {
    let world = World::new(3);
    let cluster = three_regions(&world);
    let options = Options { txn_size_bytes_max: 100, ..options() };
    let core = cluster.core(options);
    assert!(core.txn_in(client_core::Keyspace::RAW).is_none());
    let txn = core.txn();
    let end = cluster.clone();
    world.run(async move {
        let mut mine = begun(txn.begin()).await;
        assert_eq!(mine.put("", "v").await, Err(InvalidArgument::KeyEmpty.into()));
        assert!(mine.scan(KeyRange::new("b", "a"), ScanOptions::default()).is_err());
        mine.put("a", vec![0; 40]).await.unwrap();
        let error = mine.put("b", vec![0; 60]).await.unwrap_err();
        let Error::Txn(TxnError::TooLarge { size, size_max: 100 }) = error else { panic!("{error:?}") };
        assert!(size > 100);
        assert_eq!(mine.insert("a", "v").await, Err(TxnError::AlreadyExists { key: "a".into() }.into()));
    });
    assert!(end.state.lock().kv_sent.is_empty());
}
