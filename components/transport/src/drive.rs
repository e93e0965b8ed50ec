//! The task of one connection: reads, hands over, writes, and asks a silent peer whether it is there.

use crate::outgoing::{Outgoing, Phase};
use crate::{BadFrame, Ended, Settings, Stream};
use bytes::BytesMut;
use codec::Decode;
use codec::frame::{Frame, FrameError, FrameHead, take_frame};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use wire::FrameKind;
use wire::hello::Close;

/// How much is read at once, if it is there.
const READ_SIZE: usize = 64 << 10;
/// With less room than this left in the buffer a new one is taken, since reads into a small rest are many.
const READ_ROOM_MIN: usize = 8 << 10;

/// A frame that must not be, and in words how.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) what: BadFrame,
    pub(crate) reason: String,
}

impl Bad {
    pub(crate) fn new(what: BadFrame, reason: impl Into<String>) -> Self {
        Self { what, reason: reason.into() }
    }

    pub(crate) fn out_of_place(kind: FrameKind) -> Self {
        Self::new(BadFrame::OutOfPlace, format!("{kind:?} is out of place here"))
    }
}

impl From<FrameError> for Bad {
    fn from(error: FrameError) -> Self {
        let what = match error {
            FrameError::HeadChecksum => BadFrame::HeadChecksum,
            FrameError::BodyChecksum => BadFrame::BodyChecksum,
            FrameError::TooLarge { .. } => BadFrame::TooLarge,
            FrameError::Malformed => BadFrame::Malformed,
        };
        Self::new(what, error.to_string())
    }
}

/// The message in a frame's payload.
pub(crate) fn decode<T: Decode>(kind: FrameKind, frame: &Frame) -> Result<T, Bad> {
    T::from_bytes(&frame.payload)
        .map_err(|error| Bad::new(BadFrame::Undecodable, format!("{kind:?}: {error}")))
}

/// Why a connection's task stops.
#[derive(Debug)]
pub(crate) enum End {
    /// The other side closed, or the socket failed.
    Lost,
    /// The other side said why it closes.
    ClosedByPeer,
    /// A frame was bad.
    Bad(Bad),
    /// The other side is silent.
    Silent,
    /// The other side takes too little.
    Overflowed,
    /// All that was to be sent was sent.
    Finished,
    /// Somebody ended it.
    Stopped,
}

impl End {
    /// The label to count it by.
    pub(crate) fn ended(&self) -> Ended {
        match self {
            Self::Lost => Ended::Lost,
            Self::ClosedByPeer => Ended::ClosedByPeer,
            Self::Bad(_) => Ended::BadFrame,
            Self::Silent => Ended::Silent,
            Self::Overflowed => Ended::Overflowed,
            Self::Finished => Ended::Finished,
            Self::Stopped => Ended::Stopped,
        }
    }
}

/// What one side does with what arrives.
pub(crate) trait Handler {
    /// One frame; pings and pongs are not seen here. What it means is handed over in [`Handler::flush`].
    fn frame(&mut self, kind: FrameKind, frame: Frame) -> Result<(), Bad>;

    /// All whole frames of a read were seen.
    fn flush(&mut self);

    /// The other side says that it closes. True to go on until it does.
    fn closing(&mut self, _close: &Close) -> bool {
        false
    }

    /// When [`Handler::expire`] is due.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// A time has come.
    fn expire(&mut self, _now: Instant) {}
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Driver<S> {
    stream: S,
    outgoing: Arc<Outgoing>,
    input: BytesMut,
    /// What is being written, and how much of it the socket has taken.
    batch: BytesMut,
    written: usize,
    unflushed: bool,
    /// Frames wait, and others were let go first so that there are more.
    has_yielded: bool,
    /// The last read brought several frames, so several who wait for them are woken at once.
    has_crowd: bool,
    alarm: Pin<Box<Sleep>>,
    keep_alive_interval: Duration,
    keep_alive_timeout: Duration,
    keep_alive_due: Instant,
    heard: bool,
    heard_last: Instant,
    farewell_timeout: Duration,
}

impl<S: Stream> Driver<S> {
    /// `input` holds what was read behind the greeting.
    pub(crate) fn new(stream: S, input: BytesMut, outgoing: Arc<Outgoing>, settings: &Settings) -> Self {
        let now = Instant::now();
        let keep_alive_due = now + settings.keep_alive_interval;
        Self {
            stream,
            outgoing,
            input,
            batch: BytesMut::new(),
            written: 0,
            unflushed: false,
            has_yielded: false,
            has_crowd: false,
            alarm: Box::pin(sleep_until(keep_alive_due)),
            keep_alive_interval: settings.keep_alive_interval,
            keep_alive_timeout: settings.keep_alive_timeout,
            keep_alive_due,
            heard: false,
            heard_last: now,
            farewell_timeout: settings.farewell_timeout,
        }
    }

    /// Reads and writes until the connection is over. May be dropped and called again.
    pub(crate) async fn run(&mut self, handler: &mut impl Handler) -> End {
        if let Err(end) = self.take_frames(handler) {
            return end;
        }
        poll_fn(|context| match self.poll(context, handler) {
            Poll::Ready(Err(end)) => Poll::Ready(end),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>, handler: &mut impl Handler) -> Poll<Result<(), End>> {
        if !std::mem::take(&mut self.has_yielded) && self.has_crowd && self.outgoing.gathers() {
            // Whoever appended the first frame has others beside it that are about to append theirs. A runtime with
            // threads runs first who was woken last, and that is us: each frame would be written, and read, alone. Who
            // wakes itself comes after all who are ready, but may also wake another thread: for a lone frame that would
            // cost more than it is worth.
            self.has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let phase = self.outgoing.begin_turn(context.waker());
            match phase {
                Phase::Open | Phase::Finishing => {}
                Phase::Overflowed => return Poll::Ready(Err(End::Overflowed)),
                Phase::Aborted | Phase::Ended => return Poll::Ready(Err(End::Stopped)),
            }
            let blocked = loop {
                let read = self.poll_read(context, handler)?.is_ready();
                let blocked = self.poll_write(context)?.is_pending();
                if !read {
                    break blocked;
                }
            };
            if phase == Phase::Finishing && !blocked {
                return Poll::Ready(Err(End::Finished));
            }
            self.poll_alarm(context, handler)?;
            if self.outgoing.end_turn(blocked) {
                return Poll::Pending;
            }
        }
    }

    /// One read, and all frames that it completed. Pending: there is nothing, or nothing is to be read for now.
    fn poll_read(&mut self, context: &mut Context<'_>, handler: &mut impl Handler) -> Poll<Result<(), End>> {
        if !self.outgoing.may_read() {
            return Poll::Pending;
        }
        if self.input.capacity() - self.input.len() < READ_ROOM_MIN {
            self.input.reserve(READ_SIZE);
        }
        let read = pin!(self.stream.read_buf(&mut self.input));
        let Poll::Ready(read) = read.poll(context) else { return Poll::Pending };
        match read {
            Ok(0) if self.input.is_empty() => Poll::Ready(Err(End::Lost)),
            Ok(0) => {
                let reason = format!("the connection ended after {} bytes of a frame", self.input.len());
                Poll::Ready(Err(End::Bad(Bad::new(BadFrame::Truncated, reason))))
            }
            Ok(bytes) => {
                self.heard = true;
                let frames = self.take_frames(handler)?;
                self.has_crowd = frames > 1;
                self.outgoing.counters().received(bytes, frames);
                Poll::Ready(Ok(()))
            }
            Err(_) => Poll::Ready(Err(End::Lost)),
        }
    }

    /// Hands over all whole frames, also those before a bad one.
    fn take_frames(&mut self, handler: &mut impl Handler) -> Result<u64, End> {
        let mut frames = 0;
        let result = loop {
            match take_frame(&mut self.input, self.outgoing.frame_size_max()) {
                Ok(Some(frame)) => {
                    frames += 1;
                    if let Err(end) = self.one_frame(frame, handler) {
                        break Err(end);
                    }
                }
                Ok(None) => break Ok(frames),
                Err(error) => break Err(End::Bad(error.into())),
            }
        };
        handler.flush();
        result
    }

    fn one_frame(&self, frame: Frame, handler: &mut impl Handler) -> Result<(), End> {
        let Some(kind) = FrameKind::from_number(frame.head.kind) else {
            let reason = format!("frame of unknown kind {}", frame.head.kind);
            return Err(End::Bad(Bad::new(BadFrame::UnknownKind, reason)));
        };
        match kind {
            FrameKind::Ping => {
                // A peer that asks without end and never reads is disconnected like one that lets answers gather.
                let head = FrameHead {
                    kind: FrameKind::Pong as u8,
                    request_id: frame.head.request_id,
                    ..FrameHead::default()
                };
                match self.outgoing.push(head, &[], |_| {}) {
                    Err(crate::outgoing::Refused::Full) => Err(End::Overflowed),
                    _ => Ok(()),
                }
            }
            FrameKind::Pong => Ok(()),
            FrameKind::Close => {
                let close = decode(kind, &frame).map_err(End::Bad)?;
                if handler.closing(&close) { Ok(()) } else { Err(End::ClosedByPeer) }
            }
            _ => handler.frame(kind, frame).map_err(End::Bad),
        }
    }

    /// Writes all that there is. Pending: the socket takes no more for now.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if self.written == self.batch.len() {
                self.written = 0;
                if !self.outgoing.take(&mut self.batch) {
                    break;
                }
            }
            let Poll::Ready(wrote) =
                Pin::new(&mut self.stream).poll_write(context, &self.batch[self.written..])
            else {
                return Poll::Pending;
            };
            match wrote {
                Ok(0) | Err(_) => return Poll::Ready(Err(End::Lost)),
                Ok(bytes) => {
                    self.written += bytes;
                    self.unflushed = true;
                    self.outgoing.counters().sent(bytes);
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Lost)),
                Poll::Ready(Ok(())) => self.unflushed = false,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_alarm(&mut self, context: &mut Context<'_>, handler: &mut impl Handler) -> Result<(), End> {
        loop {
            let due = handler.due().map_or(self.keep_alive_due, |due| due.min(self.keep_alive_due));
            if self.alarm.deadline() != due {
                self.alarm.as_mut().reset(due);
            }
            if self.alarm.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            let now = Instant::now();
            if handler.due().is_some_and(|due| due <= now) {
                handler.expire(now);
            }
            if self.keep_alive_due <= now {
                self.check_alive(now)?;
                self.keep_alive_due = now + self.keep_alive_interval;
            }
        }
    }

    fn check_alive(&mut self, now: Instant) -> Result<(), End> {
        // While we do not read, the silence is ours; the ping then tells the other side that we are there.
        if std::mem::take(&mut self.heard) || !self.outgoing.may_read() {
            self.heard_last = now;
            if self.outgoing.may_read() {
                return Ok(());
            }
        }
        if now.duration_since(self.heard_last) >= self.keep_alive_timeout {
            return Err(End::Silent);
        }
        let ping = FrameHead { kind: FrameKind::Ping as u8, ..FrameHead::default() };
        // Refused when the connection is being closed, or full: then there is traffic enough.
        let _ = self.outgoing.push(ping, &[], |_| {});
        Ok(())
    }

    /// Ends the connection: tells `why`, unless there is nothing to tell, and leaves time for it to arrive. Answers as
    /// [`Outgoing::end`].
    pub(crate) async fn farewell(mut self, end: &End) -> (u64, u64) {
        let close = match end {
            End::Bad(bad) => Some(Close::BadFrame { reason: bad.reason.clone() }),
            End::Overflowed => Some(Close::TooBusy),
            End::Lost | End::ClosedByPeer | End::Silent | End::Finished | End::Stopped => None,
        };
        if let Some(close) = &close {
            // Refused only when we close already.
            let _ = self.outgoing.say(FrameKind::Close, 0, close);
        }
        if matches!(end, End::Bad(_) | End::Overflowed | End::Finished) {
            // A socket that is closed with bytes unread may lose what it was given to send, so the other side is given
            // the time to read our reason and to close.
            let _ = timeout(self.farewell_timeout, self.linger()).await;
        }
        self.outgoing.end(self.written)
    }

    async fn linger(&mut self) {
        if poll_fn(|context| self.poll_write(context)).await.is_err() || self.stream.shutdown().await.is_err()
        {
            return;
        }
        loop {
            self.input.clear();
            self.input.reserve(READ_ROOM_MIN);
            if !matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counters;
    use codec::frame::put_frame;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use tokio::io::{AsyncRead as _, DuplexStream, ReadBuf};

    struct Deaf;

    impl Handler for Deaf {
        fn frame(&mut self, _: FrameKind, _: Frame) -> Result<(), Bad> {
            Ok(())
        }

        fn flush(&mut self) {}
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How much has arrived at the other end.
    fn arrived(stream: &mut DuplexStream) -> usize {
        let mut bytes = [0; 1 << 10];
        let mut read = ReadBuf::new(&mut bytes);
        let _ = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut read);
        read.filled().len()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_ready_beside_the_first_shares_its_write() {
        // Seen in a benchmark: the same 64 tasks cost their client twice as much, and the stores a quarter more, on a runtime
        // with threads, which runs who was woken last first.
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let settings = Settings::default();
        let outgoing = Arc::new(Outgoing::new(1, &settings, Arc::<Counters>::default()));
        let mut driver = Driver::new(ours, BytesMut::new(), Arc::clone(&outgoing), &settings);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut poll = || driver.poll(&mut Context::from_waker(&waker), &mut Deaf).is_pending();
        let ping = || outgoing.push(FrameHead::default(), &[], |_| {}).expect("there is room");
        assert!(poll());
        ping();
        assert!(poll());
        assert!(arrived(&mut theirs) > 0, "who is alone waits for nobody");
        let mut answers = BytesMut::new();
        (0..2).for_each(|_| {
            put_frame(
                &mut answers,
                FrameHead { kind: FrameKind::Pong as u8, ..FrameHead::default() },
                &[],
                |_| {},
            )
        });
        theirs.write_all(&answers).await.expect("there is room");
        assert!(poll());
        let mut before = ping();
        assert!(poll() && poll());
        arrived(&mut theirs);
        woken.0.store(0, Ordering::Relaxed);
        for round in 0..3 {
            ping();
            assert!(poll());
            assert_eq!(arrived(&mut theirs), 0, "others come first");
            let end = [(); 4].map(|()| ping())[3];
            assert_eq!(woken.0.load(Ordering::Relaxed), 2 * (round + 1), "by the first frame, and by itself");
            assert!(poll());
            let appended = end - std::mem::replace(&mut before, end);
            assert_eq!(arrived(&mut theirs) as u64, appended, "all at once");
        }
    }
}
