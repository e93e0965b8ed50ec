//! One Raft group as a deterministic state machine.
//!
//! **What it is for.** [`RawNode`] takes ticks, messages, proposals and reports, and returns what is to be written, sent,
//! applied and answered as one value, [`Ready`]. The same inputs give the same effects, byte for byte.
//!
//! **What it keeps true.** What one peer has handed out as committed at an index, no other peer of the group ever hands
//! out differently, whatever is lost, repeated, reordered, delayed or forgotten in a crash, as long as each peer makes
//! durable what it was asked to before it says what depends on that ([`Ready::messages_after`]). Nothing is applied that
//! is not durable here, and no message leaves at a term that could still be forgotten.
//!
//! **What its driver owes it.** The contract of writing, which [`Ready`], [`Append`] and the reports share:
//!
//! 1. Appends become readable and durable in the order of their tokens; entries at index `i` discard all at and after `i`.
//! 2. Hard state, entries and snapshot of one append are one write, wholly there after a crash or not at all. A
//!    commit index that moves alone is not written; whoever restarts learns it again.
//! 3. `messages_after` leave when the append of their [`Ready`] (without one, the last append before) is durable. They are
//!    all answers to appends and votes, all votes, and all messages of a term that is not durable (INV-RAFT-12).
//! 4. [`RawNode::on_persist`] reports a token when it and all before it are durable. A token that a later one has overtaken
//!    says nothing new, and has no effect; one that was never handed out is a defect of the driver, and panics. What was
//!    overwritten since its write counts for nothing, even if the same entry stands there again (INV-RAFT-13).
//! 5. A leader counts what is durable with it and no more; what is committed may be ahead of that, what is applied never
//!    is (INV-RAFT-7, INV-RAFT-8).
//!
//! `CheckedStorage` (feature `testing`) holds a driver and a group to it.
//!
//! **What it does not know.** No clock (it counts ticks), no dice (timeouts follow from a seed), no disk, socket or
//! thread, and nothing of what entries mean. It reads the log through [`Storage`] and never writes it.
//!
//! **Where to start.** [`RawNode`], then [`Ready`]; inside, `step.rs` and `effects.rs` are the way in and the way out,
//! `election.rs`, `replication.rs`, `read.rs`, `transfer.rs` and `confchange.rs` one concern each, `log.rs` what they
//! stand on. Who watches groups has [`RawNode::status`], [`View`] and [`Counters`]. "Thesis" means D. Ongaro, "Consensus:
//! Bridging Theory and Practice", 2014.

mod bugs;
mod conf;
mod confchange;
mod config;
mod counters;
mod effects;
mod election;
mod encoding;
mod entries;
mod entry;
mod error;
mod hibernate;
mod invariants;
mod line;
mod log;
mod message;
mod raw_node;
mod read;
mod ready;
mod replication;
mod slice;
mod step;
mod storage;
mod terms;
#[cfg(any(test, feature = "testing"))]
mod testing;
mod tracker;
mod transfer;
mod underway;
mod unstable;
mod view;

#[cfg(feature = "seeded_bugs")]
pub use bugs::SeededBug;
pub use conf::{ConfChange, ConfChangeKind, ConfChangeOp, ConfState, Snapshot, SnapshotMeta, Transition};
pub use config::{Config, ConfigError, HEARTBEATS_PER_ELECTION_MIN};
pub use counters::Counters;
pub use entries::Entries;
pub use entry::{Entry, EntryId, EntryKind, HardState, LogMark};
pub use error::{
    CampaignError, ConfChangeError, Dropped, Error, InvariantViolated, ReadError, StepError, TransferError,
};
pub use hibernate::{Wake, WhyNot};
pub use message::{Body, Message, Reject, VoteKind};
pub use raw_node::RawNode;
pub use ready::{Append, Lease, PersistToken, ReadState, Ready, Role, SoftState, Status};
pub use storage::{FetchContext, InitialState, Storage, StorageError};
#[cfg(any(test, feature = "testing"))]
pub use testing::{CheckedStorage, MemStorage, PeerSituation, Situation};
pub use tracker::{ProgressState, ProgressView};
pub use view::{LeaderView, View};
