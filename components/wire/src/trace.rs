//! Where the time of one request went: asked for by a flag of its frame, told in the trace field of its answer's.
//!
//! A client that asks sets [`FLAG`] on the frame of its [`KvRequest`](crate::kv::KvRequest). A store that knows the flag
//! sets it on the answer's frame, whose trace field is then a [`Trace`]. One that does not know it answers as ever.

use codec::{codec_enum, codec_struct};
use types::{RegionId, StoreId};

/// The flag, of the frames of requests and answers.
pub const FLAG: u8 = 1;

/// What the store that served a request says of its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The store.
    pub store_id: StoreId,
    /// The region.
    pub region_id: RegionId,
    /// From the arrival of the request to its answer, in microseconds.
    pub took_us: u64,
    /// What happened meanwhile, in order of begin. Some stages run side by side.
    pub spans: Vec<Span>,
}
codec_struct!(Trace { store_id, region_id, took_us, spans });

/// One stage of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Which one.
    pub stage: Stage,
    /// When it began, in microseconds from the request's arrival.
    pub begin_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}
codec_struct!(Span { stage, begin_us, took_us });

/// A part of the way of a request through the store that serves it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// It waited for its region's worker to take a turn; a read, for its thread.
    Queue,
    /// The turn: the write became, with others, an entry of the log, and left for the other stores.
    Propose,
    /// The entry waited for the log writer.
    LogWait,
    /// The entry was written to this store's log and synced.
    LogSync,
    /// From the end of the turn until a quorum had it on disk, and this store too. The log runs beside it.
    Replicate,
    /// From there until an applier took it.
    Commit,
    /// It was applied and written to the engine, with all that was committed meanwhile.
    Apply,
    /// From there until the answer stood in the connection's buffer.
    Reply,
    /// The read waited until a quorum had confirmed that this store leads: no lease covered it.
    Confirm,
    /// The read itself.
    Read,
}
codec_enum!(Stage {
    1 = Queue,
    2 = Propose,
    3 = LogWait,
    4 = LogSync,
    5 = Replicate,
    6 = Commit,
    7 = Apply,
    8 = Reply,
    9 = Confirm,
    10 = Read,
});

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 10] = [
        Self::Queue,
        Self::Propose,
        Self::LogWait,
        Self::LogSync,
        Self::Replicate,
        Self::Commit,
        Self::Apply,
        Self::Reply,
        Self::Confirm,
        Self::Read,
    ];

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Propose => "propose",
            Self::LogWait => "log wait",
            Self::LogSync => "log fsync",
            Self::Replicate => "replicate",
            Self::Commit => "commit",
            Self::Apply => "apply",
            Self::Reply => "reply",
            Self::Confirm => "confirm",
            Self::Read => "read",
        }
    }
}
