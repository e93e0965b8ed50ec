//! The client's logic: where a key lives, whom to ask, when to ask again, and what an answer means.
//!
//! Start with [`Core`], which gives a [`RawClient`] (keys and values), a [`TxnClient`] (the same with transactions) and an
//! [`Admin`] (regions and stores). All of it is plain `async` over the ports of [`Ports`]: sending a request, the time,
//! tasks for what goes on behind an answer, and dice. It knows no runtime, socket or clock, and its futures may be polled
//! by any executor; `client` binds it to tokio.
//!
//! What it keeps true:
//! * **A write is never repeated after an outcome that nobody knows.** A request that may have been sent and brought no
//!   definite answer is [`Error::Undetermined`]; every other error means that nothing was, or will be, written by the
//!   requests it stands for. Reads are repeated freely until the call's deadline.
//! * **A transaction becomes visible as a whole or not at all**, whenever its client dies. Its commands may come twice and
//!   are repeated freely; only the commit of its primary, which decides, can leave the outcome unknown.
//! * A call ends by its deadline, in the time of [`Timers`].
//! * What a store says is believed only after it was checked (ranges, order, progress), so that a scan ends and never
//!   yields a key outside of its range.

mod admin;
mod backoff;
mod batch;
mod call;
mod check;
mod core;
mod error;
mod health;
mod keyspace;
mod options;
mod oracle;
mod pieces;
mod port;
mod raw;
mod region_cache;
mod router;
mod scan;
mod seeded_bug;
mod stats;
mod store_book;
mod txn;

pub use crate::admin::{Admin, Cluster};
pub use crate::core::{Core, KeyspaceClient};
pub use crate::error::{Cause, Error, Incomplete, InvalidArgument};
pub use crate::keyspace::Keyspace;
pub use crate::options::Options;
pub use crate::port::{Ports, Rpc, RpcError, Spawn, Timers};
pub use crate::raw::{CallTrace, RawClient, Swap, TimeToLive};
pub use crate::scan::{Scan, ScanOptions};
pub use crate::seeded_bug::{Bugs, SeededBug};
pub use crate::stats::ClientStats;
pub use crate::txn::{
    Attempt, Collected, Collector, CommitProtocol, Isolation, KeyHistory, Savepoint, Snapshot, Transaction,
    TxnClient, TxnError,
};
pub use wire::kv::KvPair;
pub use wire::pd::SeenWait;
pub use wire::trace::{Span, Stage, Trace};
pub use wire::txn::{LockInfo, LockKind, Version, VersionKind, WaitEdge};
