//! What can go wrong, by what the caller does next.

use crate::txn::TxnError;
use std::fmt;
use types::{Key, RegionId, StoreId, Timestamp};
use wire::kv::BusyReason;

/// Why a call failed.
///
/// All but [`Error::Undetermined`] (and [`Error::Incomplete`] and [`Error::RangeIncomplete`], which say how far they
/// came) mean of a write: it was not made, and never will be. Of a transaction's commit: nothing of it was, or ever will be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The call itself is wrong; repeating it as it is brings the same.
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// The write may have been made, or may still be, or not; a transaction as a whole. Nothing was repeated, but for the
    /// commit of a transaction, which cannot be made twice. The caller reads back what it needs to know, or repeats a
    /// write that may be made twice.
    #[error("nobody knows whether the write was or will be made: {cause}")]
    Undetermined {
        /// What hid the outcome.
        cause: Cause,
    },
    /// The deadline passed. Nothing was written. To be tried again, with more time.
    #[error("deadline exceeded, nothing was written")]
    DeadlineExceeded,
    /// Every attempt within the deadline was refused. Nothing was written. To be tried again when the cause is gone.
    #[error("unavailable, nothing was written: {cause}")]
    Unavailable {
        /// The last refusal.
        cause: Cause,
    },
    /// The store is low on disk space: it refuses what needs more. Reads and deletes go on.
    #[error("the store's disk is full, nothing was written")]
    DiskFull,
    /// A batch of writes, which is not atomic across regions, was made in part.
    #[error(transparent)]
    Incomplete(Box<Incomplete>),
    /// A range was deleted in part.
    #[error("deleted only what lies before a key: {cause}")]
    RangeIncomplete {
        /// All keys of the range before this one are deleted. From it on, what `cause` says holds of some keys, and
        /// nothing was done to the others.
        deleted_to: Key,
        /// What stopped it.
        cause: Box<Error>,
    },
    /// A transaction cannot go on, or has not been committed.
    #[error(transparent)]
    Txn(#[from] TxnError),
    /// No such region.
    #[error("no region {region_id}")]
    NoSuchRegion {
        /// Its id.
        region_id: RegionId,
    },
    /// A store or the placement driver answered something that does not answer the question: a mistake in Flotilla, to
    /// be reported. (For a write this is [`Error::Undetermined`].)
    #[error("unexpected answer: {message}")]
    UnexpectedAnswer {
        /// What was wrong with it.
        message: String,
    },
}

/// What is wrong with a call.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidArgument {
    /// There is no key space of this name.
    #[error("there is no key space `{name}`: `flotilla ctl keyspace create {name}` makes it")]
    UnknownKeyspace {
        /// The name.
        name: String,
    },
    /// There is no key space with this id.
    #[error("there is no key space {id}: ask for one by its name, `flotilla ctl keyspace list` shows them")]
    UnknownKeyspaceId {
        /// The id.
        id: u32,
    },
    /// A key has no bytes.
    #[error("a key may not be empty")]
    KeyEmpty,
    /// A key is too long.
    #[error("a key of {size} bytes is over the limit of {size_max}")]
    KeyTooLong {
        /// Its length in bytes.
        size: usize,
        /// What is allowed.
        size_max: usize,
    },
    /// A value is too long.
    #[error("a value of {size} bytes is over the limit of {size_max}")]
    ValueTooLong {
        /// Its length in bytes.
        size: usize,
        /// What is allowed.
        size_max: usize,
    },
    /// A value is to end at once.
    #[error("a value that ends lives for a millisecond at least")]
    NoTimeToLive,
    /// A range starts behind its end.
    #[error("a range may not start behind its end")]
    RangeReversed,
    /// A key does not lie strictly inside of any region, so nothing can be cut there.
    #[error("nothing can be split at the empty key")]
    SplitAtEmptyKey,
    /// The store or the placement driver found something wrong.
    #[error("refused: {message}")]
    Refused {
        /// What is wrong, and what is allowed.
        message: String,
    },
}

/// A batch of writes that was made in part. Every key of the batch is in exactly one of the lists, which are in key
/// order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incomplete {
    /// These were written.
    pub written: Vec<Key>,
    /// Nobody knows about these (see [`Error::Undetermined`]).
    pub undetermined: Vec<Key>,
    /// These were not, and never will be.
    pub not_written: Vec<Key>,
    /// The first failure.
    pub cause: Error,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "batch incomplete: {} keys written, {} undetermined, {} not written: {}",
            self.written.len(),
            self.undetermined.len(),
            self.not_written.len(),
            self.cause
        )
    }
}

impl std::error::Error for Incomplete {}

/// Why an attempt failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Cause {
    /// The region has no leader that is known.
    #[error("region {region_id} has no known leader")]
    NoLeader {
        /// The region.
        region_id: RegionId,
    },
    /// The region changed, again and again.
    #[error("region {region_id} keeps changing")]
    RegionChanged {
        /// The region.
        region_id: RegionId,
    },
    /// No region is known to hold the key.
    #[error("no region is known to hold the key")]
    NoRegion,
    /// The placement driver does not know the store.
    #[error("store {store_id} is not known")]
    NoStore {
        /// The store.
        store_id: StoreId,
    },
    /// The store refuses for now.
    #[error("store {store_id} is busy: {reason:?}")]
    StoreBusy {
        /// The store.
        store_id: StoreId,
        /// What is full there.
        reason: BusyReason,
    },
    /// The proposal was replaced by another leader's.
    #[error("region {region_id} changed its leader meanwhile")]
    StaleCommand {
        /// The region.
        region_id: RegionId,
    },
    /// The store found the deadline passed before it proposed.
    #[error("store {store_id} had no time left")]
    NoTimeLeft {
        /// The store.
        store_id: StoreId,
    },
    /// The store could not be reached.
    #[error("store {store_id} unreachable: {reason}")]
    StoreUnreachable {
        /// The store.
        store_id: StoreId,
        /// Why, for people.
        reason: String,
    },
    /// The store did not answer in time.
    #[error("store {store_id} did not answer in time")]
    StoreSilent {
        /// The store.
        store_id: StoreId,
    },
    /// The connection to the store was lost before it answered.
    #[error("connection to store {store_id} lost: {reason}")]
    ConnectionLost {
        /// The store.
        store_id: StoreId,
        /// Why, for people.
        reason: String,
    },
    /// The store itself does not know the outcome.
    #[error("store {store_id} lost track of it")]
    StoreLostTrack {
        /// The store.
        store_id: StoreId,
    },
    /// The store's answer does not answer the question.
    #[error("store {store_id} answered something else")]
    UnexpectedAnswer {
        /// The store.
        store_id: StoreId,
    },
    /// The placement driver could not be reached, or did not answer.
    #[error("placement driver unreachable: {reason}")]
    PdUnreachable {
        /// Why, for people.
        reason: String,
    },
    /// The placement driver has no leader, or too much to do.
    #[error("placement driver not ready: {reason}")]
    PdNotReady {
        /// Why, for people.
        reason: String,
    },
    /// Another transaction, still at work, has locked a key.
    #[error("a key is locked by the transaction that began at {by:?}")]
    Locked {
        /// The key, as its user sees it.
        key: Key,
        /// When the other transaction began.
        by: Timestamp,
    },
    /// The cluster has no store yet.
    #[error("the cluster is not bootstrapped: no store has joined it yet")]
    NotBootstrapped,
}
