//! What was measured, as the table that is printed and as the page that is kept.

use crate::figures::{FLOOR, Figures, Metric, OURS, Spread};
use crate::suites::{Row, Suite};
use comfy_table::Table;
use std::fmt::Write as _;

/// How many times better than a peer a row should be, or how large a share.
struct Aim {
    row: &'static str,
    metric: Metric,
    /// `None`: the figure itself is the aim.
    peer: Option<&'static str>,
    at_least: f64,
}

const fn aim(row: &'static str, metric: Metric, peer: &'static str, at_least: f64) -> Aim {
    Aim { row, metric, peer: Some(peer), at_least }
}

const ETCD: &str = "etcd";
const POSTGRES: &str = "PostgreSQL";
pub(crate) const PEERS: [&str; 2] = [ETCD, POSTGRES];

/// What we want.
const AIMS: [Aim; 23] = [
    aim("put_128_c64", Metric::Cpu, ETCD, 8.0),
    aim("put_128_c64", Metric::Throughput, ETCD, 8.0),
    aim("put_128_c256", Metric::Cpu, ETCD, 10.0),
    aim("put_128_c256", Metric::Throughput, ETCD, 10.0),
    aim("put_128_c256", Metric::P99, ETCD, 5.0),
    aim("put_128_c1", Metric::P50, ETCD, 1.0 / 0.3),
    aim("put_1k_c64", Metric::Cpu, ETCD, 6.0),
    aim("put_1k_c64", Metric::Throughput, ETCD, 6.0),
    aim("get_128_c64", Metric::Cpu, ETCD, 10.0),
    aim("get_128_c64", Metric::Throughput, ETCD, 10.0),
    aim("get_128_c64", Metric::Cpu, POSTGRES, 2.0),
    aim("get_128_c64", Metric::Throughput, POSTGRES, 2.0),
    aim("get_128_c256", Metric::Cpu, ETCD, 10.0),
    aim("get_128_c256", Metric::Throughput, ETCD, 10.0),
    aim("get_128_c256", Metric::Cpu, POSTGRES, 2.0),
    aim("get_128_c256", Metric::Throughput, POSTGRES, 2.0),
    aim("get_128_c1", Metric::P50, ETCD, 10.0),
    aim("range_100_c64", Metric::Cpu, ETCD, 5.0),
    aim("range_100_c64", Metric::Cpu, POSTGRES, 1.3),
    aim("put_batch100", Metric::Throughput, ETCD, 2.5),
    Aim { row: "put_batch100", metric: Metric::Throughput, peer: None, at_least: 60_000.0 },
    Aim { row: "put_share_of_floor_c256", metric: Metric::Share, peer: None, at_least: 0.4 },
    Aim { row: "put_share_of_floor_batch100", metric: Metric::Share, peer: None, at_least: 0.6 },
];

/// How the figures came to be.
pub(crate) struct Story {
    pub(crate) day: String,
    pub(crate) machine: String,
    /// Who took part.
    pub(crate) drivers: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) warm_up_seconds: u64,
    /// The share of the machine's processor time that went to nobody whom a row measured, idle peers included.
    pub(crate) others: Option<Spread>,
    /// What the host took away.
    pub(crate) stolen: Option<Spread>,
    /// Floors whose batches are those of our stores, and how large.
    pub(crate) batches: Vec<(&'static str, u64)>,
    /// Our own suites.
    pub(crate) suites: Vec<(Suite, Vec<Row>)>,
}

/// What we want of rows of our own suites, as a ratio to the row that each stands beside.
struct SuiteAim {
    row: &'static str,
    what: &'static str,
    ratio: f64,
    /// The ratio is to be at least that; otherwise below.
    is_floor: bool,
}

const fn tail(row: &'static str) -> SuiteAim {
    SuiteAim { row, what: "p99.9 to the undisturbed p99", ratio: 5.0, is_floor: false }
}

const SUITE_AIMS: [SuiteAim; 4] = [
    tail("put_at_2000.region_splits.p99.9"),
    tail("put_at_2000.leader_moves.p99.9"),
    tail("put_at_2000.snapshot_is_sent.p99.9"),
    SuiteAim {
        row: "put_512c_1000_regions.throughput",
        what: "throughput to that of one region",
        ratio: 0.5,
        is_floor: true,
    },
];

/// The aims for our own suites that were measured.
fn suite_aims(suites: &[(Suite, Vec<Row>)]) -> String {
    let mut out = String::new();
    for aim in &SUITE_AIMS {
        let find = |name: &str| suites.iter().flat_map(|(_, rows)| rows).find(|row| row.row == name);
        let Some((row, ratio)) = find(aim.row).and_then(|row| Some((row, row.ratio?))) else { continue };
        let times = aim.row.strip_suffix(".p99.9").and_then(|event| find(&format!("{event}.times")));
        let verdict = match if aim.is_floor { ratio >= aim.ratio } else { ratio < aim.ratio } {
            _ if times.is_some_and(|times| times.value < 1.0) => "says nothing: it did not happen",
            true => "met",
            false => "missed",
        };
        let _ = writeln!(
            out,
            "| `{}` | {}, {} | {} ({}–{}) | – | {} | {} {} × | {verdict} |",
            row.row,
            aim.what,
            row.unit,
            number(row.value),
            number(row.min),
            number(row.max),
            number(ratio),
            if aim.is_floor { "at least" } else { "below" },
            number(aim.ratio),
        );
    }
    out
}

/// Our own suites' rows.
fn suite_tables(suites: &[(Suite, Vec<Row>)]) -> String {
    let mut out = String::new();
    for (suite, rows) in suites {
        let _ = write!(
            out,
            "\n### {}\n\n| row | median (min–max) | unit | times |\n|---|---|---|---|\n",
            suite.title()
        );
        for row in rows {
            let beside = row.ratio.zip(row.peer.as_deref());
            let times =
                beside.map_or_else(String::new, |(ratio, peer)| format!("{} × `{peer}`", number(ratio)));
            let (value, min, max) = (number(row.value), number(row.min), number(row.max));
            let _ = writeln!(out, "| `{}` | {value} ({min}–{max}) | {} | {times} |", row.row, row.unit);
        }
    }
    out
}

/// What the README says of the page: where and when, and the aims.
pub(crate) fn quotation(figures: &Figures, story: &Story) -> String {
    format!(
        "Measured on {}, {} rounds; machine: {}{}.\n\n{}{}",
        story.day,
        story.rounds,
        story.machine,
        if story.is_shared() { ", which others used at the same time" } else { ", otherwise quiet" },
        aims(figures),
        suite_aims(&story.suites)
    )
}

impl Story {
    /// Others have used so much of the machine that figures may suffer.
    fn is_shared(&self) -> bool {
        self.others.is_some_and(|others| others.median > 0.1 || others.max > 0.25)
            || self.stolen.is_some_and(|stolen| stolen.median > 0.03 || stolen.max > 0.1)
    }
}

/// About three figures.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn spread(spread: Option<Spread>) -> String {
    let text = |Spread { median, min, max }| format!("{} ({}–{})", number(median), number(min), number(max));
    spread.map_or_else(|| "–".to_owned(), text)
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| number(spread.median))
}

const COLUMNS: [(&str, Metric, bool); 9] = [
    ("op/s", Metric::Throughput, true),
    ("p50 µs", Metric::P50, true),
    ("p99 µs", Metric::P99, true),
    ("p99.9 µs", Metric::P999, false),
    ("CPU µs/op", Metric::Cpu, true),
    ("servers", Metric::CpuServers, false),
    ("generator", Metric::CpuGenerator, false),
    ("fsyncs/op", Metric::Syncs, false),
    ("bytes/op", Metric::Written, false),
];

/// The cells of a row and a driver; `None` if it did not take part.
fn cells(figures: &Figures, row: &str, driver: &str) -> Option<Vec<String>> {
    figures.spread(row, driver, Metric::Throughput)?;
    let cell = |(_, metric, is_wide): &(&str, Metric, bool)| {
        let found = figures.spread(row, driver, *metric);
        if *is_wide { spread(found) } else { median(found) }
    };
    let mut cells: Vec<String> = COLUMNS.iter().map(cell).collect();
    let share = |generator: Spread, all: Spread| {
        format!("{} ({:.0} %)", number(generator.median), 100.0 * generator.median / all.median)
    };
    let (generator, all) =
        (figures.spread(row, driver, Metric::CpuGenerator), figures.spread(row, driver, Metric::Cpu));
    if let (Some(generator), Some(all), true) = (generator, all, driver != FLOOR) {
        cells[6] = share(generator, all);
    }
    let better = |metric| {
        let times = figures.times_better(row, driver, metric)?;
        (driver != OURS)
            .then(|| format!("{} × ({}–{})", number(times.median), number(times.min), number(times.max)))
    };
    for metric in [Metric::Cpu, Metric::Throughput] {
        cells.push(better(metric).unwrap_or_default());
    }
    Some(cells)
}

const DRIVERS: [&str; 4] = [OURS, ETCD, POSTGRES, FLOOR];

/// The table that is printed.
pub(crate) fn table(figures: &Figures) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    let headers = COLUMNS.iter().map(|(name, ..)| *name);
    let all = ["row", "who"].into_iter().chain(headers).chain(["we by CPU", "we by op/s"]);
    table.set_header(all);
    for row in figures.rows() {
        for driver in DRIVERS {
            if let Some(cells) = cells(figures, row, driver) {
                table.add_row([(*row).to_owned(), driver.to_owned()].into_iter().chain(cells));
            }
        }
    }
    table
}

/// The aims that were measured, as lines of a table in Markdown.
pub(crate) fn aims(figures: &Figures) -> String {
    let mut out = String::from(
        "| row | figure | ours | peer's | times better (min–max) | aim | |\n|---|---|---|---|---|---|---|\n",
    );
    for aim in &AIMS {
        let Some(ours) = figures.spread(aim.row, OURS, aim.metric) else { continue };
        let figure = format!("{}, {}", aim.metric.name(), aim.metric.unit());
        let (theirs, times, reached) = match aim.peer {
            Some(peer) => {
                let Some(times) = figures.times_better(aim.row, peer, aim.metric) else { continue };
                let theirs = format!("{peer} {}", median(figures.spread(aim.row, peer, aim.metric)));
                (theirs, spread(Some(times)), times.median)
            }
            None => ("–".to_owned(), "–".to_owned(), ours.median),
        };
        // What costs more than the whole is no floor of it: its batches were smaller than ours, or the machine was busier.
        let is_void = aim.metric == Metric::Share && reached > 1.0;
        let verdict = match reached >= aim.at_least {
            _ if is_void => "says nothing: above one",
            true => "met",
            false => "missed",
        };
        let unit = if aim.peer.is_some() { " ×" } else { "" };
        let _ = writeln!(
            out,
            "| `{}` | {figure} | {} | {theirs} | {times} | {}{unit} | {verdict} |",
            aim.row,
            spread(Some(ours)),
            number(aim.at_least)
        );
    }
    out
}

fn percent(share: Option<Spread>) -> String {
    let text =
        |share: Spread| format!("{:.0} % (0–{:.0} % by round)", share.median * 100.0, share.max * 100.0);
    share.map_or_else(
        || "unknown".to_owned(),
        |share| {
            if share.min > 0.005 {
                format!(
                    "{:.0} % ({:.0}–{:.0} % by round)",
                    share.median * 100.0,
                    share.min * 100.0,
                    share.max * 100.0
                )
            } else {
                text(share)
            }
        },
    )
}

/// The page.
pub(crate) fn page(figures: &Figures, story: &Story) -> String {
    let mut out = String::new();
    let Story { day, machine, rounds, seconds, warm_up_seconds, .. } = story;
    let _ = write!(
        out,
        "# Performance: beside others, and beside the disk\n\n\
         Written by `make bench-peers` on {day}; the next run overwrites it. Its rows are also in `bench-results/*.jsonl`.\n\
         What was made of such figures, and the doubts about them, is in [performance-notes.md](performance-notes.md).\n\n\
         **Machine:** {machine}.\n\n"
    );
    let _ = write!(
        out,
        "**{}** While a row was measured, {} of all processor time went to processes that were not part of that row (the \
         other peers' idle servers included), and the host took {} away from this machine. Rates and latencies suffer \
         from that most, and processor time per operation too: whoever shares a core's caches needs more of it.\n\n",
        if story.is_shared() { "The machine was shared." } else { "The machine was otherwise quiet." },
        percent(story.others),
        percent(story.stolen)
    );
    let _ = write!(
        out,
        "{rounds} rounds of {seconds} s each, after {warm_up_seconds} s that do not count; medians, with the least and the \
         greatest round in parentheses. Within a round all take their turn at the same row, and *times better* is the \
         median of the rounds' own ratios.\n\n"
    );
    for driver in &story.drivers {
        let _ = writeln!(out, "- {driver}.");
    }
    let _ = write!(
        out,
        "\n## Against the aims\n\n{}{}\n## Every row\n\n",
        aims(figures),
        suite_aims(&story.suites)
    );
    out.push_str("| row | who |");
    for (name, ..) in COLUMNS {
        let _ = write!(out, " {name} |");
    }
    out.push_str(" we are better, by CPU | by op/s |\n|---|---|");
    out.push_str(&"---|".repeat(COLUMNS.len() + 2));
    out.push('\n');
    for row in figures.rows() {
        for driver in DRIVERS {
            if let Some(cells) = cells(figures, row, driver) {
                let _ = writeln!(out, "| `{row}` | {driver} | {} |", cells.join(" | "));
            }
        }
    }
    for row in figures.rows() {
        if let Some(share) = figures.spread(row, OURS, Metric::Share) {
            let _ = writeln!(out, "\n`{row}`: {}", spread(Some(share)));
        }
    }
    for (name, batch) in &story.batches {
        let _ = writeln!(out, "\n`{name}`: {batch} puts in each batch");
    }
    if !story.suites.is_empty() {
        out.push_str("\n## Our own suites\n\nThey run behind the rows above, when no peer is up any more.\n");
        out.push_str(&suite_tables(&story.suites));
    }
    out.push_str(METHOD);
    out
}

const METHOD: &str = "
## How it is measured

- Everybody runs on this one machine, over loopback, with fsync on. All servers are up throughout; each row is measured on
  one after another.
- Keys have 16 bytes; 100,000 values of 128 bytes and 20,000 of 1 KiB are loaded first. Then all servers are stopped
  in order and started again, ours too, so that reads find files and not what the load has left in memory; then come the
  reads, then the writes, over the same keys. `cN` are N clients, each of which asks again as soon as it has its answer.
- **CPU µs/op** is the processor time of all servers and of the generator together, for each operation that succeeded;
  *servers* and *generator* are its two parts, and the generator's share is in parentheses. It repeats where rates do not. Ours are
  three stores and the placement driver.
- **Linearizable gets** are what etcd and we do by default. A select on a lone PostgreSQL primary is not one after a
  failover. Ranges are given their exact end.
- Clients share one connection to each server. In a short trial at 64 clients on a busy machine, four and sixteen connections to
  each of etcd's members made its gets dearer (204, 268, 329 µs per get); its puts did not differ beyond their spread.
- `put_batch100`: 16 clients, each with one call of 100 random keys at a time: for us `batch_put`, for etcd a transaction. An
  operation is a key; latencies are of calls. PostgreSQL has no row there, because pgbench cannot send such batches.
- `mixed_95_5_c64`: reads among writes are dear for etcd, which copies its write buffer for them: this row is kinder to us than the
  others.
- PostgreSQL's keys are `bigint`; its generator is a C program over a Unix socket and speaks to the primary alone. With more than
  one client it logs the latency of one call in ten.
- **fsyncs/op** are what servers count themselves: ours the syncs of the stores' logs, etcd's those of its write-ahead log and the
  commits of its backend, each once; PostgreSQL does not tell for standbys. **bytes/op** is `write_bytes` of `/proc/<pid>/io`,
  of all servers together: what they gave to the block layer, rounded up to pages.
- **The floor** does only the storage work of a put, through our engine: one thread writes batches of log entries of 170 bytes
  unsynced and syncs them, another applies each batch with one apply state, unsynced. `floor_bN_xP` is N puts per
  batch in P processes at once; its operations are the puts of one process and its costs those of all: what a put costs
  that P replicas store. `floor_as_…` has batches as large as our stores had between two syncs in that row, each of them one
  entry of the log, as the puts of one turn of our workers are. `put_share_of_floor_…` is its processor time divided by that of
  our replicated put, generator included. `disk_fdatasync_4k` appends blocks of 4 KiB to a growing file, each synced.
- `loopback_echo_c1` is a question of 64 bytes and an answer of 192 between two threads that block on a TCP connection, and nothing
  else: what a lone client's call costs on this machine before anybody has done any work for it.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Measured;
    use crate::workload::WORKLOADS;
    use std::time::Duration;

    fn figures() -> Figures {
        let mut figures = Figures::default();
        for (driver, operations) in [(OURS, 1000.0), (ETCD, 100.0)] {
            let measured = Measured {
                seconds: 1.0,
                operations,
                servers_cpu: Duration::from_millis(75),
                generator_cpu: Duration::from_millis(25),
                ..Measured::default()
            };
            figures.add("put_128_c64", driver, &measured);
        }
        figures
    }

    #[test]
    fn aims_name_rows_that_exist() {
        for aim in AIMS {
            let is_row = WORKLOADS.iter().any(|workload| workload.name == aim.row);
            assert!(is_row || aim.metric == Metric::Share, "{}", aim.row);
        }
    }

    #[test]
    fn an_aim_is_met_or_missed() {
        let table = aims(&figures());
        let line =
            "| `put_128_c64` | cpu, us/op | 100 (100–100) | etcd 1000 | 10.0 (10.0–10.0) | 8.00 × | met |";
        assert!(table.contains(line), "{table}");
    }

    #[test]
    fn the_page_tells_what_was_measured_and_where() {
        let regions = Row {
            row: "put_512c_1000_regions.throughput".to_owned(),
            value: 40.0,
            unit: "op/s".to_owned(),
            min: 30.0,
            max: 50.0,
            peer: Some("put_512c_1_regions.throughput".to_owned()),
            ratio: Some(0.4),
        };
        let story = Story {
            day: "2026-01-02".to_owned(),
            machine: "2 cores".to_owned(),
            drivers: vec!["somebody".to_owned()],
            rounds: 3,
            seconds: 2,
            warm_up_seconds: 1,
            others: Spread::of([0.5]),
            stolen: None,
            batches: vec![("floor_as_c256_x3", 107)],
            suites: vec![(Suite::Regions, vec![regions])],
        };
        let page = page(&figures(), &story);
        assert!(page.contains("**The machine was shared.**"), "{page}");
        assert!(page.contains(
            "| `put_128_c64` | ours | 1000 (1000–1000) | – | – | – | 100 (100–100) | 75.0 | 25.0 (25 %) |"
        ));
        let cells = "40.0 (30.0–50.0)";
        assert!(
            page.contains(&format!("| {cells} | op/s | 0.40 × `put_512c_1_regions.throughput` |")),
            "{page}"
        );
        let quotation = quotation(&figures(), &story);
        assert!(quotation.contains("machine: 2 cores, which others used"), "{quotation}");
        assert!(
            quotation.contains(&format!("{cells} | – | 0.40 | at least 0.50 × | missed |")),
            "{quotation}"
        );
        assert!(!table(&figures()).to_string().is_empty());
    }
}
