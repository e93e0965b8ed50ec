//! Transactions on a store: which command runs when, on which view, and what becomes of it.
//!
//! A [`TxnScheduler`] gives commands their latches, a view of the region that its leader vouches for, and proposes what
//! `txn` decides on it. Reads at a timestamp ([`read`]) need none of that: they go the way of raw reads.

mod check;
mod convert;
mod evaluate;
mod read;
mod scheduler;

pub(crate) use check::{TXN_MODE, check_border, check_command, check_read};
pub(crate) use evaluate::size_bytes;
pub(crate) use read::read;
pub use scheduler::{TxnEffects, TxnInput, TxnRequest, TxnScheduler, scheduler_of};
