//! Frames: how messages follow each other on a connection.
//!
//! ```text
//!  0        4    5     6         8          16          20        24
//!  | length | kind|flags|trace len|request id|deadline ms|head CRC | trace … payload … | body CRC |
//! ```
//!
//! All numbers are little-endian. `length` counts what follows the 24 bytes of the head, the body's CRC included. The
//! head has a CRC32C of its own, so that a damaged length is refused at once instead of awaiting bytes that never come.
//! `request id` ties an answer to its request; `deadline` is the time that is left, in milliseconds (0: none); `trace`
//! is opaque to us (a W3C trace context, when a caller sends one).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;

/// Bytes of a frame before its trace field and payload.
pub const HEAD_SIZE: usize = 24;
const BODY_CRC_SIZE: usize = 4;

/// What a frame says about its payload.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FrameHead {
    /// What the payload is; the values are the protocol's (`wire`).
    pub kind: u8,
    /// Bits that belong to the kind.
    pub flags: u8,
    /// Ties an answer to its request; zero where there is no answer.
    pub request_id: u64,
    /// Milliseconds until the sender gives up; zero for never.
    pub deadline_ms: u32,
}

/// One frame, as received.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Frame {
    /// What it says about its payload.
    pub head: FrameHead,
    /// Trace context of the caller; empty for none.
    pub trace: Bytes,
    /// What it carries.
    pub payload: Bytes,
}

/// Why a connection cannot go on: after any of these the position of the next frame is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The head does not match its checksum.
    HeadChecksum,
    /// Trace and payload do not match their checksum.
    BodyChecksum,
    /// The frame is longer than this connection allows; nothing was allocated for it.
    TooLarge {
        /// What the frame says.
        length: usize,
        /// What is allowed.
        max: usize,
    },
    /// Lengths within the frame contradict each other.
    Malformed,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadChecksum => write!(f, "frame head does not match its checksum"),
            Self::BodyChecksum => write!(f, "frame body does not match its checksum"),
            Self::TooLarge { length, max } => write!(f, "frame of {length} bytes exceeds the limit of {max}"),
            Self::Malformed => write!(f, "frame lengths contradict each other"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends one frame whose payload is what `payload` appends, so that a message is encoded in place.
///
/// # Panics
/// When the trace field is longer than 65,535 bytes or the body than 4 GiB: both are ours to bound.
pub fn put_frame(out: &mut BytesMut, head: FrameHead, trace: &[u8], payload: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.resize(start + HEAD_SIZE, 0);
    out.put_slice(trace);
    payload(out);
    let body = start + HEAD_SIZE;
    let crc = crc32c::crc32c(&out[body..]);
    out.put_u32_le(crc);
    let length = u32::try_from(out.len() - body).expect("a frame's body is under 4 GiB");
    let trace_len = u16::try_from(trace.len()).expect("a trace context is under 64 KiB");
    let mut bytes = &mut out[start..body];
    bytes.put_u32_le(length);
    bytes.put_u8(head.kind);
    bytes.put_u8(head.flags);
    bytes.put_u16_le(trace_len);
    bytes.put_u64_le(head.request_id);
    bytes.put_u32_le(head.deadline_ms);
    let crc = crc32c::crc32c(&out[start..body - 4]);
    out[body - 4..body].copy_from_slice(&crc.to_le_bytes());
}

/// Takes the next whole frame off the front of `input`; `None` until all of it has arrived.
///
/// `size_max` bounds the frame, head included.
///
/// # Errors
/// Any [`FrameError`]; the connection must then be closed.
pub fn take_frame(input: &mut BytesMut, size_max: usize) -> Result<Option<Frame>, FrameError> {
    if input.len() < HEAD_SIZE {
        return Ok(None);
    }
    let mut bytes = &input[..HEAD_SIZE];
    if crc32c::crc32c(&bytes[..HEAD_SIZE - 4])
        != u32::from_le_bytes(bytes[HEAD_SIZE - 4..].try_into().expect("4 bytes"))
    {
        return Err(FrameError::HeadChecksum);
    }
    let length = bytes.get_u32_le() as usize;
    let (kind, flags) = (bytes.get_u8(), bytes.get_u8());
    let trace_len = bytes.get_u16_le() as usize;
    let (request_id, deadline_ms) = (bytes.get_u64_le(), bytes.get_u32_le());
    let total = HEAD_SIZE.saturating_add(length);
    if total > size_max {
        return Err(FrameError::TooLarge { length: total, max: size_max });
    }
    if length < trace_len + BODY_CRC_SIZE {
        return Err(FrameError::Malformed);
    }
    if input.len() < total {
        input.reserve(total - input.len());
        return Ok(None);
    }
    let mut body = input.split_to(total).freeze();
    body.advance(HEAD_SIZE);
    let stored = body.split_off(body.len() - BODY_CRC_SIZE);
    if crc32c::crc32c(&body) != u32::from_le_bytes(stored[..].try_into().expect("4 bytes")) {
        return Err(FrameError::BodyChecksum);
    }
    let trace = body.split_to(trace_len);
    Ok(Some(Frame { head: FrameHead { kind, flags, request_id, deadline_ms }, trace, payload: body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BytesMut {
        let mut out = BytesMut::new();
        let head = FrameHead { kind: 3, flags: 1, request_id: 77, deadline_ms: 1500 };
        put_frame(&mut out, head, b"trace", |out| out.put_slice(b"the payload"));
        out
    }

    #[test]
    fn frames_follow_each_other_and_wait_for_their_last_byte() {
        let mut input = sample();
        input.extend_from_slice(&sample());
        for _ in 0..2 {
            let frame = take_frame(&mut input, 1 << 20).expect("intact").expect("whole");
            assert_eq!((&frame.trace[..], &frame.payload[..]), (&b"trace"[..], &b"the payload"[..]));
            assert_eq!(frame.head, FrameHead { kind: 3, flags: 1, request_id: 77, deadline_ms: 1500 });
        }
        assert!(input.is_empty());
        let whole = sample();
        for len in 0..whole.len() {
            assert_eq!(take_frame(&mut BytesMut::from(&whole[..len]), 1 << 20), Ok(None), "of {len} bytes");
        }
    }

    #[test]
    fn every_bit_flip_is_refused_at_once() {
        let whole = sample();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(take_frame(&mut damaged, 1 << 20).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_the_head_alone() {
        let mut head_only = BytesMut::from(&sample()[..HEAD_SIZE]);
        assert!(matches!(take_frame(&mut head_only, HEAD_SIZE + 3), Err(FrameError::TooLarge { .. })));
    }
}
