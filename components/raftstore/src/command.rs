//! What a region's log entries say.

use crate::records::GcRecord;
use bytes::Bytes;
use codec::{codec_enum, codec_struct};
use engine::Cf;
use raft::EntryId;
use types::{Epoch, Key, Peer, Timestamp};
use wire::kv::WriteOp;
use wire::pd::SplitIds;

/// The data of a normal entry. Decided at apply, on replicated state alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Writes of clients; several proposals in one entry, each with a result of its own.
    Write {
        /// The version under which they were proposed: another one at apply fails them all.
        version: u64,
        /// One item per proposal, in order.
        items: Vec<WriteItem>,
    },
    /// Cut the region.
    Split {
        /// The epoch under which it was proposed.
        epoch: Epoch,
        /// Where: ascending, inside the region.
        keys: Vec<Key>,
        /// Ids of the new regions, one for each key: they take the pieces from the left, the region keeps the last.
        ids: Vec<SplitIds>,
    },
    /// Forget the log up to here.
    CompactLog {
        /// The last entry that need not be kept.
        to: EntryId,
    },
}
codec_enum!(Command { 1 = Write { version, items }, 2 = Split { epoch, keys, ids }, 3 = CompactLog { to } });

impl Command {
    /// Whether an entry's data is a split: its first byte is the tag.
    #[must_use]
    pub fn is_split(data: &Bytes) -> bool {
        data.first() == Some(&2)
    }
}

/// One proposal of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteItem {
    /// All of these, in order.
    Ops(Vec<WriteOp>),
    /// On condition.
    CompareAndSwap {
        /// The key.
        key: Key,
        /// What it must hold.
        expected: Option<Bytes>,
        /// What it then holds.
        new: Option<Bytes>,
        /// By which it is judged whether what it holds is over, as of [`WriteItem::OpsAt`]; zero if nobody knows.
        now_ms: u64,
    },
    /// What a command of a transaction has decided on a view of the region: all of it, in order.
    Changes(Vec<Change>),
    /// The same, unless the transaction is too old for it, see [`GcRecord`].
    OfTxn {
        /// When the transaction began.
        start_ts: Timestamp,
        /// It gets locks: then it must not have begun by what the region guards against. Otherwise its records must not be
        /// gone.
        gets_locks: bool,
        /// What the command has decided.
        changes: Vec<Change>,
    },
    /// Old versions of the region's keys may go: nothing that would need them comes any more.
    Guard(GcRecord),
    /// As [`WriteItem::Ops`], at a time: values among them are gone some time after it.
    OpsAt {
        /// By the placement driver's clock as the leader knows it, in milliseconds.
        now_ms: u64,
        /// The operations, in order.
        ops: Vec<WriteOp>,
    },
    /// As [`WriteItem::CompareAndSwap`], and the new value is gone some time after.
    CompareAndSwapFor {
        /// The key.
        key: Key,
        /// What it must hold.
        expected: Option<Bytes>,
        /// What it then holds.
        new: Bytes,
        /// For how long, in milliseconds.
        ttl_ms: u64,
        /// As of [`WriteItem::OpsAt`].
        now_ms: u64,
    },
    /// Remove what these raw keys hold, where it is over.
    RemoveEnded {
        /// As of [`WriteItem::OpsAt`].
        now_ms: u64,
        /// The keys.
        keys: Vec<Key>,
    },
}
codec_enum!(WriteItem {
    1 = Ops(ops),
    2 = CompareAndSwap { key, expected, new, now_ms },
    3 = Changes(changes),
    4 = OfTxn { start_ts, gets_locks, changes },
    5 = Guard(record),
    6 = OpsAt { now_ms, ops },
    7 = CompareAndSwapFor { key, expected, new, ttl_ms, now_ms },
    8 = RemoveEnded { now_ms, keys },
});

/// One change of a record, in a family of the region's data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Set it.
    Put {
        /// The place of the family in [`Cf::ALL`].
        family: u8,
        /// The record's key.
        key: Key,
        /// What it holds then.
        value: Bytes,
    },
    /// Remove it.
    Delete {
        /// The place of the family in [`Cf::ALL`].
        family: u8,
        /// The record's key.
        key: Key,
    },
    /// Remove it if it still holds this: looked at when it is applied.
    DeleteIf {
        /// The place of the family in [`Cf::ALL`].
        family: u8,
        /// The record's key.
        key: Key,
        /// What it is to hold.
        value: Bytes,
    },
}
codec_enum!(Change {
    1 = Put { family, key, value },
    2 = Delete { family, key },
    3 = DeleteIf { family, key, value },
});

impl Change {
    /// The record's key.
    #[must_use]
    pub fn key(&self) -> &Key {
        let (Self::Put { key, .. } | Self::Delete { key, .. } | Self::DeleteIf { key, .. }) = self;
        key
    }

    /// The record's family; `None` if it is none of those that hold a region's data.
    #[must_use]
    pub fn cf(&self) -> Option<Cf> {
        let (Self::Put { family, .. } | Self::Delete { family, .. } | Self::DeleteIf { family, .. }) = self;
        Cf::ALL.get(usize::from(*family)).copied().filter(|cf| Cf::DATA.contains(cf))
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } | Self::DeleteIf { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
        }
    }
}

impl WriteItem {
    /// What the item weighs against limits, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        const ENVELOPE: usize = 16;
        let len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        ENVELOPE
            + match self {
                Self::Ops(ops) | Self::OpsAt { ops, .. } => {
                    ops.iter().map(|op| op.size_bytes() + ENVELOPE).sum()
                }
                Self::Guard(record) => record.guarded.own.len() * ENVELOPE,
                Self::Changes(changes) | Self::OfTxn { changes, .. } => {
                    changes.iter().map(|change| change.size_bytes() + ENVELOPE).sum()
                }
                Self::CompareAndSwap { key, expected, new, .. } => key.len() + len(expected) + len(new),
                Self::CompareAndSwapFor { key, expected, new, .. } => {
                    key.len() + len(expected) + new.len() + ENVELOPE
                }
                Self::RemoveEnded { keys, .. } => keys.iter().map(|key| key.len() + ENVELOPE).sum(),
            }
    }
}

/// The context of a membership change: what the region's descriptor needs to know beyond Raft's own operations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeContext {
    /// The epoch under which it was proposed.
    pub epoch: Epoch,
    /// The peers concerned, with the stores they live on.
    pub peers: Vec<Peer>,
}
codec_struct!(ChangeContext { epoch, peers });
