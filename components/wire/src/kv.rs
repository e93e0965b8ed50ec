//! Client to store: commands on one region, and what they answer.
//!
//! Keys here are as the region layer sees them: the client has already put its key space's prefix before them.

use crate::txn::{TxnCommand, TxnFault, TxnRead, TxnReply};
use bytes::Bytes;
use codec::{codec_enum, codec_struct};
use types::{Epoch, Key, KeyRange, LogIndex, Peer, Region, RegionId, StoreId};

/// A command, and the region that the client believes it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvRequest {
    /// The region.
    pub region_id: RegionId,
    /// The epoch under which the client knows it; another one is answered with [`KvError::EpochNotMatch`].
    pub epoch: Epoch,
    /// What to do.
    pub command: KvCommand,
}
codec_struct!(KvRequest { region_id, epoch, command });

/// What a client can ask of a region's leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KvCommand {
    /// The value of a key. Answer: [`KvReply::Value`].
    Get {
        /// The key.
        key: Key,
    },
    /// The values of several keys, all in the region. Answer: [`KvReply::Values`], in the same order.
    BatchGet {
        /// The keys.
        keys: Vec<Key>,
    },
    /// The first keys of a range. Answer: [`KvReply::Page`].
    Scan(Scan),
    /// Several writes, atomically, in order. Answer: [`KvReply::Written`].
    Write {
        /// The writes.
        ops: Vec<WriteOp>,
    },
    /// A write on condition, decided when it is applied. Answer: [`KvReply::Swapped`].
    CompareAndSwap {
        /// The key.
        key: Key,
        /// What it must hold: `None` for "nothing".
        expected: Option<Bytes>,
        /// What it then holds: `None` for "nothing".
        new: Option<Bytes>,
    },
    /// Cut the region at these keys. Answer: [`KvReply::Regions`], once applied on the leader.
    Split {
        /// Ascending, each inside the region and not its start.
        keys: Vec<Key>,
    },
    /// Hand leadership to the peer on this store. Answer: [`KvReply::Started`].
    TransferLeader {
        /// The store.
        to_store: StoreId,
    },
    /// Forget the region's log up to what its leader has applied, whoever still lacks some of it: it then takes a region
    /// snapshot. Answer: [`KvReply::Compacted`], once applied on the leader.
    CompactLog,
    /// A command of a transaction. Answer: [`KvReply::Txn`].
    Txn(Box<TxnCommand>),
    /// A read at a timestamp.
    TxnRead(Box<TxnRead>),
    /// As [`KvCommand::CompareAndSwap`], and what the key then holds is gone after a while. Answer: [`KvReply::Swapped`].
    CompareAndSwapFor {
        /// The key.
        key: Key,
        /// What it must hold: `None` for "nothing".
        expected: Option<Bytes>,
        /// What it then holds.
        new: Bytes,
        /// For how long, in milliseconds; not zero.
        ttl_ms: u64,
    },
    /// For how long a key still has its value. Answer: [`KvReply::Life`].
    GetLife {
        /// The key.
        key: Key,
    },
}
codec_enum!(KvCommand {
    1 = Get { key },
    2 = BatchGet { keys },
    3 = Scan(scan),
    4 = Write { ops },
    5 = CompareAndSwap { key, expected, new },
    6 = Split { keys },
    7 = TransferLeader { to_store },
    8 = CompactLog,
    9 = Txn(command),
    10 = TxnRead(read),
    11 = CompareAndSwapFor { key, expected, new, ttl_ms },
    12 = GetLife { key },
});

/// A bounded piece of a range scan.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Scan {
    /// The keys wanted; what lies outside of the region is not looked at.
    pub range: KeyRange,
    /// At most so many pairs; zero for no limit of its own.
    pub limit: u32,
    /// Stop after so many bytes of keys and values (the pair that crosses it is included); zero for the store's limit.
    pub bytes_max: u32,
    /// From the end of the range to its start.
    pub reverse: bool,
    /// Leave the values out.
    pub keys_only: bool,
}
codec_struct!(Scan { range, limit, bytes_max, reverse, keys_only });

/// One write of a [`KvCommand::Write`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteOp {
    /// Set a key.
    Put {
        /// The key.
        key: Key,
        /// Its new value.
        value: Bytes,
    },
    /// Remove a key.
    Delete {
        /// The key.
        key: Key,
    },
    /// Remove all keys of a range, which must lie in the region.
    DeleteRange {
        /// The range.
        range: KeyRange,
    },
    /// Set a key whose value is gone after a while.
    PutFor {
        /// The key.
        key: Key,
        /// Its new value.
        value: Bytes,
        /// For how long it has it, in milliseconds, from when the region's leader has got the request; not zero.
        ttl_ms: u64,
    },
}
codec_enum!(WriteOp {
    1 = Put { key, value },
    2 = Delete { key },
    3 = DeleteRange { range },
    4 = PutFor { key, value, ttl_ms },
});

impl WriteOp {
    /// What the write weighs against limits, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Put { key, value } | Self::PutFor { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::DeleteRange { range } => range.start.len() + range.end.len(),
        }
    }
}

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KvPair {
    /// The key.
    pub key: Key,
    /// Its value; empty in a scan of keys only.
    pub value: Bytes,
    /// For how much longer it has it, in milliseconds; zero for as long as nobody changes it.
    pub ttl_ms: u64,
}
codec_struct!(KvPair { key, value, ttl_ms });

/// For how long a key has its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// As long as nobody changes it.
    Unlimited,
    /// Not for longer than this.
    Left {
        /// In milliseconds; not zero.
        ms: u64,
    },
}
codec_enum!(Life { 1 = Unlimited, 2 = Left { ms } });

/// The answer to a [`KvRequest`]: exactly one for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KvResponse {
    /// It was done.
    Ok(KvReply),
    /// It was not, or nobody knows ([`KvError::UndeterminedResult`]).
    Err(KvError),
}
codec_enum!(KvResponse { 1 = Ok(reply), 2 = Err(error) });

impl From<Result<KvReply, KvError>> for KvResponse {
    fn from(result: Result<KvReply, KvError>) -> Self {
        match result {
            Ok(reply) => Self::Ok(reply),
            Err(error) => Self::Err(error),
        }
    }
}

impl From<KvResponse> for Result<KvReply, KvError> {
    fn from(response: KvResponse) -> Self {
        match response {
            KvResponse::Ok(reply) => Ok(reply),
            KvResponse::Err(error) => Err(error),
        }
    }
}

/// What a command answers when it was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KvReply {
    /// Nothing more to say than that it was written.
    Written,
    /// A key's value, if it has one.
    Value(Option<Bytes>),
    /// Several keys' values.
    Values(Vec<Option<Bytes>>),
    /// A piece of a scan.
    Page {
        /// In the direction of the scan.
        pairs: Vec<KvPair>,
        /// `None`: the part of the range that lies in this region is done. Otherwise the scan goes on at this key:
        /// forward inclusive (its new `start`), in reverse exclusive (its new `end`).
        resume: Option<Key>,
    },
    /// The outcome of a compare-and-swap.
    Swapped {
        /// Whether the condition held, and so the write was made.
        succeeded: bool,
        /// What the key held before.
        previous: Option<Bytes>,
    },
    /// The regions that a split made, in key order.
    Regions(Vec<Region>),
    /// What was asked for is under way.
    Started,
    /// The log was compacted.
    Compacted {
        /// The last entry that is kept no more.
        to: LogIndex,
    },
    /// What a command of a transaction, or a read at a timestamp, answers.
    Txn(Box<TxnReply>),
    /// For how long a key has its value; `None` if it has none.
    Life(Option<Life>),
}
codec_enum!(KvReply {
    1 = Written,
    2 = Value(value),
    3 = Values(values),
    4 = Page { pairs, resume },
    5 = Swapped { succeeded, previous },
    6 = Regions(regions),
    7 = Started,
    8 = Compacted { to },
    9 = Txn(reply),
    10 = Life(life),
});

/// Why a store refuses for now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BusyReason {
    /// Its queue of proposals is full.
    ProposalQueue,
    /// Too many bytes of requests are in flight.
    Memory,
    /// The engine is near its write stall.
    WriteStall,
    /// Its log makes no progress.
    SlowDisk,
    /// The region is moving: its leader is handing over, or a snapshot is being applied.
    RegionMoving,
    /// It is asking the placement driver what time it is.
    Clock,
    /// Too many wait for locks, of the key or of the store.
    LockWaits,
    /// It is asking the placement driver which key spaces there are.
    Keyspaces,
    /// The removal of what is over has written as much as it may for now.
    GarbageCollection,
}
codec_enum!(BusyReason {
    1 = ProposalQueue,
    2 = Memory,
    3 = WriteStall,
    4 = SlowDisk,
    5 = RegionMoving,
    6 = Clock,
    7 = LockWaits,
    8 = Keyspaces,
    9 = GarbageCollection,
});

/// Why a command was not done. All but [`KvError::UndeterminedResult`] mean: it will never be applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KvError {
    /// Ask the leader.
    NotLeader {
        /// The region.
        region_id: RegionId,
        /// Its leader, if known.
        leader: Option<Peer>,
    },
    /// The region has changed; these are the ones that hold its keys now, as far as this store knows.
    EpochNotMatch {
        /// In key order; may be empty.
        current_regions: Vec<Region>,
    },
    /// No such region here.
    RegionNotFound {
        /// The region that was asked for.
        region_id: RegionId,
    },
    /// A key lies outside of the region.
    KeyNotInRegion {
        /// The region.
        region_id: RegionId,
        /// What it holds.
        range: KeyRange,
    },
    /// Try again later.
    ServerIsBusy {
        /// What is full.
        reason: BusyReason,
        /// When to try, in milliseconds from now.
        backoff_ms: u32,
    },
    /// The proposal was replaced by another leader's entry.
    StaleCommand,
    /// Writes that need space are refused until there is some; reads and deletes go on.
    DiskFull,
    /// The deadline passed before the command was proposed.
    DeadlineExceeded,
    /// The request itself is wrong: too large, empty, reversed. Not to be tried again.
    InvalidRequest {
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// Nobody knows whether the write was or will be made.
    UndeterminedResult,
    /// Another transaction, or the transaction's own past, is in the way.
    Txn(Box<TxnFault>),
    /// A key names a key space that nobody has made, says the placement driver too.
    UnknownKeyspace {
        /// Its id.
        keyspace: u32,
    },
}
codec_enum!(KvError {
    1 = NotLeader { region_id, leader },
    2 = EpochNotMatch { current_regions },
    3 = RegionNotFound { region_id },
    4 = KeyNotInRegion { region_id, range },
    5 = ServerIsBusy { reason, backoff_ms },
    6 = StaleCommand,
    7 = DiskFull,
    8 = DeadlineExceeded,
    9 = InvalidRequest { message },
    10 = UndeterminedResult,
    11 = Txn(fault),
    12 = UnknownKeyspace { keyspace },
});
