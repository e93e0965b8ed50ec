//! Figures of rounds: what was measured, per operation and as medians, and how many times better one is than another.

use crate::driver::Measured;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a measurement gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Metric {
    /// Operations per second.
    Throughput,
    P50,
    P99,
    P999,
    /// Processor time per operation, servers and generator together: what repeats on a shared machine.
    Cpu,
    CpuServers,
    CpuGenerator,
    /// Calls of fsync or its like per operation, all servers together.
    Syncs,
    /// Bytes given to the block layer per operation, all servers together.
    Written,
    /// What part of a put's processor time its bare storage work is.
    Share,
}

impl Metric {
    const MEASURED: [Self; 9] = [
        Self::Throughput,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::Cpu,
        Self::CpuServers,
        Self::CpuGenerator,
        Self::Syncs,
        Self::Written,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Cpu => "cpu",
            Self::CpuServers => "cpu_servers",
            Self::CpuGenerator => "cpu_generator",
            Self::Syncs => "fsyncs",
            Self::Written => "written",
            Self::Share => "share",
        }
    }

    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Throughput => "op/s",
            Self::P50 | Self::P99 | Self::P999 => "us",
            Self::Cpu | Self::CpuServers | Self::CpuGenerator => "us/op",
            Self::Syncs => "per op",
            Self::Written => "bytes/op",
            Self::Share => "of one",
        }
    }

    const fn more_is_better(self) -> bool {
        matches!(self, Self::Throughput | Self::Share)
    }

    fn of(self, measured: &Measured) -> Option<f64> {
        let per_operation = |cost: f64| (measured.operations > 0.0).then(|| cost / measured.operations);
        let micros = |time: std::time::Duration| per_operation(time.as_secs_f64() * 1e6);
        match self {
            Self::Throughput => Some(measured.operations / measured.seconds),
            Self::P50 => measured.percentile(50.0),
            Self::P99 => measured.percentile(99.0),
            Self::P999 => measured.percentile(99.9),
            Self::Cpu => micros(measured.servers_cpu + measured.generator_cpu),
            Self::CpuServers => micros(measured.servers_cpu),
            Self::CpuGenerator => micros(measured.generator_cpu),
            Self::Syncs => per_operation(measured.syncs? as f64),
            // Nothing written was not looked at, or is nothing worth a row.
            Self::Written if measured.written_bytes == 0 => None,
            Self::Written => per_operation(measured.written_bytes as f64),
            Self::Share => None,
        }
    }
}

/// A median, and how far the rounds lie apart.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of rounds; `None` if there are none. The median of an even number is the mean of the middle two.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

/// One line of `peers.jsonl`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Line {
    row: String,
    value: f64,
    unit: &'static str,
    min: f64,
    max: f64,
    /// Whom it is compared with, and how they do.
    peer: Option<&'static str>,
    peer_value: Option<f64>,
    /// The median of the rounds' ratios, ours to theirs: above one is better for a rate, below one for a cost.
    ratio: Option<f64>,
}

/// All rounds of all rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// In the order in which they came first.
    rows: Vec<&'static str>,
    /// By row, driver and metric; a figure for each round.
    rounds: BTreeMap<(&'static str, &'static str, Metric), Vec<f64>>,
}

/// How ours are called.
pub(crate) const OURS: &str = "ours";

impl Figures {
    /// Adds a round.
    pub(crate) fn add(&mut self, row: &'static str, driver: &'static str, measured: &Measured) {
        for metric in Metric::MEASURED {
            if let Some(value) = metric.of(measured) {
                self.add_value(row, driver, metric, value);
            }
        }
    }

    fn add_value(&mut self, row: &'static str, driver: &'static str, metric: Metric, value: f64) {
        if !self.rows.contains(&row) {
            self.rows.push(row);
        }
        self.rounds.entry((row, driver, metric)).or_default().push(value);
    }

    /// Adds the row `name`: the floor's part of what our puts of `row` cost, round by round.
    pub(crate) fn add_share(&mut self, name: &'static str, floor: &'static str, row: &'static str) {
        let of = |row, driver| self.rounds.get(&(row, driver, Metric::Cpu)).cloned().unwrap_or_default();
        for (floor, ours) in of(floor, FLOOR).into_iter().zip(of(row, OURS)) {
            self.add_value(name, OURS, Metric::Share, floor / ours);
        }
    }

    pub(crate) fn rows(&self) -> &[&'static str] {
        &self.rows
    }

    /// A metric of a driver in a row.
    pub(crate) fn spread(&self, row: &str, driver: &str, metric: Metric) -> Option<Spread> {
        Spread::of(self.values(row, driver, metric).iter().copied())
    }

    fn values(&self, row: &str, driver: &str, metric: Metric) -> &[f64] {
        let found = self.rounds.iter().find(|((r, d, m), _)| *r == row && *d == driver && *m == metric);
        found.map_or(&[], |(_, values)| values)
    }

    /// How many times better ours is than a peer, round by round: the peers took turns within a round.
    pub(crate) fn times_better(&self, row: &str, peer: &str, metric: Metric) -> Option<Spread> {
        let ours = self.values(row, OURS, metric).iter();
        let pairs = ours.zip(self.values(row, peer, metric));
        let times = |(ours, theirs): (&f64, &f64)| {
            if metric.more_is_better() { ours / theirs } else { theirs / ours }
        };
        Spread::of(pairs.map(times).filter(|times| times.is_finite()))
    }

    /// Ours, beside each peer: the lines of the results' file.
    pub(crate) fn lines(&self, peers: &[&'static str]) -> Vec<Line> {
        let mut lines = Vec::new();
        for ((row, driver, metric), values) in &self.rounds {
            let Some(spread) = Spread::of(values.iter().copied()) else { continue };
            if *driver != OURS && *driver != FLOOR {
                continue;
            }
            let alone = Line {
                row: format!("{row}.{}", metric.name()),
                value: spread.median,
                unit: metric.unit(),
                min: spread.min,
                max: spread.max,
                peer: None,
                peer_value: None,
                ratio: None,
            };
            let beside = |peer: &&'static str| {
                let theirs = self.spread(row, peer, *metric)?;
                let pairs = values.iter().zip(self.values(row, peer, *metric));
                let ratio =
                    Spread::of(pairs.map(|(ours, theirs)| ours / theirs).filter(|ratio| ratio.is_finite()));
                Some(Line {
                    peer: Some(peer),
                    peer_value: Some(theirs.median),
                    ratio: ratio.map(|ratio| ratio.median),
                    ..alone.clone()
                })
            };
            let compared: Vec<Line> = peers.iter().filter_map(beside).collect();
            if compared.is_empty() {
                lines.push(alone);
            } else {
                lines.extend(compared);
            }
        }
        lines.sort_by_key(|line| {
            let name = line.row.split('.').next().unwrap_or_default();
            self.rows.iter().position(|row| *row == name)
        });
        lines
    }
}

/// How the floor is called.
pub(crate) const FLOOR: &str = "floor";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn round(operations: f64, micros: u64) -> Measured {
        Measured {
            seconds: 2.0,
            operations,
            servers_cpu: Duration::from_micros(micros),
            ..Measured::default()
        }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was twice as fast in the second round: the medians would blur what each round shows.
        let mut figures = Figures::default();
        for (ours, theirs) in [(100.0, 10.0), (200.0, 20.0), (90.0, 10.0)] {
            figures.add("put", OURS, &round(ours, 500));
            figures.add("put", "etcd", &round(theirs, 500));
        }
        let times = figures.times_better("put", "etcd", Metric::Throughput).unwrap();
        assert_eq!((times.median, times.min, times.max), (10.0, 9.0, 10.0));
        assert_eq!(figures.times_better("put", "nobody", Metric::Throughput), None);
    }

    #[test]
    fn costs_are_better_when_they_are_less_and_a_line_says_ours_to_theirs() {
        let mut figures = Figures::default();
        figures.add("put", OURS, &round(100.0, 500));
        figures.add("put", "etcd", &round(10.0, 500));
        assert_eq!(figures.times_better("put", "etcd", Metric::Cpu).unwrap().median, 10.0);
        let lines = figures.lines(&["etcd"]);
        let cpu = lines.iter().find(|line| line.row == "put.cpu").unwrap();
        assert_eq!(
            serde_json::to_string(cpu).unwrap(),
            "{\"row\":\"put.cpu\",\"value\":5.0,\"unit\":\"us/op\",\"min\":5.0,\"max\":5.0,\"peer\":\"etcd\",\
             \"peer_value\":50.0,\"ratio\":0.1}"
        );
    }

    #[test]
    fn the_floor_is_a_part_of_our_cost() {
        let mut figures = Figures::default();
        figures.add("put", OURS, &round(100.0, 4000));
        figures.add("floor_b50_x3", FLOOR, &round(100.0, 1000));
        figures.add_share("share", "floor_b50_x3", "put");
        assert_eq!(figures.spread("share", OURS, Metric::Share).unwrap().median, 0.25);
    }

    #[test]
    fn an_even_number_of_rounds_has_its_median_between_two() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of([]), None);
    }
}
