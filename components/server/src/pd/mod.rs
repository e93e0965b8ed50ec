//! The PD process: one thread that takes turns, its log, and a listener.

mod collect;
mod page;
mod published;
mod service;
mod turns;

use self::page::PdPage;
use self::published::{Published, Publisher, wall_ms};
use self::service::PdService;
use self::turns::Asked;
use crate::config::{advertised, resolve, status_advertised};
use crate::mailbox::Mailbox;
use crate::status::{Page, Readiness};
use crate::{BootClock, Hooks, PdConfig, ReadyInfo, ServerError, Shutdown};
use ::pd::{Member, Pd};
use engine::Engine as _;
use engine_rocks::RocksEngine;
use env::Clock as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};
use transport::{Responder, Server};
use types::PeerId;

/// Requests of one turn, at most.
const TURN_INPUTS_MAX: usize = 4096;
/// Connections are given this long to end by themselves, and no more than half of the deadline.
const FAREWELL_MAX: Duration = Duration::from_secs(3);

/// What the PD thread and the connections share.
pub(crate) struct Shared {
    pub(crate) inbox: Mailbox<Asked<Responder>>,
    pub(crate) published: Published,
}

/// Runs a placement driver, the only member of its group, until `shutdown` is triggered. Blocks; not to be called from
/// within a tokio runtime. An error of the engine's writes aborts the whole process.
///
/// # Errors
/// Any [`ServerError`]; [`ServerError::Interrupted`] when told to stop before it was ready.
pub fn run(config: PdConfig, shutdown: Shutdown, hooks: Hooks) -> Result<(), ServerError> {
    config.validate()?;
    let runtime = crate::runtime("pd-io", 1)?;
    let inside = runtime.enter();
    let (listener, listening) = crate::bind("listen_addr", resolve("listen_addr", &config.listen_addr)?)?;
    let (status, status_at) = crate::bind("status_addr", resolve("status_addr", &config.status_addr)?)?;
    let address = advertised("advertise_addr", &config.advertise_addr, listening)?;
    let status_address = status_advertised(&address, status_at);

    let engine = RocksEngine::open(config.data_dir.join("db"), &config.engine.options())
        .map_err(|error| ServerError::DataDir(error.to_string()))?;
    info!(version = crate::VERSION, data_dir = %config.data_dir.display(), address, status_address, "pd starts");
    let own = PeerId(1);
    let members = [Member { id: own, address: address.clone() }];
    // The keys of std's hasher are random; that is all the chance that elections need.
    let seed = RandomState::new().hash_one(0_u8);
    let pd = Pd::open(config.pd_config(), engine.clone(), &members, own, seed).map_err(ServerError::Pd)?;

    let shared = Arc::new(Shared { inbox: Mailbox::default(), published: Published::default() });
    let served = Arc::new(transport::Counters::default());
    let page = Arc::new(PdPage {
        started: BootClock.now(),
        readiness: Readiness::new("no leader yet"),
        address: address.clone(),
        shared: shared.clone(),
        served: served.clone(),
    });
    runtime.spawn(crate::status::serve(status, page.clone() as Arc<dyn Page>));
    let turns = {
        let (shared, engine) = (shared.clone(), engine.clone());
        let thread = std::thread::Builder::new().name("pd".to_owned());
        let body = move || {
            let mut watch = Publisher::new(&shared.published, &engine);
            turns::run(&shared.inbox, &engine, pd, TURN_INPUTS_MAX, wall_ms, &mut watch);
        };
        thread.spawn(body).map_err(ServerError::System)?
    };

    let service = PdService { shared: shared.clone() };
    let server = Server::new(Arc::new(service), config.transport.settings(), served);
    server.accept(listener);
    let (settings, expired_interval) = (config.transport.settings(), config.gc.expired_interval.0);
    let collect = collect::run(shared.clone(), address.clone(), settings, expired_interval);
    let collect = runtime.spawn(collect);
    let ready = runtime.block_on(async {
        tokio::select! {
            biased;
            () = shutdown.wait() => None,
            cluster_id = shared.published.serving() => Some(cluster_id),
        }
    });
    if let Some(cluster_id) = ready {
        page.readiness.ready();
        info!(cluster_id = cluster_id.get(), address, "pd serves");
        if let Some(on_ready) = hooks.on_ready {
            on_ready(ReadyInfo { cluster_id, address, status_address, ..ReadyInfo::default() });
        }
        runtime.block_on(shutdown.wait());
    }
    drop(inside);

    info!("pd stops");
    collect.abort();
    page.readiness.not_ready("stopping".to_owned());
    let deadline = BootClock.now() + config.stop_deadline.0;
    let cut = runtime.block_on(server.stop(FAREWELL_MAX.min(config.stop_deadline.0 / 2)));
    if cut > 0 {
        info!(connections = cut, "connections were closed before they had come to their end");
    }
    shared.inbox.close();
    drop(server);
    runtime.shutdown_timeout(deadline.since(BootClock.now()).min(Duration::from_secs(2)));
    if turns.join().is_err() {
        warn!("the thread of the placement driver has panicked");
    }
    let closed = engine.sync().and_then(|()| engine.flush());
    if let Err(error) = closed {
        crate::logging::fatal("closing the engine", &error);
    }
    info!("pd has stopped");
    if ready.is_some() { Ok(()) } else { Err(ServerError::Interrupted) }
}
