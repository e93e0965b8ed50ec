//! Transactions that commit without a second phase: what readers and they know of each other, and what a new leader knows.

use super::txn::{MINUTE, commit, done, key, lock_in, locked, prewrite, prewrite_as, put, value};
use super::*;
use wire::kv::KvCommand::{Txn, TxnRead as Read};
use wire::txn::{
    Acquire, Changed, CommitMode, Mutation, MutationKind, ReadView, TxnCommand, TxnFault, TxnRead, TxnReply,
    TxnStatus,
};

/// A cluster whose first leader knows what was read before.
fn cluster(stores: usize) -> Cluster {
    let mut cluster = Cluster::new(stores, config());
    match stores {
        1 => cluster.until("a first leader", |c| !c.regions.is_empty()),
        _ => cluster.replicate(),
    }
    cluster.until_known_what_was_read();
    cluster
}

fn one_phase(start_ts: u64, name: &str, text: &str) -> KvCommand {
    prewrite_as(CommitMode::OnePhase, start_ts, name, vec![put(name, text)])
}

/// When it committed, if it did at once.
fn committed_at(answer: &Result<KvReply, KvError>) -> Option<u64> {
    match answer {
        Ok(KvReply::Txn(reply)) => match **reply {
            TxnReply::Prewritten { committed_at, .. } => committed_at.map(|at| at.0),
            _ => panic!("{reply:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// When it commits at the earliest, if it does once all its keys are locked.
fn min_commit_ts(answer: &Result<KvReply, KvError>) -> Option<u64> {
    match answer {
        Ok(KvReply::Txn(reply)) => match **reply {
            TxnReply::Prewritten { committed_at: None, min_commit_ts } => min_commit_ts.map(|at| at.0),
            _ => panic!("{reply:?}"),
        },
        other => panic!("{other:?}"),
    }
}

impl Cluster {
    /// A transaction on a key of its own is committed at once by the leader of today.
    fn until_known_what_was_read(&mut self) {
        self.until("the leader knows what was read before", |c| {
            c.last_timestamp += 10;
            let start_ts = c.last_timestamp;
            let answer = c.call(&key("own"), one_phase(start_ts, "own", "0"));
            let at = committed_at(&answer);
            if at.is_none() {
                c.last_timestamp += 10;
                let commit_ts = c.last_timestamp;
                assert_eq!(c.call(&key("own"), commit(start_ts, commit_ts, &["own"])), done());
            }
            at.is_some()
        });
    }

    fn timestamp(&mut self) -> u64 {
        self.last_timestamp += 10;
        self.last_timestamp
    }
}

/// A reader has seen that a key has no value at its timestamp. A transaction that began before that, and commits at once,
/// commits after it: what the reader saw stays true.
#[test]
fn a_transaction_without_a_second_phase_commits_above_what_was_read() {
    let mut cluster = cluster(1);
    let start_ts = cluster.timestamp();
    let read_at = cluster.timestamp();
    assert_eq!(cluster.read_at(read_at, "a"), Ok(KvReply::Value(None)));
    let answer = cluster.call(&key("a"), one_phase(start_ts, "a", "1"));
    let at = committed_at(&answer).expect("in one phase");
    assert_eq!(at, read_at + 1);
    assert_eq!(cluster.call(&key("a"), one_phase(start_ts, "a", "1")), answer, "it may come again");
    assert_eq!(cluster.read_at(read_at, "a"), Ok(KvReply::Value(None)));
    assert_eq!(cluster.read_at(at, "a"), value("1"));
    let mode = CommitMode::Async { secondaries: vec![key("c")] };
    let start_ts = cluster.timestamp();
    let read_at = cluster.timestamp();
    assert_eq!(cluster.read_at(read_at, "x"), Ok(KvReply::Value(None)), "whatever key it was");
    let answer = cluster.call(&key("b"), prewrite_as(mode, start_ts, "b", vec![put("b", "2")]));
    assert_eq!(min_commit_ts(&answer), Some(read_at + 1));
}

/// The locks of such a transaction are on their way through the log when a reader comes. It cannot know on which side of it
/// the commit will be, and is told whose locks they are; one at an earlier timestamp is not held up.
#[test]
fn a_reader_meets_locks_that_are_not_applied_yet() {
    let mut cluster = cluster(1);
    let store_id = cluster.leader_of(b"").store_id;
    let before = cluster.timestamp();
    let start_ts = cluster.timestamp();
    cluster.held = vec![(store_id, Actor::Applier(0))];
    let writer = cluster.ask("a", one_phase(start_ts, "a", "1"), MINUTE);
    cluster.settle();
    let late = cluster.timestamp();
    let read = |name, at| {
        let view = ReadView { at: Timestamp(at), ..ReadView::default() };
        Read(Box::new(TxnRead::Get { key: key(name), view }))
    };
    let [early, meets, other, lists] = [
        cluster.ask("a", read("a", before), MINUTE),
        cluster.ask("a", read("a", late), MINUTE),
        cluster.ask("a", read("b", late), MINUTE),
        cluster.ask(
            "a",
            Read(Box::new(TxnRead::Locks {
                range: types::KeyRange::full(),
                up_to: Timestamp(late),
                limit: 0,
            })),
            MINUTE,
        ),
    ];
    cluster.settle();
    assert_eq!(cluster.answers.remove(&early), Some(Ok(KvReply::Value(None))));
    assert_eq!(cluster.answers.remove(&other), Some(Ok(KvReply::Value(None))));
    for met in [meets, lists] {
        let lock = lock_in(cluster.answers.remove(&met).expect("it is answered"));
        assert_eq!((lock.start_ts, lock.is_async_commit), (Timestamp(start_ts), true));
    }
    cluster.held.clear();
    cluster.settle();
    let answer = cluster.answers.remove(&writer).expect("it had its turn");
    assert!(committed_at(&answer).expect("in one phase") < late);
    assert_eq!(cluster.read_at(late, "a"), value("1"));
    assert_eq!(cluster.read_at(before, "a"), Ok(KvReply::Value(None)));
}

/// A store has served a read, and another leads now. It knows nothing of that read; until the placement driver has told it
/// a timestamp that is above it, transactions commit in two phases.
#[test]
fn a_new_leader_asks_what_was_read_before() {
    let mut cluster = cluster(3);
    let start_ts = cluster.timestamp();
    let read_at = cluster.timestamp();
    assert_eq!(cluster.read_at(read_at, "a"), Ok(KvReply::Value(None)));
    cluster.timestamps_refused = true;
    let first = cluster.leader_of(b"").store_id;
    let second = cluster.stores.keys().copied().find(|id| *id != first).expect("there are three");
    cluster.lead(second);
    for _ in 0..3 {
        let answer = cluster.call(&key("a"), one_phase(start_ts, "a", "1"));
        assert_eq!(answer, locked(), "it knows of no read");
        cluster.advance(Duration::from_secs(1));
    }
    let commit_ts = cluster.timestamp();
    assert_eq!(cluster.call(&key("a"), commit(start_ts, commit_ts, &["a"])), done());
    let start_ts = cluster.timestamp();
    let read_at = cluster.timestamp();
    cluster.timestamps_refused = false;
    cluster.until_known_what_was_read();
    let at = committed_at(&cluster.call(&key("b"), one_phase(start_ts, "b", "2"))).expect("in one phase");
    assert!(at > read_at, "{at} is not above all that may have been read elsewhere");
}

/// A transaction is refused if a key has a value, and does not lock the key. Who writes it afterwards, having begun before,
/// commits after what the first has seen; so do those who write what another has reserved and given up.
#[test]
fn who_only_looks_at_a_key_is_a_reader_too() {
    let mut cluster = cluster(1);
    let start_ts = cluster.timestamp();
    let looks_at = cluster.timestamp();
    let check = Mutation { key: key("a"), kind: MutationKind::CheckNotExists, is_reserved: false };
    let looks = prewrite_as(CommitMode::OnePhase, looks_at, "own", vec![check, put("own", "1")]);
    assert!(committed_at(&cluster.call(&key("a"), looks)).is_some());
    let at = committed_at(&cluster.call(&key("a"), one_phase(start_ts, "a", "1"))).expect("in one phase");
    assert!(at > looks_at);
    let (start_ts, other) = (cluster.timestamp(), cluster.timestamp());
    let for_update_ts = cluster.timestamp();
    let acquire = Txn(Box::new(TxnCommand::Acquire(Acquire {
        primary: key("b"),
        start_ts: Timestamp(other),
        for_update_ts: Timestamp(for_update_ts),
        ttl_ms: 3_000,
        keys: vec![key("b")],
        must_be_new: false,
        wait_ms: 0,
    })));
    let reserved = TxnReply::Reserved { values: vec![None] };
    assert_eq!(cluster.call(&key("b"), acquire), Ok(KvReply::Txn(Box::new(reserved))));
    let (keys, start) = (vec![key("b")], Timestamp(other));
    let release = TxnCommand::Release { keys, start_ts: start, for_update_ts: Timestamp(for_update_ts) };
    assert_eq!(cluster.call(&key("b"), Txn(Box::new(release))), done());
    let at = committed_at(&cluster.call(&key("b"), one_phase(start_ts, "b", "2"))).expect("in one phase");
    assert!(at > for_update_ts);
}

/// Somebody asks what became of a transaction while its only command is under way: the question waits for it.
#[test]
fn a_question_about_a_transaction_waits_for_its_command() {
    let mut cluster = cluster(1);
    let store_id = cluster.leader_of(b"").store_id;
    let start_ts = cluster.timestamp();
    cluster.held = vec![(store_id, Actor::Applier(0))];
    let writer = cluster.ask("a", one_phase(start_ts, "a", "1"), MINUTE);
    let status = Txn(Box::new(TxnCommand::CheckStatus(wire::txn::CheckStatus {
        primary: key("a"),
        start_ts: Timestamp(start_ts),
        reads_at: Timestamp(0),
        current_ts: Timestamp(start_ts + 1),
        rollback_if_unknown: true,
        force_sync_commit: false,
        found_pessimistic: false,
    })));
    let asker = cluster.ask("a", status, MINUTE);
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.answers.is_empty(), "{:?}", cluster.answers);
    cluster.held.clear();
    cluster.settle();
    let at = committed_at(&cluster.answers.remove(&writer).expect("done")).expect("in one phase");
    let status = TxnReply::Status(TxnStatus::Committed { commit_ts: Timestamp(at) });
    assert_eq!(cluster.answers.remove(&asker), Some(Ok(KvReply::Txn(Box::new(status)))));
}

/// Somebody makes a timestamp up that lies a year ahead. Were it believed, everybody would have to commit above it.
#[test]
fn a_timestamp_from_the_future_is_refused_and_changes_nothing() {
    let mut cluster = cluster(1);
    let far = Timestamp::compose(1 << 36, 0).0;
    let refused = [
        Read(Box::new(TxnRead::Get {
            key: key("a"),
            view: ReadView { at: Timestamp(far), ..ReadView::default() },
        })),
        prewrite(far, "a", vec![put("a", "1")]),
        commit(10, far, &["a"]),
    ];
    for command in refused {
        let shown = format!("{command:?}");
        // What it knows of the time may be old: it asks first.
        let mut answer = cluster.call(&key("a"), command.clone());
        if matches!(answer, Err(KvError::ServerIsBusy { .. })) {
            cluster.settle();
            answer = cluster.call(&key("a"), command);
        }
        match answer {
            Err(KvError::Txn(fault)) => {
                assert!(matches!(*fault, TxnFault::TimestampFromFuture { named, .. } if named.0 == far));
            }
            other => panic!("{shown}: {other:?}"),
        }
    }
    let start_ts = cluster.timestamp();
    let at = committed_at(&cluster.call(&key("a"), one_phase(start_ts, "a", "1"))).expect("in one phase");
    assert!(at < far);
}

/// A transaction says of itself what cannot be.
#[test]
fn a_prewrite_that_contradicts_itself_is_refused() {
    let mut cluster = cluster(1);
    let with = |secondaries: &[&str]| CommitMode::Async {
        secondaries: secondaries.iter().map(|name| key(name)).collect(),
    };
    let refused = [
        (prewrite_as(CommitMode::OnePhase, 10, "b", vec![put("a", "1")]), "has its primary among its keys"),
        (prewrite_as(with(&["c"]), 10, "b", vec![put("a", "1")]), "told where the primary is"),
        (prewrite_as(with(&["a"]), 10, "a", vec![put("a", "1")]), "none of the other keys"),
        (prewrite_as(with(&["b", "b"]), 10, "a", vec![put("a", "1")]), "a key comes twice"),
    ];
    for (command, why) in refused {
        let shown = format!("{command:?}");
        match cluster.call(&key("a"), command) {
            Err(KvError::InvalidRequest { message }) => assert!(message.contains(why), "{shown}: {message}"),
            other => panic!("{shown}: {other:?}"),
        }
    }
}

/// A transaction asks whether what it has read was changed up to the timestamp at which it commits, and is told that it was
/// not. That stays true: who commits there at once afterwards commits later, and who is about to is in the way.
#[test]
fn what_was_not_changed_up_to_a_timestamp_never_will_be() {
    let mut cluster = cluster(1);
    let store_id = cluster.leader_of(b"").store_id;
    let since = cluster.timestamp();
    let start_ts = cluster.timestamp();
    let late = cluster.timestamp();
    let asks = |at| {
        let (since, view) = (Timestamp(since), ReadView { at: Timestamp(at), ..ReadView::default() });
        let range = types::KeyRange { start: key("a"), end: key("b") };
        [
            Read(Box::new(TxnRead::KeyChanges { keys: vec![key("a")], since, view: view.clone() })),
            Read(Box::new(TxnRead::RangeChanges { range, since, view })),
        ]
    };
    let unchanged = || Ok(KvReply::Txn(Box::new(TxnReply::Changes { first: None, resume: None })));
    for ask in asks(late) {
        assert_eq!(cluster.call(&key("a"), ask), unchanged());
    }
    // One that began before, and is on its way through the log.
    cluster.held = vec![(store_id, Actor::Applier(0))];
    let writer = cluster.ask("a", one_phase(start_ts, "a", "1"), MINUTE);
    cluster.settle();
    let later = cluster.timestamp();
    for (at, is_met) in [(late, false), (later, true)] {
        for ask in asks(at) {
            let asked = cluster.ask("a", ask, MINUTE);
            cluster.settle();
            let answer = cluster.answers.remove(&asked).expect("it is answered");
            match is_met {
                true => assert_eq!(lock_in(answer).start_ts, Timestamp(start_ts)),
                false => assert_eq!(answer, unchanged()),
            }
        }
    }
    cluster.held.clear();
    cluster.settle();
    let answer = cluster.answers.remove(&writer).expect("it had its turn");
    let commit_ts = Timestamp(committed_at(&answer).expect("in one phase"));
    assert!(commit_ts > Timestamp(late));
    for (at, is_changed) in [(late, false), (later, true)] {
        let changed = Changed { key: key("a"), commit_ts, start_ts: Timestamp(start_ts) };
        let reply = TxnReply::Changes { first: is_changed.then_some(changed), resume: None };
        for ask in asks(at) {
            assert_eq!(cluster.call(&key("a"), ask), Ok(KvReply::Txn(Box::new(reply.clone()))));
        }
    }
    // What was changed below the safe point may be forgotten: nobody is told that nothing was.
    let guard = TxnCommand::Guard { safe_points: types::SafePoints::common(Timestamp(since + 1)) };
    assert_eq!(cluster.call(&key("a"), Txn(Box::new(guard))), done());
    let fault = TxnFault::BelowSafePoint { at: Timestamp(since), safe_point: Timestamp(since + 1) };
    for ask in asks(later) {
        assert_eq!(cluster.call(&key("a"), ask), Err(KvError::Txn(Box::new(fault.clone()))));
    }
    let outside = asks(u64::MAX);
    for ask in outside {
        assert!(matches!(cluster.call(&key("a"), ask), Err(KvError::InvalidRequest { .. })));
    }
}
