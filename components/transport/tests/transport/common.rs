//! A service that hands everything to the test, and a peer that speaks in raw frames.

use bytes::{Bytes, BytesMut};
use codec::frame::{Frame, FrameHead, put_frame, take_frame};
use codec::{Decode, Encode};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use transport::{
    ConnectionId, Counters, Identity, Receipt, Request, RequestBody, Server, Service, Settings, Stream,
    Target, listen,
};
use types::{ClusterId, Epoch, RegionId, StoreId};
use wire::FrameKind;
use wire::hello::{Close, ConnectionRole, Hello, PROTOCOL_MAX, PROTOCOL_MIN};
use wire::kv::{KvCommand, KvReply, KvRequest, KvResponse};
use wire::store::{SnapshotKey, SnapshotPiece, StoreBatch};

pub(crate) const CLUSTER: ClusterId = ClusterId(7);
pub(crate) const SERVER: Identity = Identity { cluster_id: CLUSTER, store_id: StoreId(1) };
pub(crate) const CLIENT: Identity = Identity { cluster_id: CLUSTER, store_id: StoreId(0) };
pub(crate) const STORE_2: Identity = Identity { cluster_id: CLUSTER, store_id: StoreId(2) };

#[derive(Debug)]
pub(crate) enum Event {
    Request(Request),
    Batch(StoreBatch),
    Piece(SnapshotPiece, Receipt),
    Lost(SnapshotKey),
    Cancelled(u64),
    Disconnected,
}

pub(crate) struct Probe {
    events: UnboundedSender<Event>,
}

impl Probe {
    // The test may be over, and then nobody listens.
    fn tell(&self, event: Event) {
        if let Err(unheard) = self.events.send(event)
            && let Event::Request(request) = unheard.0
        {
            request.responder.discard();
        }
    }
}

impl Service for Probe {
    fn identity(&self) -> Identity {
        SERVER
    }

    fn requests(&self, batch: &mut Vec<Request>) {
        batch.drain(..).for_each(|request| self.tell(Event::Request(request)));
    }

    fn store_batches(&self, batches: &mut Vec<StoreBatch>) {
        batches.drain(..).for_each(|batch| self.tell(Event::Batch(batch)));
    }

    fn snapshot_piece(&self, piece: SnapshotPiece, receipt: Receipt) {
        self.tell(Event::Piece(piece, receipt));
    }

    fn snapshot_lost(&self, key: SnapshotKey) {
        self.tell(Event::Lost(key));
    }

    fn cancelled(&self, _connection: ConnectionId, request_id: u64) {
        self.tell(Event::Cancelled(request_id));
    }

    fn disconnected(&self, _connection: ConnectionId) {
        self.tell(Event::Disconnected);
    }
}

/// A server of [`Probe`].
pub(crate) struct Fixture {
    pub(crate) server: Server<Probe>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) events: UnboundedReceiver<Event>,
}

impl Fixture {
    pub(crate) fn new(settings: Settings) -> Self {
        let counters = Arc::new(Counters::default());
        let (sender, events) = unbounded_channel();
        let server = Server::new(Arc::new(Probe { events: sender }), settings, Arc::clone(&counters));
        Self { server, counters, events }
    }

    /// Listens on a loopback socket, at a port of the system's choice.
    pub(crate) fn listening(settings: Settings) -> (Self, Target) {
        let fixture = Self::new(settings);
        let target = fixture.listen("127.0.0.1:0");
        (fixture, target)
    }

    pub(crate) fn listen(&self, address: &str) -> Target {
        let listener = listen(address.parse().unwrap()).unwrap();
        let target = Target::store(SERVER.store_id, listener.local_addr().unwrap().to_string());
        self.server.accept(listener);
        target
    }

    pub(crate) async fn event(&mut self) -> Event {
        self.events.recv().await.expect("the server lives")
    }

    pub(crate) async fn request(&mut self) -> Request {
        match self.event().await {
            Event::Request(request) => request,
            other => panic!("a request was expected, not {other:?}"),
        }
    }

    pub(crate) async fn batch(&mut self) -> StoreBatch {
        match self.event().await {
            Event::Batch(batch) => batch,
            other => panic!("a batch was expected, not {other:?}"),
        }
    }

    pub(crate) async fn piece(&mut self) -> (SnapshotPiece, Receipt) {
        match self.event().await {
            Event::Piece(piece, receipt) => (piece, receipt),
            other => panic!("a piece was expected, not {other:?}"),
        }
    }
}

/// Lets other tasks run until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..5_000_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("this never came: {what}");
}

pub(crate) fn get(key: impl Into<Bytes>) -> KvRequest {
    KvRequest {
        region_id: RegionId(3),
        epoch: Epoch { conf_ver: 1, version: 1 },
        command: KvCommand::Get { key: key.into() },
    }
}

/// The key that a request made by [`get`] asks for.
pub(crate) fn key_of(request: &Request) -> Bytes {
    match &request.body {
        RequestBody::Kv(KvRequest { command: KvCommand::Get { key }, .. }) => key.clone(),
        other => panic!("a get was expected, not {other:?}"),
    }
}

pub(crate) fn value(value: impl Into<Bytes>) -> KvResponse {
    KvResponse::Ok(KvReply::Value(Some(value.into())))
}

/// Answers a get with its own key.
pub(crate) fn echo(request: Request) {
    let key = key_of(&request);
    request.responder.respond_kv(&value(key));
}

pub(crate) fn frame(kind: FrameKind, request_id: u64, message: &impl Encode) -> BytesMut {
    let mut out = BytesMut::new();
    let head = FrameHead { kind: kind as u8, request_id, ..FrameHead::default() };
    put_frame(&mut out, head, &[], |out| message.encode(out));
    out
}

pub(crate) fn hello(role: ConnectionRole) -> Hello {
    Hello {
        cluster_id: CLUSTER,
        role,
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        store_id: if role == ConnectionRole::Client { StoreId(0) } else { STORE_2.store_id },
        to_store_id: SERVER.store_id,
    }
}

/// One end of a connection, spoken by hand.
pub(crate) struct Raw<S> {
    pub(crate) stream: S,
    input: BytesMut,
}

impl<S: Stream> Raw<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<(FrameKind, Frame)> {
        loop {
            if let Some(frame) = take_frame(&mut self.input, types::FRAME_SIZE_MAX).unwrap() {
                return Some((FrameKind::from_number(frame.head.kind).unwrap(), frame));
            }
            if !matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Greets as the side that connects.
    pub(crate) async fn greet(&mut self, role: ConnectionRole) {
        self.send(&frame(FrameKind::Hello, 0, &hello(role))).await;
        let (kind, _) = self.next().await.unwrap();
        assert_eq!(kind, FrameKind::HelloAck);
    }

    /// Answers a greeting as the side that listens.
    pub(crate) async fn welcome(&mut self) {
        let (kind, _) = self.next().await.unwrap();
        assert_eq!(kind, FrameKind::Hello);
        let ack =
            wire::hello::HelloAck { cluster_id: CLUSTER, protocol: PROTOCOL_MAX, store_id: SERVER.store_id };
        self.send(&frame(FrameKind::HelloAck, 0, &ack)).await;
    }

    /// The reason with which the other side closes; frames before it are passed over.
    pub(crate) async fn close_reason(&mut self) -> Close {
        loop {
            let (kind, frame) = self.next().await.expect("a reason comes before the end");
            if kind == FrameKind::Close {
                return Close::from_bytes(&frame.payload).unwrap();
            }
        }
    }
}
