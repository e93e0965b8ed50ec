//! Processes are killed while clients write.

use crate::support::cluster::{Cluster, replicated};
use crate::support::history::{History, Load, Tally};
use crate::support::observed::{Observed, expect_happened};
use crate::support::run::{Run, until};
use crate::support::table::{ballast, expect_ballast, spread};
use client::{Client, KeyRange, RawClient};
use env::{Dice as _, SplitMix};
use std::time::Duration;
use types::StoreId;

const CLIENTS: usize = 8;
/// Calls give up after this, so that some do while a leader is missing.
const CALL_DEADLINE: Duration = Duration::from_millis(1500);
/// For everything that must work in the end.
const PATIENT: Duration = Duration::from_secs(20);

/// What is done to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// A store is away for a little: others keep the log that it lacks.
    ShortAbsence,
    /// A store is away while much is written: it needs snapshots.
    LongAbsence,
    /// The placement driver is away; clients go on with what they know.
    PdAway,
    /// Everything at once.
    Everything,
}

/// Stores and the placement driver are killed at any moment, and lose nothing that they acknowledged. A store that was away
/// catches up by the log or by snapshots; clients see a single register per key throughout.
#[test]
fn kill() {
    let run = Run::begin("kill");
    run.play(Duration::from_secs(180), story(&run));
}

struct Stage<'a> {
    run: &'a Run,
    cluster: Cluster,
    client: Client,
    tally: Tally,
    observed: Observed,
    kills: u64,
    caught_up_by_log: u64,
    caught_up_by_snapshot: u64,
    ballast_rounds: usize,
}

async fn story(run: &Run) {
    let mut dice = run.dice("faults");
    let cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(PATIENT).await;
    let mut ids = Vec::new();
    for number in 0..cluster.stores.len() {
        ids.push(cluster.store_id(number).await);
    }
    spread(run, &client, &ids).await;

    let (history, tally) = (History::new(), Tally::default());
    let mut clients: Vec<RawClient> = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(cluster.client(CALL_DEADLINE).await.raw());
    }
    let load = Load::start(&history, &tally, &run.dice("clients"), 1, clients);
    let mut stage = Stage {
        run,
        cluster,
        client,
        tally,
        observed: Observed::default(),
        kills: 0,
        caught_up_by_log: 0,
        caught_up_by_snapshot: 0,
        ballast_rounds: 0,
    };
    stage.progress("all is well", 200).await;
    let mut faults = vec![
        Fault::ShortAbsence,
        Fault::LongAbsence,
        Fault::PdAway,
        Fault::ShortAbsence,
        Fault::Everything,
        Fault::LongAbsence,
    ];
    let mut last_victim = 0;
    while !faults.is_empty() {
        let fault = faults.swap_remove(dice.below(faults.len() as u64) as usize);
        last_victim = dice.below(3) as usize;
        stage.strike(fault, last_victim, &mut dice).await;
    }
    load.stop().await;
    stage.end(history, last_victim).await;
}

impl Stage<'_> {
    async fn strike(&mut self, fault: Fault, victim: usize, dice: &mut SplitMix) {
        self.run.say(format!("{fault:?}, of store-{} if of one", victim + 1));
        // Anywhere within what clients do.
        tokio::time::sleep(dice.duration(Duration::ZERO, Duration::from_millis(100))).await;
        match fault {
            Fault::ShortAbsence => {
                self.kill_store(victim).await;
                self.progress("with a store away", 200).await;
                let snapshots = self.back(victim).await;
                self.caught_up_by_log += u64::from(snapshots == 0);
            }
            Fault::LongAbsence => {
                self.kill_store(victim).await;
                ballast(&self.client.raw(), &self.client.admin(), self.ballast_rounds).await;
                self.ballast_rounds += 1;
                self.progress("with a store away", 100).await;
                let snapshots = self.back(victim).await;
                self.caught_up_by_snapshot += u64::from(snapshots > 0);
            }
            Fault::PdAway => {
                self.cluster.pd.kill();
                self.kills += 1;
                self.progress("without the placement driver", 200).await;
                self.cluster.pd.start();
                self.cluster.pd.ready().await;
            }
            Fault::Everything => {
                for number in 0..self.cluster.stores.len() {
                    self.observed.add(&self.cluster.stores[number]).await;
                }
                for node in self.cluster.stores.iter_mut().chain([&mut self.cluster.pd]) {
                    node.kill();
                    self.kills += 1;
                }
                for node in [&mut self.cluster.pd].into_iter().chain(&mut self.cluster.stores) {
                    node.start();
                }
                for node in [&mut self.cluster.pd].into_iter().chain(&mut self.cluster.stores) {
                    node.ready().await;
                }
            }
        }
        self.progress("after it", 200).await;
        replicated(&self.client, 3, Duration::from_secs(45)).await;
    }

    async fn kill_store(&mut self, victim: usize) {
        self.observed.add(&self.cluster.stores[victim]).await;
        self.cluster.stores[victim].kill();
        self.kills += 1;
    }

    /// Starts a store again, and waits until it is as far as the others. How many snapshots that took.
    async fn back(&mut self, victim: usize) -> u64 {
        let store = &mut self.cluster.stores[victim];
        store.start();
        store.ready().await;
        replicated(&self.client, 3, Duration::from_secs(45)).await;
        let snapshots = Observed::of(&self.cluster.stores[victim]).await.snapshots;
        self.run.say(format!("store-{} is back, with {snapshots} snapshots", victim + 1));
        snapshots
    }

    /// Clients get so many answers more.
    async fn progress(&mut self, when: &str, more: u64) {
        let wanted = self.tally.counts().acknowledged + more;
        until(&format!("operations go on {when}"), Duration::from_secs(30), async || {
            self.cluster.expect_alive();
            let now = self.tally.counts();
            if now.acknowledged >= wanted { Ok(()) } else { Err(format!("{now}")) }
        })
        .await;
        self.run.say(format!("{when}: {}", self.tally.counts()));
    }

    async fn end(mut self, history: History, last_victim: usize) {
        // The store that was hit last answers for everything, from what it caught up with.
        let victim = StoreId(self.cluster.store_id(last_victim).await);
        let admin = self.client.admin();
        for route in admin.regions(KeyRange::full(), usize::MAX).await.expect("the cluster is well") {
            if route.leader.is_some_and(|leader| leader.store_id != victim) {
                admin.transfer_leader(route.region.id, victim).await.expect("its peer may lead");
            }
        }
        let keys = history.read_back(&self.client.raw()).await;
        let ballast = expect_ballast(&self.client.raw(), self.ballast_rounds).await;
        self.run.say(format!(
            "read back {keys} keys and {ballast} values of ballast, mostly from store {victim}"
        ));
        for number in 0..self.cluster.stores.len() {
            self.observed.add(&self.cluster.stores[number]).await;
        }
        self.cluster.expect_alive();
        history.check(self.run, self.cluster.directory.path());
        let counts = self.tally.counts();
        self.run.say(format!(
            "{counts}; {} kills, {} elections won, {} snapshots installed; caught up {} times by the log, {} times by snapshots",
            self.kills,
            self.observed.elections,
            self.observed.snapshots,
            self.caught_up_by_log,
            self.caught_up_by_snapshot
        ));
        expect_happened(&[
            ("acknowledged operations", counts.acknowledged),
            ("refused operations", counts.refused),
            ("operations of unknown outcome", counts.unknown),
            ("kills", self.kills),
            ("elections", self.observed.elections),
            ("snapshots", self.observed.snapshots),
            ("catching up by the log", self.caught_up_by_log),
            ("catching up by snapshots", self.caught_up_by_snapshot),
        ]);
    }
}
