//! Plays scenarios: files that say what is to happen, and what must be seen.

use crate::{COMMIT, TAIL, refuse};
use clap::Args;
use sim::TraceMode;
use sim::scenario::Scenario;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The scenarios.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The seed, instead of those that the scenario names.
    #[arg(long)]
    seed: Option<u64>,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Print only lines that hold this text.
    #[arg(long, value_name = "TEXT", requires = "trace")]
    filter: Option<String>,
    /// Break the rules that each scenario guards, one after another, and see that it is missed.
    #[cfg(feature = "seeded_bugs")]
    #[arg(long)]
    guards: bool,
}

pub(crate) fn scenario(arguments: &Arguments) -> ExitCode {
    let mut is_well = true;
    for file in &arguments.files {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        let read = text.and_then(|text| Scenario::parse(&text).map_err(|error| error.to_string()));
        match read {
            Ok(scenario) => is_well &= play(file, &scenario, arguments),
            Err(why) => return refuse(file, &why),
        }
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(file: &Path, scenario: &Scenario, arguments: &Arguments) -> bool {
    println!("{}: {}", file.display(), scenario.story);
    let seeds = arguments.seed.map_or_else(|| scenario.seeds.clone(), |seed| vec![seed]);
    let trace = if arguments.trace { TraceMode::Print } else { TraceMode::Tail(TAIL) };
    for seed in &seeds {
        match scenario.play(*seed, &[], trace, arguments.filter.clone()) {
            Ok(played) => println!(
                "seed {seed}: as it says; {} events in {}, {} operations, trace {}",
                played.events, played.simulated, played.operations, played.hash
            ),
            Err(failure) => {
                println!("{failure}");
                let (checker, line) = (failure.missed.checker(), failure.line);
                println!("{}:{line}, seed {seed}, commit {COMMIT}: {checker}", file.display());
                return false;
            }
        }
    }
    #[cfg(feature = "seeded_bugs")]
    if arguments.guards {
        return guards(scenario, &seeds);
    }
    true
}

#[cfg(feature = "seeded_bugs")]
fn guards(scenario: &Scenario, seeds: &[u64]) -> bool {
    let mut is_well = true;
    for guard in &scenario.guards {
        let Some(bugs) = guard.bugs() else {
            println!("no rule is called {}", guard.rule);
            return false;
        };
        for seed in seeds {
            let missed = scenario.play(*seed, &bugs, TraceMode::Off, None).map_err(|failure| {
                let is_meant = failure.missed.checker().contains(&guard.by);
                is_well &= is_meant;
                format!("line {}: {}", failure.line, failure.missed.checker())
            });
            println!(
                "without {}, seed {seed}: {}",
                guard.rule,
                missed.err().unwrap_or_else(|| "nothing".to_owned())
            );
        }
    }
    is_well
}
