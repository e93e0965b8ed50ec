//! Transactions that only write, on the product's stores: one timestamp is their beginning and the floor of their commit. While
//! leaders move and stores die, they follow each other in time, and readers see both keys of one of them.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use bytes::Bytes;
use client_core::{CommitProtocol, Core, Error, Keyspace};
use env::{Dice, SplitMix};
use parking_lot::Mutex;
use sim::script::{Reply, Script, ScriptConfig};
use sim::{CrashKind, Handle, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use types::Timestamp;

const WRITERS: [NodeId; 3] = [NodeId(101), NodeId(102), NodeId(103)];
const READER: NodeId = NodeId(104);
const OPERATOR: NodeId = NodeId(105);
/// Of two regions.
const KEYS: [&str; 2] = ["left", "right"];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What was seen, in the order in which it happened.
#[derive(Default)]
struct Book {
    now: u64,
    /// (when the commit was asked for, when it was answered, at which timestamp it is, what it wrote)
    committed: Vec<(u64, u64, Timestamp, Bytes)>,
    /// What may have been written.
    unknown: BTreeSet<Bytes>,
    /// (when it was asked for, at which timestamp it read, what it saw)
    reads: Vec<(u64, Timestamp, Bytes)>,
}

impl Book {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

async fn writer(
    core: Core,
    handle: Handle,
    mut dice: SplitMix,
    book: Arc<Mutex<Book>>,
) -> Result<Reply, Error> {
    let name = dice.next_u64();
    for turn in 0..25 {
        handle.sleep(dice.duration(ms(0), ms(150))).await;
        let ways = [CommitProtocol::TwoPhase, CommitProtocol::AsyncCommit, CommitProtocol::OnePhase];
        let mut txn = core.txn().with_protocol(ways[dice.below(3) as usize]).begin();
        let value = Bytes::from(format!("{name:x}-{turn}"));
        for key in KEYS {
            txn.put(key, value.clone()).await?;
        }
        assert_eq!(txn.start_timestamp(), None, "nothing was asked for");
        let begun = book.lock().tick();
        let result = txn.commit().await;
        let mut book = book.lock();
        let ended = book.tick();
        match result {
            Ok(at) => book.committed.push((begun, ended, at.unwrap(), value)),
            Err(Error::Undetermined { .. }) => {
                book.unknown.insert(value);
            }
            Err(Error::Txn(_) | Error::Unavailable { .. } | Error::DeadlineExceeded) => {}
            Err(other) => panic!("a commit failed with {other}"),
        }
    }
    Ok(Reply::Done)
}

async fn reader(
    core: Core,
    handle: Handle,
    mut dice: SplitMix,
    book: Arc<Mutex<Book>>,
) -> Result<Reply, Error> {
    for _ in 0..60 {
        handle.sleep(dice.duration(ms(0), ms(100))).await;
        let begun = book.lock().tick();
        let txn = core.txn().begin();
        let Ok(values) = txn.batch_get(KEYS).await else { continue };
        assert_eq!(values[0], values[1], "half of a transaction is seen");
        let at = txn.start_timestamp().unwrap();
        book.lock().reads.extend(values[0].clone().map(|value| (begun, at, value)));
    }
    Ok(Reply::Done)
}

/// One thing changes, or goes wrong for a while.
fn disturb(script: &mut Script, dice: &mut SplitMix) {
    let stores = script.stores().to_vec();
    let store = stores[dice.below(stores.len() as u64) as usize];
    if dice.chance(1, 3) {
        script.crash(store, if dice.chance(1, 2) { CrashKind::Power } else { CrashKind::Process });
        script.run_for(dice.duration(ms(200), ms(2_000)));
        script.restart(store);
        return;
    }
    let key = Keyspace::TXN.encode(KEYS[dice.below(2) as usize].as_bytes());
    let to = script.store_of(store).expect("it has joined");
    script.work(OPERATOR, move |core, _| async move {
        if let Some(route) = core.admin().region_at(key).await? {
            core.admin().transfer_leader(route.region.id, to).await?;
        }
        Ok(Reply::Done)
    });
}

/// How many were committed, and how many reads saw something.
fn run(seed: u64) -> (usize, usize) {
    let mut dice = SplitMix::new(seed);
    let config =
        ScriptConfig { seed, clients: 5, deadline: Duration::from_secs(10), ..ScriptConfig::default() };
    let mut script = Script::new(&config);
    script.boot();
    let border = Keyspace::TXN.encode(KEYS[1].as_bytes());
    let cut = script.work(OPERATOR, move |core, _| async move {
        core.admin().split_region([border]).await.map(|_| Reply::Done)
    });
    script.wait(cut).unwrap();
    let book = Arc::new(Mutex::new(Book::default()));
    let mut calls = Vec::new();
    for client in WRITERS {
        let (dice, book) = (dice.fork(&format!("{client:?}")), Arc::clone(&book));
        calls.push(script.work(client, move |core, handle| writer(core, handle, dice, book)));
    }
    let (readers, seen) = (dice.fork("reader"), Arc::clone(&book));
    calls.push(script.work(READER, move |core, handle| reader(core, handle, readers, seen)));
    for _ in 0..6 {
        script.run_for(dice.duration(ms(50), ms(600)));
        disturb(&mut script, &mut dice);
    }
    let is_over = |script: &Script| calls.iter().all(|call| script.answer(*call).is_some());
    assert!(script.run_until(Duration::from_secs(900), is_over), "seed {seed}: they do not end");
    assert!(script.broken().is_empty(), "seed {seed}: {:?}", script.broken());
    let book = book.lock();
    for (begun, _, later, _) in &book.committed {
        for (_, _, earlier, _) in book.committed.iter().filter(|(_, ended, ..)| ended < begun) {
            assert!(later > earlier, "seed {seed}: {later:?} was asked for after {earlier:?} was answered");
        }
    }
    for (begun, at, value) in &book.reads {
        let ended = book.committed.iter().filter(|(_, ended, ..)| ended < begun);
        for (_, _, earlier, _) in ended {
            assert!(earlier <= at, "seed {seed}: what was committed at {earlier:?} is not seen at {at:?}");
        }
        let seen = book.committed.iter().filter(|(_, _, committed_at, _)| committed_at <= at);
        let newest = seen.max_by_key(|(_, _, committed_at, _)| *committed_at).map(|(.., value)| value);
        let is_right = newest == Some(value) || book.unknown.contains(value);
        assert!(is_right, "seed {seed}: {value:?} is seen at {at:?}, where {newest:?} is the newest");
    }
    (book.committed.len(), book.reads.len())
}

#[test]
fn writers_who_look_at_nothing_follow_each_other_whatever_dies() {
    let (mut committed, mut reads) = (0, 0);
    for seed in 0..12 {
        let (some, more) = run(seed);
        (committed, reads) = (committed + some, reads + more);
    }
    assert!(committed > 300 && reads > 300, "{committed} committed, {reads} reads");
}
