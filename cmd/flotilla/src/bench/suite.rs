//! `flotilla bench --suite`: a cluster of its own, the same rows every time.

use super::load::{Load, fill};
use super::round::{Round, Sample, Timing, name_of, nothing, round, wait_replicated};
use super::rows::{Rounds, Row, report};
use super::system::resident;
use super::workload::Workload;
use super::{regions, tails, txn};
use crate::clock;
use crate::playground::{Cluster, ClusterOptions};
use crate::settings::Setting;
use anyhow::ensure;
use clap::ValueEnum;
use client::RawClient;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

const STORES: usize = 3;
const VALUE_SIZE: usize = 128;
const KEYS: u64 = 10_000;
const SCAN_PAIRS: u64 = 100;
/// YCSB's records have a thousand bytes.
const YCSB_VALUE_SIZE: usize = 1000;
const YCSB_KEYS: u64 = 100_000;
const YCSB_CLIENTS: usize = 64;

/// What is measured, for how long and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Suite {
    /// Puts, gets and scans: three rounds of two seconds.
    Quick,
    /// The same: five rounds of ten seconds.
    Full,
    /// YCSB's mixes A to F, and A in an open loop at half of what the closed one came to.
    Ycsb,
    /// Puts at a steady rate while leaders move, snapshots are sent, regions split and RocksDB compacts, each beside the
    /// same puts undisturbed.
    Tails,
    /// Puts into the same data in 1, 100, 1,000 and 10,000 regions.
    Regions,
    /// Transactions: of one key and of sixteen, reads at a timestamp beside raw ones, and a storm on eight keys.
    Txn,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
            Self::Ycsb => "ycsb",
            Self::Tails => "tails",
            Self::Regions => "regions",
            Self::Txn => "txn",
        }
    }

    const fn timing(self) -> Timing {
        let (rounds, seconds, warm_up) = match self {
            Self::Quick => (3, 2, 500),
            Self::Full => (5, 10, 2000),
            Self::Ycsb => (3, 3, 1000),
            Self::Tails => (3, 4, 1000),
            Self::Regions => (3, 3, 1000),
            Self::Txn => (3, 3, 500),
        };
        Timing { rounds, duration: Duration::from_secs(seconds), warm_up: Duration::from_millis(warm_up) }
    }
}

/// What whoever runs a suite may say of it.
#[derive(Clone, Default, Debug)]
pub(super) struct Plan {
    /// How often each row is measured; `None` leaves it to the suite.
    pub(super) rounds: Option<u32>,
    /// How many regions [`Suite::Regions`] makes; ascending.
    pub(super) regions: Vec<u64>,
    /// Settings of the stores.
    pub(super) settings: Vec<Setting>,
}

/// Runs the suite, prints it, and appends it to `results/<suite>.jsonl`.
pub(super) async fn run(suite: Suite, plan: &Plan, results: &Path, json: bool) -> anyhow::Result<()> {
    let mut timing = suite.timing();
    timing.rounds = plan.rounds.map_or(timing.rounds, |rounds| rounds as usize);
    ensure!(plan.regions.is_sorted(), "regions are not joined again: give --regions in ascending order");
    let options =
        ClusterOptions { stores: STORES, store_settings: plan.settings.clone(), ..ClusterOptions::default() };
    let rows = match suite {
        Suite::Tails => tails::run(timing, options).await?,
        Suite::Quick | Suite::Full | Suite::Ycsb | Suite::Regions | Suite::Txn => {
            with_cluster(&options, async |cluster| match suite {
                Suite::Ycsb => ycsb(timing, cluster).await,
                Suite::Regions => regions::measure(timing, &plan.regions, cluster).await,
                Suite::Txn => txn::suite::measure(timing, cluster).await,
                _ => measure(timing, cluster).await,
            })
            .await?
        }
    };
    report(&rows, suite.name(), results, json)
}

/// Measures on a cluster that is started for it and stopped behind it.
pub(super) async fn with_cluster<T>(
    options: &ClusterOptions,
    measure: impl AsyncFnOnce(&Cluster) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    eprintln!("starting a cluster of {} stores …", options.stores);
    let cluster = Cluster::start(options).await?;
    let measured = measure(&cluster).await;
    // Also after an error: the processes should end in order.
    let stopped = cluster.stop().await;
    let measured = measured?;
    stopped?;
    Ok(measured)
}

async fn measure(timing: Timing, cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    let client = cluster.remote().connect().await?;
    wait_replicated(&client).await?;
    let raw = client.raw();
    let mut rounds = Rounds::default();
    idle(timing, cluster, &mut rounds).await?;
    let load = |workload, clients| Load {
        workload,
        clients,
        value_size: VALUE_SIZE,
        keys: KEYS,
        scan_pairs: SCAN_PAIRS,
        rate: None,
    };
    fill(&raw, &load(Workload::Put, 1), None).await?;
    for (workload, clients) in [
        (Workload::Put, 1),
        (Workload::Put, 64),
        (Workload::Put, 512),
        (Workload::Get, 64),
        (Workload::Get, 512),
        (Workload::Scan, 16),
    ] {
        let load = load(workload, clients);
        eprintln!("{} with {clients} clients …", workload.name());
        for _ in 0..timing.rounds {
            let round = round(timing, cluster, &raw, load, nothing()).await?;
            add(&mut rounds, &load, &round);
        }
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for store in &cluster.stores {
        rounds.add("loaded.store_resident".to_owned(), "MiB", mib(resident(store.pid())?));
    }
    rounds.add("loaded.pd_resident".to_owned(), "MiB", mib(resident(cluster.pd.pid())?));
    Ok(rounds.rows())
}

/// The mixes in the order in which YCSB's authors run them: those that insert come last, on keys that all others share.
async fn ycsb(timing: Timing, cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    let client = cluster.remote().connect().await?;
    wait_replicated(&client).await?;
    let raw = client.raw();
    let mut rounds = Rounds::default();
    let load = |workload| Load {
        workload,
        clients: YCSB_CLIENTS,
        value_size: YCSB_VALUE_SIZE,
        keys: YCSB_KEYS,
        scan_pairs: SCAN_PAIRS,
        rate: None,
    };
    eprintln!("loading {YCSB_KEYS} records …");
    fill(&raw, &load(Workload::YcsbA), None).await?;
    let mut rate = None;
    for workload in
        [Workload::YcsbA, Workload::YcsbB, Workload::YcsbC, Workload::YcsbF, Workload::YcsbD, Workload::YcsbE]
    {
        let load = load(workload);
        eprintln!("{} …", workload.name());
        let throughputs = repeat(timing, cluster, &raw, load, &mut rounds).await?;
        if workload == Workload::YcsbA {
            let median = throughputs[throughputs.len() / 2];
            // Round figures, so that rows of different days may have one name.
            rate = NonZeroU32::new((median / 2.0 / 500.0) as u32 * 500).or(NonZeroU32::new(500));
        }
    }
    let open = Load { rate, clients: 4096, ..load(Workload::YcsbA) };
    eprintln!("ycsb_a in an open loop, {} operations begun each second …", rate.map_or(0, NonZeroU32::get));
    repeat(timing, cluster, &raw, open, &mut rounds).await?;
    Ok(rounds.rows())
}

/// All rounds of a load; their throughputs, ascending.
async fn repeat(
    timing: Timing,
    cluster: &Cluster,
    raw: &RawClient,
    load: Load,
    rounds: &mut Rounds,
) -> anyhow::Result<Vec<f64>> {
    let mut throughputs = Vec::new();
    for _ in 0..timing.rounds {
        let round = round(timing, cluster, raw, load, nothing()).await?;
        throughputs.push(round.numbers.throughput());
        add(rounds, &load, &round);
    }
    throughputs.sort_by(f64::total_cmp);
    Ok(throughputs)
}

/// What a cluster costs that has nothing to do.
async fn idle(timing: Timing, cluster: &Cluster, rounds: &mut Rounds) -> anyhow::Result<()> {
    eprintln!("idle …");
    for _ in 0..timing.rounds {
        let begin = clock::now();
        let before = Sample::take(cluster).await?;
        clock::pause(timing.duration).await;
        let after = Sample::take(cluster).await?;
        let share = (after.servers - before.servers).as_secs_f64() / begin.elapsed().as_secs_f64();
        rounds.add("idle.cpu_all_servers".to_owned(), "% of a core", share * 100.0);
        for store in &cluster.stores {
            let mib = resident(store.pid())? as f64 / f64::from(1 << 20);
            rounds.add("idle.store_resident".to_owned(), "MiB", mib);
        }
        let mib = resident(cluster.pd.pid())? as f64 / f64::from(1 << 20);
        rounds.add("idle.pd_resident".to_owned(), "MiB", mib);
    }
    Ok(())
}

fn add(rounds: &mut Rounds, load: &Load, round: &Round) {
    let name = name_of(load);
    let operations = round.numbers.operations as f64;
    let mut add = |what: &str, unit, value| rounds.add(format!("{name}.{what}"), unit, value);
    add("throughput", "op/s", round.numbers.throughput());
    add("p50", "us", round.latency(0.5));
    add("p99", "us", round.latency(0.99));
    add("p99.9", "us", round.latency(0.999));
    add("cpu_servers", "us/op", round.per_operation(round.servers));
    add("cpu_generator", "us/op", round.per_operation(round.generator));
    if load.rate.is_some() {
        add("never_begun", "op", round.numbers.never_begun as f64);
    }
    if load.workload == Workload::Put {
        let counted = round.counted;
        add("fsyncs_all_stores", "per op", counted.fsyncs as f64 / operations);
        if counted.fsyncs > 0 {
            add("log_entries", "per fsync", counted.applied_entries as f64 / counted.fsyncs as f64);
        }
    }
}
