//! What a process offers to those who connect, and how it answers.

use crate::Identity;
use crate::outgoing::{Outgoing, Refused};
use bytes::Bytes;
use codec::Encode as _;
use codec::frame::FrameHead;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use wire::FrameKind;
use wire::kv::{KvError, KvRequest, KvResponse};
use wire::pd::{PdError, PdRequest, PdResponse};
use wire::store::{SnapshotKey, SnapshotPiece, SnapshotVerdict, StoreBatch};
use wire::trace::Trace;

/// When to ask the placement driver again after it has lost a request, in milliseconds.
const PD_BACKOFF_MS: u32 = 100;

/// One connection of a server, for as long as the server lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// What a process offers. All calls come from the connections' tasks and must not wait: they hand over.
pub trait Service: Send + Sync + 'static {
    /// Who we are; asked at each greeting.
    fn identity(&self) -> Identity;

    /// All requests of one read, in order; to be drained. Each gets exactly one answer, from any thread, at any time.
    fn requests(&self, batch: &mut Vec<Request>);

    /// All batches of one read, in order, of a store of our cluster; to be drained. They may be dropped.
    fn store_batches(&self, batches: &mut Vec<StoreBatch>);

    /// The next piece of a snapshot, in order: a start, chunks, an end; another start abandons what was before. While
    /// `receipt` is kept the piece counts as in flight, which holds the sender back. Start and end want a verdict; a
    /// refusal may be given at any time, and no more pieces of that transfer follow it.
    fn snapshot_piece(&self, piece: SnapshotPiece, receipt: Receipt);

    /// No more pieces of this transfer will come, and its end has not: the connection is over, or another start came.
    fn snapshot_lost(&self, key: SnapshotKey);

    /// The asker lost interest. Whether the request is answered all the same makes no difference to it.
    fn cancelled(&self, _connection: ConnectionId, _request_id: u64) {}

    /// The connection is over; answers to its requests go nowhere.
    fn disconnected(&self, _connection: ConnectionId) {}
}

/// A request and how to answer it.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub body: RequestBody,
    /// The trace context of the caller; empty for none.
    pub trace: Bytes,
    /// Whether the asker wants to know where the time goes; see [`Responder::respond_traced`].
    pub timed: bool,
    /// How long the asker waits from now on, if it said so.
    pub time_left: Option<Duration>,
    /// How to answer.
    pub responder: Responder,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestBody {
    /// Of a store.
    Kv(KvRequest),
    /// Of the placement driver.
    Pd(PdRequest),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Kv,
    Pd,
}

/// Answers one request, exactly once.
///
/// Dropping it unanswered while the connection is open is a defect: debug builds panic, release builds count it and
/// answer that the result is undetermined.
pub struct Responder {
    outgoing: Arc<Outgoing>,
    request_id: u64,
    /// Bytes that are in flight until the answer.
    size: usize,
    asked: Asked,
    answered: bool,
}

impl Responder {
    pub(crate) fn new(outgoing: Arc<Outgoing>, request_id: u64, size: usize, asked: Asked) -> Self {
        Self { outgoing, request_id, size, asked, answered: false }
    }

    /// The connection that the request came over.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        ConnectionId(self.outgoing.id())
    }

    /// The id under which the request may be cancelled; unique among the requests in flight on its connection.
    #[must_use]
    pub fn request_id(&self) -> u64 {
        self.request_id
    }

    /// False once the connection is over, so that the work can be saved.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.outgoing.is_open()
    }

    /// Answers a [`RequestBody::Kv`]. Encodes in place and does not wait. An answer that exceeds the largest frame is
    /// replaced by [`KvError::InvalidRequest`], which says so.
    ///
    /// # Panics
    /// When the request was not a `Kv`.
    pub fn respond_kv(mut self, response: &KvResponse) {
        assert_eq!(self.asked, Asked::Kv, "the answer must be of the kind of the request");
        self.kv(response);
    }

    /// Answers a [`RequestBody::Kv`] that is [timed](Request::timed), and tells where its time went; of an answer that
    /// exceeds the largest frame with it, nothing is told.
    ///
    /// # Panics
    /// When the request was not a `Kv`.
    pub fn respond_traced(mut self, response: &KvResponse, trace: &Trace) {
        assert_eq!(self.asked, Asked::Kv, "the answer must be of the kind of the request");
        let (kind, flags) = (FrameKind::KvResponse as u8, wire::trace::FLAG);
        let head = FrameHead { kind, flags, request_id: self.request_id, ..FrameHead::default() };
        match self.outgoing.answer_with(head, &trace.to_bytes(), self.size, response) {
            Err(Refused::TooLarge { .. }) => self.kv(response),
            Ok(()) | Err(Refused::Closed | Refused::Full) => self.answered = true,
        }
    }

    /// Answers a [`RequestBody::Pd`], likewise.
    ///
    /// # Panics
    /// When the request was not a `Pd`.
    pub fn respond_pd(mut self, response: &PdResponse) {
        assert_eq!(self.asked, Asked::Pd, "the answer must be of the kind of the request");
        self.pd(response);
    }

    /// Leaves a request unanswered that was cancelled by its asker.
    pub fn discard(mut self) {
        self.answered = true;
        self.outgoing.release(self.size);
    }

    fn kv(&mut self, response: &KvResponse) {
        self.answered = true;
        let sent = self.outgoing.answer(FrameKind::KvResponse, self.request_id, self.size, response);
        if let Err(Refused::TooLarge { size }) = sent {
            let error = KvError::InvalidRequest { message: too_large(size, self.outgoing.frame_size_max()) };
            let _ = self.outgoing.answer(
                FrameKind::KvResponse,
                self.request_id,
                self.size,
                &KvResponse::Err(error),
            );
        }
    }

    fn pd(&mut self, response: &PdResponse) {
        self.answered = true;
        let sent = self.outgoing.answer(FrameKind::PdResponse, self.request_id, self.size, response);
        if let Err(Refused::TooLarge { size }) = sent {
            let error = PdError::InvalidRequest { message: too_large(size, self.outgoing.frame_size_max()) };
            let _ = self.outgoing.answer(
                FrameKind::PdResponse,
                self.request_id,
                self.size,
                &PdResponse::Err(error),
            );
        }
    }
}

fn too_large(size: usize, max: usize) -> String {
    format!("the answer takes {size} bytes and the largest frame {max}: ask for less at once")
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        if !self.outgoing.is_open() {
            self.outgoing.release(self.size);
            return;
        }
        self.outgoing.counters().unanswered();
        match self.asked {
            Asked::Kv => self.kv(&KvResponse::Err(KvError::UndeterminedResult)),
            // All that can be asked of the placement driver can be asked again.
            Asked::Pd => self.pd(&PdResponse::Err(PdError::ServerIsBusy { backoff_ms: PD_BACKOFF_MS })),
        }
        debug_assert!(
            std::thread::panicking(),
            "request {} of connection {} was dropped without an answer",
            self.request_id,
            self.outgoing.id()
        );
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responder({}/{})", self.outgoing.id(), self.request_id)
    }
}

/// Stands for one piece of a snapshot that was received and not stored yet; dropping it makes room for the next.
#[derive(Debug)]
pub struct Receipt {
    outgoing: Arc<Outgoing>,
    key: SnapshotKey,
    size: usize,
    transfer: Arc<crate::inbound::Transfer>,
}

impl Receipt {
    pub(crate) fn new(
        outgoing: Arc<Outgoing>,
        key: SnapshotKey,
        size: usize,
        transfer: Arc<crate::inbound::Transfer>,
    ) -> Self {
        Self { outgoing, key, size, transfer }
    }

    /// The transfer that the piece belongs to.
    #[must_use]
    pub fn key(&self) -> SnapshotKey {
        self.key
    }

    /// Go on; or, for the end: all is there.
    pub fn accept(self) {
        let _ = self.outgoing.say(FrameKind::SnapshotVerdict, 0, &SnapshotVerdict::Accepted(self.key));
    }

    /// No more of this transfer: the sender is told why, and pieces that are on their way are not handed over.
    pub fn refuse(self, reason: impl Into<String>) {
        self.transfer.refuse();
        let verdict = SnapshotVerdict::Refused { key: self.key, reason: reason.into() };
        let _ = self.outgoing.say(FrameKind::SnapshotVerdict, 0, &verdict);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.outgoing.release(self.size);
    }
}
