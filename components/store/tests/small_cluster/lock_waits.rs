//! Requests that wait for locks at a store: who is taken up when, and what they are told.

use super::txn::{MINUTE, commit, done, key, lock_in};
use super::*;
use store::WaitLimits;
use wire::kv::BusyReason;
use wire::kv::KvCommand::Txn;
use wire::pd::{FoundDeadlock, LockWait};
use wire::txn::{Acquire, Conflict, TxnCommand, TxnFault, TxnReply, WaitEdge};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

pub(crate) fn acquire(start_ts: u64, for_update_ts: u64, name: &str, wait_ms: u64) -> KvCommand {
    Txn(Box::new(TxnCommand::Acquire(Acquire {
        primary: key(name),
        start_ts: Timestamp(start_ts),
        for_update_ts: Timestamp(for_update_ts),
        ttl_ms: 60_000,
        keys: vec![key(name)],
        must_be_new: false,
        wait_ms,
    })))
}

pub(crate) fn release(start_ts: u64, name: &str) -> KvCommand {
    let (keys, for_update_ts) = (vec![key(name)], Timestamp(start_ts + 1_000));
    Txn(Box::new(TxnCommand::Release { keys, start_ts: Timestamp(start_ts), for_update_ts }))
}

pub(crate) fn reserved() -> Result<KvReply, KvError> {
    Ok(KvReply::Txn(Box::new(TxnReply::Reserved { values: vec![None] })))
}

fn one_store(lock_waits: WaitLimits) -> Cluster {
    let mut cluster = Cluster::new(1, Config { lock_waits, ..config() });
    cluster.until("a first leader", |c| !c.regions.is_empty());
    cluster
}

impl Cluster {
    fn answer(&mut self, token: u64) -> Option<Result<KvReply, KvError>> {
        self.answers.remove(&token)
    }
}

/// Three wait for a key that is reserved; the oldest transaction has come last. When the key is given up it gets it, and the
/// next one when that gives it up in turn: nobody asks again, and nobody else is answered.
#[test]
fn who_waits_gets_the_lock_when_it_goes_the_oldest_first() {
    let mut cluster = one_store(WaitLimits { time_max: MINUTE, ..WaitLimits::default() });
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), reserved());
    let third = cluster.ask("a", acquire(40, 40, "a", 60_000), MINUTE);
    let second = cluster.ask("a", acquire(30, 30, "a", 60_000), MINUTE);
    let first = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.advance(SECOND);
    assert!(cluster.answers.is_empty(), "{:?}", cluster.answers);
    for (holder, next, left) in [(10, first, 2), (20, second, 1), (30, third, 0)] {
        assert_eq!(cluster.call(&key("a"), release(holder, "a")), done());
        cluster.advance(SECOND);
        assert_eq!(cluster.answer(next), Some(reserved()));
        assert!(cluster.answers.is_empty(), "{left} others wait on: {:?}", cluster.answers);
    }
}

/// Whoever held the key has written it. The first that waited is told so, and asks again with a later view; the next one is
/// taken up a little later, in case the first never comes back.
#[test]
fn who_waited_for_a_key_that_was_written_looks_again_and_the_next_ones_follow() {
    let mut cluster = one_store(WaitLimits { time_max: MINUTE, ..WaitLimits::default() });
    cluster.write_at(5, 6, "a", "0");
    let holds = prewrite_of(10, "a");
    assert_eq!(cluster.call(&key("a"), holds), super::txn::locked());
    let first = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    let second = cluster.ask("a", acquire(30, 30, "a", 60_000), MINUTE);
    cluster.advance(SECOND);
    assert_eq!(cluster.call(&key("a"), commit(10, 50, &["a"])), done());
    let conflict = |answer: Option<Result<KvReply, KvError>>| match answer {
        Some(Err(KvError::Txn(fault))) => {
            matches!(*fault, TxnFault::WriteConflict { reason: Conflict::Pessimistic, .. })
        }
        _ => false,
    };
    assert!(conflict(cluster.answer(first)) && cluster.answers.is_empty(), "{:?}", cluster.answers);
    cluster.advance(20 * MS);
    assert!(conflict(cluster.answer(second)));
}

fn prewrite_of(start_ts: u64, name: &str) -> KvCommand {
    super::txn::prewrite(start_ts, name, vec![super::txn::put(name, "1")])
}

#[test]
fn who_has_waited_long_enough_is_told_whose_the_lock_is() {
    let mut cluster = one_store(WaitLimits::default());
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), reserved());
    let brief = cluster.ask("a", acquire(20, 20, "a", 100), MINUTE);
    let long = cluster.ask("a", acquire(30, 30, "a", 60_000), MINUTE);
    cluster.advance(80 * MS);
    assert!(cluster.answers.is_empty());
    cluster.advance(40 * MS);
    let lock = lock_in(cluster.answer(brief).expect("its time is over"));
    assert_eq!((lock.key, lock.start_ts), (key("a"), Timestamp(10)));
    assert!(cluster.answers.is_empty());
    // The store does not let anybody wait longer than this.
    cluster.advance(SECOND);
    lock_in(cluster.answer(long).expect("its time is over"));
}

/// The transaction that holds the key has not been heard of for longer than it may: waiting would only put off that somebody
/// asks what became of it.
#[test]
fn nobody_waits_for_a_transaction_that_is_abandoned() {
    let mut cluster = one_store(WaitLimits::default());
    let Txn(mut held) = acquire(10, 10, "a", 0) else { unreachable!() };
    let TxnCommand::Acquire(asked) = &mut *held else { unreachable!() };
    asked.ttl_ms = 500;
    assert_eq!(cluster.call(&key("a"), Txn(held)), reserved());
    // The store asks what time it is when it tells how it is.
    cluster.advance(4 * SECOND);
    cluster.advance(SECOND);
    let token = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.settle();
    lock_in(cluster.answer(token).expect("at once"));
}

/// A client gives up in the middle of waiting and rolls back what it may have reserved. Were its request taken up later, the
/// key would stay reserved for a transaction that is gone.
#[test]
fn who_gives_a_key_up_does_not_wait_for_it_any_more() {
    let mut cluster = one_store(WaitLimits::default());
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), reserved());
    let gone = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.advance(20 * MS);
    assert_eq!(cluster.call(&key("a"), release(20, "a")), done());
    lock_in(cluster.answer(gone).expect("it is told at once"));
    assert_eq!(cluster.call(&key("a"), release(10, "a")), done());
    cluster.advance(SECOND);
    assert_eq!(cluster.call(&key("a"), acquire(30, 30, "a", 0)), reserved());
}

#[test]
fn where_too_many_wait_others_are_sent_away() {
    let limits = WaitLimits { count_max: 3, count_per_key_max: 2, ..WaitLimits::default() };
    let mut cluster = one_store(limits);
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), reserved());
    assert_eq!(cluster.call(&key("b"), acquire(10, 10, "b", 0)), reserved());
    for (start_ts, name) in [(20, "a"), (21, "a"), (20, "b")] {
        cluster.ask(name, acquire(start_ts, start_ts, name, 60_000), MINUTE);
    }
    let third_at_a = cluster.ask("a", acquire(22, 22, "a", 60_000), MINUTE);
    let second_at_b = cluster.ask("b", acquire(23, 23, "b", 60_000), MINUTE);
    cluster.settle();
    for token in [third_at_a, second_at_b] {
        let refused = Err(KvError::ServerIsBusy { reason: BusyReason::LockWaits, backoff_ms: 50 });
        assert_eq!(cluster.answer(token), Some(refused));
    }
    assert!(cluster.answers.is_empty(), "the others wait");
}

/// Leadership is handed over, or the region is cut: who waits is told where to ask, at once.
#[test]
fn who_waits_where_nobody_leads_any_more_is_sent_on() {
    let mut cluster = Cluster::new(3, config());
    cluster.replicate();
    let (old, next) = (cluster.leader_of(b"").store_id, StoreId(4));
    cluster.lead(if old == next { StoreId(1) } else { old });
    let old = cluster.leader_of(b"").store_id;
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), reserved());
    let token = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.advance(20 * MS);
    assert!(cluster.answers.is_empty());
    let to_store = *cluster.stores.keys().find(|id| **id != old).expect("three stores");
    cluster.lead(to_store);
    let answer = cluster.answer(token);
    assert!(matches!(answer, Some(Err(KvError::NotLeader { .. }))), "{answer:?}");

    let token = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.advance(20 * MS);
    assert!(cluster.answers.is_empty());
    assert!(cluster.call(&key("m"), KvCommand::Split { keys: vec![key("m")] }).is_ok());
    cluster.advance(100 * MS);
    let answer = cluster.answer(token);
    assert!(matches!(answer, Some(Err(KvError::EpochNotMatch { .. }))), "{answer:?}");
}

/// The placement driver is told who waits for whom, and who does not any more; when it says that a request would wait for
/// itself, its client is told by whom. Of a request that has gone on by then nothing is said.
#[test]
fn a_request_that_would_wait_for_itself_is_refused() {
    let mut cluster = one_store(WaitLimits::default());
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), reserved());
    let edge = WaitEdge { waiter_ts: Timestamp(20), lock_ts: Timestamp(10), key: key("a") };
    let back = WaitEdge { waiter_ts: Timestamp(10), lock_ts: Timestamp(20), key: key("b") };
    let wait_chain = vec![edge.clone(), back];
    cluster.deadlock = Some(wait_chain.clone());
    let token = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.settle();
    let (lock_ts, lock_key) = (Timestamp(10), key("a"));
    let fault = TxnFault::Deadlock { lock_ts, lock_key, wait_chain: wait_chain.clone() };
    assert_eq!(cluster.answer(token), Some(Err(KvError::Txn(Box::new(fault)))));
    let told = |report: &PdRequest| match report {
        PdRequest::ReportLockWaits { added, removed, .. } => {
            let edges: Vec<WaitEdge> = added.iter().map(|LockWait { edge, .. }| edge.clone()).collect();
            (edges, removed.len())
        }
        other => panic!("{other:?}"),
    };
    let reports: Vec<_> = cluster.lock_reports.drain(..).map(|report| told(&report)).collect();
    assert_eq!(reports, [(vec![edge], 0), (vec![], 1)]);

    // It waits for somebody else by now.
    cluster.deadlock =
        Some(wait_chain.iter().map(|edge| WaitEdge { lock_ts: Timestamp(9), ..edge.clone() }).collect());
    let token = cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.settle();
    assert!(cluster.answers.is_empty());
    assert_eq!(cluster.call(&key("a"), release(10, "a")), done());
    cluster.settle();
    assert_eq!(cluster.answer(token), Some(reserved()));
}

/// One waits for a key, and another one gets it first. The placement driver learns whom it waits for now: without that a
/// deadlock with the new holder would be overlooked.
#[test]
fn who_waits_on_waits_for_the_next_holder() {
    let mut cluster = one_store(WaitLimits::default());
    assert_eq!(cluster.call(&key("a"), acquire(10, 10, "a", 0)), reserved());
    cluster.ask("a", acquire(30, 30, "a", 60_000), MINUTE);
    cluster.ask("a", acquire(20, 20, "a", 60_000), MINUTE);
    cluster.settle();
    cluster.lock_reports.clear();
    assert_eq!(cluster.call(&key("a"), release(10, "a")), done());
    cluster.settle();
    let mut edges = Vec::new();
    for report in &cluster.lock_reports {
        let PdRequest::ReportLockWaits { added, .. } = report else { panic!("{report:?}") };
        edges.extend(added.iter().map(|wait| (wait.edge.waiter_ts.0, wait.edge.lock_ts.0)));
    }
    assert_eq!(edges, [(30, 20)]);
}

impl Cluster {
    /// What the pretended placement driver says to a report of waits.
    pub(crate) fn on_lock_waits(&mut self, request: PdRequest) -> PdReply {
        let PdRequest::ReportLockWaits { added, .. } = &request else { unreachable!("asked for that") };
        let mut found = Vec::new();
        if let (Some(first), Some(wait_chain)) = (added.first(), self.deadlock.take()) {
            found.push(FoundDeadlock { id: first.id, wait_chain });
        }
        self.lock_reports.push(request);
        PdReply::Deadlocks { is_taken: true, found }
    }
}
