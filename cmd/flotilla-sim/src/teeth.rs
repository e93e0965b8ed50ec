//! `flotilla-sim teeth`: every rule broken in turn, and how many seeds it took to find that.

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Within how many seeds each bug must be found.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// How many bugs are looked for at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only bugs whose names hold one of these texts; then the whole product is not tried, unless `product` is named.
    #[arg(long, value_name = "TEXTS", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the table to this page.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Show how each failure looked.
    #[arg(long)]
    verbose: bool,
}

#[cfg(not(feature = "seeded_bugs"))]
pub(crate) fn teeth(arguments: &Arguments) -> ExitCode {
    let Arguments { from: _, seeds: _, jobs: _, only: _, page: _, verbose: _ } = arguments;
    eprintln!("this flotilla-sim was built without bugs to find: build it with `--features seeded_bugs`");
    ExitCode::from(2)
}

#[cfg(feature = "seeded_bugs")]
pub(crate) use bites::teeth;

#[cfg(feature = "seeded_bugs")]
mod bites {
    use super::{Arguments, ExitCode};
    use crate::bench::spent;
    use sim::nodes::SeededBug;
    use sim::teeth::{Bite, NOT_ALONE, Trial, bite, trials};
    use std::collections::BTreeMap;
    use std::fmt::Write as _;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    /// What stands in the table for the product with all its rules.
    const WHOLE: &str = "product, whole";
    /// The same where clients also make transactions.
    const WHOLE_WITH_TRANSACTIONS: &str = "product, whole, with transactions";

    fn name(trial: Trial) -> String {
        let whole = if trial.transactions { WHOLE_WITH_TRANSACTIONS } else { WHOLE };
        trial.bug.map_or_else(|| whole.to_owned(), SeededBug::name)
    }

    /// What was found of each, in the order of the table, and how long processors were at it in all.
    #[derive(Default)]
    struct Table {
        bites: BTreeMap<usize, Bite>,
        spent: Duration,
    }

    #[expect(clippy::disallowed_methods, reason = "seeds run beside each other on real threads")]
    pub(crate) fn teeth(arguments: &Arguments) -> ExitCode {
        // What panics was made to.
        std::panic::set_hook(Box::new(|_| {}));
        let began = Instant::now();
        let is_wanted = |trial: &Trial| {
            let name = name(*trial);
            arguments.only.is_empty() || arguments.only.iter().any(|text| name.contains(text.as_str()))
        };
        let wanted: Vec<Trial> = trials().into_iter().filter(is_wanted).collect();
        let next = Mutex::new(wanted.iter().copied().enumerate());
        let table: Mutex<Table> = Mutex::default();
        let work = || {
            loop {
                let taken = next.lock().expect("no thread panics with it").next();
                let Some((number, trial)) = taken else { return };
                let before = spent(began);
                let bite = bite(trial, arguments.from, arguments.seeds);
                let took = spent(began).saturating_sub(before);
                print(&bite, took, arguments.verbose);
                let mut table = table.lock().expect("no thread panics with it");
                table.bites.insert(number, bite);
                table.spent += took;
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..arguments.jobs.max(1) {
                scope.spawn(work);
            }
        });
        let table = table.into_inner().expect("no thread panicked with it");
        if let Some(path) = &arguments.page
            && let Err(error) = std::fs::write(path, page(&table, arguments))
        {
            eprintln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
        let (seeds, minutes) = (table.seeds(), table.spent.as_secs_f64() / 60.0);
        println!(
            "{seeds} seeds in {minutes:.1} minutes of a core, {:.0} s in all",
            began.elapsed().as_secs_f64()
        );
        let failed = table.failed();
        println!("{} passed, {failed} failed", table.bites.len() - failed);
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    impl Table {
        fn failed(&self) -> usize {
            self.bites.values().filter(|bite| !bite.is_right()).count()
        }

        fn seeds(&self) -> u64 {
            self.bites.values().map(|bite| bite.seeds).sum()
        }
    }

    fn finding(bite: &Bite) -> String {
        bite.checker().unwrap_or_else(|| "nothing".to_owned())
    }

    fn print(bite: &Bite, took: Duration, verbose: bool) {
        let found = finding(bite);
        let mark = if bite.is_right() { "ok  " } else { "FAIL" };
        let name = name(bite.trial);
        println!("{mark} {name:<42} {:>4} seeds {:>7.1} s  {found}", bite.seeds, took.as_secs_f64());
        if let Some(failure) = bite.failure.as_ref().filter(|_| verbose || bite.trial.bug.is_none()) {
            println!("     seed {} at {}: {}", failure.seed, failure.at, failure.fail);
        }
    }

    fn page(table: &Table, arguments: &Arguments) -> String {
        let mut page = String::from(include_str!("teeth-page.txt"));
        write_table(&mut page, table, arguments).expect("a string takes everything");
        page
    }

    fn write_table(page: &mut String, table: &Table, arguments: &Arguments) -> std::fmt::Result {
        writeln!(page, "| rule broken | seeds | found by |\n|---|--:|---|")?;
        for bite in table.bites.values() {
            writeln!(page, "| {} | {} | {} |", name(bite.trial), bite.seeds, finding(bite))?;
        }
        let failed = table.failed();
        writeln!(page, "\nSeeds from {}, at most {} for each rule;", arguments.from, arguments.seeds)?;
        writeln!(
            page,
            "{} in all, which took {:.0} minutes of a core.",
            table.seeds(),
            (table.spent.as_secs_f64() / 60.0).ceil()
        )?;
        writeln!(page, "\n{} passed, {failed} failed.", table.bites.len() - failed)?;
        writeln!(page, "\n## Not broken alone\n")?;
        for (bug, why) in NOT_ALONE {
            writeln!(page, "* {}. {why}", bug.name())?;
        }
        Ok(())
    }
}
