//! `flotilla-sim bench`: how fast seeds run, with every checker on.
//!
//! A seed is a minute of a cluster of five stores, more than twenty regions and some two thousand operations; the medians
//! that were achieved are printed, so that nobody need believe it. What counts is the time that the processor spent, so
//! that others who use the machine do not change the result.

use clap::Args;
use sim::{Report, RunOptions, run};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many are run.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Where the results are appended, in `sim.jsonl`.
    #[arg(long, value_name = "DIRECTORY", default_value = "bench-results")]
    results: PathBuf,
}

/// How long this thread has run on a processor; time on the wall where the system does not tell.
pub(crate) fn spent(began: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

pub(crate) fn bench(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (spent_before, mut reports) = (spent(began), Vec::new());
    for seed in arguments.from..arguments.from + arguments.seeds {
        let before = spent(began);
        match run(seed, &RunOptions::large()) {
            Ok(report) => {
                let took = spent(began).saturating_sub(before);
                let Report { events, history, simulated, depths, .. } = report.clone();
                let operations = history.len();
                println!(
                    "seed {seed}: {operations} operations on {} regions, {events} events in {simulated}; {:.2} s",
                    depths.regions,
                    took.as_secs_f64()
                );
                reports.push(report);
            }
            Err(failure) => {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    let seconds = spent(began).saturating_sub(spent_before).as_secs_f64();
    let count = |count: fn(&Report) -> f64| reports.iter().map(count).sum::<f64>();
    let median = |size: fn(&Report) -> f64| {
        let mut sizes: Vec<f64> = reports.iter().map(size).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.get(sizes.len() / 2).copied().unwrap_or_default()
    };
    let simulated = |report: &Report| report.simulated.0 as f64 / 1e9;
    let rows = [
        ("seeds_per_minute_per_core", reports.len() as f64 * 60.0 / seconds, "seeds/min"),
        ("events_per_second", count(|report| report.events as f64) / seconds, "events/s"),
        ("simulated_seconds_per_second", count(simulated) / seconds, "s/s"),
        ("median_stores", median(|report| f64::from(report.stores)), "stores"),
        ("median_regions", median(|report| report.depths.regions as f64), "regions"),
        ("median_operations", median(|report| report.history.len() as f64), "operations"),
        ("median_simulated_seconds", median(simulated), "s"),
    ];
    for (row, value, unit) in rows {
        println!("{row:<30} {value:>12.1} {unit}");
    }
    match append(arguments, &rows) {
        Ok(path) => println!("appended to {}", path.display()),
        Err(error) => {
            eprintln!("{}: {error}", arguments.results.display());
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn append(arguments: &Arguments, rows: &[(&str, f64, &str)]) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(&arguments.results)?;
    let path = arguments.results.join("sim.jsonl");
    let mut file = std::fs::File::options().create(true).append(true).open(&path)?;
    for (row, value, unit) in rows {
        let seeds = arguments.seeds;
        writeln!(file, r#"{{"row":"{row}","value":{value:.1},"unit":"{unit}","seeds":{seeds}}}"#)?;
    }
    Ok(path)
}
