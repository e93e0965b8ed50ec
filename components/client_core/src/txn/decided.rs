//! Transactions whose fate is known, and stays so.

use std::collections::{BTreeMap, VecDeque};
use types::Timestamp;

/// So many are remembered; the oldest finds are forgotten first. Some 40 bytes each.
const REMEMBERED_MAX: usize = 4096;

/// What became of a transaction, for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    Committed { commit_ts: Timestamp },
    RolledBack,
}

impl Decision {
    /// When it committed.
    pub(crate) fn commit_ts(self) -> Option<Timestamp> {
        match self {
            Self::Committed { commit_ts } => Some(commit_ts),
            Self::RolledBack => None,
        }
    }
}

/// Decisions by the timestamps that name their transactions.
#[derive(Default, Debug)]
pub(crate) struct Decided {
    decisions: BTreeMap<Timestamp, Decision>,
    /// In the order in which they were found.
    found: VecDeque<Timestamp>,
}

impl Decided {
    pub(crate) fn get(&self, start_ts: Timestamp) -> Option<Decision> {
        self.decisions.get(&start_ts).copied()
    }

    /// False, and nothing is changed, if something else was found before: then somebody is wrong.
    pub(crate) fn remember(&mut self, start_ts: Timestamp, decision: Decision) -> bool {
        if let Some(before) = self.decisions.get(&start_ts) {
            return *before == decision;
        }
        self.decisions.insert(start_ts, decision);
        self.found.push_back(start_ts);
        if self.found.len() > REMEMBERED_MAX
            && let Some(oldest) = self.found.pop_front()
        {
            self.decisions.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_finds_are_remembered_and_no_more_than_so_many() {
        let mut decided = Decided::default();
        let committed = |ts: u64| Decision::Committed { commit_ts: Timestamp(ts + 1) };
        for ts in 0..2 * REMEMBERED_MAX as u64 {
            assert!(decided.remember(Timestamp(ts), committed(ts)));
            assert!(decided.remember(Timestamp(ts), committed(ts)));
            assert!(!decided.remember(Timestamp(ts), Decision::RolledBack));
        }
        assert_eq!(decided.decisions.len(), REMEMBERED_MAX);
        assert_eq!(decided.get(Timestamp(REMEMBERED_MAX as u64 - 1)), None);
        let kept = REMEMBERED_MAX as u64;
        assert_eq!(decided.get(Timestamp(kept)), Some(committed(kept)));
    }
}
