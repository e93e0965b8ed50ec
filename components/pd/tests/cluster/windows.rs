//! Ids and timestamps over crashes and clocks that run wild.

use crate::driver::Driver;
use env::Dice as _;
use pd::Config;
use std::time::Duration;
use types::Timestamp;
use wire::pd::{PdReply, PdRequest, PdResponse};

/// What was handed out so far, by order of the answers.
#[derive(Default)]
struct Seen {
    timestamp: Timestamp,
    id_end: u64,
    timestamps: u64,
    ids: u64,
}

impl Seen {
    fn take(&mut self, request: &PdRequest, response: &PdResponse) {
        match (request, response) {
            (PdRequest::GetTimestamps { count }, PdResponse::Ok(PdReply::Timestamp(last))) => {
                let first = last.0 - u64::from(*count) + 1;
                assert!(first > self.timestamp.0, "{first} after {:?}", self.timestamp);
                assert_eq!(Timestamp(first).physical_ms(), last.physical_ms(), "one answer, one millisecond");
                self.timestamp = *last;
                self.timestamps += 1;
            }
            (PdRequest::AllocateIds { count }, PdResponse::Ok(PdReply::Ids { first })) => {
                assert!(*first >= self.id_end && *first > 0, "id {first} was handed out before");
                self.id_end = first + u64::from(*count);
                self.ids += 1;
            }
            (_, PdResponse::Err(_)) => {}
            (request, response) => panic!("{request:?} was answered with {response:?}"),
        }
    }
}

fn storm(seed: u64) -> (u64, u64) {
    let config = Config { id_window: 50, log_entries_max: 16, ..Config::default() };
    let mut driver = Driver::new(config, 1, seed);
    let mut seen = Seen::default();
    let mut asked: Vec<(u64, PdRequest)> = Vec::new();
    for _ in 0..3000 {
        driver.write_delay = 1 + driver.dice.below(6);
        match driver.dice.below(40) {
            0 => {
                driver.crash(0);
                asked.clear();
                driver.start(0);
            }
            1 => driver.wall_ms = driver.wall_ms.saturating_sub(driver.dice.below(100_000)),
            2 => driver.wall_ms += driver.dice.below(20_000),
            3..=20 => {
                let count = 1 + driver.dice.below(60_000) as u32;
                let request = PdRequest::GetTimestamps { count };
                asked.push((driver.send(0, request.clone()), request));
            }
            21..=30 => {
                let request = PdRequest::AllocateIds { count: 1 + driver.dice.below(120) as u32 };
                asked.push((driver.send(0, request.clone()), request));
            }
            _ => {
                let time = driver.dice.duration(Duration::ZERO, Duration::from_millis(400));
                driver.pass(time);
            }
        }
        driver.turn(0);
        asked.retain(|(token, request)| match driver.answer(*token) {
            Some(response) => {
                seen.take(request, &response);
                false
            }
            None => true,
        });
    }
    (seen.timestamps, seen.ids)
}

#[test]
fn no_crash_and_no_clock_repeats_an_id_or_a_timestamp() {
    let (mut timestamps, mut ids) = (0, 0);
    for seed in 0..30 {
        let (more_timestamps, more_ids) = storm(seed);
        timestamps += more_timestamps;
        ids += more_ids;
    }
    assert!(
        timestamps > 10_000 && ids > 5_000,
        "{timestamps} and {ids} answers are too few to mean anything"
    );
}

#[test]
fn one_window_serves_many_requests_and_one_turn_more_than_its_window() {
    let mut driver = Driver::new(Config::default(), 1, 1);
    driver.run(Duration::from_secs(1), Duration::from_millis(10));
    let before = driver.pd(0).status().applied;
    for _ in 0..1000 {
        driver.ask(PdRequest::GetTimestamps { count: 100 }).unwrap();
        driver.ask(PdRequest::AllocateIds { count: 1 }).unwrap();
    }
    let entries = driver.pd(0).status().applied.distance_from(before);
    assert!(entries <= 2, "{entries} commands for two thousand requests");
    // Every millisecond of a window can be used up; then requests wait for the next one, and are answered in order.
    let tokens: Vec<u64> =
        (0..40_000).map(|_| driver.send(0, PdRequest::GetTimestamps { count: 1 << 16 })).collect();
    driver.turn(0);
    let mut last = Timestamp::default();
    for token in tokens {
        let mut answer = driver.answer(token);
        while answer.is_none() {
            driver.pass(Duration::from_millis(1));
            answer = driver.answer(token);
        }
        let Some(PdResponse::Ok(PdReply::Timestamp(timestamp))) = answer else { panic!("{answer:?}") };
        assert!(timestamp > last);
        last = timestamp;
    }
}

#[test]
fn a_request_for_too_many_or_for_none_is_refused() {
    let mut driver = Driver::new(Config::default(), 1, 1);
    for count in [0, (1 << 16) + 1, u32::MAX] {
        for request in [PdRequest::GetTimestamps { count }, PdRequest::AllocateIds { count }] {
            let error = driver.ask(request).unwrap_err();
            assert!(matches!(error, wire::pd::PdError::InvalidRequest { .. }), "{error:?}");
        }
    }
}

#[test]
fn requests_beyond_the_limit_are_refused_as_busy() {
    let config = Config { pending_requests_max: 3, id_window: 1, ..Config::default() };
    let mut driver = Driver::new(config, 1, 1);
    driver.ask(PdRequest::GetCluster).unwrap();
    driver.write_delay = 1_000_000;
    let tokens: Vec<u64> = (0..5).map(|_| driver.send(0, PdRequest::AllocateIds { count: 1000 })).collect();
    driver.turn(0);
    let answers: Vec<_> = tokens.iter().map(|token| driver.answer(*token)).collect();
    assert!(answers[..3].iter().all(Option::is_none));
    assert!(
        answers[3..]
            .iter()
            .all(|answer| matches!(answer, Some(PdResponse::Err(wire::pd::PdError::ServerIsBusy { .. })))),
        "{answers:?}"
    );
}
