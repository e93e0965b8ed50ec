//! What readers at a timestamp, and transactions that commit without a second phase, must know of each other.
//!
//! The commit timestamp of such a transaction is chosen here: above every timestamp that was read at, so that no reader is
//! belied (INV-TXN-4). Readers announce theirs ([`ConcurrencyManager::begin_read`]) before they take their view of the
//! engine, and look whether somebody who did not know of it yet is about to write; writers show their locks here
//! ([`ConcurrencyManager::publish`]) until the engine has them. Whoever comes second notices the first. The algorithm is
//! TiKV's.
//!
//! A store that begins to lead a region knows nothing of the reads of those who led it before. They were all at timestamps
//! of the placement driver, so one that is asked of it now is above them all: see [`Oracle`](crate::oracle::Oracle). Until
//! it has come, transactions commit in two phases there.

use crate::sync::{AtomicU64, AtomicUsize, Ordering, RwLock};
use mvcc::Lock;
use std::collections::BTreeMap;
use std::ops::Bound;
use types::{Key, Timestamp};
use wire::txn::{ReadView, TxnRead};

/// Locks that one refusal names.
const LOCKS_MAX: usize = 256;

/// Which command shows a lock.
pub(crate) type Owner = u64;

/// What all threads of a store agree on. See the module.
#[derive(Default)]
pub struct ConcurrencyManager {
    /// No commit timestamp that is chosen from now on is at or below this.
    max_ts: AtomicU64,
    /// Of commands under way, by key and command. There may be two for a key that has just moved to another region.
    locks: RwLock<BTreeMap<(Key, Owner), Lock>>,
    /// How many of them there are, so that readers need not look when there is none.
    count: AtomicUsize,
    /// How often locks went from here because the engine had them, or never will.
    withdrawals: AtomicU64,
}

/// Where readers stood when a view of the engine was taken.
#[derive(Clone, Copy, Debug)]
pub struct ViewMark {
    max_ts: Timestamp,
    withdrawals: u64,
}

impl ConcurrencyManager {
    /// Somebody reads at this timestamp, or has the right to. Call it before the view is taken.
    ///
    /// The last one of all is not kept: who reads the newest there is names no time, and would keep all others from ever
    /// committing again.
    pub fn raise(&self, at: Timestamp) {
        // Most readers come after one who was later.
        if at != Timestamp(u64::MAX) && self.max_ts.load(Ordering::SeqCst) < at.0 {
            self.max_ts.fetch_max(at.0, Ordering::SeqCst);
        }
    }

    /// The latest timestamp that anybody has read at.
    #[must_use]
    pub fn max_ts(&self) -> Timestamp {
        Timestamp(self.max_ts.load(Ordering::SeqCst))
    }

    /// Announces a read, and gives back the locks that are in its way and that the engine may not have yet; a bounded number.
    /// The view that it is served from is to be taken after this.
    #[must_use]
    pub fn begin_read(&self, read: &TxnRead) -> Vec<(Key, Lock)> {
        let at = read_at(read);
        self.raise(at);
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let locks = self.locks.read();
        let mut found = Vec::new();
        let mut look = |from: &Key, to: Bound<(Key, Owner)>, is_in_the_way: &dyn Fn(&Key, &Lock) -> bool| {
            for ((key, _), lock) in locks.range((Bound::Included((from.clone(), 0)), to)) {
                if found.len() < LOCKS_MAX && is_in_the_way(key, lock) {
                    found.push((key.clone(), lock.clone()));
                }
            }
        };
        let only = |key: &Key| Bound::Included((key.clone(), Owner::MAX));
        let before = |end: &Key| match end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded((end.clone(), 0)),
        };
        match read {
            TxnRead::Get { key, view } => look(key, only(key), &|key, lock| hides(view, key, lock)),
            TxnRead::BatchGet { keys, view } | TxnRead::KeyChanges { keys, view, .. } => {
                keys.iter().for_each(|key| look(key, only(key), &|key, lock| hides(view, key, lock)));
            }
            TxnRead::Scan { scan, view } => {
                look(&scan.range.start, before(&scan.range.end), &|key, lock| hides(view, key, lock));
            }
            TxnRead::RangeChanges { range, view, .. } => {
                look(&range.start, before(&range.end), &|key, lock| hides(view, key, lock));
            }
            TxnRead::Locks { range, up_to, .. } if at != Timestamp(u64::MAX) => {
                look(&range.start, before(&range.end), &|_, lock| lock.start_ts <= *up_to);
            }
            // Whoever asks for all there is looks at the engine.
            TxnRead::Locks { .. } | TxnRead::History { .. } => {}
        }
        found
    }

    /// Where readers stand now; a view is taken next.
    #[must_use]
    pub fn mark(&self) -> ViewMark {
        let withdrawals = self.withdrawals.load(Ordering::SeqCst);
        ViewMark { max_ts: self.max_ts(), withdrawals }
    }

    /// Whether a read that has begun may be served from a view that was taken at `mark`, before: nobody who did not know of
    /// it has written since.
    #[must_use]
    pub fn is_good_for(&self, mark: ViewMark, read: &TxnRead) -> bool {
        read_at(read) <= mark.max_ts && self.withdrawals.load(Ordering::SeqCst) == mark.withdrawals
    }

    /// Shows the locks that a command is about to write, and gives back the timestamp at which its transaction commits at the
    /// earliest, `at_least` or later. To be called with the latches of the keys held, before anything is proposed.
    pub fn publish(
        &self,
        owner: Owner,
        shown: impl IntoIterator<Item = (Key, Lock)>,
        at_least: Timestamp,
    ) -> Timestamp {
        let mut locks = self.locks.write();
        let mut keys = Vec::new();
        for (key, lock) in shown {
            keys.push(key.clone());
            locks.insert((key, owner), lock);
        }
        self.count.store(locks.len(), Ordering::SeqCst);
        // Read after they are shown: whoever raises it later sees them.
        let min_commit_ts = at_least.max(Timestamp(self.max_ts().0 + 1));
        for key in keys {
            let lock = locks.get_mut(&(key, owner)).expect("just inserted");
            lock.min_commit_ts = min_commit_ts;
        }
        min_commit_ts
    }

    /// The engine has the locks of this command, or never will.
    pub fn withdraw(&self, owner: Owner, keys: impl IntoIterator<Item = Key>) {
        let mut locks = self.locks.write();
        for key in keys {
            locks.remove(&(key, owner));
        }
        self.withdrawals.fetch_add(1, Ordering::SeqCst);
        self.count.store(locks.len(), Ordering::SeqCst);
    }
}

impl std::fmt::Debug for ConcurrencyManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConcurrencyManager").field("max_ts", &self.max_ts()).finish_non_exhaustive()
    }
}

/// The timestamp that a read is at; the first of all if it is at none.
pub(crate) fn read_at(read: &TxnRead) -> Timestamp {
    match read {
        TxnRead::Get { view, .. } | TxnRead::BatchGet { view, .. } | TxnRead::Scan { view, .. } => view.at,
        TxnRead::KeyChanges { view, .. } | TxnRead::RangeChanges { view, .. } => view.at,
        TxnRead::Locks { up_to, .. } => *up_to,
        TxnRead::History { .. } => Timestamp(0),
    }
}

fn hides(view: &ReadView, key: &Key, lock: &Lock) -> bool {
    let is_known = [&view.resolved, &view.committed].iter().any(|known| known.contains(&lock.start_ts));
    lock.hides(key, view.at) && !is_known
}
