//! The rows of transactions: what one costs beside a raw write or read, and what a storm leaves of them.

use super::plain::key;
use super::{Manner, Shop, start};
use crate::bench::load::{self, Load};
use crate::bench::round::{Round, Timing, nothing, round, round_of, wait_replicated};
use crate::bench::rows::{Rounds, Row};
use crate::bench::workload::Workload;
use crate::playground::Cluster;
use client::{Client, CommitProtocol, Isolation, Keyspace};

const VALUE_SIZE: usize = 128;
const KEYS: u64 = 10_000;
const SCAN_PAIRS: u64 = 100;
/// Regions over which a wide transaction goes.
const REGIONS: u64 = 4;

/// How transactions commit, each a set of rows of its own.
const MODES: &[(&str, Manner)] = &[
    ("two_phase", by(CommitProtocol::TwoPhase)),
    ("async_commit", by(CommitProtocol::AsyncCommit)),
    ("one_phase", by(CommitProtocol::OnePhase)),
];

const fn by(protocol: CommitProtocol) -> Manner {
    Manner { is_pessimistic: false, protocol, isolation: Isolation::Snapshot }
}

const fn load(workload: Workload, clients: usize) -> Load {
    Load { workload, clients, value_size: VALUE_SIZE, keys: KEYS, scan_pairs: SCAN_PAIRS, rate: None }
}

/// Measures on a cluster of its own: raw rows first, in the same rounds as those beside them.
pub(in crate::bench) async fn measure(timing: Timing, cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    let client = cluster.remote().connect().await?;
    wait_replicated(&client).await?;
    let mut rounds = Rounds::default();
    load::fill(&client.raw(), &load(Workload::Put, 1), None).await?;
    let shop = Shop::open(&client.txn(), &load(Workload::TxnPut, 1)).await?;
    drop(shop);
    for _ in 0..timing.rounds {
        add_reads(&mut rounds, timing, cluster, &client, "").await?;
    }
    for _ in 0..timing.rounds {
        for clients in [1, 64, 512] {
            let name = format!("raw_put.{clients}c");
            add_raw(&mut rounds, timing, cluster, &client, load(Workload::Put, clients), &name).await?;
            for (mode, manner) in MODES {
                let row = format!("txn_put.{mode}.{clients}c");
                let beside = Some(&name[..]);
                let load = load(Workload::TxnPut, clients);
                add(&mut rounds, timing, cluster, &client, load, *manner, &row, beside).await?;
            }
        }
        add_reads(&mut rounds, timing, cluster, &client, "_overwritten").await?;
        for (mode, is_pessimistic) in [("optimistic", false), ("pessimistic", true)] {
            let row = format!("storm_8_keys.{mode}.64c");
            let manner = Manner { is_pessimistic, ..Manner::default() };
            let load = load(Workload::TxnStorm, 64);
            add(&mut rounds, timing, cluster, &client, load, manner, &row, None).await?;
        }
    }
    // From here on the keys lie in several regions.
    let borders: Vec<_> =
        (1..REGIONS).map(|piece| Keyspace::TXN.encode(&key(piece * KEYS / REGIONS))).collect();
    client.admin().split_region(borders).await?;
    for _ in 0..timing.rounds {
        for (mode, manner) in MODES {
            for clients in [1, 64] {
                let row = format!("txn_16_keys_{REGIONS}_regions.{mode}.{clients}c");
                let load = load(Workload::TxnWide, clients);
                add(&mut rounds, timing, cluster, &client, load, *manner, &row, None).await?;
            }
        }
    }
    Ok(rounds.rows())
}

/// Reads, of keys that were written once, or of those that writes before them have left many versions of.
async fn add_reads(
    rounds: &mut Rounds,
    timing: Timing,
    cluster: &Cluster,
    client: &Client,
    state: &str,
) -> anyhow::Result<()> {
    for (raw, name, clients, reads) in [
        (Workload::Get, "get", 64, [Workload::TxnGetAt, Workload::TxnGet]),
        (Workload::Scan, "scan_100", 16, [Workload::TxnScanAt, Workload::TxnScan]),
    ] {
        let beside = format!("raw_{name}{state}.{clients}c");
        add_raw(rounds, timing, cluster, client, load(raw, clients), &beside).await?;
        // A hundred reads at one timestamp; and one that the placement driver is asked for each time.
        for (txn, moment) in reads.into_iter().zip(["at_a_timestamp", "as_of_now"]) {
            let row = format!("txn_{name}{state}.{moment}.{clients}c");
            let (load, manner) = (load(txn, clients), Manner::default());
            add(rounds, timing, cluster, client, load, manner, &row, Some(&beside)).await?;
        }
    }
    Ok(())
}

async fn add_raw(
    rounds: &mut Rounds,
    timing: Timing,
    cluster: &Cluster,
    client: &Client,
    load: Load,
    row: &str,
) -> anyhow::Result<()> {
    let measured = round(timing, cluster, &client.raw(), load, nothing()).await?;
    add_rows(rounds, row, None, &measured);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "what is measured, on what, and where it is written down")]
async fn add(
    rounds: &mut Rounds,
    timing: Timing,
    cluster: &Cluster,
    client: &Client,
    load: Load,
    manner: Manner,
    row: &str,
    beside: Option<&str>,
) -> anyhow::Result<()> {
    eprintln!("{row} …");
    let shop = Shop::filled(&load);
    let running = start(&[client.txn()], &load, manner, &shop);
    let measured = round_of(timing, cluster, running, &load, nothing()).await?;
    add_rows(rounds, row, beside, &measured);
    if load.workload == Workload::TxnStorm {
        let attempts = measured.numbers.operations + measured.numbers.errors;
        let aborted = measured.numbers.errors as f64 / attempts.max(1) as f64;
        rounds.add(format!("{row}.aborted"), "% of attempts", aborted * 100.0);
    }
    Ok(())
}

fn add_rows(rounds: &mut Rounds, row: &str, beside: Option<&str>, measured: &Round) {
    let mut add = |what: &str, unit, value| {
        rounds.add(format!("{row}.{what}"), unit, value);
        if let Some(beside) = beside {
            rounds.compare(format!("{row}.{what}"), format!("{beside}.{what}"));
        }
    };
    add("throughput", "op/s", measured.numbers.throughput());
    add("p50", "us", measured.latency(0.5));
    add("p99", "us", measured.latency(0.99));
    add("cpu_servers", "us/op", measured.per_operation(measured.servers));
}
