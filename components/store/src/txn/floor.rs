//! Above which timestamp a transaction commits that has no second phase.

use super::TxnShared;
use crate::concurrency::Owner;
use crate::oracle::Oracle;
use crate::seeded_bug::{Bugs, SeededBug};
use env::sim_point;
use mvcc::{Lock, LockKind};
use std::collections::BTreeMap;
use types::{Key, Region, RegionId, Term, Timestamp};
use wire::txn::{CommitMode, Mutation, MutationKind, Prewrite, TxnCommand};

/// For so many regions it is remembered that their leader knows of all reads. For one that is forgotten it is asked again.
const REGIONS_MAX: usize = 1 << 16;

/// A timestamp above all that the keys of a command were read at, and the keys whose locks are shown to readers.
pub(crate) struct Floor {
    pub(crate) at: Timestamp,
    pub(crate) shown: Vec<Key>,
}

/// Gives floors to the commands of the regions that one worker owns.
pub(crate) struct Floors {
    shared: TxnShared,
    asked: BTreeMap<RegionId, Asked>,
    pub(crate) bugs: Bugs,
}

/// Who leads a region, and by which question the placement driver tells what was read before that.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked {
    term: Term,
    version: u64,
    ticket: u64,
}

impl Floors {
    /// What time it is.
    pub(crate) fn oracle(&self) -> &Oracle {
        &self.shared.oracle
    }

    pub(crate) fn new(shared: TxnShared) -> Self {
        Self { shared, asked: BTreeMap::new(), bugs: Bugs::default() }
    }

    /// The floor of a command that is about to be decided under this leader; `None` if it commits nothing without a second
    /// phase, or cannot. The latches of its keys are held, and [`Floors::withdraw`] follows.
    pub(crate) fn floor(
        &mut self,
        owner: Owner,
        region: &Region,
        term: Term,
        command: &TxnCommand,
    ) -> Option<Floor> {
        self.shared.concurrency.raise(seen_at(command));
        let TxnCommand::Prewrite(prewrite) = command else { return None };
        if prewrite.mode == CommitMode::TwoPhase
            || !self.knows_all_reads(region, term)
            || sim_point!("store.commit_in_two_phases")
        {
            return None;
        }
        if self.bugs.has(SeededBug::CommitBelowReads) {
            return Some(Floor { at: least(prewrite), shown: Vec::new() });
        }
        let hidden = self.bugs.has(SeededBug::LocksNotShown);
        let mut shown = Vec::new();
        let locks = prewrite.mutations.iter().filter(|_| !hidden).filter_map(|mutation| {
            let lock = lock(prewrite, mutation)?;
            shown.push(mutation.key.clone());
            Some((mutation.key.clone(), lock))
        });
        let at = self.shared.concurrency.publish(owner, locks, least(prewrite));
        Some(Floor { at, shown })
    }

    /// What the command wrote is applied, or never will be.
    pub(crate) fn withdraw(&self, owner: Owner, shown: Vec<Key>) {
        if !shown.is_empty() {
            self.shared.concurrency.withdraw(owner, shown);
        }
    }

    /// Whether this store knows at which timestamps the region was read, before it was led here too. If not, it asks.
    fn knows_all_reads(&mut self, region: &Region, term: Term) -> bool {
        if self.bugs.has(SeededBug::ReadsElsewhereForgotten) {
            return true;
        }
        let version = region.epoch.version;
        if let Some(asked) = self.asked.get(&region.id)
            && (asked.term, asked.version) == (term, version)
        {
            return self.shared.oracle.is_answered(asked.ticket);
        }
        if self.asked.len() >= REGIONS_MAX {
            self.asked.clear();
        }
        // Whatever was read of it before this term, or of what it was joined with, was read by now.
        let ticket = self.shared.oracle.want();
        self.asked.insert(region.id, Asked { term, version, ticket });
        false
    }
}

/// The transaction commits then at the earliest, by itself.
fn least(prewrite: &Prewrite) -> Timestamp {
    let after = Timestamp(prewrite.start_ts.max(prewrite.for_update_ts).0 + 1);
    after.max(prewrite.min_commit_ts)
}

/// The lock that readers are shown; `None` if the key stays as it is.
fn lock(prewrite: &Prewrite, mutation: &Mutation) -> Option<Lock> {
    let kind = match mutation.kind {
        MutationKind::Put(_) | MutationKind::Insert(_) => LockKind::Put,
        MutationKind::Delete => LockKind::Delete,
        MutationKind::Lock | MutationKind::CheckNotExists => return None,
    };
    let Prewrite { primary, start_ts, ttl_ms, txn_size, for_update_ts, .. } = prewrite;
    Some(Lock {
        async_commit: true,
        txn_size: *txn_size,
        for_update_ts: *for_update_ts,
        min_commit_ts: least(prewrite),
        ..Lock::new(kind, primary.clone(), *start_ts, *ttl_ms)
    })
}

/// Up to when a command sees a key that it does not write: nobody may write it earlier afterwards.
fn seen_at(command: &TxnCommand) -> Timestamp {
    match command {
        TxnCommand::Prewrite(prewrite) => {
            let looks = |mutation: &Mutation| {
                matches!(mutation.kind, MutationKind::Insert(_) | MutationKind::CheckNotExists)
            };
            let seen = prewrite.start_ts.max(prewrite.for_update_ts);
            if prewrite.mutations.iter().any(looks) { seen } else { Timestamp(0) }
        }
        TxnCommand::Acquire(acquire) => acquire.for_update_ts,
        _ => Timestamp(0),
    }
}
