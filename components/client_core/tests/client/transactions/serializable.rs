//! Serializable transactions: what snapshot isolation lets pass is refused, with what was changed; and nothing else is.

use super::{begun, count, options, protocol, seconds, set, three_regions};
use crate::cluster::{Cluster, Weather};
use crate::world::World;
use bytes::Bytes;
use client_core::{CommitProtocol, Error, Isolation, Options, ScanOptions, Transaction, TxnClient, TxnError};
use env::{Dice, SplitMix};
use futures_util::future::join;
use types::{Key, KeyRange, Timestamp};

/// A story, told with each way to commit.
fn run<F: Future<Output = ()> + Send + 'static>(story: impl Fn(Cluster, TxnClient) -> F) {
    for number in 0..3 {
        let world = World::new(number);
        let cluster = three_regions(&world);
        let txn = cluster.core(options()).txn().with_protocol(protocol(number));
        world.run(story(cluster, txn));
    }
}

fn rows() -> KeyRange {
    KeyRange::prefix("row ")
}

async fn scan(txn: &Transaction, range: KeyRange, options: ScanOptions) -> Vec<Key> {
    let pairs = txn.scan(range, options).unwrap().into_vec().await.unwrap();
    pairs.into_iter().map(|pair| pair.key).collect()
}

type Conflict = (Bytes, Option<KeyRange>, Option<Timestamp>);

fn conflict(result: Result<Option<Timestamp>, Error>) -> Conflict {
    match result {
        Err(Error::Txn(TxnError::ReadConflict { key, range, conflict_commit_ts, .. })) => {
            (key, range.map(|range| *range), conflict_commit_ts)
        }
        other => panic!("{other:?}"),
    }
}

/// Two doctors are on call, and each leaves if the other one stays: both leave, unless they are serializable.
#[test]
fn write_skew_is_refused() {
    run(async |_, txn| {
        for isolation in [Isolation::Snapshot, Isolation::Serializable] {
            let txn = txn.with_isolation(isolation);
            set(&txn, &[("a", "on"), ("b", "on")]).await;
            let (mut first, mut second) = (begun(txn.begin()).await, begun(txn.begin()).await);
            for (transaction, mine, other) in [(&mut first, "a", "b"), (&mut second, "b", "a")] {
                assert_eq!(transaction.get(other).await.unwrap().as_deref(), Some(&b"on"[..]));
                transaction.put(mine, "off").await.unwrap();
            }
            let commit_ts = first.commit().await.unwrap();
            let second = second.commit().await;
            match isolation {
                Isolation::Snapshot => assert!(second.is_ok(), "{second:?}"),
                Isolation::Serializable => assert_eq!(conflict(second), ("a".into(), None, commit_ts)),
            }
        }
    });
}

/// A room has one place, and each guest takes it, finding nobody there: the row that the other one adds was not there to be
/// read, so only the range that both have looked at tells. The rows lie in different regions.
#[test]
fn a_phantom_is_refused() {
    run(async |cluster, txn| {
        cluster.cut_txn(&["row 5"]);
        for isolation in [Isolation::Snapshot, Isolation::Serializable] {
            let txn = txn.with_isolation(isolation);
            let (mut first, mut second) = (begun(txn.begin()).await, begun(txn.begin()).await);
            for (transaction, mine) in [(&mut first, "row 1"), (&mut second, "row 9")] {
                assert_eq!(scan(transaction, rows(), ScanOptions::default()).await, [""; 0]);
                transaction.put(mine, "taken").await.unwrap();
            }
            let commit_ts = first.commit().await.unwrap();
            let second = second.commit().await;
            match isolation {
                Isolation::Snapshot => assert!(second.is_ok(), "{second:?}"),
                Isolation::Serializable => {
                    assert_eq!(conflict(second), ("row 1".into(), Some(rows()), commit_ts));
                }
            }
            let mut clear = begun(txn.begin()).await;
            for key in ["row 1", "row 9"] {
                clear.delete(key).await.unwrap();
            }
            clear.commit().await.unwrap();
        }
    });
}

/// Both at the same time: one of the two goes through, sooner or later, and both do not.
#[test]
fn of_two_that_commit_at_once_one_at_most_goes_through() {
    let mut winners = [0; 3];
    for seed in 0..60 {
        let world = World::new(seed);
        let cluster = three_regions(&world);
        let serializable = cluster.core(options()).txn().with_protocol(protocol(seed)).serializable();
        winners[world.run(async move {
            let txn = &serializable;
            let (mut first, mut second) = (begun(txn.begin()).await, begun(txn.begin()).await);
            let by_range = seed % 2 == 0;
            for (transaction, mine, other) in [(&mut first, "a", "c"), (&mut second, "c", "a")] {
                match by_range {
                    true => drop(scan(transaction, KeyRange::full(), ScanOptions::default()).await),
                    false => drop(transaction.get(other).await.unwrap()),
                }
                transaction.put(mine, "taken").await.unwrap();
            }
            let (first, second) = join(first.commit(), second.commit()).await;
            assert!(first.is_err() || second.is_err(), "seed {seed}: both committed");
            usize::from(first.is_ok()) + 2 * usize::from(second.is_ok())
        })] += 1;
    }
    // Who began first goes first, unless the other one is done before it has begun to commit.
    assert!(winners[0] <= 2 && winners[1] > 5 && winners[2] > 0, "none, the first, the second: {winners:?}");
}

/// What was read and not changed, or changed only by the transaction itself, is in nobody's way; nor is what lies behind the
/// last pair of a scan with a limit.
#[test]
fn who_is_not_overtaken_commits() {
    run(async |_, txn| {
        set(&txn, &[("row 1", "1"), ("row 3", "3"), ("row 5", "5"), ("row 7", "7")]).await;
        let txn = txn.serializable();
        let limit = |limit, reverse| ScanOptions { limit: Some(limit), reverse, ..ScanOptions::default() };
        // The first and the last row, and one that is missing.
        let mut mine = begun(txn.begin()).await;
        mine.put("row 2", "mine").await.unwrap();
        assert_eq!(scan(&mine, rows(), limit(2, false)).await, ["row 1", "row 2"]);
        assert_eq!(scan(&mine, rows(), limit(1, true)).await, ["row 7"]);
        assert_eq!(mine.get("row 4").await.unwrap(), None);
        mine.put("row 1", "mine").await.unwrap();
        let mut other = begun(txn.begin()).await;
        for key in ["row 3", "row 5", "row 6", "row"] {
            other.put(key, "other").await.unwrap();
        }
        other.commit().await.unwrap();
        mine.commit().await.unwrap();
        // One of them with one of those that it has seen.
        for (key, is_seen) in
            [("row 0", true), ("row 2", true), ("row 3", false), ("row 8", true), ("row 4", true)]
        {
            let mut mine = begun(txn.begin()).await;
            assert_eq!(scan(&mine, rows(), limit(2, false)).await, ["row 1", "row 2"]);
            assert_eq!(scan(&mine, rows(), limit(1, true)).await, ["row 7"]);
            mine.batch_get(["row 4"]).await.unwrap();
            mine.put("mark", key).await.unwrap();
            let mut other = begun(txn.begin()).await;
            other.put(key, "other").await.unwrap();
            other.commit().await.unwrap();
            let result = mine.commit().await;
            match is_seen {
                true => assert_eq!(conflict(result).0, key),
                false => assert!(result.is_ok(), "{result:?}"),
            }
            let mut undo = begun(txn.begin()).await;
            for key in ["row 0", "row 4", "row 8"] {
                undo.delete(key).await.unwrap();
            }
            undo.commit().await.unwrap();
        }
    });
}

/// A key that must be new and is removed again is not written; others may not add it meanwhile.
#[test]
fn a_key_that_must_not_be_there_stays_away_until_the_commit() {
    run(async |_, txn| {
        let txn = txn.serializable();
        let (mut first, mut second) = (begun(txn.begin()).await, begun(txn.begin()).await);
        for (transaction, mine, other) in [(&mut first, "a", "b"), (&mut second, "b", "a")] {
            transaction.insert(other, "new").await.unwrap();
            transaction.delete(other).await.unwrap();
            transaction.put(mine, "taken").await.unwrap();
        }
        let (first, second) = join(first.commit(), second.commit()).await;
        assert!(first.is_err() || second.is_err(), "both committed");
    });
}

/// Who reserves a key that has changed since it was read sees two states, and may not decide by both.
#[test]
fn what_was_read_before_it_was_reserved_is_proved_too() {
    run(async |_, txn| {
        set(&txn, &[("a", "old")]).await;
        let txn = txn.serializable();
        let mut mine = begun(txn.begin_pessimistic()).await;
        assert_eq!(mine.get("a").await.unwrap().as_deref(), Some(&b"old"[..]));
        set(&txn, &[("a", "new")]).await;
        assert_eq!(mine.get_for_update("a").await.unwrap().as_deref(), Some(&b"new"[..]));
        mine.put("b", "by both").await.unwrap();
        assert_eq!(conflict(mine.commit().await).0, "a");
        // And who reads what it has reserved sees one.
        let mut mine = begun(txn.begin_pessimistic()).await;
        set(&txn, &[("a", "newer")]).await;
        assert_eq!(mine.get_for_update("a").await.unwrap().as_deref(), Some(&b"newer"[..]));
        mine.put("b", "by one").await.unwrap();
        mine.commit().await.unwrap();
    });
}

/// What is read and written is proved by its lock: then nothing is asked, and the transaction commits as it would.
#[test]
fn who_reads_what_it_writes_pays_nothing() {
    let world = World::new(1);
    let cluster = three_regions(&world);
    let txn = cluster.core(options()).txn().with_protocol(CommitProtocol::OnePhase).serializable();
    let seen = cluster.clone();
    world.run(async move {
        // The first one of a region commits in two phases.
        set(&txn, &[("a", "0")]).await;
        let commits = count(&seen, "commit");
        let mut mine = begun(txn.begin()).await;
        mine.get("a").await.unwrap();
        mine.put("a", "1").await.unwrap();
        mine.commit().await.unwrap();
        assert_eq!(count(&seen, "commit"), commits);
        let reader = begun(txn.begin()).await;
        reader.get("a").await.unwrap();
        set(&txn, &[("a", "2")]).await;
        assert_eq!(reader.commit().await, Ok(None), "who only reads always may");
        let mut mine = begun(txn.begin()).await;
        mine.get("b").await.unwrap();
        mine.put("a", "3").await.unwrap();
        mine.commit().await.unwrap();
        assert_eq!(count(&seen, "commit"), commits + 1);
    });
}

/// What is read must be held in memory until the commit, and that has a limit.
#[test]
fn who_reads_too_much_is_told_so() {
    let world = World::new(1);
    let cluster = three_regions(&world);
    let options = Options { txn_size_bytes_max: 64, ..options() };
    let txn = cluster.core(options).txn().serializable();
    world.run(async move {
        let mine = begun(txn.begin()).await;
        mine.get("k".repeat(30)).await.unwrap();
        let error = mine.get("l".repeat(40)).await.unwrap_err();
        assert!(matches!(error, Error::Txn(TxnError::TooLarge { .. })), "{error:?}");
        let error =
            mine.scan_prefix("m".repeat(40), ScanOptions::default()).unwrap().into_vec().await.unwrap_err();
        assert!(matches!(error, Error::Txn(TxnError::TooLarge { .. })), "{error:?}");
    });
}

/// A room with places for two, which many want while everything goes wrong: every guest counts who is there and comes in if
/// there is a place, or leaves. Each keeps the rule, and only the rows of others tell them how many there are.
async fn guest(number: u64, txn: TxnClient, mut dice: SplitMix) -> (usize, usize) {
    let (mut entered, mut refused) = (0, 0);
    for _ in 0..12 {
        let mine = Key::from(format!("row {number}"));
        let pessimistic = dice.chance(1, 4);
        let mut transaction = if pessimistic { txn.begin_pessimistic() } else { txn.begin() };
        let options = ScanOptions { reverse: dice.chance(1, 2), page_pairs: 2, ..ScanOptions::default() };
        let Ok(present) = transaction.scan(rows(), options).unwrap().into_vec().await else { continue };
        assert!(present.len() <= 2, "{} are in a room for two", present.len());
        let written = match present.iter().any(|pair| pair.key == mine) {
            true => transaction.delete(mine).await,
            false if present.len() == 2 => continue,
            false => transaction.put(mine, "here").await,
        };
        if written.is_err() {
            continue;
        }
        match transaction.commit().await {
            Ok(_) => entered += 1,
            Err(Error::Txn(TxnError::ReadConflict { .. })) => refused += 1,
            Err(_) => {}
        }
    }
    (entered, refused)
}

#[test]
fn a_rule_about_a_range_is_kept_whatever_goes_wrong() {
    let (mut entered, mut refused) = (0, 0);
    for seed in 0..40 {
        let world = World::new(seed);
        let cluster = Cluster::new(&world, &[]);
        cluster.cut_txn(&["row 2", "row 4"]);
        let weather = match seed % 2 {
            0 => Weather::default(),
            _ => Weather { network: 12, busy: 6, undetermined: 6, late: 6, change: 12 },
        };
        cluster.set_weather(weather);
        let client =
            |number| cluster.core(options()).txn().with_protocol(protocol(seed + number)).serializable();
        let guests: Vec<_> = (0..5)
            .map(|number| guest(number, client(number), world.dice(&format!("guest {number}"))))
            .collect();
        let (auditor, end, clock) = (client(9).with_deadline(seconds(120)), cluster.clone(), world.clone());
        let (all_entered, all_refused) = world.run(async move {
            let done = futures_util::future::join_all(guests).await;
            end.set_weather(Weather::default());
            clock.sleep(seconds(60)).await;
            let left = begun(auditor.begin()).await;
            assert!(scan(&left, rows(), ScanOptions::default()).await.len() <= 2);
            done.into_iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
        });
        entered += all_entered;
        refused += all_refused;
    }
    assert!(entered > 400 && refused > 100, "{entered} came and went, {refused} were overtaken");
}
