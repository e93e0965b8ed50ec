//! What goes into a worker's turn, and what comes out.

use crate::apply::{ApplyOutcome, ApplyTask};
use crate::command::WriteItem;
use crate::held::{HeldLock, HeldView};
use crate::records::RegionRecord;
use crate::stages::LogTimes;
use bytes::Bytes;
use engine::{Cf, Engine, WriteBatch};
use raft::{Entry, PersistToken, Snapshot};
use raft_log::FetchRequest;
use std::sync::Arc;
use types::{Epoch, Key, MonoTime, PeerId, Region, RegionId, StoreId, Term};
use wire::kv::{KvCommand, KvError, KvReply};
use wire::pd::{Instruction, RegionHeartbeat, SplitIds};
use wire::store::{DiskState, RaftMessage, SnapshotKey, StoreMessage};

/// Ties an answer to whoever awaits it; opaque here. Every token that enters by an [`Input`] leaves by exactly one
/// answer.
pub type Token = u64;

/// A read that goes through the log's leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// Who awaits it.
    pub token: Token,
    /// The region as the asker knows it.
    pub region_id: RegionId,
    /// Its epoch.
    pub epoch: Epoch,
    /// What is to be read.
    pub command: KvCommand,
    /// What the asker is told instead, if the leader would have it served: something other than the log was in its way when
    /// it came.
    pub refusal: Option<Box<KvError>>,
    /// For those who look at locks: what was held when it came, before any view was taken for it.
    pub held: Option<Box<HeldView>>,
    /// When the asker gives up.
    pub deadline: MonoTime,
}

/// Everything that can happen to a worker.
#[derive(Debug)]
pub enum Input {
    /// From another store.
    Message(StoreMessage),
    /// A client wants to write.
    Write {
        /// Who awaits it.
        token: Token,
        /// The region as the client knows it.
        region_id: RegionId,
        /// Its epoch.
        epoch: Epoch,
        /// The write.
        item: WriteItem,
        /// When the client gives up.
        deadline: MonoTime,
        /// The leadership under which the write was decided on: under another one, or after a change of the region, it
        /// is not proposed (INV-TXN-5). `None` for a write that depends on nothing.
        decided_in: Option<Term>,
        /// Whether the asker wants a word by [`TurnEffects::proposed`].
        tells_proposed: bool,
    },
    /// A client wants to read, and no lease covers it.
    Read(ReadRequest),
    /// A person wants to split a region.
    Split {
        /// Who awaits it.
        token: Token,
        /// The region.
        region_id: RegionId,
        /// Its epoch.
        epoch: Epoch,
        /// Where.
        keys: Vec<Key>,
        /// When the person gives up.
        deadline: MonoTime,
    },
    /// A person wants another leader.
    TransferLeader {
        /// Who awaits it.
        token: Token,
        /// The region.
        region_id: RegionId,
        /// Its epoch.
        epoch: Epoch,
        /// The store that shall lead.
        to_store: StoreId,
    },
    /// A person wants the log to be compacted as far as it may be.
    CompactLog {
        /// Who awaits it.
        token: Token,
        /// The region.
        region_id: RegionId,
        /// Its epoch.
        epoch: Epoch,
        /// When they give up.
        deadline: MonoTime,
    },
    /// A log task is durable.
    Persisted(Persisted),
    /// Entries were applied.
    Applied(Vec<ApplyOutcome>),
    /// Log entries that were asked for.
    EntriesFetched {
        /// The region.
        region_id: RegionId,
        /// What was asked for.
        request: FetchRequest,
        /// The entries, or why they cannot be read: often because they were compacted meanwhile.
        entries: Result<Vec<Entry>, String>,
    },
    /// A snapshot that was asked for stands ready to be sent.
    SnapshotBuilt {
        /// The region.
        region_id: RegionId,
        /// The peer that it is for.
        to: PeerId,
        /// What Raft sends; `None` if it could not be built.
        snapshot: Option<Snapshot>,
    },
    /// A snapshot was sent, or was not.
    SnapshotSent {
        /// The region.
        region_id: RegionId,
        /// The peer that it was for.
        to: PeerId,
        /// Whether its store has it.
        ok: bool,
    },
    /// A snapshot has arrived, whole and checked.
    SnapshotReceived(Box<ReceivedSnapshot>),
    /// The data of a snapshot is in place, durably.
    Ingested {
        /// The region.
        region_id: RegionId,
    },
    /// Files of a snapshot are gone from the disk: its data cannot be put in place any more.
    FilesLost {
        /// The region.
        region_id: RegionId,
    },
    /// How large a region is, and where it should be cut.
    SplitChecked {
        /// The region.
        region_id: RegionId,
        /// Its epoch when it was looked at.
        epoch: Epoch,
        /// Bytes of its keys and values.
        size_bytes: u64,
        /// How many keys it holds.
        keys: u64,
        /// Where to cut; empty if it is small enough.
        split_keys: Vec<Key>,
    },
    /// PD's answer to [`PdTask::AskSplit`].
    SplitIds {
        /// The region.
        region_id: RegionId,
        /// The ids; `None` if PD refused or did not answer.
        ids: Option<Vec<SplitIds>>,
    },
    /// PD wants something done.
    Instruction(Instruction),
    /// A store cannot be reached; messages to it were dropped.
    Unreachable(StoreId),
    /// What a store (this one, or another) says of its disk.
    DiskOf(StoreId, DiskState),
    /// The store is about to stop: regions that sleep wake, so that their leaders can be handed over, and none falls asleep.
    StayAwake,
    /// A peer begins its life here.
    CreatePeer(Box<CreatePeer>),
}

/// A peer that a split made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatePeer {
    /// As it is on disk.
    pub record: RegionRecord,
    /// Campaign at once: the parent leads here.
    pub campaign: bool,
    /// Bytes of its keys and values, about.
    pub size_bytes: u64,
    /// How many keys, about.
    pub keys: u64,
    /// Locks of the parent that are the piece's, if it is led here first.
    pub locks: Vec<(Key, HeldLock)>,
}

/// A region snapshot that has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceivedSnapshot {
    /// Which one.
    pub key: SnapshotKey,
    /// The message to step.
    pub message: RaftMessage,
    /// The region as of the snapshot.
    pub region: Region,
    /// Its data.
    pub data: SnapshotData,
    /// Bytes of its keys and values.
    pub size_bytes: u64,
    /// How many keys.
    pub keys: u64,
}

/// The data of a region snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotData {
    /// Few enough to go through a batch.
    Pairs(Vec<(Cf, Bytes, Bytes)>),
    /// Files that lie, durable, in the engine's directory.
    Files(Vec<(Cf, String)>),
}

/// What to write to the log for one turn of a worker: one batch, for all regions. Written in the order of turns.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LogTask {
    /// The writes.
    pub batch: WriteBatch,
    /// Whether anything in it must be durable before the turn counts as persisted.
    pub must_sync: bool,
    /// To be handed back when it is durable.
    pub persisted: Persisted,
    /// To be sent then.
    pub messages_after: Vec<(StoreId, StoreMessage)>,
}

impl LogTask {
    /// True if there is nothing to write and nothing to wait for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.messages_after.is_empty()
    }
}

/// What became durable with a [`LogTask`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Persisted {
    /// The number of the turn, counted by its worker.
    pub turn: u64,
    /// Raft's tokens.
    pub tokens: Vec<(RegionId, PersistToken)>,
    /// Regions whose snapshot install was written.
    pub installed: Vec<RegionId>,
    /// Regions that were destroyed.
    pub destroyed: Vec<RegionId>,
    /// When; filled by whoever writes the log, if it looks at the clock.
    pub times: LogTimes,
}

/// A read that may be served from this snapshot.
pub struct ReadyRead<S> {
    /// What is asked.
    pub request: ReadRequest,
    /// The region that owns the keys.
    pub region: Region,
    /// Where to read.
    pub snapshot: Arc<S>,
    /// The leadership that has vouched for it: all that was committed before it is in the snapshot.
    pub term: Term,
    /// When it was found that the read may be served.
    pub now: MonoTime,
}

/// A snapshot that Raft wants sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendSnapshot {
    /// Which one.
    pub key: SnapshotKey,
    /// To which store.
    pub to_store: StoreId,
    /// The message that goes with it.
    pub message: RaftMessage,
}

/// Work that takes long and is done aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Background {
    /// Take a view of the region's data for a peer; answer with [`Input::SnapshotBuilt`].
    BuildSnapshot {
        /// The region.
        region_id: RegionId,
        /// The peer that it is for.
        to: PeerId,
    },
    /// Put the files of a snapshot in place; answer with [`Input::Ingested`], or [`Input::FilesLost`].
    Ingest {
        /// The region's record, which says `Applying` and names the files.
        record: RegionRecord,
    },
    /// Measure a region; answer with [`Input::SplitChecked`].
    CheckSplit {
        /// The region.
        region: Region,
        /// The size beyond which it is cut, in bytes.
        split_bytes: u64,
    },
    /// Remove files of a snapshot that is not wanted any more.
    RemoveFiles(Vec<String>),
    /// Read log entries; answer with [`Input::EntriesFetched`].
    FetchEntries {
        /// The region.
        region_id: RegionId,
        /// Which.
        request: FetchRequest,
    },
}

/// What a worker wants of the placement driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PdTask {
    /// Tell it how a region is.
    Heartbeat {
        /// What it is told.
        heartbeat: RegionHeartbeat,
        /// For each other peer, how many entries of the leader's log it is not known to have. For metrics.
        lags: Vec<u64>,
    },
    /// Ask for ids; answer with [`Input::SplitIds`].
    AskSplit {
        /// The region.
        region: Region,
        /// How many children.
        count: u32,
    },
}

/// What one turn of a worker asks for.
pub struct TurnEffects<E: Engine> {
    /// To the log writer, if not empty.
    pub log: LogTask,
    /// To other stores, now.
    pub messages: Vec<(StoreId, StoreMessage)>,
    /// To the appliers.
    pub apply: Vec<ApplyTask>,
    /// Answers.
    pub replies: Vec<(Token, Result<KvReply, KvError>)>,
    /// Writes whose askers wanted to know that the leader has them in its log, in the term and under the version in which they
    /// were decided, and before any change of the region's range: only another leader, or what a region refuses by its
    /// record of safe points, keeps them from being applied. To be told before anything of `apply` is begun, so that each
    /// hears of it before it has its answer, which follows in any case.
    pub proposed: Vec<Token>,
    /// Reads to be served.
    pub reads: Vec<ReadyRead<E::Snapshot>>,
    /// Work to be done aside.
    pub background: Vec<Background>,
    /// Snapshots to be sent.
    pub snapshots: Vec<SendSnapshot>,
    /// To the placement driver.
    pub pd: Vec<PdTask>,
    /// Peers that begin their life, for the workers that own them.
    pub create: Vec<CreatePeer>,
}

impl<E: Engine> Default for TurnEffects<E> {
    fn default() -> Self {
        Self {
            log: LogTask::default(),
            messages: Vec::new(),
            apply: Vec::new(),
            replies: Vec::new(),
            proposed: Vec::new(),
            reads: Vec::new(),
            background: Vec::new(),
            snapshots: Vec::new(),
            pd: Vec::new(),
            create: Vec::new(),
        }
    }
}
