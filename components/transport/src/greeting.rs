//! The greeting: who connects, to whom, speaking which protocol.

use crate::drive::decode;
use crate::{BadFrame, ConnectError, Ended, Settings, Stream};
use bytes::BytesMut;
use codec::Encode;
use codec::frame::{Frame, FrameHead, put_frame, take_frame};
use std::fmt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use types::{ClusterId, StoreId};
use wire::FrameKind;
use wire::hello::{Close, ConnectionRole, Hello, HelloAck, PROTOCOL_MAX, PROTOCOL_MIN};

/// The longest frame of a greeting: before it we know nobody, and a greeting is short.
const GREETING_FRAME_SIZE_MAX: usize = 4 << 10;

/// Who a process is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Identity {
    /// Its cluster; zero while it does not know.
    pub cluster_id: ClusterId,
    /// Its store id; zero for what is no store.
    pub store_id: StoreId,
}

/// Where to connect.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// The store that is expected there; zero for any, and for the placement driver.
    pub store_id: StoreId,
}

impl Target {
    /// Whoever listens at this address.
    #[must_use]
    pub fn any(address: impl Into<String>) -> Self {
        Self { address: address.into(), store_id: StoreId::ZERO }
    }

    /// A store that is expected at this address.
    #[must_use]
    pub fn store(store_id: StoreId, address: impl Into<String>) -> Self {
        Self { address: address.into(), store_id }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Why a greeting was turned down, and what was said to it.
#[derive(Debug)]
pub(crate) struct TurnedDown {
    pub(crate) why: Ended,
    pub(crate) bad: Option<BadFrame>,
}

fn frame_of(kind: FrameKind, message: &impl Encode) -> BytesMut {
    let mut out = BytesMut::new();
    put_frame(&mut out, FrameHead { kind: kind as u8, ..FrameHead::default() }, &[], |out| {
        message.encode(out)
    });
    out
}

enum NoFrame {
    Lost(std::io::ErrorKind),
    Bad(BadFrame, String),
}

async fn next_frame<S: Stream>(stream: &mut S, input: &mut BytesMut) -> Result<(FrameKind, Frame), NoFrame> {
    loop {
        match take_frame(input, GREETING_FRAME_SIZE_MAX) {
            Ok(Some(frame)) => match FrameKind::from_number(frame.head.kind) {
                Some(kind) => return Ok((kind, frame)),
                None => {
                    return Err(NoFrame::Bad(
                        BadFrame::UnknownKind,
                        format!("frame kind {}", frame.head.kind),
                    ));
                }
            },
            Ok(None) => {}
            Err(error) => {
                let bad = crate::drive::Bad::from(error);
                return Err(NoFrame::Bad(bad.what, bad.reason));
            }
        }
        match stream.read_buf(input).await {
            Ok(0) => return Err(NoFrame::Lost(std::io::ErrorKind::UnexpectedEof)),
            Ok(_) => {}
            Err(error) => return Err(NoFrame::Lost(error.kind())),
        }
    }
}

/// The side that listens: reads the greeting, and answers it.
pub(crate) async fn welcome<S: Stream>(
    stream: &mut S,
    input: &mut BytesMut,
    ours: Identity,
    settings: &Settings,
) -> Result<Hello, TurnedDown> {
    let arrived = timeout(settings.greeting_timeout, next_frame(stream, input)).await;
    let judged = match arrived {
        Err(_) => return Err(TurnedDown { why: Ended::GreetingTimeout, bad: None }),
        Ok(Err(NoFrame::Lost(_))) => return Err(TurnedDown { why: Ended::Lost, bad: None }),
        Ok(Err(NoFrame::Bad(bad, reason))) => Err((Close::BadFrame { reason }, Ended::BadFrame, Some(bad))),
        Ok(Ok((kind, frame))) => match hello_of(kind, &frame) {
            Err(bad) => Err((Close::BadFrame { reason: bad.reason }, Ended::BadFrame, Some(bad.what))),
            Ok(hello) => match judge(&hello, ours) {
                Ok(protocol) => Ok((hello, protocol)),
                Err((close, why)) => Err((close, why, None)),
            },
        },
    };
    match judged {
        Ok((hello, protocol)) => {
            let ack = HelloAck { cluster_id: ours.cluster_id, protocol, store_id: ours.store_id };
            let frame = frame_of(FrameKind::HelloAck, &ack);
            match timeout(settings.greeting_timeout, stream.write_all(&frame)).await {
                Ok(Ok(())) => Ok(hello),
                Ok(Err(_)) => Err(TurnedDown { why: Ended::Lost, bad: None }),
                Err(_) => Err(TurnedDown { why: Ended::GreetingTimeout, bad: None }),
            }
        }
        Err((close, why, bad)) => {
            let _ = timeout(settings.farewell_timeout, turn_down(stream, &close)).await;
            Err(TurnedDown { why, bad })
        }
    }
}

fn hello_of(kind: FrameKind, frame: &Frame) -> Result<Hello, crate::drive::Bad> {
    if kind == FrameKind::Hello { decode(kind, frame) } else { Err(crate::drive::Bad::out_of_place(kind)) }
}

/// Tells why, and lets the other side read it before the socket closes.
pub(crate) async fn turn_down<S: Stream>(stream: &mut S, close: &Close) {
    if stream.write_all(&frame_of(FrameKind::Close, close)).await.is_err() || stream.shutdown().await.is_err()
    {
        return;
    }
    let mut rest = BytesMut::with_capacity(GREETING_FRAME_SIZE_MAX);
    while matches!(stream.read_buf(&mut rest).await, Ok(1..)) {
        rest.clear();
    }
}

/// The protocol version that both speak, or why they do not talk.
fn judge(hello: &Hello, ours: Identity) -> Result<u32, (Close, Ended)> {
    let protocol = hello.protocol_max.min(PROTOCOL_MAX);
    if protocol < hello.protocol_min.max(PROTOCOL_MIN) {
        let close = Close::ProtocolMismatch { min: PROTOCOL_MIN, max: PROTOCOL_MAX };
        return Err((close, Ended::ProtocolMismatch));
    }
    // Who asks may not know its cluster yet. Who sends Raft messages or snapshots must.
    let asks = hello.role == ConnectionRole::Client;
    let unknown = hello.cluster_id.is_zero() || ours.cluster_id.is_zero();
    let welcome = if unknown { asks } else { hello.cluster_id == ours.cluster_id };
    if !welcome {
        return Err((Close::WrongCluster { ours: ours.cluster_id }, Ended::WrongCluster));
    }
    let other_store = !hello.to_store_id.is_zero() && hello.to_store_id != ours.store_id;
    let no_store = !asks && (ours.store_id.is_zero() || hello.store_id.is_zero());
    if other_store || no_store {
        return Err((Close::WrongStore { ours: ours.store_id }, Ended::WrongStore));
    }
    Ok(protocol)
}

/// The side that connects: greets, and reads the answer.
pub(crate) async fn greet<S: Stream>(
    stream: &mut S,
    input: &mut BytesMut,
    ours: Identity,
    role: ConnectionRole,
    to_store_id: StoreId,
    settings: &Settings,
) -> Result<HelloAck, ConnectError> {
    let hello = Hello {
        cluster_id: ours.cluster_id,
        role,
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        store_id: ours.store_id,
        to_store_id,
    };
    let answered = timeout(settings.greeting_timeout, async {
        let sent = stream.write_all(&frame_of(FrameKind::Hello, &hello)).await;
        // A side that turns everybody down (too many connections) may have closed before it read our greeting.
        match next_frame(stream, input).await {
            Err(NoFrame::Lost(kind)) => {
                Err(ConnectError::Unreachable(sent.map_or_else(|error| error.kind(), |()| kind)))
            }
            Err(NoFrame::Bad(_, reason)) => Err(ConnectError::Protocol(reason)),
            Ok((FrameKind::Close, frame)) => match decode(FrameKind::Close, &frame) {
                Ok(close) => Err(ConnectError::Refused(close)),
                Err(bad) => Err(ConnectError::Protocol(bad.reason)),
            },
            Ok((FrameKind::HelloAck, frame)) => decode::<HelloAck>(FrameKind::HelloAck, &frame)
                .map_err(|bad| ConnectError::Protocol(bad.reason)),
            Ok((kind, _)) => Err(ConnectError::Protocol(format!("{kind:?} instead of a greeting"))),
        }
    });
    let ack = answered.await.unwrap_or(Err(ConnectError::Timeout))?;
    if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&ack.protocol) {
        return Err(ConnectError::Protocol(format!("version {} was never offered", ack.protocol)));
    }
    if ack.cluster_id != ours.cluster_id && !ack.cluster_id.is_zero() && !ours.cluster_id.is_zero() {
        return Err(ConnectError::WrongCluster { theirs: ack.cluster_id });
    }
    if ack.store_id != to_store_id && !to_store_id.is_zero() {
        return Err(ConnectError::WrongStore { theirs: ack.store_id });
    }
    Ok(ack)
}

/// A TCP connection to `address`, made in time; small writes leave at once.
pub(crate) async fn dial(address: &str, settings: &Settings) -> Result<TcpStream, ConnectError> {
    let connected = timeout(settings.connect_timeout, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(ConnectError::Unreachable(error.kind())),
        Err(_) => return Err(ConnectError::Timeout),
    };
    stream.set_nodelay(true).map_err(|error| ConnectError::Unreachable(error.kind()))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(role: ConnectionRole, cluster: u64, from: u64, to: u64) -> Hello {
        Hello {
            cluster_id: ClusterId(cluster),
            role,
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX + 3,
            store_id: StoreId(from),
            to_store_id: StoreId(to),
        }
    }

    fn outcome(hello: &Hello, cluster: u64, store: u64) -> Result<u32, Ended> {
        judge(hello, Identity { cluster_id: ClusterId(cluster), store_id: StoreId(store) })
            .map_err(|(_, why)| why)
    }

    #[test]
    fn who_may_talk_to_whom() {
        use ConnectionRole::{Client, Snapshot, Store};
        let cases = [
            (hello(Client, 7, 0, 1), 7, 1, Ok(PROTOCOL_MAX)),
            (hello(Client, 0, 0, 0), 7, 0, Ok(PROTOCOL_MAX)),
            (hello(Client, 7, 0, 0), 0, 0, Ok(PROTOCOL_MAX)),
            (hello(Client, 8, 0, 0), 7, 1, Err(Ended::WrongCluster)),
            (hello(Client, 7, 0, 2), 7, 1, Err(Ended::WrongStore)),
            (hello(Store, 7, 2, 1), 7, 1, Ok(PROTOCOL_MAX)),
            (hello(Store, 0, 2, 1), 7, 1, Err(Ended::WrongCluster)),
            (hello(Store, 0, 2, 1), 0, 1, Err(Ended::WrongCluster)),
            (hello(Store, 7, 2, 0), 7, 0, Err(Ended::WrongStore)),
            (hello(Snapshot, 7, 0, 1), 7, 1, Err(Ended::WrongStore)),
        ];
        for (hello, cluster, store, expected) in cases {
            assert_eq!(outcome(&hello, cluster, store), expected, "{hello:?} to store {store} of {cluster}");
        }
    }

    #[test]
    fn a_protocol_that_one_side_has_left_behind_is_turned_down() {
        let mut ahead = hello(ConnectionRole::Client, 7, 0, 1);
        ahead.protocol_min = PROTOCOL_MAX + 1;
        assert_eq!(outcome(&ahead, 7, 1), Err(Ended::ProtocolMismatch));
        let mut behind = hello(ConnectionRole::Client, 7, 0, 1);
        (behind.protocol_min, behind.protocol_max) = (0, PROTOCOL_MIN - 1);
        assert_eq!(outcome(&behind, 7, 1), Err(Ended::ProtocolMismatch));
    }
}
