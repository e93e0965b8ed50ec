//! The threads of a store, and their end in good order.

use super::Started;
use super::answers::Waiting;
use super::counters::Method;
use super::ending::{Ended, Group, LOOK_AGAIN, wind_down};
use super::hub::Hub;
use super::page::StorePage;
use super::service::StoreService;
use super::stages::Asked;
use crate::mailbox::Mailbox;
use crate::sync::{JoinHandle, pause};
use crate::{BootClock, ServerError, StoreConfig};
use engine::Engine as _;
use env::Clock as _;
use raftstore::Input;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tracing::{info, warn};
use transport::Server;
use types::MonoTime;

/// Handing leaders over may take this long, and no more than a third of the deadline.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// Connections are given this long to end by themselves, and no more than a third of the deadline.
const FAREWELL_MAX: Duration = Duration::from_secs(3);

/// Threads and tasks that run until they are told to end.
#[derive(Default)]
pub(crate) struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// How many of them are workers, which end first.
    workers: usize,
    pub(crate) tasks: Vec<AbortHandle>,
}

impl Threads {
    pub(crate) fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), ServerError> {
        let thread = std::thread::Builder::new().name(name);
        self.handles.push(thread.spawn(body).map_err(ServerError::System)?);
        Ok(())
    }

    /// From here on, threads are no workers.
    pub(crate) fn begin_aside(&mut self) {
        self.workers = self.handles.len();
    }
}

/// Stops a store: leaders first, then connections, threads, and the engine. Whatever does not end by the deadline is
/// left to the end of the process.
pub(crate) fn stop(
    config: &StoreConfig,
    runtime: Runtime,
    started: Started,
    server: Server<StoreService>,
    page: &Arc<StorePage>,
) {
    let deadline = BootClock.now() + config.stop_deadline.0;
    let third = config.stop_deadline.0 / 3;
    info!("store stops");
    page.readiness.not_ready("stopping".to_owned());
    let Started { hub, threads, watch, dispatcher } = started;
    drop(dispatcher);
    hand_over(&hub, BootClock.now() + HAND_OVER_MAX.min(third));
    let cut = runtime.block_on(server.stop(FAREWELL_MAX.min(third)));
    if cut > 0 {
        info!(connections = cut, "connections were closed before they had come to their end");
    }
    let Threads { mut handles, workers, tasks } = threads;
    tasks.iter().for_each(AbortHandle::abort);
    watch.stop.close();
    let aside = handles.split_off(workers);
    let groups = [
        Group { handles: &handles, tell: &|| hub.workers.inboxes.iter().for_each(Mailbox::close) },
        Group { handles: &aside, tell: &|| hub.close_aside() },
    ];
    let Ended { all: ended, unanswered } = wind_down(&groups, &hub.answers, deadline);
    if unanswered > 0 {
        info!(requests = unanswered, "requests were answered as undetermined");
    }
    let left = |deadline: MonoTime| deadline.since(BootClock.now());
    runtime.block_on(hub.links.stop(left(deadline).min(Duration::from_millis(500))));
    page.running.lock().take();
    drop(server);
    runtime.shutdown_timeout(left(deadline).min(Duration::from_secs(2)));
    if !ended {
        warn!("the store stops without waiting for all of its threads");
        return;
    }
    handles.into_iter().chain(aside).for_each(|handle| {
        // One that panicked has said so.
        let _ = handle.join();
    });
    // Nothing depends on it: it saves the next start from reading the log.
    let closed = hub.engine.sync().and_then(|()| hub.engine.flush());
    if let Err(error) = closed {
        crate::logging::fatal("closing the engine", &error);
    }
    let holders = Arc::strong_count(&hub);
    if holders > 1 {
        warn!(holders, "parts of the store are still in use");
    }
    info!("store has stopped");
}

/// Asks another voter of each region that we lead to take over, and waits until none is left.
fn hand_over(hub: &Arc<Hub>, deadline: MonoTime) {
    wake_leaders(hub, deadline);
    let mut asked = 0_usize;
    for region in hub.meta.regions() {
        if hub.meta.delegate(region.id).is_none() {
            continue;
        }
        let others: Vec<_> = region
            .peers
            .iter()
            .filter(|peer| peer.store_id != hub.store_id && peer.role == types::PeerRole::Voter)
            .collect();
        let Some(peer) = others.get(asked % others.len().max(1)) else { continue };
        asked += 1;
        let since = BootClock.now();
        let request = Asked { region_id: region.id, method: Method::TransferLeader, bytes: 0, since };
        let token = hub.answers.insert(0, Waiting { responder: None, asked: request, timed: false });
        hub.workers.input(
            region.id,
            Input::TransferLeader {
                token,
                region_id: region.id,
                epoch: region.epoch,
                to_store: peer.store_id,
            },
        );
    }
    if asked == 0 {
        return;
    }
    let leads = || leading(hub, |region| region.peers.len() > 1);
    while leads() > 0 && BootClock.now() < deadline {
        pause(LOOK_AGAIN);
    }
    info!(asked, left = leads(), "handed leaders over");
}

/// How many of these regions are known to be led here: their leaders may answer reads.
fn leading(hub: &Hub, which: impl Fn(&types::Region) -> bool) -> usize {
    let regions = hub.meta.regions();
    regions.iter().filter(|region| which(region) && hub.meta.delegate(region.id).is_some()).count()
}

/// Wakes the regions that sleep, and waits until their quorums have told the leaders here that they still are.
fn wake_leaders(hub: &Hub, deadline: MonoTime) {
    hub.workers.tell_all(|| Input::StayAwake);
    if hub.workers.stats().hibernated == 0 {
        return;
    }
    // Those that have lost their quorum meanwhile have nobody to hand over to.
    let deadline = deadline.min(BootClock.now() + hub.config.raftstore.election_timeout_min());
    let ready = || {
        let stats = hub.workers.stats();
        stats.hibernated == 0 && leading(hub, |_| true) as u64 >= stats.leaders
    };
    while !ready() && BootClock.now() < deadline {
        pause(LOOK_AGAIN);
    }
}
