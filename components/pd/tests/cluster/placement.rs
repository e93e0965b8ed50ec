//! What becomes of a cluster: repaired, balanced, and then left in peace.

use crate::model::Cluster;
use env::{Dice as _, SplitMix};
use pd::Config;
use std::collections::BTreeMap;
use std::time::Duration;
use types::StoreId;
use wire::pd::{Order, PdError, PdReply, PdRequest, StoreInfo, StoreMode};
use wire::store::DiskState;

const MINUTE: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config { down_after: Duration::from_secs(10 * 60), ..Config::default() }
}

/// Runs until something holds, or fails with what the counts are.
fn run_until(cluster: &mut Cluster, minutes: u32, what: &str, holds: impl Fn(&Cluster) -> bool) {
    for _ in 0..minutes * 6 {
        if holds(cluster) {
            return;
        }
        cluster.run(MINUTE / 6);
    }
    panic!(
        "not {what} after {minutes} minutes: {:?}, {:#?}",
        cluster.counts(),
        cluster.driver.pd(0).status()
    );
}

fn within(counts: &[usize]) -> bool {
    let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let tolerance = (mean * 0.05).max(1.0);
    counts.iter().all(|count| (*count as f64 - mean).abs() <= tolerance)
}

fn is_balanced(cluster: &Cluster) -> bool {
    let counts: BTreeMap<StoreId, (usize, usize)> = cluster.counts();
    let running: Vec<_> =
        counts.iter().filter(|(id, _)| cluster.stores[id].is_running).map(|(_, count)| *count).collect();
    within(&running.iter().map(|count| count.0).collect::<Vec<_>>())
        && within(&running.iter().map(|count| count.1).collect::<Vec<_>>())
}

fn started(cluster: &Cluster) -> u64 {
    cluster.driver.pd(0).status().operators_started
}

/// Nothing moves for two hours.
fn expect_quiet(cluster: &mut Cluster) {
    run_until(cluster, 10, "idle", |cluster| cluster.driver.pd(0).status().operators_running == 0);
    let (operators, steps) = (started(cluster), cluster.steps_done);
    cluster.run(MINUTE * 120);
    assert_eq!(
        (started(cluster), cluster.steps_done),
        (operators, steps),
        "something moved: {:?}",
        cluster.counts()
    );
}

#[test]
fn a_cluster_that_grows_from_one_store_is_replicated_balanced_and_then_quiet() {
    for seed in 0..3 {
        let mut cluster = Cluster::new(config(), seed);
        cluster.loss = 20;
        cluster.split_to(60);
        cluster.run(MINUTE * 5);
        assert!(cluster.is_replicated(1), "a lone store has nowhere to put copies");
        cluster.join();
        cluster.join();
        run_until(&mut cluster, 60, "replicated", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
        cluster.join();
        cluster.join();
        run_until(&mut cluster, 120, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
        cluster.loss = 0;
        expect_quiet(&mut cluster);
        // 180 copies: 120 made by repair, and 72 moved to the two newcomers.
        assert!(cluster.moves() <= 120 + 72 + 4, "seed {seed}: {} moves", cluster.moves());
        assert_eq!(cluster.swings(), 0, "seed {seed}");
    }
}

/// With a window of one, ids were reserved only when somebody asked for some; scheduling asks for none, and repaired
/// nothing any more once they were used up.
#[test]
fn repair_does_not_run_out_of_ids_that_nobody_asks_for() {
    let mut cluster = Cluster::new(Config { id_window: 1, ..config() }, 1);
    cluster.join();
    cluster.join();
    cluster.split_to(8);
    run_until(&mut cluster, 60, "replicated", |cluster| cluster.is_replicated(3));
}

#[test]
fn the_copies_of_a_dead_store_are_made_again_on_a_fourth() {
    for seed in 0..3 {
        let mut cluster = Cluster::new(config(), seed);
        for _ in 0..3 {
            cluster.join();
        }
        cluster.split_to(40);
        run_until(&mut cluster, 120, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
        let victim = *cluster.stores.keys().nth(seed as usize % 4).unwrap();
        cluster.stop(victim);
        cluster.run(MINUTE * 5);
        assert!(!cluster.is_replicated(3), "a store that is away for minutes is waited for");
        run_until(&mut cluster, 60, "repaired", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
        assert_eq!(cluster.counts()[&victim].0, 0);
        expect_quiet(&mut cluster);
        // It comes back empty-handed, and gets its share again.
        cluster.restart(victim);
        run_until(&mut cluster, 60, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
        expect_quiet(&mut cluster);
    }
}

#[test]
fn a_short_absence_moves_leaders_and_no_copies() {
    let mut cluster = Cluster::new(config(), 1);
    for _ in 0..3 {
        cluster.join();
    }
    cluster.split_to(40);
    run_until(&mut cluster, 120, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
    expect_quiet(&mut cluster);
    let moves = cluster.moves();
    let victim = *cluster.stores.keys().next().unwrap();
    cluster.stop(victim);
    cluster.run(MINUTE * 4);
    cluster.restart(victim);
    run_until(&mut cluster, 30, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
    assert_eq!(cluster.moves(), moves, "no copy moved");
}

#[test]
fn a_slow_store_leads_nothing_and_a_full_one_gets_nothing() {
    let mut cluster = Cluster::new(config(), 2);
    cluster.join();
    cluster.join();
    cluster.split_to(30);
    run_until(&mut cluster, 60, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
    let slow = *cluster.stores.keys().next().unwrap();
    cluster.stores.get_mut(&slow).unwrap().is_slow = true;
    run_until(&mut cluster, 10, "rid of leaders", |cluster| cluster.counts()[&slow].1 == 0);
    cluster.stores.get_mut(&slow).unwrap().is_slow = false;
    run_until(&mut cluster, 10, "balanced", is_balanced);
    let full = cluster.join();
    cluster.stores.get_mut(&full).unwrap().disk = DiskState::Full;
    cluster.run(Duration::from_secs(15));
    let before = cluster.counts()[&full].0;
    cluster.run(MINUTE * 20);
    assert!(cluster.counts()[&full].0 <= before, "nothing new once it said so");
    cluster.stores.get_mut(&full).unwrap().disk = DiskState::Ok;
    run_until(&mut cluster, 60, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
}

#[test]
fn every_operator_says_why_it_was_made() {
    let mut cluster = Cluster::new(config(), 3);
    cluster.split_to(10);
    cluster.join();
    cluster.join();
    run_until(&mut cluster, 60, "replicated", |cluster| cluster.is_replicated(3));
    let Ok(PdReply::Operators(operators)) = cluster.driver.ask(PdRequest::GetOperators) else { panic!() };
    assert!(operators.len() >= 20);
    for operator in operators {
        assert!(
            !operator.why.is_empty() && !operator.steps.is_empty() && !operator.state.is_empty(),
            "{operator:?}"
        );
    }
}

/// One peer of the first region goes to the store that has none of it, because somebody wants it there; and in a cluster
/// that has all it wants, a peer that was added beyond that goes again.
#[test]
fn what_people_order_is_done_and_what_they_cancel_is_not() {
    let mut cluster = Cluster::new(config(), 4);
    for _ in 0..3 {
        cluster.join();
    }
    cluster.split_to(4);
    run_until(&mut cluster, 120, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
    expect_quiet(&mut cluster);
    let (region_id, region) =
        cluster.regions.iter().next().map(|(id, known)| (*id, known.region.clone())).unwrap();
    let to_store = *cluster.stores.keys().find(|id| region.peer_on(**id).is_none()).unwrap();
    let from_store = region.peers[0].store_id;
    let ask = |cluster: &mut Cluster, order| cluster.driver.ask(PdRequest::AddOperator { region_id, order });
    let order = Order::TransferPeer { from_store, to_store };
    let Ok(PdReply::Operators(begun)) = ask(&mut cluster, order) else { panic!() };
    assert_eq!((begun.len(), begun[0].kind.as_str()), (1, "transfer-peer"));
    // The answer was lost, and the same is asked again.
    let Ok(PdReply::Operators(again)) = ask(&mut cluster, order) else { panic!() };
    assert_eq!(again[0].steps, begun[0].steps);
    assert!(matches!(ask(&mut cluster, Order::AddPeer { to_store }), Err(PdError::InvalidRequest { .. })));
    let members = |cluster: &Cluster| cluster.regions[&region_id].region.clone();
    run_until(&mut cluster, 10, "moved", |cluster| {
        let now = members(cluster);
        now.peer_on(to_store).is_some() && now.peer_on(from_store).is_none() && now.peers.len() == 3
    });
    // Cancelled before its region has said anything, so nothing comes of it.
    let order = Order::AddPeer { to_store: from_store };
    assert!(ask(&mut cluster, order).is_ok());
    assert_eq!(cluster.driver.ask(PdRequest::CancelOperator { region_id }), Ok(PdReply::Done));
    let again = cluster.driver.ask(PdRequest::CancelOperator { region_id });
    assert!(matches!(again, Err(PdError::InvalidRequest { .. })), "{again:?}");
    // A fourth comes, and one of the four goes.
    assert!(ask(&mut cluster, order).is_ok());
    run_until(&mut cluster, 10, "four", |cluster| members(cluster).peers.len() == 4);
    run_until(&mut cluster, 10, "three", |cluster| cluster.is_replicated(3));
    expect_quiet(&mut cluster);
}

/// A store is drained while regions split and messages are lost; when it holds nothing its id ends, for good. Draining is
/// refused where too few stores would be left, and may be called off.
#[test]
fn a_store_drains_and_ends_and_what_would_leave_too_few_is_refused() {
    for seed in 0..2 {
        let mut cluster = Cluster::new(config(), seed);
        for _ in 0..3 {
            cluster.join();
        }
        cluster.split_to(20);
        run_until(&mut cluster, 120, "balanced", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
        let stores: Vec<StoreId> = cluster.stores.keys().copied().collect();
        let (leaves, other) = (stores[0], stores[1]);
        let set = |cluster: &mut Cluster, store_id, mode| {
            cluster.driver.ask(PdRequest::SetStoreMode { store_id, mode })
        };
        cluster.loss = 10;
        assert_eq!(set(&mut cluster, leaves, StoreMode::Draining), Ok(PdReply::Done));
        let refused = set(&mut cluster, other, StoreMode::Draining);
        let Err(PdError::InvalidRequest { message }) = refused else { panic!("{refused:?}") };
        assert!(message.contains("2 other stores") && message.contains("3 are needed"), "{message}");
        cluster.run(MINUTE / 2);
        cluster.ask_split();
        // The placement driver is restarted meanwhile, and remembers.
        cluster.driver.crash(0);
        cluster.forget_requests();
        cluster.driver.start(0);
        run_until(&mut cluster, 120, "drained", |cluster| {
            cluster.driver.pd(0).stores_ever()[&leaves].is_retired
        });
        assert_eq!(cluster.counts()[&leaves].0, 0, "seed {seed}");
        assert!(cluster.is_replicated(3), "seed {seed}");
        cluster.loss = 0;
        cluster.stop(leaves);
        let Ok(PdReply::Stores(listed)) = cluster.driver.ask(PdRequest::GetStores) else { panic!() };
        assert!(listed.iter().all(|store| store.info.id != leaves), "{listed:?}");
        let back = cluster.driver.ask(PdRequest::PutStore {
            store: StoreInfo { id: leaves, address: "elsewhere".to_owned(), ..StoreInfo::default() },
        });
        assert!(matches!(back, Err(PdError::StoreRejected { .. })), "{back:?}");
        assert!(set(&mut cluster, leaves, StoreMode::Serving).is_err());
        // Leaderships alone; and back.
        assert_eq!(set(&mut cluster, other, StoreMode::LeadingNone), Ok(PdReply::Done));
        run_until(&mut cluster, 10, "rid of leaders", |cluster| cluster.counts()[&other].1 == 0);
        assert!(cluster.counts()[&other].0 > 10, "its copies stay");
        assert_eq!(set(&mut cluster, other, StoreMode::Serving), Ok(PdReply::Done));
        run_until(&mut cluster, 10, "leading again", |cluster| cluster.counts()[&other].1 > 0);
    }
}

/// Stores stop and start, regions split, messages are lost and the placement driver crashes; the model checks every
/// instruction. When the storm is over, everything comes to rest.
fn storm(seed: u64) {
    let mut cluster = Cluster::new(config(), seed);
    let mut dice = SplitMix::new(seed).fork("storm");
    for _ in 0..5 {
        cluster.join();
    }
    cluster.split_to(20);
    cluster.loss = 10;
    run_until(&mut cluster, 120, "replicated", |cluster| cluster.is_replicated(3));
    let mut stopped: Option<StoreId> = None;
    for _ in 0..240 {
        match dice.below(12) {
            0 if stopped.is_none() => {
                let index = dice.below(cluster.stores.len() as u64) as usize;
                let id = *cluster.stores.keys().nth(index).unwrap();
                cluster.stop(id);
                stopped = Some(id);
            }
            1 => {
                if let Some(id) = stopped.take() {
                    cluster.restart(id);
                }
            }
            2 | 3 if cluster.regions.len() < 60 => cluster.ask_split(),
            4 => {
                cluster.driver.crash(0);
                cluster.forget_requests();
                cluster.run(dice.duration(Duration::from_secs(1), MINUTE));
                cluster.driver.start(0);
            }
            5 => cluster.driver.write_delay = 1 + dice.below(3),
            _ => {}
        }
        cluster.run(dice.duration(Duration::from_secs(1), MINUTE * 2));
    }
    cluster.loss = 0;
    cluster.driver.write_delay = 1;
    if let Some(id) = stopped.take() {
        cluster.restart(id);
    }
    run_until(&mut cluster, 240, "at rest", |cluster| cluster.is_replicated(3) && is_balanced(cluster));
    expect_quiet(&mut cluster);
}

#[test]
fn storms_of_stops_splits_losses_and_crashes_end_in_a_cluster_at_rest() {
    for seed in 0..4 {
        storm(seed);
    }
}
