//! The store process: what it starts, in which order, and how it stops.

mod agent;
mod answers;
#[cfg(test)]
mod answers_tests;
mod apply;
mod counters;
mod disk;
mod ending;
mod gather;
mod hub;
mod log;
mod page;
mod pressure;
mod scheduling;
mod service;
mod snapshots;
mod stages;
#[cfg(test)]
mod stages_tests;
mod stop;
mod threads;
mod turns;

use self::agent::{Addresses, Agent};
use self::answers::{Answers, Scheduled};
use self::counters::Counters;
use self::disk::Watch;
use self::gather::Gather;
use self::hub::{Disk, Hub, Workers};
use self::page::{Running, StorePage};
use self::pressure::PressureCache;
use self::scheduling::{Scheduling, TxnInboxes};
use self::service::StoreService;
use self::snapshots::SendOptions;
use self::stages::Stopwatch;
use self::stop::Threads;
use self::turns::Desk;
use crate::config::{advertised, resolve, status_advertised};
use crate::mailbox::Mailbox;
use crate::measure::Durations;
use crate::seat::Seat;
use crate::status::{Page, Readiness};
use crate::{BootClock, Hooks, ReadyInfo, ServerError, Shutdown, StoreConfig};
use client::PdClient;
use engine::Engine as _;
use engine_rocks::RocksEngine;
use env::Clock as _;
use parking_lot::Mutex;
use raftstore::{Applier, Input, StoreMeta, Worker, WorkerShare, recover};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::{
    Dispatcher, PdAgent, ReadLimits, SnapshotBuilder, SnapshotReceiver, StoreIdent, TxnInput, TxnScheduler,
    TxnShared, read_age, scheduler_of,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore};
use tracing::info;
use transport::{Identity, Server, SnapshotOptions, StoreLinks};
use types::{MonoTime, StoreId};
use wire::pd::StoreInfo;

/// A store that cannot be reached is reported to its peers' leaders once in this time, however often it is tried.
const UNREACHABLE_INTERVAL: Duration = Duration::from_millis(100);
/// Threads for reads that take long.
const READ_THREADS: usize = 1;

/// Runs a store until `shutdown` is triggered. Blocks; not to be called from within a tokio runtime.
///
/// Opens the data directory, listens, joins the cluster (for as long as the placement driver takes to answer), takes up
/// the regions that it finds, and calls [`Hooks::on_ready`]. An error of the engine's writes aborts the whole process.
///
/// # Errors
/// Any [`ServerError`]; [`ServerError::Interrupted`] when told to stop before it was ready.
pub fn run(config: StoreConfig, shutdown: Shutdown, hooks: Hooks) -> Result<(), ServerError> {
    config.validate()?;
    let threads = config.threads.resolved();
    let runtime = crate::runtime("store-io", threads.sockets)?;
    let _inside = runtime.enter();
    let (listener, listening) = crate::bind("listen_addr", resolve("listen_addr", &config.listen_addr)?)?;
    let (status, status_at) = crate::bind("status_addr", resolve("status_addr", &config.status_addr)?)?;
    let address = advertised("advertise_addr", &config.advertise_addr, listening)?;
    let status_address = status_advertised(&address, status_at);

    let unusable = |error: &dyn std::fmt::Display| ServerError::DataDir(error.to_string());
    let db = config.data_dir.join("db");
    let engine = RocksEngine::open(&db, &config.engine.options()).map_err(|error| unusable(&error))?;
    disk::keep_placeholder(&config.data_dir, config.reserve_space.0)?;
    info!(version = crate::VERSION, data_dir = %config.data_dir.display(), address, status_address, "store starts");

    let page = Arc::new(StorePage {
        started: BootClock.now(),
        readiness: Readiness::new("joining the cluster"),
        running: Mutex::new(None),
    });
    runtime.spawn(crate::status::serve(status, page.clone() as Arc<dyn Page>));

    let settings = config.transport.settings();
    let outside = Arc::new(transport::Counters::default());
    let pd = |identity| {
        PdClient::new(config.pd_endpoints.iter().cloned(), identity, settings.clone(), outside.clone())
    };
    let introduced = StoreInfo {
        id: StoreId::ZERO,
        address: address.clone(),
        status_address: status_address.clone(),
        version: crate::VERSION.to_owned(),
        ..StoreInfo::default()
    };
    let stranger = pd(Identity::default());
    let ident =
        runtime.block_on(agent::join(engine.clone(), introduced, &stranger, &page.readiness, &shutdown))?;
    drop(stranger);
    let (cluster_id, store_id) = (ident.cluster_id, ident.store_id);
    info!(cluster_id = cluster_id.get(), store_id = store_id.get(), "joined the cluster");

    let identity = Identity { cluster_id, store_id };
    let member = pd(identity);
    let started = Started::start(&config, &runtime, engine, ident, outside, &member)?;
    let served = Arc::new(transport::Counters::default());
    let service = StoreService::new(
        started.hub.clone(),
        cluster_id,
        started.dispatcher.clone(),
        // One more for the thread that takes over when another blocks.
        threads.sockets + 1,
        config.requests.timeout.0,
    );
    let server = Server::new(Arc::new(service), settings, served.clone());
    accept(&server, listener);
    *page.running.lock() = Some(Running {
        hub: started.hub.clone(),
        watch: started.watch.clone(),
        cluster_id: cluster_id.get(),
        address: address.clone(),
        served,
    });
    page.readiness.ready();
    info!(store_id = store_id.get(), address, "store serves");
    if let Some(on_ready) = hooks.on_ready {
        on_ready(ReadyInfo { cluster_id, store_id, address, status_address });
    }
    runtime.block_on(shutdown.wait());
    drop(_inside);
    stop::stop(&config, runtime, started, server, &page);
    Ok(())
}

fn accept(server: &Server<StoreService>, listener: TcpListener) {
    server.accept(listener);
}

/// All that runs, but for what faces clients.
pub(crate) struct Started {
    pub(crate) hub: Arc<Hub>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) watch: Arc<Watch>,
    pub(crate) threads: Threads,
}

impl Started {
    fn start(
        config: &StoreConfig,
        runtime: &Runtime,
        engine: RocksEngine,
        ident: StoreIdent,
        outside: Arc<transport::Counters>,
        pd: &PdClient,
    ) -> Result<Self, ServerError> {
        let unusable = |error: &dyn std::fmt::Display| ServerError::DataDir(error.to_string());
        let store_config = Arc::new(config.store_config());
        let settings = config.transport.settings();
        let store_id = ident.store_id;
        let identity = Identity { cluster_id: ident.cluster_id, store_id };
        let meta = Arc::new(StoreMeta::new());
        let workers = Arc::new(Workers::new(store_config.workers));
        let addresses = Arc::new(Addresses::default());
        let links = Arc::new(links(identity, &settings, &outside, &workers, &addresses, runtime));
        let wake = Arc::new(Notify::new());
        let wakes = wake.clone();
        let txn_shared =
            TxnShared::new(move || wakes.notify_one()).collecting_within(store_config.gc_bytes_per_second);
        let dispatcher = Dispatcher::new(store_config.clone(), txn_shared.clone());
        let counters = Arc::new(Counters::default());
        let builder = SnapshotBuilder::new(
            engine.clone(),
            store_config.snapshots_building_max,
            store_config.snapshot_piece_bytes,
        );
        let pacer = NonZeroU64::new(config.snapshot.send_rate_max.0).map(transport::Pacer::new);
        let age = read_age(&engine).map_err(|error| unusable(&error))?;
        // What a restart has found is durable.
        counters.log_mark.store(age.log_mark, Ordering::Relaxed);
        let txns: Arc<TxnInboxes<_>> =
            Arc::new((0..store_config.workers).map(|_| Mailbox::default()).collect());
        let told = txns.clone();
        // Whoever answers looks into these inboxes afterwards.
        let scheduled: Scheduled = Box::new(move |token, answer| {
            let scheduler = scheduler_of(token).expect("the token of a scheduler");
            told[scheduler].put_all(&mut vec![TxnInput::Answer { token, answer }]);
        });
        let scheduler = |index| {
            TxnScheduler::new(index, engine.clone(), meta.clone(), txn_shared.clone())
                .waiting_within(store_config.lock_waits)
                .reserving(store_config.reservations)
        };
        let hub = Arc::new(Hub {
            store_id,
            starts: age.starts,
            limits: ReadLimits {
                bytes_max: store_config.read_bytes_max,
                pairs_max: store_config.scan_pairs_max,
                bugs: store_config.record_bugs,
            },
            log: Mailbox::default(),
            txn_shared: txn_shared.clone(),
            scheduling: Scheduling::new(txns, hub::TURN_INPUTS_MAX, Some(hub::SCHEDULER_TICK), scheduler),
            desks: OnceLock::new(),
            gather: (0..store_config.workers).map(|_| Gather::default()).collect(),
            appliers: (0..store_config.appliers).map(|_| Mailbox::default()).collect(),
            apply_seats: (0..store_config.appliers)
                .map(|_| Seat::new(Applier::new(engine.clone(), meta.clone())))
                .collect(),
            slow: Mailbox::default(),
            quick: Mailbox::default(),
            arriving: Mailbox::default(),
            reads: Mailbox::default(),
            answers: Answers::new(
                config.requests.pending_max,
                dispatcher.inflight().clone(),
                counters.clone(),
                Stopwatch::new(store_id, config.requests.slow_request_threshold.0),
            )
            .telling(scheduled),
            links: links.clone(),
            agent: Agent::new(
                PdAgent::new(store_id, store_config.store_heartbeat_interval, txn_shared.clone()),
                wake,
            ),
            builder: Mutex::new(builder),
            disk: Arc::new(Disk::default()),
            pressure: PressureCache::default(),
            counters,
            runtime: runtime.handle().clone(),
            sending: Arc::new(Semaphore::new(config.snapshot.sending_max)),
            to_send: AtomicUsize::new(0),
            sender: SendOptions {
                identity,
                settings,
                counters: outside,
                options: SnapshotOptions { pacer: pacer.map(Arc::new), ..SnapshotOptions::default() },
                addresses: addresses.clone(),
                at_once: config.snapshot.sending_max,
            },
            config: store_config,
            workers,
            meta,
            engine,
        });
        let watch = Arc::new(Watch {
            data_dir: config.data_dir.clone(),
            reserve_bytes: config.reserve_space.0,
            stop: Mailbox::default(),
            engine: Mutex::new(None),
            probes: Durations::default(),
            slow_score: Mutex::default(),
        });
        watch.look(&hub);

        let resumed = resume(&hub).map_err(|error| unusable(&error))?;
        let mut threads = Threads::default();
        let desks = resumed.into_iter().map(|worker| Seat::new(Desk::new(worker))).collect();
        assert!(hub.desks.set(desks).is_ok(), "workers are made once");
        for index in 0..hub.workers.inboxes.len() {
            let hub = hub.clone();
            threads.spawn(format!("raft-{index}"), move || threads::work(&hub, index))?;
        }
        for index in 0..hub.workers.inboxes.len() {
            let gather = threads::gather(hub.clone(), index);
            threads.tasks.push(runtime.spawn(gather).abort_handle());
        }
        threads.begin_aside();
        let own = hub.clone();
        threads.spawn("log".to_owned(), move || threads::write_log(&own))?;
        for index in 0..hub.appliers.len() {
            let own = hub.clone();
            threads.spawn(format!("apply-{index}"), move || threads::apply(&own, index))?;
        }
        for index in 0..hub.workers.inboxes.len() {
            let own = hub.clone();
            threads.spawn(format!("txn-{index}"), move || threads::schedule(&own, index))?;
        }
        let own = hub.clone();
        threads.spawn("quick".to_owned(), move || threads::work_aside(&own, &own.quick))?;
        let own = hub.clone();
        threads.spawn("slow".to_owned(), move || threads::work_aside(&own, &own.slow))?;
        let receiver = SnapshotReceiver::new(
            hub.engine.clone(),
            hub.meta.clone(),
            store_id,
            hub.config.snapshots_receiving_max,
            hub.config.snapshot_batch_bytes_max,
        );
        let own = hub.clone();
        threads.spawn("snapshot-in".to_owned(), move || threads::receive(&own, receiver))?;
        for index in 0..READ_THREADS {
            let own = hub.clone();
            threads.spawn(format!("read-{index}"), move || threads::read(&own))?;
        }
        let (own, watching) = (hub.clone(), watch.clone());
        threads.spawn("watch".to_owned(), move || watching.run(&own))?;

        threads.tasks.push(runtime.spawn(agent::run(hub.clone(), pd.clone())).abort_handle());
        let keep = agent::keep_addresses(addresses, links, pd.clone());
        threads.tasks.push(runtime.spawn(keep).abort_handle());
        Ok(Self { hub, dispatcher, watch, threads })
    }
}

/// The links to other stores, which tell the workers whom they cannot reach.
fn links(
    identity: Identity,
    settings: &transport::Settings,
    counters: &Arc<transport::Counters>,
    workers: &Arc<Workers>,
    addresses: &Arc<Addresses>,
    runtime: &Runtime,
) -> StoreLinks {
    let (resolving, workers, addresses) = (addresses.clone(), workers.clone(), addresses.clone());
    let told: Mutex<BTreeMap<StoreId, MonoTime>> = Mutex::default();
    StoreLinks::new(
        identity,
        settings.clone(),
        counters.clone(),
        Arc::new(move |store_id| resolving.find(store_id)),
        Arc::new(move |store_id, _| {
            let now = BootClock.now();
            let mut told = told.lock();
            if told.get(&store_id).is_some_and(|last| now.since(*last) < UNREACHABLE_INTERVAL) {
                return;
            }
            told.insert(store_id, now);
            drop(told);
            workers.tell_all(|| Input::Unreachable(store_id));
            addresses.refresh();
        }),
        runtime.handle().clone(),
    )
}

/// Takes up the regions that the engine holds, and clears away what a crash has left half done.
fn resume(hub: &Arc<Hub>) -> Result<Vec<Worker<RocksEngine>>, String> {
    let recovered = recover(&hub.engine).map_err(|error| error.to_string())?;
    let kept: BTreeSet<&str> = recovered.files().collect();
    for name in hub.engine.list_sst().map_err(|error| error.to_string())? {
        if !kept.contains(&name[..]) {
            hub.engine.remove_sst(&name).map_err(|error| error.to_string())?;
        }
    }
    info!(regions = recovered.regions.len(), "took up the regions of the data directory");
    let mut workers = Vec::new();
    for index in 0..hub.config.workers {
        // The keys of std's hasher are random; that is all the chance that elections need.
        let seed = RandomState::new().hash_one(index);
        let (config, engine) = (hub.config.raftstore.clone(), hub.engine.clone());
        let share = WorkerShare { index, count: hub.config.workers };
        let (meta, held) = (hub.meta.clone(), hub.txn_shared.held.clone());
        let mut worker = Worker::new(config, hub.store_id, share, engine, meta, held, seed);
        let effects = worker.resume(BootClock.now(), &recovered).map_err(|error| error.to_string())?;
        hub.route(index, true, effects);
        workers.push(worker);
    }
    Ok(workers)
}
