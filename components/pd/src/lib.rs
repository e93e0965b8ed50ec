//! The placement driver: which stores there are, where every region lies, what time it is, and what should move.
//!
//! A [`Pd`] is a state machine without I/O: requests, completed writes and messages of other members go in, a write
//! batch, messages and answers come out. What must never be forgotten or repeated (the cluster's id, the stores, ids
//! handed out, the bound of timestamps) goes through a Raft log of its own; where regions lie is soft state, rebuilt
//! from their leaders' heartbeats; what should move is decided by the pure function [`plan()`].
//!
//! What it keeps true: an answer leaves only when what it promises is committed, so no id and no timestamp is ever
//! handed out twice, and timestamps grow (INV-PD-IDS, INV-PD-TSO); and no instruction takes away a live voter that a
//! quorum needs (INV-PD-QUORUM).
//!
//! It knows no socket, clock or disk, and no data of any region. Start with [`Pd::step`]; then `state` for what is
//! replicated, [`Directory`] for what is not, and [`plan()`] for why things move.

mod config;
mod deadlock;
mod directory;
mod error;
mod gc;
mod group;
mod ids;
mod operator;
#[cfg(test)]
mod operator_tests;
mod operators;
mod pd;
mod plan;
mod seeded_bug;
mod serve;
mod state;
#[cfg(test)]
mod state_tests;
mod tso;
mod view;

pub use config::Config;
pub use directory::{Directory, RegionInfo, StoreRegions, Verdict};
pub use error::Error;
pub use operator::{Operator, OperatorKind, Progress, describe, keeps_quorum};
pub use operators::{Influence, Operators};
pub use pd::{Member, Pd, PdAppend, PdEffects, PdInput, PdStatus, StoreEver, WriteToken};
pub use plan::plan;
pub use seeded_bug::{Bugs, SeededBug};
pub use view::{ClusterView, StoreView};
