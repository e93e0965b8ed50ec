//! What is to be sent over one connection.
//!
//! Anyone appends frames, from any thread, under a short lock; the connection's task takes all of them at once for one
//! write. The task is woken by the append that finds it idle, and by no other.

use crate::{Counters, Settings};
use bytes::BytesMut;
use codec::Encode;
use codec::frame::{FrameHead, put_frame};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wire::FrameKind;

/// A buffer that has grown beyond this is given back once it was written, so that idle connections stay small.
const BUFFER_KEPT_MAX: usize = 256 << 10;

/// How far a connection is from its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Frames are taken.
    Open,
    /// No more frames are taken; it ends when all has been written.
    Finishing,
    /// The other side took too little; it ends at once.
    Overflowed,
    /// It ends at once.
    Aborted,
    /// Nobody drives it any more.
    Ended,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The connection is over.
    Closed,
    /// Too many bytes wait already.
    Full,
    /// The frame is longer than a frame may be.
    TooLarge { size: usize },
}

#[derive(Debug)]
struct State {
    phase: Phase,
    buffer: BytesMut,
    /// Frames in `buffer`.
    frames: u64,
    /// Messages in `buffer` whose loss is to be reported.
    messages: u64,
    /// Bytes and messages that the task has taken and is writing.
    writing: usize,
    writing_messages: u64,
    /// Bytes that the socket has taken since the connection began, but for those of the write under way.
    written: u64,
    /// Bytes of requests that were handed over and not answered yet.
    in_flight: usize,
    /// The task does not read, and waits for `in_flight` to fall.
    paused: bool,
    /// The task has nothing to do and is to be woken by the next frame.
    idle: bool,
    driver: Option<Waker>,
    /// Somebody waits until all is written.
    drained: Option<Waker>,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Outgoing {
    id: u64,
    frame_size_max: usize,
    bytes_max: usize,
    in_flight_max: usize,
    counters: Arc<Counters>,
    state: Mutex<State>,
}

impl Outgoing {
    pub(crate) fn new(id: u64, settings: &Settings, counters: Arc<Counters>) -> Self {
        let state = State {
            phase: Phase::Open,
            buffer: BytesMut::new(),
            frames: 0,
            messages: 0,
            writing: 0,
            writing_messages: 0,
            written: 0,
            in_flight: 0,
            paused: false,
            idle: false,
            driver: None,
            drained: None,
        };
        Self {
            id,
            frame_size_max: settings.frame_size_max,
            bytes_max: settings.outgoing_bytes_max,
            in_flight_max: settings.in_flight_bytes_max,
            counters,
            state: Mutex::new(state),
        }
    }

    /// The number of the connection, within its server.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn frame_size_max(&self) -> usize {
        self.frame_size_max
    }

    /// Appends one frame. Answers with the position in the connection's bytes after which all of it has been sent.
    pub(crate) fn push(
        &self,
        head: FrameHead,
        trace: &[u8],
        payload: impl FnOnce(&mut BytesMut),
    ) -> Result<u64, Refused> {
        self.append(&mut self.state.lock(), head, trace, 0, payload).map(|(end, waker)| {
            wake(waker);
            end
        })
    }

    /// Appends a frame that carries so many messages whose loss is to be reported (see [`Outgoing::end`]).
    pub(crate) fn push_messages(
        &self,
        kind: FrameKind,
        messages: u64,
        payload: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Refused> {
        let head = FrameHead { kind: kind as u8, ..FrameHead::default() };
        let (_, waker) = self.append(&mut self.state.lock(), head, &[], messages, payload)?;
        wake(waker);
        Ok(())
    }

    /// Appends a frame with a whole message of the protocol.
    pub(crate) fn say(
        &self,
        kind: FrameKind,
        request_id: u64,
        message: &impl Encode,
    ) -> Result<u64, Refused> {
        let head = FrameHead { kind: kind as u8, request_id, ..FrameHead::default() };
        self.push(head, &[], |out| message.encode(out))
    }

    /// Appends the answer to a request of `size` bytes, which is not in flight any more from here on.
    ///
    /// A peer that has let too many answers gather is disconnected. An answer that is too long for a frame is not
    /// taken, and the request stays in flight: the caller has another answer to give.
    pub(crate) fn answer(
        &self,
        kind: FrameKind,
        request_id: u64,
        size: usize,
        message: &impl Encode,
    ) -> Result<(), Refused> {
        let head = FrameHead { kind: kind as u8, request_id, ..FrameHead::default() };
        self.answer_with(head, &[], size, message)
    }

    /// As [`Outgoing::answer`], with a head and a trace field of the caller's making.
    pub(crate) fn answer_with(
        &self,
        head: FrameHead,
        trace: &[u8],
        size: usize,
        message: &impl Encode,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let mut waker = None;
        let result = match self.append(&mut state, head, trace, 0, |out| message.encode(out)) {
            Ok((_, idle)) => {
                waker = idle;
                Ok(())
            }
            Err(too_large @ Refused::TooLarge { .. }) => return Err(too_large),
            Err(Refused::Full) => {
                state.phase = Phase::Overflowed;
                waker = state.driver.clone();
                Err(Refused::Full)
            }
            Err(Refused::Closed) => Err(Refused::Closed),
        };
        if self.take_off(&mut state, size) {
            waker = state.driver.clone();
        }
        drop(state);
        wake(waker);
        result
    }

    fn append(
        &self,
        state: &mut State,
        head: FrameHead,
        trace: &[u8],
        messages: u64,
        payload: impl FnOnce(&mut BytesMut),
    ) -> Result<(u64, Option<Waker>), Refused> {
        if state.phase != Phase::Open {
            return Err(Refused::Closed);
        }
        let start = state.buffer.len();
        put_frame(&mut state.buffer, head, trace, payload);
        let size = state.buffer.len() - start;
        let waiting = state.buffer.len() + state.writing;
        let refused = if size > self.frame_size_max {
            Refused::TooLarge { size }
        } else if waiting > self.bytes_max {
            Refused::Full
        } else {
            state.frames += 1;
            state.messages += messages;
            let waker = if std::mem::take(&mut state.idle) { state.driver.clone() } else { None };
            return Ok((state.written + waiting as u64, waker));
        };
        state.buffer.truncate(start);
        Err(refused)
    }

    /// Counts bytes of requests as in flight.
    pub(crate) fn admit(&self, size: usize) {
        self.state.lock().in_flight += size;
    }

    /// Takes bytes of requests off what is in flight.
    pub(crate) fn release(&self, size: usize) {
        let mut state = self.state.lock();
        let waker = if self.take_off(&mut state, size) { state.driver.clone() } else { None };
        drop(state);
        wake(waker);
    }

    /// True if the task is to be woken, to read again.
    fn take_off(&self, state: &mut State, size: usize) -> bool {
        debug_assert!(state.in_flight >= size, "{size} bytes answered of {} in flight", state.in_flight);
        state.in_flight = state.in_flight.saturating_sub(size);
        // Half of the limit is waited for, so that a connection at its limit is not stopped and woken for each answer.
        state.paused && state.in_flight <= self.in_flight_max / 2 && std::mem::take(&mut state.paused)
    }

    /// For the task: true if it may read more. Otherwise it will be woken when it may.
    pub(crate) fn may_read(&self) -> bool {
        let mut state = self.state.lock();
        if state.in_flight < self.in_flight_max {
            state.paused = false;
        } else if !std::mem::replace(&mut state.paused, true) {
            self.counters.paused();
        }
        !state.paused
    }

    /// For the task, when it was woken: true if frames wait. More of them do not wake it any more; it will look again.
    pub(crate) fn gathers(&self) -> bool {
        let mut state = self.state.lock();
        let waits = state.phase == Phase::Open && !state.buffer.is_empty();
        state.idle &= !waits;
        waits
    }

    /// For the task: it runs, so frames need not wake it; what cannot wait (room to read, an end, an earlier deadline)
    /// does so all the same from here on, since the turn may have passed the place where it would have looked. Answers
    /// with how far the connection is from its end.
    pub(crate) fn begin_turn(&self, waker: &Waker) -> Phase {
        let mut state = self.state.lock();
        match &mut state.driver {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        state.idle = false;
        state.phase
    }

    /// For the task: takes all that gathered into `batch`, which has been written entirely. False if there is nothing.
    pub(crate) fn take(&self, batch: &mut BytesMut) -> bool {
        let mut state = self.state.lock();
        state.written += batch.len() as u64;
        if batch.capacity() > BUFFER_KEPT_MAX {
            *batch = BytesMut::new();
        } else {
            batch.clear();
        }
        std::mem::swap(batch, &mut state.buffer);
        state.writing = batch.len();
        state.writing_messages = std::mem::take(&mut state.messages);
        let frames = std::mem::take(&mut state.frames);
        let drained = if batch.is_empty() { state.drained.take() } else { None };
        drop(state);
        if frames > 0 {
            self.counters.sent_frames(frames);
        }
        wake(drained);
        !batch.is_empty()
    }

    /// For the task, at the end of its turn: the next frame wakes it. False if there is more to do at once. `blocked`
    /// says that it waits for the socket to take more, so that frames need not wake it.
    pub(crate) fn end_turn(&self, blocked: bool) -> bool {
        let mut state = self.state.lock();
        let more = match state.phase {
            Phase::Open => !blocked && !state.buffer.is_empty(),
            Phase::Finishing => !blocked,
            Phase::Overflowed | Phase::Aborted | Phase::Ended => true,
        };
        if more {
            return false;
        }
        state.idle = !blocked;
        true
    }

    /// Wakes the task whatever it waits for.
    pub(crate) fn nudge(&self) {
        let waker = self.state.lock().driver.clone();
        wake(waker);
    }

    /// No more frames: the connection ends once all is written.
    pub(crate) fn finish(&self) {
        self.set_phase(Phase::Finishing);
    }

    /// The connection ends at once.
    pub(crate) fn abort(&self) {
        self.set_phase(Phase::Aborted);
    }

    fn set_phase(&self, phase: Phase) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open || (state.phase == Phase::Finishing && phase == Phase::Aborted) {
            state.phase = phase;
        }
        let waker = state.driver.clone();
        drop(state);
        wake(waker);
    }

    /// True until the connection is over or being closed.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().phase == Phase::Open
    }

    /// The connection is over, with `written` bytes of the batch under way taken by the socket. Answers with the number
    /// of bytes that the socket took in all, and the number of messages that it did not.
    pub(crate) fn end(&self, written: usize) -> (u64, u64) {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        state.written += written as u64;
        let lost = state.messages + if written < state.writing { state.writing_messages } else { 0 };
        (state.messages, state.writing_messages, state.writing) = (0, 0, 0);
        state.buffer = BytesMut::new();
        state.driver = None;
        let drained = state.drained.take();
        let total = state.written;
        drop(state);
        wake(drained);
        (total, lost)
    }

    /// Waits until the socket has taken all that was appended, or the connection is over.
    pub(crate) fn poll_drained(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.phase == Phase::Ended || (state.buffer.is_empty() && state.writing == 0) {
            return Poll::Ready(());
        }
        state.drained = Some(context.waker().clone());
        Poll::Pending
    }
}

thread_local! {
    static HELD: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// Runs `work` and wakes connections only after it, each once, however much `work` answers and sends.
///
/// For whoever answers many requests in one go (a turn of a worker, a batch of applies): otherwise the first answer
/// wakes the connection's task, which writes it alone while the next ones are being made. `work` must be short, and wait
/// for nothing. Calls may be nested; the outermost wakes.
pub fn hold_wakes<T>(work: impl FnOnce() -> T) -> T {
    struct Release;
    impl Drop for Release {
        fn drop(&mut self) {
            let held = HELD.with_borrow_mut(Option::take);
            held.into_iter().flatten().for_each(Waker::wake);
        }
    }
    let outermost = HELD.with_borrow_mut(|held| {
        let none = held.is_none();
        held.get_or_insert_default();
        none
    });
    let _release = outermost.then(|| Release);
    work()
}

fn wake(waker: Option<Waker>) {
    let Some(waker) = waker else { return };
    let waker = HELD.with_borrow_mut(|held| match held {
        Some(held) => {
            held.push(waker);
            None
        }
        None => Some(waker),
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn outgoing(settings: &Settings) -> (Outgoing, Waker, Arc<Woken>) {
        let woken = Arc::new(Woken::default());
        (Outgoing::new(1, settings, Arc::default()), Waker::from(Arc::clone(&woken)), woken)
    }

    fn turn(outgoing: &Outgoing, waker: &Waker, batch: &mut BytesMut) {
        outgoing.begin_turn(waker);
        while outgoing.take(batch) {}
        assert!(outgoing.end_turn(false));
    }

    fn ping(outgoing: &Outgoing) {
        outgoing.push(FrameHead::default(), &[], |_| {}).unwrap();
    }

    #[test]
    fn only_the_frame_that_finds_the_task_idle_wakes_it() {
        let (outgoing, waker, woken) = outgoing(&Settings::default());
        let mut batch = BytesMut::new();
        for wakes in 1..10 {
            turn(&outgoing, &waker, &mut batch);
            (0..5).for_each(|_| ping(&outgoing));
            assert_eq!(woken.0.load(Ordering::Relaxed), wakes);
        }
        outgoing.begin_turn(&waker);
        while outgoing.take(&mut batch) {}
        ping(&outgoing);
        assert_eq!(woken.0.load(Ordering::Relaxed), 9, "the task runs, and looks again before it rests");
        assert!(!outgoing.end_turn(false));
    }

    #[test]
    fn held_wakes_come_once_and_last() {
        let (first, first_waker, first_woken) = outgoing(&Settings::default());
        let (second, second_waker, second_woken) = outgoing(&Settings::default());
        let mut batch = BytesMut::new();
        turn(&first, &first_waker, &mut batch);
        turn(&second, &second_waker, &mut BytesMut::new());
        hold_wakes(|| {
            hold_wakes(|| ping(&first));
            (0..3).for_each(|_| ping(&second));
            assert_eq!(first_woken.0.load(Ordering::Relaxed) + second_woken.0.load(Ordering::Relaxed), 0);
        });
        assert_eq!(first_woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(second_woken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn room_made_within_the_very_turn_that_stopped_reading_is_not_missed() {
        // Seen in review: the first turn had no waker yet when an answer on another thread made room, and the
        // connection was never read again.
        let (outgoing, waker, woken) = outgoing(&Settings { in_flight_bytes_max: 10, ..Settings::default() });
        outgoing.begin_turn(&waker);
        outgoing.admit(10);
        assert!(!outgoing.may_read());
        outgoing.release(10);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(outgoing.end_turn(false));
        outgoing.begin_turn(&waker);
        assert!(outgoing.may_read());
    }

    #[test]
    fn the_end_tells_what_was_written_and_what_was_lost() {
        let (outgoing, waker, _) = outgoing(&Settings::default());
        let mut batch = BytesMut::new();
        let put = |out: &mut BytesMut| out.extend_from_slice(&[0; 72]);
        outgoing.push_messages(FrameKind::StoreBatch, 3, put).unwrap();
        outgoing.begin_turn(&waker);
        assert!(outgoing.take(&mut batch));
        outgoing.push_messages(FrameKind::StoreBatch, 4, put).unwrap();
        // Of the first frame's 100 bytes the socket took 40.
        assert_eq!(outgoing.end(40), (40, 7));
        assert_eq!(outgoing.push(FrameHead::default(), &[], |_| {}), Err(Refused::Closed));
    }
}
