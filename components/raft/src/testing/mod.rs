//! For tests and simulation: a storage in memory, one that checks whoever drives a group, and groups in the middle of
//! their lives.

mod mem;
mod situation;

pub use mem::MemStorage;
pub use situation::{PeerSituation, Situation};
