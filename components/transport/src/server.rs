//! The side that listens.

use crate::drive::{Driver, End};
use crate::greeting::{turn_down, welcome};
use crate::inbound::Inbound;
use crate::outgoing::Outgoing;
use crate::{Counters, Ended, Service, Settings, Stream};
use bytes::BytesMut;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use wire::FrameKind;
use wire::hello::Close;

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: u32 = 1024;
/// After the system refused to accept (no descriptors left, most likely) it is asked again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections are told that there are too many of them, at once; more are closed without a word.
const TURNED_AWAY_MAX: usize = 64;

/// Binds a socket and listens on it. An address that a process before us left a moment ago can be used at once.
///
/// # Errors
/// Those of the system: the address is in use, not ours, or not permitted.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves those who connect; a handle to it. Dropping it closes everything at once, see [`Server::stop`].
pub struct Server<V: Service> {
    shared: Arc<Shared<V>>,
    acceptors: Mutex<Vec<AbortHandle>>,
}

struct Shared<V: Service> {
    service: Arc<V>,
    settings: Settings,
    counters: Arc<Counters>,
    next_id: AtomicU64,
    connections: Mutex<Connections>,
    /// Told when the last connection of a server that stops is gone.
    empty: Notify,
}

#[derive(Default)]
struct Connections {
    open: BTreeMap<u64, Open>,
    turned_away: usize,
    stopping: bool,
}

struct Open {
    outgoing: Arc<Outgoing>,
    task: Option<AbortHandle>,
}

impl<V: Service> Server<V> {
    /// A server that nobody can reach yet: see [`Server::accept`] and [`Server::attach`].
    #[must_use]
    pub fn new(service: Arc<V>, settings: Settings, counters: Arc<Counters>) -> Self {
        let shared = Shared {
            service,
            settings,
            counters,
            next_id: AtomicU64::new(1),
            connections: Mutex::new(Connections::default()),
            empty: Notify::new(),
        };
        Self { shared: Arc::new(shared), acceptors: Mutex::new(Vec::new()) }
    }

    /// Serves all who connect to `listener`, until the server stops. Tasks run on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn accept(&self, listener: TcpListener) {
        let task = tokio::spawn(accept(Arc::clone(&self.shared), listener));
        self.acceptors.lock().push(task.abort_handle());
    }

    /// Serves one stream that is connected already.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn attach<S: Stream>(&self, stream: S) {
        Shared::attach(&self.shared, stream);
    }

    /// Stops in good order: takes no more connections, tells each that it stops, and goes on answering until the other
    /// sides have closed, which clients do as soon as they have all their answers; for `grace` at most. Then it closes.
    ///
    /// Requests that were on their way are still handed over; who stops refuses them as it sees fit. Answers with the
    /// number of connections that were closed before they had come to their end.
    pub async fn stop(&self, grace: Duration) -> usize {
        self.acceptors.lock().drain(..).for_each(|task| task.abort());
        let open: Vec<_> = {
            let mut connections = self.shared.connections.lock();
            connections.stopping = true;
            connections.open.values().map(|open| Arc::clone(&open.outgoing)).collect()
        };
        for outgoing in open {
            // Refused only by those that are closing already.
            let _ = outgoing.say(FrameKind::Close, 0, &Close::ShuttingDown);
        }
        let emptied = async {
            loop {
                let notified = self.shared.empty.notified();
                if self.shared.connections.lock().open.is_empty() {
                    return;
                }
                notified.await;
            }
        };
        if timeout(grace, emptied).await.is_ok() {
            return 0;
        }
        self.shared.abort_all()
    }
}

impl<V: Service> Drop for Server<V> {
    fn drop(&mut self) {
        self.acceptors.lock().drain(..).for_each(|task| task.abort());
        self.shared.abort_all();
    }
}

impl<V: Service> fmt::Debug for Server<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("connections", &self.shared.connections.lock().open.len()).finish()
    }
}

async fn accept<V: Service>(shared: Arc<Shared<V>>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Fails only for a socket that is dead already, which the greeting will find out.
                let _ = stream.set_nodelay(true);
                Shared::attach(&shared, stream);
            }
            Err(_) => {
                shared.counters.accept_failed();
                sleep_until(Instant::now() + ACCEPT_PAUSE).await;
            }
        }
    }
}

impl<V: Service> Shared<V> {
    fn attach<S: Stream>(shared: &Arc<Self>, stream: S) {
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let outgoing = Arc::new(Outgoing::new(id, &shared.settings, Arc::clone(&shared.counters)));
        let mut connections = shared.connections.lock();
        if connections.stopping {
            return;
        }
        if connections.open.len() >= shared.settings.connections_max {
            if connections.turned_away < TURNED_AWAY_MAX {
                connections.turned_away += 1;
                tokio::spawn(turn_away(Arc::clone(shared), stream));
            }
            return;
        }
        connections.open.insert(id, Open { outgoing: Arc::clone(&outgoing), task: None });
        shared.counters.opened();
        let leave = Leave { shared: Arc::clone(shared), id, why: Ended::Stopped };
        let task = tokio::spawn(attend(stream, outgoing, leave));
        // The task may be over by now on another thread, but waits for our lock before it leaves the table.
        if let Some(open) = connections.open.get_mut(&id) {
            open.task = Some(task.abort_handle());
        }
    }

    /// Closes all connections at once; answers with how many there were.
    fn abort_all(&self) -> usize {
        let mut connections = self.connections.lock();
        connections.stopping = true;
        let tasks: Vec<_> = connections.open.values().filter_map(|open| open.task.clone()).collect();
        drop(connections);
        tasks.iter().for_each(AbortHandle::abort);
        tasks.len()
    }
}

async fn turn_away<S: Stream, V: Service>(shared: Arc<Shared<V>>, mut stream: S) {
    let _ = timeout(shared.settings.farewell_timeout, turn_down(&mut stream, &Close::TooBusy)).await;
    shared.connections.lock().turned_away -= 1;
}

/// Leaves the table of connections, however the task ends.
struct Leave<V: Service> {
    shared: Arc<Shared<V>>,
    id: u64,
    why: Ended,
}

impl<V: Service> Drop for Leave<V> {
    fn drop(&mut self) {
        self.shared.counters.closed(self.why);
        let mut connections = self.shared.connections.lock();
        let open = connections.open.remove(&self.id);
        let last = connections.open.is_empty();
        drop(connections);
        if let Some(open) = open {
            open.outgoing.end(0);
        }
        if last {
            self.shared.empty.notify_waiters();
        }
    }
}

/// The task of one connection.
async fn attend<S: Stream, V: Service>(mut stream: S, outgoing: Arc<Outgoing>, mut leave: Leave<V>) {
    let shared = Arc::clone(&leave.shared);
    let mut input = BytesMut::new();
    let hello = match welcome(&mut stream, &mut input, shared.service.identity(), &shared.settings).await {
        Ok(hello) => hello,
        Err(turned_down) => {
            leave.why = turned_down.why;
            if let Some(bad) = turned_down.bad {
                shared.counters.bad_frame(bad);
            }
            return;
        }
    };
    let mut handler = Inbound::new(Arc::clone(&shared.service), Arc::clone(&outgoing), hello);
    let mut driver = Driver::new(stream, input, outgoing, &shared.settings);
    let end = driver.run(&mut handler).await;
    leave.why = end.ended();
    if let End::Bad(bad) = &end {
        shared.counters.bad_frame(bad.what);
    }
    // What was received before a bad frame was handed over, and nothing after it; nothing more will come.
    drop(handler);
    driver.farewell(&end).await;
}
