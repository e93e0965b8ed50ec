//! The product's processes as nodes: what threads, sockets and RocksDB do in `server`, done here one step at a time.

mod alarm;
mod audit;
mod links;
mod pd;
mod pd_calls;
mod sight;
mod snapshots;
mod store;

pub use links::StoreLinks;
pub use pd::PdNode;
pub use store::{AddressBook, StoreNode};

use ::store::Actor;
use engine::MemEngine;
use env::{Clock, Dice, SplitMix};
use types::MonoTime;

/// A thread of a store's process: what can be slow, or stand still, while the rest of the process goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Thread {
    /// The one that takes requests from the network, answers what a lease allows, and hands the rest on.
    Reader,
    /// The one that runs this actor.
    Runs(Actor),
    /// The log writer.
    Log,
}

/// A rule that a process breaks on purpose, so that the checks have something to find.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SeededBug {
    /// A store's log writer does not wait for its sync: messages leave and entries are applied that may be lost.
    StoreReleasesEarly,
    /// The same in the placement driver.
    PdReleasesEarly,
    /// A store's reader reads the clock before it takes up the requests that have arrived, so that after a while in
    /// which it did not run it answers by a lease that has ended.
    ClockBeforeDrain,
    /// A store's log writer takes what it wrote while a sync was running for synced with it.
    SyncBegunBeforeWrite,
    /// A store goes on after a write or a sync of its disk has failed.
    RunsOnAfterFailure,
    /// A rule of the clients' code.
    #[cfg(feature = "seeded_bugs")]
    Client(client_core::SeededBug),
    /// A rule of the placement driver's code.
    #[cfg(feature = "seeded_bugs")]
    Pd(::pd::SeededBug),
    /// A rule of a store's code.
    #[cfg(feature = "seeded_bugs")]
    Store(::store::SeededBug),
    /// A rule of the records of transactions: how they are read, and what commands do to them.
    #[cfg(feature = "seeded_bugs")]
    Records(mvcc::SeededBug),
    /// A rule of the regions' code.
    #[cfg(feature = "seeded_bugs")]
    Regions(raftstore::SeededBug),
    /// A rule of Raft, in the groups of regions and of the placement driver.
    #[cfg(feature = "seeded_bugs")]
    Raft(raft::SeededBug),
    /// Several rules, each of which covers for the others.
    #[cfg(feature = "seeded_bugs")]
    Together(&'static [SeededBug]),
}

impl SeededBug {
    /// Whether this bug is `other`, or has it among others.
    pub(crate) fn has(self, other: Self) -> bool {
        match self {
            #[cfg(feature = "seeded_bugs")]
            Self::Together(bugs) => bugs.iter().any(|bug| bug.has(other)),
            bug => bug == other,
        }
    }
}

#[cfg(feature = "seeded_bugs")]
impl SeededBug {
    /// All there are, those of the rooms below included.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let drivers = [
            Self::StoreReleasesEarly,
            Self::SyncBegunBeforeWrite,
            Self::PdReleasesEarly,
            Self::ClockBeforeDrain,
            Self::RunsOnAfterFailure,
        ];
        let clients = client_core::SeededBug::ALL.iter().copied().map(Self::Client);
        let pd = ::pd::SeededBug::ALL.iter().copied().map(Self::Pd);
        let stores = ::store::SeededBug::ALL.iter().copied().map(Self::Store);
        let records = mvcc::SeededBug::ALL.iter().copied().map(Self::Records);
        let regions = raftstore::SeededBug::ALL.iter().copied().map(Self::Regions);
        let raft = raft::SeededBug::ALL.iter().copied().map(Self::Raft);
        let together = TOGETHER.iter().copied().map(Self::Together);
        drivers
            .into_iter()
            .chain(clients)
            .chain(pd)
            .chain(stores)
            .chain(records)
            .chain(regions)
            .chain(raft)
            .chain(together)
            .collect()
    }

    /// True if only transactions can show it.
    #[must_use]
    pub fn is_of_transactions(self) -> bool {
        use ::store::SeededBug as Store;
        use client_core::SeededBug as Client;
        match self {
            Self::Records(_) => true,
            Self::Regions(bug) => {
                use raftstore::SeededBug as Regions;
                let of_locks = Regions::LocksNotHandedOver..=Regions::InheritedInAnyTerm;
                bug == Regions::GuardToldLate || of_locks.contains(&bug)
            }
            Self::Store(bug) => bug >= Store::CommandsUnlatched,
            Self::Client(bug) => bug >= Client::UnknownCommitRefused,
            Self::Pd(bug) => bug >= ::pd::SeededBug::SafePointIgnoresServices,
            _ => false,
        }
    }

    /// The room whose rule it is, and the rule.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Regions(bug) => format!("raftstore {bug:?}"),
            Self::Raft(bug) => format!("raft {bug:?}"),
            Self::Client(bug) => format!("client_core {bug:?}"),
            Self::Pd(bug) => format!("pd {bug:?}"),
            Self::Records(bug) => format!("mvcc {bug:?}"),
            Self::Store(bug) => format!("store {bug:?}"),
            Self::Together(bugs) => bugs.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(" with "),
            driver => format!("sim {driver:?}"),
        }
    }
}

/// Rules that cover for each other: broken alone, hardly anything shows it.
#[cfg(feature = "seeded_bugs")]
const TOGETHER: &[&[SeededBug]] = &[&[
    SeededBug::Raft(raft::SeededBug::TransferVoteOfAnyTerm),
    SeededBug::Raft(raft::SeededBug::TransferRetryKeepsMark),
]];

/// A clock that shows one reading: that of the moment at which a node is driven.
struct Moment(MonoTime);

impl Clock for Moment {
    fn now(&self) -> MonoTime {
        self.0
    }
}

/// What the end of a process leaves of its engine: what it had not synced lay in its own memory, and a sync that was under
/// way may have got anywhere. A loss of power leaves no less.
fn crash_engine(engine: &MemEngine, dice: &mut SplitMix) -> MemEngine {
    engine.crash(|choices| match dice.below(3) {
        // Nothing that was not synced, everything, or something between.
        0 => *choices.end(),
        1 => *choices.start(),
        _ => choices.start() + dice.below(choices.end() - choices.start() + 1),
    })
}
