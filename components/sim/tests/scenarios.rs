//! Scenarios, each a story of one thing that went wrong once or must not: they go as they say, with every seed that they
//! name, and miss it when a rule that they guard is broken.

use sim::TraceMode;
use sim::scenario::{Guard, Scenario};
use std::path::{Path, PathBuf};

fn scenarios() -> Vec<(PathBuf, Scenario)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .expect("the directory is there")
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    assert!(files.len() >= 15, "{} holds {} scenarios", directory.display(), files.len());
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, scenario)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn every_scenario_goes_as_it_says() {
    let mut wrong = Vec::new();
    for (path, scenario) in scenarios() {
        for seed in &scenario.seeds {
            if let Err(failure) = scenario.play(*seed, &[], TraceMode::Off, None) {
                wrong.push(format!("{}: {failure}", path.display()));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_scenario_is_one_run() {
    for (path, scenario) in scenarios() {
        let play = || scenario.play(scenario.seeds[0], &[], TraceMode::Off, None);
        assert_eq!(play(), play(), "{}", path.display());
    }
}

/// What is noticed when a rule is broken, with the first seed with which anything is.
fn noticed(scenario: &Scenario, guard: &Guard) -> Result<(), String> {
    let bugs = guard.bugs().ok_or_else(|| format!("no rule is called {}", guard.rule))?;
    let mut seen = Vec::new();
    for seed in &scenario.seeds {
        match scenario.play(*seed, &bugs, TraceMode::Off, None) {
            Err(failure) if failure.missed.checker().contains(&guard.by) => return Ok(()),
            Err(failure) => seen.push(failure.to_string()),
            Ok(_) => seen.push("nothing".to_owned()),
        }
    }
    Err(format!("without {} it sees {}, not {}", guard.rule, seen.join("; "), guard.by))
}

#[test]
fn every_scenario_misses_the_rules_that_it_guards() {
    // Rules that are broken make the product's own assertions fail: those are results, and told below.
    std::panic::set_hook(Box::new(|info| {
        if info.location().is_some_and(|place| place.file().ends_with("tests/scenarios.rs")) {
            eprintln!("{info}");
        }
    }));
    let mut wrong = Vec::new();
    for (path, scenario) in scenarios() {
        for guard in &scenario.guards {
            wrong.extend(noticed(&scenario, guard).err().map(|why| format!("{}: {why}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
