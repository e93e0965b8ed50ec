//! What a leader knows of its peers.

mod inflights;
mod progress;
pub(crate) mod quorum;

pub(crate) use inflights::Inflights;
pub(crate) use progress::Progress;
pub use progress::{ProgressState, ProgressView};

use types::PeerId;

/// The progress of each member, sorted by id. Groups are small, so a sorted list is both the smallest and the fastest.
#[derive(Debug, Default)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone, Hash))]
pub(crate) struct Peers {
    list: Vec<(PeerId, Progress)>,
}

impl Peers {
    pub(crate) fn get(&self, id: PeerId) -> Option<&Progress> {
        self.list.iter().find(|(member, _)| *member == id).map(|(_, progress)| progress)
    }

    /// As [`Peers::get`], of a member that often stands at `place`: where all members vote, they stand as the voters do.
    #[inline]
    pub(crate) fn get_near(&self, place: usize, id: PeerId) -> Option<&Progress> {
        match self.list.get(place) {
            Some((member, progress)) if *member == id => Some(progress),
            _ => self.get(id),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Progress> {
        self.list.iter_mut().find(|(member, _)| *member == id).map(|(_, progress)| progress)
    }

    pub(crate) fn insert(&mut self, id: PeerId, progress: Progress) {
        if let Err(at) = self.list.binary_search_by_key(&id, |&(id, _)| id) {
            self.list.insert(at, (id, progress));
        }
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(PeerId) -> bool) {
        self.list.retain(|&(id, _)| keep(id));
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerId, &Progress)> {
        self.list.iter().map(|(id, progress)| (*id, progress))
    }

    #[inline]
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut Progress)> {
        self.list.iter_mut().map(|(id, progress)| (*id, progress))
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.list.shrink_to_fit();
        self.list.iter_mut().for_each(|(_, progress)| progress.inflights.shrink());
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}
