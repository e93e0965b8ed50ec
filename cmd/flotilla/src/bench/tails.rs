//! What the slowest puts take while something happens to the cluster, beside what they take while nothing does.
//!
//! Puts come at a steady rate, whether or not earlier ones have ended, and count from when they were to begin: whoever
//! would have come while the cluster stood still is counted.

use super::hands::Keys;
use super::load::{Load, fill};
use super::round::{Timing, nothing, round, wait_replicated};
use super::rows::{Rounds, Row};
use super::suite::with_cluster;
use super::workload::Workload;
use crate::clock;
use crate::playground::{Cluster, ClusterOptions};
use anyhow::Context as _;
use client::{Admin, Client, StoreId};
use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;
use types::PeerRole;
use wire::pd::{Order, RegionRoute};

/// One more than regions have copies, so that a copy can move.
const STORES: usize = 4;
const VALUE_SIZE: usize = 128;
/// Enough that a snapshot is more than one batch.
const KEYS: u64 = 100_000;
const RATE: NonZeroU32 = NonZeroU32::new(2000).expect("it is not zero");
/// Puts under way, at most.
const CLIENTS: usize = 1024;
/// Between two things that are done to the cluster.
const PAUSE: Duration = Duration::from_millis(250);
/// The placement driver says what comes next of a change of members when it hears of the region: four times a second, instead of
/// once in ten, so that a window sees copies move.
const QUICK_REPORTS: &str = "region.heartbeat_interval=250ms";
/// A memtable so small that RocksDB flushes and compacts all the time.
const SMALL_BUFFER: &str = "engine.write_buffer_size=256KiB";

const LOAD: Load = Load {
    workload: Workload::Put,
    clients: CLIENTS,
    value_size: VALUE_SIZE,
    keys: KEYS,
    scan_pairs: 1,
    rate: Some(RATE),
};

/// What happens meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Nothing,
    LeaderMoves,
    SnapshotIsSent,
    RegionSplits,
}

impl Event {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "undisturbed",
            Self::LeaderMoves => "leader_moves",
            Self::SnapshotIsSent => "snapshot_is_sent",
            Self::RegionSplits => "region_splits",
        }
    }
}

/// Measures all of it, on clusters of its own.
pub(super) async fn run(timing: Timing, options: ClusterOptions) -> anyhow::Result<Vec<Row>> {
    let mut rounds = Rounds::default();
    let mut options = ClusterOptions { stores: STORES, ..options };
    options.store_settings.push(QUICK_REPORTS.parse().map_err(anyhow::Error::msg)?);
    with_cluster(&options, async |cluster| events(timing, cluster, &mut rounds).await).await?;
    options.store_settings.push(SMALL_BUFFER.parse().map_err(anyhow::Error::msg)?);
    with_cluster(&options, async |cluster| compactions(timing, cluster, &mut rounds).await).await?;
    Ok(rounds.rows())
}

async fn events(timing: Timing, cluster: &Cluster, rounds: &mut Rounds) -> anyhow::Result<()> {
    let client = begin(cluster).await?;
    // Splits come last, on all the data; the others are of one region that holds it all.
    for group in [&[Event::Nothing, Event::LeaderMoves, Event::SnapshotIsSent][..], &[Event::RegionSplits]] {
        for number in 0..timing.rounds {
            for event in group {
                window(timing, cluster, &client, *event, number, rounds).await?;
            }
        }
    }
    Ok(())
}

async fn begin(cluster: &Cluster) -> anyhow::Result<Client> {
    let client = cluster.remote().connect().await?;
    wait_replicated(&client).await?;
    fill(&client.raw(), &LOAD, None).await?;
    Ok(client)
}

/// One round with one kind of event, as often as it can be had.
async fn window(
    timing: Timing,
    cluster: &Cluster,
    client: &Client,
    event: Event,
    number: usize,
    rounds: &mut Rounds,
) -> anyhow::Result<()> {
    eprint!("{} …", event.name());
    let (admin, raw) = (client.admin(), client.raw());
    let happened = Cell::new(0_u32);
    let measured = match event {
        Event::Nothing => round(timing, cluster, &raw, LOAD, nothing()).await?,
        Event::LeaderMoves => round(timing, cluster, &raw, LOAD, move_leaders(&admin, &happened)).await?,
        Event::SnapshotIsSent => round(timing, cluster, &raw, LOAD, move_copies(&admin)).await?,
        Event::RegionSplits => round(timing, cluster, &raw, LOAD, split(&admin, number, &happened)).await?,
    };
    eprintln!(" p99.9 {} µs", measured.latency(0.999));
    let name = format!("put_at_{RATE}.{}", event.name());
    if event != Event::Nothing {
        let times = match event {
            // What was ordered may have been refused, or not have come about.
            Event::SnapshotIsSent => measured.counted.snapshots_installed,
            _ => happened.get().into(),
        };
        rounds.add(format!("{name}.times"), "per round", times as f64);
        rounds.compare(format!("{name}.p99.9"), format!("put_at_{RATE}.undisturbed.p99"));
    }
    tail(rounds, &name, &measured);
    if event != Event::Nothing {
        wait_replicated(client).await?;
    }
    Ok(())
}

fn tail(rounds: &mut Rounds, name: &str, measured: &super::round::Round) {
    let mut add = |what: &str, unit, value| rounds.add(format!("{name}.{what}"), unit, value);
    add("p50", "us", measured.latency(0.5));
    add("p99", "us", measured.latency(0.99));
    add("p99.9", "us", measured.latency(0.999));
    add("max", "us", measured.numbers.latency.max() as f64);
    let failed = measured.numbers.errors + measured.numbers.undetermined;
    add("failed_or_never_begun", "op", (failed + measured.numbers.never_begun) as f64);
}

/// The region of the first key, which holds them all before there are splits.
async fn region(admin: &Admin) -> anyhow::Result<RegionRoute> {
    let route = admin.region_at(Keys::new(None).inner(0)).await?;
    route.context("the placement driver knows no region of the benchmark's keys")
}

fn stores_of(route: &RegionRoute) -> Vec<StoreId> {
    route.region.peers.iter().map(|peer| peer.store_id).collect()
}

async fn move_leaders(admin: &Admin, happened: &Cell<u32>) -> anyhow::Result<()> {
    loop {
        let route = region(admin).await?;
        let leader = route.leader.map(|leader| leader.store_id);
        // A copy that was just moved may be on its way still, and does not vote yet.
        let voters = route.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
        let stores: Vec<StoreId> = voters.map(|peer| peer.store_id).collect();
        let at = stores.iter().position(|store| Some(*store) == leader).unwrap_or(0);
        // Refused by a leader that has not seen its successor's log up to date, or leads no more: then another time.
        if admin.transfer_leader(route.region.id, stores[(at + 1) % stores.len()]).await.is_ok() {
            happened.set(happened.get() + 1);
        }
        clock::pause(PAUSE).await;
    }
}

/// Moves a copy that does not lead to the store that has none, which takes a snapshot, again and again.
async fn move_copies(admin: &Admin) -> anyhow::Result<()> {
    loop {
        let route = region(admin).await?;
        let here = stores_of(&route);
        let all = admin.stores().await?;
        let free = all.iter().map(|store| store.info.id).find(|store| !here.contains(store));
        let leader = route.leader.map(|leader| leader.store_id);
        let from = here.iter().find(|store| Some(**store) != leader);
        if let (Some(to), Some(from), 3) = (free, from, here.len()) {
            let order = Order::TransferPeer { from_store: *from, to_store: to };
            // Refused while the placement driver is at the region itself: then another time.
            let _ = admin.add_operator(route.region.id, order).await;
        }
        clock::pause(PAUSE).await;
    }
}

/// Cuts the data at keys at which it was not cut before.
async fn split(admin: &Admin, round: usize, happened: &Cell<u32>) -> anyhow::Result<()> {
    let keys = Keys::new(None);
    let mut number = 0_u64;
    loop {
        // Odd multiples of ever smaller steps, shifted by the round.
        let at = (number * 7919 + round as u64 * 104_729 + 1) % KEYS;
        admin.split_region([keys.inner(at)]).await?;
        happened.set(happened.get() + 1);
        number += 1;
        clock::pause(PAUSE).await;
    }
}

/// Puts into a cluster whose RocksDB is always at it, beside those of the cluster that is left alone.
async fn compactions(timing: Timing, cluster: &Cluster, rounds: &mut Rounds) -> anyhow::Result<()> {
    let client = begin(cluster).await?;
    let name = format!("put_at_{RATE}.rocksdb_compacts");
    for _ in 0..timing.rounds {
        eprint!("rocksdb_compacts …");
        let before = finished(cluster)?;
        let measured = round(timing, cluster, &client.raw(), LOAD, nothing()).await?;
        eprintln!(" p99.9 {} µs", measured.latency(0.999));
        let times = finished(cluster)? - before;
        rounds.add(format!("{name}.times"), "per round", times as f64 / cluster.stores.len() as f64);
        rounds.compare(format!("{name}.p99.9"), format!("put_at_{RATE}.undisturbed.p99"));
        tail(rounds, &name, &measured);
    }
    Ok(())
}

/// Flushes and compactions that all stores' RocksDB have finished, as it writes down itself.
fn finished(cluster: &Cluster) -> anyhow::Result<usize> {
    let mut sum = 0;
    for store in &cluster.stores {
        let path = store.data_dir().join("db/LOG");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        sum += text.matches("\"compaction_finished\"").count() + text.matches("\"flush_finished\"").count();
    }
    Ok(sum)
}
