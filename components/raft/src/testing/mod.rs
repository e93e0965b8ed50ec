//! For tests and simulation: a storage in memory, one that checks whoever drives a group, and groups in the middle of
//! their lives.

mod checked;
mod mem;
mod situation;

pub use checked::CheckedStorage;
pub use mem::MemStorage;
pub use situation::{PeerSituation, Situation};

impl<S: crate::Storage> crate::RawNode<S> {
    /// As leader: what a quorum holds durably, by what it knows of each member; the question that it asks itself at every
    /// answer. To be measured. Zero unless we lead.
    #[must_use]
    pub fn quorum_reached(&self) -> types::LogIndex {
        let Some(leader) = &self.leader else { return types::LogIndex::ZERO };
        let matched = |place, id| leader.peers.get_near(place, id).map_or(0, |progress| progress.matched.0);
        types::LogIndex(crate::tracker::quorum::reached(&self.conf, self.bugs, matched))
    }
}

impl<S: crate::Storage> crate::RawNode<S> {
    /// Two groups that differ in nothing but how often they did something become the same: for searches, which compare
    /// and hash whole groups. Without a write under way; timeouts are then not to be relied on.
    pub fn forget_counts(&mut self) {
        self.log.forget_counts();
        (self.timer.draws, self.timer.timeout) = (0, self.config.election_tick);
    }
}
