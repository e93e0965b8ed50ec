//! Talking to the placement driver: joining, heartbeats, and where other stores are.

use super::hub::Hub;
use crate::measure::add;
use crate::status::Readiness;
use crate::{BootClock, ServerError, Shutdown};
use client::{PdCallError, PdClient};
use engine_rocks::RocksEngine;
use env::Clock as _;
use parking_lot::{Mutex, RwLock};
use raftstore::PdTask;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::{IdentError, Join, JoinStep, PdAgent, PdCall, StoreIdent, TxnInput};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};
use transport::StoreLinks;
use types::StoreId;
use wire::pd::{PdError, PdReply, PdRequest, StoreInfo};

/// How long the placement driver may take for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// After a call that failed, nothing is asked in its place for so long.
const PAUSE: Duration = Duration::from_millis(300);
/// While joining, the same reason is logged again after so many attempts.
const ATTEMPTS_PER_LINE: u32 = 20;
/// Addresses are asked for again after this even if none is missing.
const ADDRESSES_FRESH: Duration = Duration::from_secs(30);

/// Waits; nothing else happens meanwhile in this task.
pub(crate) async fn pause(time: Duration) {
    // What never comes, for so long.
    let _ = timeout(time, std::future::pending::<()>()).await;
}

/// Takes the store into its cluster. Asks as long as it takes.
pub(crate) async fn join(
    engine: RocksEngine,
    info: StoreInfo,
    pd: &PdClient,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> Result<StoreIdent, ServerError> {
    let unusable = |error: IdentError| ServerError::DataDir(error.to_string());
    let (mut join, mut step) = Join::new(engine, info).map_err(unusable)?;
    let mut attempts = 0;
    loop {
        let answer = match step {
            JoinStep::Joined(ident) => return Ok(ident),
            JoinStep::Refused(why) => return Err(ServerError::Refused(why)),
            JoinStep::Ask(request) => {
                tokio::select! {
                    biased;
                    () = shutdown.wait() => return Err(ServerError::Interrupted),
                    answer = pd.request(&request, CALL_TIMEOUT) => answer,
                }
            }
        };
        let why = match answer {
            Ok(reply) => {
                step = join.on_answer(Ok(reply)).map_err(unusable)?;
                continue;
            }
            Err(PdCallError::Refused(error @ (PdError::NotLeader { .. } | PdError::ServerIsBusy { .. }))) => {
                format!("{error:?}")
            }
            Err(PdCallError::Refused(error)) => {
                step = join.on_answer(Err(error)).map_err(unusable)?;
                continue;
            }
            Err(error) => error.to_string(),
        };
        if attempts % ATTEMPTS_PER_LINE == 0 {
            warn!(reason = %why, attempts, "the placement driver does not answer; trying again until it does");
        }
        attempts += 1;
        readiness.not_ready(format!("waiting for the placement driver: {why}"));
        pause(PAUSE).await;
        step = join.on_silence().map_err(unusable)?;
    }
}

/// What workers want told, and the task's wake-up.
pub(crate) struct Agent {
    agent: Mutex<PdAgent>,
    wake: Arc<Notify>,
}

impl Agent {
    pub(crate) fn new(agent: PdAgent, wake: Arc<Notify>) -> Self {
        Self { agent: Mutex::new(agent), wake }
    }

    pub(crate) fn push_all(&self, tasks: Vec<PdTask>) {
        let mut agent = self.agent.lock();
        tasks.into_iter().for_each(|task| agent.push(task));
        drop(agent);
        self.wake.notify_one();
    }
}

/// Tells the placement driver what there is to tell, until the task is dropped.
pub(crate) async fn run(hub: Arc<Hub>, pd: PdClient) {
    loop {
        let now = BootClock.now();
        let (calls, next) = {
            let mut agent = hub.agent.agent.lock();
            (agent.calls(now, || hub.stats()), agent.next_deadline())
        };
        for call in calls {
            tokio::spawn(ask(hub.clone(), pd.clone(), call));
        }
        // Woken, or due.
        let _ = timeout(next.since(now), hub.agent.wake.notified()).await;
    }
}

async fn ask(hub: Arc<Hub>, pd: PdClient, call: PdCall) {
    add(&hub.counters.pd_calls, 1);
    let answer = match pd.request(&call.request, CALL_TIMEOUT).await {
        Ok(reply) => Some(Ok(reply)),
        Err(error) => {
            add(&hub.counters.pd_failures, 1);
            warn!(%error, "a call to the placement driver failed");
            pause(PAUSE).await;
            match error {
                PdCallError::Refused(error) => Some(Err(error)),
                _ => None,
            }
        }
    };
    let (inputs, deadlocks) = {
        let mut agent = hub.agent.agent.lock();
        (agent.on_answer(call, answer), agent.take_deadlocks())
    };
    for (region_id, input) in inputs {
        hub.workers.input(region_id, input);
    }
    for (scheduler, found) in deadlocks {
        hub.bring_txns(scheduler, &mut vec![TxnInput::Deadlock(found)]);
    }
    hub.agent.wake.notify_one();
}

/// Where other stores are, as far as the placement driver has told.
#[derive(Default)]
pub(crate) struct Addresses {
    known: RwLock<BTreeMap<StoreId, String>>,
    wanted: Notify,
}

impl Addresses {
    /// Where a store is; if nobody knows, it is asked for.
    pub(crate) fn find(&self, store_id: StoreId) -> Option<String> {
        let address = self.known.read().get(&store_id).cloned();
        if address.is_none() {
            self.refresh();
        }
        address
    }

    /// Asks for all of them again.
    pub(crate) fn refresh(&self) {
        self.wanted.notify_one();
    }
}

/// Keeps the addresses fresh, until the task is dropped.
pub(crate) async fn keep_addresses(addresses: Arc<Addresses>, links: Arc<StoreLinks>, pd: PdClient) {
    loop {
        match pd.request(&PdRequest::GetStores, CALL_TIMEOUT).await {
            Ok(PdReply::Stores(stores)) => {
                for status in stores {
                    let info = status.info;
                    let old = addresses.known.write().insert(info.id, info.address.clone());
                    if old.as_ref().is_some_and(|old| *old != info.address) {
                        info!(store_id = info.id.get(), address = %info.address, "a store has moved");
                        links.close(info.id);
                    }
                }
            }
            Ok(other) => warn!(answer = ?other, "the placement driver's list of stores is none"),
            Err(error) => warn!(%error, "the placement driver does not tell where the stores are"),
        }
        // However many ask, one question in this time.
        pause(PAUSE).await;
        let _ = timeout(ADDRESSES_FRESH, addresses.wanted.notified()).await;
    }
}
