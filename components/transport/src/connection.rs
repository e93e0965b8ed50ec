//! A connection to a server, shared by all who ask over it.

use crate::drive::{Bad, Driver, End, Handler, decode};
use crate::greeting::{Identity, Target, dial, greet};
use crate::outgoing::{Outgoing, Refused};
use crate::pending::{Answer, Pending};
use crate::{BadFrame, CallError, ConnectError, Counters, Settings, Stream};
use bytes::{Bytes, BytesMut};
use codec::frame::{Frame, FrameHead};
use codec::{Decode as _, Encode};
use parking_lot::Mutex;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;
use wire::FrameKind;
use wire::hello::{Close, ConnectionRole, HelloAck};
use wire::kv::{KvRequest, KvResponse};
use wire::pd::{PdRequest, PdResponse};
use wire::trace::Trace;

/// How a call is made. A duration alone is a timeout without a trace.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// After this the caller has [`CallError::Timeout`], and the other side knows that it will.
    pub timeout: Duration,
    /// The caller's trace context, up to 64 KiB; empty for none.
    pub trace: Bytes,
}

impl From<Duration> for CallOptions {
    fn from(timeout: Duration) -> Self {
        Self { timeout, trace: Bytes::new() }
    }
}

/// A connection on which any number of requests are under way at once. Clones share it; the last one to go closes it.
///
/// It ends once and for all: a [`Channel`](crate::Channel) makes new ones.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    outgoing: Arc<Outgoing>,
    pending: Arc<Mutex<Pending>>,
    ack: HelloAck,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.outgoing.finish();
    }
}

impl Connection {
    /// Connects over TCP and greets.
    ///
    /// # Errors
    /// Any [`ConnectError`].
    pub async fn connect(
        target: &Target,
        identity: Identity,
        settings: &Settings,
        counters: &Arc<Counters>,
    ) -> Result<Self, ConnectError> {
        let connected = async {
            let stream = dial(&target.address, settings).await?;
            Self::over(stream, target.store_id, identity, settings, counters).await
        };
        connected.await.inspect_err(|_| counters.connect_failed())
    }

    /// Greets over a stream that is connected already. The connection's task runs on the current runtime.
    ///
    /// # Errors
    /// Any [`ConnectError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn over<S: Stream>(
        mut stream: S,
        to_store_id: types::StoreId,
        identity: Identity,
        settings: &Settings,
        counters: &Arc<Counters>,
    ) -> Result<Self, ConnectError> {
        let mut input = BytesMut::new();
        let role = ConnectionRole::Client;
        let ack = greet(&mut stream, &mut input, identity, role, to_store_id, settings).await?;
        let outgoing = Arc::new(Outgoing::new(0, settings, Arc::clone(counters)));
        let pending = Arc::new(Mutex::new(Pending::new(settings.calls_max)));
        let handler = Answers {
            outgoing: Arc::clone(&outgoing),
            pending: Arc::clone(&pending),
            arrived: Vec::new(),
            wakers: Vec::new(),
        };
        let driver = Driver::new(stream, input, Arc::clone(&outgoing), settings);
        tokio::spawn(attend(driver, handler, Arc::clone(counters)));
        Ok(Self { shared: Arc::new(Shared { outgoing, pending, ack }) })
    }

    /// What the other side said to our greeting.
    #[must_use]
    pub fn greeting(&self) -> &HelloAck {
        &self.shared.ack
    }

    /// True while calls are taken: not lost, and the other side not about to stop.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.pending.lock().is_open()
    }

    /// Asks a store. The request is on its way when this returns; the answer is awaited. Dropping the call cancels it.
    pub fn kv(&self, request: &KvRequest, options: impl Into<CallOptions>) -> Call<KvResponse> {
        self.call(FrameKind::KvRequest, 0, FrameKind::KvResponse, request, options.into())
    }

    /// Asks a store, likewise, and where the time of the request went. A store that does not tell says nothing.
    pub fn kv_traced(
        &self,
        request: &KvRequest,
        options: impl Into<CallOptions>,
    ) -> Call<(KvResponse, Option<Trace>)> {
        let flags = wire::trace::FLAG;
        self.call(FrameKind::KvRequest, flags, FrameKind::KvResponse, request, options.into())
    }

    /// Asks the placement driver, likewise.
    pub fn pd(&self, request: &PdRequest, options: impl Into<CallOptions>) -> Call<PdResponse> {
        self.call(FrameKind::PdRequest, 0, FrameKind::PdResponse, request, options.into())
    }

    /// Takes no more calls, and closes once those under way are answered.
    pub fn close(&self) {
        let mut pending = self.shared.pending.lock();
        pending.close(CallError::ConnectionLost { sent: false });
        if pending.is_idle() {
            self.shared.outgoing.finish();
        }
    }

    fn call<T>(
        &self,
        kind: FrameKind,
        flags: u8,
        asked: FrameKind,
        request: &impl Encode,
        options: CallOptions,
    ) -> Call<T> {
        let outgoing = &self.shared.outgoing;
        let deadline_ms = u32::try_from(options.timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let deadline = Instant::now() + options.timeout;
        let begun = self.shared.pending.lock().begin(asked, deadline, |request_id| {
            let head = FrameHead { kind: kind as u8, flags, request_id, deadline_ms };
            outgoing.push(head, &options.trace, |out| request.encode(out)).map_err(|refused| match refused {
                Refused::Closed => CallError::ConnectionLost { sent: false },
                Refused::Full => CallError::TooBusy,
                Refused::TooLarge { size } => CallError::TooLarge { size, max: outgoing.frame_size_max() },
            })
        });
        let state = match begun {
            Ok((id, sooner)) => {
                if sooner {
                    outgoing.nudge();
                }
                CallState::Waiting { connection: self.clone(), id }
            }
            Err(error) => CallState::Refused(error),
        };
        Call { state, answer: PhantomData }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("greeting", &self.shared.ack)
            .field("open", &self.is_open())
            .finish()
    }
}

/// A request under way; awaited, it gives the answer. Dropping it cancels the request.
#[must_use = "dropping a call cancels it"]
#[derive(Debug)]
pub struct Call<T> {
    state: CallState,
    answer: PhantomData<fn() -> T>,
}

#[derive(Debug)]
enum CallState {
    Waiting { connection: Connection, id: u64 },
    Refused(CallError),
    Ended,
}

/// What a call may answer: [`KvResponse`], with a trace or without, or [`PdResponse`].
pub(crate) trait FromAnswer {
    /// The answer, which the connection's task has checked to be of this kind.
    fn from_answer(answer: Answer) -> Self;
}

impl FromAnswer for KvResponse {
    fn from_answer(answer: Answer) -> Self {
        match answer {
            Answer::Kv(response, _) => response,
            Answer::Pd(_) => unreachable!("answers are checked against what was asked"),
        }
    }
}

impl FromAnswer for (KvResponse, Option<Trace>) {
    fn from_answer(answer: Answer) -> Self {
        match answer {
            Answer::Kv(response, trace) => (response, trace.map(|trace| *trace)),
            Answer::Pd(_) => unreachable!("answers are checked against what was asked"),
        }
    }
}

impl FromAnswer for PdResponse {
    fn from_answer(answer: Answer) -> Self {
        match answer {
            Answer::Pd(response) => response,
            Answer::Kv(..) => unreachable!("answers are checked against what was asked"),
        }
    }
}

impl<T: FromAnswer> Future for Call<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &self.state {
            CallState::Waiting { connection, id } => {
                let Poll::Ready(result) = connection.shared.pending.lock().poll(*id, context) else {
                    return Poll::Pending;
                };
                result
            }
            CallState::Refused(error) => Err(error.clone()),
            CallState::Ended => panic!("a call was polled after its result"),
        };
        self.state = CallState::Ended;
        Poll::Ready(result.map(T::from_answer))
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        let CallState::Waiting { connection, id } = &self.state else { return };
        let mut pending = connection.shared.pending.lock();
        if pending.abandon(*id) {
            cancel(&connection.shared.outgoing, *id);
            finish_if_done(&pending, &connection.shared.outgoing);
        }
    }
}

fn cancel(outgoing: &Outgoing, request_id: u64) {
    let head = FrameHead { kind: FrameKind::Cancel as u8, request_id, ..FrameHead::default() };
    // Refused when the connection is over or full; then the answer is thrown away when it comes.
    let _ = outgoing.push(head, &[], |_| {});
}

fn finish_if_done(pending: &Pending, outgoing: &Outgoing) {
    if !pending.is_open() && pending.is_idle() {
        outgoing.finish();
    }
}

/// Where the time of an answer went. One that cannot be read (a newer store knows more stages) is as good as none.
fn trace_of(frame: &Frame) -> Option<Box<Trace>> {
    if frame.head.flags & wire::trace::FLAG == 0 {
        return None;
    }
    Trace::from_bytes(&frame.trace).ok().map(Box::new)
}

/// The connection's task.
async fn attend<S: Stream>(mut driver: Driver<S>, mut handler: Answers, counters: Arc<Counters>) {
    counters.opened();
    let end = driver.run(&mut handler).await;
    if let End::Bad(bad) = &end {
        counters.bad_frame(bad.what);
    }
    counters.closed(end.ended());
    // No call is taken from here on, but what was sent is known only after the farewell.
    handler.pending.lock().close(CallError::ConnectionLost { sent: false });
    let (written, _) = driver.farewell(&end).await;
    handler.lose(written);
}

/// What arrives at a client: answers.
struct Answers {
    outgoing: Arc<Outgoing>,
    pending: Arc<Mutex<Pending>>,
    arrived: Vec<(u64, Answer)>,
    wakers: Vec<Waker>,
}

impl Answers {
    fn lose(&mut self, written: u64) {
        self.pending.lock().lose(written, &mut self.wakers);
        self.wake();
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Answers {
    /// Also when the runtime goes away under the task.
    fn drop(&mut self) {
        // Nobody can tell any more what was written, so all counts as sent.
        self.outgoing.end(0);
        self.lose(u64::MAX);
    }
}

impl Handler for Answers {
    fn frame(&mut self, kind: FrameKind, frame: Frame) -> Result<(), Bad> {
        let answer = match kind {
            FrameKind::KvResponse => Answer::Kv(decode(kind, &frame)?, trace_of(&frame)),
            FrameKind::PdResponse => Answer::Pd(decode(kind, &frame)?),
            _ => return Err(Bad::out_of_place(kind)),
        };
        let request_id = frame.head.request_id;
        if self.pending.lock().asked(request_id).is_some_and(|asked| asked != kind) {
            return Err(Bad::new(BadFrame::OutOfPlace, format!("{kind:?} does not answer what was asked")));
        }
        self.arrived.push((request_id, answer));
        Ok(())
    }

    fn flush(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let mut pending = self.pending.lock();
        for (id, answer) in self.arrived.drain(..) {
            // Answers to calls that were cancelled or have timed out find nobody.
            self.wakers.extend(pending.complete(id, Ok(answer)));
        }
        finish_if_done(&pending, &self.outgoing);
        drop(pending);
        self.wake();
    }

    fn closing(&mut self, close: &Close) -> bool {
        let mut pending = self.pending.lock();
        pending.close(CallError::NotConnected(ConnectError::Refused(close.clone())));
        // A server that stops answers what it was asked; we ask no more, and close when all is answered.
        let stays = *close == Close::ShuttingDown;
        if stays {
            finish_if_done(&pending, &self.outgoing);
        }
        stays
    }

    fn due(&self) -> Option<Instant> {
        self.pending.lock().earliest()
    }

    fn expire(&mut self, now: Instant) {
        let mut expired = Vec::new();
        let mut pending = self.pending.lock();
        pending.expire(now, &mut self.wakers, &mut expired);
        for id in expired {
            cancel(&self.outgoing, id);
        }
        finish_if_done(&pending, &self.outgoing);
        drop(pending);
        self.wake();
    }
}
