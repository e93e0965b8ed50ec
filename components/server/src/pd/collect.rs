//! Old versions are removed for as long as this process serves: what the placement driver decides, its own client does.

use super::Shared;
use crate::BootClock;
use crate::measure::add;
use client::{Client, Collected, Collector, Error, Options};
use env::Clock as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{debug, info, warn};
use transport::Settings;

/// How often is looked whether there is something to do.
const POLL: Duration = Duration::from_secs(1);
/// After a failure, nothing is tried for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// One step in one region may take so long, elections included.
const DEADLINE: Duration = Duration::from_secs(20);

/// Works until the task is dropped; `address` is that of this placement driver.
/// Raw values that are over are looked for once in `expired_interval`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    address: String,
    settings: Settings,
    expired_interval: Duration,
) {
    let collector = loop {
        shared.published.serving().await;
        let mut options = Options { connections: settings.clone(), ..Options::default() };
        options.calls.deadline = DEADLINE;
        match Client::connect([address.clone()], options).await {
            Ok(client) => break client.collector(),
            Err(error) => warn!(%error, "old versions are not removed: this process does not reach itself"),
        }
        rest(PAUSE).await;
    };
    let mut next_sweep = BootClock.now() + expired_interval;
    loop {
        // Another member may serve; then its process does the work.
        shared.published.serving().await;
        rest(look(&shared, &collector).await).await;
        if BootClock.now() >= next_sweep {
            sweep(&shared, &collector).await;
            next_sweep = BootClock.now() + expired_interval;
        }
    }
}

/// Raw values that are over go. They are seen by nobody, so no hour is late.
async fn sweep(shared: &Shared, collector: &Collector) {
    let published = &shared.published;
    match collector.expire().await {
        Ok(0) => {}
        Ok(values) => {
            add(&published.expired_values, values);
            info!(values, "values that were over are removed");
        }
        Err(Error::Unavailable { .. }) if !published.status.lock().bootstrapped => {}
        Err(error) => {
            add(&published.gc_failures, 1);
            warn!(%error, "values that are over are not all removed; trying again later");
        }
    }
}

/// Does what there is to do. Gives back how long to rest.
async fn look(shared: &Shared, collector: &Collector) -> Duration {
    let published = &shared.published;
    match collector.work().await {
        Ok(Collected::Nothing) => {}
        Ok(Collected::Resolved { locks }) => {
            add(&published.gc_locks, locks);
            debug!(locks, "old locks are resolved");
        }
        Ok(Collected::Removed { versions }) => {
            add(&published.gc_versions, versions);
            info!(versions, "old versions are removed");
        }
        Err(Error::Unavailable { .. }) if !published.status.lock().bootstrapped => {}
        Err(error) => {
            add(&published.gc_failures, 1);
            warn!(%error, "old versions are not removed; trying again");
            return PAUSE;
        }
    }
    POLL
}

/// Waits; nothing else happens meanwhile in this task.
async fn rest(time: Duration) {
    // What never comes, for so long.
    let _ = timeout(time, std::future::pending::<()>()).await;
}
