//! Three members: one leads, time goes on over its loss, and those left behind catch up by snapshot.

use crate::driver::Driver;
use env::points::arm;
use env::{Dice as _, SplitMix};
use pd::Config;
use std::time::Duration;
use types::{PeerId, Timestamp};
use wire::pd::{PdError, PdReply, PdRequest, PdResponse};

const STEP: Duration = Duration::from_millis(20);

/// A timestamp from whichever member answers first; each is asked in turn, so a leader that does not know of its
/// successor is asked too.
fn timestamp(driver: &mut Driver) -> Option<Timestamp> {
    let tokens: Vec<u64> =
        (0..3).map(|index| driver.send(index, PdRequest::GetTimestamps { count: 1 })).collect();
    for _ in 0..50 {
        for token in &tokens {
            if let Some(PdResponse::Ok(PdReply::Timestamp(timestamp))) = driver.answer(*token) {
                return Some(timestamp);
            }
        }
        driver.pass(STEP);
    }
    None
}

#[test]
fn time_never_runs_back_over_changes_of_leader() {
    let mut answered = 0;
    for seed in 0..10 {
        let mut driver = Driver::new(Config { log_entries_max: 8, ..Config::default() }, 3, seed);
        driver.loss = 50;
        driver.write_delay = 2;
        let mut last = Timestamp::default();
        for _ in 0..150 {
            let victim = driver.dice.below(3) as usize;
            match driver.dice.below(20) {
                0 if driver.is_running(victim) => driver.crash(victim),
                1 | 2 if !driver.is_running(victim) => driver.start(victim),
                3 => driver.isolated = vec![PeerId(victim as u64 + 1)],
                4 | 5 => driver.isolated.clear(),
                6 => {
                    if let Some(leader) = driver.serving() {
                        driver.isolated = vec![PeerId(leader as u64 + 1)];
                    }
                }
                7 => driver.wall_ms -= driver.dice.below(10_000),
                8 => {
                    driver.ask_if_served(PdRequest::AllocateIds { count: 5000 });
                }
                _ => {}
            }
            if let Some(timestamp) = timestamp(&mut driver) {
                assert!(timestamp > last, "seed {seed}: {timestamp:?} after {last:?}");
                last = timestamp;
                answered += 1;
            }
        }
    }
    assert!(answered > 500, "{answered} timestamps are too few to mean anything");
}

#[test]
fn a_follower_names_the_leader_and_a_newcomer_to_the_log_gets_a_snapshot() {
    let mut driver = Driver::new(Config { log_entries_max: 8, id_window: 1, ..Config::default() }, 3, 3);
    driver.run(Duration::from_secs(5), STEP);
    let leader = driver.serving().expect("three members elect one");
    let follower = (leader + 1) % 3;
    let token = driver.send(follower, PdRequest::GetStores);
    driver.turn(follower);
    assert_eq!(
        driver.answer(token),
        Some(PdResponse::Err(PdError::NotLeader { leader: Some(format!("pd-{}:2379", leader + 1)) }))
    );
    driver.crash(follower);
    for _ in 0..40 {
        driver.ask(PdRequest::AllocateIds { count: 1 }).unwrap();
    }
    driver.start(follower);
    driver.run(Duration::from_secs(5), STEP);
    let (ahead, behind) = (driver.pd(leader).status(), driver.pd(follower).status());
    assert_eq!(behind.cluster_id, ahead.cluster_id);
    assert!(behind.applied + 2 >= ahead.applied, "{} of {}", behind.applied, ahead.applied);
}

#[test]
fn a_leader_that_is_cut_off_stops_answering_before_its_successor_begins() {
    let mut driver = Driver::new(Config::default(), 3, 9);
    driver.run(Duration::from_secs(5), STEP);
    let old = driver.serving().expect("three members elect one");
    driver.isolated = vec![PeerId(old as u64 + 1)];
    let mut last_of_old = None;
    let mut first_of_new = None;
    for _ in 0..400 {
        driver.pass(Duration::from_millis(10));
        let token = driver.send(old, PdRequest::GetTimestamps { count: 1 });
        driver.turn(old);
        if let Some(PdResponse::Ok(_)) = driver.answer(token) {
            last_of_old = Some(driver.now);
        }
        if first_of_new.is_none() && driver.serving().is_some() {
            first_of_new = Some(driver.now);
        }
    }
    let (last_of_old, first_of_new) =
        (last_of_old.expect("it had a lease"), first_of_new.expect("another leads"));
    assert!(last_of_old < first_of_new, "{last_of_old:?} and {first_of_new:?}");
}

#[test]
fn nobody_is_served_by_a_group_that_has_no_name_yet() {
    // The command that gives the cluster its id was refused for a moment, the first window of timestamps behind it was
    // not: stores that asked then were told the cluster zero, kept that, and were refused ever after.
    let mut refused = 0;
    for seed in 0..20 {
        let armed = arm(&["raft.refuse_proposal"], &SplitMix::new(seed));
        let mut driver = Driver::new(Config::default(), 1, seed);
        for _ in 0..200 {
            driver.pass(STEP);
            let status = driver.pd(0).status();
            assert!(!status.is_serving || !status.cluster_id.is_zero(), "seed {seed}: {status:?}");
        }
        assert!(driver.serving().is_some(), "seed {seed}: it is offered again");
        refused += armed.take_fired().len();
    }
    assert!(refused > 0);
}
