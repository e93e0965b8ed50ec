//! What a frame's payload is.

/// The kinds of frames. Numbers are never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// First frame of the side that connected: [`Hello`](crate::hello::Hello).
    Hello = 1,
    /// Its answer: [`HelloAck`](crate::hello::HelloAck).
    HelloAck = 2,
    /// The sender closes the connection: [`Close`](crate::hello::Close).
    Close = 3,
    /// Are you there? Answered by `Pong` with the same request id.
    Ping = 4,
    /// I am.
    Pong = 5,
    /// One way, store to store: [`StoreBatch`](crate::store::StoreBatch).
    StoreBatch = 16,
    /// Store to store, on a connection of its own: [`SnapshotPiece`](crate::store::SnapshotPiece).
    SnapshotPiece = 17,
    /// The receiver's answer to a snapshot's start and to its end: [`SnapshotVerdict`](crate::store::SnapshotVerdict).
    SnapshotVerdict = 18,
    /// [`KvRequest`](crate::kv::KvRequest).
    KvRequest = 32,
    /// [`KvResponse`](crate::kv::KvResponse).
    KvResponse = 33,
    /// The asker lost interest in the request with this id. No payload; there may be no answer any more.
    Cancel = 34,
    /// [`PdRequest`](crate::pd::PdRequest).
    PdRequest = 48,
    /// [`PdResponse`](crate::pd::PdResponse).
    PdResponse = 49,
}

impl FrameKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Hello,
        Self::HelloAck,
        Self::Close,
        Self::Ping,
        Self::Pong,
        Self::StoreBatch,
        Self::SnapshotPiece,
        Self::SnapshotVerdict,
        Self::KvRequest,
        Self::KvResponse,
        Self::Cancel,
        Self::PdRequest,
        Self::PdResponse,
    ];

    /// The kind with this number; `None` for one that this version does not know.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}
