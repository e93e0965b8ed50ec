//! Store to store: Raft messages in batches, the end of removed peers, and region snapshots in pieces.

use bytes::Bytes;
use codec::{codec_enum, codec_struct};
use types::{Epoch, KeyRange, LogIndex, Peer, PeerId, Region, RegionId, StoreId, Term};

/// How much space a store has left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum DiskState {
    /// Enough.
    #[default]
    Ok,
    /// Less than the reserve: as a leader it refuses writes of clients.
    Low,
    /// The reserve is nearly spent: it takes no appends.
    Full,
}
codec_enum!(DiskState { 1 = Ok, 2 = Low, 3 = Full });

/// Everything that one turn of a store has to say to another.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StoreBatch {
    /// Who speaks.
    pub from_store: StoreId,
    /// How much space it has.
    pub disk: DiskState,
    /// In the order in which they were said.
    pub messages: Vec<StoreMessage>,
}
codec_struct!(StoreBatch { from_store, disk, messages });

/// One message between stores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreMessage {
    /// From peer to peer of a region.
    Raft(RaftMessage),
    /// `peer` was removed from the region at `epoch`; if you still hold it, destroy it. Sent by a member until it is
    /// confirmed.
    Removed {
        /// The region.
        region_id: RegionId,
        /// The peer that is no member any more.
        peer: Peer,
        /// The epoch since which it is none.
        epoch: Epoch,
        /// Who wants to know.
        from: Peer,
    },
    /// `peer` is gone from this store, durably.
    RemovedConfirmed {
        /// The region.
        region_id: RegionId,
        /// The peer that is gone.
        peer: Peer,
        /// The member that asked.
        to: Peer,
    },
    /// A worker of the sending store, and so every region that it owns, is at work. Said at every heartbeat interval to
    /// stores on which regions rely that sleep, and to those that rely on the sender.
    Alive {
        /// Who says so.
        from_store: StoreId,
        /// Which of its workers.
        worker: u32,
        /// How many it has: the region with id `i` is owned by worker `i % workers`.
        workers: u32,
        /// Differs from start to start of that worker.
        incarnation: u64,
        /// Regions at the sender rely on the receiver, or would like to: it is to say this too.
        relies: bool,
    },
    /// The leader of a region has nothing to do, and `to` is as far as it is: both may sleep.
    Sleep {
        /// The region.
        region_id: RegionId,
        /// The leader.
        from: Peer,
        /// Who may sleep.
        to: Peer,
        /// The leader's term.
        term: Term,
        /// The last entry of its log, committed and applied.
        index: LogIndex,
        /// Counts the leader's attempts, so that late answers are known.
        attempt: u64,
    },
    /// `from` sleeps, as it was asked to.
    SleepAgreed {
        /// The region.
        region_id: RegionId,
        /// Who sleeps.
        from: Peer,
        /// The leader.
        to: Peer,
        /// Which question this answers.
        attempt: u64,
    },
    /// Do not sleep, `to`: somebody has need of the region, or its leader is none any more.
    Wake {
        /// The region.
        region_id: RegionId,
        /// Who is to wake.
        to: Peer,
    },
}
codec_enum!(StoreMessage {
    1 = Raft(message),
    2 = Removed { region_id, peer, epoch, from },
    3 = RemovedConfirmed { region_id, peer, to },
    4 = Alive { from_store, worker, workers, incarnation, relies },
    5 = Sleep { region_id, from, to, term, index, attempt },
    6 = SleepAgreed { region_id, from, to, attempt },
    7 = Wake { region_id, to },
});

/// A Raft message and what a store needs to find its receiver, or to make it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftMessage {
    /// The region.
    pub region_id: RegionId,
    /// The sender.
    pub from: Peer,
    /// The receiver.
    pub to: Peer,
    /// The sender's epoch of the region.
    pub epoch: Epoch,
    /// The sender's range of the region, so that a store that does not know the region can tell what it would overlap.
    pub range: KeyRange,
    /// What is said.
    pub message: raft::Message,
}
codec_struct!(RaftMessage { region_id, from, to, epoch, range, message });

/// Names one transfer of a region snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SnapshotKey {
    /// The region.
    pub region_id: RegionId,
    /// The peer that it is for.
    pub to_peer: PeerId,
    /// The term of the last entry that it holds.
    pub term: Term,
    /// The index of that entry.
    pub index: LogIndex,
}
codec_struct!(SnapshotKey { region_id, to_peer, term, index });

/// A piece of a region snapshot, in the order of the variants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotPiece {
    /// The message that the receiver steps when all data is there. Answered by a [`SnapshotVerdict`] before data flows.
    Start {
        /// Which transfer.
        key: SnapshotKey,
        /// The region as of the snapshot.
        region: Region,
        /// The message, with the Raft snapshot in it.
        message: Box<RaftMessage>,
    },
    /// Pairs of one column family, ascending; families in order.
    Chunk {
        /// Which transfer.
        key: SnapshotKey,
        /// The number of the column family.
        family: u8,
        /// Keys and values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// All data was sent. Answered by a [`SnapshotVerdict`].
    End {
        /// Which transfer.
        key: SnapshotKey,
        /// How many pairs there were.
        pairs: u64,
        /// CRC32C over family, key and value of each pair in order (lengths as u32 LE before key and value).
        checksum: u32,
    },
}
codec_enum!(SnapshotPiece {
    1 = Start { key, region, message },
    2 = Chunk { key, family, pairs },
    3 = End { key, pairs, checksum },
});

/// What the receiver of a snapshot says to its start or its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotVerdict {
    /// Go on; or, after the end: all is there, and the message was stepped.
    Accepted(SnapshotKey),
    /// Not now, or not at all; the text says why.
    Refused {
        /// Which transfer.
        key: SnapshotKey,
        /// Why.
        reason: String,
    },
}
codec_enum!(SnapshotVerdict { 1 = Accepted(key), 2 = Refused { key, reason } });
