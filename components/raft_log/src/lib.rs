//! The durable log of all groups of a store.
//!
//! A [`GroupLog`] is one group's log: what is on disk, under an [`EntryCache`] of what was appended last. It answers
//! Raft's reads ([`raft::Storage`]) and turns what Raft wants written into operations of a [`engine::WriteBatch`]; who
//! writes and syncs that batch, and when, is not its business. What it keeps true: every entry that it was given is
//! readable from it at once, from the cache until its batch is written and from the engine afterwards, and the batches
//! written in order leave on disk exactly the log that Raft asked for.
//!
//! It knows no region, no role and no other column family than [`engine::Cf::Raft`].

mod cache;
mod error;
mod group;
pub mod inspect;
pub mod keys;

pub use cache::EntryCache;
pub use error::LoadError;
pub use group::{FetchRequest, GroupLog, destroy};
