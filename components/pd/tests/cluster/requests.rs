//! What stores and clients ask, and what they are told.

use crate::driver::Driver;
use pd::Config;
use std::time::Duration;
use types::{Epoch, KeyRange, Peer, PeerId, Region, RegionId, StoreId, Term};
use wire::pd::{
    PdError, PdReply, PdRequest, RegionHeartbeat, RegionRoute, StoreInfo, StoreMode, StoreState, StoreStats,
    StoreStatus,
};

/// What a store is told whose word was taken; nobody has made a key space.
const HEARD: Result<PdReply, PdError> = Ok(PdReply::StoreHeard { last_keyspace: 0 });

fn ids(driver: &mut Driver, count: u32) -> u64 {
    match driver.ask(PdRequest::AllocateIds { count }) {
        Ok(PdReply::Ids { first }) => first,
        other => panic!("{other:?}"),
    }
}

fn info(id: u64, address: &str) -> StoreInfo {
    StoreInfo { id: StoreId(id), address: address.to_owned(), ..StoreInfo::default() }
}

fn first_region(id: u64, peer: u64, store: u64) -> Region {
    Region {
        id: RegionId(id),
        range: KeyRange::full(),
        epoch: Epoch { conf_ver: 1, version: 1 },
        peers: vec![Peer::voter(PeerId(peer), StoreId(store))],
    }
}

fn bootstrap(store: u64, region: Region) -> PdRequest {
    PdRequest::Bootstrap { store: info(store, &format!("store-{store}")), region }
}

/// A cluster with store 1 and, on it, the region 2 with its peer 3.
fn bootstrapped() -> Driver {
    let mut driver = Driver::new(Config::default(), 1, 7);
    assert_eq!(ids(&mut driver, 3), 1);
    assert_eq!(driver.ask(bootstrap(1, first_region(2, 3, 1))), Ok(PdReply::Done));
    driver
}

fn put(driver: &mut Driver, id: u64, address: &str) -> Result<PdReply, PdError> {
    driver.ask(PdRequest::PutStore { store: info(id, address) })
}

fn store_heartbeat(driver: &mut Driver, id: u64) -> Result<PdReply, PdError> {
    driver.ask(PdRequest::StoreHeartbeat {
        stats: StoreStats {
            store_id: StoreId(id),
            capacity_bytes: 100 << 30,
            available_bytes: 90 << 30,
            ..StoreStats::default()
        },
    })
}

fn region_heartbeat(driver: &mut Driver, region: &Region) {
    let heartbeat = RegionHeartbeat {
        region: region.clone(),
        leader: region.peers[0],
        term: Term(5),
        ..RegionHeartbeat::default()
    };
    let store_id = region.peers[0].store_id;
    let answer = driver.ask(PdRequest::RegionHeartbeats { store_id, regions: vec![heartbeat] });
    assert!(matches!(answer, Ok(PdReply::Instructions(_))), "{answer:?}");
}

fn statuses(driver: &mut Driver) -> Vec<StoreStatus> {
    match driver.ask(PdRequest::GetStores) {
        Ok(PdReply::Stores(stores)) => stores,
        other => panic!("{other:?}"),
    }
}

fn rejection(answer: Result<PdReply, PdError>) -> String {
    match answer {
        Err(PdError::StoreRejected { message }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_cluster_has_one_id_for_ever() {
    let mut driver = Driver::new(Config::default(), 1, 7);
    let Ok(PdReply::Cluster { cluster_id, bootstrapped }) = driver.ask(PdRequest::GetCluster) else {
        panic!()
    };
    assert!(!cluster_id.is_zero() && !bootstrapped);
    driver.crash(0);
    driver.start(0);
    assert_eq!(driver.ask(PdRequest::GetCluster), Ok(PdReply::Cluster { cluster_id, bootstrapped }));
}

#[test]
fn one_store_wins_the_bootstrap_and_may_ask_again() {
    let mut driver = Driver::new(Config::default(), 1, 7);
    assert_eq!(driver.ask(PdRequest::GetStores), Err(PdError::NotBootstrapped));
    assert_eq!(put(&mut driver, 1, "early"), Err(PdError::NotBootstrapped));
    assert_eq!(ids(&mut driver, 6), 1);
    assert_eq!(driver.ask(bootstrap(1, first_region(2, 3, 1))), Ok(PdReply::Done));
    assert_eq!(driver.ask(bootstrap(4, first_region(5, 6, 4))), Err(PdError::AlreadyBootstrapped));
    driver.crash(0);
    driver.start(0);
    assert_eq!(driver.ask(bootstrap(1, first_region(2, 3, 1))), Ok(PdReply::Done), "its answer was lost");
    assert_eq!(driver.ask(bootstrap(1, first_region(5, 6, 1))), Err(PdError::AlreadyBootstrapped));
    assert_eq!(statuses(&mut driver).len(), 1);
}

#[test]
fn a_bootstrap_that_makes_no_sense_is_refused() {
    let mut driver = Driver::new(Config::default(), 1, 7);
    ids(&mut driver, 3);
    let mut partial = first_region(2, 3, 1);
    partial.range = KeyRange::new("a", "");
    let never_handed_out = first_region(2, 1 << 40, 1);
    for region in [partial, first_region(2, 3, 9), never_handed_out, Region::default()] {
        let answer = driver.ask(bootstrap(1, region));
        assert!(matches!(answer, Err(PdError::InvalidRequest { .. })), "{answer:?}");
    }
}

#[test]
fn an_address_belongs_to_one_live_store_and_passes_on_when_that_falls_silent() {
    let mut driver = bootstrapped();
    let (second, third) = (ids(&mut driver, 1), ids(&mut driver, 1));
    assert_eq!(put(&mut driver, second, "b"), Ok(PdReply::Done));
    let message = rejection(put(&mut driver, third, "b"));
    assert!(message.contains(&format!("belongs to store {second}")) && message.contains("own"), "{message}");
    assert_eq!(put(&mut driver, second, "b"), Ok(PdReply::Done), "a restart of the same store");
    assert_eq!(put(&mut driver, second, "c"), Ok(PdReply::Done), "it moves");
    assert_eq!(put(&mut driver, third, "b"), Ok(PdReply::Done), "and leaves its address free");
    // The disk of the second is lost, and another store comes up at its address.
    driver.run(Duration::from_secs(25), Duration::from_secs(1));
    let fourth = ids(&mut driver, 1);
    assert_eq!(put(&mut driver, fourth, "c"), Ok(PdReply::Done));
    let message = rejection(store_heartbeat(&mut driver, second));
    assert!(message.contains("taken over"), "{message}");
    assert_eq!(put(&mut driver, second, "d"), Ok(PdReply::Done), "its data was elsewhere after all");
    assert_eq!(store_heartbeat(&mut driver, second), HEARD);
}

#[test]
fn the_id_of_a_store_that_is_down_and_empty_ends_when_its_address_is_taken() {
    let mut driver = bootstrapped();
    let (second, third) = (ids(&mut driver, 1), ids(&mut driver, 1));
    assert_eq!(put(&mut driver, second, "b"), Ok(PdReply::Done));
    region_heartbeat(&mut driver, &first_region(2, 3, 1));
    driver.run(Duration::from_secs(31 * 60), Duration::from_secs(1));
    assert_eq!(put(&mut driver, third, "b"), Ok(PdReply::Done));
    driver.crash(0);
    driver.start(0);
    let message = rejection(put(&mut driver, second, "c"));
    assert!(message.contains("retired") && message.contains("new id"), "{message}");
    assert!(rejection(store_heartbeat(&mut driver, second)).contains("retired"));
    assert_eq!(statuses(&mut driver).len(), 2);
}

/// Its disk was lost while it drained, and another store took its address: it was never called empty (found by the simulator).
#[test]
fn the_id_of_a_store_that_drains_ends_though_another_has_its_address() {
    let mut driver = Driver::new(Config { replicas: 1, ..Config::default() }, 1, 7);
    ids(&mut driver, 3);
    assert_eq!(driver.ask(bootstrap(1, first_region(2, 3, 1))), Ok(PdReply::Done));
    let (second, third) = (ids(&mut driver, 1), ids(&mut driver, 1));
    assert_eq!(put(&mut driver, second, "b"), Ok(PdReply::Done));
    assert_eq!(store_heartbeat(&mut driver, 1), HEARD);
    let stats = StoreStats { store_id: StoreId(second), region_count: 1, ..StoreStats::default() };
    assert_eq!(driver.ask(PdRequest::StoreHeartbeat { stats }), HEARD);
    region_heartbeat(&mut driver, &first_region(2, 3, 1));
    let drain = PdRequest::SetStoreMode { store_id: StoreId(second), mode: StoreMode::Draining };
    assert_eq!(driver.ask(drain), Ok(PdReply::Done));
    let ended = |driver: &Driver| driver.pd(0).stores_ever()[&StoreId(second)].is_retired;
    driver.run(Duration::from_secs(25), Duration::from_secs(1));
    assert!(!ended(&driver), "it may come back");
    assert_eq!(put(&mut driver, third, "b"), Ok(PdReply::Done));
    driver.run(Duration::from_secs(31 * 60), Duration::from_secs(1));
    assert!(ended(&driver));
}

#[test]
fn a_store_fades_from_up_to_disconnected_to_down() {
    let mut driver = bootstrapped();
    let state = |driver: &mut Driver| statuses(driver)[0].state;
    assert_eq!(state(&mut driver), StoreState::Disconnected, "it has not said how it is");
    assert_eq!(store_heartbeat(&mut driver, 1), HEARD);
    assert_eq!(state(&mut driver), StoreState::Up);
    driver.run(Duration::from_secs(20), Duration::from_secs(1));
    assert_eq!(state(&mut driver), StoreState::Disconnected);
    driver.run(Duration::from_secs(30 * 60), Duration::from_secs(1));
    assert_eq!(state(&mut driver), StoreState::Down);
    assert!(statuses(&mut driver)[0].silent_ms >= 30 * 60 * 1000);
    assert_eq!(store_heartbeat(&mut driver, 1), HEARD);
    assert_eq!(state(&mut driver), StoreState::Up);
    let stranger = rejection(store_heartbeat(&mut driver, 99));
    assert!(stranger.contains("introduces itself"), "{stranger}");
}

#[test]
fn split_ids_are_new_and_a_stale_parent_is_refused() {
    let mut driver = bootstrapped();
    store_heartbeat(&mut driver, 1).unwrap();
    let mut region = first_region(2, 3, 1);
    region.epoch.version = 4;
    region_heartbeat(&mut driver, &region);
    let stale = PdRequest::AskSplit { region: first_region(2, 3, 1), count: 1 };
    assert_eq!(driver.ask(stale), Err(PdError::StaleRegion { epoch: region.epoch }));
    let forgotten = PdRequest::AskSplit { region: first_region(77, 78, 1), count: 1 };
    assert_eq!(
        driver.ask(forgotten),
        Err(PdError::StaleRegion { epoch: region.epoch }),
        "its range has a newer owner"
    );
    region.peers.push(Peer::voter(PeerId(8), StoreId(2)));
    region.epoch.conf_ver += 1;
    let answer = driver.ask(PdRequest::AskSplit { region: region.clone(), count: 3 });
    let Ok(PdReply::SplitIds(children)) = answer else { panic!("{answer:?}") };
    let mut all: Vec<u64> = children.iter().map(|child| child.region_id.get()).collect();
    all.extend(children.iter().flat_map(|child| &child.peer_ids).map(|id| id.get()));
    all.sort_unstable();
    assert!(children.len() == 3 && children.iter().all(|child| child.peer_ids.len() == 2), "{children:?}");
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]) && all[0] > 3, "{all:?}");
    for count in [0, 1 << 20] {
        let answer = driver.ask(PdRequest::AskSplit { region: region.clone(), count });
        assert!(matches!(answer, Err(PdError::InvalidRequest { .. })), "{answer:?}");
    }
}

#[test]
fn regions_are_found_by_key_by_id_and_by_range() {
    let mut driver = bootstrapped();
    for (id, start, end) in [(10, "", "g"), (11, "g", "p"), (12, "p", "")] {
        let mut region = first_region(id, id * 10, 1);
        region.range = KeyRange::new(start, end);
        region_heartbeat(&mut driver, &region);
    }
    let found = |answer| match answer {
        Ok(PdReply::Region(route)) => route.map(|route: RegionRoute| route.region.id.get()),
        other => panic!("{other:?}"),
    };
    let by_key = |key: &'static str, before| PdRequest::GetRegionByKey { key: key.into(), before };
    assert_eq!(found(driver.ask(by_key("g", false))), Some(11));
    assert_eq!(found(driver.ask(by_key("g", true))), Some(10));
    assert_eq!(found(driver.ask(by_key("", false))), Some(10));
    assert_eq!(found(driver.ask(by_key("", true))), Some(12));
    assert_eq!(found(driver.ask(PdRequest::GetRegion { region_id: RegionId(12) })), Some(12));
    assert_eq!(found(driver.ask(PdRequest::GetRegion { region_id: RegionId(13) })), None);
    let listed = |answer| match answer {
        Ok(PdReply::Regions(routes)) => {
            routes.iter().map(|route: &RegionRoute| route.region.id.get()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let in_range = |start: &'static str, end: &'static str, limit| PdRequest::GetRegions {
        range: KeyRange::new(start, end),
        limit,
    };
    assert_eq!(listed(driver.ask(in_range("", "", 0))), [10, 11, 12]);
    assert_eq!(listed(driver.ask(in_range("h", "", 1))), [11]);
    assert_eq!(listed(driver.ask(in_range("h", "p", 9))), [11]);
    assert_eq!(listed(driver.ask(in_range("p", "h", 9))), [0; 0]);
}

#[test]
fn a_heartbeat_in_the_name_of_another_store_has_no_effect() {
    let mut driver = bootstrapped();
    let second = ids(&mut driver, 1);
    put(&mut driver, second, "b").unwrap();
    let region = first_region(2, 3, 1);
    let heartbeat =
        RegionHeartbeat { leader: region.peers[0], region, term: Term(5), ..RegionHeartbeat::default() };
    let forged = PdRequest::RegionHeartbeats { store_id: StoreId(second), regions: vec![heartbeat] };
    assert_eq!(driver.ask(forged), Ok(PdReply::Instructions(Vec::new())));
    assert_eq!(driver.pd(0).status().heartbeats_invalid, 1);
    assert_eq!(driver.pd(0).status().region_count, 0);
}

#[test]
fn other_members_than_those_of_the_engine_are_refused() {
    let driver = bootstrapped();
    let engine = driver.engine(0);
    let member = |id: u64| pd::Member { id: PeerId(id), address: String::new() };
    let open =
        |members: &[pd::Member], id| pd::Pd::open(Config::default(), engine.clone(), members, PeerId(id), 1);
    assert!(matches!(open(&[member(1)], 2), Err(pd::Error::Config(_))));
    assert!(matches!(open(&[member(1), member(1)], 1), Err(pd::Error::Config(_))));
    assert!(matches!(open(&[member(0)], 0), Err(pd::Error::Config(_))));
    let grown = open(&[member(1), member(2)], 1).map(|_| ());
    assert!(matches!(&grown, Err(pd::Error::Config(message)) if message.contains("members")), "{grown:?}");
    drop(driver);
    let wrong = Config { replicas: 0, ..Config::default() };
    assert!(matches!(
        pd::Pd::open(wrong, engine.clone(), &[member(1)], PeerId(1), 1),
        Err(pd::Error::Config(_))
    ));
}
