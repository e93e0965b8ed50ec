//! Runs seeds in the simulator.
//!
//! `flotilla-sim run --seed N` replays one, bit for bit; `flotilla-sim soak` tries new ones. A seed that fails ends the
//! program with the status 1, after its plan, what was wrong and the command that replays it.
#![expect(
    clippy::disallowed_methods,
    reason = "a soak lasts for real minutes, and begins at a seed of its own"
)]

use clap::{Args, Parser, Subcommand, ValueEnum};
use sim::check::write_history;
use sim::nodes::SeededBug;
use sim::reference::Flaw;
use sim::{Fail, Failure, Report, RunOptions, System, TraceMode, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Flotilla's simulator: whole clusters in one thread, on virtual time, from one seed.
#[derive(Parser)]
#[command(name = "flotilla-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed twice and compare.
    Run(RunArguments),
    /// Run new seeds until the time is over or one fails.
    Soak(SoakArguments),
}

#[derive(Args)]
struct RunArguments {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Print only lines that hold this text.
    #[arg(long, value_name = "TEXT", requires = "trace")]
    filter: Option<String>,
    /// Leave out these faults of the plan, by number.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    without: Vec<usize>,
    /// Leave out all faults that the failure does not need, one after another, and print those that remain.
    #[arg(long, conflicts_with = "trace")]
    shrink: bool,
    /// Write what clients did to this file.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct SoakArguments {
    /// For how long.
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// The first seed; without it, one that depends on the time.
    #[arg(long, value_name = "SEED")]
    from: Option<u64>,
    /// Stop after so many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// Go on after a failure, and count.
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Clone)]
struct Common {
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = SystemName::Cluster)]
    system: SystemName,
    /// How long faults may begin, in simulated seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum SystemName {
    /// Stores, placement driver and clients.
    Cluster,
    /// One store without peers, to try the simulator itself.
    Reference,
    /// The same with a planted bug: it answers before it is durable.
    AnswerBeforeSync,
    /// A cluster with a planted bug: its stores' logs do not wait for their syncs.
    StoreReleasesEarly,
    /// A cluster with a planted bug: its stores read the clock before they take up requests.
    ClockBeforeDrain,
}

impl SystemName {
    const fn system(self) -> System {
        match self {
            Self::Cluster => System::Cluster(None),
            Self::StoreReleasesEarly => System::Cluster(Some(SeededBug::StoreReleasesEarly)),
            Self::ClockBeforeDrain => System::Cluster(Some(SeededBug::ClockBeforeDrain)),
            Self::Reference => System::Reference(None),
            Self::AnswerBeforeSync => System::Reference(Some(Flaw::AnswerBeforeSync)),
        }
    }

    fn text(self) -> String {
        self.to_possible_value().expect("no name is hidden").get_name().to_owned()
    }
}

impl Common {
    fn options(&self) -> RunOptions {
        RunOptions {
            system: self.system.system(),
            safety: Duration::from_secs(self.seconds),
            ..RunOptions::default()
        }
    }

    fn replay(&self, seed: u64) -> String {
        format!("flotilla-sim run --seed {seed} --system {} --seconds {}", self.system.text(), self.seconds)
    }
}

/// Lines of the trace that are shown with a failure.
const TAIL: usize = 200;

fn main() -> ExitCode {
    // A panic inside of a run is a result of the run, told with its seed; its place is worth a line.
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    match Cli::parse().command {
        Command::Run(arguments) => run_one(&arguments),
        Command::Soak(arguments) => soak(&arguments),
    }
}

fn run_one(arguments: &RunArguments) -> ExitCode {
    let trace = if arguments.trace { TraceMode::Print } else { TraceMode::Tail(TAIL) };
    let options = RunOptions {
        trace,
        filter: arguments.filter.clone(),
        without_faults: arguments.without.clone(),
        ..arguments.common.options()
    };
    let first = run(arguments.seed, &options);
    let history = match &first {
        Ok(_) => None,
        Err(failure) => Some(&failure.history),
    };
    if let (Some(path), Some(history)) = (&arguments.history, history)
        && let Err(error) = std::fs::write(path, write_history(history))
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::from(2);
    }
    match first {
        Err(failure) => {
            print_failure(&failure, &arguments.common);
            if arguments.shrink {
                shrink(&failure, &options);
            }
            ExitCode::FAILURE
        }
        Ok(report) => {
            println!("{report}");
            let quiet = RunOptions { trace: TraceMode::Off, filter: None, ..options };
            let again = run(arguments.seed, &quiet);
            if again.as_ref().is_ok_and(|again| *again == report) {
                ExitCode::SUCCESS
            } else {
                let again =
                    again.map_or_else(|failure| failure.fail.to_string(), |report| report.to_string());
                println!("the same seed ran otherwise the second time: {again}");
                ExitCode::FAILURE
            }
        }
    }
}

fn print_failure(failure: &Failure, common: &Common) {
    println!("{failure}");
    println!("to replay: {}", common.replay(failure.seed));
}

/// True if both went wrong in the same way.
fn is_alike(a: &Fail, b: &Fail) -> bool {
    match (a, b) {
        (Fail::Invariant(a), Fail::Invariant(b)) => a.invariant == b.invariant,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// Leaves out faults in halves, quarters and so on, as long as it still fails alike.
fn shrink(failure: &Failure, options: &RunOptions) {
    let mut left_out = options.without_faults.clone();
    // The plan holds what was not left out; numbers count all.
    let total = failure.plan.faults.len() + left_out.len();
    let mut kept: Vec<usize> = (0..total).filter(|number| !left_out.contains(number)).collect();
    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let mut start = 0;
        while start < kept.len() {
            let end = (start + size).min(kept.len());
            let mut without = left_out.clone();
            without.extend_from_slice(&kept[start..end]);
            let candidate =
                RunOptions { without_faults: without.clone(), trace: TraceMode::Off, ..options.clone() };
            let fails =
                run(failure.seed, &candidate).is_err_and(|again| is_alike(&again.fail, &failure.fail));
            if fails {
                left_out = without;
                kept.drain(start..end);
            } else {
                start = end;
            }
        }
        if size == 1 {
            break;
        }
        size = size.div_ceil(2);
    }
    left_out.sort_unstable();
    let numbers: Vec<String> = left_out.iter().map(ToString::to_string).collect();
    println!("it still fails with the faults {kept:?} alone: --without {}", numbers.join(","));
}

fn soak(arguments: &SoakArguments) -> ExitCode {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = arguments.from.unwrap_or(since_epoch.as_secs());
    let deadline = Instant::now() + Duration::from_secs(arguments.minutes * 60);
    let options = arguments.common.options();
    let (mut events, mut done, mut seeds, mut failures) = (0, 0, 0_u64, Vec::new());
    let mut seed = first;
    while Instant::now() < deadline && arguments.seeds.is_none_or(|most| seeds < most) {
        match run(seed, &options) {
            Ok(Report { events: more, tally, .. }) => {
                events += more;
                done += tally.done;
            }
            Err(failure) if arguments.keep_going => {
                let text = failure.fail.to_string();
                println!("seed {seed}: {}", text.lines().next().unwrap_or_default());
                failures.push(seed);
            }
            Err(_) => {
                // Once more, for the end of its trace.
                let traced = RunOptions { trace: TraceMode::Tail(TAIL), ..options };
                match run(seed, &traced) {
                    Err(failure) => print_failure(&failure, &arguments.common),
                    Ok(_) => {
                        println!("seed {seed} failed once and not again: {}", arguments.common.replay(seed))
                    }
                }
                return ExitCode::FAILURE;
            }
        }
        seeds += 1;
        seed = seed.wrapping_add(1);
    }
    println!(
        "{seeds} seeds from {first}: {events} events, {done} operations done, {} failures",
        failures.len()
    );
    for seed in &failures {
        println!("to replay: {}", arguments.common.replay(*seed));
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
