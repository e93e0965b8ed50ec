//! Region snapshots, each over a connection of its own, piece by piece.

use crate::drive::{Bad, Driver, End, Handler, decode};
use crate::greeting::{Identity, Target, dial, greet};
use crate::outgoing::{Outgoing, Refused};
use crate::{Counters, Settings, SnapshotSendError, Stream};
use bytes::BytesMut;
use codec::frame::Frame;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use types::StoreId;
use wire::FrameKind;
use wire::hello::{Close, ConnectionRole};
use wire::store::{SnapshotKey, SnapshotPiece, SnapshotVerdict};

/// Spreads bytes over time; shared by all snapshots that a store sends, it bounds them together.
#[derive(Debug)]
pub struct Pacer {
    bytes_per_second: NonZeroU64,
    /// When what was taken so far is paid for.
    free_at: Mutex<Instant>,
}

impl Pacer {
    /// A pacer that lets so many bytes through per second.
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until what was taken before is paid for, and takes `bytes`.
    async fn take(&self, bytes: usize) {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let turn = {
            let mut free_at = self.free_at.lock();
            let turn = (*free_at).max(Instant::now());
            *free_at = turn + cost;
            turn
        };
        sleep_until(turn).await;
    }
}

/// How a snapshot is sent.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// Time for the verdict after the start, and for each piece to be taken by the socket.
    pub step_timeout: Duration,
    /// Time for the verdict after the end: the receiver may have to store all of it first.
    pub end_timeout: Duration,
    /// Bounds the rate, if given.
    pub pacer: Option<Arc<Pacer>>,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { step_timeout: Duration::from_secs(30), end_timeout: Duration::from_secs(300), pacer: None }
    }
}

/// Connects to the store that `target` names and sends it a snapshot.
///
/// `pieces` gives the start, then chunks, then the end; `None` before the end abandons the transfer. It is called for
/// one piece at a time, when the piece before has been taken by the socket, so that no more than one chunk is in memory;
/// and not before the receiver has accepted the start. It runs on a thread of the runtime: who reads chunks from a slow
/// disk reads them elsewhere and hands them over.
///
/// # Errors
/// Any [`SnapshotSendError`]. The receiver has the snapshot only if there is none, and may have it after a
/// [`SnapshotSendError::Timeout`] or [`SnapshotSendError::ConnectionLost`].
///
/// # Panics
/// When the first piece is no start.
pub async fn send_snapshot(
    target: &Target,
    identity: Identity,
    settings: &Settings,
    counters: &Arc<Counters>,
    options: &SnapshotOptions,
    pieces: impl FnMut() -> Option<SnapshotPiece> + Send,
) -> Result<(), SnapshotSendError> {
    let stream = dial(&target.address, settings).await.map_err(|error| {
        counters.connect_failed();
        SnapshotSendError::NotConnected(error)
    })?;
    send_snapshot_over(stream, target.store_id, identity, settings, counters, options, pieces).await
}

/// As [`send_snapshot`], over a stream that is connected to the store already.
///
/// # Errors
/// As [`send_snapshot`].
///
/// # Panics
/// As [`send_snapshot`].
pub async fn send_snapshot_over<S: Stream>(
    mut stream: S,
    to_store_id: StoreId,
    identity: Identity,
    settings: &Settings,
    counters: &Arc<Counters>,
    options: &SnapshotOptions,
    pieces: impl FnMut() -> Option<SnapshotPiece> + Send,
) -> Result<(), SnapshotSendError> {
    let mut input = BytesMut::new();
    let role = ConnectionRole::Snapshot;
    greet(&mut stream, &mut input, identity, role, to_store_id, settings).await.map_err(|error| {
        counters.connect_failed();
        SnapshotSendError::NotConnected(error)
    })?;
    let outgoing = Arc::new(Outgoing::new(0, settings, Arc::clone(counters)));
    let verdicts = Verdicts::default();
    let mut handler = Sender { verdicts: &verdicts, closed: None };
    let mut driver = Driver::new(stream, input, Arc::clone(&outgoing), settings);
    counters.opened();
    let talked = {
        let mut drive = pin!(driver.run(&mut handler));
        let mut talk = pin!(talk(&outgoing, &verdicts, options, pieces));
        // Both in this task, the reading side first: a refusal is seen before the next piece is asked for.
        poll_fn(|context| {
            if let Poll::Ready(end) = drive.as_mut().poll(context) {
                return Poll::Ready(Err(end));
            }
            // What this appends wakes the task again, and is written by the drive then.
            talk.as_mut().poll(context).map(Ok)
        })
        .await
    };
    let (result, end) = match talked {
        Ok(result) => (result, End::Finished),
        // The last word of the receiver may have come with the end of the connection.
        Err(end) => match verdicts.refusal() {
            Some(reason) => (Err(SnapshotSendError::Refused(reason)), end),
            None => match &handler.closed {
                Some(close) => (Err(SnapshotSendError::Refused(format!("{close:?}"))), end),
                None => (Err(SnapshotSendError::ConnectionLost), end),
            },
        },
    };
    if let End::Bad(bad) = &end {
        counters.bad_frame(bad.what);
    }
    counters.closed(end.ended());
    driver.farewell(&end).await;
    result
}

async fn talk(
    outgoing: &Outgoing,
    verdicts: &Verdicts,
    options: &SnapshotOptions,
    mut pieces: impl FnMut() -> Option<SnapshotPiece> + Send,
) -> Result<(), SnapshotSendError> {
    let Some(start) = pieces() else { return Err(SnapshotSendError::Aborted) };
    let SnapshotPiece::Start { key, .. } = start else {
        panic!("a snapshot begins with its start, not {start:?}")
    };
    put(outgoing, options, &start).await?;
    drop(start);
    verdicts.wait(key, options.step_timeout).await?;
    loop {
        if let Some(reason) = verdicts.refusal() {
            return Err(SnapshotSendError::Refused(reason));
        }
        let Some(piece) = pieces() else { return Err(SnapshotSendError::Aborted) };
        put(outgoing, options, &piece).await?;
        if matches!(piece, SnapshotPiece::End { .. }) {
            return verdicts.wait(key, options.end_timeout).await;
        }
    }
}

/// Sends one piece, and waits until the socket has taken it.
async fn put(
    outgoing: &Outgoing,
    options: &SnapshotOptions,
    piece: &SnapshotPiece,
) -> Result<(), SnapshotSendError> {
    if let Some(pacer) = &options.pacer {
        pacer.take(weight(piece)).await;
    }
    outgoing.say(FrameKind::SnapshotPiece, 0, piece).map_err(|refused| match refused {
        Refused::TooLarge { size } => SnapshotSendError::TooLarge { size },
        Refused::Closed | Refused::Full => SnapshotSendError::ConnectionLost,
    })?;
    let taken = timeout(options.step_timeout, poll_fn(|context| outgoing.poll_drained(context))).await;
    taken.map_err(|_| SnapshotSendError::Timeout)
}

/// About how many bytes a piece takes: only chunks matter to the pace.
fn weight(piece: &SnapshotPiece) -> usize {
    match piece {
        SnapshotPiece::Chunk { pairs, .. } => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
        SnapshotPiece::Start { .. } | SnapshotPiece::End { .. } => 0,
    }
}

/// What the receiver has said.
#[derive(Default)]
struct Verdicts {
    state: Mutex<(Vec<SnapshotVerdict>, Option<Waker>)>,
}

impl Verdicts {
    fn arrived(&self, verdict: SnapshotVerdict) {
        let mut state = self.state.lock();
        state.0.push(verdict);
        if let Some(waker) = state.1.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Why the receiver wants no more, if it does not.
    fn refusal(&self) -> Option<String> {
        self.state.lock().0.iter().find_map(|verdict| match verdict {
            SnapshotVerdict::Refused { reason, .. } => Some(reason.clone()),
            SnapshotVerdict::Accepted(_) => None,
        })
    }

    /// Waits for the next verdict.
    async fn wait(&self, key: SnapshotKey, within: Duration) -> Result<(), SnapshotSendError> {
        let next = poll_fn(|context| {
            let mut state = self.state.lock();
            if state.0.is_empty() {
                state.1 = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(state.0.remove(0))
        });
        match timeout(within, next).await {
            Err(_) => Err(SnapshotSendError::Timeout),
            Ok(SnapshotVerdict::Accepted(accepted)) if accepted == key => Ok(()),
            Ok(SnapshotVerdict::Accepted(other)) => {
                Err(SnapshotSendError::Refused(format!("the receiver speaks of another transfer: {other:?}")))
            }
            Ok(SnapshotVerdict::Refused { reason, .. }) => Err(SnapshotSendError::Refused(reason)),
        }
    }
}

/// The sending side's view of what arrives.
struct Sender<'a> {
    verdicts: &'a Verdicts,
    closed: Option<Close>,
}

/// A receiver says two verdicts, and perhaps a refusal between them.
const VERDICTS_MAX: usize = 3;

impl Handler for Sender<'_> {
    fn frame(&mut self, kind: FrameKind, frame: Frame) -> Result<(), Bad> {
        if kind != FrameKind::SnapshotVerdict || self.verdicts.state.lock().0.len() >= VERDICTS_MAX {
            return Err(Bad::out_of_place(kind));
        }
        self.verdicts.arrived(decode(kind, &frame)?);
        Ok(())
    }

    fn flush(&mut self) {}

    fn closing(&mut self, close: &Close) -> bool {
        self.closed = Some(close.clone());
        // A store that stops lets a transfer that is nearly done come to its end, within its grace.
        *close == Close::ShuttingDown
    }
}
