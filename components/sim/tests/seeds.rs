//! Fixed seeds of the whole product, at every change: many short ones, some long ones, and some twice.

use sim::{POINTS, Report, RunOptions, run};
use std::collections::BTreeSet;

/// Runs seeds until one fails.
fn all_pass(seeds: std::ops::Range<u64>, options: &RunOptions) -> Vec<Report> {
    let result = |seed| run(seed, options).unwrap_or_else(|failure| panic!("{failure}"));
    seeds.map(result).collect()
}

#[test]
fn short_seeds_pass() {
    all_pass(0..75, &RunOptions::short());
}

#[test]
fn more_short_seeds_pass() {
    all_pass(75..150, &RunOptions::short());
}

#[test]
fn long_seeds_pass() {
    let reports = all_pass(0..40, &RunOptions::default());
    let done: u64 = reports.iter().map(|report| report.tally.done).sum();
    assert!(done > 4_000, "runs in which little happens prove little: {done} operations");
    // Some points need a coincidence, or transactions: these runs have most, a few more have the others.
    let fired = |reports: &[Report]| {
        let points = reports.iter().flat_map(|report| &report.points);
        points.filter(|(_, count)| **count > 0).map(|(name, _)| *name).collect::<BTreeSet<_>>()
    };
    let mut met = fired(&reports);
    let mut more = 40..200;
    while met.len() < POINTS.len()
        && let Some(seed) = more.next()
    {
        let options = RunOptions { transactions: true, ..RunOptions::default() };
        met.extend(fired(&all_pass(seed..seed + 1, &options)));
    }
    let silent: Vec<_> = POINTS.iter().filter(|point| !met.contains(point.name)).collect();
    assert!(silent.is_empty(), "never fired: {silent:?}");
}

#[test]
fn a_seed_is_a_run() {
    for options in [RunOptions::short(), RunOptions::default()] {
        assert_eq!(all_pass(200..205, &options), all_pass(200..205, &options));
    }
}
