//! For tests and simulation: a storage in memory, one that checks whoever drives a group, and groups in the middle of
//! their lives.

mod mem;
mod situation;

pub use mem::MemStorage;
pub use situation::{PeerSituation, Situation};

impl<S: crate::Storage> crate::RawNode<S> {
    /// As leader: what a quorum holds durably, by what it knows of each member; the question that it asks itself at every
    /// answer. To be measured. Zero unless we lead.
    #[must_use]
    pub fn quorum_reached(&self) -> types::LogIndex {
        let Some(leader) = &self.leader else { return types::LogIndex::ZERO };
        let matched = |id| leader.peers.get(id).map_or(0, |progress| progress.matched.0);
        types::LogIndex(crate::tracker::quorum::reached(&self.conf, self.bugs, matched))
    }
}
