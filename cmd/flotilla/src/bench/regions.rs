//! Puts into the same data, cut into ever more regions: what a region costs, and in what.

use super::hands::Keys;
use super::load::{Load, fill};
use super::round::{Round, Timing, nothing, round, wait, wait_replicated};
use super::rows::{Rounds, Row};
use super::system::resident;
use super::workload::Workload;
use crate::clock;
use crate::ctl::Wanted;
use crate::playground::Cluster;
use client::Client;
use std::time::{Duration, Instant};
use types::{Key, KeyRange};

const VALUE_SIZE: usize = 128;
const KEYS: u64 = 100_000;
const CLIENTS: usize = 512;
/// Cutting takes no longer than this; what then is not reached is left out.
const SPLIT_TIMEOUT: Duration = Duration::from_secs(240);
/// Keys of one order to cut.
const SPLIT_BATCH: usize = 50;
/// How long leaders may take to spread.
const SPREAD_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Measures with so many regions, ascending, on one cluster.
pub(super) async fn measure(timing: Timing, counts: &[u64], cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    let client = cluster.remote().connect().await?;
    wait_replicated(&client).await?;
    let raw = client.raw();
    let load = Load {
        workload: Workload::Put,
        clients: CLIENTS,
        value_size: VALUE_SIZE,
        keys: KEYS,
        scan_pairs: 1,
        rate: None,
    };
    fill(&raw, &load, None).await?;
    let mut rounds = Rounds::default();
    for &count in counts {
        let begin = clock::now();
        if !cut(&client, count, begin + SPLIT_TIMEOUT).await? {
            eprintln!(
                "{count} regions were not made within {} s: left out; fewer at once may do",
                SPLIT_TIMEOUT.as_secs()
            );
            break;
        }
        eprintln!("{count} regions, made in {:.1} s …", begin.elapsed().as_secs_f64());
        let wanted = Wanted { replicated: true, balanced: true };
        if let Some(lack) = wait(&client, wanted, clock::now() + SPREAD_TIMEOUT).await? {
            eprintln!("  not spread evenly after {} s: {lack}", SPREAD_TIMEOUT.as_secs());
        }
        for _ in 0..timing.rounds {
            let measured = round(timing, cluster, &raw, load, nothing()).await?;
            add(&mut rounds, count, &measured);
        }
        for store in &cluster.stores {
            let mib = resident(store.pid())? as f64 / f64::from(1 << 20);
            rounds.add(format!("put_{CLIENTS}c_{count}_regions.store_resident"), "MiB", mib);
        }
    }
    Ok(rounds.rows())
}

/// Cuts the keys into so many pieces of one size; false if that takes too long.
async fn cut(client: &Client, count: u64, deadline: Instant) -> anyhow::Result<bool> {
    let names = Keys::new(None);
    let keys: Vec<Key> = (1..count).map(|piece| names.inner(piece * KEYS / count)).collect();
    for batch in keys.chunks(SPLIT_BATCH) {
        client.admin().split_region(batch.to_vec()).await?;
        if clock::now() >= deadline {
            return Ok(false);
        }
    }
    // The placement driver hears of the last ones a moment later.
    let all = KeyRange::new(names.inner(0), names.inner(KEYS - 1));
    while clock::now() < deadline {
        if client.admin().regions(all.clone(), usize::MAX).await?.len() as u64 >= count {
            return Ok(true);
        }
        clock::pause(LOOK_INTERVAL).await;
    }
    Ok(false)
}

fn add(rounds: &mut Rounds, count: u64, measured: &Round) {
    let name = |count: u64, what: &str| format!("put_{CLIENTS}c_{count}_regions.{what}");
    let (operations, counted) = (measured.numbers.operations as f64, measured.counted);
    let mut add = |what: &str, unit, value| {
        rounds.add(name(count, what), unit, value);
        if count > 1 {
            rounds.compare(name(count, what), name(1, what));
        }
    };
    let per_op = |counted: u64| counted as f64 / operations;
    add("throughput", "op/s", measured.numbers.throughput());
    add("p50", "us", measured.latency(0.5));
    add("p99", "us", measured.latency(0.99));
    add("cpu_servers", "us/op", measured.per_operation(measured.servers));
    add("cpu_generator", "us/op", measured.per_operation(measured.generator));
    // Of all three stores: what a put is made of.
    add("fsyncs", "per op", per_op(counted.fsyncs));
    add("log_records", "per op", per_op(counted.log_appends));
    add("log_bytes", "B/op", per_op(counted.log_bytes));
    add("entries_applied", "per op", per_op(counted.applied_entries));
    add("apply_batches", "per op", per_op(counted.apply_writes));
    add("messages", "per op", per_op(counted.messages_received));
}
