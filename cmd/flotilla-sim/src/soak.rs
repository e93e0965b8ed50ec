//! New seeds on all cores, until the time is over or one fails: of all kinds, unless one is asked for.

use crate::{Common, TAIL, print_failure};
use clap::Args;
use sim::{Depths, Failure, FaultCount, NetworkCounts, Report, Told, TraceMode, run};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Args)]
pub(crate) struct Arguments {
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
    /// How many seeds run at once; without it, as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    common: Common,
}

/// What all runs together came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    events: u64,
    simulated: Duration,
    done: u64,
    refused: u64,
    unknown: u64,
    void: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, FaultCount>,
    network: NetworkCounts,
    /// By point: in how many runs it was armed, and how often it fired.
    points: BTreeMap<&'static str, (u64, u64)>,
    depths: Depths,
    /// The deepest that any one run got.
    deepest: Depths,
    failures: BTreeMap<u64, Box<Failure>>,
}

fn fold(sum: &mut Depths, more: &Depths, how: fn(u64, u64) -> u64) {
    let Depths {
        elections,
        regions,
        member_changes,
        entries,
        transactions,
        rollbacks,
        collected,
        stores_retired,
        told,
    } = sum;
    let Told { snapshots, leases_expired, compactions, sleeps, sleeps_lost } = told;
    *elections = how(*elections, more.elections);
    *regions = how(*regions, more.regions);
    *member_changes = how(*member_changes, more.member_changes);
    *entries = how(*entries, more.entries);
    *transactions = how(*transactions, more.transactions);
    *rollbacks = how(*rollbacks, more.rollbacks);
    *collected = how(*collected, more.collected);
    *stores_retired = how(*stores_retired, more.stores_retired);
    *snapshots = how(*snapshots, more.told.snapshots);
    *leases_expired = how(*leases_expired, more.told.leases_expired);
    *compactions = how(*compactions, more.told.compactions);
    *sleeps = how(*sleeps, more.told.sleeps);
    *sleeps_lost = how(*sleeps_lost, more.told.sleeps_lost);
}

fn rows(depths: &Depths) -> [(&'static str, u64); 13] {
    [
        ("elections", depths.elections),
        ("regions", depths.regions),
        ("member changes", depths.member_changes),
        ("entries applied", depths.entries),
        ("transactions", depths.transactions),
        ("rollbacks", depths.rollbacks),
        ("old versions removed", depths.collected),
        ("stores taken out", depths.stores_retired),
        ("snapshots", depths.told.snapshots),
        ("leases expired", depths.told.leases_expired),
        ("log compactions", depths.told.compactions),
        ("peers that slept", depths.told.sleeps),
        ("sleepers that lost a store", depths.told.sleeps_lost),
    ]
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.events += report.events;
        self.simulated += report.simulated.since(sim::SimTime::ZERO);
        if let Some(why) = report.is_void() {
            *self.void.entry(why).or_default() += 1;
        }
        self.done += report.tally.done;
        self.refused += report.tally.refused;
        self.unknown += report.tally.unknown;
        for (name, count) in &report.faults {
            let sum = self.faults.entry(name).or_default();
            sum.begun += count.begun;
            sum.took_effect += count.took_effect;
        }
        let NetworkCounts { lost, doubled, old, of_earlier_lives, stragglers, garbled, cut_off, broken } =
            report.network;
        let sum = &mut self.network;
        sum.lost += lost;
        sum.doubled += doubled;
        sum.old += old;
        sum.of_earlier_lives += of_earlier_lives;
        sum.stragglers += stragglers;
        sum.garbled += garbled;
        sum.cut_off += cut_off;
        sum.broken += broken;
        for (name, fired) in &report.points {
            let (armed, sum) = self.points.entry(name).or_default();
            *armed += 1;
            *sum += fired;
        }
        fold(&mut self.depths, &report.depths, |a, b| a + b);
        fold(&mut self.deepest, &report.depths, u64::max);
    }

    fn print(&self, first: u64, took: Duration) {
        let Self { seeds, events, done, refused, unknown, .. } = self;
        let void: u64 = self.void.values().sum();
        println!(
            "{seeds} seeds from {first}, {} failures, {void} void: {events} events, {} simulated seconds in {} s",
            self.failures.len(),
            self.simulated.as_secs(),
            took.as_secs()
        );
        for (why, count) in &self.void {
            println!("  void: {count} because {why}");
        }
        println!("  operations: {done} done, {refused} refused, {unknown} of unknown outcome");
        println!("  faults, by kind (took effect / begun):");
        for (name, FaultCount { begun, took_effect }) in &self.faults {
            println!("    {name:14} {took_effect:8} / {begun}");
        }
        let NetworkCounts { lost, doubled, old, of_earlier_lives, stragglers, garbled, cut_off, broken } =
            self.network;
        println!(
            "  messages: {lost} lost, {doubled} doubled, {old} a minute old or more, {of_earlier_lives} of processes that \
             were gone, {stragglers} out of broken connections, {garbled} damaged, {cut_off} cut off; {broken} \
             connections broke"
        );
        println!("  points (fired / runs in which they were armed):");
        for (name, (armed, fired)) in &self.points {
            println!("    {name:32} {fired:8} / {armed}");
        }
        println!("  got to (all runs / the deepest):");
        for ((name, sum), (_, most)) in rows(&self.depths).into_iter().zip(rows(&self.deepest)) {
            println!("    {name:16} {sum:9} / {most}");
        }
    }
}

pub(crate) fn soak(arguments: &Arguments) -> ExitCode {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = arguments.from.unwrap_or(since_epoch.as_secs());
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs(arguments.minutes * 60);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let work = || {
        while Instant::now() < deadline && !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if arguments.seeds.is_some_and(|most| number >= most) {
                return;
            }
            let seed = first.wrapping_add(number);
            let result = run(seed, &arguments.common.varied(seed).options(seed));
            let mut sum = sum.lock().expect("nobody panics with it");
            sum.seeds += 1;
            match result {
                Ok(report) => sum.add(&report),
                Err(failure) => {
                    let text = failure.fail.to_string();
                    println!("seed {seed}: {}", text.lines().next().unwrap_or_default());
                    sum.failures.insert(seed, failure);
                    is_over.store(!arguments.keep_going, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let sum = sum.into_inner().expect("nobody panicked with it");
    sum.print(first, begin.elapsed());
    for (seed, failure) in &sum.failures {
        let common = arguments.common.varied(*seed);
        if arguments.keep_going {
            print_failure(failure, &common, false);
            continue;
        }
        // Once more, for the end of its trace.
        match run(*seed, &sim::RunOptions { trace: TraceMode::Tail(TAIL), ..common.options(*seed) }) {
            Err(failure) => print_failure(&failure, &common, true),
            Ok(_) => println!("seed {seed} failed once and not again: {}", common.replay(*seed)),
        }
    }
    if sum.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
