//! Transactions over many regions: snapshot isolation, and serializable ones for those who ask ([`Isolation`]).
//!
//! A [`TxnClient`] gives a [`Transaction`], which reads as of its beginning (`beginning` says when that is) and keeps its writes
//! to itself until it commits; a [`Snapshot`] only reads. The protocol is Percolator's (Peng and Dabek, OSDI 2010): all keys are locked, each
//! lock naming the primary; then the primary is committed, which decides, and the others follow in the background. Who
//! meets a lock finds out at its primary what became of its transaction (`resolve`).
//!
//! What holds here:
//! * The primary is committed only after all keys were locked, and nothing is rolled back once that may have been sent.
//! * Only the commit of the primary can leave an outcome unknown. Everything else may come twice, or be lost: then locks
//!   stay until they have expired, and whoever meets them removes them.
//! * A transaction that waits for another one in its first phase began later: no two wait for each other there. Where keys
//!   are reserved beforehand they may: then the last one to wait is told of the deadlock.

mod beginning;
mod buffer;
mod client;
mod commit;
mod decided;
mod error;
mod for_keys;
mod gc;
mod heartbeat;
mod inspect;
mod isolation;
mod origin;
mod read_set;
mod reserve;
mod resolve;
mod retry;
mod seen;
mod snapshot;
mod transaction;
mod undo;
mod validate;

pub(crate) use beginning::Beginning;
pub use client::TxnClient;
pub use commit::CommitProtocol;
pub(crate) use decided::Decided;
pub use error::TxnError;
pub use gc::{Collected, Collector};
pub use inspect::KeyHistory;
pub use isolation::Isolation;
pub(crate) use read_set::SharedReads;
pub use retry::Attempt;
pub(crate) use seen::Seen;
pub use snapshot::Snapshot;
pub(crate) use snapshot::{ReadingAt, faulted_read};
pub use transaction::{Savepoint, Transaction};
