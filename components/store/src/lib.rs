//! One store without threads.
//!
//! Requests of clients are admitted, read at once where a lease allows it, or handed to the worker that owns the region
//! ([`Dispatcher`]); commands of transactions go to the worker's [`TxnScheduler`] first. Around the workers of `raftstore` stand actors that do what takes long, each a step function whose
//! inputs and outputs are values: [`LogWriter`], [`Aside`], [`SnapshotBuilder`], [`SnapshotReceiver`], [`PdAgent`]. [`Store`] wires them together in one thread, with a mailbox for each, for drivers that choose the order
//! (the simulator); drivers with threads wire the same actors themselves.
//!
//! What it keeps true: work is refused before it is proposed, never after; every request gets exactly one answer. It
//! knows no socket, no thread and no RocksDB. Start with [`Store`], then [`Dispatcher`].

mod aside;
mod concurrency;
mod config;
mod dispatch;
mod execute;
mod facade;
mod fetch;
mod gc_budget;
mod ident;
mod inflight;
mod ingest;
mod join;
mod keyspaces;
mod local_read;
mod log_writer;
mod oracle;
mod pd_agent;
mod seeded_bug;
mod snapshot_build;
mod snapshot_receive;
mod split_check;
mod sync;
mod txn;
mod wait_book;

pub use aside::{Aside, AsideStep, is_waited_for};
pub use concurrency::{ConcurrencyManager, ViewMark};
pub use config::{Config, ConfigError};
pub use dispatch::{Dispatcher, Routed, region_addressed};
pub use execute::{Query, ReadLimits, Time, execute, serve};
pub use facade::{Actor, Effect, Event, ReadBegun, Store};
pub use gc_budget::GcBudget;
pub use ident::{DiskAge, FORMAT_VERSION, IdentError, StoreIdent, read_age, read_ident};
pub use inflight::Inflight;
pub use join::{Join, JoinStep};
pub use keyspaces::Keyspaces;
pub use local_read::{LocalReader, ReadView};
pub use log_writer::{LogWriter, Merged};
pub use mvcc::Bugs as RecordBugs;
pub use oracle::Oracle;
pub use pd_agent::{PdAgent, PdCall};
pub use seeded_bug::{Bugs, SeededBug};
pub use snapshot_build::{SnapshotBuilder, SnapshotSource};
pub use snapshot_receive::{Received, SnapshotReceiver};
pub use txn::{
    Reservations, TxnEffects, TxnInput, TxnRequest, TxnScheduler, TxnShared, WaitLimits, scheduler_of,
};
pub use wait_book::WaitBook;
