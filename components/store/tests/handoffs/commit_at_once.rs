//! Readers at a timestamp beside a transaction that commits without a second phase.
//!
//! The writer chooses its commit timestamp and writes; readers look whether somebody is about to write, and read. In every
//! order a reader either sees what was committed by its timestamp, or is told of the lock that hides it.

use crate::concurrency::ConcurrencyManager;
use crate::schedules::{caught, hold};
use engine::{Cf, Engine as _, MemEngine, Snapshot as _, WriteBatch};
use mvcc::{Lock, LockKind};
use shuttle::thread;
use std::sync::{Arc, Mutex};
use types::{Key, Timestamp};
use wire::txn::{ReadView, TxnRead};

const START: Timestamp = Timestamp(5);
/// Two readers of one batch, the second later than the first.
const READS: [Timestamp; 2] = [Timestamp(10), Timestamp(20)];

fn key() -> Key {
    Key::from_static(b"k")
}

fn read(at: Timestamp) -> TxnRead {
    TxnRead::Get { key: key(), view: ReadView { at, ..ReadView::default() } }
}

/// Which rule is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    None,
    /// The writer shows its lock after it has chosen when it commits.
    ChosenBeforeShown,
    /// Its lock goes before the engine has what it stood for.
    WithdrawnEarly,
    /// The reader takes its view before it has announced itself.
    ViewFirst,
    /// The second reader takes the first one's view whatever has happened since.
    SharesBlindly,
}

/// When the transaction has committed; the steps of this are no choice of the scheduler's.
type Truth = Arc<Mutex<Option<Timestamp>>>;

fn write(manager: &ConcurrencyManager, engine: &MemEngine, rule: Rule, truth: &Truth) {
    let shown = || [(key(), Lock { async_commit: true, ..Lock::new(LockKind::Put, key(), START, 0) })];
    let after = Timestamp(START.0 + 1);
    let commit_ts = match rule {
        Rule::ChosenBeforeShown => {
            let commit_ts = after.max(Timestamp(manager.max_ts().0 + 1));
            manager.publish(1, shown(), after);
            commit_ts
        }
        _ => manager.publish(1, shown(), after),
    };
    *truth.lock().unwrap() = Some(commit_ts);
    if rule == Rule::WithdrawnEarly {
        manager.withdraw(1, [key()]);
        thread::yield_now();
    }
    let mut batch = WriteBatch::new();
    batch.put(Cf::Write, &key(), &commit_ts.0.to_be_bytes());
    engine.write(&batch).unwrap();
    thread::yield_now();
    if rule != Rule::WithdrawnEarly {
        manager.withdraw(1, [key()]);
    }
}

/// A batch of reads, as one thread serves it. Gives what each has seen of the commit; `None` if it met the lock.
fn serve(manager: &ConcurrencyManager, engine: &MemEngine, rule: Rule) -> [Option<bool>; 2] {
    let mut view = None;
    READS.map(|at| {
        if rule == Rule::ViewFirst {
            view.get_or_insert_with(|| (manager.mark(), engine.snapshot()));
            thread::yield_now();
        }
        if !manager.begin_read(&read(at)).is_empty() {
            return None;
        }
        let is_kept = matches!(rule, Rule::ViewFirst | Rule::SharesBlindly);
        view = view.take().filter(|(mark, _)| is_kept || manager.is_good_for(*mark, &read(at)));
        let (_, snapshot) = view.get_or_insert_with(|| (manager.mark(), engine.snapshot()));
        thread::yield_now();
        let record = snapshot.get(Cf::Write, &key()).unwrap();
        let commit_ts = record.map(|bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()));
        Some(commit_ts.is_some_and(|commit_ts| commit_ts <= at.0))
    })
}

fn run(rule: Rule) {
    let (manager, engine) = (Arc::new(ConcurrencyManager::default()), MemEngine::new());
    let truth = Truth::default();
    let writer = {
        let (manager, engine, truth) = (manager.clone(), engine.clone(), truth.clone());
        thread::spawn(move || write(&manager, &engine, rule, &truth))
    };
    let reader = {
        let (manager, engine) = (manager.clone(), engine.clone());
        thread::spawn(move || serve(&manager, &engine, rule))
    };
    writer.join().unwrap();
    let seen = reader.join().unwrap();
    let commit_ts = truth.lock().unwrap().expect("the writer has committed");
    for (at, seen) in READS.into_iter().zip(seen) {
        if let Some(seen) = seen {
            assert_eq!(seen, commit_ts <= at, "read at {at:?}, committed at {commit_ts:?}");
        }
    }
}

#[test]
fn a_reader_sees_what_was_committed_by_its_timestamp_or_meets_the_lock() {
    hold(|| run(Rule::None));
}

#[test]
fn a_commit_timestamp_that_is_chosen_before_the_lock_is_shown_is_caught() {
    let said = caught(|| run(Rule::ChosenBeforeShown));
    assert!(said.contains("committed at"), "{said}");
}

#[test]
fn a_lock_that_goes_before_the_engine_has_it_is_caught() {
    let said = caught(|| run(Rule::WithdrawnEarly));
    assert!(said.contains("committed at"), "{said}");
}

#[test]
fn a_view_that_is_older_than_its_reader_is_caught() {
    for rule in [Rule::ViewFirst, Rule::SharesBlindly] {
        let said = caught(move || run(rule));
        assert!(said.contains("committed at"), "{said}");
    }
}
