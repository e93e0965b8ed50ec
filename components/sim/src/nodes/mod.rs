//! The product's processes as nodes: what threads, sockets and RocksDB do in `server`, done here one step at a time.

mod alarm;
mod pd;
mod pd_calls;
mod snapshots;
mod store;

pub use pd::PdNode;
pub use store::{AddressBook, StoreLinks, StoreNode};

use crate::kernel::CrashKind;
use engine::MemEngine;
use env::{Clock, Dice, SplitMix};
use types::MonoTime;

/// A rule that a process breaks on purpose, so that the checks have something to find.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SeededBug {
    /// A store's log writer does not wait for its sync: messages leave and entries are applied that may be lost.
    StoreReleasesEarly,
    /// The same in the placement driver.
    PdReleasesEarly,
    /// A store reads its clock long before the request it is for has arrived.
    StaleClock,
    /// A rule of the regions' code.
    #[cfg(feature = "seeded_bugs")]
    Regions(raftstore::SeededBug),
}

/// A clock that shows one reading: that of the moment at which a node is driven.
struct Moment(MonoTime);

impl Clock for Moment {
    fn now(&self) -> MonoTime {
        self.0
    }
}

/// What a crash leaves of an engine.
fn crash_engine(engine: &MemEngine, kind: CrashKind, dice: &mut SplitMix) -> MemEngine {
    engine.crash(|choices| match (kind, dice.below(3)) {
        // Nothing that was not synced, everything, or something between.
        (CrashKind::Process, _) | (CrashKind::Power, 0) => *choices.end(),
        (CrashKind::Power, 1) => *choices.start(),
        (CrashKind::Power, _) => choices.start() + dice.below(choices.end() - choices.start() + 1),
    })
}
