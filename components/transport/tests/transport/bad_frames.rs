//! Whatever arrives that is no frame of ours, or not in its place: the connection is closed with a reason, and counted.

use crate::common::{Fixture, Raw, frame, get, until};
use bytes::{BufMut as _, BytesMut};
use codec::frame::{FrameHead, put_frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use transport::{BadFrame, Ended, Settings};
use types::StoreId;
use wire::FrameKind;
use wire::hello::{Close, ConnectionRole};
use wire::store::{DiskState, SnapshotKey, SnapshotPiece, StoreBatch};

fn raw_frame(kind: u8, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    put_frame(&mut out, FrameHead { kind, ..FrameHead::default() }, &[], |out| out.put_slice(payload));
    out
}

fn flipped(mut frame: BytesMut, at: usize) -> BytesMut {
    frame[at] ^= 1;
    frame
}

#[tokio::test]
async fn bad_frames_close_the_connection_with_a_reason_and_are_counted() {
    use ConnectionRole::{Client, Snapshot, Store};
    let settings = Settings { frame_size_max: 64 << 10, ..Settings::default() };
    let good = frame(FrameKind::KvRequest, 1, &get("k"));
    let foreign = StoreBatch { from_store: StoreId(5), disk: DiskState::Ok, messages: Vec::new() };
    let headless = SnapshotPiece::End { key: SnapshotKey::default(), pairs: 0, checksum: 0 };
    let cases = [
        (
            Client,
            BytesMut::from(&b"GET / HTTP/1.1\r\nHost: someone else\r\n\r\n"[..]),
            BadFrame::HeadChecksum,
        ),
        (Client, flipped(good.clone(), 0), BadFrame::HeadChecksum),
        (Client, flipped(good.clone(), good.len() - 1), BadFrame::BodyChecksum),
        (Client, frame(FrameKind::KvRequest, 1, &get(vec![0; 64 << 10])), BadFrame::TooLarge),
        (Client, raw_frame(200, b"?"), BadFrame::UnknownKind),
        (Client, raw_frame(FrameKind::KvRequest as u8, b"nonsense"), BadFrame::Undecodable),
        (Client, raw_frame(FrameKind::KvResponse as u8, b""), BadFrame::OutOfPlace),
        (Client, frame(FrameKind::StoreBatch, 0, &foreign), BadFrame::OutOfPlace),
        (Client, raw_frame(FrameKind::Hello as u8, b""), BadFrame::OutOfPlace),
        (Store, good.clone(), BadFrame::OutOfPlace),
        (Store, frame(FrameKind::StoreBatch, 0, &foreign), BadFrame::OutOfPlace),
        (Snapshot, frame(FrameKind::SnapshotPiece, 0, &headless), BadFrame::OutOfPlace),
    ];
    for (role, bytes, expected) in cases {
        let (fixture, target) = Fixture::listening(settings.clone());
        let mut raw = Raw::new(TcpStream::connect(&target.address).await.unwrap());
        raw.greet(role).await;
        raw.send(&bytes).await;
        let reason = raw.close_reason().await;
        assert!(matches!(&reason, Close::BadFrame { .. }), "{reason:?} for {expected}");
        assert!(raw.next().await.is_none(), "nothing follows the reason");
        drop(raw);
        until("the connection is over", || fixture.counters.connections_open() == 0).await;
        for what in BadFrame::ALL {
            let count = u64::from(*what == expected);
            assert_eq!(fixture.counters.bad_frames(*what), count, "{what} where {expected} was expected");
        }
        assert_eq!(fixture.counters.ended(Ended::BadFrame), 1);
    }
}

#[tokio::test]
async fn requests_before_a_bad_frame_are_handed_over() {
    let (mut fixture, target) = Fixture::listening(Settings::default());
    let mut raw = Raw::new(TcpStream::connect(&target.address).await.unwrap());
    raw.greet(ConnectionRole::Client).await;
    let mut bytes = frame(FrameKind::KvRequest, 1, &get("k"));
    bytes.extend_from_slice(&raw_frame(200, b"?"));
    raw.send(&bytes).await;
    let request = fixture.request().await;
    assert!(matches!(raw.close_reason().await, Close::BadFrame { .. }));
    request.responder.discard();
}

#[tokio::test]
async fn a_connection_that_ends_within_a_frame_is_told_and_counted() {
    let (fixture, target) = Fixture::listening(Settings::default());
    let mut raw = Raw::new(TcpStream::connect(&target.address).await.unwrap());
    raw.greet(ConnectionRole::Client).await;
    let good = frame(FrameKind::KvRequest, 1, &get("k"));
    raw.send(&good[..good.len() - 1]).await;
    raw.stream.shutdown().await.unwrap();
    assert!(matches!(raw.close_reason().await, Close::BadFrame { .. }));
    until("the connection is over", || fixture.counters.connections_open() == 0).await;
    assert_eq!(fixture.counters.bad_frames(BadFrame::Truncated), 1);
}

#[tokio::test]
async fn whoever_does_not_greet_is_turned_down() {
    let (fixture, target) = Fixture::listening(Settings::default());
    for bytes in [raw_frame(FrameKind::Ping as u8, b""), BytesMut::from(&[0x16; 300][..])] {
        let mut raw = Raw::new(TcpStream::connect(&target.address).await.unwrap());
        raw.send(&bytes).await;
        assert!(matches!(raw.close_reason().await, Close::BadFrame { .. }));
        assert!(raw.next().await.is_none());
    }
    until("the connections are over", || fixture.counters.connections_open() == 0).await;
    assert_eq!(fixture.counters.bad_frames(BadFrame::OutOfPlace), 1);
    assert_eq!(fixture.counters.bad_frames(BadFrame::HeadChecksum), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_is_dropped_after_a_while() {
    let fixture = Fixture::new(Settings::default());
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    fixture.server.attach(theirs);
    assert!(Raw::new(ours).next().await.is_none());
    assert_eq!(fixture.counters.ended(Ended::GreetingTimeout), 1);
}
