//! Our stores beside etcd, PostgreSQL and the bare disk: the same work, on one machine, in turns. `make bench-peers` runs it.
//!
//! A row is one description of work (`workload.rs`) that several drivers do (`driver.rs`: `ours.rs`, `etcd.rs`,
//! `postgres.rs`), one after another within each round. Beside them stands what the storage alone would cost (`floor.rs`), and what
//! asking alone would (`loopback.rs`). What
//! comes of it are ratios of medians, and processor time per operation with the generator's part in it (`figures.rs`), as
//! lines, as a table and as a page (`page.rs`), which the README quotes (`readme.rs`). Our own suites (`suites.rs`) follow. Start
//! with `workload.rs`.

mod clock;
mod driver;
mod etcd;
mod figures;
mod floor;
mod generator;
mod http;
mod loopback;
mod machine;
mod ours;
mod page;
mod postgres;
mod processes;
mod readme;
mod suites;
mod workload;

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use driver::{Driver, Measured, Timing};
use figures::{FLOOR, Figures, Spread};
use page::Story;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use suites::{Plan, Row, Suite};
use workload::{DataSet, WORKLOADS, Workload};

/// Between two measurements, for what the last one has left to do.
const PAUSE: Duration = Duration::from_millis(300);
/// The row after which the floor is measured, to be near to what it is compared with.
const FLOOR_AFTER: &str = "put_128_c256";
/// Floors whose batches are those of our stores in a row.
const MATCHED: [(&str, &str); 2] =
    [("floor_as_c256_x3", "put_128_c256"), ("floor_as_batch100_x3", "put_batch100")];

/// Measures our stores beside others.
#[derive(Parser, Debug)]
struct Options {
    /// The binary of our stores.
    #[arg(long, value_name = "FILE", default_value = "target/release/flotilla")]
    flotilla: PathBuf,
    /// How often each row is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds before it that do not count.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    warm_up: u64,
    /// Only these rows; those whose names begin so.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Only these.
    #[arg(long, value_delimiter = ',', default_value = "ours,etcd,postgres,floor")]
    drivers: Vec<Who>,
    /// Where the results are appended, in `peers.jsonl`.
    #[arg(long, value_name = "DIRECTORY", default_value = "bench-results")]
    results: PathBuf,
    /// Write the page there, if all rows were measured for everybody.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Quote the page there, between its two marks.
    #[arg(long, value_name = "FILE", requires = "page")]
    readme: Option<PathBuf>,
    /// Suites of our own that are run behind the rows, and told of on the page.
    #[arg(long, value_delimiter = ',')]
    suites: Vec<Suite>,
    /// How often each of their rows is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    suite_rounds: u32,
    /// Into how many regions the suite `regions` cuts the data, ascending.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    regions: Vec<u64>,
    /// Where the servers keep their data while it runs; a disk, not memory.
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// A setting of our playground, as `store.engine.block_cache_size=128MiB`; may be given many times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Threads of the generator, of each.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Connections to each of etcd's members.
    #[arg(long, default_value_t = 1)]
    etcd_connections: usize,
    /// Do the floor's work there and tell of it; for processes that this program starts.
    #[arg(long, hide = true)]
    floor_worker: Option<PathBuf>,
    /// With puts of so many in a batch.
    #[arg(long, hide = true, default_value_t = 50)]
    floor_batch: u64,
    /// All of them in one entry of the log.
    #[arg(long, hide = true)]
    floor_merged: bool,
}

/// Who takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Who {
    Ours,
    Etcd,
    Postgres,
    Floor,
}

impl Options {
    const fn timing(&self) -> Timing {
        Timing { warm_up: Duration::from_secs(self.warm_up), counted: Duration::from_secs(self.seconds) }
    }

    fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|wanted| row.starts_with(wanted.as_str()))
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(directory) = &options.floor_worker {
        return floor::work(directory, options.floor_batch, options.floor_merged, options.timing());
    }
    ensure!(options.threads > 0 && options.etcd_connections > 0, "threads and connections are at least one");
    let mut names =
        WORKLOADS.iter().map(|workload| workload.name).chain(["floor", floor::DISK, loopback::ECHO]);
    ensure!(names.any(|name| options.wants(name)), "no row has such a name");
    let mut scratch = tempfile::Builder::new();
    let scratch = scratch.prefix("peer-bench-");
    let scratch = match &options.scratch {
        Some(directory) => scratch.tempdir_in(directory)?,
        None => scratch.tempdir()?,
    };
    // PostgreSQL's own user passes through.
    std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut bench = Bench {
        options,
        figures: Figures::default(),
        others: Vec::new(),
        stolen: Vec::new(),
        batches: Vec::new(),
        suites: Vec::new(),
    };
    let drivers = bench.start(scratch.path())?;
    let machine = machine::line(scratch.path())?;
    let described = bench.run(drivers, scratch.path())?;
    let suites = bench.suites();
    // What was measured before a suite failed is kept all the same.
    bench.report(machine, described)?;
    suites
}

struct Bench {
    options: Options,
    figures: Figures,
    /// Shares of the machine that others had, by measurement.
    others: Vec<f64>,
    stolen: Vec<f64>,
    /// Floors that were given batches as ours were, and how large.
    batches: Vec<(&'static str, u64)>,
    suites: Vec<(Suite, Vec<Row>)>,
}

impl Bench {
    fn start(&self, scratch: &std::path::Path) -> anyhow::Result<Vec<Box<dyn Driver>>> {
        let options = &self.options;
        let mut drivers: Vec<Box<dyn Driver>> = Vec::new();
        for who in &options.drivers {
            eprintln!("starting {who:?} …");
            match who {
                Who::Ours => {
                    let binary = options
                        .flotilla
                        .canonicalize()
                        .with_context(|| format!("there is no binary {}", options.flotilla.display()))?;
                    let directory = scratch.join("ours");
                    let ours = ours::Ours::start(&binary, &directory, &options.set, options.threads)?;
                    drivers.push(Box::new(ours));
                }
                Who::Etcd => {
                    let directory = scratch.join("etcd");
                    let etcd = etcd::Etcd::start(&directory, options.threads, options.etcd_connections)?;
                    drivers.push(Box::new(etcd));
                }
                Who::Postgres => {
                    let directory = scratch.join("postgres");
                    drivers.push(Box::new(postgres::Postgres::start(&directory, options.threads)?));
                }
                Who::Floor => {}
            }
        }
        Ok(drivers)
    }

    /// Loads, measures every row, stops; says who took part.
    fn run(
        &mut self,
        mut drivers: Vec<Box<dyn Driver>>,
        scratch: &std::path::Path,
    ) -> anyhow::Result<Vec<String>> {
        let rows: Vec<Workload> =
            WORKLOADS.into_iter().filter(|workload| self.options.wants(workload.name)).collect();
        let described = drivers.iter().map(|driver| driver.describe()).collect();
        for driver in &mut drivers {
            for data in DataSet::ALL {
                eprintln!(
                    "loading {}: {} values of {} bytes …",
                    driver.name(),
                    data.keys(),
                    data.value_size()
                );
                driver.load(data)?;
            }
            driver.restart()?;
        }
        let is_floor = self.options.drivers.contains(&Who::Floor);
        if is_floor && self.options.wants(floor::DISK) {
            self.disk(scratch)?;
        }
        if is_floor && self.options.wants(loopback::ECHO) {
            self.echo()?;
        }
        let mut is_floor_due = is_floor && self.options.wants("floor");
        for row in rows {
            self.row(&row, &mut drivers)?;
            if is_floor_due && row.name == FLOOR_AFTER {
                self.floors(&floor::FLOORS, scratch)?;
                is_floor_due = false;
            }
            if is_floor && let Some((name, _)) = MATCHED.iter().find(|(_, matched)| *matched == row.name) {
                self.matched_floor(name, row.name, scratch)?;
            }
        }
        if is_floor_due {
            self.floors(&floor::FLOORS, scratch)?;
        }
        for driver in &mut drivers {
            driver.stop()?;
        }
        self.figures.add_share("put_share_of_floor_c256", "floor_as_c256_x3", "put_128_c256");
        self.figures.add_share("put_share_of_floor_batch100", "floor_as_batch100_x3", "put_batch100");
        Ok(described)
    }

    fn row(&mut self, row: &Workload, drivers: &mut [Box<dyn Driver>]) -> anyhow::Result<()> {
        eprint!("{} …", row.name);
        for _ in 0..self.options.rounds {
            for driver in drivers.iter_mut() {
                clock::pause(PAUSE);
                let timing = self.options.timing();
                // Once more, so that one mishap does not cost the whole run; rounds stay rounds.
                let measured = driver.measure(row, timing).or_else(|error| {
                    eprintln!("\n  {} at {}, once more after: {error:#}", driver.name(), row.name);
                    driver.measure(row, timing)
                });
                let measured = measured.with_context(|| format!("{} at {}", driver.name(), row.name))?;
                let Some(measured) = measured else { continue };
                if let Some(error) = &measured.first_error {
                    eprintln!("\n  {}: {} calls failed; the first: {error}", driver.name(), measured.errors);
                }
                eprint!(" {} {:.0}/s", driver.name(), measured.operations / measured.seconds);
                self.figures.add(row.name, driver.name(), &measured);
                self.note(&measured);
            }
        }
        eprintln!();
        Ok(())
    }

    /// Notes what others have taken of the machine meanwhile.
    fn note(&mut self, measured: &Measured) {
        let Some((busy, stolen)) = measured.machine else { return };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let own = (measured.servers_cpu + measured.generator_cpu).as_secs_f64() / (cores * measured.seconds);
        self.others.push((busy - own).max(0.0));
        self.stolen.push(stolen);
    }

    fn disk(&mut self, scratch: &std::path::Path) -> anyhow::Result<()> {
        eprintln!("{} …", floor::DISK);
        for _ in 0..self.options.rounds {
            let measured = floor::measure_disk(scratch, self.options.timing())?;
            self.figures.add(floor::DISK, FLOOR, &measured);
        }
        Ok(())
    }

    fn echo(&mut self) -> anyhow::Result<()> {
        eprintln!("{} …", loopback::ECHO);
        for _ in 0..self.options.rounds {
            let measured = loopback::measure(self.options.timing())?;
            self.figures.add(loopback::ECHO, FLOOR, &measured);
        }
        Ok(())
    }

    /// The storage work of a row in batches as large as our stores' were in that row: between two syncs a store has so
    /// many puts.
    fn matched_floor(
        &mut self,
        name: &'static str,
        row: &'static str,
        scratch: &std::path::Path,
    ) -> anyhow::Result<()> {
        let Some(syncs) = self.figures.spread(row, figures::OURS, figures::Metric::Syncs) else {
            return Ok(());
        };
        let batch = (ours::STORES as f64 / syncs.median).round().clamp(1.0, 10_000.0) as u64;
        eprintln!("{name}: {batch} puts in a batch");
        self.batches.push((name, batch));
        let floor = floor::Floor { name, batch, processes: ours::STORES, is_merged: true };
        self.floors(&[floor], scratch)
    }

    fn floors(&mut self, floors: &[floor::Floor], scratch: &std::path::Path) -> anyhow::Result<()> {
        eprintln!("floor …");
        for _ in 0..self.options.rounds {
            for floor in floors {
                let measured = floor::measure(*floor, scratch, self.options.timing())?;
                self.figures.add(floor.name, FLOOR, &measured);
            }
        }
        Ok(())
    }

    /// Runs our own suites, when nobody else is there any more.
    fn suites(&mut self) -> anyhow::Result<()> {
        let Options { suite_rounds, regions, flotilla, results, .. } = &self.options;
        let plan = Plan { rounds: *suite_rounds, regions: regions.clone() };
        for suite in &self.options.suites {
            self.suites.push((*suite, suites::run(*suite, &plan, flotilla, results)?));
        }
        Ok(())
    }

    fn report(self, machine: String, drivers: Vec<String>) -> anyhow::Result<()> {
        let Self { options, figures, others, stolen, batches, suites } = self;
        println!("{}", page::table(&figures));
        println!("\n{}", page::aims(&figures));
        println!("{machine}");
        std::fs::create_dir_all(&options.results)
            .with_context(|| format!("making {}", options.results.display()))?;
        let path = options.results.join("peers.jsonl");
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        for line in figures.lines(&page::PEERS) {
            writeln!(file, "{}", serde_json::to_string(&line)?)?;
        }
        println!("appended to {}", path.display());
        let Some(path) = options.page else { return Ok(()) };
        if !options.rows.is_empty() || Who::value_variants().iter().any(|who| !options.drivers.contains(who))
        {
            println!("{} is left as it was: it tells of all rows and of everybody", path.display());
            return Ok(());
        }
        let story = Story {
            day: clock::today(),
            machine,
            drivers,
            rounds: options.rounds as usize,
            seconds: options.seconds,
            warm_up_seconds: options.warm_up,
            others: Spread::of(others),
            stolen: Spread::of(stolen),
            batches,
            suites,
        };
        std::fs::write(&path, page::page(&figures, &story))
            .with_context(|| format!("writing {}", path.display()))?;
        println!("wrote {}", path.display());
        if let Some(path) = options.readme {
            readme::quote(&path, &page::quotation(&figures, &story))?;
            println!("quoted in {}", path.display());
        }
        Ok(())
    }
}
