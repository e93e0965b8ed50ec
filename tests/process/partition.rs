//! A store is cut off while clients of both sides go on.

use crate::support::cluster::{Cluster, replicated};
use crate::support::history::{Counts, History, Load, Tally, perform};
use crate::support::network::{Cut, Network, Place};
use crate::support::observed::{Observed, expect_happened};
use crate::support::run::{Run, until};
use crate::support::side::Side;
use crate::support::table::{ballast, expect_ballast, spread};
use bytes::Bytes;
use client::{KeyRange, Keyspace, RawClient};
use env::Dice as _;
use parking_lot::Mutex;
use sim::check::{Action, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use transport::Channel;
use types::StoreId;
use wire::kv::{KvCommand, KvError, KvReply, KvRequest, KvResponse, WriteOp};
use wire::pd::RegionRoute;

const CLIENTS_PER_SIDE: usize = 4;
/// Short, so that what the cut-off side is refused is refused often.
const CALL_DEADLINE: Duration = Duration::from_millis(1000);
const PATIENT: Duration = Duration::from_secs(20);
/// The lease of the stores' default configuration: how long a leader that nobody hears may answer reads.
const LEASE: Duration = Duration::from_millis(700);
/// A silent connection is given up after this, so that the log is not kept for the other side by what waits in it.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const KEEP_ALIVE_SETTINGS: [&str; 2] =
    ["transport.keep_alive_interval = \"500ms\"", "transport.keep_alive_timeout = \"2s\""];
const PROBE_INTERVAL: Duration = Duration::from_millis(15);

/// A store that leads is cut off from the others and from the placement driver. It answers reads for as long as its lease and
/// no longer; the others go on without it; nothing that anybody acknowledged is lost, and nobody reads what is old.
#[test]
fn partition() {
    let run = Run::begin("partition");
    run.play(Duration::from_secs(150), story(&run));
}

async fn story(run: &Run) {
    let mut dice = run.dice("faults");
    let network = Network::new();
    let mut cluster = Cluster::start_apart(3, &KEEP_ALIVE_SETTINGS, &network).await;
    let client = cluster.client(PATIENT).await;
    let mut ids = Vec::new();
    for number in 0..cluster.stores.len() {
        ids.push(cluster.store_id(number).await);
    }
    spread(run, &client, &ids).await;
    let many = Side::open("many", &cluster, &network).await;
    let few = Side::open("few", &cluster, &network).await;

    let history = History::new();
    let loads: Vec<Load> = [&many, &few]
        .into_iter()
        .enumerate()
        .map(|(number, side)| {
            let dice = run.dice(&format!("side {number}"));
            // One client each: what one has learned of the regions is no news to another.
            let clients = (0..CLIENTS_PER_SIDE)
                .map(|at| side.client(CALL_DEADLINE, &dice.fork(&format!("client {at}"))).raw());
            let first_process = 1 + (number * CLIENTS_PER_SIDE) as u64;
            Load::start(&history, &Tally::default(), &dice, first_process, clients)
        })
        .collect();
    let [with_many, with_few] = [loads[0].tally.clone(), loads[1].tally.clone()];
    for tally in [&with_many, &with_few] {
        progress(run, "all is well", tally, 200).await;
    }

    // Who is hit, and a region that it leads, on which the reads of the cut-off side are watched closely.
    let victim = usize::try_from(dice.below(3)).expect("below 3");
    let victim_id = StoreId(ids[victim]);
    let route = led_by(&client.admin(), victim_id).await;
    let key = key_in(&route);
    let many_client = many.client(CALL_DEADLINE, &run.dice("writer")).raw();
    let writer = write_often(&history, many_client.clone(), key.clone());
    until("the watched key is written", Duration::from_secs(10), async || {
        many_client
            .get(key.clone())
            .await
            .map_err(|error| error.to_string())?
            .map(drop)
            .ok_or("not yet".to_owned())
    })
    .await;
    let probe = Probe::start(&history, few.channel(victim_id), &route, key.clone());
    probe.wait_for("lease reads before the cut", Duration::from_secs(10), |read| read.served).await;

    let how = if dice.chance(1, 2) { Cut::Silent } else { Cut::Reset };
    let others: Vec<Place> = (0..3).filter(|number| *number != victim).map(Place::Store).collect();
    let one_side = [Place::Store(victim), Place::Side("few")];
    let other_side = [&others[..], &[Place::Pd, Place::Side("many")]].concat();
    network.cut(how, &one_side, &other_side);
    let cut_at = Instant::now();
    let at_cut = Observed::of(&cluster.stores[victim]).await;
    run.say(format!("store-{} is cut off with clients of its own ({how:?})", victim + 1));

    // What the cut-off leader takes on now it can neither make nor deny.
    let parting = write_once(&history, &few.channel(victim_id), &route, &key).await;
    run.say(format!("a write to the cut-off leader: {parting:?}"));
    // Past the lease, past the calls that were under way when it ended, and past the life of silent connections.
    let quiet_from = (LEASE + CALL_DEADLINE).max(KEEP_ALIVE + Duration::from_millis(500));
    tokio::time::sleep(quiet_from.saturating_sub(cut_at.elapsed())).await;
    let (after_lease, few_after_lease) = (Observed::of(&cluster.stores[victim]).await, with_few.counts());
    progress(run, "with the many", &with_many, 200).await;
    let patient = many.client(PATIENT, &run.dice("ballast"));
    ballast(&patient.raw(), &patient.admin(), 0).await;
    run.say("ballast is written without the store that is cut off");
    probe
        .wait_for("refused reads", Duration::from_secs(10), |read| {
            !read.served && read.asked > cut_at + LEASE
        })
        .await;
    let takes_over = until("another store leads the watched region", Duration::from_secs(10), async || {
        let route = client.admin().region(route.region.id).await.map_err(|error| error.to_string())?;
        let leader = route.and_then(|route| route.leader).map(|leader| leader.store_id);
        leader.filter(|leader| *leader != victim_id).ok_or_else(|| format!("led by {leader:?}"))
    })
    .await;
    let (at_heal, few_at_heal) = (Observed::of(&cluster.stores[victim]).await, with_few.counts());
    let healed_at = Instant::now();
    network.heal();
    run.say(format!(
        "healed after {:.1} s; store {takes_over} had taken over",
        cut_at.elapsed().as_secs_f64()
    ));

    for tally in [&with_many, &with_few] {
        progress(run, "after healing", tally, 200).await;
    }
    // The placement driver may still say of all copies that they are well, as they were: so the store itself is asked.
    let snapshots = until("the store catches up by a snapshot", Duration::from_secs(45), async || {
        let installed = Observed::of(&cluster.stores[victim]).await.snapshots - at_heal.snapshots;
        if installed > 0 { Ok(installed) } else { Err("it has installed none".to_owned()) }
    })
    .await;
    replicated(&client, 3, Duration::from_secs(45)).await;
    let reads = probe.stop().await;
    writer.stop().await;
    for load in loads {
        load.stop().await;
    }
    history.read_back(&client.raw()).await;
    expect_ballast(&client.raw(), 1).await;
    cluster.expect_alive();

    let while_cut = |read: &&Read| read.asked >= cut_at && read.asked < healed_at;
    let served = |reads: &[Read]| reads.iter().filter(while_cut).filter(|read| read.served).count() as u64;
    let refused_late =
        reads.iter().filter(while_cut).filter(|read| !read.served && read.asked >= cut_at + LEASE).count()
            as u64;
    let late: Vec<Duration> = reads
        .iter()
        .filter(while_cut)
        .filter(|read| read.served && read.asked > cut_at + LEASE)
        .map(|read| read.asked - cut_at)
        .collect();
    let mut total = Observed::default();
    for store in &cluster.stores {
        total.add(store).await;
    }
    let (connections, refused_connections, held_back) = network.effect();
    for (name, counts) in [("many", with_many.counts()), ("few", with_few.counts())] {
        run.say(format!("side of the {name}: {counts}"));
    }
    let lease_reads = after_lease.lease_reads - at_cut.lease_reads;
    run.say(format!(
        "{} elections won; lease reads of the cut-off leader before its lease ended: {lease_reads} by its count, {} of them \
         watched; {refused_late} watched reads refused after it; {snapshots} snapshots installed after healing; \
         {connections} connections through the network, {refused_connections} refused, {held_back} pieces held back",
        total.elections,
        served(&reads),
    ));
    assert_eq!(
        late,
        Vec::<Duration>::new(),
        "reads that a cut-off leader served after its lease, by time after the cut"
    );
    assert_eq!(
        at_heal.lease_reads, after_lease.lease_reads,
        "a cut-off leader counted lease reads after its lease had ended"
    );
    assert_eq!(
        few_at_heal.acknowledged, few_after_lease.acknowledged,
        "the cut-off side got answers after the lease had ended"
    );
    assert_ne!(parting, Outcome::Written, "a cut-off leader acknowledged a write");
    history.check(run, cluster.directory.path());
    let sides: [(&str, Counts); 2] = [("many", with_many.counts()), ("few", with_few.counts())];
    for (name, counts) in sides {
        expect_happened(&[
            (&format!("acknowledged operations of the {name}"), counts.acknowledged),
            (
                &format!("operations of the {name} that were refused or of unknown outcome"),
                counts.refused + counts.unknown,
            ),
        ]);
    }
    expect_happened(&[
        ("refused operations of the few", sides[1].1.refused),
        ("writes of unknown outcome of the few", sides[1].1.unknown + u64::from(parting == Outcome::Unknown)),
        ("elections", total.elections),
        ("lease reads after the cut", lease_reads),
        ("watched lease reads after the cut", served(&reads)),
        ("refused reads after the lease", refused_late),
        ("connections or bytes that the cut stopped", refused_connections + held_back),
    ]);
}

async fn progress(run: &Run, when: &str, tally: &Tally, more: u64) {
    let wanted = tally.counts().acknowledged + more;
    until(&format!("operations go on {when}"), Duration::from_secs(30), async || {
        let now = tally.counts();
        if now.acknowledged >= wanted { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    run.say(format!("{when}: {}", tally.counts()));
}

/// A region that this store leads, and whose range holds raw keys of the history.
async fn led_by(admin: &client::Admin, store: StoreId) -> RegionRoute {
    until("the store leads a region", Duration::from_secs(10), async || {
        let regions = admin.regions(KeyRange::full(), usize::MAX).await.map_err(|error| error.to_string())?;
        let led =
            regions.into_iter().find(|route| route.leader.is_some_and(|leader| leader.store_id == store));
        led.ok_or_else(|| format!("store {store} leads nothing"))
    })
    .await
}

/// A key in the region that no client of the load uses.
fn key_in(route: &RegionRoute) -> Bytes {
    let letters = (b'a'..=b'z').map(|letter| Bytes::from(format!("{}/watched", char::from(letter))));
    let mut keys = letters.filter(|key| route.region.range.contains(&Keyspace::RAW.encode(key)));
    keys.next().expect("each region holds a letter")
}

/// A client that writes one key again and again.
struct Writer {
    stopped: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

const WRITER: u64 = 500;
const PROBER: u64 = 501;
const PARTING: u64 = 502;

fn write_often(history: &History, client: RawClient, key: Bytes) -> Writer {
    let (stopped, history) = (Arc::new(AtomicBool::new(false)), history.clone());
    let told = Arc::clone(&stopped);
    let task = tokio::spawn(async move {
        let mut number = 0_u64;
        while !told.load(Ordering::Relaxed) {
            number += 1;
            let action = Action::Put(format!("{WRITER}.{number}").into());
            history.record(WRITER, &key, action.clone(), perform(&client, &key, action)).await;
            tokio::time::sleep(2 * PROBE_INTERVAL).await;
        }
    });
    Writer { stopped, task }
}

impl Writer {
    async fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.task.await.expect("it meets nothing that no fault explains");
    }
}

/// One write at one store, without a client's retries. The channel has no connection yet, and makes one.
async fn write_once(history: &History, channel: &Channel, route: &RegionRoute, key: &Bytes) -> Outcome {
    let value = Bytes::from_static(b"parting");
    let op = WriteOp::Put { key: Keyspace::RAW.encode(key), value: value.clone() };
    let request = KvRequest {
        region_id: route.region.id,
        epoch: route.region.epoch,
        command: KvCommand::Write { ops: vec![op] },
    };
    let perform = async {
        match channel.kv(&request, CALL_DEADLINE).await {
            Ok(KvResponse::Ok(_)) => Outcome::Written,
            Ok(KvResponse::Err(KvError::UndeterminedResult)) => Outcome::Unknown,
            Ok(KvResponse::Err(_)) => Outcome::NotDone,
            Err(error) if error.may_have_been_done() => Outcome::Unknown,
            Err(_) => Outcome::NotDone,
        }
    };
    history.record(PARTING, key, Action::Put(value), perform).await
}

/// One read of the watched key.
#[derive(Clone, Copy, Debug)]
struct Read {
    asked: Instant,
    served: bool,
}

/// Reads one key at one store, without a client's retries.
struct Probe {
    stopped: Arc<AtomicBool>,
    reads: Arc<Mutex<Vec<Read>>>,
    task: JoinHandle<()>,
}

impl Probe {
    fn start(history: &History, channel: Channel, route: &RegionRoute, key: Bytes) -> Self {
        let (stopped, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let request = KvRequest {
            region_id: route.region.id,
            epoch: route.region.epoch,
            command: KvCommand::Get { key: Keyspace::RAW.encode(&key) },
        };
        let (told, all, history) = (Arc::clone(&stopped), Arc::clone(&reads), history.clone());
        let task = tokio::spawn(async move {
            while !told.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let perform = async {
                    match channel.kv(&request, Duration::from_millis(300)).await {
                        Ok(KvResponse::Ok(KvReply::Value(value))) => Outcome::Value(value),
                        Ok(KvResponse::Ok(other)) => panic!("no answer to a get: {other:?}"),
                        Ok(KvResponse::Err(_)) | Err(_) => Outcome::NotDone,
                    }
                };
                let outcome = history.record(PROBER, &key, Action::Get, perform).await;
                all.lock().push(Read { asked, served: outcome != Outcome::NotDone });
                tokio::time::sleep(PROBE_INTERVAL).await;
            }
        });
        Self { stopped, reads, task }
    }

    async fn wait_for(&self, what: &str, limit: Duration, is_it: impl Fn(&Read) -> bool) {
        until(what, limit, async || {
            let reads = self.reads.lock();
            let found = reads.iter().filter(|read| is_it(read)).count();
            if found >= 3 { Ok(()) } else { Err(format!("{found} of {} reads", reads.len())) }
        })
        .await;
    }

    async fn stop(self) -> Vec<Read> {
        self.stopped.store(true, Ordering::Relaxed);
        self.task.await.expect("it meets nothing that no fault explains");
        self.reads.lock().clone()
    }
}
