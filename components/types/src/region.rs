//! Regions, their peers and their epochs.

use crate::{KeyRange, PeerId, RegionId, StoreId};

/// Grows whenever a region changes: `conf_ver` with its members, `version` with its range.
///
/// Two descriptors of one region with equal epochs are equal. Which of two regions is newer over a key is told by
/// `version` alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Epoch {
    /// Grows by the number of changes on each membership change.
    pub conf_ver: u64,
    /// Grows by the number of new regions on each split, and on each merge.
    pub version: u64,
}

impl Epoch {
    /// True if either part is older than in `other`.
    #[must_use]
    pub const fn is_older_than(self, other: Self) -> bool {
        self.conf_ver < other.conf_ver || self.version < other.version
    }
}

/// What a peer may do in its group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum PeerRole {
    /// Votes and counts toward the quorum.
    #[default]
    Voter,
    /// Receives the log; neither votes nor counts.
    Learner,
    /// In a joint configuration: a voter of the incoming one only.
    IncomingVoter,
    /// In a joint configuration: a voter of the outgoing one that becomes a learner when it ends.
    DemotingVoter,
}

/// One copy of a region on a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Peer {
    /// The peer's id, unique in the cluster for ever.
    pub id: PeerId,
    /// The store that holds it.
    pub store_id: StoreId,
    /// What it may do.
    pub role: PeerRole,
}

impl Peer {
    /// A voter with this id on this store.
    #[must_use]
    pub const fn voter(id: PeerId, store_id: StoreId) -> Self {
        Self { id, store_id, role: PeerRole::Voter }
    }

    /// A learner with this id on this store.
    #[must_use]
    pub const fn learner(id: PeerId, store_id: StoreId) -> Self {
        Self { id, store_id, role: PeerRole::Learner }
    }
}

/// A key range and the peers that replicate it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Region {
    /// The region's id.
    pub id: RegionId,
    /// The keys it owns, `[start, end)`.
    pub range: KeyRange,
    /// Its place in its own history.
    pub epoch: Epoch,
    /// Its copies, at most one per store, in the order in which they were added.
    pub peers: Vec<Peer>,
}

impl Region {
    /// The peer with this id.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.id == id)
    }

    /// The peer on this store.
    #[must_use]
    pub fn peer_on(&self, store_id: StoreId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.store_id == store_id)
    }

    /// True while a membership change is half done (some peer is entering or leaving the voters).
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.peers.iter().any(|p| matches!(p.role, PeerRole::IncomingVoter | PeerRole::DemotingVoter))
    }
}
