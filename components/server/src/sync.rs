//! What threads hand things to one another with.
//!
//! The files of the hand-offs (the mailbox, the loops of the log writer, the appliers, the workers and the placement
//! driver, the answers, the end of the threads) name these types and no others. The suite `handoffs` compiles the same
//! files a second time over types of the same names whose every step a scheduler decides; see "Hand-offs between
//! threads" in `docs/ARCHITECTURE.md`.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, TryLockError};
pub(crate) use std::thread::JoinHandle;

/// Lets a moment pass before something is looked at again.
#[expect(clippy::disallowed_methods, reason = "the driver owns the threads, and waits for them")]
pub(crate) fn pause(moment: std::time::Duration) {
    std::thread::sleep(moment);
}
