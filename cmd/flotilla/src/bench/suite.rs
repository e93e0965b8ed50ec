//! `flotilla bench --suite`: a cluster of its own, the same rows every time.

use super::load::{Load, Numbers, fill, start};
use super::system::{Counters, cpu, resident};
use super::workload::Workload;
use crate::clock;
use crate::ctl::{Cluster as View, Wanted};
use crate::playground::{Cluster, ClusterOptions};
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use client::{Client, RawClient};
use comfy_table::Table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

const STORES: usize = 3;
const VALUE_SIZE: usize = 128;
const KEYS: u64 = 10_000;
const SCAN_PAIRS: u64 = 100;
/// Until every region has its replicas.
const REPLICATED_TIMEOUT: Duration = Duration::from_secs(60);

/// How long and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Suite {
    /// Three rounds of two seconds.
    Quick,
    /// Five rounds of ten seconds.
    Full,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    const fn rounds(self) -> usize {
        match self {
            Self::Quick => 3,
            Self::Full => 5,
        }
    }

    const fn duration(self) -> Duration {
        match self {
            Self::Quick => Duration::from_secs(2),
            Self::Full => Duration::from_secs(10),
        }
    }

    const fn warm_up(self) -> Duration {
        match self {
            Self::Quick => Duration::from_millis(500),
            Self::Full => Duration::from_secs(2),
        }
    }
}

/// One number of a suite: the median of its rounds, and how far they lie apart.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Row {
    row: String,
    value: f64,
    unit: &'static str,
    min: f64,
    max: f64,
    /// Whom it is compared with, and how they do; filled by what measures others.
    peer: Option<String>,
    peer_value: Option<f64>,
    ratio: Option<f64>,
}

/// Rounds by row, in the order in which the rows came first.
#[derive(Debug, Default)]
struct Rounds {
    order: Vec<(String, &'static str)>,
    values: BTreeMap<String, Vec<f64>>,
}

impl Rounds {
    fn add(&mut self, row: String, unit: &'static str, value: f64) {
        let values = self.values.entry(row.clone()).or_default();
        if values.is_empty() {
            self.order.push((row, unit));
        }
        values.push(value);
    }

    fn rows(self) -> Vec<Row> {
        let Self { order, mut values } = self;
        let row = |(row, unit): (String, &'static str)| {
            let mut values = values.remove(&row).expect("a row is named when its first value comes");
            values.sort_by(f64::total_cmp);
            Row {
                value: values[values.len() / 2],
                min: values[0],
                max: values[values.len() - 1],
                row,
                unit,
                peer: None,
                peer_value: None,
                ratio: None,
            }
        };
        order.into_iter().map(row).collect()
    }
}

/// Everything that is counted, at one moment.
struct Sample {
    servers: Duration,
    generator: Duration,
    counters: Counters,
}

impl Sample {
    async fn take(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut servers = cpu(cluster.pd.pid())?;
        let mut counters = Counters::default();
        for store in &cluster.stores {
            servers += cpu(store.pid())?;
            counters = counters + Counters::ask(&store.ready().status_address).await?;
        }
        Ok(Self { servers, generator: cpu(std::process::id())?, counters })
    }
}

/// Runs the suite, prints it, and appends it to `results/<suite>.jsonl`.
pub(super) async fn run(suite: Suite, results: &Path, json: bool) -> anyhow::Result<()> {
    eprintln!("starting a cluster of {STORES} stores …");
    let options = ClusterOptions { stores: STORES, ..ClusterOptions::default() };
    let cluster = Cluster::start(&options).await?;
    let measured = measure(suite, &cluster).await;
    // Also after an error: the processes should end in order.
    let stopped = cluster.stop().await;
    let rows = measured?;
    stopped?;
    std::fs::create_dir_all(results).with_context(|| format!("making {}", results.display()))?;
    let path = results.join(format!("{}.jsonl", suite.name()));
    let mut lines = String::new();
    for row in &rows {
        lines.push_str(&serde_json::to_string(row)?);
        lines.push('\n');
    }
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    file.write_all(lines.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    if json {
        print!("{lines}");
    } else {
        println!("{}", table(&rows));
        println!("appended to {}", path.display());
    }
    Ok(())
}

async fn measure(suite: Suite, cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    let client = cluster.remote().connect().await?;
    wait_replicated(&client).await?;
    let raw = client.raw();
    let mut rounds = Rounds::default();
    idle(suite, cluster, &mut rounds).await?;
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
        for _ in 0..suite.rounds() {
            round(suite, cluster, &raw, load, &mut rounds).await?;
        }
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for store in &cluster.stores {
        rounds.add("loaded.store_resident".to_owned(), "MiB", mib(resident(store.pid())?));
    }
    rounds.add("loaded.pd_resident".to_owned(), "MiB", mib(resident(cluster.pd.pid())?));
    Ok(rounds.rows())
}

async fn wait_replicated(client: &Client) -> anyhow::Result<()> {
    let begin = clock::now();
    loop {
        let wanted = Wanted { replicated: true, balanced: false };
        match View::look(client).await?.missing(wanted) {
            None => return Ok(()),
            Some(lack) if begin.elapsed() > REPLICATED_TIMEOUT => {
                bail!("not replicated after {} s: {lack}", REPLICATED_TIMEOUT.as_secs())
            }
            Some(_) => clock::pause(Duration::from_millis(100)).await,
        }
    }
}

/// What a cluster costs that has nothing to do.
async fn idle(suite: Suite, cluster: &Cluster, rounds: &mut Rounds) -> anyhow::Result<()> {
    eprintln!("idle …");
    for _ in 0..suite.rounds() {
        let begin = clock::now();
        let before = Sample::take(cluster).await?;
        clock::pause(suite.duration()).await;
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

async fn round(
    suite: Suite,
    cluster: &Cluster,
    raw: &RawClient,
    load: Load,
    rounds: &mut Rounds,
) -> anyhow::Result<()> {
    let mut running = start(std::slice::from_ref(raw), load, None);
    clock::pause(suite.warm_up()).await;
    let before = Sample::take(cluster).await?;
    running.begin();
    clock::pause(suite.duration()).await;
    let numbers = running.end();
    let after = Sample::take(cluster).await?;
    running.stop().await;
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
    add(rounds, load, &numbers, &before, &after);
    Ok(())
}

fn add(rounds: &mut Rounds, load: Load, numbers: &Numbers, before: &Sample, after: &Sample) {
    let name = match load.workload {
        Workload::Scan => format!("scan_{SCAN_PAIRS}x{VALUE_SIZE}B_{}c", load.clients),
        other => format!("{}_{VALUE_SIZE}B_{}c", other.name(), load.clients),
    };
    let operations = numbers.operations as f64;
    let per_operation = |cost: Duration| cost.as_secs_f64() * 1e6 / operations;
    let latency = |quantile: f64| numbers.latency.value_at_quantile(quantile) as f64;
    let mut add = |what: &str, unit, value| rounds.add(format!("{name}.{what}"), unit, value);
    add("throughput", "op/s", numbers.throughput());
    add("p50", "us", latency(0.5));
    add("p99", "us", latency(0.99));
    add("p99.9", "us", latency(0.999));
    add("cpu_servers", "us/op", per_operation(after.servers.saturating_sub(before.servers)));
    add("cpu_generator", "us/op", per_operation(after.generator.saturating_sub(before.generator)));
    if load.workload == Workload::Put {
        let counted = after.counters - before.counters;
        add("fsyncs_all_stores", "per op", counted.fsyncs as f64 / operations);
        if counted.fsyncs > 0 {
            add("log_entries", "per fsync", counted.applied_entries as f64 / counted.fsyncs as f64);
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["row", "median", "min", "max", "unit"]);
    for row in rows {
        table.add_row([
            row.row.clone(),
            figures(row.value),
            figures(row.min),
            figures(row.max),
            row.unit.to_owned(),
        ]);
    }
    table
}

/// About four figures.
fn figures(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_of_its_rounds() {
        let mut rounds = Rounds::default();
        for value in [3.0, 1.0, 2.0] {
            rounds.add("b".to_owned(), "us", value);
            rounds.add("a".to_owned(), "op/s", value * 10.0);
        }
        let rows = rounds.rows();
        assert_eq!(rows.iter().map(|row| row.row.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((rows[0].value, rows[0].min, rows[0].max), (2.0, 1.0, 3.0));
        let line = serde_json::to_string(&rows[1]).unwrap();
        let expected = "{\"row\":\"a\",\"value\":20.0,\"unit\":\"op/s\",\"min\":10.0,\"max\":30.0,\
                        \"peer\":null,\"peer_value\":null,\"ratio\":null}";
        assert_eq!(line, expected);
    }
}
