//! A commit, and what may come between any two of its steps.
//!
//! One message of a commit after the other is held up, on its way to a store or back; meanwhile the leader moves, the region
//! is cut between the keys that are written, both, the leader loses its power, or somebody reads what is being written. Then
//! the message goes on. In each way of committing the transaction is done or not done, on all keys, as its client was told.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use client_core::{CommitProtocol, Error, Keyspace, TxnClient};
use parking_lot::Mutex;
use sim::nodes::SeededBug;
use sim::script::{CallError, CallId, Reply, Script, ScriptConfig, Topic};
use sim::{CrashKind, NodeId};
use std::sync::Arc;
use std::time::Duration;
use types::{Key, Timestamp};

const WRITER: NodeId = NodeId(101);
const OPERATOR: NodeId = NodeId(102);
const READER: NodeId = NodeId(103);

/// The first two lie in one region until that is cut, the third in another.
const KEYS: [&str; 3] = ["a", "b", "n"];

/// What happens while a message is held up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    LeaderMoves,
    RegionIsCut,
    PieceMoves,
    LeaderLosesPower,
    SomebodyReads,
    SomebodyReadsAndTheLeaderMoves,
}

const ALL: [Meanwhile; 6] = [
    Meanwhile::LeaderMoves,
    Meanwhile::RegionIsCut,
    Meanwhile::PieceMoves,
    Meanwhile::LeaderLosesPower,
    Meanwhile::SomebodyReads,
    Meanwhile::SomebodyReadsAndTheLeaderMoves,
];

/// One commit that is disturbed once.
#[derive(Clone, Copy, Debug)]
struct Case {
    protocol: CommitProtocol,
    /// The primary is the first key.
    keys: &'static [&'static str],
    meanwhile: Meanwhile,
    /// Of requests, or of answers.
    topic: Topic,
    /// Which of them is held up.
    number: u64,
    /// A rule of the product that is broken.
    bug: Option<SeededBug>,
}

fn encoded(key: &str) -> Key {
    Keyspace::TXN.encode(key.as_bytes())
}

async fn write(txn: &TxnClient, keys: &[&str], value: &'static str) -> Result<Reply, Error> {
    let mut txn = txn.begin();
    for key in keys {
        txn.put(Key::from((*key).to_owned()), value).await?;
    }
    txn.commit().await.map(|_| Reply::Done)
}

fn cut(script: &mut Script, at: &str) {
    let key = encoded(at);
    let call = script.work(OPERATOR, move |core, _| async move {
        core.admin().split_region([key]).await.map(|_| Reply::Done)
    });
    script.wait(call).unwrap();
}

/// Who leads the region of this key.
fn leader(script: &Script, key: &str) -> Option<NodeId> {
    script.leader_at(&encoded(key)).map(|(node, _)| node)
}

fn move_leader(script: &mut Script, key: &str) {
    let from = leader(script, key).unwrap();
    let to = script.others(&[from])[0];
    let (store, encoded) = (script.store_of(to).unwrap(), encoded(key));
    let call = script.work(OPERATOR, move |core, _| async move {
        let route = core.admin().region_at(encoded).await?.expect("all keys have regions");
        core.admin().transfer_leader(route.region.id, store).await.map(|()| Reply::Done)
    });
    script.wait(call).unwrap();
    let key = key.to_owned();
    script.wait_for("the leader has moved", |script| leader(script, &key) == Some(to));
}

/// When somebody reads; drawn by the first who reads with it.
type Moment = Arc<Mutex<Option<Timestamp>>>;

/// Somebody begins to read all keys.
fn read(script: &mut Script, moment: &Moment) -> CallId {
    let moment = Arc::clone(moment);
    script.work(READER, |core, _| async move {
        let known = *moment.lock();
        let at = match known {
            Some(at) => at,
            None => core.txn().timestamp().await?,
        };
        *moment.lock() = Some(at);
        let values = core.txn().snapshot(at).batch_get(KEYS.map(|key| Key::from(key.to_owned()))).await?;
        let pairs = KEYS.iter().zip(values).filter_map(|(key, value)| Some((key.as_bytes().into(), value?)));
        Ok(Reply::Pairs(pairs.collect()))
    })
}

/// What a reader has seen of the keys of a case: the one value that all of them have.
fn seen(script: &mut Script, call: CallId, case: &Case) -> bytes::Bytes {
    let Reply::Pairs(pairs) = script.wait(call).unwrap() else { panic!("a read brings pairs") };
    let of_case: Vec<_> =
        pairs.iter().filter(|(key, _)| case.keys.iter().any(|of| of.as_bytes() == key)).collect();
    assert_eq!(of_case.len(), case.keys.len(), "{case:?}: {pairs:?}");
    let value = of_case[0].1.clone();
    assert!(of_case.iter().all(|(_, other)| *other == value), "{case:?}: half a transaction: {pairs:?}");
    value
}

/// Plays a case. `false` when the commit had no message with this number.
fn play(case: Case) -> bool {
    let Case { protocol, keys, meanwhile, topic, number, bug } = case;
    let config = ScriptConfig { bugs: bug.into_iter().collect(), ..ScriptConfig::default() };
    let mut script = Script::new(&config);
    script.boot();
    cut(&mut script, "m");
    // Leaders are spread over the stores by then.
    script.run_for(Duration::from_secs(5));
    for client in [WRITER, READER] {
        // Both know where everything is, and leaders what was read before them.
        let call = script.work(client, move |core, _| async move { write(&core.txn(), &KEYS, "old").await });
        script.wait(call).unwrap();
    }
    let (from, to) = if topic == Topic::Answer { (None, Some(WRITER)) } else { (Some(WRITER), None) };
    let gate = script.hold_one(from, to, &[topic], number);
    let commit = script.work(WRITER, move |core, _| async move {
        write(&core.txn().with_protocol(protocol), keys, "new").await
    });
    let came = script.run_until(Duration::from_secs(2), |script| script.held_at(gate) > 0);
    if !came {
        script.wait(commit).unwrap();
        return false;
    }
    let (early, mut reading) = (Moment::default(), None);
    match meanwhile {
        Meanwhile::LeaderMoves => move_leader(&mut script, "a"),
        Meanwhile::RegionIsCut => cut(&mut script, "b"),
        Meanwhile::PieceMoves => {
            cut(&mut script, "b");
            move_leader(&mut script, "b");
        }
        Meanwhile::LeaderLosesPower => {
            let node = leader(&script, "a").unwrap();
            script.crash(node, CrashKind::Power);
            script.run_for(Duration::from_secs(3));
            script.restart(node);
        }
        Meanwhile::SomebodyReads => {
            reading = Some(read(&mut script, &early));
            script.run_for(Duration::from_secs(5));
        }
        Meanwhile::SomebodyReadsAndTheLeaderMoves => {
            reading = Some(read(&mut script, &early));
            script.run_for(Duration::from_secs(1));
            move_leader(&mut script, "a");
        }
    }
    script.open(gate);
    let told = script.wait(commit);
    if let Some(call) = reading {
        let first = seen(&mut script, call, &case);
        let again = read(&mut script, &early);
        assert_eq!(seen(&mut script, again, &case), first, "{case:?}: read twice at one moment");
    }
    let call = read(&mut script, &Moment::default());
    let now = seen(&mut script, call, &case);
    match &told {
        Ok(_) => assert_eq!(now, "new", "{case:?}: told that it is committed"),
        Err(CallError::Refused(why)) => assert_eq!(now, "old", "{case:?}: told that it is not: {why}"),
        Err(CallError::Unknown(_)) => {}
    }
    // Nothing is left that would keep others out.
    let next = script.work(READER, move |core, _| async move { write(&core.txn(), &KEYS, "newer").await });
    script.wait(next).unwrap();
    assert!(script.broken().is_empty(), "{case:?}: {:?}", script.broken());
    true
}

/// Plays all cases of a way of committing; returns how many messages were held up.
fn play_all(protocol: CommitProtocol, keys: &'static [&'static str], bug: Option<SeededBug>) -> u64 {
    let mut played = 0;
    for meanwhile in ALL {
        for topic in [Topic::Write, Topic::Answer] {
            let held =
                (0..).find(|number| !play(Case { protocol, keys, meanwhile, topic, number: *number, bug }));
            played += held.expect("a commit has an end");
        }
    }
    played
}

#[test]
fn two_phases_over_two_regions() {
    let played = play_all(CommitProtocol::TwoPhase, &KEYS, None);
    assert!(played >= 6 * 6, "{played} messages held up");
}

#[test]
fn async_commit_over_two_regions() {
    let played = play_all(CommitProtocol::AsyncCommit, &KEYS, None);
    assert!(played >= 6 * 4, "{played} messages held up");
}

#[test]
fn one_phase_in_one_region() {
    let played = play_all(CommitProtocol::OnePhase, &KEYS[..2], None);
    assert!(played >= 6 * 2, "{played} messages held up");
}

#[test]
#[should_panic(expected = "read twice at one moment")]
fn a_commit_below_what_was_read_is_noticed() {
    let bug = SeededBug::Store(store::SeededBug::CommitBelowReads);
    play_all(CommitProtocol::OnePhase, &KEYS[..2], Some(bug));
}

#[test]
#[should_panic(expected = "read twice at one moment")]
fn a_commit_that_ignores_what_readers_were_promised_is_noticed() {
    let bug = SeededBug::Records(mvcc::SeededBug::CommitIgnoresMinimum);
    play_all(CommitProtocol::TwoPhase, &KEYS, Some(bug));
}

#[test]
#[should_panic(expected = "read twice at one moment")]
fn a_leader_that_knows_nothing_of_earlier_reads_is_noticed() {
    let bug = SeededBug::Store(store::SeededBug::ReadsElsewhereForgotten);
    play_all(CommitProtocol::OnePhase, &KEYS[..2], Some(bug));
}
