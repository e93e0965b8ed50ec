//! What the client asks of whom: little of the placement driver, and no more at once than it may.

use crate::cluster::{Cluster, Fate};
use crate::world::World;
use client_core::{Keyspace, Options};
use futures_util::FutureExt;
use futures_util::future::join_all;
use types::{Key, StoreId};
use wire::kv::KvError;
use wire::pd::PdRequest;

fn hundred_cuts() -> Vec<String> {
    (1..100).map(|n| format!("{n:03}")).collect()
}

fn hundred_regions(world: &World) -> Cluster {
    let cuts = hundred_cuts();
    Cluster::new(world, &cuts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn region_lookups(cluster: &Cluster) -> usize {
    let is_lookup = |request: &&PdRequest| {
        matches!(request, PdRequest::GetRegions { .. } | PdRequest::GetRegionByKey { .. })
    };
    cluster.state.lock().pd_sent.iter().filter(is_lookup).count()
}

#[test]
fn many_calls_on_a_cold_cache_share_their_lookups() {
    let world = World::new(5);
    let cluster = hundred_regions(&world);
    let raw = cluster.core(Options::default()).raw();
    world.run(async move {
        let gets = (0..100).map(|n| raw.get(format!("{n:03}")));
        for result in join_all(gets).await {
            assert_eq!(result, Ok(None));
        }
    });
    let lookups = region_lookups(&cluster);
    assert!(lookups <= 20, "{lookups} lookups for 100 regions");
    let stores =
        cluster.state.lock().pd_sent.iter().filter(|request| **request == PdRequest::GetStores).count();
    assert_eq!(stores, 1, "addresses are asked for once");
}

#[test]
fn a_lookup_whose_caller_is_gone_does_not_hold_up_others() {
    // The first caller begins a lookup and then neither goes on nor goes away, like a scan that is not read.
    let world = World::new(6);
    let cluster = hundred_regions(&world);
    let raw = cluster.core(Options::default()).raw();
    world.run(async move {
        let mut stuck = Box::pin(raw.get("050"));
        assert!((&mut stuck).now_or_never().is_none());
        assert_eq!(raw.get("050").await, Ok(None));
        drop(stuck);
        let mut dropped = Box::pin(raw.get("001"));
        assert!((&mut dropped).now_or_never().is_none());
        drop(dropped);
        assert_eq!(raw.get("001").await, Ok(None));
    });
}

#[test]
fn a_batch_has_no_more_requests_in_flight_than_it_may() {
    let world = World::new(7);
    let cluster = hundred_regions(&world);
    let raw = cluster.core(Options { batch_concurrency: 5, ..Options::default() }).raw();
    world.run(async move {
        raw.batch_put((0..100).map(|n| (format!("{n:03}"), format!("{n}")))).await.unwrap();
        let found = raw.batch_get((0..100).map(|n| format!("{n:03}"))).await.unwrap();
        assert!(found.iter().all(Option::is_some));
    });
    let state = cluster.state.lock();
    assert_eq!(state.in_flight_max, 5);
    assert_eq!(state.kv_sent.len(), 200);
}

#[test]
fn a_named_leader_is_followed_without_asking_the_placement_driver() {
    let world = World::new(8);
    let cluster = Cluster::new(&world, &[]);
    let raw = cluster.core(Options::default()).raw();
    world.run({
        let cluster = cluster.clone();
        async move {
            raw.put("k", "1").await.unwrap();
            let leader = {
                let mut state = cluster.state.lock();
                let lead = state.regions.get_mut(&Key::new()).unwrap();
                lead.leader = Some(StoreId(3));
                let (region_id, leader) = (lead.region.id, lead.region.peer_on(StoreId(3)).copied());
                state.pd_sent.clear();
                state.kv_sent.clear();
                state.fates.push_back(Fate::Refused(KvError::NotLeader { region_id, leader }));
                StoreId(3)
            };
            raw.put("k", "2").await.unwrap();
            let state = cluster.state.lock();
            let asked: Vec<StoreId> = state.kv_sent.iter().map(|(store, _)| *store).collect();
            assert_eq!(asked, [StoreId(1), leader]);
            assert!(state.pd_sent.is_empty(), "asked {:?}", state.pd_sent);
        }
    });
}

#[test]
fn regions_that_a_store_names_after_a_split_are_believed_at_once() {
    let world = World::new(9);
    let cluster = Cluster::new(&world, &[]);
    let raw = cluster.core(Options::default()).raw();
    world.run({
        let cluster = cluster.clone();
        async move {
            raw.put("k", "1").await.unwrap();
            {
                let mut state = cluster.state.lock();
                state.split(&Keyspace::RAW.encode(b"m"));
                let current_regions = state.regions.values().map(|lead| lead.region.clone()).collect();
                state.pd_sent.clear();
                state.fates.push_back(Fate::Refused(KvError::EpochNotMatch { current_regions }));
            }
            raw.put("z", "2").await.unwrap();
            raw.put("a", "3").await.unwrap();
            assert!(cluster.state.lock().pd_sent.is_empty(), "the placement driver was asked");
        }
    });
}

#[test]
fn a_store_that_lags_behind_does_not_take_the_client_back() {
    // The store still knows the region as it was before a split that the client has seen.
    let world = World::new(10);
    let cluster = Cluster::new(&world, &[]);
    let before = cluster.state.lock().regions[&Key::new()].region.clone();
    {
        let mut state = cluster.state.lock();
        state.split(&Keyspace::RAW.encode(b"m"));
        state.tell_pd();
        let current_regions = vec![before];
        state.fates.push_back(Fate::Refused(KvError::EpochNotMatch { current_regions }));
    }
    let raw = cluster.core(Options::default()).raw();
    world.run(async move { raw.put("k", "1").await.unwrap() });
    assert_eq!(region_lookups(&cluster), 1, "what it knew was newer");
}

#[test]
fn a_batch_whose_values_no_answer_can_hold_is_read_in_smaller_parts() {
    let world = World::new(11);
    let cluster = Cluster::new(&world, &[]);
    let raw = cluster.core(Options::default()).raw();
    let values = world.run({
        let cluster = cluster.clone();
        async move {
            raw.batch_put((0..8).map(|n| (format!("{n}"), format!("v{n}")))).await.unwrap();
            let too_large = KvError::InvalidRequest { message: "the answer is too large".to_owned() };
            cluster.state.lock().fates.extend(vec![Fate::Refused(too_large); 3]);
            raw.batch_get((0..8).map(|n| format!("{n}"))).await.unwrap()
        }
    });
    assert_eq!(values, (0..8).map(|n| Some(format!("v{n}").into())).collect::<Vec<_>>());
}

#[test]
fn a_cache_with_room_for_one_region_still_serves() {
    let world = World::new(12);
    let cluster = Cluster::new(&world, &["b", "c", "d"]);
    let raw = cluster.core(Options { regions_cached_max: 1, ..Options::default() }).raw();
    world.run(async move {
        raw.batch_put([("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]).await.unwrap();
        assert_eq!(raw.scan_page(types::KeyRange::full(), 10).await.unwrap().len(), 4);
    });
}
