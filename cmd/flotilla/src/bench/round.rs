//! One round of a suite: clients at work on a cluster of its own, and what they and the servers used meanwhile.

use super::load::{Load, Numbers, Running, start};
use super::system::{Counters, cpu};
use super::workload::Workload;
use crate::clock;
use crate::ctl::{Cluster as View, Wanted};
use crate::playground::Cluster;
use anyhow::bail;
use client::{Client, RawClient};
use std::time::{Duration, Instant};

/// Until every region has its replicas.
const REPLICATED_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timing {
    pub(super) rounds: usize,
    pub(super) duration: Duration,
    pub(super) warm_up: Duration,
}

/// Everything that is counted, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) servers: Duration,
    pub(super) generator: Duration,
    pub(super) counters: Counters,
}

impl Sample {
    pub(super) async fn take(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut servers = cpu(cluster.pd.pid())?;
        let mut counters = Counters::default();
        for store in &cluster.stores {
            servers += cpu(store.pid())?;
            counters = counters + Counters::ask(&store.ready().status_address).await?;
        }
        Ok(Self { servers, generator: cpu(std::process::id())?, counters })
    }
}

/// What came of a round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) numbers: Numbers,
    /// Processor time of all servers, and of this process.
    pub(super) servers: Duration,
    pub(super) generator: Duration,
    pub(super) counted: Counters,
}

impl Round {
    /// A cost in microseconds for each operation.
    pub(super) fn per_operation(&self, cost: Duration) -> f64 {
        cost.as_secs_f64() * 1e6 / self.numbers.operations as f64
    }

    /// In microseconds.
    pub(super) fn latency(&self, quantile: f64) -> f64 {
        self.numbers.latency.value_at_quantile(quantile) as f64
    }
}

/// Runs a load once. `meanwhile` is what is done to the cluster while it counts; it is given up when the time is over.
pub(super) async fn round(
    timing: Timing,
    cluster: &Cluster,
    raw: &RawClient,
    load: Load,
    meanwhile: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Round> {
    let running = start(std::slice::from_ref(raw), load, None);
    round_of(timing, cluster, running, &load, meanwhile).await
}

/// The same of clients that have just been set to work.
pub(super) async fn round_of(
    timing: Timing,
    cluster: &Cluster,
    mut running: Running,
    load: &Load,
    meanwhile: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Round> {
    clock::pause(timing.warm_up).await;
    let before = Sample::take(cluster).await?;
    running.begin();
    let begin = clock::now();
    if let Ok(done) = tokio::time::timeout(timing.duration, meanwhile).await {
        done?;
    }
    clock::pause(timing.duration.saturating_sub(begin.elapsed())).await;
    let (numbers, after) = match load.rate {
        // What was due in time counts however late it ends.
        Some(_) => (running.finish().await, Sample::take(cluster).await?),
        None => {
            let numbers = running.end();
            let after = Sample::take(cluster).await?;
            running.stop().await;
            (numbers, after)
        }
    };
    if let Some(error) = &numbers.first_error {
        eprintln!(
            "  {} operations failed, {} are of unknown outcome; the first: {error}",
            numbers.errors, numbers.undetermined
        );
    }
    if numbers.operations == 0 {
        bail!(
            "no {} succeeded; run it again, or look at the logs with `flotilla playground`",
            load.workload.name()
        );
    }
    Ok(Round {
        numbers,
        servers: after.servers.saturating_sub(before.servers),
        generator: after.generator.saturating_sub(before.generator),
        counted: after.counters - before.counters,
    })
}

/// Nothing, for rounds during which nothing is done.
pub(super) async fn nothing() -> anyhow::Result<()> {
    Ok(())
}

/// The name of a load's rows.
pub(super) fn name_of(load: &Load) -> String {
    let size = load.value_size;
    let clients = load.clients;
    match (load.workload, load.rate) {
        (_, Some(rate)) => format!("{}_{size}B_at_{rate}", load.workload.name()),
        (Workload::Scan, None) => format!("scan_{}x{size}B_{clients}c", load.scan_pairs),
        (other, None) => format!("{}_{size}B_{clients}c", other.name()),
    }
}

/// Waits until every region has its replicas.
pub(super) async fn wait_replicated(client: &Client) -> anyhow::Result<()> {
    let wanted = Wanted { replicated: true, balanced: false };
    match wait(client, wanted, clock::now() + REPLICATED_TIMEOUT).await? {
        None => Ok(()),
        Some(lack) => bail!("not replicated after {} s: {lack}", REPLICATED_TIMEOUT.as_secs()),
    }
}

/// Waits until the cluster is as wanted, until `deadline`; what is missing then.
pub(super) async fn wait(
    client: &Client,
    wanted: Wanted,
    deadline: Instant,
) -> anyhow::Result<Option<String>> {
    loop {
        match View::look(client).await?.missing(wanted) {
            Some(lack) if clock::now() >= deadline => return Ok(Some(lack)),
            Some(_) => clock::pause(LOOK_INTERVAL).await,
            None => return Ok(None),
        }
    }
}
