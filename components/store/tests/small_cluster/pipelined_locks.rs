//! Reservations that go through the log: their clients are answered once they are proposed, and everybody else finds them when
//! they are applied, or never.

use super::lock_waits::{acquire, release, reserved};
use super::txn::{MINUTE, commit, done, guard, key, lock_in, locked, put, too_old, value};
use super::*;
use wire::kv::KvCommand::Txn;
use wire::txn::{CheckStatus, Mutation, TxnCommand, TxnFault};

/// One in which no lock is kept in memory.
fn in_the_log() -> Config {
    let mut config = config();
    config.reservations.in_memory = false;
    config
}

fn three_stores(config: Config) -> Cluster {
    let mut cluster = Cluster::new(3, config);
    cluster.replicate();
    cluster.advance(Duration::from_millis(500));
    cluster
}

fn prewrite_reserved(start_ts: u64, name: &str, value: &str) -> KvCommand {
    let mutation = Mutation { is_reserved: true, ..put(name, value) };
    super::txn::prewrite(start_ts, name, vec![mutation])
}

fn heartbeat(start_ts: u64, name: &str) -> KvCommand {
    let (primary, start_ts, ttl_ms) = (key(name), Timestamp(start_ts), 120_000);
    Txn(Box::new(TxnCommand::Heartbeat { primary, start_ts, ttl_ms }))
}

/// A reader wants the transaction to commit after it.
fn push(start_ts: u64, name: &str) -> KvCommand {
    Txn(Box::new(TxnCommand::CheckStatus(CheckStatus {
        primary: key(name),
        start_ts: Timestamp(start_ts),
        reads_at: Timestamp(500),
        current_ts: Timestamp(500),
        rollback_if_unknown: true,
        force_sync_commit: false,
        found_pessimistic: true,
    })))
}

impl Cluster {
    /// Nothing that the leader says reaches anybody, and it does not know.
    fn mute_leader(&mut self) -> StoreId {
        let leader = self.leader_of(b"").store_id;
        self.cut = self.stores.keys().copied().filter(|id| *id != leader).collect();
        leader
    }

    fn is_answered(&mut self, token: u64) -> bool {
        self.settle();
        self.answers.contains_key(&token)
    }

    /// Asks for a key without being heard by the other stores.
    fn ask_to_reserve(&mut self, start_ts: u64, name: &str) -> u64 {
        self.ask(name, acquire(start_ts, start_ts, name, 0), MINUTE)
    }

    fn is_refused_as_lost(&mut self, start_ts: u64, name: &str) {
        let (key, start_ts) = (key(name), Timestamp(start_ts));
        let lost = Err(KvError::Txn(Box::new(TxnFault::PessimisticLockNotFound { key, start_ts })));
        assert_eq!(self.call(&super::txn::key(name), prewrite_reserved(start_ts.0, name, "ours")), lost);
    }
}

/// The followers have not heard of it when the client is told that it has the key. Another one that wants the key is told
/// nothing until it is known what became of that, and then whose the key is.
#[test]
fn a_client_is_told_once_its_reservation_is_proposed_and_others_when_it_is_applied() {
    let mut cluster = three_stores(in_the_log());
    cluster.write_at(5, 6, "a", "old");
    cluster.mute_leader();
    let first = cluster.ask_to_reserve(10, "a");
    assert!(cluster.is_answered(first), "it is proposed");
    let values = vec![Some("old".into())];
    let told = Ok(KvReply::Txn(Box::new(wire::txn::TxnReply::Reserved { values })));
    assert_eq!(cluster.answers.remove(&first), Some(told));
    let again = cluster.ask_to_reserve(10, "a");
    let other = cluster.ask_to_reserve(20, "a");
    assert!(!cluster.is_answered(again) && !cluster.is_answered(other), "the latch is held");
    cluster.cut.clear();
    cluster.advance(Duration::from_millis(300));
    assert!(cluster.answers.remove(&again).expect("its own lock is there").is_ok());
    let lock = lock_in(cluster.answers.remove(&other).expect("the latch has gone"));
    assert_eq!(lock.start_ts, Timestamp(10));
    assert_eq!(cluster.call(&key("a"), prewrite_reserved(10, "a", "new")), locked());
    assert_eq!(cluster.call(&key("a"), commit(10, 30, &["a"])), done());
    assert_eq!(cluster.read_at(30, "a"), value("new"));
}

#[test]
fn where_it_is_switched_off_a_client_is_told_when_its_reservation_is_applied() {
    let mut config = in_the_log();
    config.reservations.pipelined = false;
    let mut cluster = three_stores(config);
    cluster.mute_leader();
    let token = cluster.ask_to_reserve(10, "a");
    assert!(!cluster.is_answered(token));
    cluster.cut.clear();
    cluster.advance(Duration::from_millis(300));
    assert_eq!(cluster.answers.remove(&token), Some(reserved()));
}

/// Who keeps a lock alive, promises something by it, gives it up or writes under it is told of none of that before it is
/// applied: a promise that is lost is broken.
#[test]
fn only_who_does_nothing_but_reserve_is_told_early() {
    let mut cluster = three_stores(in_the_log());
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(cluster.call(&key(name), acquire(10, 10, name, 0)), reserved());
    }
    cluster.advance(Duration::from_millis(100));
    cluster.mute_leader();
    let asked = [
        cluster.ask("a", heartbeat(10, "a"), MINUTE),
        cluster.ask("b", push(10, "b"), MINUTE),
        cluster.ask("c", release(10, "c"), MINUTE),
        cluster.ask("d", prewrite_reserved(10, "d", "1"), MINUTE),
    ];
    // The transaction looks at the key again, and later: that reserves it anew, and nothing else.
    let renewed = cluster.ask("e", acquire(10, 50, "e", 0), MINUTE);
    assert!(cluster.is_answered(renewed));
    for (place, token) in asked.into_iter().enumerate() {
        assert!(!cluster.is_answered(token), "{place}");
    }
    cluster.cut.clear();
    cluster.advance(Duration::from_millis(300));
    assert!(asked.iter().all(|token| cluster.answers.contains_key(token)));
}

/// Clients could go on without end where nothing is applied. Beyond some bytes each waits for its own.
#[test]
fn so_many_are_told_early_and_no_more() {
    let mut config = in_the_log();
    config.reservations.pipelined_bytes_max = 200;
    let mut cluster = three_stores(config);
    cluster.mute_leader();
    let tokens = ["a", "b", "c", "d"].map(|name| cluster.ask_to_reserve(10, name));
    cluster.settle();
    let told = tokens.iter().filter(|token| cluster.answers.contains_key(token)).count();
    assert!((1..4).contains(&told), "{told}");
    cluster.cut.clear();
    cluster.advance(Duration::from_millis(300));
    assert!(tokens.iter().all(|token| cluster.answers.remove(token) == Some(reserved())));
    // What is applied makes room.
    cluster.mute_leader();
    let next = cluster.ask_to_reserve(10, "e");
    assert!(cluster.is_answered(next));
}

/// Three wait for a key; the one that gets it is told once, and the others wait for that one from then on.
#[test]
fn who_has_waited_is_told_once_and_the_others_wait_for_it() {
    let mut cluster = Cluster::new(1, in_the_log());
    cluster.until("a first leader", |c| !c.regions.is_empty());
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), reserved());
    let [second, third] = [20, 30].map(|at| cluster.ask("a", acquire(at, at, "a", 60_000), MINUTE));
    cluster.settle();
    for (holder, next) in [(10, second), (20, third)] {
        assert!(cluster.answers.is_empty(), "{holder}: {:?}", cluster.answers);
        assert_eq!(cluster.call(&key("a"), release(holder, "a")), done());
        assert_eq!(cluster.answers.remove(&next), Some(reserved()));
    }
}

/// The leader loses its power before anybody else has heard of two reservations. Nobody has written one of the keys since, and
/// somebody the other.
#[test]
fn who_has_lost_a_reservation_writes_only_what_nobody_has_written_since() {
    let mut cluster = three_stores(in_the_log());
    let first = cluster.mute_leader();
    for name in ["a", "b"] {
        let token = cluster.ask_to_reserve(10, name);
        assert!(cluster.is_answered(token));
    }
    cluster.crash(first);
    cluster.cut.clear();
    cluster.until("another one leads", |c| c.leader_of(b"").store_id != first);
    cluster.start(first);
    cluster.write_at(20, 30, "b", "theirs");
    cluster.is_refused_as_lost(10, "b");
    assert_eq!(cluster.call(&key("a"), prewrite_reserved(10, "a", "ours")), locked());
    assert_eq!(cluster.call(&key("a"), commit(10, 40, &["a"])), done());
    assert_eq!((cluster.read_at(50, "a"), cluster.read_at(50, "b")), (value("ours"), value("theirs")));
}

/// The leader is cut off, and another one has the key written. The first one learns that its proposal has been overtaken, and
/// has nothing to tell anybody.
#[test]
fn a_proposal_that_another_leader_overtakes_is_lost() {
    let mut cluster = three_stores(in_the_log());
    let first = cluster.leader_of(b"").store_id;
    cluster.cut = vec![first];
    let token = cluster.ask_to_reserve(10, "a");
    assert!(cluster.is_answered(token));
    let waiting = cluster.ask_to_reserve(11, "a");
    cluster.until("another one leads", |c| c.leader_of(b"").store_id != first);
    cluster.write_at(20, 30, "a", "theirs");
    cluster.cut.clear();
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.answers.remove(&waiting).expect("its latch has come").is_err());
    cluster.lead(first);
    cluster.is_refused_as_lost(10, "a");
}

/// A cut of the region is proposed, and not applied. What is proposed behind it never will be: nobody is told otherwise, and
/// whoever asks again gets the key of the piece.
#[test]
fn behind_a_cut_of_the_region_nobody_is_told_early() {
    let mut cluster = three_stores(in_the_log());
    let before = cluster.ask_to_reserve(10, "a");
    assert!(cluster.is_answered(before));
    cluster.advance(Duration::from_millis(100));
    cluster.mute_leader();
    cluster.ask("a", KvCommand::Split { keys: vec![key("m")] }, MINUTE);
    cluster.settle();
    let behind = cluster.ask_to_reserve(20, "b");
    assert!(!cluster.is_answered(behind));
    cluster.cut.clear();
    cluster.advance(Duration::from_millis(500));
    assert!(matches!(cluster.answers.remove(&behind), Some(Err(KvError::EpochNotMatch { .. }))));
    assert_eq!(cluster.call(&key("b"), acquire(20, 20, "b", 0)), reserved());
    assert_eq!(lock_in(cluster.call(&key("a"), acquire(30, 30, "a", 0))).start_ts, Timestamp(10));
}

/// It is decided, and then the leader begins to hand over to a store that lacks the end of the log and does not hear. So it is
/// not proposed until that has come to nothing.
#[test]
fn what_waits_for_a_transfer_is_not_proposed() {
    let mut cluster = three_stores(in_the_log());
    let first = cluster.leader_of(b"").store_id;
    let to_store = *cluster.stores.keys().find(|id| **id != first).expect("three stores");
    cluster.cut = vec![to_store];
    // That is what it lacks; and the leader has a lease.
    assert_eq!(cluster.call(&key("b"), acquire(10, 10, "b", 0)), reserved());
    cluster.advance(Duration::from_millis(200));
    cluster.held = vec![(first, Actor::Worker(0))];
    let token = cluster.ask_to_reserve(10, "a");
    cluster.settle();
    cluster.ask("a", KvCommand::TransferLeader { to_store }, MINUTE);
    cluster.held.clear();
    assert!(!cluster.is_answered(token), "{:?}", cluster.answers);
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.answers.remove(&token), Some(reserved()));
}

/// A region is about to refuse locks of old transactions. One that is proposed behind that is not applied, although its client
/// was told; and what the client would write under it is refused.
#[test]
fn a_lock_behind_the_word_that_refuses_it_is_lost() {
    let mut cluster = three_stores(in_the_log());
    cluster.mute_leader();
    cluster.ask("a", guard(100), MINUTE);
    cluster.settle();
    let late = cluster.ask_to_reserve(10, "a");
    assert!(cluster.is_answered(late));
    cluster.cut.clear();
    cluster.advance(Duration::from_millis(300));
    assert_eq!(cluster.call(&key("a"), acquire(200, 200, "a", 0)), reserved(), "nobody has the key");
    assert_eq!(cluster.call(&key("a"), prewrite_reserved(10, "a", "ours")), too_old(10, 100));
}
