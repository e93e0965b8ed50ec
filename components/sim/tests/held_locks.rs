//! Pessimistic locks that only their leader's memory has, while leadership moves and regions are cut: the product's clients
//! and stores. Each rule is broken once, to see that it would be noticed.
#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use client_core::{CommitProtocol, Keyspace};
use parking_lot::Mutex;
use sim::nodes::{SeededBug, Thread};
use sim::script::{Answer, CallError, CallId, Reply, Script, ScriptConfig, Topic};
use sim::{NodeId, Passage};
use std::sync::Arc;
use std::time::Duration;
use store::Actor;
use types::{Key, Timestamp};

const HOLDER: NodeId = NodeId(101);
const OTHER: NodeId = NodeId(102);
const OPERATOR: NodeId = NodeId(103);
const KEY: &str = "b";
const APPLIER: Thread = Thread::Runs(Actor::Applier(0));

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn encoded(key: &str) -> Key {
    Keyspace::TXN.encode(key.as_bytes())
}

fn cluster(bug: Option<SeededBug>) -> Script {
    let mut script =
        Script::new(&ScriptConfig { bugs: bug.into_iter().collect(), ..ScriptConfig::default() });
    script.boot();
    script.run_for(Duration::from_secs(2));
    script
}

/// Who leads the region of the key.
fn leader(script: &Script) -> Option<NodeId> {
    script.leader_at(&encoded(KEY)).map(|(node, _)| node)
}

fn begin_transfer(script: &mut Script, to: NodeId) -> CallId {
    let store = script.store_of(to).unwrap();
    script.work(OPERATOR, move |core, _| async move {
        let route = core.admin().region_at(encoded(KEY)).await?.expect("all keys have regions");
        core.admin().transfer_leader(route.region.id, store).await.map(|()| Reply::Done)
    })
}

/// Lets another store lead, or this one.
fn move_leader(script: &mut Script, to: Option<NodeId>) {
    let to = to.unwrap_or_else(|| script.others(&[leader(script).unwrap()])[0]);
    let call = begin_transfer(script, to);
    script.wait(call).unwrap();
    script.wait_for("the leader has moved", |script| leader(script) == Some(to));
}

fn begin_cut(script: &mut Script) -> CallId {
    script.work(OPERATOR, |core, _| async move {
        core.admin().split_region([encoded("m")]).await.map(|_| Reply::Done)
    })
}

/// A transaction that has reserved the key, and writes and commits it when it is told to.
struct Held {
    call: CallId,
    may_commit: Arc<Mutex<bool>>,
}

impl Held {
    fn begin(script: &mut Script) -> Self {
        let may_commit = Arc::new(Mutex::new(false));
        let (may, has_it) = (Arc::clone(&may_commit), Arc::new(Mutex::new(false)));
        let has = Arc::clone(&has_it);
        let call = script.work(HOLDER, move |core, handle| async move {
            let txn = core.txn().with_protocol(CommitProtocol::TwoPhase);
            let mut txn = txn.begin_pessimistic();
            txn.put(Key::from(KEY), "ours").await?;
            *has.lock() = true;
            while !*may.lock() {
                handle.sleep(ms(10)).await;
            }
            txn.commit().await.map(|_| Reply::Done)
        });
        script.wait_for("the key is reserved", |_| *has_it.lock());
        Self { call, may_commit }
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
    let call = script.work(OTHER, |core, _| async move {
        let at: Timestamp = core.txn().timestamp().await?;
        core.txn().snapshot(at).get(Key::from(KEY)).await.map(Reply::Value)
    });
    script.wait(call).unwrap()
}

fn is(text: &'static str) -> Reply {
    Reply::Value(Some(text.into()))
}

/// Whoever wants the key waits as long as the first transaction has it, which then commits.
fn keeps_its_lock(script: &mut Script, held: Held) {
    let wanted = want(script);
    let has_it = script.run_until(ms(1_500), |script| script.answer(wanted).is_some());
    assert!(!has_it, "another transaction has the key: {:?}", script.answer(wanted));
    held.end(script).unwrap();
    script.wait(wanted).unwrap();
    assert_eq!(value(script), is("theirs"));
    assert!(script.broken().is_empty(), "{:?}", script.broken());
}

fn reserve(bug: Option<SeededBug>) {
    let mut script = cluster(bug);
    let held = Held::begin(&mut script);
    keeps_its_lock(&mut script, held);
}

fn reserve_and_move(bug: Option<SeededBug>) {
    let mut script = cluster(bug);
    let held = Held::begin(&mut script);
    move_leader(&mut script, None);
    keeps_its_lock(&mut script, held);
}

fn reserve_and_cut(bug: Option<SeededBug>) {
    let mut script = cluster(bug);
    let held = Held::begin(&mut script);
    let cut = begin_cut(&mut script);
    script.wait(cut).unwrap();
    keeps_its_lock(&mut script, held);
}

/// The key is being written when leadership moves: what the followers acknowledge is held up until the leader wants to go.
fn write_and_move(bug: Option<SeededBug>) {
    let mut script = cluster(bug);
    let held = Held::begin(&mut script);
    let from = leader(&script).unwrap();
    let gate = script.gate(None, Some(from), &[Topic::AppendAnswer], Passage::Hold);
    held.commit();
    script.wait_for("the key is being written", |script| script.held_at(gate) > 0);
    let to = script.others(&[from])[0];
    let moving = begin_transfer(&mut script, to);
    script.wait(moving).unwrap();
    script.open(gate);
    held.end(&mut script).unwrap();
    assert_eq!(value(&mut script), is("ours"), "told that it is committed");
    assert_eq!(leader(&script), Some(to));
    assert!(script.broken().is_empty(), "{:?}", script.broken());
}

/// The leader is parted from the others, one of which has the key written. Then the first leads again.
fn lose_and_lead_again(bug: Option<SeededBug>) {
    let mut script = cluster(bug);
    let held = Held::begin(&mut script);
    let first = leader(&script).unwrap();
    let others = script.others(&[first]);
    for other in &others {
        script.part(first, *other);
    }
    script.wait_for("another store leads", |script| leader(script).is_some_and(|now| now != first));
    let wanted = want(&mut script);
    script.wait(wanted).unwrap();
    for other in &others {
        script.mend(first, *other);
        script.mend(*other, first);
    }
    script.run_for(Duration::from_secs(2));
    move_leader(&mut script, Some(first));
    is_refused(&mut script, held);
}

/// The transaction has lost its lock, and somebody else has written the key since.
fn is_refused(script: &mut Script, held: Held) {
    let told = held.end(script);
    assert!(script.broken().is_empty(), "{:?}", script.broken());
    assert!(matches!(told, Err(CallError::Refused(_))), "{told:?}");
    assert_eq!(value(script), is("theirs"));
}

/// The region is cut, which its leader is the last to apply. By then another store leads the piece, where the key is
/// written; then our store leads the piece, too.
fn inherit_too_late(bug: Option<SeededBug>) {
    let mut script = cluster(bug);
    let held = Held::begin(&mut script);
    let first = leader(&script).unwrap();
    script.hold(first, APPLIER);
    begin_cut(&mut script);
    script.wait_for("another store leads the piece", |script| {
        script
            .leader_at(&encoded(KEY))
            .is_some_and(|(now, region)| now != first && !region.region.range.end.is_empty())
    });
    let wanted = want(&mut script);
    script.wait(wanted).unwrap();
    script.go_on(first, APPLIER);
    script.run_for(Duration::from_secs(2));
    move_leader(&mut script, Some(first));
    is_refused(&mut script, held);
}

const fn regions(bug: raftstore::SeededBug) -> Option<SeededBug> {
    Some(SeededBug::Regions(bug))
}

#[test]
fn a_lock_goes_with_leadership_that_is_handed_over() {
    reserve_and_move(None);
}

#[test]
#[should_panic(expected = "another transaction has the key")]
fn locks_that_are_left_behind_are_noticed() {
    reserve_and_move(regions(raftstore::SeededBug::LocksNotHandedOver));
}

#[test]
fn a_lock_goes_with_its_piece_of_the_region() {
    reserve_and_cut(None);
}

#[test]
#[should_panic(expected = "another transaction has the key")]
fn a_split_that_forgets_locks_is_noticed() {
    reserve_and_cut(regions(raftstore::SeededBug::SplitForgetsLocks));
}

#[test]
fn what_is_being_written_when_leadership_moves_is_written() {
    write_and_move(None);
}

#[test]
#[should_panic(expected = "told that it is committed")]
fn a_lock_that_takes_the_place_of_what_was_written_is_noticed() {
    write_and_move(regions(raftstore::SeededBug::ChangingLocksHandedOver));
}

#[test]
fn a_lock_that_was_lost_does_not_count_when_its_store_leads_again() {
    lose_and_lead_again(None);
}

#[test]
#[should_panic(expected = "INV-TXN")]
fn a_lock_that_outlives_its_leader_is_noticed() {
    lose_and_lead_again(regions(raftstore::SeededBug::LocksOutliveLeader));
}

#[test]
#[should_panic(expected = "INV-TXN-8")]
fn a_lost_lock_that_is_as_good_as_held_is_noticed() {
    lose_and_lead_again(Some(SeededBug::Records(mvcc::SeededBug::LostLockAmended)));
}

#[test]
fn a_piece_that_was_led_elsewhere_first_inherits_nothing() {
    inherit_too_late(None);
}

#[test]
#[should_panic(expected = "INV-TXN")]
fn an_inheritance_that_comes_too_late_is_noticed() {
    inherit_too_late(regions(raftstore::SeededBug::InheritedInAnyTerm));
}

#[test]
#[should_panic(expected = "INV-TXN")]
fn who_does_not_look_into_memory_is_noticed() {
    reserve(Some(SeededBug::Store(store::SeededBug::HeldLocksUnseen)));
}
