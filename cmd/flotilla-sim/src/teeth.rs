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
    use sim::nodes::SeededBug;
    use sim::teeth::{Bite, bite, covered, is_gap};
    use std::collections::BTreeMap;
    use std::fmt::Write as _;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    /// What stands in the table for the product with all its rules.
    const WHOLE: &str = "product, whole";

    fn name(bug: Option<SeededBug>) -> String {
        bug.map_or_else(|| WHOLE.to_owned(), SeededBug::name)
    }

    #[expect(clippy::disallowed_methods, reason = "seeds run beside each other on real threads")]
    pub(crate) fn teeth(arguments: &Arguments) -> ExitCode {
        // What panics was made to.
        std::panic::set_hook(Box::new(|_| {}));
        let began = Instant::now();
        let all = std::iter::once(None).chain(SeededBug::all().into_iter().map(Some));
        let is_wanted = |bug: &Option<SeededBug>| {
            let name = name(*bug);
            arguments.only.is_empty() || arguments.only.iter().any(|text| name.contains(text.as_str()))
        };
        let wanted: Vec<Option<SeededBug>> = all.filter(is_wanted).collect();
        let next = Mutex::new(wanted.iter().copied().enumerate());
        let done: Mutex<BTreeMap<usize, (Bite, Duration)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..arguments.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let taken = next.lock().expect("no thread panics with it").next();
                        let Some((number, bug)) = taken else { return };
                        let began = Instant::now();
                        let bite = bite(bug, arguments.from, arguments.seeds);
                        let took = began.elapsed();
                        print(&bite, took, arguments.verbose);
                        done.lock().expect("no thread panics with it").insert(number, (bite, took));
                    }
                });
            }
        });
        let bites: Vec<Bite> = done
            .into_inner()
            .expect("no thread panicked with it")
            .into_values()
            .map(|(bite, _)| bite)
            .collect();
        let failed = bites.iter().filter(|bite| !bite.is_right()).count();
        if let Some(path) = &arguments.page
            && let Err(error) = write_page(path, &bites, arguments)
        {
            eprintln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
        let gaps = gaps(&bites);
        println!("{:.0} seconds; {gaps} known gaps, counted neither way", began.elapsed().as_secs_f64());
        println!("{} passed, {failed} failed", bites.len() - failed - gaps);
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// What found it, or why nothing did.
    fn finding(bite: &Bite) -> String {
        let why = bite.bug.and_then(covered).map(|why| format!("nothing: {why}"));
        let gap = bite.bug.filter(|bug| is_gap(*bug)).map(|_| "nothing yet: a known gap".to_owned());
        bite.checker().or(why).or(gap).unwrap_or_else(|| "nothing".to_owned())
    }

    /// How many rules are left to the next version of the simulator.
    fn gaps(bites: &[Bite]) -> usize {
        let is_missed = |bite: &&Bite| bite.failure.is_none() && bite.bug.is_some_and(is_gap);
        bites.iter().filter(is_missed).count()
    }

    fn print(bite: &Bite, took: Duration, verbose: bool) {
        let found = finding(bite);
        let mark = if bite.is_right() { "ok  " } else { "FAIL" };
        let name = name(bite.bug);
        println!("{mark} {name:<42} {:>4} seeds {:>7.1} s  {found}", bite.seeds, took.as_secs_f64());
        if let Some(failure) = bite.failure.as_ref().filter(|_| verbose || bite.bug.is_none()) {
            println!("     seed {} at {}: {}", failure.seed, failure.at, failure.fail);
        }
    }

    fn write_page(path: &Path, bites: &[Bite], arguments: &Arguments) -> std::io::Result<()> {
        let mut page = String::from(include_str!("teeth.md"));
        let table = |page: &mut String| -> std::fmt::Result {
            writeln!(page, "| rule broken | seeds | found by |\n|---|--:|---|")?;
            for bite in bites {
                writeln!(page, "| {} | {} | {} |", name(bite.bug), bite.seeds, finding(bite))?;
            }
            let failed = bites.iter().filter(|bite| !bite.is_right()).count();
            writeln!(page, "\nSeeds from {}, at most {} each.", arguments.from, arguments.seeds)?;
            let gaps = gaps(bites);
            writeln!(page, "{} passed, {failed} failed, {gaps} known gaps.", bites.len() - failed - gaps)
        };
        table(&mut page).expect("a string takes everything");
        std::fs::write(path, page)
    }
}
