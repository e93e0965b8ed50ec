//! A cluster with its keys cut into regions that all stores lead some of, and ballast that only a snapshot brings to who
//! was away.

use super::cluster::replicated;
use super::history::History;
use super::run::{Run, until};
use bytes::Bytes;
use client::{Admin, Client, Keyspace, RawClient};
use std::time::Duration;
use types::{KeyRange, StoreId};

/// Regions that the keys of a history are cut into.
pub(crate) const REGIONS: u64 = 6;
/// The replicas of each.
const REPLICAS: usize = 3;
/// What a write of ballast weighs, and how many go to each region.
const BALLAST_SIZE: usize = 64 << 10;
const BALLAST_PER_REGION: usize = 10;

/// Cuts the keys, and waits until every region has its replicas and every store leads a share.
pub(crate) async fn spread(run: &Run, client: &Client, stores: &[u64]) {
    replicated(client, REPLICAS, Duration::from_secs(30)).await;
    let cuts = History::split_keys(REGIONS).into_iter().map(|key| Keyspace::RAW.encode(&key));
    client
        .admin()
        .with_deadline(Duration::from_secs(20))
        .split_region(cuts)
        .await
        .expect("regions are split");
    replicated(client, REPLICAS, Duration::from_secs(30)).await;
    let admin = client.admin();
    let is_spread = || async {
        let regions = admin.regions(KeyRange::full(), usize::MAX).await.map_err(|error| error.to_string())?;
        let leaders: Vec<u64> =
            regions.iter().filter_map(|route| Some(route.leader?.store_id.get())).collect();
        let share = |store: &u64| leaders.iter().filter(|leader| *leader == store).count();
        match stores.iter().find(|store| share(store) == 0) {
            None => Ok(leaders),
            Some(store) => {
                // The placement driver will do it; this is quicker.
                let most = stores.iter().max_by_key(|store| share(store)).copied();
                let from =
                    regions.iter().find(|route| route.leader.map(|leader| leader.store_id.get()) == most);
                if let Some(route) = from {
                    let _ = admin.transfer_leader(route.region.id, StoreId(*store)).await;
                }
                Err(format!("store {store} leads nothing; leaders are on {leaders:?}"))
            }
        }
    };
    let leaders = until("every store leads a region", Duration::from_secs(30), is_spread).await;
    run.say(format!("{} regions with {REPLICAS} replicas each, led by stores {leaders:?}", leaders.len()));
}

/// Where the ballast of each region begins.
fn parts() -> impl Iterator<Item = Bytes> {
    [Bytes::from_static(b"a")].into_iter().chain(History::split_keys(REGIONS))
}

/// Writes into every region and has its log forget what was written, so that a store that is away needs a snapshot. Each
/// write is made again until it is acknowledged: its value is always the same.
///
/// The logs are told to forget. It was left to their bound in bytes once; but that is looked at from time to time, and a
/// store that came back a few milliseconds after the last write found all of it in the log.
pub(crate) async fn ballast(client: &RawClient, admin: &Admin, round: usize) {
    for part in parts() {
        for number in 0..BALLAST_PER_REGION {
            let (key, value) = ballast_of(&part, round, number);
            until("ballast is written", Duration::from_secs(20), async || {
                client.put(key.clone(), value.clone()).await.map_err(|error| error.to_string())
            })
            .await;
        }
    }
    let regions = admin.regions(KeyRange::full(), usize::MAX).await.expect("the placement driver is there");
    for route in regions {
        until("a log is compacted", Duration::from_secs(20), async || {
            admin.compact_log(route.region.id).await.map_err(|error| error.to_string())
        })
        .await;
    }
}

/// All ballast of these rounds is there. How much it is, in values.
pub(crate) async fn expect_ballast(client: &RawClient, rounds: usize) -> usize {
    let mut found = 0;
    for round in 0..rounds {
        for part in parts() {
            for number in 0..BALLAST_PER_REGION {
                let (key, value) = ballast_of(&part, round, number);
                let read = client.get(key.clone()).await.expect("the cluster is well");
                assert!(read == Some(value), "ballast {key:?} was acknowledged and is not what it was");
                found += 1;
            }
        }
    }
    found
}

fn ballast_of(part: &Bytes, round: usize, number: usize) -> (Bytes, Bytes) {
    let key = format!("{}/ballast {round} {number}", String::from_utf8_lossy(part));
    let word = format!("{key}; ");
    let value: String = word.chars().cycle().take(BALLAST_SIZE).collect();
    (key.into(), value.into())
}
