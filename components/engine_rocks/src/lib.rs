//! RocksDB behind the [`engine`] contract; the only crate that links it.
//!
//! Invariant: what a restart finds is a prefix of the batches written, because there is one write-ahead log, every
//! write goes through it, and recovery stops at the first gap. That log is ours: see `journal`, and decision 11.
//! [`RocksEngine::open`] asserts the options that this rests on. After the first error of a write, a sync, an ingestion or of background work the engine refuses
//! everything: what the disk then holds is known only to the next open.
//!
//! This room knows no region and no Raft; it does not decide when to slow writers down (RocksDB's own triggers are put
//! out of reach, admission looks at [`engine::Engine::pressure`] instead). Start with [`RocksEngine`] and [`Options`].

mod error;
mod journal;
mod options;
#[cfg(test)]
mod power_loss;
mod raw;
mod rocks;
mod snapshot;
mod sst;
mod stats;

pub use error::OpenError;
pub use options::Options;
pub use rocks::RocksEngine;
pub use snapshot::{RocksIterator, RocksSnapshot};
pub use stats::{EngineStats, FamilyStats};
