//! What threads share the facts of a store with.
//!
//! `meta` names these types and no others: the suite `handoffs` of `store` compiles it a second time over types of the
//! same names whose every step a scheduler decides; see "Hand-offs between threads" in `docs/ARCHITECTURE.md`.

pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
