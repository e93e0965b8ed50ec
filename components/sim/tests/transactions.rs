//! Fixed seeds in which clients also keep a bank, in transactions, while everything goes wrong.

use sim::{Report, RunOptions, run};

fn all_pass(seeds: std::ops::Range<u64>, options: RunOptions) -> Vec<Report> {
    let options = RunOptions { transactions: true, ..options };
    let result = |seed| run(seed, &options).unwrap_or_else(|failure| panic!("{failure}"));
    seeds.map(result).collect()
}

/// How many transactions have committed, and how many were rolled back.
fn sum(reports: &[Report]) -> (u64, u64) {
    let depths = |of: fn(&Report) -> u64| reports.iter().map(of).sum();
    (depths(|report| report.depths.transactions), depths(|report| report.depths.rollbacks))
}

#[test]
fn short_seeds_with_transactions_pass() {
    let reports = all_pass(0..25, RunOptions::short());
    let (committed, rolled_back) = sum(&reports);
    assert!(
        committed > 200 && rolled_back > 50,
        "runs in which little happens prove little: {committed} committed, {rolled_back} rolled back"
    );
    let collected: u64 = reports.iter().map(|report| report.depths.collected).sum();
    assert!(collected > 500, "only {collected} old versions were removed");
}

#[test]
fn long_seeds_with_transactions_pass() {
    let reports = all_pass(0..15, RunOptions::default());
    let (committed, rolled_back) = sum(&reports);
    assert!(
        committed > 100 && rolled_back > 20,
        "runs in which little happens prove little: {committed} committed, {rolled_back} rolled back"
    );
}

#[test]
fn a_seed_with_transactions_is_a_run() {
    assert_eq!(all_pass(200..203, RunOptions::short()), all_pass(200..203, RunOptions::short()));
}
