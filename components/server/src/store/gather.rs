//! When a worker's turn is taken for what connections bring: at once, or after the others that are ready.
//!
//! A turn costs about the same for one input as for twenty. Where few connections carry many requests each, what one of
//! them has brought is a turn's worth, and to let others go first would only take time. Where many carry few, all that
//! are ready come first. Which of the two it is shows by how many had brought something when a turn that let others go
//! first was taken; once in a while one does even where they are few.

use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// From so many batches a turn on, others go first.
const CROWD: u32 = 4;
/// How often is looked whether there is a crowd.
const LOOK_EVERY: u32 = 32;
/// The size of the crowd is kept in such parts of one.
const PARTS: u32 = 8;

/// See the head of this file.
#[derive(Default, Debug)]
pub(crate) struct Gather {
    /// Told when a turn is to be taken after the others.
    later: Notify,
    /// Batches that were brought, ever.
    brought: AtomicU32,
    /// Batches that wait for that turn.
    waiting: AtomicU32,
    /// How many did so at a time, of late, in [`PARTS`].
    crowd: AtomicU32,
}

impl Gather {
    /// A batch was brought. True if the turn is to be taken at once; otherwise [`Gather::is_due`] ends soon.
    pub(crate) fn is_now(&self) -> bool {
        let brought = self.brought.fetch_add(1, Ordering::Relaxed);
        let looks = brought.is_multiple_of(LOOK_EVERY);
        let is_few = self.crowd.load(Ordering::Relaxed) < CROWD * PARTS;
        if is_few && !looks && self.waiting.load(Ordering::Relaxed) == 0 {
            return true;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.later.notify_one();
        false
    }

    /// Waits until a turn is to be taken and those that are ready by now have brought what they have.
    pub(crate) async fn is_due(&self) {
        self.later.notified().await;
        tokio::task::yield_now().await;
        let came = self.waiting.swap(0, Ordering::Relaxed);
        let crowd = self.crowd.load(Ordering::Relaxed);
        self.crowd.store((crowd * 3 + came.min(1 << 16) * PARTS) / 4, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Brings so many batches between one turn and the next; answers with how many turns were taken at once.
    async fn bring(gather: &Gather, batches: u32) -> u32 {
        let at_once = (0..batches).map(|_| u32::from(gather.is_now())).sum();
        if at_once < batches {
            gather.is_due().await;
        }
        at_once
    }

    #[tokio::test]
    async fn turns_wait_for_a_crowd_and_for_nobody_else() {
        let gather = Gather::default();
        let mut alone = 0;
        for _ in 0..10 * LOOK_EVERY {
            alone += bring(&gather, 1).await;
        }
        assert_eq!(alone, 10 * (LOOK_EVERY - 1), "one in {LOOK_EVERY} looks whether there are others");
        // The crowd is met by the next look at the latest, and from then on waited for.
        for _ in 0..2 {
            bring(&gather, LOOK_EVERY).await;
        }
        assert_eq!(bring(&gather, 20).await, 0);
        // It goes, and that shows soon.
        for _ in 0..20 {
            bring(&gather, 1).await;
        }
        assert_eq!(bring(&gather, 1).await + bring(&gather, 1).await, 2);
    }
}
