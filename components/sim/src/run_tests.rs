//! The simulator on the reference system: whole it passes, and each planted flaw is found.

use super::*;

const SEEDS: u64 = 60;
/// Enough for every flaw; the rarest needs a power loss between a read and the sync that it should have waited for.
const FLAW_SEEDS: u64 = 600;

fn options(flaw: Option<Flaw>) -> RunOptions {
    RunOptions { system: System::Reference(flaw), safety: Duration::from_secs(10), ..RunOptions::default() }
}

#[test]
fn the_reference_passes() {
    let mut done = 0;
    for seed in 0..SEEDS {
        match run(seed, &options(None)) {
            Ok(report) => done += report.tally.done,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(done > 100 * SEEDS, "a run in which little happens proves little: {done}");
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..5 {
        let report = run(seed, &options(None)).unwrap();
        assert_eq!(run(seed, &options(None)).unwrap(), report);
        // To look does not change what is seen.
        let looked = RunOptions { trace: TraceMode::Tail(10), ..options(None) };
        assert_eq!(run(seed, &looked).unwrap(), report);
    }
}

/// Few enough for every `make test`; `make soak` runs more.
const CLUSTER_SEEDS: u64 = 6;

fn cluster(bug: Option<SeededBug>) -> RunOptions {
    RunOptions { system: System::Cluster(bug), ..RunOptions::default() }
}

#[test]
fn a_cluster_under_faults_stays_linearizable_and_comes_back() {
    // Stores, placement driver and clients of the product, with crashes, partitions, lost messages and slow disks.
    let mut slept = 0;
    for seed in 0..CLUSTER_SEEDS {
        match run(seed, &cluster(None)) {
            Ok(report) => slept += report.depths.told.sleeps,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(slept > 0, "no region ever slept");
}

#[test]
fn stores_that_answer_before_their_log_is_durable_are_found() {
    let found = (0..60).find_map(|seed| run(seed, &cluster(Some(SeededBug::StoreReleasesEarly))).err());
    assert!(found.is_some(), "60 seeds did not notice it");
}

#[test]
fn each_planted_flaw_is_found() {
    for flaw in Flaw::ALL {
        let found = (0..FLAW_SEEDS).find_map(|seed| run(seed, &options(Some(flaw))).err());
        match found {
            Some(failure) => {
                // Of swaps that are torn, counters may tell first.
                let is_counted =
                    matches!(&failure.fail, Fail::Invariant(broken) if broken.invariant == "counters");
                let is_explained = matches!(failure.fail, Fail::NotLinearizable(_)) || is_counted;
                assert!(is_explained, "{flaw:?}: {failure}");
            }
            None => panic!("{flaw:?} went unnoticed in {FLAW_SEEDS} seeds"),
        }
    }
}

#[test]
fn a_system_that_does_not_come_back_is_found() {
    // The liveness phase ends before a single round trip.
    let options = RunOptions { liveness: Duration::ZERO, ..options(None) };
    let found = (0..SEEDS).find_map(|seed| run(seed, &options).err());
    assert!(matches!(found.expect("no time at all").fail, Fail::NotLive { .. }));
}
