//! One reader's timestamp, and what it has learnt of the transactions whose locks it met.

use crate::txn::decided::Decision;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use types::Timestamp;
use wire::txn::ReadView;

/// So many transactions of each kind are told to stores with each read. A reader meets no more at once than a page has
/// items.
const KNOWN_MAX: usize = 4096;

/// What a reader sees: all that was committed by `at`.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    known: Mutex<Known>,
}

#[derive(Default, Debug)]
struct Known {
    resolved: BTreeSet<Timestamp>,
    committed: BTreeSet<Timestamp>,
}

impl Seen {
    pub(crate) fn at(at: Timestamp) -> Self {
        Self { at, known: Mutex::default() }
    }

    /// As stores are told.
    pub(crate) fn view(&self) -> ReadView {
        let known = self.known.lock();
        ReadView {
            at: self.at,
            resolved: known.resolved.iter().copied().collect(),
            committed: known.committed.iter().copied().collect(),
        }
    }

    /// This transaction's locks are in the way no more.
    pub(crate) fn decided(&self, start_ts: Timestamp, decision: Decision) {
        let is_seen = decision.commit_ts().is_some_and(|commit_ts| commit_ts <= self.at);
        let mut known = self.known.lock();
        let set = if is_seen { &mut known.committed } else { &mut known.resolved };
        add(set, start_ts);
    }

    /// This transaction commits later, if it does.
    pub(crate) fn pushed(&self, start_ts: Timestamp) {
        add(&mut self.known.lock().resolved, start_ts);
    }
}

fn add(set: &mut BTreeSet<Timestamp>, start_ts: Timestamp) {
    set.insert(start_ts);
    if set.len() > KNOWN_MAX {
        // The locks of the oldest are the likeliest to be gone.
        set.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_was_committed_by_then_and_looks_past_the_rest() {
        let seen = Seen::at(Timestamp(10));
        let committed = |commit_ts| Decision::Committed { commit_ts: Timestamp(commit_ts) };
        seen.decided(Timestamp(1), committed(10));
        seen.decided(Timestamp(2), committed(11));
        seen.decided(Timestamp(3), Decision::RolledBack);
        seen.pushed(Timestamp(4));
        let view = seen.view();
        assert_eq!(view.committed, [Timestamp(1)]);
        assert_eq!(view.resolved, [2, 3, 4].map(Timestamp));
    }
}
