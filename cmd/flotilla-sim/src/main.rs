//! Runs seeds in the simulator.
//!
//! `flotilla-sim run --seed N` replays one, bit for bit; `flotilla-sim soak` tries new ones. A seed that fails ends the
//! program with the status 1, after what was wrong and the command that replays it, and leaves its schedule in a file:
//! `flotilla-sim shrink FILE` makes that smaller, `flotilla-sim replay FILE` runs it.
#![expect(
    clippy::disallowed_methods,
    reason = "a soak lasts for real minutes on real threads, and begins at a seed of its own"
)]

mod bench;
mod scenario;
mod soak;
mod teeth;

use clap::{Args, Parser, Subcommand, ValueEnum};
use env::{Dice, SplitMix};
use sim::check::{
    DEFAULT_STEPS_MAX, Operation, Outcome, Verdict, linearizable, parse_history, write_history,
};
use sim::nodes::SeededBug;
use sim::reference::Flaw;
use sim::{
    Failure, Report, RunOptions, Scale, Schedule, Shrunk, System, Trace, TraceMode, run, run_schedule, shrink,
};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
    Soak(soak::Arguments),
    /// Run a schedule that an earlier failure has left.
    Replay(ReplayArguments),
    /// Say whether what clients did can be explained: each key is a register that begins empty.
    Check(CheckArguments),
    /// Make a schedule smaller that fails, as long as it fails alike.
    Shrink(ShrinkArguments),
    /// Play what a file says, and see what it says must be seen.
    Scenario(scenario::Arguments),
    /// Break the product's rules one by one, and see that each is found.
    Teeth(teeth::Arguments),
    /// Measure how many seeds of a large cluster run in a minute.
    Bench(bench::Arguments),
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
    /// Write what clients did to this file, as JSON lines; `flotilla-sim check FILE` judges it.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Write what transactions did to lists to this file, as JSON lines that checkers of lists take (`adya check`).
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct ReplayArguments {
    /// The schedule.
    file: PathBuf,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Print only lines that hold this text.
    #[arg(long, value_name = "TEXT", requires = "trace")]
    filter: Option<String>,
    /// Write what clients did to this file, as JSON lines; `flotilla-sim check FILE` judges it.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

#[derive(Args)]
struct CheckArguments {
    /// The history, as JSON lines: of a run here, or of `flotilla bench --history`.
    file: PathBuf,
    /// How many steps to spend on a key.
    #[arg(long, default_value_t = DEFAULT_STEPS_MAX)]
    steps_max: u64,
}

#[derive(Args)]
struct ShrinkArguments {
    /// The schedule.
    file: PathBuf,
    /// Where the smaller one goes; without it, into the same file.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// How many runs to try at most.
    #[arg(long, default_value_t = 3_000)]
    tries: u64,
}

#[derive(Args, Clone)]
struct Common {
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = SystemName::Cluster)]
    system: SystemName,
    /// How long faults may begin, in simulated seconds; without it, drawn for each seed, most half a minute and some
    /// minutes.
    #[arg(long)]
    seconds: Option<u64>,
    /// Small and busy clusters, in which rare states come often.
    #[arg(long)]
    short: bool,
    /// Clients also keep a bank, in transactions.
    #[arg(long)]
    transactions: bool,
    /// A rule of the product to break, by its name in the table of `teeth`.
    #[cfg(feature = "seeded_bugs")]
    #[arg(long, value_name = "NAME", conflicts_with = "system")]
    bug: Option<String>,
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
    fn seconds(&self, seed: u64) -> u64 {
        // Messages that are minutes old need a run that long.
        let drawn = SplitMix::new(seed).fork("seconds").below(16);
        self.seconds.unwrap_or(match drawn {
            0 => 240,
            1 => 90,
            2..8 => 15,
            _ => 30,
        })
    }

    /// Where nobody says what kind of seeds to run, each draws its own.
    fn varied(&self, seed: u64) -> Self {
        let is_open = self.system == SystemName::Cluster && !self.short && !self.transactions;
        if !is_open {
            return self.clone();
        }
        let mut kind = SplitMix::new(seed).fork("kind");
        Self { short: kind.chance(1, 2), transactions: kind.chance(1, 2), ..self.clone() }
    }

    fn options(&self, seed: u64) -> RunOptions {
        RunOptions {
            system: self.system(),
            safety: Duration::from_secs(self.seconds(seed)),
            scale: if self.short { Scale::Short } else { Scale::Usual },
            transactions: self.transactions,
            ..RunOptions::default()
        }
    }

    #[cfg(feature = "seeded_bugs")]
    fn system(&self) -> System {
        let Some(name) = &self.bug else { return self.system.system() };
        let named = SeededBug::all().into_iter().find(|bug| bug.name().ends_with(name.as_str()));
        System::Cluster(Some(named.unwrap_or_else(|| panic!("no rule is called {name}"))))
    }

    #[cfg(not(feature = "seeded_bugs"))]
    const fn system(&self) -> System {
        self.system.system()
    }

    fn replay(&self, seed: u64) -> String {
        let (system, seconds) = (self.system.text(), self.seconds(seed));
        let short = if self.short { " --short" } else { "" };
        let transactions = if self.transactions { " --transactions" } else { "" };
        format!("flotilla-sim run --seed {seed} --system {system} --seconds {seconds}{short}{transactions}")
    }
}

/// Lines of the trace that are shown with a failure.
const TAIL: usize = 200;

/// The commit that this was built from.
const COMMIT: &str = env!("FLOTILLA_COMMIT");

/// Where failures leave their schedules.
const SCHEDULES: &str = "target/sim";

fn main() -> ExitCode {
    // A panic inside of a run is a result of the run, told with its seed; its place is worth a line.
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    match Cli::parse().command {
        Command::Run(arguments) => run_one(&arguments),
        Command::Soak(arguments) => soak::soak(&arguments),
        Command::Replay(arguments) => replay(&arguments),
        Command::Check(arguments) => check(&arguments),
        Command::Shrink(arguments) => shrink_one(&arguments),
        Command::Scenario(arguments) => scenario::scenario(&arguments),
        Command::Teeth(arguments) => teeth::teeth(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
    }
}

fn write_history_of(result: &Result<Report, Box<Failure>>, path: Option<&PathBuf>) -> std::io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let history = match result {
        Ok(report) => &report.history,
        Err(failure) => &failure.history,
    };
    std::fs::write(path, write_history(history))
}

fn write_lists_of(result: &Result<Report, Box<Failure>>, path: Option<&PathBuf>) -> std::io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let lists = match result {
        Ok(report) => &report.lists,
        Err(failure) => &failure.lists,
    };
    std::fs::write(path, lists.to_lines())
}

fn run_one(arguments: &RunArguments) -> ExitCode {
    let trace = if arguments.trace { TraceMode::Print } else { TraceMode::Tail(TAIL) };
    let options =
        RunOptions { trace, filter: arguments.filter.clone(), ..arguments.common.options(arguments.seed) };
    let first = run(arguments.seed, &options);
    let written = write_history_of(&first, arguments.history.as_ref())
        .and_then(|()| write_lists_of(&first, arguments.lists.as_ref()));
    if let Err(error) = written {
        eprintln!("the history cannot be written: {error}");
        return ExitCode::from(2);
    }
    match first {
        Err(failure) => {
            print_failure(&failure, &arguments.common, true);
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

/// Tells what went wrong and how to see it again, and leaves the schedule in a file.
fn print_failure(failure: &Failure, common: &Common, has_details: bool) {
    if has_details {
        println!("{failure}");
    }
    let Failure { seed, at, events, fail, schedule, .. } = failure;
    println!("seed {seed}, commit {COMMIT}, event {events}, at {at}: {}", fail.checker());
    println!("to replay: {}", common.replay(*seed));
    let path = PathBuf::from(SCHEDULES).join(format!("seed-{seed}.schedule"));
    let text = format!("{schedule}# commit {COMMIT}, event {events}\n");
    match std::fs::create_dir_all(SCHEDULES).and_then(|()| std::fs::write(&path, text)) {
        Ok(()) => println!("or: flotilla-sim replay {0}; flotilla-sim shrink {0}", path.display()),
        Err(error) => eprintln!("{} cannot be written: {error}", path.display()),
    }
}

fn read_schedule(path: &Path) -> Result<Schedule, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    Schedule::parse(&text).map_err(|error| error.to_string())
}

fn replay(arguments: &ReplayArguments) -> ExitCode {
    let schedule = match read_schedule(&arguments.file) {
        Ok(schedule) => schedule,
        Err(why) => return refuse(&arguments.file, &why),
    };
    let mode = if arguments.trace { TraceMode::Print } else { TraceMode::Tail(TAIL) };
    let result = run_schedule(&schedule, Trace::new(mode, arguments.filter.clone()));
    if let Err(error) = write_history_of(&result, arguments.history.as_ref()) {
        eprintln!("the history cannot be written: {error}");
        return ExitCode::from(2);
    }
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Judges a history: 0 if it can be explained, 1 if not, 2 if that cannot be said.
fn check(arguments: &CheckArguments) -> ExitCode {
    let text = match std::fs::read_to_string(&arguments.file) {
        Ok(text) => text,
        Err(error) => return refuse(&arguments.file, &error.to_string()),
    };
    let history = match parse_history(&text) {
        Ok(history) => history,
        Err(error) => return refuse(&arguments.file, &error.to_string()),
    };
    let count = |is: fn(&Operation) -> bool| history.iter().filter(|operation| is(operation)).count();
    let failed = count(|operation| operation.outcome == Outcome::NotDone);
    let unknown = count(|operation| operation.outcome == Outcome::Unknown);
    let ok = history.len() - failed - unknown;
    match linearizable(&history, arguments.steps_max) {
        Verdict::Linearizable => {
            println!("linearizable: {ok} operations are ok, {failed} failed, {unknown} are unknown");
            ExitCode::SUCCESS
        }
        Verdict::Violation(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
        Verdict::Undecided { key } => {
            let key = types::escape_key(&key);
            refuse(&arguments.file, &format!("key {key} was given up after {} steps", arguments.steps_max))
        }
    }
}

fn refuse(path: &Path, why: &str) -> ExitCode {
    eprintln!("{}: {why}", path.display());
    ExitCode::from(2)
}

fn shrink_one(arguments: &ShrinkArguments) -> ExitCode {
    let schedule = match read_schedule(&arguments.file) {
        Ok(schedule) => schedule,
        Err(why) => return refuse(&arguments.file, &why),
    };
    std::panic::set_hook(Box::new(|_| ()));
    let size = |schedule: &Schedule| {
        let (actions, clients) = (schedule.plan.actions.len(), schedule.clients.len());
        format!("{actions} actions, {clients} clients")
    };
    println!("begins with {}", size(&schedule));
    let to = arguments.to.as_ref().unwrap_or(&arguments.file);
    let text = |schedule: &Schedule| format!("{schedule}# shrunk at commit {COMMIT}\n");
    let mut on_step = |smaller: &Schedule| {
        println!("still fails with {}", size(smaller));
        // Whoever has not the patience to wait for the end has this much.
        if let Err(error) = std::fs::write(to, text(smaller)) {
            eprintln!("{}: {error}", to.display());
        }
    };
    let Some(Shrunk { schedule, tried }) = shrink(&schedule, arguments.tries, &mut on_step) else {
        return refuse(&arguments.file, "it does not fail, or not as it says");
    };
    if let Err(error) = std::fs::write(to, text(&schedule)) {
        return refuse(to, &error.to_string());
    }
    println!("{tried} runs later: {}, in {}", size(&schedule), to.display());
    print!("{schedule}");
    ExitCode::SUCCESS
}
