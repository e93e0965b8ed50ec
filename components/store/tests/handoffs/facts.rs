//! Delegates and the count of their changes: who sees a count finds delegates at least as new.

use crate::meta::{Delegate, StoreMeta};
use crate::schedules::{caught, hold};
use crate::sync::{AtomicU64, Mutex, Ordering};
use shuttle::thread;
use std::sync::Arc;
use types::{Peer, Region, RegionId, Term};

const REGION: RegionId = RegionId(1);
const CHANGES: u64 = 3;

trait Facts: Default + Send + Sync + 'static {
    fn version(&self) -> u64;
    /// The term of the delegate.
    fn term(&self) -> u64;
    fn set_term(&self, term: u64);
}

impl Facts for StoreMeta {
    fn version(&self) -> u64 {
        Self::version(self)
    }

    fn term(&self) -> u64 {
        self.delegate(REGION).map_or(0, |delegate| delegate.term.get())
    }

    fn set_term(&self, term: u64) {
        let delegate = Delegate::new(Region::default(), Peer::default(), Term(term));
        self.set_delegate(REGION, Some(Arc::new(delegate)));
    }
}

/// Counts a change before it is made.
#[derive(Default)]
struct CountsFirst {
    term: Mutex<u64>,
    version: AtomicU64,
}

impl Facts for CountsFirst {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn term(&self) -> u64 {
        *self.term.lock()
    }

    fn set_term(&self, term: u64) {
        self.version.fetch_add(1, Ordering::AcqRel);
        *self.term.lock() = term;
    }
}

/// A reader keeps the delegate for as long as the count stays; the count `n` belongs to the term `n`.
fn readers<F: Facts>() {
    let facts = Arc::new(F::default());
    let readers = [(); 2].map(|()| {
        let facts = facts.clone();
        thread::spawn(move || {
            let (mut seen, mut kept) = (facts.version(), facts.term());
            for _ in 0..CHANGES {
                let version = facts.version();
                if version != seen {
                    kept = facts.term();
                    seen = version;
                }
                assert!(kept >= seen, "a delegate of term {kept} is kept at the count {seen}");
            }
        })
    });
    for term in 1..=CHANGES {
        facts.set_term(term);
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn a_reader_never_keeps_a_delegate_older_than_its_count() {
    hold(readers::<StoreMeta>);
}

#[test]
fn changes_that_are_counted_before_they_are_made_are_caught() {
    let said = caught(readers::<CountsFirst>);
    assert!(said.contains("is kept at the count"), "{said}");
}
