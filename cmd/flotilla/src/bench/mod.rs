//! `flotilla bench`: what the cluster does per second, and what that costs.

mod distribution;
mod hands;
mod history;
mod load;
mod pacer;
mod regions;
mod round;
mod rows;
mod suite;
mod system;
mod tails;
mod txn;
mod workload;

use crate::connect::{Remote, Within};
use crate::outcome::{Outcome, Usage};
use crate::settings::Setting;
use anyhow::Context as _;
use clap::{ArgGroup, Args};
use history::History;
use load::{Load, Numbers};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use suite::{Plan, Suite};
use workload::Workload;

/// Measures a cluster: one workload on the cluster that is there, or a suite on one of its own.
///
/// Clients ask again as soon as they have their answer, or, with --rate, when a schedule says so. They share connections, as the tasks of a program would.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true))]
pub(crate) struct Bench {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    within: Within,
    /// Run this suite on a cluster of three stores, started and removed for it.
    #[arg(long, group = "what")]
    suite: Option<Suite>,
    /// Where a suite appends its results.
    #[arg(long, value_name = "DIRECTORY", default_value = "bench-results")]
    results: PathBuf,
    /// How often each row of a suite is measured, instead of what the suite says.
    #[arg(long, requires = "suite", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// How many regions the suite `regions` cuts the data into, one after the other; each number larger than the one before.
    #[arg(long, requires = "suite", value_delimiter = ',', default_value = "1,100,1000,10000", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    regions: Vec<u64>,
    /// A setting of the suite's stores, as `raft.heartbeat_ticks=1`; may be given many times.
    #[arg(long, requires = "suite", value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// Run this on the cluster at --pd; its keys begin with `bench/` and stay.
    #[arg(long, group = "what")]
    workload: Option<Workload>,
    /// How many clients ask at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    clients: u32,
    /// Begin so many operations each second, evenly, whether or not earlier ones have ended: --clients bounds how many are under way.
    /// Latencies then count from when an operation was to begin. Without it, a client asks again as soon as it has its answer.
    #[arg(long, value_name = "PER SECOND", conflicts_with = "suite", value_parser = parse_rate)]
    rate: Option<NonZeroU32>,
    /// How many connections to each store they share.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Bytes of each value.
    #[arg(long, default_value_t = 128, value_parser = parse_value_size)]
    value_size: usize,
    /// How many keys they draw from.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// How many pairs each scan reads; with YCSB E the most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    scan_pairs: u64,
    /// How long it is measured.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// How long it runs before that.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Transactions reserve what they read to write it, instead of finding out when they commit.
    #[arg(long, conflicts_with = "suite")]
    pessimistic: bool,
    /// How transactions commit where they can; without it, as early as possible.
    #[arg(long, value_enum, conflicts_with = "suite")]
    commit: Option<Commit>,
    /// Transactions are serializable; of `list-append`, write skew is a violation then.
    #[arg(long, conflicts_with = "suite")]
    serializable: bool,
    /// Split regions and move leaders meanwhile. Of workloads in transactions.
    #[arg(long, conflicts_with = "suite")]
    shuffle: bool,
    /// Write down what every client asked for and saw, as JSON lines, so that it can be judged whether the cluster kept its promises.
    /// Values are then different from each other, and keys are used that held nothing before.
    #[arg(long, value_name = "FILE", conflicts_with = "suite")]
    history: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How transactions commit.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Commit {
    /// Keys are locked, and then the primary is committed.
    TwoPhase,
    /// Once all keys are locked.
    Async,
    /// The same, and without locks where all keys lie in one region.
    OnePhase,
}

impl From<Commit> for client::CommitProtocol {
    fn from(commit: Commit) -> Self {
        match commit {
            Commit::TwoPhase => Self::TwoPhase,
            Commit::Async => Self::AsyncCommit,
            Commit::OnePhase => Self::OnePhase,
        }
    }
}

fn parse_rate(text: &str) -> Result<NonZeroU32, String> {
    let advice =
        "give a whole number of operations a second from 1 on, or leave --rate out for a closed loop";
    text.parse().map_err(|_| advice.to_owned())
}

fn parse_value_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size <= types::VALUE_SIZE_MAX => Ok(size),
        _ => Err(format!("give a whole number of bytes, at most {}", types::VALUE_SIZE_MAX)),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => {
            Err("nothing can be measured in no time: give at least 1s".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it as 10s or 2m")),
    }
}

/// Runs it.
pub(crate) async fn run(bench: Bench) -> anyhow::Result<Outcome> {
    if let Some(suite) = bench.suite {
        if bench.within.is_named() {
            let message = "a suite has a cluster of its own: --keyspace goes with --workload".to_owned();
            return Err(Usage(message).into());
        }
        let plan = Plan { rounds: bench.rounds, regions: bench.regions, settings: bench.set };
        suite::run(suite, &plan, &bench.results, bench.json).await?;
        return Ok(Outcome::Done);
    }
    let workload = bench.workload.expect("clap asks for one of the two");
    let mut clients = Vec::new();
    for _ in 0..bench.connections {
        clients.push(bench.remote.connect().await?);
    }
    let load = Load {
        workload,
        clients: bench.clients as usize,
        value_size: bench.value_size,
        keys: bench.keys,
        scan_pairs: bench.scan_pairs,
        rate: bench.rate,
    };
    if workload.is_transactional() {
        return transactions(&bench, &clients, &load).await;
    }
    if bench.pessimistic || bench.serializable || bench.shuffle || bench.commit.is_some() {
        let message = "--pessimistic, --serializable, --commit and --shuffle go with workloads in transactions, such as bank"
            .to_owned();
        return Err(Usage(message).into());
    }
    let mut connections = Vec::new();
    for client in &clients {
        connections.push(bench.within.raw(client).await?);
    }
    let history = match &bench.history {
        Some(path) => {
            let created = History::create(path);
            Some(Arc::new(created.with_context(|| format!("{} cannot be written", path.display()))?))
        }
        None => None,
    };
    let numbers = load::run(&connections, load, bench.warm_up, bench.duration, history.as_ref()).await?;
    if let Some(history) = &history {
        history.finish().context("the history is not complete: it cannot be judged")?;
    }
    if bench.json {
        println!("{}", as_json(&load, &numbers));
    } else {
        show(&load, &numbers);
    }
    Ok(Outcome::Done)
}

/// Runs a workload in transactions; the answer is no if something did not hold.
async fn transactions(bench: &Bench, clients: &[client::Client], load: &Load) -> anyhow::Result<Outcome> {
    let around = txn::Around {
        manner: txn::Manner {
            is_pessimistic: bench.pessimistic,
            protocol: bench.commit.map(Into::into).unwrap_or_default(),
            isolation: match bench.serializable {
                true => client::Isolation::Serializable,
                false => client::Isolation::Snapshot,
            },
        },
        warm_up: bench.warm_up,
        duration: bench.duration,
        shuffles: bench.shuffle,
        history: bench.history.as_deref(),
    };
    let mut txns = Vec::new();
    for client in clients {
        txns.push(bench.within.txn(client).await?);
    }
    let ran = txn::run(&clients[0], &txns, load, around).await?;
    let txn::Ran { numbers, violations, shuffled } = ran;
    if bench.json {
        let mut value = as_json(load, &numbers);
        value["pessimistic"] = json!(bench.pessimistic);
        value["serializable"] = json!(bench.serializable);
        value["violations"] = json!(violations.as_ref().map(|violations| violations.count));
        value["first_violation"] = json!(violations.as_ref().and_then(|violations| violations.first.clone()));
        value["splits"] = json!(shuffled.splits);
        value["leader_transfers"] = json!(shuffled.transfers);
        println!("{value}");
    } else {
        show(load, &numbers);
        if bench.shuffle {
            println!("meanwhile: {} splits, {} moves of leaders", shuffled.splits, shuffled.transfers);
        }
        if let Some(violations) = &violations {
            println!("looked at: {}", violations.looked);
            println!("violations: {}", violations.count);
            if let Some(first) = &violations.first {
                println!("the first: {first}");
            }
        }
    }
    let is_broken = violations.is_some_and(|violations| violations.count > 0);
    Ok(if is_broken { Outcome::No } else { Outcome::Done })
}

fn as_json(load: &Load, numbers: &Numbers) -> Value {
    let at = |quantile: f64| numbers.latency.value_at_quantile(quantile);
    json!({
        "workload": load.workload.name(),
        "clients": load.clients,
        "value_size": load.value_size,
        "keys": load.keys,
        "rate": load.rate,
        "seconds": numbers.seconds,
        "operations": numbers.operations,
        "never_begun": numbers.never_begun,
        "errors": numbers.errors,
        "undetermined": numbers.undetermined,
        "first_error": numbers.first_error.as_ref().map(ToString::to_string),
        "throughput": numbers.throughput(),
        "latency_us": {
            "mean": numbers.latency.mean(),
            "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "p999": at(0.999),
            "max": numbers.latency.max(),
        },
    })
}

fn show(load: &Load, numbers: &Numbers) {
    let at = |quantile: f64| numbers.latency.value_at_quantile(quantile);
    println!(
        "{}: {} operations in {:.1} s by {} clients: {:.0} per second",
        load.workload.name(),
        numbers.operations,
        numbers.seconds,
        load.clients,
        numbers.throughput()
    );
    println!("latency: p50 {} µs, p95 {} µs, p99 {} µs, p99.9 {} µs", at(0.5), at(0.95), at(0.99), at(0.999));
    // What came due in the last moment does not say that the rate is too high.
    if let Some(rate) = load.rate
        && numbers.never_begun * 100 > numbers.operations
    {
        println!(
            "{} operations were never begun: {rate} per second is more than {} clients get through (their latencies count as if \
             they had ended now)",
            numbers.never_begun, load.clients
        );
    }
    if let Some(error) = &numbers.first_error {
        println!(
            "failed: {}, of unknown outcome: {}; the first: {error}",
            numbers.errors, numbers.undetermined
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        bench: Bench,
    }

    fn refusal(words: &str) -> String {
        let words = std::iter::once("bench").chain(words.split_ascii_whitespace());
        Line::try_parse_from(words).expect_err("it must be refused").to_string()
    }

    /// Whoever types something wrong is told what would have been right.
    #[test]
    fn what_cannot_be_measured_is_refused_with_what_can() {
        for (words, said) in [
            ("", "--workload"),
            ("--workload ycsb-g", "ycsb-f"),
            ("--suite everything", "tails"),
            ("--workload put --rate 0", "leave --rate out"),
            ("--workload put --rate many", "leave --rate out"),
            ("--workload put --rate 0.5", "a whole number of operations a second"),
            ("--workload put --clients 0", "1..=65536"),
            ("--workload put --keys 0", "1.."),
            ("--workload ycsb-e --scan-pairs 0", "1.."),
            ("--workload put --value-size 1000000000", "at most"),
            ("--workload put --duration 0s", "at least 1s"),
            ("--workload put --duration soon", "write it as 10s"),
            ("--suite quick --rate 100", "cannot be used with"),
            ("--suite quick --workload put", "cannot be used with"),
        ] {
            let refused = refusal(words);
            assert!(refused.contains(said), "{words:?} is refused with {refused}");
        }
    }

    #[test]
    fn what_can_be_measured_is_taken() {
        for words in
            ["--suite ycsb", "--workload ycsb-f --rate 2000 --clients 512", "--workload scan --scan-pairs 5"]
        {
            let words = std::iter::once("bench").chain(words.split_ascii_whitespace());
            Line::try_parse_from(words).expect("it is taken");
        }
    }
}
