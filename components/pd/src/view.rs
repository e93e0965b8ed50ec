//! What scheduling looks at.

use crate::operators::Operators;
use crate::seeded_bug::SeededBug;
use crate::{Config, Directory};
use std::collections::BTreeMap;
use types::{MonoTime, RegionId, StoreId};
use wire::pd::{StoreMode, StoreState, StoreStats};
use wire::store::DiskState;

/// A store as scheduling sees it. Retired stores, and those whose address is gone, are not in a view: their copies
/// count as down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreView {
    /// Which one.
    pub id: StoreId,
    /// Whether it takes part.
    pub state: StoreState,
    /// What it is to do.
    pub mode: StoreMode,
    /// What it said last; the default before its first heartbeat.
    pub stats: StoreStats,
}

impl StoreView {
    /// True if it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == StoreState::Up
    }

    /// True if leadership may be moved there.
    #[must_use]
    pub fn takes_leaders(&self) -> bool {
        self.could_lead() && self.mode == StoreMode::Serving
    }

    /// True if a peer there leads well, whether it should or not.
    #[must_use]
    pub fn could_lead(&self) -> bool {
        self.is_up() && !self.stats.is_slow && self.stats.disk == DiskState::Ok
    }

    /// True if its copies are to be made elsewhere and then removed.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.mode == StoreMode::Draining
    }

    /// Why no copy of a region of this size may be put there; `None` if one may.
    #[must_use]
    pub fn refuses_peer(&self, size_bytes: u64, config: &Config) -> Option<&'static str> {
        let reserve = self.stats.capacity_bytes / 100 * config.space_reserve_percent;
        if !self.is_up() {
            Some("not up")
        } else if self.is_draining() && !config.bugs.has(SeededBug::DrainingStoreIsTarget) {
            Some("draining")
        } else if self.stats.disk != DiskState::Ok {
            Some("low on disk")
        } else if self.stats.is_slow {
            Some("slow")
        } else if self.stats.snapshots_receiving >= config.snapshots_receiving_max {
            Some("receiving snapshots")
        } else if self.stats.available_bytes <= reserve.saturating_add(size_bytes.saturating_mul(2)) {
            // A copy is written twice on its way in: as files of the snapshot, then compacted.
            Some("short of space")
        } else {
            None
        }
    }
}

/// Everything that [`plan`](crate::plan) decides by.
#[derive(Clone, Copy, Debug)]
pub struct ClusterView<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The stores.
    pub stores: &'a BTreeMap<StoreId, StoreView>,
    /// The regions.
    pub directory: &'a Directory,
    /// What is under way already.
    pub operators: &'a Operators,
    /// The regions whose replicas are to be checked this time.
    pub suspects: &'a [RegionId],
}

/// How long each store has been silent, and what it said last: soft state.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct StoreHealth {
    /// When it last said anything; the start of our leadership if it has not.
    pub(crate) contact: MonoTime,
    /// Its last heartbeat; none since our leadership began.
    pub(crate) stats: Option<StoreStats>,
}

impl StoreHealth {
    pub(crate) fn state(&self, now: MonoTime, config: &Config) -> StoreState {
        let silent = now.since(self.contact);
        if silent >= config.down_after {
            StoreState::Down
        } else if silent >= config.disconnected_after || self.stats.is_none() {
            StoreState::Disconnected
        } else {
            StoreState::Up
        }
    }
}
