//! What processes say to each other: plain structs with their encoding.
//!
//! Store to store ([`store`]), client to store ([`kv`], [`txn`]), anyone to the placement driver ([`pd`]), and the greeting of
//! every connection ([`hello`]). Fields are positional and only ever appended (see `codec`), tags are never used again;
//! golden files keep every message readable. An answer may tell where its time went ([`trace`]). This room knows no socket (see `transport`) and decides nothing.

pub mod hello;
mod kind;
pub mod kv;
pub mod pd;
pub mod store;
pub mod trace;
pub mod txn;

pub use kind::FrameKind;
// Its words appear in ours.
pub use raft;
