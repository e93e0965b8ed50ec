//! Pessimistic locks that go through the log, and whose transactions go on as soon as they are proposed: what becomes of them
//! where the leader fails before anybody else has heard of them. The product's clients and stores. Rules are broken, to see
//! that it would be noticed.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use client_core::Keyspace;
use parking_lot::Mutex;
use sim::nodes::SeededBug;
use sim::script::{Answer, CallError, CallId, Reply, Script, ScriptConfig, Topic};
use sim::{CrashKind, GateId, NodeId, Passage};
use std::sync::Arc;
use std::time::Duration;
use types::{Key, Timestamp};

const HOLDER: NodeId = NodeId(101);
const OTHER: NodeId = NodeId(102);
const OPERATOR: NodeId = NodeId(103);
const KEY: &str = "b";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three stores that keep all locks in the log.
fn cluster(pipelined: bool, bug: Option<store::SeededBug>) -> Script {
    let mut config =
        ScriptConfig { bugs: bug.into_iter().map(SeededBug::Store).collect(), ..ScriptConfig::default() };
    let reservations = &mut config.store.reservations;
    (reservations.in_memory, reservations.pipelined) = (false, pipelined);
    let mut script = Script::new(&config);
    script.boot();
    script.run_for(Duration::from_secs(2));
    script
}

/// Who leads the region of the key.
fn leader(script: &Script) -> Option<NodeId> {
    script.leader_at(&Keyspace::TXN.encode(KEY.as_bytes())).map(|(node, _)| node)
}

/// From now on nobody hears of what the leader proposes.
fn mute(script: &mut Script) -> (NodeId, GateId) {
    let first = leader(script).unwrap();
    (first, script.gate(Some(first), None, &[Topic::Append], Passage::Hold))
}

fn crash(script: &mut Script, node: NodeId) {
    script.crash(node, CrashKind::Power);
    script.wait_for("another store leads", |script| leader(script).is_some_and(|now| now != node));
    script.restart(node);
}

/// A transaction that reserves the key, and writes and commits it when it is told to.
struct Holder {
    call: CallId,
    has_it: Arc<Mutex<bool>>,
    may_commit: Arc<Mutex<bool>>,
}

impl Holder {
    fn begin(script: &mut Script) -> Self {
        let (may_commit, has_it) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(false)));
        let (may, has) = (Arc::clone(&may_commit), Arc::clone(&has_it));
        let call = script.work(HOLDER, move |core, handle| async move {
            let mut txn = core.txn().begin_pessimistic();
            txn.put(Key::from(KEY), "ours").await?;
            *has.lock() = true;
            while !*may.lock() {
                handle.sleep(ms(10)).await;
            }
            txn.commit().await.map(|_| Reply::Done)
        });
        Self { call, has_it, may_commit }
    }

    fn has_it(&self) -> bool {
        *self.has_it.lock()
    }

    /// It goes on within a moment, or not.
    fn goes_on(&self, script: &mut Script) -> bool {
        script.run_until(ms(200), |_| self.has_it())
    }

    fn commit(&self) {
        *self.may_commit.lock() = true;
    }

    fn end(self, script: &mut Script) -> Answer {
        self.commit();
        script.wait(self.call)
    }
}

/// Another transaction wants the key.
fn want(script: &mut Script) -> CallId {
    script.work(OTHER, |core, _| async move {
        let mut txn = core.txn().begin_pessimistic();
        txn.put(Key::from(KEY), "theirs").await?;
        txn.commit().await.map(|_| Reply::Done)
    })
}

fn value(script: &mut Script) -> Reply {
    let call = script.work(OPERATOR, |core, _| async move {
        let at: Timestamp = core.txn().timestamp().await?;
        core.txn().snapshot(at).get(Key::from(KEY)).await.map(Reply::Value)
    });
    script.wait(call).unwrap()
}

fn is(text: &'static str) -> Reply {
    Reply::Value(Some(text.into()))
}

fn nothing_is_broken(script: &Script) {
    assert!(script.broken().is_empty(), "{:?}", script.broken());
}

/// Nobody but the leader knows of the lock when its transaction goes on. Others that want the key wait all the same, and get it
/// after it.
fn reserve_unheard(bug: Option<store::SeededBug>) {
    let mut script = cluster(true, bug);
    let (_, gate) = mute(&mut script);
    let holder = Holder::begin(&mut script);
    assert!(holder.goes_on(&mut script), "it need not wait for the followers");
    let wanted = want(&mut script);
    script.run_for(ms(200));
    script.open(gate);
    script.run_for(ms(500));
    nothing_is_broken(&script);
    assert_eq!(script.answer(wanted), None, "the key is taken");
    holder.end(&mut script).unwrap();
    script.wait(wanted).unwrap();
    assert_eq!(value(&mut script), is("theirs"));
    nothing_is_broken(&script);
}

/// What is told early of a reservation is told of nothing else: the leader loses its power when it alone knows that a
/// transaction has committed.
fn commit_unheard(bug: Option<store::SeededBug>) {
    let mut script = cluster(true, bug);
    let holder = Holder::begin(&mut script);
    assert!(holder.goes_on(&mut script));
    script.run_for(ms(500));
    let (first, gate) = mute(&mut script);
    holder.commit();
    script.wait_for("the commit is proposed", |script| script.held_at(gate) > 0);
    script.run_for(ms(100));
    script.forget(gate);
    crash(&mut script, first);
    holder.end(&mut script).unwrap();
    assert_eq!(value(&mut script), is("ours"), "told that it is committed");
    nothing_is_broken(&script);
}

#[test]
fn a_transaction_goes_on_before_its_lock_is_replicated_and_others_wait() {
    reserve_unheard(None);
}

#[test]
#[should_panic(expected = "INV-TXN-2")]
fn latches_that_go_with_the_answer_are_noticed() {
    reserve_unheard(Some(store::SeededBug::LatchesGoWithAnswer));
}

#[test]
fn a_commit_is_told_when_it_is_applied() {
    commit_unheard(None);
}

#[test]
#[should_panic(expected = "told that it is committed")]
fn a_commit_that_is_told_early_is_noticed() {
    commit_unheard(Some(store::SeededBug::AnyPipelined));
}

#[test]
fn where_it_is_switched_off_a_transaction_waits_for_a_quorum() {
    let mut script = cluster(false, None);
    let (_, gate) = mute(&mut script);
    let holder = Holder::begin(&mut script);
    assert!(!holder.goes_on(&mut script));
    script.open(gate);
    holder.end(&mut script).unwrap();
    nothing_is_broken(&script);
}

/// The leader loses its power when it alone knows of the lock. Nobody has written the key since, so the transaction goes on.
#[test]
fn a_lock_that_is_lost_is_not_missed_where_nobody_has_written() {
    let mut script = cluster(true, None);
    let (first, gate) = mute(&mut script);
    let holder = Holder::begin(&mut script);
    assert!(holder.goes_on(&mut script));
    script.forget(gate);
    crash(&mut script, first);
    holder.end(&mut script).unwrap();
    assert_eq!(value(&mut script), is("ours"));
    nothing_is_broken(&script);
}

/// The same, and somebody else has written the key: the transaction is refused.
#[test]
fn a_lock_that_is_lost_counts_for_nothing_where_somebody_has_written() {
    let mut script = cluster(true, None);
    let (first, gate) = mute(&mut script);
    let holder = Holder::begin(&mut script);
    assert!(holder.goes_on(&mut script));
    script.forget(gate);
    crash(&mut script, first);
    let wanted = want(&mut script);
    script.wait(wanted).unwrap();
    is_refused(&mut script, holder);
}

/// The leader is parted from the others, one of which has the key written, while the first still holds what it has told
/// its client. Then it hears of that.
#[test]
fn a_lock_of_a_leader_that_is_parted_counts_for_nothing() {
    let mut script = cluster(true, None);
    let (first, gate) = mute(&mut script);
    let holder = Holder::begin(&mut script);
    assert!(holder.goes_on(&mut script));
    let others = script.others(&[first]);
    for other in &others {
        script.part(first, *other);
    }
    script.forget(gate);
    script.wait_for("another store leads", |script| leader(script).is_some_and(|now| now != first));
    let wanted = want(&mut script);
    script.wait(wanted).unwrap();
    for other in &others {
        script.mend(first, *other);
        script.mend(*other, first);
    }
    script.run_for(Duration::from_secs(2));
    is_refused(&mut script, holder);
}

/// The transaction has lost its lock, and somebody else has written the key since.
fn is_refused(script: &mut Script, holder: Holder) {
    let told = holder.end(script);
    nothing_is_broken(script);
    assert!(matches!(told, Err(CallError::Refused(_))), "{told:?}");
    assert_eq!(value(script), is("theirs"));
}

/// The leader that alone knew of the lock is heard after all, by those who elect its successor: then the lock is there.
#[test]
fn a_lock_that_was_heard_of_outlives_its_leader() {
    let mut script = cluster(true, None);
    let first = leader(&script).unwrap();
    let answers = script.gate(None, Some(first), &[Topic::AppendAnswer], Passage::Hold);
    let holder = Holder::begin(&mut script);
    assert!(holder.goes_on(&mut script));
    script.wait_for("the followers have it", |script| script.held_at(answers) >= 2);
    script.forget(answers);
    crash(&mut script, first);
    let wanted = want(&mut script);
    script.run_for(ms(500));
    assert_eq!(script.answer(wanted), None, "the key is taken");
    holder.end(&mut script).unwrap();
    script.wait(wanted).unwrap();
    assert_eq!(value(&mut script), is("theirs"));
    nothing_is_broken(&script);
}
