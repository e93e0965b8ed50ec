//! Credit for writes under way.

use crate::sync::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Bytes of writes that are under way in a store. A clone counts in the same place.
#[derive(Clone, Default, Debug)]
pub struct Inflight(Arc<AtomicUsize>);

impl Inflight {
    /// Gives bytes back, when their request is answered.
    pub fn release(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Bytes under way.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Takes bytes if no more than `max` are under way with them. One request is always let in, however large.
    pub(crate) fn take(&self, bytes: usize, max: usize) -> bool {
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now == 0 || now + bytes <= max).then_some(now + bytes)
        });
        taken.is_ok()
    }
}
