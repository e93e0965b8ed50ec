//! One way, store to store: what the turns of a store have to say to others.

use crate::channel::Backoff;
use crate::drive::{Bad, Driver, End, Handler};
use crate::greeting::{dial, greet};
use crate::outgoing::{Outgoing, Refused};
use crate::{ConnectError, Counters, Identity, Settings, Stream};
use bytes::BytesMut;
use codec::Encode;
use codec::frame::Frame;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use types::StoreId;
use wire::FrameKind;
use wire::hello::ConnectionRole;
use wire::store::{DiskState, StoreBatch, StoreMessage};

/// Where a store can be reached; `None` if nobody knows. Called from the runtime; must not wait.
pub type Resolver = Arc<dyn Fn(StoreId) -> Option<String> + Send + Sync>;

/// Told when messages to a store were dropped (so many), or its connection was lost (then perhaps none of them: what was
/// written but not read is not counted). Called by whoever sends, or from the runtime; must not wait.
pub type Unreachable = Arc<dyn Fn(StoreId, u64) + Send + Sync>;

/// The links from this store to the others: a connection of its own for each, made when there is something to say.
///
/// Messages to a store that cannot be reached, or that takes them too slowly, are dropped and reported; the protocol
/// above says them again.
pub struct StoreLinks {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    settings: Settings,
    counters: Arc<Counters>,
    resolver: Resolver,
    unreachable: Unreachable,
    runtime: Handle,
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    by_store: BTreeMap<StoreId, Link>,
    stopped: bool,
}

struct Link {
    backoff: Backoff,
    /// Takes frames while the connection is being made, and while it stands.
    outgoing: Option<Arc<Outgoing>>,
}

impl StoreLinks {
    /// Links without connections. Their tasks run on `runtime`, and messages are sent from any thread.
    #[must_use]
    pub fn new(
        identity: Identity,
        settings: Settings,
        counters: Arc<Counters>,
        resolver: Resolver,
        unreachable: Unreachable,
        runtime: Handle,
    ) -> Self {
        let links = Mutex::new(Links::default());
        Self {
            shared: Arc::new(Shared { identity, settings, counters, resolver, unreachable, runtime, links }),
        }
    }

    /// Sends messages to a store as one frame. Never waits: what cannot be taken is dropped and reported.
    pub fn send(&self, to: StoreId, disk: DiskState, messages: Vec<StoreMessage>) {
        if messages.is_empty() {
            return;
        }
        let shared = &self.shared;
        let mut dropped = 0;
        match Shared::outgoing(shared, to) {
            Some(outgoing) => {
                let batch = StoreBatch { from_store: shared.identity.store_id, disk, messages };
                append(&outgoing, batch, &mut dropped);
            }
            None => dropped = messages.len() as u64,
        }
        if dropped > 0 {
            shared.report(to, dropped);
        }
    }

    /// Ends the link to a store that is gone, or has another address now; the next message makes a new one.
    pub fn close(&self, to: StoreId) {
        if let Some(outgoing) = self.shared.links.lock().by_store.remove(&to).and_then(|link| link.outgoing) {
            outgoing.finish();
        }
    }

    /// Takes no more messages, and waits until those that were taken are written, for `grace` at most.
    pub async fn stop(&self, grace: Duration) {
        let open: Vec<_> = {
            let mut links = self.shared.links.lock();
            links.stopped = true;
            std::mem::take(&mut links.by_store).into_values().filter_map(|link| link.outgoing).collect()
        };
        for outgoing in &open {
            outgoing.finish();
        }
        let written = async {
            for outgoing in &open {
                std::future::poll_fn(|context| outgoing.poll_drained(context)).await;
            }
        };
        // What is left after the grace is lost, as with any connection.
        let _ = timeout(grace, written).await;
        for outgoing in &open {
            outgoing.abort();
        }
    }
}

impl Drop for StoreLinks {
    fn drop(&mut self) {
        let mut links = self.shared.links.lock();
        links.stopped = true;
        for outgoing in std::mem::take(&mut links.by_store).into_values().filter_map(|link| link.outgoing) {
            outgoing.finish();
        }
    }
}

impl fmt::Debug for StoreLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links = self.shared.links.lock();
        f.debug_struct("StoreLinks").field("to", &links.by_store.keys().collect::<Vec<_>>()).finish()
    }
}

/// Appends a batch; in halves, if it is too long for one frame. Counts what is not taken.
fn append(outgoing: &Outgoing, mut batch: StoreBatch, dropped: &mut u64) {
    let count = batch.messages.len();
    match outgoing.push_messages(FrameKind::StoreBatch, count as u64, |out| batch.encode(out)) {
        Ok(()) => {}
        Err(Refused::TooLarge { .. }) if count > 1 => {
            let rest = batch.messages.split_off(count / 2);
            let rest = StoreBatch { messages: rest, ..batch };
            append(outgoing, batch, dropped);
            append(outgoing, rest, dropped);
        }
        Err(Refused::TooLarge { .. } | Refused::Full | Refused::Closed) => *dropped += count as u64,
    }
}

impl Shared {
    fn report(&self, to: StoreId, dropped: u64) {
        self.counters.dropped(dropped);
        (self.unreachable)(to, dropped);
    }

    /// Where frames to a store go; `None` while there is no use in trying.
    fn outgoing(shared: &Arc<Self>, to: StoreId) -> Option<Arc<Outgoing>> {
        let mut links = shared.links.lock();
        if links.stopped {
            return None;
        }
        let link =
            links.by_store.entry(to).or_insert_with(|| Link { backoff: Backoff::new(), outgoing: None });
        if let Some(outgoing) = &link.outgoing {
            return Some(Arc::clone(outgoing));
        }
        if link.backoff.is_waiting(Instant::now()) {
            return None;
        }
        let outgoing = Arc::new(Outgoing::new(to.get(), &shared.settings, Arc::clone(&shared.counters)));
        link.outgoing = Some(Arc::clone(&outgoing));
        shared.runtime.spawn(attend(Arc::clone(shared), to, Arc::clone(&outgoing)));
        Some(outgoing)
    }

    async fn connect(&self, to: StoreId) -> Result<(TcpStream, BytesMut), ConnectError> {
        let address = (self.resolver)(to).ok_or(ConnectError::UnknownAddress)?;
        let mut stream = dial(&address, &self.settings).await?;
        let mut input = BytesMut::new();
        greet(&mut stream, &mut input, self.identity, ConnectionRole::Store, to, &self.settings).await?;
        Ok((stream, input))
    }

    /// The link's connection is over (or was never made); the next message makes another, when it is time.
    ///
    /// After a loss there is a pause too, so that a peer that takes connections and closes them is not tried in a circle;
    /// it is the shortest one if the greeting had succeeded.
    fn ended(&self, to: StoreId, outgoing: &Arc<Outgoing>, greeted: bool) {
        let mut links = self.links.lock();
        let Some(link) = links.by_store.get_mut(&to) else { return };
        if !link.outgoing.as_ref().is_some_and(|current| Arc::ptr_eq(current, outgoing)) {
            return;
        }
        link.outgoing = None;
        if greeted {
            link.backoff.succeeded();
        }
        link.backoff.failed(Instant::now(), &self.settings);
    }
}

/// The task of one link's connection.
async fn attend(shared: Arc<Shared>, to: StoreId, outgoing: Arc<Outgoing>) {
    let (greeted, lost) = match shared.connect(to).await {
        Ok((stream, input)) => {
            let driver = Driver::new(stream, input, Arc::clone(&outgoing), &shared.settings);
            (true, talk(driver, &shared.counters).await)
        }
        Err(_) => {
            shared.counters.connect_failed();
            (false, outgoing.end(0).1)
        }
    };
    shared.ended(to, &outgoing, greeted);
    let stopped = shared.links.lock().stopped;
    if !stopped || lost > 0 {
        shared.report(to, lost);
    }
}

/// Drives a link until it is over; answers with the number of messages that were not written.
async fn talk<S: Stream>(mut driver: Driver<S>, counters: &Counters) -> u64 {
    counters.opened();
    let end = driver.run(&mut OneWay).await;
    if let End::Bad(bad) = &end {
        counters.bad_frame(bad.what);
    }
    counters.closed(end.ended());
    driver.farewell(&end).await.1
}

/// Nothing but pings, pongs and the end comes back over a link.
struct OneWay;

impl Handler for OneWay {
    fn frame(&mut self, kind: FrameKind, _frame: Frame) -> Result<(), Bad> {
        Err(Bad::out_of_place(kind))
    }

    fn flush(&mut self) {}
}
