//! What travels between the nodes of a simulated cluster: the frames of the product, encoded, so that every message
//! passes through its codec and no two nodes share memory.

use crate::kernel::Packet;
use crate::trace::TraceHash;
use bytes::Bytes;
use codec::frame::{Frame, FrameHead};
use codec::{Decode, Encode};
use std::fmt::Debug;
use std::time::Duration;
use wire::FrameKind;
use wire::hello::Close;
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdRequest, PdResponse};
use wire::store::{SnapshotPiece, SnapshotVerdict, StoreBatch};

/// A frame of this kind around `payload`. `deadline` is the time that is left to answer it.
#[must_use]
pub fn frame(kind: FrameKind, request_id: u64, deadline: Option<Duration>, payload: &impl Encode) -> Frame {
    let deadline_ms = deadline.map_or(0, |left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1));
    let head = FrameHead { kind: kind as u8, flags: 0, request_id, deadline_ms };
    Frame { head, trace: Bytes::new(), payload: payload.to_bytes() }
}

/// The kind of a frame that a node of this build has made.
///
/// # Panics
/// When the number is unknown.
#[must_use]
pub fn kind_of(frame: &Frame) -> FrameKind {
    FrameKind::from_number(frame.head.kind)
        .unwrap_or_else(|| panic!("unknown frame kind {}", frame.head.kind))
}

/// The payload of a frame that a node of this build has made.
///
/// # Panics
/// When it cannot be decoded: encoder and decoder disagree.
#[must_use]
pub fn payload_of<T: Decode>(frame: &Frame) -> T {
    T::from_bytes(&frame.payload).unwrap_or_else(|error| panic!("a payload of {:?}: {error}", kind_of(frame)))
}

impl Packet for Frame {
    fn fold(&self, hash: &mut TraceHash) {
        hash.fold(u64::from(self.head.kind) << 32 | u64::from(self.head.deadline_ms));
        hash.fold(self.head.request_id);
        hash.fold_bytes(&self.payload);
    }

    fn summary(&self) -> String {
        fn show<T: Decode + Debug>(frame: &Frame) -> String {
            format!("{:?}", payload_of::<T>(frame))
        }
        let kind = kind_of(self);
        let payload = match kind {
            FrameKind::StoreBatch => show::<StoreBatch>(self),
            FrameKind::SnapshotPiece => show::<SnapshotPiece>(self),
            FrameKind::SnapshotVerdict => show::<SnapshotVerdict>(self),
            FrameKind::KvRequest => show::<KvRequest>(self),
            FrameKind::KvResponse => show::<KvResponse>(self),
            FrameKind::PdRequest => show::<PdRequest>(self),
            FrameKind::PdResponse => show::<PdResponse>(self),
            FrameKind::Close => show::<Close>(self),
            FrameKind::Hello
            | FrameKind::HelloAck
            | FrameKind::Ping
            | FrameKind::Pong
            | FrameKind::Cancel => String::new(),
        };
        format!("{kind:?} {} {payload}", self.head.request_id)
    }
}
