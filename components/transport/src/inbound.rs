//! What arrives at a server: checked against the role of the connection, gathered, handed over.

use crate::drive::{Bad, Handler, decode};
use crate::outgoing::Outgoing;
use crate::service::Asked;
use crate::{BadFrame, ConnectionId, Receipt, Request, RequestBody, Responder, Service};
use codec::frame::{Frame, HEAD_SIZE};
use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wire::FrameKind;
use wire::hello::{ConnectionRole, Hello};
use wire::store::{SnapshotKey, SnapshotPiece, StoreBatch};

/// What a request in flight weighs beyond its frame, so that a flood of tiny ones is bounded too.
const REQUEST_OVERHEAD: usize = HEAD_SIZE + size_of::<Request>();

/// One snapshot on its way here.
#[derive(Debug)]
pub(crate) struct Transfer {
    key: SnapshotKey,
    refused: AtomicBool,
}

impl Transfer {
    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }
}

/// See the head of this file.
pub(crate) struct Inbound<V: Service> {
    service: Arc<V>,
    outgoing: Arc<Outgoing>,
    hello: Hello,
    requests: Vec<Request>,
    /// Bytes of `requests` that are not counted as in flight yet.
    requests_size: usize,
    cancelled: Vec<u64>,
    batches: Vec<StoreBatch>,
    pieces: Vec<(SnapshotPiece, Receipt)>,
    /// The snapshot whose end has not come yet.
    transfer: Option<Arc<Transfer>>,
    /// Another start came before the end of these.
    abandoned: Vec<SnapshotKey>,
}

impl<V: Service> Inbound<V> {
    pub(crate) fn new(service: Arc<V>, outgoing: Arc<Outgoing>, hello: Hello) -> Self {
        Self {
            service,
            outgoing,
            hello,
            requests: Vec::new(),
            requests_size: 0,
            cancelled: Vec::new(),
            batches: Vec::new(),
            pieces: Vec::new(),
            transfer: None,
            abandoned: Vec::new(),
        }
    }

    fn request(&mut self, body: RequestBody, frame: Frame) {
        let size = REQUEST_OVERHEAD + frame.payload.len() + frame.trace.len();
        let asked = match body {
            RequestBody::Kv(_) => Asked::Kv,
            RequestBody::Pd(_) => Asked::Pd,
        };
        self.requests_size += size;
        let responder = Responder::new(Arc::clone(&self.outgoing), frame.head.request_id, size, asked);
        let time_left = match frame.head.deadline_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms.into())),
        };
        let timed = asked == Asked::Kv && frame.head.flags & wire::trace::FLAG != 0;
        self.requests.push(Request { body, trace: frame.trace, timed, time_left, responder });
    }

    fn store_batch(&mut self, batch: StoreBatch) -> Result<(), Bad> {
        if batch.from_store != self.hello.store_id {
            let reason = format!("a batch of store {} from store {}", batch.from_store, self.hello.store_id);
            return Err(Bad::new(BadFrame::OutOfPlace, reason));
        }
        self.batches.push(batch);
        Ok(())
    }

    fn snapshot_piece(&mut self, piece: SnapshotPiece, size: usize) -> Result<(), Bad> {
        let (key, is_end) = match &piece {
            SnapshotPiece::Start { key, .. } => {
                let transfer = Transfer { key: *key, refused: AtomicBool::new(false) };
                let before = self.transfer.replace(Arc::new(transfer));
                self.abandoned.extend(before.filter(|before| !before.is_refused()).map(|before| before.key));
                (*key, false)
            }
            SnapshotPiece::Chunk { key, .. } => (*key, false),
            SnapshotPiece::End { key, .. } => (*key, true),
        };
        let Some(transfer) = self.transfer.clone().filter(|transfer| transfer.key == key) else {
            return Err(Bad::new(
                BadFrame::OutOfPlace,
                format!("a piece of a snapshot without its start: {key:?}"),
            ));
        };
        if is_end {
            self.transfer = None;
        }
        if transfer.is_refused() {
            // On its way before the sender read the refusal.
            return Ok(());
        }
        self.outgoing.admit(size);
        self.pieces.push((piece, Receipt::new(Arc::clone(&self.outgoing), key, size, transfer)));
        Ok(())
    }
}

impl<V: Service> Handler for Inbound<V> {
    fn frame(&mut self, kind: FrameKind, frame: Frame) -> Result<(), Bad> {
        match (self.hello.role, kind) {
            (ConnectionRole::Client, FrameKind::KvRequest) => {
                let body = RequestBody::Kv(decode(kind, &frame)?);
                self.request(body, frame);
            }
            (ConnectionRole::Client, FrameKind::PdRequest) => {
                let body = RequestBody::Pd(decode(kind, &frame)?);
                self.request(body, frame);
            }
            (ConnectionRole::Client, FrameKind::Cancel) => self.cancelled.push(frame.head.request_id),
            (ConnectionRole::Store, FrameKind::StoreBatch) => self.store_batch(decode(kind, &frame)?)?,
            (ConnectionRole::Snapshot, FrameKind::SnapshotPiece) => {
                let size = HEAD_SIZE + frame.payload.len();
                self.snapshot_piece(decode(kind, &frame)?, size)?;
                // One at a time: an abandoned transfer is told before the pieces of the next.
                self.flush();
            }
            (_, kind) => return Err(Bad::out_of_place(kind)),
        }
        Ok(())
    }

    fn flush(&mut self) {
        if !self.requests.is_empty() {
            self.outgoing.admit(std::mem::take(&mut self.requests_size));
            self.service.requests(&mut self.requests);
            assert!(self.requests.is_empty(), "the service left {} requests behind", self.requests.len());
        }
        for request_id in self.cancelled.drain(..) {
            self.service.cancelled(ConnectionId(self.outgoing.id()), request_id);
        }
        if !self.batches.is_empty() {
            self.service.store_batches(&mut self.batches);
            self.batches.clear();
        }
        for key in self.abandoned.drain(..) {
            self.service.snapshot_lost(key);
        }
        for (piece, receipt) in self.pieces.drain(..) {
            self.service.snapshot_piece(piece, receipt);
        }
    }
}

impl<V: Service> Drop for Inbound<V> {
    fn drop(&mut self) {
        if let Some(transfer) = self.transfer.take().filter(|transfer| !transfer.is_refused()) {
            self.service.snapshot_lost(transfer.key);
        }
        self.service.disconnected(ConnectionId(self.outgoing.id()));
    }
}
