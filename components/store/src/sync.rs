//! What threads that receive requests share with.
//!
//! `inflight` and `concurrency` name these types and no others: the suite `handoffs` compiles it a second time over types of the same
//! names whose every step a scheduler decides; see "Hand-offs between threads" in `docs/ARCHITECTURE.md`.

pub(crate) use parking_lot::RwLock;
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
