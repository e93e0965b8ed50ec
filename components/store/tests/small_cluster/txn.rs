//! Transactions on whole stores: who waits for whom, and what becomes of a command when the leader or the region changes.
//!
//! What each command does to the records of a key is told by the scenarios of `txn`.

use super::*;
use bytes::BytesMut;
use codec::ordered::{put_ordered, read_ordered};
use types::{KeyRange, SafePoints};
use wire::kv::KvCommand::{Txn, TxnRead as Read};
use wire::txn::{
    CommitMode, LockInfo, Mutation, MutationKind, Prewrite, ReadView, TxnCommand, TxnFault, TxnRead, TxnReply,
};

pub(crate) fn key(name: &str) -> Bytes {
    let mut out = BytesMut::new();
    put_ordered(&mut out, format!("x\0\0\0{name}").as_bytes());
    out.freeze()
}

pub(crate) fn put(name: &str, value: &str) -> Mutation {
    let kind = MutationKind::Put(Bytes::copy_from_slice(value.as_bytes()));
    Mutation { key: key(name), kind, is_reserved: false }
}

pub(crate) fn prewrite(start_ts: u64, primary: &str, mutations: Vec<Mutation>) -> KvCommand {
    prewrite_as(CommitMode::TwoPhase, start_ts, primary, mutations)
}

pub(crate) fn prewrite_as(
    mode: CommitMode,
    start_ts: u64,
    primary: &str,
    mutations: Vec<Mutation>,
) -> KvCommand {
    Txn(Box::new(TxnCommand::Prewrite(Prewrite {
        primary: key(primary),
        start_ts: Timestamp(start_ts),
        ttl_ms: 3_000,
        txn_size: mutations.len() as u64,
        for_update_ts: Timestamp(0),
        min_commit_ts: Timestamp(0),
        max_commit_ts: Timestamp(0),
        mode,
        mutations,
    })))
}

pub(crate) fn commit(start_ts: u64, commit_ts: u64, names: &[&str]) -> KvCommand {
    let keys = names.iter().map(|name| key(name)).collect();
    let (start_ts, commit_ts) = (Timestamp(start_ts), Timestamp(commit_ts));
    Txn(Box::new(TxnCommand::Commit { keys, start_ts, commit_ts }))
}

pub(crate) fn locked() -> Result<KvReply, KvError> {
    Ok(KvReply::Txn(Box::new(TxnReply::Prewritten { committed_at: None, min_commit_ts: None })))
}

pub(crate) fn done() -> Result<KvReply, KvError> {
    Ok(KvReply::Txn(Box::new(TxnReply::Done)))
}

/// The lock that a refusal names.
pub(crate) fn lock_in(answer: Result<KvReply, KvError>) -> LockInfo {
    match answer {
        Err(KvError::Txn(fault)) => match *fault {
            TxnFault::KeyIsLocked { mut locks } if locks.len() == 1 => locks.remove(0),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

impl Cluster {
    pub(crate) fn write_at(&mut self, start_ts: u64, commit_ts: u64, name: &str, value: &str) {
        let names = [name];
        assert_eq!(self.call(&key(name), prewrite(start_ts, name, vec![put(name, value)])), locked());
        assert_eq!(self.call(&key(name), commit(start_ts, commit_ts, &names)), done());
    }

    pub(crate) fn read_at(&mut self, at: u64, name: &str) -> Result<KvReply, KvError> {
        let view = ReadView { at: Timestamp(at), ..ReadView::default() };
        self.call(&key(name), Read(Box::new(TxnRead::Get { key: key(name), view })))
    }

    /// Sends a command to the leader of the key's region, and lets nobody run.
    pub(crate) fn ask(&mut self, name: &str, command: KvCommand, deadline: Duration) -> u64 {
        let (region, leader) = self.region_of(&key(name));
        self.next_token += 1;
        let token = self.next_token;
        let request = KvRequest { region_id: region.id, epoch: region.epoch, command };
        let deadline = self.clock.now() + deadline;
        self.event(leader.store_id, Event::Request { token, request, deadline });
        token
    }

    pub(crate) fn lead(&mut self, to_store: StoreId) {
        self.until("the store leads", |c| {
            let is_leader = c.leader_of(b"").store_id == to_store;
            if !is_leader {
                assert_eq!(c.call(b"", KvCommand::TransferLeader { to_store }), Ok(KvReply::Started));
            }
            is_leader
        });
    }
}

pub(crate) fn value(text: &str) -> Result<KvReply, KvError> {
    Ok(KvReply::Value(Some(Bytes::copy_from_slice(text.as_bytes()))))
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Two keys are written in one transaction: who reads at its commit sees both, who reads before sees neither, and who meets
/// its locks in between is told whose they are. Another replica that leads later says the same.
#[test]
fn what_a_transaction_writes_is_seen_from_its_commit_on() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    let mutations = vec![put("a", "1"), put("b", &"long ".repeat(100))];
    assert_eq!(cluster.call(&key("a"), prewrite(10, "a", mutations.clone())), locked());
    let lock = lock_in(cluster.read_at(15, "b"));
    assert_eq!((lock.key, lock.primary, lock.start_ts), (key("b"), key("a"), Timestamp(10)));
    assert_eq!(cluster.call(&key("a"), prewrite(10, "a", mutations)), locked(), "it may come again");
    assert_eq!(cluster.call(&key("a"), commit(10, 20, &["a", "b"])), done());
    for _ in 0..2 {
        assert_eq!(cluster.read_at(19, "a"), Ok(KvReply::Value(None)));
        assert_eq!(cluster.read_at(20, "a"), value("1"));
        assert_eq!(cluster.read_at(20, "b"), value(&"long ".repeat(100)));
        cluster.lead(StoreId(4));
    }
}

/// Two transactions lock one key at the same moment. The second waits until what the first has decided is applied, and
/// then finds its lock: both would have found none.
#[test]
fn of_two_that_lock_a_key_at_once_the_second_finds_the_lock() {
    let mut cluster = Cluster::new(1, config());
    cluster.until("a first leader", |c| !c.regions.is_empty());
    let store_id = cluster.leader_of(b"").store_id;
    cluster.held = vec![(store_id, Actor::Applier(0))];
    let first = cluster.ask("a", prewrite(10, "a", vec![put("a", "1")]), MINUTE);
    let second = cluster.ask("a", prewrite(11, "a", vec![put("a", "2")]), MINUTE);
    let elsewhere = cluster.ask("b", prewrite(12, "b", vec![put("b", "3")]), MINUTE);
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.answers.is_empty(), "nothing is applied: {:?}", cluster.answers);
    cluster.held.clear();
    cluster.settle();
    assert_eq!(cluster.answers.remove(&first), Some(locked()));
    assert_eq!(cluster.answers.remove(&elsewhere), Some(locked()));
    let answer = cluster.answers.remove(&second).expect("it had its turn");
    assert_eq!(lock_in(answer).start_ts, Timestamp(10));
}

/// A client gives up while its prewrite is under way: nobody knows what becomes of it, and it is told so. The command goes
/// on, and the next one on that key waits for it: else it would decide on a view without the lock that is to come.
#[test]
fn a_command_keeps_its_latches_when_its_client_gives_up() {
    let mut cluster = Cluster::new(1, config());
    cluster.until("a first leader", |c| !c.regions.is_empty());
    let store_id = cluster.leader_of(b"").store_id;
    cluster.held = vec![(store_id, Actor::Applier(0))];
    let first = cluster.ask("a", prewrite(10, "a", vec![put("a", "1")]), Duration::from_secs(1));
    cluster.settle();
    let waiting = cluster.ask("a", prewrite(11, "a", vec![put("a", "2")]), Duration::from_secs(1));
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.answers.remove(&first), Some(Err(KvError::UndeterminedResult)));
    assert_eq!(cluster.answers.remove(&waiting), Some(Err(KvError::DeadlineExceeded)), "it did nothing");
    let next = cluster.ask("a", prewrite(12, "a", vec![put("a", "3")]), MINUTE);
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.answers.is_empty(), "it waits");
    cluster.held.clear();
    cluster.settle();
    let answer = cluster.answers.remove(&next).expect("it had its turn");
    assert_eq!(lock_in(answer).start_ts, Timestamp(10));
    assert_eq!(cluster.call(&key("a"), commit(10, 20, &["a"])), done());
    assert_eq!(cluster.read_at(20, "a"), value("1"));
}

/// A leader vouches for a view, and before a command decides on it another store leads, writes the key, and hands
/// leadership back. Latches know nothing of that; but what was decided on the old view is not proposed in the new term.
#[test]
fn what_was_decided_under_an_earlier_leadership_is_not_proposed() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.write_at(10, 20, "a", "1");
    let first = cluster.leader_of(b"").store_id;
    // Without a lease the view takes a round with the quorum.
    cluster.cut = vec![first];
    cluster.advance(Duration::from_millis(800));
    let late = cluster.ask("a", prewrite(30, "a", vec![put("a", "lost update")]), MINUTE);
    cluster.settle();
    cluster.held = vec![(first, Actor::Scheduler(0))];
    cluster.cut.clear();
    cluster.until("the view is there", |c| {
        c.stores[&first].runnable(c.clock_now()).contains(&Actor::Scheduler(0))
    });
    let second = cluster.stores.keys().copied().find(|id| *id != first).expect("there are three");
    cluster.lead(second);
    cluster.write_at(40, 50, "a", "2");
    // The other one's command needs no scheduler of ours.
    cluster.lead(first);
    assert_eq!(cluster.answers.remove(&late), None);
    cluster.held.clear();
    cluster.settle();
    let answer = cluster.answers.remove(&late).expect("it was answered");
    assert!(matches!(answer, Err(KvError::StaleCommand | KvError::NotLeader { .. })), "{answer:?}");
    assert_eq!(cluster.read_at(60, "a"), value("2"));
    assert_eq!(cluster.call(&key("a"), commit(30, 60, &["a"])), {
        let (key, start_ts) = (key("a"), Timestamp(30));
        Err(KvError::Txn(Box::new(TxnFault::TxnLockNotFound { key, start_ts })))
    });
}

/// A region is cut while a transaction has locks in it: they are found in the piece that owns them, and committed there.
#[test]
fn a_transaction_goes_on_in_both_pieces_of_a_region() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    assert_eq!(cluster.call(&key("a"), prewrite(10, "a", vec![put("a", "1"), put("z", "2")])), locked());
    let split = KvCommand::Split { keys: vec![key("m")] };
    assert!(matches!(cluster.call(&key("a"), split), Ok(KvReply::Regions(_))));
    for name in ["a", "z"] {
        cluster.until_known(&key(name));
    }
    let (left, leader) = cluster.region_of(&key("a"));
    cluster.next_token += 1;
    let token = cluster.next_token;
    let request = KvRequest { region_id: left.id, epoch: left.epoch, command: commit(10, 20, &["a", "z"]) };
    let deadline = cluster.clock.now() + MINUTE;
    cluster.event(leader.store_id, Event::Request { token, request, deadline });
    cluster.settle();
    let answer = cluster.answers.remove(&token);
    assert!(
        matches!(
            answer,
            Some(Err(KvError::EpochNotMatch { .. }
                | KvError::KeyNotInRegion { .. }
                | KvError::NotLeader { .. }))
        ),
        "{answer:?}"
    );
    for name in ["a", "z"] {
        assert_eq!(cluster.call(&key(name), commit(10, 20, &[name])), done());
    }
    assert_eq!((cluster.read_at(20, "a"), cluster.read_at(20, "z")), (value("1"), value("2")));
}

/// Keys that were written often fill a region. It is cut between keys: all versions of a key stay in one piece, and nobody
/// can ask for another border.
#[test]
fn regions_are_cut_between_keys_and_never_between_versions_of_one() {
    let mut config = config();
    config.raftstore.region_split_bytes = 4 << 10;
    let mut cluster = Cluster::new(1, config);
    cluster.until("a first leader", |c| !c.regions.is_empty());
    let names = ["a", "b", "c", "d", "e", "f"];
    for round in 0..10 {
        for name in names {
            let start_ts = 100 * (round + 1);
            cluster.write_at(start_ts, start_ts + 50, name, &"v".repeat(300));
        }
    }
    cluster.until("it is cut", |c| c.regions.len() > 2);
    cluster.advance(Duration::from_secs(5));
    for region in cluster.regions.values().map(|heartbeat| &heartbeat.region) {
        for border in [&region.range.start, &region.range.end] {
            let is_key =
                border.is_empty() || read_ordered(border).is_ok_and(|(_, read)| read == border.len());
            assert!(is_key, "{border:?} is no key");
        }
    }
    for name in names {
        for round in 0..10 {
            assert_eq!(cluster.read_at(100 * (round + 1) + 50, name), value(&"v".repeat(300)));
        }
    }
    let within = Bytes::from([&key("a")[..], &[0x80; 8]].concat());
    let refused = cluster.call(&key("a"), KvCommand::Split { keys: vec![within] });
    assert!(matches!(refused, Err(KvError::InvalidRequest { .. })), "{refused:?}");
}

/// Requests that make no sense are refused by what is wrong with them, and leave nothing behind.
#[test]
fn a_command_that_contradicts_itself_is_refused() {
    let mut cluster = Cluster::new(1, config());
    cluster.until("a first leader", |c| !c.regions.is_empty());
    let raw = |text: &'static str| Bytes::from_static(text.as_bytes());
    let bad_key = Mutation { key: raw("xabc"), kind: MutationKind::Delete, is_reserved: false };
    let mut raw_key = BytesMut::new();
    put_ordered(&mut raw_key, b"r\0\0\0abc");
    let other_mode = Mutation { key: raw_key.freeze(), kind: MutationKind::Lock, is_reserved: false };
    let refused = [
        (prewrite(10, "a", vec![put("a", "1"), put("a", "2")]), "a key comes twice"),
        (prewrite(10, "a", Vec::new()), "at least one key"),
        (prewrite(0, "a", vec![put("a", "1")]), "timestamp of the placement driver"),
        (prewrite(10, "a", vec![bad_key]), "encoding"),
        (prewrite(10, "a", vec![other_mode]), "no transactional key space"),
        (commit(10, 10, &["a"]), "commits after it began"),
        (commit(10, 20, &[]), "at least one key"),
        (KvCommand::Write { ops: vec![WriteOp::Delete { key: key("a") }] }, "in transactions alone"),
        (
            KvCommand::Write { ops: vec![WriteOp::DeleteRange { range: KeyRange::new("a", "y") }] },
            "holds keys of transactions",
        ),
    ];
    for (command, why) in refused {
        let shown = format!("{command:?}");
        match cluster.call(&key("a"), command) {
            Err(KvError::InvalidRequest { message }) => assert!(message.contains(why), "{shown}: {message}"),
            other => panic!("{shown}: {other:?}"),
        }
    }
    let history = cluster.call(&key("a"), Read(Box::new(TxnRead::History { key: key("a") })));
    let nothing = TxnReply::History { lock: None, versions: Vec::new() };
    assert_eq!(history, Ok(KvReply::Txn(Box::new(nothing))));
    let not_locked = TxnFault::TxnLockNotFound { key: key("a"), start_ts: Timestamp(10) };
    assert_eq!(
        cluster.call(&key("a"), commit(10, 20, &["a"])),
        Err(KvError::Txn(Box::new(not_locked))),
        "a commit needs a prewrite"
    );
}

pub(crate) fn guard(at: u64) -> KvCommand {
    Txn(Box::new(TxnCommand::Guard { safe_points: SafePoints::common(Timestamp(at)) }))
}

pub(crate) fn too_old(at: u64, safe_point: u64) -> Result<KvReply, KvError> {
    let fault = TxnFault::BelowSafePoint { at: Timestamp(at), safe_point: Timestamp(safe_point) };
    Err(KvError::Txn(Box::new(fault)))
}

impl Cluster {
    /// Removes what is older than `at`, to the end; gives back how many records went.
    fn collect(&mut self, at: u64) -> u64 {
        let (mut from, mut count) = (Bytes::new(), 0);
        loop {
            let safe_points = SafePoints::common(Timestamp(at));
            let command = Txn(Box::new(TxnCommand::Collect { safe_points, from }));
            match self.call(&key("a"), command) {
                Ok(KvReply::Txn(reply)) => match *reply {
                    TxnReply::Collected { removed, resume } => {
                        count += removed;
                        let Some(resume) = resume else { return count };
                        from = resume;
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A region that was guarded refuses transactions and readers of before then, and forgets what they would have seen. The next
/// leader, who has heard of no safe point, refuses them too; and who comes too late to hear what became of a transaction is
/// not told that it was rolled back.
#[test]
fn who_is_older_than_the_safe_point_is_told_so_by_every_leader() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    for (start_ts, text) in [(10, "1"), (20, "2"), (30, "3")] {
        cluster.write_at(start_ts, start_ts + 5, "a", text);
    }
    assert_eq!(cluster.read_at(15, "a"), value("1"));
    assert_eq!(cluster.call(&key("a"), guard(27)), done());
    assert_eq!(cluster.read_at(25, "a"), too_old(25, 27));
    assert_eq!(cluster.read_at(27, "a"), value("2"));
    let late = prewrite(27, "b", vec![put("b", "late")]);
    assert_eq!(cluster.call(&key("b"), late.clone()), too_old(27, 27));
    assert_eq!(cluster.call(&key("a"), commit(10, 15, &["a"])), done(), "nothing is forgotten yet");
    assert_eq!(cluster.collect(27), 1);
    assert_eq!(cluster.collect(27), 0, "once");
    for _ in 0..2 {
        assert_eq!(cluster.call(&key("a"), commit(10, 15, &["a"])), too_old(10, 27), "nobody knows");
        assert_eq!(cluster.call(&key("a"), commit(20, 25, &["a"])), done(), "what is seen is known");
        assert_eq!(cluster.call(&key("b"), late.clone()), too_old(27, 27));
        assert_eq!(cluster.read_at(25, "a"), too_old(25, 27));
        assert_eq!(cluster.read_at(27, "a"), value("2"));
        assert_eq!(cluster.read_at(40, "a"), value("3"));
        cluster.lead(StoreId(4));
    }
    assert_eq!(cluster.call(&key("b"), prewrite(28, "b", vec![put("b", "new")])), locked());
}
