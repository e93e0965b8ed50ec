//! Our Raft core beside raft-rs: the same work, in one process, in turns. `make bench-raft` runs it.
//!
//! A row is one function over both implementations (`rows.rs`), which are driven alike (`core.rs`) over logs in memory of
//! one kind (`log.rs`). raft-rs runs with its settings for speed (`theirs.rs`). Each round measures ours and theirs, one after
//! the other, and a row is the median of the rounds. Start with `rows.rs`.

mod alloc;
mod core;
mod log;
mod ours;
mod report;
mod rows;
mod theirs;

use ours::Ours;
use report::{Better, Row};
use rows::{Scale, Sleeper};
use std::path::PathBuf;
use theirs::Theirs;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const USAGE: &str =
    "flotilla-raft-bench [--quick] [--alone] [--only PREFIX] [--rounds N] [--results DIRECTORY]";

#[derive(Debug)]
struct Options {
    scale: Scale,
    rounds: usize,
    /// Ours only, for a profiler's eyes; nothing is written.
    alone: bool,
    only: String,
    results: PathBuf,
}

fn options() -> Result<Options, String> {
    let full = Scale { calls: 20_000_000, commits: 200_000, groups: 100_000 };
    let mut options = Options {
        scale: full,
        rounds: 7,
        alone: false,
        only: String::new(),
        results: PathBuf::from("bench-results"),
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"));
        match flag.as_str() {
            "--quick" => {
                options.scale = Scale { calls: 2_000_000, commits: 20_000, groups: 10_000 };
                options.rounds = 3;
            }
            "--alone" => options.alone = true,
            "--only" => options.only = value()?,
            "--rounds" => {
                options.rounds = value()?.parse().map_err(|error| format!("--rounds: {error}"))?;
            }
            "--results" => options.results = value()?.into(),
            _ => return Err(format!("{flag} is not known\n{USAGE}")),
        }
    }
    if options.rounds == 0 { Err("--rounds must not be zero".to_owned()) } else { Ok(options) }
}

/// Rounds of several rows that one piece of work gives.
struct Bench {
    options: Options,
    rows: Vec<Row>,
}

impl Bench {
    fn wants(&self, row: &str) -> bool {
        row.starts_with(&self.options.only)
    }

    fn row(
        &mut self,
        name: &str,
        unit: &'static str,
        better: Better,
        rounds: usize,
        ours: impl Fn(Scale) -> f64,
        theirs: impl Fn(Scale) -> f64,
    ) {
        if !self.wants(name) {
            return;
        }
        eprintln!("{name} …");
        let (mut us, mut them) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            us.push(ours(self.options.scale));
            if !self.options.alone {
                them.push(theirs(self.options.scale));
            }
        }
        self.rows.push(Row::new(name, unit, better, us, them));
    }

    fn storm(&mut self) {
        let name = "wake_storm_100k";
        if !self.wants(name) {
            return;
        }
        eprintln!("{name} …");
        let (mut us, mut them) = (Vec::new(), Vec::new());
        for _ in 0..self.options.rounds.min(3) {
            us.push(rows::wake_storm::<Ours>(self.options.scale));
            if !self.options.alone {
                them.push(rows::wake_storm::<Theirs>(self.options.scale));
            }
        }
        let mut add = |suffix: &str, unit, of: fn(&rows::Storm) -> f64| {
            let (us, them) = (us.iter().map(of).collect(), them.iter().map(of).collect());
            self.rows.push(Row::new(&format!("{name}{suffix}"), unit, Better::Less, us, them));
        };
        add("", "ms of CPU", |storm| storm.ms);
        add("_first_leader", "election timeouts", |storm| storm.first);
        add("_all_leaders", "election timeouts", |storm| storm.all);
        add("_queue", "messages", |storm| storm.queue);
    }
}

/// A row whose work is one generic function.
macro_rules! row {
    ($bench:ident, $name:expr, $unit:expr, $better:ident, $rounds:expr, |$scale:ident, $core:ident| $work:expr) => {
        $bench.row(
            $name,
            $unit,
            Better::$better,
            $rounds,
            |$scale| {
                type $core = Ours;
                $work
            },
            |$scale| {
                type $core = Theirs;
                $work
            },
        )
    };
}

fn main() -> Result<(), String> {
    let options = options()?;
    let rounds = options.rounds;
    let mut bench = Bench { options, rows: Vec::new() };
    row!(bench, "tick_idle_follower", "ns", Less, rounds, |scale, C| rows::tick_idle_follower::<C>(scale));
    row!(bench, "tick_idle_leader_3", "ns", Less, rounds, |scale, C| rows::tick_idle_leader_3::<C>(scale));
    row!(bench, "has_ready_clean", "ns", Less, rounds, |scale, C| rows::has_ready_clean::<C>(scale));
    for batch in [1, 64] {
        let name = format!("commit_3nodes_batch{batch}");
        row!(bench, &name, "commits/s", More, rounds, |scale, C| rows::commit_3nodes::<C>(scale, batch));
    }
    row!(bench, "commit_3nodes_batch1_allocations", "calls a commit", Less, 1, |scale, C| {
        rows::commit_allocations::<C>(scale, 1)
    });
    row!(bench, "step_append_follower_64x256B", "ns", Less, rounds, |scale, C| {
        rows::step_append_follower_64x256b::<C>(scale)
    });
    row!(bench, "append_resp_commit_advance", "ns", Less, rounds, |scale, C| {
        rows::append_resp_commit_advance::<C>(scale)
    });
    row!(bench, "codec_encode_append_64x256B", "ns", Less, rounds, |scale, C| {
        rows::codec_encode_append_64x256b::<C>(scale)
    });
    row!(bench, "codec_decode_append_64x256B", "ns", Less, rounds, |scale, C| {
        rows::codec_decode_append_64x256b::<C>(scale)
    });
    // What is counted is the same in every round.
    for (name, sleeper) in [
        ("bytes_idle_follower", Sleeper::Follower),
        ("bytes_idle_leader", Sleeper::Leader),
        ("bytes_woken_leader", Sleeper::WokenLeader),
    ] {
        row!(bench, name, "bytes", Less, 1, |scale, C| rows::bytes_per_group::<C>(scale, sleeper));
    }
    bench.storm();
    row!(bench, "log_conflict_probe_long_tail", "round trips", Less, 1, |_scale, C| {
        rows::log_conflict_probe_long_tail::<C>()
    });
    let joint: (&[u64], &[u64]) = (&[1, 2, 3], &[1, 4, 5]);
    for (name, (voters, outgoing)) in [
        ("committed_index_3", (&[1, 2, 3][..], &[][..])),
        ("committed_index_5", (&[1, 2, 3, 4, 5], &[])),
        ("committed_index_7", (&[1, 2, 3, 4, 5, 6, 7], &[])),
        ("committed_index_joint", joint),
    ] {
        row!(bench, name, "ns", Less, rounds, |scale, C| {
            rows::committed_index::<C>(scale, voters, outgoing)
        });
    }
    if bench.rows.is_empty() {
        return Err(format!("no row begins with {:?}", bench.options.only));
    }
    println!("{}", report::table(&bench.rows));
    println!(
        "ratio: ours / raft-rs. Medians of {rounds} rounds in turns; time is CPU time of the one thread."
    );
    if bench.options.alone {
        return Ok(());
    }
    report::write(&bench.rows, &bench.options.results)
        .map_err(|error| format!("writing {}: {error}", bench.options.results.display()))?;
    println!("appended to {}", bench.options.results.join("raft.jsonl").display());
    Ok(())
}
