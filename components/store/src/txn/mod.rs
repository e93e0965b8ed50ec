//! Transactions on a store: which command runs when, on which view, and what becomes of it.
//!
//! A [`TxnScheduler`] gives commands their latches, a view of the region that its leader vouches for, and proposes what
//! `txn` decides on it. Reads at a timestamp ([`read`]) need none of that: they go the way of raw reads. What both must know
//! of each other, where a transaction commits without a second phase, is in [`TxnShared`].

mod check;
mod convert;
mod evaluate;
mod expired;
mod floor;
mod gc;
mod held;
mod parked;
mod read;
mod scheduler;

use crate::concurrency::ConcurrencyManager;
use crate::execute::ReadLimits;
use crate::gc_budget::GcBudget;
use crate::keyspaces::Keyspaces;
use crate::local_read::LocalReader;
use crate::oracle::Oracle;
use crate::wait_book::WaitBook;
use engine::Engine;
use raftstore::{HeldLocks, StoreMeta};
use std::sync::Arc;

pub(crate) use check::{check_border, check_command, check_read, latest_named};
pub(crate) use convert::locks_in_the_way;
pub(crate) use evaluate::size_bytes;
pub use held::Reservations;
pub(crate) use held::{held_for, held_under};
pub use parked::WaitLimits;
pub(crate) use read::read;
pub use scheduler::{TxnEffects, TxnInput, TxnRequest, TxnScheduler, scheduler_of};

/// What all threads of a store share of transactions.
#[derive(Clone, Debug)]
pub struct TxnShared {
    /// What was read, and is about to be written.
    pub concurrency: Arc<ConcurrencyManager>,
    /// What time it is.
    pub oracle: Arc<Oracle>,
    /// Who waits for locks.
    pub waits: Arc<WaitBook>,
    /// Which key spaces there are.
    pub keyspaces: Arc<Keyspaces>,
    /// What the removal of what is over may write.
    pub gc: Arc<GcBudget>,
    /// Locks that stand in no engine.
    pub held: Arc<HeldLocks>,
}

impl TxnShared {
    /// The same, where the removal of what is over keeps to a rate; zero for no bound. Before it is shared.
    #[must_use]
    pub fn collecting_within(self, bytes_per_second: u64) -> Self {
        Self { gc: Arc::new(GcBudget::new(bytes_per_second)), ..self }
    }

    /// What one thread reads with.
    #[must_use]
    pub fn local_reader<E: Engine>(
        &self,
        engine: E,
        meta: Arc<StoreMeta>,
        limits: ReadLimits,
    ) -> LocalReader<E> {
        LocalReader::new(engine, meta, self.concurrency.clone(), self.oracle.clone(), limits)
    }

    /// Nothing was read yet. `wake` is called, by any thread, when there is a question for the placement driver.
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let concurrency = Arc::new(ConcurrencyManager::default());
        let wake = Arc::new(wake);
        let (wakes, wakes_too) = (wake.clone(), wake.clone());
        Self {
            gc: Arc::new(GcBudget::new(0)),
            keyspaces: Arc::new(Keyspaces::new(move || wakes_too())),
            oracle: Arc::new(Oracle::new(concurrency.clone(), move || wake())),
            waits: Arc::new(WaitBook::new(move || wakes())),
            held: Arc::default(),
            concurrency,
        }
    }

    /// One whose locks in memory break rules on purpose.
    #[must_use]
    pub fn breaking(self, bugs: raftstore::Bugs) -> Self {
        Self { held: Arc::new(HeldLocks::default().breaking(bugs)), ..self }
    }
}
