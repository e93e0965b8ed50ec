//! Reservations that only the leader's memory has: who sees them, what becomes of them when somebody else leads or the region
//! is cut, and what happens to a transaction that has lost one.

use super::lock_waits::{acquire, release, reserved};
use super::txn::{MINUTE, commit, done, key, lock_in, locked, prewrite_as, put, value};
use super::*;
use types::LogIndex;
use wire::kv::KvCommand::{Txn, TxnRead};
use wire::txn::{
    CheckStatus, CommitMode, LockInfo, LockKind, Mutation, TxnCommand, TxnFault, TxnReply, TxnStatus,
};

fn one_store(config: Config) -> Cluster {
    let mut cluster = Cluster::new(1, config);
    cluster.until("a first leader", |c| !c.regions.is_empty());
    cluster.advance(Duration::from_millis(500));
    cluster
}

fn three_stores() -> Cluster {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    cluster.advance(Duration::from_millis(500));
    cluster
}

/// A prewrite of keys that the transaction has reserved.
fn prewrite_reserved(start_ts: u64, primary: &str, mutations: Vec<Mutation>) -> KvCommand {
    let reserved = mutations.into_iter().map(|mutation| Mutation { is_reserved: true, ..mutation });
    prewrite_as(CommitMode::TwoPhase, start_ts, primary, reserved.collect())
}

fn not_found(start_ts: u64, name: &str) -> Result<KvReply, KvError> {
    let (key, start_ts) = (key(name), Timestamp(start_ts));
    Err(KvError::Txn(Box::new(TxnFault::PessimisticLockNotFound { key, start_ts })))
}

impl Cluster {
    /// Where the log of the key's region ends, and how many locks stand in memory there.
    fn log_and_held(&self, name: &str) -> (LogIndex, u64) {
        let (region, leader) = self.region_of(&key(name));
        let store = &self.stores[&leader.store_id];
        let mut last = LogIndex::ZERO;
        for worker in store.workers() {
            worker.visit(&mut |other, status, _| {
                if other.id == region.id {
                    last = status.last.index;
                }
            });
        }
        (last, store.held().stats().locks)
    }

    fn held_everywhere(&self) -> u64 {
        self.stores.values().map(|store| store.held().stats().locks).sum()
    }

    fn reserve(&mut self, start_ts: u64, name: &str) {
        assert_eq!(self.call(&key(name), acquire(start_ts, start_ts, name, 0)), reserved());
    }

    /// Who has the lock of a key, as somebody is told who wants it.
    fn holder(&mut self, name: &str) -> u64 {
        lock_in(self.call(&key(name), acquire(900, 900, name, 0))).start_ts.0
    }

    fn locks_up_to(&mut self, up_to: u64) -> Vec<LockInfo> {
        let range = types::transactional_range();
        let read = wire::txn::TxnRead::Locks { range, up_to: Timestamp(up_to), limit: 0 };
        match self.call(&key(""), TxnRead(Box::new(read))) {
            Ok(KvReply::Txn(reply)) => match *reply {
                TxnReply::Locks { locks, resume: None } => locks,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// A leader other than this store.
    fn lead_elsewhere(&mut self, than: StoreId) -> StoreId {
        let other = *self.stores.keys().find(|id| **id != than).expect("three stores");
        self.lead(other);
        other
    }
}

/// A key is reserved, looked at from all sides, renewed and given up, and the log does not hear of it. Whoever wants the key is
/// told whose it is; readers see the key as it was.
#[test]
fn a_reservation_that_is_given_up_leaves_no_trace_in_the_log() {
    let mut cluster = one_store(config());
    cluster.write_at(5, 6, "a", "old");
    let (before, none) = cluster.log_and_held("a");
    assert_eq!(none, 0);
    let old = Ok(KvReply::Txn(Box::new(TxnReply::Reserved { values: vec![Some("old".into())] })));
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), old);
    assert_eq!(cluster.call(&key("a"), acquire(10, 15, "a", 0)), old, "the same, and later");
    assert_eq!(cluster.holder("a"), 10);
    assert_eq!(cluster.read_at(20, "a"), value("old"));
    let [lock] = &cluster.locks_up_to(100)[..] else { panic!("one lock") };
    assert_eq!((&lock.key, lock.kind, lock.for_update_ts.0), (&key("a"), LockKind::Pessimistic, 15));
    let history = TxnRead(Box::new(wire::txn::TxnRead::History { key: key("a") }));
    let Ok(KvReply::Txn(history)) = cluster.call(&key("a"), history) else { panic!("a history") };
    assert!(matches!(*history, TxnReply::History { lock: Some(_), .. }), "{history:?}");
    let status = TxnCommand::CheckStatus(CheckStatus {
        primary: key("a"),
        start_ts: Timestamp(10),
        reads_at: Timestamp(30),
        current_ts: Timestamp(30),
        rollback_if_unknown: true,
        force_sync_commit: false,
        found_pessimistic: true,
    });
    let Ok(KvReply::Txn(status)) = cluster.call(&key("a"), Txn(Box::new(status))) else { panic!("a status") };
    let TxnReply::Status(TxnStatus::Alive { lock, is_pushed: true }) = *status else { panic!("{status:?}") };
    assert_eq!(lock.min_commit_ts, Timestamp(31));
    assert_eq!(cluster.log_and_held("a"), (before, 1));
    assert_eq!(cluster.call(&key("a"), release(10, "a")), done());
    assert_eq!(cluster.log_and_held("a"), (before, 0));
}

/// What was promised to a reader about a reserved key is kept by the lock that takes its place.
#[test]
fn a_reserved_key_is_written_and_the_lock_moves_to_the_engine() {
    let mut cluster = one_store(config());
    cluster.reserve(10, "a");
    cluster.reserve(10, "b");
    let mutations = vec![put("a", "1"), put("b", "2")];
    assert_eq!(cluster.call(&key("a"), prewrite_reserved(10, "a", mutations)), locked());
    let (_, held) = cluster.log_and_held("a");
    assert_eq!(held, 0);
    assert_eq!(cluster.locks_up_to(100).len(), 2);
    assert_eq!(cluster.call(&key("a"), commit(10, 20, &["a", "b"])), done());
    assert_eq!((cluster.read_at(20, "a"), cluster.read_at(20, "b")), (value("1"), value("2")));
}

/// Whoever waits for a key that is reserved in memory is taken up when it is given up, which nothing in the log says.
#[test]
fn who_waits_for_a_lock_in_memory_gets_it() {
    let mut cluster = one_store(config());
    let (before, _) = cluster.log_and_held("a");
    cluster.reserve(10, "a");
    let second = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.settle();
    assert!(cluster.answers.is_empty());
    assert_eq!(cluster.call(&key("a"), release(10, "a")), done());
    assert_eq!(cluster.answers.remove(&second), Some(reserved()));
    assert_eq!((cluster.holder("a"), cluster.log_and_held("a")), (20, (before, 1)));
}

/// A region may hold little. Beyond that reservations are in the log, and both are ended by what ends them.
#[test]
fn what_memory_has_no_room_for_is_in_the_log() {
    let mut limited = config();
    limited.reservations.limits.region_bytes_max = 400;
    let mut cluster = one_store(limited);
    for name in ["a", "b", "c", "d"] {
        cluster.reserve(10, name);
    }
    let stats = cluster.stores.values().next().expect("one store").held().stats();
    assert!((1..4).contains(&stats.locks) && stats.refused[3] == 4 - stats.locks, "{stats:?}");
    assert_eq!(cluster.locks_up_to(100).len(), 4);
    // One in the log is renewed there, however much room there is.
    assert_eq!(cluster.call(&key("a"), release(10, "a")), done());
    assert_eq!(cluster.call(&key("d"), acquire(10, 30, "d", 0)), reserved());
    assert_eq!(cluster.call(&key("d"), release(10, "d")), done());
    assert_eq!(cluster.locks_up_to(100).len(), 2);
    for name in ["a", "d"] {
        cluster.reserve(20, name);
    }
}

/// Leadership is handed over: the locks were in the log before, so the next leader has them all.
#[test]
fn locks_go_with_leadership_that_is_handed_over() {
    let mut cluster = three_stores();
    let first = cluster.leader_of(b"").store_id;
    cluster.reserve(10, "a");
    cluster.reserve(11, "b");
    assert_eq!(cluster.held_everywhere(), 2);
    let second = cluster.lead_elsewhere(first);
    assert_eq!((cluster.holder("a"), cluster.holder("b"), cluster.held_everywhere()), (10, 11, 0));
    assert_eq!(cluster.stores[&first].held().stats().handed_over, 2);
    assert_eq!(cluster.call(&key("a"), prewrite_reserved(10, "a", vec![put("a", "1")])), locked());
    assert_eq!(cluster.call(&key("b"), release(11, "b")), done());
    assert_eq!(cluster.locks_up_to(100).len(), 1);
    // The new leader holds new ones.
    cluster.reserve(120, "b");
    assert_eq!((cluster.leader_of(b"").store_id, cluster.held_everywhere()), (second, 1));
}

/// The prewrite of a reserved key is on its way through the log when leadership is handed over. Were the reservation
/// proposed behind it, it would take the place of what was written.
#[test]
fn a_lock_that_is_being_written_is_not_handed_over() {
    let mut cluster = three_stores();
    let first = cluster.leader_of(b"").store_id;
    cluster.reserve(10, "a");
    cluster.reserve(10, "b");
    // What the followers acknowledge is not heard: nothing is committed.
    let others: Vec<StoreId> = cluster.stores.keys().copied().filter(|id| *id != first).collect();
    cluster.cut.clone_from(&others);
    let prewrite = prewrite_reserved(10, "a", vec![put("a", "1")]);
    let writing = cluster.ask("a", prewrite, MINUTE);
    cluster.settle();
    let to_store = others[0];
    cluster.ask("a", KvCommand::TransferLeader { to_store }, MINUTE);
    cluster.settle();
    assert_eq!(cluster.stores[&first].held().stats().handed_over, 1);
    cluster.cut.clear();
    cluster.lead(to_store);
    assert!(cluster.answers.contains_key(&writing));
    assert_eq!(cluster.holder("b"), 10);
    assert_eq!(cluster.call(&key("a"), commit(10, 20, &["a"])), done());
    assert_eq!(cluster.read_at(20, "a"), value("1"));
}

/// Whoever was to lead does not answer. The leader stays, with all of its locks, and holds new ones.
#[test]
fn a_leader_that_could_not_hand_over_goes_on() {
    let mut cluster = three_stores();
    let first = cluster.leader_of(b"").store_id;
    cluster.reserve(10, "a");
    let to_store = *cluster.stores.keys().find(|id| **id != first).expect("three stores");
    cluster.cut = vec![to_store];
    cluster.ask("a", KvCommand::TransferLeader { to_store }, MINUTE);
    cluster.settle();
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.leader_of(b"").store_id, first);
    assert_eq!((cluster.holder("a"), cluster.held_everywhere()), (10, 0), "that one is in the log");
    cluster.reserve(20, "b");
    assert_eq!(cluster.held_everywhere(), 1);
    assert_eq!(cluster.call(&key("a"), release(10, "a")), done());
    cluster.reserve(30, "a");
    assert_eq!(cluster.held_everywhere(), 2);
}

/// The region is cut: each piece is led where the whole was, and has its locks.
#[test]
fn each_piece_of_a_region_has_its_locks() {
    let mut cluster = three_stores();
    for (start_ts, name) in [(10, "a"), (11, "g"), (12, "z")] {
        cluster.reserve(start_ts, name);
    }
    let split = KvCommand::Split { keys: vec![key("d"), key("m")] };
    assert!(matches!(cluster.call(&key("a"), split), Ok(KvReply::Regions(_))));
    cluster.advance(Duration::from_millis(500));
    for (start_ts, name) in [(10, "a"), (11, "g"), (12, "z")] {
        assert_eq!(cluster.holder(name), start_ts, "{name}");
    }
    assert_eq!(cluster.held_everywhere(), 3, "none of them in the log");
    assert_eq!(cluster.call(&key("g"), prewrite_reserved(11, "g", vec![put("g", "1")])), locked());
    assert_eq!(cluster.call(&key("a"), release(10, "a")), done());
    assert_eq!(cluster.held_everywhere(), 1);
}

/// The region is cut where its leader is, and the piece is first led elsewhere: there the key is written. When our peer
/// leads the piece at last, what it had before the cut counts for nothing.
#[test]
fn a_piece_that_was_led_elsewhere_first_inherits_nothing() {
    let mut cluster = three_stores();
    let first = cluster.leader_of(b"").store_id;
    cluster.reserve(10, "a");
    let split = KvCommand::Split { keys: vec![key("m")] };
    // The leader applies it last, and alone: by then another one leads the piece.
    cluster.held = vec![(first, Actor::Applier(0))];
    cluster.ask("a", split, MINUTE);
    cluster.settle();
    cluster.advance(Duration::from_secs(6));
    cluster.until_known(&key("a"));
    let (piece, leader) = cluster.region_of(&key("a"));
    assert!(leader.store_id != first && piece.range.end == key("m"), "{piece:?} led by {leader:?}");
    cluster.write_at(20, 30, "a", "theirs");
    cluster.held.clear();
    cluster.advance(Duration::from_secs(1));
    cluster.until("ours leads the piece", |c| {
        let (_, leader) = c.region_of(&key("a"));
        if leader.store_id != first {
            c.call(&key("a"), KvCommand::TransferLeader { to_store: first }).expect("it begins");
        }
        leader.store_id == first
    });
    assert_eq!(cluster.held_everywhere(), 0);
    let late = prewrite_reserved(10, "a", vec![put("a", "ours")]);
    assert_eq!(cluster.call(&key("a"), late), not_found(10, "a"));
    assert_eq!(cluster.read_at(40, "a"), value("theirs"));
}

/// The leader loses its power, and its reservations. A transaction goes on if nobody has written its key since; else it is
/// refused.
#[test]
fn who_has_lost_a_lock_writes_only_what_nobody_has_written_since() {
    let mut cluster = three_stores();
    let first = cluster.leader_of(b"").store_id;
    cluster.reserve(10, "a");
    cluster.reserve(10, "b");
    cluster.crash(first);
    cluster.until("another one leads", |c| c.leader_of(b"").store_id != first);
    cluster.start(first);
    cluster.write_at(20, 30, "b", "theirs");
    let late = prewrite_reserved(10, "b", vec![put("b", "ours")]);
    assert_eq!(cluster.call(&key("b"), late), not_found(10, "b"));
    assert_eq!(cluster.call(&key("a"), prewrite_reserved(10, "a", vec![put("a", "ours")])), locked());
    assert_eq!(cluster.call(&key("a"), commit(10, 40, &["a"])), done());
    assert_eq!((cluster.read_at(50, "a"), cluster.read_at(50, "b")), (value("ours"), value("theirs")));
}

/// A leader is cut off, another one has the key written, and the first one leads again: it remembers nothing of what it had
/// reserved.
#[test]
fn locks_of_an_earlier_term_do_not_count() {
    let mut cluster = three_stores();
    let first = cluster.leader_of(b"").store_id;
    cluster.reserve(10, "a");
    cluster.cut = vec![first];
    cluster.until("another one leads", |c| c.leader_of(b"").store_id != first);
    cluster.write_at(20, 30, "a", "theirs");
    cluster.cut.clear();
    cluster.advance(Duration::from_secs(1));
    cluster.lead(first);
    let late = prewrite_reserved(10, "a", vec![put("a", "ours")]);
    assert_eq!(cluster.call(&key("a"), late), not_found(10, "a"));
    assert_eq!(cluster.stores[&first].held().stats().lost, 1);
}
