//! All peers of one store, without threads, sockets or clocks.
//!
//! A [`Worker`] owns a share of the store's peers and takes a *turn* at a time: it advances their clocks, steps what
//! has arrived, and returns the effects of all of them together: one batch for the log, messages per destination,
//! entries to apply. An [`Applier`] turns committed entries of many regions into one batch of data. [`StoreMeta`] holds
//! the few facts that all of a store must agree on: which region owns which keys, and who may read under which lease.
//!
//! What it keeps true: nothing leaves before what it promises is durable; applied never passes persisted; a region's
//! descriptor, its data and its apply record change in one batch; ranges on a store never overlap. It asks for
//! placement by effects ([`PdTask`]) and knows no PD, no client connection and no RocksDB. Start with [`Worker::turn`].

mod admin;
mod apply;
mod command;
mod config;
mod destroy;
mod effects;
mod hand_over;
mod held;
#[cfg(test)]
mod held_tests;
mod hibernate;
mod install;
mod lease;
mod liveness;
mod membership;
#[cfg(test)]
mod membership_tests;
mod meta;
#[cfg(test)]
mod meta_tests;
mod peer;
mod quiet;
mod raw_value;
mod read;
mod records;
mod recover;
mod route;
mod schedule;
mod seeded_bug;
mod size;
mod stages;
mod sync;
mod turn;
mod worker;
mod write;

pub use apply::{Applier, ApplyBatch, ApplyOutcome, ApplyTask, NewRegion, Proposal, RegionChange};
pub use command::{Change, ChangeContext, Command, WriteItem};
pub use config::{Config, ConfigError};
pub use effects::{
    Background, CreatePeer, Input, LogTask, PdTask, Persisted, ReadRequest, ReadyRead, ReceivedSnapshot,
    SendSnapshot, SnapshotData, Token, TurnEffects,
};
pub use held::{HeldLimits, HeldLock, HeldLocks, HeldNow, HeldStats, HeldView, NotHeld};
pub use install::check_snapshot;
pub use membership::{ChangeError, apply_change, conf_state};
pub use meta::{Delegate, StoreMeta};
pub use raft::Snapshot as RaftSnapshot;
pub use raw_value::{RawValue, TimeUnknown, raw_value, raw_value_in};
pub use records::{
    ApplyRecord, GcRecord, LOG_START, PeerState, RegionRecord, RemovedPeer, UninitializedPeer, all_regions,
    delete_data, forget_region, gc_record, gc_record_of, guarded_to, is_gc_record, put_apply, put_gc,
    put_region, raft_snapshot, records_in, region_record, uninitialized_peers,
};
pub use recover::{RecoverError, Recovered, RecoveredRegion, recover};
pub use seeded_bug::{Bugs, SeededBug};
pub use stages::{EntryTimes, LogTimes};
pub use worker::{Worker, WorkerShare, WorkerStats, worker_of};
