//! A network that swallows packets: no reset, no refusal, only time that passes. One call finds out, others are spared.

use crate::cluster::{Cluster, STORES};
use crate::ms;
use crate::world::World;
use client_core::{Error, Options, RawClient};
use std::time::Duration;
use types::{RegionId, StoreId};
use wire::kv::KvCommand;

const REGIONS: u64 = 30;
const CUT: StoreId = StoreId(2);
const DEADLINE: Duration = Duration::from_secs(5);

/// Regions led in turn by three stores, all of them known to the client.
fn warm(world: &World) -> (Cluster, RawClient) {
    let cuts: Vec<String> = (1..REGIONS).map(|n| format!("{n:03}")).collect();
    let cluster = Cluster::new(world, &cuts.iter().map(String::as_str).collect::<Vec<_>>());
    let raw = cluster.core(Options { deadline: DEADLINE, ..Options::default() }).raw();
    let warmed = raw.clone();
    world.run(async move {
        for n in 0..REGIONS {
            warmed.put(format!("{n:03}"), "before").await.expect("nothing is wrong yet");
        }
    });
    (cluster, raw)
}

/// The other stores elect leaders in place of those on `store`, as they do within two seconds.
async fn replace_leaders(world: World, cluster: Cluster, store: StoreId) {
    world.sleep(ms(1_500)).await;
    let mut state = cluster.state.lock();
    state.stores.insert(store, false);
    state.elect();
    state.stores.insert(store, true);
    state.tell_pd();
}

/// How many requests other than probes were sent to the store from the `from`th request on.
fn requests_to(cluster: &Cluster, store: StoreId, from: usize) -> usize {
    let state = cluster.state.lock();
    let sent = state.kv_sent[from..].iter();
    sent.filter(|(to, request)| *to == store && request.region_id != RegionId(0)).count()
}

#[test]
fn after_a_silent_cut_one_write_is_in_doubt_and_the_other_regions_of_the_store_are_written_elsewhere() {
    let world = World::new(21);
    let (cluster, raw) = warm(&world);
    let sent = cluster.state.lock().kv_sent.len();
    cluster.state.lock().silent.insert(CUT);
    world.spawn(replace_leaders(world.clone(), cluster.clone(), CUT));
    let clock = world.clone();
    let (undetermined, taken) = world.run(async move {
        let begun = clock.now();
        let mut undetermined = 0;
        for n in 0..REGIONS {
            match raw.put(format!("{n:03}"), format!("after {n}")).await {
                Ok(()) => {}
                Err(Error::Undetermined { .. }) => undetermined += 1,
                Err(other) => panic!("region {n}: {other}"),
            }
        }
        (undetermined, clock.now().since(begun))
    });
    assert_eq!(undetermined, 1, "writes in doubt");
    assert!(taken < DEADLINE + ms(1_000), "thirty writes took {taken:?}");
    assert_eq!(requests_to(&cluster, CUT, sent), 1, "only the first went where nobody answers");
    let twice = cluster
        .state
        .lock()
        .applied
        .iter()
        .find(|(value, times)| **times > 1 && &value[..] != b"before")
        .map(|(value, _)| value.clone());
    assert_eq!(twice, None, "written twice");
}

#[test]
fn after_a_silent_cut_one_read_waits_and_the_others_do_not() {
    let world = World::new(22);
    let (cluster, raw) = warm(&world);
    cluster.state.lock().silent.insert(CUT);
    world.spawn(replace_leaders(world.clone(), cluster, CUT));
    let clock = world.clone();
    let mut slow = world.run(async move {
        let mut taken = Vec::new();
        for n in 0..REGIONS {
            let begun = clock.now();
            assert_eq!(raw.get(format!("{n:03}")).await, Ok(Some("before".into())));
            taken.push(clock.now().since(begun));
        }
        taken
    });
    slow.sort();
    let slowest = slow.pop().expect("there were reads");
    assert!(slowest >= ms(2_000) && slowest < ms(2_500), "the one that found out took {slowest:?}");
    let next = slow.pop().expect("there were others");
    assert!(next < ms(50), "another one took {next:?}");
}

#[test]
fn a_write_that_waits_on_a_silent_store_warns_the_others_before_its_own_time_is_over() {
    let world = World::new(23);
    let (cluster, raw) = warm(&world);
    cluster.state.lock().silent.insert(CUT);
    world.spawn(replace_leaders(world.clone(), cluster, CUT));
    let (clock, stuck) = (world.clone(), raw.clone());
    // Regions 2 and 5 are led by the store that is cut.
    world.spawn(async move { drop(stuck.put("002", "in doubt").await) });
    world.run(async move {
        clock.sleep(ms(1_100)).await;
        let begun = clock.now();
        raw.put("005", "v").await.expect("the others elect a leader");
        let taken = clock.now().since(begun);
        assert!(taken < ms(1_000), "it took {taken:?}");
    });
}

#[test]
fn a_store_that_only_the_client_cannot_reach_leaves_no_write_in_doubt_and_is_forgiven_when_it_is_back() {
    // Its followers hear it, so nobody is elected in its place: its regions cannot be written, but that is all.
    let world = World::new(24);
    let (cluster, raw) = warm(&world);
    let sent = cluster.state.lock().kv_sent.len();
    cluster.state.lock().silent.insert(CUT);
    let healed = cluster.clone();
    let clock = world.clone();
    world.run(async move {
        let first = raw.put("002", "in doubt").await;
        assert!(matches!(first, Err(Error::Undetermined { .. })), "it gave {first:?}");
        for n in [5, 8, 11] {
            let result = raw.put(format!("{n:03}"), "not written").await;
            let is_definite = matches!(result, Err(Error::DeadlineExceeded | Error::Unavailable { .. }));
            assert!(is_definite, "it gave {result:?}");
        }
        raw.put("003", "v").await.expect("stores that are there are written");
        assert_eq!(requests_to(&healed, CUT, sent), 1);
        let probes = healed.state.lock().kv_sent[sent..].iter().filter(|(to, _)| *to == CUT).count() - 1;
        assert!((5..=20).contains(&probes), "{probes} probes in fifteen seconds");
        healed.state.lock().silent.clear();
        let begun = clock.now();
        raw.put("005", "again").await.expect("it is back");
        assert!(clock.now().since(begun) < ms(2_600), "it took {:?}", clock.now().since(begun));
        let begun = clock.now();
        raw.put("008", "again").await.expect("it is back");
        assert!(clock.now().since(begun) < ms(50), "it took {:?}", clock.now().since(begun));
    });
}

#[test]
fn calls_go_on_when_all_stores_were_silent_for_a_while() {
    let world = World::new(25);
    let (cluster, raw) = warm(&world);
    cluster.state.lock().silent.extend((1..=STORES).map(StoreId));
    let clock = world.clone();
    world.run(async move {
        for n in 0..3 {
            assert!(raw.put(format!("{n:03}"), "in doubt").await.is_err());
        }
        cluster.state.lock().silent.clear();
        let begun = clock.now();
        for n in 0..REGIONS {
            raw.put(format!("{n:03}"), "v").await.expect("all are back");
        }
        assert!(clock.now().since(begun) < ms(3_000), "it took {:?}", clock.now().since(begun));
    });
}

#[test]
fn nothing_but_reads_of_no_region_asks_whether_a_store_is_back() {
    let world = World::new(26);
    let (cluster, raw) = warm(&world);
    let sent = cluster.state.lock().kv_sent.len();
    cluster.state.lock().silent.insert(CUT);
    world.run(async move {
        for n in [2, 5] {
            assert!(raw.put(format!("{n:03}"), "x").await.is_err());
        }
    });
    let state = cluster.state.lock();
    let probes = state.kv_sent[sent..].iter().filter(|(_, request)| request.region_id == RegionId(0));
    for (_, request) in probes {
        assert!(matches!(request.command, KvCommand::Get { .. }), "probed with {:?}", request.command);
    }
}

#[test]
fn a_store_that_comes_back_at_another_address_is_found_there() {
    // It was restarted and leads again; the others name it, and its old address never answers.
    let world = World::new(27);
    let (cluster, raw) = warm(&world);
    cluster.state.lock().stores.insert(CUT, false);
    cluster.state.lock().elect();
    let clock = world.clone();
    world.run(async move {
        for n in [2, 5] {
            // In doubt if it was on its way when the store went.
            let _ = raw.put(format!("{n:03}"), "while it is away").await;
        }
        clock.sleep(ms(5_000)).await;
        {
            let mut state = cluster.state.lock();
            state.stores.insert(CUT, true);
            state.moved.insert(CUT);
            for lead in state.regions.values_mut() {
                lead.leader = Some(CUT);
            }
        }
        let begun = clock.now();
        raw.put("002", "v").await.expect("it is there");
        let taken = clock.now().since(begun);
        assert!(taken < ms(2_600), "it took {taken:?}");
    });
}
