//! What travels between the nodes of a simulated cluster: the frames of the product, encoded, so that every message
//! passes through its codec and no two nodes share memory.

use crate::kernel::Packet;
use crate::trace::TraceHash;
use bytes::{BufMut, Bytes, BytesMut};
use codec::frame::{Frame, FrameHead, put_frame, take_frame};
use codec::{Decode, Encode};
use env::{Dice, SplitMix};
use std::fmt::Debug;
use std::time::Duration;
use wire::FrameKind;
use wire::hello::Close;
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdRequest, PdResponse};
use wire::store::{SnapshotPiece, SnapshotVerdict, StoreBatch};

/// The longest frame that is taken: more than any limit of a drawn configuration lets a node send.
const FRAME_SIZE_MAX: usize = 64 << 20;

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

    fn garble(&self, dice: &mut SplitMix) -> String {
        let mut bytes = BytesMut::new();
        put_frame(&mut bytes, self.head, &self.trace, |out| out.put_slice(&self.payload));
        damage(&mut bytes, dice);
        decode_anything(&self.payload, dice);
        match take_frame(&mut bytes, FRAME_SIZE_MAX) {
            Err(error) => error.to_string(),
            Ok(None) => "it ends too early".to_owned(),
            Ok(Some(frame)) => panic!("damage to {self:?} went unnoticed: {frame:?}"),
        }
    }
}

/// Flips bits, cuts off an end, or puts something in: the frame is another one afterwards.
fn damage(bytes: &mut BytesMut, dice: &mut SplitMix) {
    let any = |dice: &mut SplitMix, len: usize| usize::try_from(dice.below(len as u64)).expect("an index");
    match dice.below(3) {
        0 => {
            for _ in 0..1 + dice.below(8) {
                let at = any(dice, bytes.len());
                // Never enough, all together, to come around to what was there.
                bytes[at] = bytes[at].wrapping_add(u8::try_from(1 + dice.below(15)).expect("small"));
            }
        }
        1 => bytes.truncate(any(dice, bytes.len())),
        _ => {
            let tail = bytes.split_off(any(dice, bytes.len()));
            // What is put in differs from what was there.
            bytes.put_u8(!tail[0]);
            bytes.put_slice(&tail);
        }
    }
}

/// Gives a damaged payload to the decoders of everything that nodes send to each other. Rubbish may well be a message;
/// what matters is that nobody panics.
fn decode_anything(payload: &[u8], dice: &mut SplitMix) {
    let mut bytes = BytesMut::from(payload);
    if !bytes.is_empty() {
        damage(&mut bytes, dice);
    }
    let bytes = bytes.freeze();
    let _ = StoreBatch::from_bytes(&bytes);
    let _ = SnapshotPiece::from_bytes(&bytes);
    let _ = SnapshotVerdict::from_bytes(&bytes);
    let _ = KvRequest::from_bytes(&bytes);
    let _ = KvResponse::from_bytes(&bytes);
    let _ = PdRequest::from_bytes(&bytes);
    let _ = PdResponse::from_bytes(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_to_a_frame_is_always_noticed() {
        let mut dice = SplitMix::new(1);
        let request = PdRequest::GetTimestamps { count: 7 };
        let frame = frame(FrameKind::PdRequest, 3, Some(Duration::from_secs(1)), &request);
        for _ in 0..20_000 {
            assert!(!frame.garble(&mut dice).is_empty());
        }
    }
}
